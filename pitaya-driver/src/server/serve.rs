//! One client's session at work: handlers run here, in the task of the connection.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pitaya_core::app::{Running, Scope};
use pitaya_core::cluster::Forward;
use pitaya_core::session::SessionHandle;
use pitaya_core::{
    Call, CallKey, CloseReason, Command, Counter, Event, Instant, Player, Reply, RouteEntry,
    RouteId, RouteKind,
};
use pitaya_proto::error;
use pitaya_proto::handshake::HandshakeRequest;
use thin_vec::ThinVec;

use crate::cluster::Forwarding;
use crate::drive::{Commands, Serve};
use crate::runtime::Runtime;
use crate::server::closing::Closing;
use crate::server::host::SessionHost;
use crate::server::log::seldom;
use crate::server::shared::{Address, Place, Shared};
use crate::server::told::Told;

/// The server's side of one client.
pub(super) struct ServePlayer<R: Runtime> {
    place: Place<R>,
    /// Where it comes from, until the session knows.
    remote: Option<Box<SocketAddr>>,
    session: Option<SessionHandle>,
    running: ThinVec<Handler>,
    watch: Watch,
    closing: Option<Box<Closing<R>>>,
    forwarding: Option<Box<Forwarding>>,
}

/// A handler that did not end at once.
struct Handler {
    key: CallKey,
    route: RouteId,
    running: Running,
}

impl<R: Runtime> ServePlayer<R> {
    pub(super) fn new(place: Place<R>, remote: SocketAddr) -> Self {
        let watch = Watch::default();
        let remote = Some(Box::new(remote));
        Self {
            place,
            remote,
            session: None,
            running: ThinVec::new(),
            watch,
            closing: None,
            forwarding: None,
        }
    }

    fn open(&mut self, handshake: HandshakeRequest) {
        self.place.end_handshake();
        let (mailbox, shared) = (Arc::clone(&self.place.mailbox), Arc::clone(&self.place.shared));
        let id = shared.sessions().open(Arc::clone(&mailbox));
        shared.config.counters.add(Counter::SessionsOpened);
        let remote = *self.remote.take().expect("it opens once");
        tracing::debug!(session = id.number(), %remote, "opened");
        shared.note_session(remote.ip());
        let host = Arc::new(SessionHost {
            mailbox,
            shared: Arc::clone(&shared),
            told: Told::new(handshake),
        });
        let peers = shared.peers.clone();
        let session = SessionHandle::new(id, remote, host);
        peers.iter().for_each(|peers| peers.open(&session));
        self.session = Some(session);
    }

    fn start(&mut self, cx: &mut Context<'_>, call: &Call<'_>, commands: &mut Commands<Command>) {
        let shared = &*self.place.shared;
        let handlers = &shared.handlers;
        let (key, route) = (call.key, call.route);
        let session = self.session.as_ref().expect("calls come after the opening");
        let name = handlers.routes.name(route);
        let scope = Scope { host: session.host(), route: name, session: Some(session) };
        match handlers.invoke(call, &scope) {
            Ok(mut running) => match self.watch.poll(shared, cx, route, &mut running) {
                Poll::Ready(reply) => answer(&self.place.mailbox, key, reply, commands),
                Poll::Pending => self.running.push(Handler { key, route, running }),
            },
            Err(reply) => commands.push(Command::Reply(key, reply)),
        }
    }

    /// Sends a call to another server.
    fn forward(&mut self, call: &Forward<'_>, commands: &mut Commands<Command>) {
        let (shared, address) = (&*self.place.shared, &self.place.mailbox);
        let session = self.session.as_ref().expect("calls come after the opening");
        let forwarding = self.forwarding.get_or_insert_default();
        let alone = || error::NO_SERVERS.into();
        let sent = shared
            .peers
            .as_ref()
            .ok_or_else(alone)
            .and_then(|peers| forwarding.forward(shared, peers, session, address, call));
        match (sent, call.key) {
            (Ok(()), _) => {}
            // Nobody waits, so that nobody can be told.
            (Err(_), None) => shared.config.counters.add(Counter::LinkFramesDropped),
            (Err(error), Some(key)) => {
                commands.push(Command::Reply(key, shared.handlers.routes.error_reply(&error)));
            }
        }
    }

    fn abandon(&mut self, key: CallKey) {
        let Some(at) = self.running.iter().position(|handler| handler.key == key) else { return };
        let (shared, abandoned) = (&self.place.shared, self.running.remove(at));
        let RouteEntry { name, options, .. } = shared.handlers.routes.entry(abandoned.route);
        // Once its session is over, such a route only has what it asked for.
        if self.place.mailbox.is_open() || !options.cancel_on_close {
            seldom!(
                shared, error, "a handler reached its hard limit and is dropped", route = %name
            );
        }
    }

    fn close(&mut self, reason: &CloseReason) {
        self.place.end_handshake();
        self.place.mailbox.close();
        let Some(session) = &self.session else {
            let remote = self.remote.as_ref().map(tracing::field::display);
            return tracing::debug!(remote, %reason, "closed before it opened");
        };
        self.closing = Closing::begin(&self.place.shared, session, reason).map(Box::new);
        let number = session.id().number();
        self.forwarding.take().iter().for_each(|forwarding| forwarding.close(number));
    }

