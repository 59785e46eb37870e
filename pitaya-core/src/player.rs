//! One client as the server keeps it: a connection, and the calls of the session it is attached to.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use pitaya_proto::error::{self, Error};
use pitaya_proto::handshake::HandshakeRequest;
use pitaya_proto::message::{Body, Route};
use pitaya_proto::zlib::{InflateError, Scratch};
use thin_vec::ThinVec;

use crate::cluster::{Forward, Forwards};
use crate::conn::{ClientCall, ConnEvent};
use crate::queue::{Ended, Expired, Start, Ticket};
use crate::{
    Broadcast, Call, CallKey, CallQueue, CloseReason, ConnConfig, Context, Counter, Destination,
    Instant, Machine, Next, Origin, Outbox, Reply, RouteId, RouteKind, RouteTable, ServerConn,
    earlier,
};

/// The machine of one client: it routes what the connection receives, gives calls their turn,
/// answers what cannot run, and keeps the session while a lost client may come back.
#[derive(Debug)]
pub struct Player {
    conn: ServerConn,
    calls: CallQueue<Bytes>,
    /// Requests that servers of other kinds answer.
    pub(crate) forwards: Forwards,
    pub(crate) config: Arc<ConnConfig>,
    routes: Arc<RouteTable>,
    /// Calls whose handlers must be dropped, not yet told.
    abandoned: ThinVec<CallKey>,
    drains: bool,
}

/// What a client did, or what became of its session.
#[derive(Debug, Eq, PartialEq)]
pub enum Event<'e> {
    /// A call to run now; it must be answered with [`Command::Reply`], also if it is a notify.
    Call(Call<'e>),
    /// The handler of this call must be dropped: it reached the hard limit, or its route is
    /// cancelled on close.
    Abandoned(CallKey),
    /// The session is over; this comes once, and no call comes after it.
    Closed(CloseReason),
    /// The client was lost, and the session waits for it as long as `resume_window` says.
    Detached(CloseReason),
    /// A call for a server of another kind, which holds no turn; only if
    /// [`ConnConfig::forwards`] says so.
    Forward(Forward<'e>),
    /// The client is ready to work: its session begins.
    Opened(Box<HandshakeRequest>),
}

/// What the owner decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Send a push that goes to others too.
    Broadcast(Arc<Broadcast>),
    /// Close the connection and the session; what waits to be written still is.
    Close(CloseReason),
    /// Send a kick, with a reason for the client if any, then close for a reason of our own.
    Kick(Option<String>, CloseReason),
    /// Send a push.
    Push(Arc<str>, Bytes),
    /// A handler has ended. The reply of a notify, or of a call that is late, goes nowhere.
    Reply(CallKey, Reply),
    /// Take no new calls, answer those that are there, then close.
    Shutdown,
}

impl Player {
    /// The client of a connection that was accepted at `now`.
    pub fn new(config: Arc<ConnConfig>, routes: Arc<RouteTable>, now: Instant) -> Self {
        Self {
            conn: ServerConn::new(Arc::clone(&config), now),
            calls: CallQueue::new(Arc::clone(&config)),
            forwards: Forwards::default(),
            config,
            routes,
            abandoned: ThinVec::new(),
            drains: false,
        }
    }

    /// Goes on with another connection of the same client, which is ready to work. What was sent
    /// meanwhile, and what the lost connection did not wholly write, goes out on it in the order it
    /// was sent.
    pub fn attach(&mut self, now: Instant, newcomer: Self) {
        let lost = std::mem::replace(&mut self.conn, newcomer.conn);
        self.conn.succeed(now, lost);
        self.update(now);
    }

    /// Whether the session goes on: its client works, or may still come back.
    pub fn is_open(&self) -> bool {
        self.conn.is_open()
    }

    /// Calls that wait, run, are late or are forwarded.
    pub fn calls(&self) -> usize {
        self.calls.count() + self.forwards.count()
    }

