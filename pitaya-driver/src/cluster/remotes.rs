//! Calls of other servers: those that every server answers, and those of the application.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use pitaya_core::app::Scope;
use pitaya_core::cluster::{ClusterHost, ServerId};
use pitaya_core::session::{Host, HostFuture, SessionHandle};
use pitaya_core::{
    Call, CallKey, Codec, Command, ConnConfig, Context, Counter, Error, Instant, Origin, Protobuf,
    Visibility,
};
use pitaya_proto::error;
use pitaya_proto::handshake::HandshakeRequest;
use pitaya_proto::protos::Request;

use crate::cluster::sys;
use crate::runtime::Runtime;
use crate::server::{Shared, Watch, seldom};
use crate::timers::{Sleep, before};

/// Answers a call of another server.
pub(super) fn call<R: Runtime>(
    shared: &Arc<Shared<R>>, from: &ServerId, deadline: Instant, request: &Request,
) -> HostFuture<Result<Bytes, Error>> {
    let Some(msg) = &request.msg else {
        return Box::pin(async { Err(Error::bad_request("a call without a message")) });
    };
    if let Some(work) = sys::call(shared, from, &msg.route, &msg.data) {
        return work;
    }
    let routes = &shared.handlers.routes;
    let route = routes.id(&msg.route).filter(|id| {
        // Handlers want a session, which no server has.
        routes.entry(*id).visibility == Visibility::Internal
    });
    let Some(route) = route else {
        let error = Error::from(error::ROUTE_NOT_FOUND).with_metadata("route", &msg.route);
        return Box::pin(async { Err(error) });
    };
    let call = Call {
        body: Cow::Owned(msg.data.clone().into()),
        context: Context::decode(&request.metadata),
        deadline,
        key: CallKey::UNNAMED,
        origin: Origin::Server,
        request: None,
        route,
    };
    run(shared, &call)
}

/// Runs a remote of the application to its end, or to its hard limit.
fn run<R: Runtime>(shared: &Arc<Shared<R>>, call: &Call<'_>) -> HostFuture<Result<Bytes, Error>> {
    let (shared, route) = (Arc::clone(shared), call.route);
    let host: Arc<dyn Host> = Arc::new(ServerHost(Arc::clone(&shared)));
    let name = shared.handlers.routes.name(route);
    let scope = Scope { host: &host, route: name, session: None };
    let invoked = shared.handlers.invoke(call, &scope);
    shared.config.counters.add(Counter::CallsStarted);
    let limit = shared.config.limits.call_hard_limit;
    Box::pin(async move {
        let mut running = match invoked {
            Ok(running) => running,
            Err(reply) => return Err(Protobuf::decode_error(&reply.body)),
        };
        let mut watch = Watch::default();
        let work = poll_fn(|cx| {
            watch.begin(shared.runtime.now());
            watch.poll(&shared, cx, route, &mut running)
        });
        let until = Sleep::lasting(&shared.timers, shared.runtime.clone(), limit);
        match before(until, work).await {
            Some(reply) if reply.is_error => Err(Protobuf::decode_error(&reply.body)),
            Some(reply) => Ok(reply.body.into()),
            None => {
                shared.config.counters.add(Counter::CallsAbandoned);
                seldom!(shared, error, "a remote reached its hard limit and is dropped");
                Err(error::CALL_TIMEOUT.into())
            }
        }
    })
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
