//! One client's connection as the server sees it: phases, deadlines, and what is written.

use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Buf;
use pitaya_proto::handshake::HandshakeRequest;
use pitaya_proto::kick;
use pitaya_proto::message::{Body, EncodeError, Message, Route};
use pitaya_proto::packet::{self, Packet, PacketKind};
use pitaya_proto::zlib::Scratch;

use crate::conn::heartbeat::Heartbeat;
use crate::conn::line::Line;
use crate::conn::phase::{Phase, Side, Step, step};
use crate::conn::{CloseReason, ConnConfig};
use crate::planted::mutant;
use crate::{Broadcast, Counter, Instant, Next, Outbox, Reply, earlier};

/// One connection of a client: it turns bytes into messages and replies into bytes.
///
/// It knows nothing of sessions, routes or handlers; [`Player`](crate::Player) puts those on top.
#[derive(Debug)]
pub struct ServerConn {
    config: Arc<ConnConfig>,
    line: Line,
    /// Handshake received: the request, kept until the acknowledgement opens the connection.
    handshake: Option<Box<HandshakeRequest>>,
    /// The owner cannot take more calls: nothing is read, and neither silence nor an unfinished
    /// packet is held against the client.
    pub held: bool,
    /// The client was lost, and its session waits for it until then: what is sent meanwhile is
    /// kept.
    detached_until: Option<Instant>,
    reads_codes: bool,
    /// The second that it is, and how many calls came in it.
    rate: (u32, u32),
}

/// What a client did.
#[derive(Debug, Eq, PartialEq)]
pub enum ConnEvent<'i> {
    /// It sent a request or a notify.
    Called(ClientCall<'i>),
    /// It is gone, or has to go, for good. Said exactly once.
    Closed(CloseReason),
    /// It was lost; the session waits for it as long as `resume_window` says.
    Detached(CloseReason),
    /// It is ready to work.
    Opened(Box<HandshakeRequest>),
}

/// A request or a notify as it came; the body may still be compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientCall<'i> {
    /// The body.
    pub body: Body<'i>,
    /// The id that the answer must carry; nothing for a notify, and for a request that says 0.
    pub request: Option<NonZeroU64>,
    /// The route; a code is one that the dictionary has.
    pub route: Route<'i>,
}

impl ServerConn {
    /// A connection that was accepted at `now`.
    pub fn new(config: Arc<ConnConfig>, now: Instant) -> Self {
        Self {
            line: Line::new(now, now + config.limits.handshake_timeout),
            handshake: None,
            held: false,
            detached_until: None,
            reads_codes: false,
            rate: (0, 0),
            config,
        }
    }