    /// As [`Machine::next`], but what comes borrows from the input alone: what was compressed is
    /// copied.
    pub(crate) fn next<'i>(
        &mut self, now: Instant, input: &mut &'i [u8], scratch: &mut Scratch,
    ) -> Next<Event<'i>> {
        if let Some(key) = self.abandoned.pop() {
            return Next::Event(Event::Abandoned(key));
        }
        if let Some(event) = self.poll_start(now) {
            return Next::Event(event);
        }
        loop {
            let event = match self.conn.next(now, input) {
                Next::NeedBytes => return Next::NeedBytes,
                Next::Paused => return Next::Paused,
                Next::Event(ConnEvent::Called(call)) => match self.admit(now, call, scratch) {
                    Ok(Some(event)) => event,
                    Ok(None) => continue,
                    Err(reason) => {
                        self.conn.close(now, reason);
                        continue;
                    }
                },
                Next::Event(ConnEvent::Closed(reason)) => self.finish(reason),
                Next::Event(ConnEvent::Detached(reason)) => Event::Detached(reason),
                Next::Event(ConnEvent::Opened(request)) => Event::Opened(request),
            };
            return Next::Event(event);
        }
    }

    /// Judges a call that came in: it runs now, or it waits, is refused, or breaks the protocol.
    fn admit<'i>(
        &mut self, now: Instant, call: ClientCall<'i>, scratch: &mut Scratch,
    ) -> Result<Option<Event<'i>>, CloseReason> {
        let ClientCall { body, request, route } = call;
        let is_known = |id| self.calls.has_request(id) || self.forwards.has_request(id);
        if let Some(id) = request.filter(|id| is_known(*id)) {
            return Err(CloseReason::DuplicateRequest(id.get()));
        }
        let body = inflate(body, scratch, self.config.limits.inflated_bytes_max)
            .map_err(CloseReason::BadInflate)?;
        let kind = request.map_or(RouteKind::Notify, |_| RouteKind::Request);
        let name = match route {
            Route::Name(name) => name,
            Route::Code(code) => self.config.dictionary.route(code).unwrap_or_default().as_bytes(),
        };
        let refused = match self.routes.find(name, kind) {
            Ok(Destination::Here(route)) => return Ok(self.arrive(now, request, route, body)),
            Ok(Destination::Elsewhere(route)) if self.config.forwards => {
                return Ok(Some(self.forward(now, request, route, body)));
            }
            // Without a cluster there are no other servers; Pitaya leaves the client without an
            // answer.
            Ok(Destination::Elsewhere(_)) => error::NO_SERVERS.into(),
            Err(error) => error,
        };
        self.refuse(now, request, &refused, scratch);
        Ok(None)
    }

    fn arrive<'i>(
        &mut self, now: Instant, request: Option<NonZeroU64>, route: RouteId, body: Cow<'i, [u8]>,
    ) -> Option<Event<'i>> {
        let options = self.routes.entry(route).options;
        let ticket = Ticket { bytes: body.len(), options, request, route };
        let start = self.calls.arrive(now, ticket, || Bytes::copy_from_slice(&body));
        self.update(now);
        start.map(|start| self.call(start, body))
    }

    /// Tells a caller no. A notify has nobody to tell.
    pub(crate) fn refuse(
        &mut self, now: Instant, request: Option<NonZeroU64>, error: &Error, scratch: &mut Scratch,
    ) {
        let Some(request) = request else {
            // The route in it is the client's own text.
            return tracing::debug!(error = ?error.msg, "a notify was refused");
        };
        let told = self.conn.reply(now, request, &self.routes.error_reply(error), scratch);
        told.inspect_err(|why| tracing::error!(%why, "an error is too large for a packet")).ok();
    }

    /// A waiting call whose turn has come.
    fn poll_start<'e>(&mut self, now: Instant) -> Option<Event<'e>> {
        // Once the connection is to close, what waits never runs, also before that is told.
        if !self.calls.has_waiting() || !self.conn.is_open() || self.conn.is_outbox_full() {
            return None;
        }
        let (start, body) = self.calls.poll_start(now)?;
        self.update(now);
        Some(self.call(start, Cow::Owned(body.into())))
    }

    fn call<'e>(&self, start: Start, body: Cow<'e, [u8]>) -> Event<'e> {
        self.config.counters.add(Counter::CallsStarted);
        Event::Call(Call {
            body,
            context: Context::default(),
            deadline: start.deadline,
            key: start.key,
            origin: Origin::Client,
            request: start.ticket.request,
            route: start.ticket.route,
        })
    }

    fn finish(&mut self, reason: CloseReason) -> Event<'static> {
        let dropped = self.calls.close(|key| self.abandoned.push(key));
        self.forwards.close();
        self.config.counters.add_many(Counter::CallsDropped, dropped as u64);
        Event::Closed(reason)
    }

    fn handle_reply(&mut self, now: Instant, key: CallKey, reply: Reply, scratch: &mut Scratch) {
        let is_forwarded = Forwards::own(key);
        let calls = &mut self.calls;
        match if is_forwarded { self.forwards.handle_reply(key) } else { calls.handle_ended(key) } {
            Ended::Answers(request) if self.conn.is_open() => {
                if let Err(why) = self.conn.reply(now, request, &reply, scratch) {
                    self.refuse(now, Some(request), &why.into(), scratch);
                }
            }
            Ended::Answers(_) | Ended::Late => self.config.counters.add(Counter::RepliesLate),
            Ended::Notified(route) if reply.is_error => {
                self.config.counters.add(Counter::NotifiesFailed);
                tracing::debug!(route = %self.routes.name(route), "a notify failed");
            }
            Ended::Nothing | Ended::Notified(_) => {}
        }
    }

    fn handle_expired(&mut self, now: Instant, expired: Expired, scratch: &mut Scratch) {
        match expired {
            Expired::TimedOut(ticket, timeout) => {
                self.config.counters.add(Counter::CallsExpired);
                let error = Error::request_timeout(self.routes.name(ticket.route), timeout);
                self.refuse(now, ticket.request, &error, scratch);
            }
            Expired::Abandoned(key, ticket) => {
                self.config.counters.add(Counter::CallsAbandoned);
                let route = self.routes.name(ticket.route);
                tracing::debug!(%route, "a handler reached its hard limit");
                self.abandoned.push(key);
            }
        }
    }

    /// Reading goes on as long as there is room for calls; the last call of a drain is the end.
    #[inline]
    pub(crate) fn update(&mut self, now: Instant) {
        let is_full = self.calls.is_full() || self.forwards.fill(self.calls.count(), &self.config);
        self.conn.held = self.drains || is_full;
        if self.drains && self.calls() == 0 {
            self.conn.close(now, CloseReason::Shutdown);
        }
    }
}

