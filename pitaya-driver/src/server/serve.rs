//! One client's session at work: handlers run here, in the task of the connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use pitaya_core::app::{Running, Scope};
use pitaya_core::session::{HostFuture, SessionHandle};
use pitaya_core::{Call, CallKey, CloseReason, Command, Counter, Event, Instant, Player, Reply};
use pitaya_proto::handshake::HandshakeRequest;

use crate::drive::Serve;
use crate::runtime::Runtime;
use crate::server::host::SessionHost;
use crate::server::shared::Place;

/// The server's side of one client.
pub(super) struct ServePlayer<R: Runtime> {
    place: Place<R>,
    remote: SocketAddr,
    session: Option<SessionHandle>,
    running: Vec<Handler>,
    /// What close hooks still have to do, one after another.
    closing: VecDeque<HostFuture<()>>,
}

/// A handler that did not end at once.
struct Handler {
    key: CallKey,
    route: Arc<str>,
    running: Running,
}

impl<R: Runtime> ServePlayer<R> {
    pub(super) fn new(place: Place<R>, remote: SocketAddr) -> Self {
        Self { place, remote, session: None, running: Vec::new(), closing: VecDeque::new() }
    }

    fn open(&mut self, handshake: Box<HandshakeRequest>) {
        self.place.end_handshake();
        let (mailbox, shared) = (Arc::clone(&self.place.mailbox), Arc::clone(&self.place.shared));
        let id = shared.sessions().open(Arc::clone(&mailbox));
        let limits = shared.config.limits();
        shared.config.counters().add(Counter::SessionsOpened);
        tracing::debug!(session = id.number(), remote = %self.remote, "opened");
        let data_bytes_max = limits.session_data_bytes_max;
        let host = Arc::new(SessionHost { mailbox, shared });
        self.session = Some(SessionHandle::new(id, self.remote, handshake, data_bytes_max, host));
    }

    fn start(&mut self, cx: &mut Context<'_>, call: &Call<'_>, commands: &mut Vec<Command>) {
        let handlers = &self.place.shared.handlers;
        let route = handlers.routes().name(call.route);
        let session = self.session.as_ref().expect("calls come after the opening");
        match handlers.invoke(call, &Scope { route, session }) {
            Ok(running) => {
                let mut handler = Handler { key: call.key, route: Arc::clone(route), running };
                match handler.poll(&self.place, cx) {
                    Poll::Ready(reply) => commands.push(Command::Reply(call.key, reply)),
                    Poll::Pending => self.running.push(handler),
                }
            }
            Err(reply) => commands.push(Command::Reply(call.key, reply)),
        }
    }

    fn close(&mut self, reason: &CloseReason) {
        self.place.end_handshake();
        self.place.mailbox.close();
        let shared = &self.place.shared;
        let Some(session) = &self.session else {
            return tracing::debug!(remote = %self.remote, %reason, "closed before it opened");
        };
        if shared.sessions().close(session.id()) {
            shared.config.counters().add(Counter::SessionsClosed);
            tracing::debug!(session = session.id().number(), %reason, "closed");
            self.closing.extend(shared.handlers.hooks().closed(session, reason));
        }
    }
}

impl Handler {
    /// Polls the handler once, and notes if that took long.
    fn poll<R: Runtime>(&mut self, place: &Place<R>, cx: &mut Context<'_>) -> Poll<Reply> {
        let shared = &place.shared;
        let before = shared.runtime.now();
        let polled = self.running.poll(cx, &self.route);
        let took = shared.runtime.now().since(before);
        let (limits, counters) = (shared.config.limits(), shared.config.counters());
        if took > limits.poll_slow {
            counters.add(Counter::CallsSlow);
            tracing::warn!(route = %self.route, ?took, "a handler held its executor");
        }
        polled.map(|ended| {
            ended.unwrap_or_else(|error| {
                counters.add(Counter::CallsPanicked);
                shared.handlers.routes().error_reply(&error)
            })
        })
    }
}

impl<R: Runtime> Serve<Player> for ServePlayer<R> {
    fn handle_event(
        &mut self,
        _: Instant,
        cx: &mut Context<'_>,
        event: Event<'_>,
        commands: &mut Vec<Command>,
    ) {
        match event {
            Event::Abandoned(key) => self.running.retain(|handler| handler.key != key),
            Event::Call(call) => self.start(cx, &call, commands),
            Event::Closed(reason) => self.close(&reason),
            Event::Detached(reason) => tracing::debug!(remote = %self.remote, %reason, "detached"),
            Event::Opened(handshake) => self.open(handshake),
        }
    }

    fn poll_commands(&mut self, _: Instant, cx: &mut Context<'_>, commands: &mut Vec<Command>) {
        let place = &self.place;
        self.running.retain_mut(|handler| match handler.poll(place, cx) {
            Poll::Ready(reply) => {
                commands.push(Command::Reply(handler.key, reply));
                false
            }
            Poll::Pending => true,
        });
        while let Some(hook) = self.closing.front_mut() {
            if hook.as_mut().poll(cx).is_pending() {
                break;
            }
            self.closing.pop_front();
        }
    }

    fn is_done(&self) -> bool {
        self.running.is_empty() && self.closing.is_empty()
    }
}
