//! What handlers of this server can do with a session that is connected to another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use pitaya_core::cluster::{ClusterHost, LinkCommand, RemoteCall};
use pitaya_core::session::{Host, HostFuture, SessionHandle};
use pitaya_core::{Command, ConnConfig, Context, Counter, Error, Instant, SessionId};
use pitaya_proto::error;
use pitaya_proto::handshake::HandshakeRequest;
use pitaya_proto::link::{Kick, Push};
use pitaya_proto::protos::Session;
use prost::Message as _;

use crate::cluster::host::remote;
use crate::cluster::sys;
use crate::cluster::way::Way;
use crate::runtime::Runtime;
use crate::server::Shared;
use crate::timers::Sleep;

/// The side of one session of another server that handlers here see.
pub(super) struct GuestHost<R: Runtime> {
    pub(super) shared: Arc<Shared<R>>,
    /// To the server that the client is connected to.
    pub(super) way: Way,
    pub(super) session: SessionId,
    pub(super) open: AtomicBool,
}

/// Asks a frontend to do something with its session, at once.
fn ask<R: Runtime>(
    shared: &Shared<R>, way: &Way, route: &str, session: &Session,
) -> HostFuture<Result<Bytes, Error>> {
    let argument = &*session.encode_to_vec();
    let deadline = shared.runtime.now() + shared.config.limits.call_deadline;
    remote(shared, way, &RemoteCall { argument, context: &Context::default(), deadline, route })
}

impl<R: Runtime> GuestHost<R> {
    /// What is lost here costs nobody a session: its client is not the one that is slow.
    fn said(&self, sent: Result<(), Error>) -> bool {
        if sent.is_err() {
            self.shared.config.counters.add(Counter::LinkFramesDropped);
        }
        sent.is_ok()
    }
}

impl<R: Runtime> Host for GuestHost<R> {
    fn bind(&self, session: SessionHandle, uid: &str) -> HostFuture<Result<Arc<str>, Error>> {
        if !self.is_open() {
            return Box::pin(async { Err(error::SESSION_CLOSED.into()) });
        }
        if session.uid().is_some() {
            return Box::pin(async { Err(error::SESSION_ALREADY_BOUND.into()) });
        }
        let (id, uid) = (self.session.number() as i64, Arc::<str>::from(uid));
        let argument = Session { id, uid: uid.to_string(), data: Bytes::new() };
        let (shared, way) = (Arc::clone(&self.shared), self.way.clone());
        Box::pin(async move {
            // The hooks of this server come first, as in Pitaya: what they refuse is not asked.
            for hook in &shared.handlers.hooks.bind {
                hook(session.clone(), Arc::clone(&uid)).await?;
            }
            ask(&shared, &way, sys::BIND, &argument).await.map(|_| uid)
        })
    }

    fn send(&self, command: Command) -> bool {
        if !self.is_open() {
            return false;
        }
        let sessions = vec![self.session.number()];
        let push = |route: Arc<str>, body: Bytes| {
            let bytes = body.len();
            let push = Push { route: route.to_string(), body, sessions, ..Push::default() };
            self.way.send(LinkCommand::Push(push), bytes)
        };
        let sent = match command {
            Command::Broadcast(it) => push(Arc::clone(&it.route), it.body.clone()),
            Command::Push(route, body) => push(route, body),
            Command::Kick(reason, _) => {
                let reason = reason.unwrap_or_default();
                let sessions = vec![self.session.number()];
                self.way.send(LinkCommand::Kick(Kick { reason, sessions, ..Kick::default() }), 0)
            }
            Command::Close(_) | Command::Reply(..) | Command::Shutdown => {
                let sessions = vec![self.session.number()];
                let kick = Kick { plain: true, sessions, ..Kick::default() };
                self.way.send(LinkCommand::Kick(kick), 0)
            }
        };
        self.said(sent)
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn handshake(&self) -> HandshakeRequest {
        HandshakeRequest::default()
    }

    fn cluster(&self) -> Option<&dyn ClusterHost> {
        Some(&*self.shared)
    }

    fn push_to_front(&self, changes: Vec<u8>) -> HostFuture<Result<(), Error>> {
        if !self.is_open() {
            return Box::pin(async { Err(error::SESSION_CLOSED.into()) });
        }
        let (id, data) = (self.session.number() as i64, changes.into());
        let session = Session { id, uid: String::new(), data };
        let asked = ask(&self.shared, &self.way, sys::PUSH_SESSION, &session);
        Box::pin(async move { asked.await.map(|_| ()) })
    }

    fn config(&self) -> &ConnConfig {
        &self.shared.config
    }

    fn now(&self) -> Instant {
        self.shared.runtime.now()
    }

    fn sleep(&self, until: Instant) -> HostFuture<()> {
        Box::pin(Sleep::until(&self.shared.timers, self.shared.runtime.clone(), until))
    }
}
