//! One client's connection as the server sees it: phases, deadlines, and what is written.

use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use pitaya_proto::handshake::HandshakeRequest;
use pitaya_proto::kick;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, Packet, PacketKind};
use pitaya_proto::zlib::Scratch;

use crate::conn::heartbeat::Heartbeat;
use crate::conn::phase::{Phase, Side, Step, step};
use crate::conn::{CloseReason, ConnConfig};
use crate::{Counter, Instant, Next, Outbox, Reply, earlier};

/// One connection of a client: it turns bytes into messages and replies into bytes.
///
/// It knows nothing of sessions, routes or handlers; [`Player`](crate::Player) puts those on top.
#[derive(Debug)]
pub struct ServerConn {
    config: Arc<ConnConfig>,
    phase: Phase,
    outbox: Outbox,
    heartbeat: Heartbeat,
    opened_at: Instant,
    /// Handshake received: the request, kept until the acknowledgement opens the connection.
    handshake: Option<Box<HandshakeRequest>>,
    handshake_until: Instant,
    packet_began: Option<Instant>,
    written_at: Instant,
    /// The owner cannot take more calls; see [`pause`](Self::pause).
    held: bool,
    paused: bool,
    /// The client was lost, and its session waits for it until then: what is sent meanwhile is
    /// kept.
    detached_until: Option<Instant>,
    inflates: bool,
    reads_codes: bool,
    closed: Option<CloseReason>,
    told: bool,
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
            phase: Phase::AwaitHandshake,
            outbox: Outbox::default(),
            heartbeat: Heartbeat::new(config.limits.heartbeat, now),
            opened_at: now,
            handshake: None,
            handshake_until: now + config.limits.handshake_timeout,
            packet_began: None,
            written_at: now,
            held: false,
            paused: false,
            detached_until: None,
            inflates: false,
            reads_codes: false,
            closed: None,
            told: false,
            config,
        }
    }

    /// Takes at most one event off the front of `input`; see
    /// [`Machine::next`](crate::Machine::next).
    pub fn next<'i>(&mut self, now: Instant, input: &mut &'i [u8]) -> Next<ConnEvent<'i>> {
        loop {
            if let Some(reason) = &self.closed {
                if std::mem::replace(&mut self.told, true) {
                    return Next::NeedBytes;
                }
                let reason = reason.clone();
                return Next::Event(match self.detached_until {
                    Some(_) => ConnEvent::Detached(reason),
                    None => ConnEvent::Closed(reason),
                });
            }
            if self.is_full() {
                let goes_on = std::mem::replace(&mut self.paused, true);
                self.config.counters.add_many(Counter::Pauses, (!goes_on).into());
                return Next::Paused;
            }
            if std::mem::take(&mut self.paused) {
                self.resume(now, !input.is_empty());
            }
            match packet::decode(input, self.packet_bytes_max()) {
                Ok(Some(packet)) => {
                    self.packet_began = None;
                    self.heartbeat.handle_heard(now);
                    match self.receive(now, packet) {
                        Ok(Some(event)) => return Next::Event(event),
                        Ok(None) => {}
                        Err(reason) => self.close(now, reason),
                    }
                }
                Ok(None) => {
                    if !input.is_empty() && self.packet_began.is_none() {
                        self.packet_began = Some(now);
                    }
                    return Next::NeedBytes;
                }
                Err(error) => self.close(now, CloseReason::BadPacket(error)),
            }
        }
    }

    /// Queues an answer; `false` if it is one that the wire cannot carry.
    pub fn reply(
        &mut self, now: Instant, request: NonZeroU64, reply: &Reply, scratch: &mut Scratch,
    ) -> bool {
        if !self.is_open() {
            return true;
        }
        let (id, error) = (request.get(), reply.is_error);
        let sent =
            self.send(now, &reply.body, scratch, |body| Message::Response { id, error, body });
        self.config.counters.add_many(Counter::RepliesSent, sent.into());
        sent
    }

    /// Queues a push. More of them than the outbox takes means that the client does not keep up: it
    /// is closed.
    pub fn push(&mut self, now: Instant, route: &str, body: Bytes, scratch: &mut Scratch) {
        if !self.is_open() {
            return;
        }
        let full = self.outbox.packets() >= self.config.limits.outbound_packets_max
            || self.outbox.remaining() + body.len() > self.config.limits.outbound_bytes_max;
        if full && self.outbox.has_remaining() {
            self.config.counters.add(Counter::PushesRefused);
            return self.close(now, CloseReason::OutboxFull);
        }
        self.config.counters.add(Counter::PushesTaken);
        let code =
            if self.reads_codes { self.config.dictionary.code(route.as_bytes()) } else { None };
        let route = code.map_or(Route::Name(route.as_bytes()), Route::Code);
        self.send(now, &body, scratch, |body| Message::Push { route, body });
    }

    /// Queues a kick, after which nothing follows; `reason` is what the client is told, the other
    /// is for us.
    pub fn kick(&mut self, now: Instant, text: Option<&str>, reason: CloseReason) {
        if self.phase != Phase::Working {
            return self.close(now, reason);
        }
        self.config.counters.add(Counter::KicksSent);
        self.write(now, |out| {
            packet::encode_with(PacketKind::Kick, out, |body| {
                text.into_iter().for_each(|text| kick::encode(text, body));
                Ok::<(), packet::TooLarge>(())
            })
        });
        self.close(now, reason);
    }

    /// Ends the connection. What waits to be written still is, unless nobody reads it.
    pub fn close(&mut self, now: Instant, reason: CloseReason) {
        if self.closed.is_some() && (self.detached_until.is_none() || reason.is_loss()) {
            return;
        }
        if let Some(counter) = reason.counter() {
            self.config.counters.add(counter);
        }
        let window = self.config.limits.resume_window;
        let waits = self.phase == Phase::Working && reason.is_loss() && !window.is_zero();
        let nobody_reads = reason.is_loss() || reason == CloseReason::OutboxFull;
        if !waits && (nobody_reads || self.detached_until.is_some()) {
            self.outbox.clear();
        }
        self.detached_until = waits.then(|| now + window);
        self.phase = Phase::Closed;
        self.closed = Some(reason);
        self.told = false;
    }

    /// Takes over from a lost connection of the same client: what that one did not wholly write
    /// comes after what waits here.
    pub(crate) fn succeed(&mut self, now: Instant, lost: Self) {
        if !self.outbox.has_remaining() {
            self.written_at = now;
        }
        let mut kept = Outbox::default();
        kept.append_all(lost.outbox);
        forget_handshake(&mut kept);
        self.outbox.append_all(kept);
    }

    /// Says whether the owner can take more calls; while it cannot, nothing is read and neither
    /// silence nor an unfinished packet is held against the client.
    pub fn pause(&mut self, held: bool) {
        self.held = held;
    }

    /// See [`Machine::handle_written`](crate::Machine::handle_written).
    pub fn handle_written(&mut self, now: Instant, bytes: usize) {
        if bytes > 0 {
            self.written_at = now;
        }
    }

    /// See [`Machine::handle_eof`](crate::Machine::handle_eof).
    pub fn handle_eof(&mut self, now: Instant, rest: usize) {
        // A client that shut down its sending side may still read, but no Pitaya client does that.
        self.lose(
            now,
            if rest == 0 { CloseReason::PeerClosed } else { CloseReason::EndInsidePacket },
        );
    }

    /// See [`Machine::handle_failure`](crate::Machine::handle_failure).
    pub fn handle_failure(&mut self, now: Instant, kind: std::io::ErrorKind) {
        self.lose(now, CloseReason::Io(kind));
    }

    /// See [`Machine::handle_timeout`](crate::Machine::handle_timeout).
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.detached_until.is_some_and(|until| until <= now) {
            self.detached_until = None;
            self.told = false;
            return self.outbox.clear();
        }
        if self.written_until().is_some_and(|until| until <= now) {
            return self.lose(now, CloseReason::SlowReader);
        }
        match self.phase {
            Phase::AwaitHandshake | Phase::AwaitAck if self.handshake_until <= now => {
                self.close(now, CloseReason::HandshakeTimeout);
            }
            Phase::Working if self.heartbeat.handle_timeout(now) => self.beat(now),
            Phase::AwaitAck | Phase::AwaitHandshake | Phase::Closed | Phase::Working => {}
        }
        if self.packet_until().is_some_and(|until| until <= now) {
            self.close(now, CloseReason::PacketTimeout);
        }
        if self.silent_at().is_some_and(|until| until <= now) {
            self.close(now, CloseReason::Silent);
        }
    }

    /// See [`Machine::poll_timeout`](crate::Machine::poll_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::AwaitHandshake | Phase::AwaitAck => Some(self.handshake_until),
            Phase::Working => Some(self.heartbeat.next_beat()),
            Phase::Closed => None,
        };
        let reading = earlier(self.packet_until(), self.silent_at());
        earlier(earlier(phase, reading), earlier(self.written_until(), self.detached_until))
    }

    /// See [`Machine::outbox`](crate::Machine::outbox).
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// See [`Machine::is_finished`](crate::Machine::is_finished).
    pub fn is_finished(&self) -> bool {
        self.closed.is_some() && (self.detached_until.is_some() || !self.outbox.has_remaining())
    }

    /// Whether nothing more fits towards the client, so that no call should start.
    pub fn is_outbox_full(&self) -> bool {
        self.outbox.packets() >= self.config.limits.outbound_packets_max
            || self.outbox.remaining() >= self.config.limits.outbound_bytes_max
    }

    /// Nobody is left to write to; what waits is for the next connection of the session, if there
    /// may be one.
    fn lose(&mut self, now: Instant, reason: CloseReason) {
        if self.closed.is_some() && self.detached_until.is_none() {
            self.outbox.clear();
        }
        self.close(now, reason);
    }

    /// Whether the client works, or may come back: what is sent to it is not lost.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Working || self.detached_until.is_some()
    }

    fn is_full(&self) -> bool {
        self.held || self.is_outbox_full()
    }

    fn packet_bytes_max(&self) -> usize {
        match self.phase {
            Phase::AwaitHandshake | Phase::AwaitAck => self.config.limits.handshake_bytes_max,
            Phase::Working | Phase::Closed => self.config.limits.packet_bytes_max,
        }
    }

    fn resume(&mut self, now: Instant, packet_began: bool) {
        self.heartbeat.handle_heard(now);
        self.packet_began = packet_began.then_some(now);
    }

    fn receive<'i>(
        &mut self, now: Instant, packet: Packet<'i>,
    ) -> Result<Option<ConnEvent<'i>>, CloseReason> {
        match step(Side::Server, self.phase, packet.kind) {
            Step::Receive => self.message(packet.body).map(Some),
            Step::Hear => Ok(None),
            Step::Shake => self.shake(now, packet.body).map(|()| None),
            Step::Open => Ok(self.open(now)),
            Step::Kicked | Step::Refuse => Err(CloseReason::Unexpected(packet.kind)),
        }
    }

    fn shake(&mut self, now: Instant, body: &[u8]) -> Result<(), CloseReason> {
        let config = Arc::clone(&self.config);
        let judged = HandshakeRequest::parse(body, &config.handshake_limits())
            .map_err(CloseReason::BadHandshake)
            .and_then(|request| match config.validate(&request) {
                Ok(()) => Ok(request),
                Err(why) => Err(CloseReason::HandshakeRefused(why)),
            });
        let answer = if judged.is_ok() { &config.accepted } else { &config.refused };
        self.write(now, |out| {
            out.extend_from_slice(answer);
            Ok::<(), packet::TooLarge>(())
        });
        let request = judged?;
        self.inflates = config.compression && request.inflates();
        self.reads_codes = request.reads_route_codes();
        self.handshake = Some(Box::new(request));
        self.phase = Phase::AwaitAck;
        let total = self.opened_at + config.limits.handshake_timeout * 2;
        self.handshake_until = total.min(now + config.limits.handshake_timeout);
        Ok(())
    }

    fn open<'i>(&mut self, now: Instant) -> Option<ConnEvent<'i>> {
        self.phase = Phase::Working;
        self.heartbeat = Heartbeat::new(self.config.limits.heartbeat, now);
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
    ) -> bool {
        let worth_it = self.inflates && body.len() >= self.config.limits.compression_bytes_min;
        let body = if worth_it { Body::deflate(body, scratch) } else { Body::Plain(body) };
        self.write(now, |out| message(body).encode_packet(out))
    }

    fn beat(&mut self, now: Instant) {
        self.outbox.rest();
        self.write(now, |out| packet::encode(PacketKind::Heartbeat, &[], out));
    }

    fn write<E: std::fmt::Debug>(
        &mut self, now: Instant, packet: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> bool {
        if !self.outbox.has_remaining() {
            self.written_at = now;
        }
        let written = self.outbox.append(packet);
        written.inspect_err(|error| tracing::error!(?error, "a packet was not written")).is_ok()
    }

    fn written_until(&self) -> Option<Instant> {
        let waits = self.outbox.has_remaining() && self.detached_until.is_none();
        waits.then(|| self.written_at + self.config.limits.write_timeout)
    }

    fn packet_until(&self) -> Option<Instant> {
        let began = self.packet_began.filter(|_| self.is_reading())?;
        Some(began + self.config.limits.packet_timeout)
    }

    fn silent_at(&self) -> Option<Instant> {
        (self.phase == Phase::Working && self.is_reading()).then(|| self.heartbeat.dead_at())
    }

    fn is_reading(&self) -> bool {
        self.closed.is_none() && !self.paused
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