    /// Takes at most one event off the front of `input`; see
    /// [`Machine::next`](crate::Machine::next).
    pub fn next<'i>(&mut self, now: Instant, input: &mut &'i [u8]) -> Next<ConnEvent<'i>> {
        self.renew_rate(now);
        loop {
            if self.line.closed.is_some() {
                let Some(reason) = self.line.poll_closed() else {
                    // Nobody takes it any more, so nobody should keep it.
                    *input = &[];
                    return Next::NeedBytes;
                };
                return Next::Event(match self.detached_until {
                    Some(_) => ConnEvent::Detached(reason),
                    None => ConnEvent::Closed(reason),
                });
            }
            if self.held || self.is_outbox_full() || self.is_over_rate() {
                let goes_on = std::mem::replace(&mut self.line.paused, true);
                self.config.counters.add_many(Counter::Pauses, (!goes_on).into());
                self.line.packet_by = None;
                return Next::Paused;
            }
            if std::mem::take(&mut self.line.paused) {
                self.line.handle_heard(now);
            }
            match packet::decode(input, self.packet_bytes_max()) {
                Ok(Some(packet)) => {
                    self.line.packet_by = None;
                    self.line.handle_heard(now);
                    match self.receive(now, packet) {
                        Ok(Some(event)) => return Next::Event(event),
                        Ok(None) => {}
                        Err(reason) => self.close(now, reason),
                    }
                }
                Ok(None) => {
                    if !input.is_empty() && self.line.packet_by.is_none() {
                        self.line.packet_by = Some(now + self.config.limits.packet_timeout);
                    }
                    return Next::NeedBytes;
                }
                Err(error) => self.close(now, CloseReason::BadPacket(error)),
            }
        }
    }

    /// Queues an answer, if the client works.
    ///
    /// # Errors
    ///
    /// An answer that the wire cannot carry; nothing is queued then.
    pub fn reply(
        &mut self, now: Instant, request: NonZeroU64, reply: &Reply, scratch: &mut Scratch,
    ) -> Result<(), EncodeError> {
        if self.is_open() {
            let (id, error) = (request.get(), reply.is_error);
            self.send(now, &reply.body, scratch, |body| Message::Response { id, error, body })?;
            self.config.counters.add(Counter::RepliesSent);
        }
        Ok(())
    }

    /// Queues a push. More of them than the outbox takes means that the client does not keep up: it
    /// is closed.
    pub fn push(&mut self, now: Instant, route: &str, body: &[u8], scratch: &mut Scratch) {
        if self.takes_push(now, body.len()) {
            let route = self.code(route).map_or(Route::Name(route.as_bytes()), Route::Code);
            match self.send(now, body, scratch, |body| Message::Push { route, body }) {
                Ok(()) => self.config.counters.add(Counter::PushesTaken),
                Err(error) => tracing::error!(%error, "a push was not sent"),
            }
        }
    }

    /// Queues a push that goes to others too.
    pub fn broadcast(&mut self, now: Instant, push: &Broadcast, scratch: &mut Scratch) {
        let (code, bytes) = (self.code(&push.route), push.body.len());
        match push.packet(code, self.line.deflates(bytes, &self.config.limits), scratch) {
            Some(packet) if self.takes_push(now, bytes) => {
                self.line.write_packet(now, packet);
                self.config.counters.add(Counter::PushesTaken);
            }
            Some(_) => {}
            None => self.push(now, &push.route, &push.body, scratch),
        }
    }

    /// Queues a kick, after which nothing follows; `reason` is what the client is told, the other
    /// is for us.
    pub fn kick(&mut self, now: Instant, text: Option<&str>, reason: CloseReason) {
        if self.line.phase == Phase::Working {
            self.config.counters.add(Counter::KicksSent);
            let mut body = Vec::new();
            text.into_iter().for_each(|text| kick::encode(text, &mut body));
            // A reason that no packet can hold is left out.
            if self.line.write(now, |out| packet::encode(PacketKind::Kick, &body, out)).is_err() {
                self.line.write_empty(now, PacketKind::Kick);
            }
        }
        if !mutant("a kick is not the last word") {
            self.close(now, reason);
        }
    }

    /// Ends the connection. What waits to be written still is, unless nobody reads it.
    pub fn close(&mut self, now: Instant, reason: CloseReason) {
        if self.line.closed.is_some() && (self.detached_until.is_none() || reason.is_loss()) {
            return;
        }
        let window = self.config.limits.resume_window;
        let waits = self.line.phase == Phase::Working && reason.is_loss() && !window.is_zero();
        let nobody_reads = reason.is_loss() || reason == CloseReason::OutboxFull;
        if !waits && (nobody_reads || self.detached_until.is_some()) {
            self.line.outbox.clear();
        }
        self.detached_until = waits.then(|| now + window);
        self.line.close(reason, &self.config.counters);
    }

    /// Takes over from a lost connection of the same client: what that one did not wholly write
    /// comes after what waits here.
    pub(crate) fn succeed(&mut self, now: Instant, lost: Self) {
        let mut kept = Outbox::default();
        kept.append_all(lost.line.outbox);
        forget_handshake(&mut kept);
        self.line.write_all(now, kept);
    }

    /// See [`Machine::handle_written`](crate::Machine::handle_written).
    pub fn handle_written(&mut self, now: Instant, bytes: usize) {
        self.line.handle_written(now, bytes);
    }

    /// See [`Machine::handle_end`](crate::Machine::handle_end). A client that shut down its sending
    /// side may still read, but no Pitaya client does that: what waits is for the next connection
    /// of the session, if there may be one.
    pub fn handle_end(&mut self, now: Instant, how: CloseReason) {
        if self.line.closed.is_some() && self.detached_until.is_none() {
            self.line.outbox.clear();
        }
        self.close(now, how);
    }

    /// See [`Machine::handle_timeout`](crate::Machine::handle_timeout).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.renew_rate(now);
        if self.detached_until.is_some_and(|until| until <= now) {
            (self.detached_until, self.line.told) = (None, false);
            return self.line.outbox.clear();
        }
        // What waits for the next connection need not be written in time.
        while self.detached_until.is_none()
            && let Some(reason) = self.line.handle_timeout(now, &self.config.limits)
        {
            self.handle_end(now, reason);
        }
    }

    /// See [`Machine::poll_timeout`](crate::Machine::poll_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let throttled_until = self.is_over_rate().then(|| second(self.rate.0 + 1));
        let line = || earlier(throttled_until, self.line.poll_timeout(&self.config.limits));
        self.detached_until.or_else(line)
    }

    /// See [`Machine::outbox`](crate::Machine::outbox).
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.line.outbox
    }

    /// See [`Machine::is_finished`](crate::Machine::is_finished).
    pub fn is_finished(&self) -> bool {
        self.line.closed.is_some()
            && (self.detached_until.is_some() || !self.line.outbox.has_remaining())
    }

    /// Whether nothing more fits towards the client, so that no call should start.
    pub fn is_outbox_full(&self) -> bool {
        !self.line.outbox.has_room(1, &self.config.limits)
    }

    /// Whether the client works, or may come back: what is sent to it is not lost.
    pub(crate) fn is_open(&self) -> bool {
        self.line.phase == Phase::Working || self.detached_until.is_some()
    }

    fn renew_rate(&mut self, now: Instant) {
        if now >= second(self.rate.0 + 1) {
            self.rate = ((now.micros() / SECOND) as u32, 0);
        }
    }

    /// Whether the client called as often in this second as it may.
    fn is_over_rate(&self) -> bool {
        let works = self.line.phase == Phase::Working;
        works && self.rate.1 as usize >= self.config.limits.call_rate_max
    }

    /// Whether the client works and keeps up; if it only works, it is closed.
    fn takes_push(&mut self, now: Instant, bytes: usize) -> bool {
        let is_open = self.is_open();
        let takes = is_open && self.line.outbox.has_room(bytes, &self.config.limits);
        if is_open && !takes {
            self.config.counters.add(Counter::PushesRefused);
            self.close(now, CloseReason::OutboxFull);
        }
        takes
    }

    fn code(&self, route: &str) -> Option<u16> {
        if self.reads_codes { self.config.dictionary.code(route) } else { None }
    }

    fn packet_bytes_max(&self) -> usize {
        match self.line.phase {
            Phase::AwaitHandshake | Phase::AwaitAck => self.config.limits.handshake_bytes_max,
            Phase::Working | Phase::Closed => self.config.limits.packet_bytes_max,
        }
    }

    fn receive<'i>(
        &mut self, now: Instant, packet: Packet<'i>,
    ) -> Result<Option<ConnEvent<'i>>, CloseReason> {
        match step(Side::Server, self.line.phase, packet.kind) {
            Step::Receive => {
                self.rate.1 += 1;
                self.config.counters.add_many(Counter::CallsThrottled, self.is_over_rate().into());
                self.message(packet.body).map(Some)
            }
            Step::Hear => Ok(None),
            Step::Shake => self.shake(now, packet.body).map(|()| None),
            Step::Open => Ok(self.open(now)),
            Step::Kicked | Step::Refuse => Err(CloseReason::Unexpected(packet.kind)),
        }
    }

    fn shake(&mut self, now: Instant, body: &[u8]) -> Result<(), CloseReason> {
        let config = Arc::clone(&self.config);
        let judged = config.judge(body);
        let answer = if judged.is_ok() { &config.accepted } else { &config.refused };
        self.line.write_packet(now, answer);
        let request = judged?;
        self.line.inflates = config.compression && request.inflates();
        self.reads_codes = request.reads_route_codes();
        self.handshake = Some(Box::new(request));
        self.line.phase = Phase::AwaitAck;
        let more = config.limits.handshake_timeout;
        self.line.shaken_by = self.line.shaken_by.map(|shaken_by| shaken_by.min(now) + more);
        Ok(())
    }

    fn open<'i>(&mut self, now: Instant) -> Option<ConnEvent<'i>> {
        self.line.open(Some(Heartbeat::new(self.config.limits.heartbeat, now)));
        self.handshake.take().map(ConnEvent::Opened)
    }

    fn message<'i>(&self, body: &'i [u8]) -> Result<ConnEvent<'i>, CloseReason> {
        let call = match Message::decode(body).map_err(CloseReason::BadMessage)? {
            Message::Request { id, route, body } => {
                ClientCall { request: NonZeroU64::new(id), route, body }
            }
            Message::Notify { route, body } => ClientCall { request: None, route, body },
            Message::Push { .. } | Message::Response { .. } => {
                return Err(CloseReason::UnexpectedMessage);
            }
        };
        match call.route {
            Route::Code(code) if self.config.dictionary.route(code).is_none() => {
                Err(CloseReason::UnknownRouteCode(code))
            }
            Route::Code(_) | Route::Name(_) => Ok(ConnEvent::Called(call)),
        }
    }

    fn send<'m>(
        &mut self, now: Instant, body: &'m [u8], scratch: &'m mut Scratch,
        message: impl FnOnce(Body<'m>) -> Message<'m>,
    ) -> Result<(), EncodeError> {
        let message = message(self.line.body(body, scratch, &self.config.limits));
        self.line.write(now, |out| message.encode_packet(out))
    }
}

/// The answer to a handshake, which comes before all else, is for one connection alone.
fn forget_handshake(outbox: &mut Outbox) {
    let waiting = outbox.chunk();
    let mut rest = waiting;
    if let Ok(Some(packet)) = packet::decode(&mut rest, packet::BODY_BYTES_MAX)
        && packet.kind == PacketKind::Handshake
    {
        let bytes = waiting.len() - rest.len();
        outbox.advance(bytes);
    }
}

/// When a second begins.
fn second(number: u32) -> Instant {
    Instant::from_micros(u64::from(number) * SECOND)
}

/// In microseconds: what `call_rate_max` counts in.
const SECOND: u64 = 1_000_000;
