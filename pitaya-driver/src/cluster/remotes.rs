//! Calls of other servers: those that every server answers, and those of the application.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use pitaya_core::app::{Running, Scope};
use pitaya_core::cluster::{ClusterHost, ServerId};
use pitaya_core::session::{Host, HostFuture, SessionHandle};
use pitaya_core::{
    Call, CallKey, Codec, Command, ConnConfig, Context as Carried, Counter, Error, Instant, Origin,
    Protobuf, Reply, RouteId, Visibility,
};
use pitaya_proto::error;
use pitaya_proto::handshake::HandshakeRequest;
use pitaya_proto::request::Asked;

use crate::cluster::sys;
use crate::runtime::Runtime;
use crate::server::{Shared, Watch, seldom};
use crate::timers::{Sleep, before};

/// What came of a call of another server.
pub(super) enum Answer {
    /// It was answered at once.
    Is(Result<Bytes, Error>),
    /// It goes on.
    Will(HostFuture<Result<Bytes, Error>>),
}

/// The remotes of a server, as one of its links calls them.
pub(super) struct Remotes<R: Runtime> {
    shared: Arc<Shared<R>>,
    host: Arc<dyn Host>,
}

impl<R: Runtime> Remotes<R> {
    pub(super) fn new(shared: Arc<Shared<R>>) -> Self {
        let host = Arc::new(ServerHost(Arc::clone(&shared)));
        Self { shared, host }
    }

    /// Answers a call of another server.
    pub(super) fn call(
        &self, cx: &mut Context<'_>, from: &ServerId, deadline: Instant, request: &[u8],
        watch: &mut Watch,
    ) -> Answer {
        let Ok(Asked { route, data, metadata, .. }) = Asked::decode(request) else {
            return Answer::Is(Err(Error::bad_request("malformed request")));
        };
        let Some(name) = route else {
            return Answer::Is(Err(Error::bad_request("a call without a message")));
        };
        if let Some(work) = sys::call(&self.shared, from, name, data) {
            return Answer::Will(work);
        }
        let routes = &self.shared.handlers.routes;
        let route = routes.id(name).filter(|id| {
            // Handlers want a session, which no server has.
            routes.entry(*id).visibility == Visibility::Internal
        });
        let Some(route) = route else {
            let error = Error::from(error::ROUTE_NOT_FOUND).with_metadata("route", name);
            return Answer::Is(Err(error));
        };
        let call = Call {
            body: Cow::Borrowed(data),
            context: Carried::decode(metadata),
            deadline,
            key: CallKey::UNNAMED,
            origin: Origin::Server,
            request: None,
            route,
        };
        self.run(cx, &call, watch)
    }

    /// Runs a remote of the application to its end, or to its hard limit.
    fn run(&self, cx: &mut Context<'_>, call: &Call<'_>, watch: &mut Watch) -> Answer {
        let (shared, route) = (&self.shared, call.route);
        let name = shared.handlers.routes.name(route);
        let scope = Scope { host: &self.host, route: name, session: None };
        shared.config.counters.add(Counter::CallsStarted);
        let mut running = match shared.handlers.invoke(call, &scope) {
            Ok(running) => running,
            Err(reply) => return Answer::Is(read(reply)),
        };
        match watch.poll(shared, cx, route, &mut running) {
            Poll::Ready(reply) => Answer::Is(read(reply)),
            Poll::Pending => Answer::Will(Box::pin(go_on(Arc::clone(shared), route, running))),
        }
    }
}

/// A remote that did not end at once.
async fn go_on<R: Runtime>(
    shared: Arc<Shared<R>>, route: RouteId, mut running: Running,
) -> Result<Bytes, Error> {
    let mut watch = Watch::default();
    let work = poll_fn(|cx| {
        watch.begin(shared.runtime.now());
        watch.poll(&shared, cx, route, &mut running)
    });
    let limit = shared.config.limits.call_hard_limit;
    let until = Sleep::lasting(&shared.timers, shared.runtime.clone(), limit);
    let Some(reply) = before(until, work).await else {
        shared.config.counters.add(Counter::CallsAbandoned);
        seldom!(shared, error, "a remote reached its hard limit and is dropped");
        return Err(error::CALL_TIMEOUT.into());
    };
    read(reply)
}

fn read(reply: Reply) -> Result<Bytes, Error> {
    let Reply { body, is_error } = reply;
    if is_error { Err(Protobuf::decode_error(&body)) } else { Ok(body.into()) }
}

/// What a remote can do: all but what needs a session.
struct ServerHost<R: Runtime>(Arc<Shared<R>>);

impl<R: Runtime> Host for ServerHost<R> {
    fn bind(&self, _: SessionHandle, _: &str) -> HostFuture<Result<Arc<str>, Error>> {
        Box::pin(async { Err(error::SESSION_NOT_FOUND.into()) })
    }

    fn send(&self, _: Command) -> bool {
        false
    }

    fn is_open(&self) -> bool {
        false
    }

    fn handshake(&self) -> HandshakeRequest {
        HandshakeRequest::default()
    }

    fn cluster(&self) -> Option<&dyn ClusterHost> {
        Some(&*self.0)
    }

    fn push_to_front(&self, _: Vec<u8>) -> HostFuture<Result<(), Error>> {
        Box::pin(async { Err(error::SESSION_NOT_FOUND.into()) })
    }

    fn config(&self) -> &ConnConfig {
        &self.0.config
    }

    fn now(&self) -> Instant {
        self.0.runtime.now()
    }

    fn sleep(&self, until: Instant) -> HostFuture<()> {
        Box::pin(Sleep::until(&self.0.timers, self.0.runtime.clone(), until))
    }
}