impl Machine for Player {
    type Event<'e> = Event<'e>;
    type Command = Command;

    fn next<'i: 'e, 'e>(
        &mut self, now: Instant, input: &mut &'i [u8], scratch: &'e mut Scratch,
    ) -> Next<Event<'e>> {
        self.next(now, input, scratch)
    }

    fn handle_command(&mut self, now: Instant, command: Command, scratch: &mut Scratch) {
        match command {
            Command::Broadcast(push) => self.conn.broadcast(now, &push, scratch),
            Command::Close(reason) => self.conn.close(now, reason),
            Command::Kick(text, reason) => self.conn.kick(now, text.as_deref(), reason),
            Command::Push(route, body) => self.conn.push(now, &route, &body, scratch),
            Command::Reply(key, reply) => {
                self.handle_reply(now, key, reply, scratch);
                // It can only have made room.
                if self.conn.held {
                    self.update(now);
                }
            }
            Command::Shutdown => {
                self.drains = true;
                self.update(now);
            }
        }
    }

    fn handle_written(&mut self, now: Instant, bytes: usize) {
        self.conn.handle_written(now, bytes);
    }

    fn handle_end(&mut self, now: Instant, how: CloseReason) {
        self.conn.handle_end(now, how);
    }

    fn handle_timeout(&mut self, now: Instant, scratch: &mut Scratch) {
        self.conn.handle_timeout(now);
        while let Some(expired) = self.calls.poll_expired(now) {
            self.handle_expired(now, expired, scratch);
        }
        self.expire_forwards(now, scratch);
        self.update(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let calls = earlier(self.calls.poll_timeout(), self.forwards.poll_timeout());
        earlier(self.conn.poll_timeout(), calls)
    }

    fn outbox(&mut self) -> &mut Outbox {
        self.conn.outbox()
    }

    fn rest(&mut self) {
        self.calls.rest();
    }

    fn is_finished(&self) -> bool {
        self.conn.is_finished()
    }
}

fn inflate<'i>(
    body: Body<'i>, scratch: &mut Scratch, bytes_max: usize,
) -> Result<Cow<'i, [u8]>, InflateError> {
    match body {
        Body::Plain(body) => Ok(Cow::Borrowed(body)),
        Body::Zlib(_) => body.inflate(scratch, bytes_max).map(|body| Cow::Owned(body.to_vec())),
    }
}