    /// After what its handlers said: a session whose handler could not be dropped is closed.
    fn close_overrun(&mut self, commands: &mut Commands<Command>) {
        if std::mem::take(&mut self.watch.overran) {
            self.place.shared.config.counters.add(Counter::CallsAbandoned);
            commands.push(Command::Close(CloseReason::Overrun));
        }
    }

    fn poll_closing(&mut self, cx: &mut Context<'_>) {
        if self.closing.as_mut().is_some_and(|closing| Pin::new(closing).poll(cx).is_ready()) {
            self.closing = None;
        }
    }
}

impl<R: Runtime> Drop for ServePlayer<R> {
    /// A connection that is cut off, or whose task panicked, leaves no session behind, and its
    /// hooks are told as ever.
    fn drop(&mut self) {
        let (session, shared) = (self.session.as_ref(), &self.place.shared);
        let why = if shared.stops() { CloseReason::Shutdown } else { CloseReason::Closed };
        let begun = session.and_then(|session| Closing::begin(shared, session, &why));
        if let (Some(session), Some(forwarding)) = (session, &self.forwarding) {
            forwarding.close(session.id().number());
        }
        if let Some(closing) = self.closing.take().or_else(|| begun.map(Box::new)) {
            shared.runtime.spawn(closing);
        }
    }
}

/// What a handler sent before it ended comes before its reply.
fn answer(address: &Address, key: CallKey, reply: Reply, commands: &mut Commands<Command>) {
    address.take(commands);
    commands.push(Command::Reply(key, reply));
}

/// Notes handlers that hold their executor. Between two ticks of the system none can be slow, so
/// the clock itself is read only when one has passed.
#[derive(Default)]
pub(crate) struct Watch {
    /// No later than the poll that is judged next begins.
    looked: Instant,
    /// A handler held it for longer than it may run at all, when it could not be dropped.
    overran: bool,
}

impl Watch {
    /// The time, as it was looked at for another reason.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.looked = self.looked.max(now);
    }

    pub(crate) fn poll<R: Runtime>(
        &mut self, shared: &Shared<R>, cx: &mut Context<'_>, route: RouteId, running: &mut Running,
    ) -> Poll<Reply> {
        let RouteEntry { kind, name, options, .. } = shared.handlers.routes.entry(route);
        let polled = running.poll(cx, name);
        let (limits, counters) = (&shared.config.limits, &shared.config.counters);
        let took = self.look(&shared.runtime);
        if took > limits.poll_slow {
            counters.add(Counter::CallsSlow);
            seldom!(shared, warn, "a handler held its executor", route = %name, ?took);
            self.overran |= took >= options.hard_limit.unwrap_or(limits.call_hard_limit);
        }
        polled.map(|ended| match ended {
            Ok(reply) => {
                if reply.is_error && *kind == RouteKind::Notify {
                    // Nobody else hears of it. It may well have parts that a client sent.
                    let error = String::from_utf8_lossy(&reply.body);
                    seldom!(shared, warn, "failed", route = %name, ?error);
                }
                reply
            }
            Err(panic) => {
                counters.add(Counter::CallsPanicked);
                seldom!(shared, error, "a handler panicked", route = %name, panic = panic.text);
                shared.handlers.routes.error_reply(&panic.error)
            }
        })
    }

    /// How long it was since the last look; nothing while the system has not ticked.
    fn look(&mut self, runtime: &impl Runtime) -> Duration {
        if runtime.rough_now() <= self.looked {
            return Duration::ZERO;
        }
        let now = runtime.now();
        now.since(std::mem::replace(&mut self.looked, now))
    }
}

impl<R: Runtime> Serve<Player> for ServePlayer<R> {
    fn handle_bytes(&mut self, now: Instant) {
        self.place.handle_bytes(now);
    }

    fn handle_open(&mut self, now: Instant, player: &mut Player) {
        let shared = &self.place.shared;
        let routes = Arc::clone(&shared.handlers.routes);
        *player = Player::new(Arc::clone(&shared.config), routes, now);
    }

    fn handle_event(
        &mut self, now: Instant, cx: &mut Context<'_>, event: Event<'_>,
        commands: &mut Commands<Command>,
    ) {
        self.watch.begin(now);
        match event {
            Event::Abandoned(key) => self.abandon(key),
            Event::Call(call) => {
                self.start(cx, &call, commands);
                self.close_overrun(commands);
            }
            Event::Closed(reason) => {
                self.close(&reason);
                // Nothing else may ever wake this task: its stream can be gone already.
                self.poll_closing(cx);
            }
            Event::Detached(reason) => {
                let session = self.session.as_ref().map(|session| session.id().number());
                tracing::debug!(session, %reason, "detached");
            }
            Event::Forward(call) => self.forward(&call, commands),
            Event::Opened(handshake) => self.open(*handshake),
        }
    }

    fn poll_commands(
        &mut self, now: Instant, cx: &mut Context<'_>, commands: &mut Commands<Command>,
    ) {
        let (shared, watch) = (&*self.place.shared, &mut self.watch);
        watch.looked = now;
        self.running.retain_mut(|Handler { key, route, running }| {
            let polled = watch.poll(shared, cx, *route, running);
            let Poll::Ready(reply) = polled else { return true };
            answer(&self.place.mailbox, *key, reply, commands);
            false
        });
        self.close_overrun(commands);
        self.poll_closing(cx);
    }

    fn handle_waiting(&mut self, bytes: usize) {
        self.place.handle_waiting(bytes);
    }

    fn is_done(&self) -> bool {
        self.running.is_empty() && self.closing.is_none()
    }
}
