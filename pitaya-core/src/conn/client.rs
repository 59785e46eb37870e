//! A connection to a server as its client sees it: handshake, requests in flight, pushes.

mod config;
mod event;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use pitaya_proto::error::{self, Error};
use pitaya_proto::handshake::HandshakeResponse;
use pitaya_proto::message::{Body, EncodeError, Message, Route};
use pitaya_proto::packet::{self, Packet, PacketKind};
use pitaya_proto::zlib::Scratch;
use pitaya_proto::{kick, limits};

use crate::calls::{Calls, RequestId, TooMany};
use crate::conn::CloseReason;
use crate::conn::heartbeat::Heartbeat;
use crate::conn::phase::{Phase, Side, Step, step};
use crate::{Counter, Instant, Machine, Next, Outbox, earlier};

pub use config::ClientConfig;
pub use event::{ClientCommand, ClientEvent, ClientRequest};

/// The client's end of a connection. `W` is whoever waits for a reply; every waiter comes back
/// exactly once in a [`ClientEvent::Reply`], the last of them before [`ClientEvent::Closed`].
///
/// The handshake waits in the outbox from the start. Commands may be given before the server has
/// accepted it: their bytes are kept and go out right behind the acknowledgement, also those of a
/// request whose deadline has passed by then.
#[derive(Debug)]
pub struct ClientConn<W> {
    config: Arc<ClientConfig>,
    phase: Phase,
    outbox: Outbox,
    /// What was commanded before the server accepted the handshake.
    early: Outbox,
    calls: Calls<W>,
    /// Waiters who get no reply from the server, and do not know it yet.
    failed: VecDeque<(W, Error)>,
    server: Option<Arc<HandshakeResponse>>,
    /// Absent until the server has asked for heartbeats.
    heartbeat: Option<Heartbeat>,
    connect_until: Instant,
    /// How much of an unfinished packet was there when it was looked at last.
    unfinished_bytes: usize,
    written_at: Instant,
    closed: Option<CloseReason>,
    told: bool,
}

/// What a packet brings to the owner; the body of a message may still be compressed.
enum News<'i, W> {
    Message(Target<'i, W>, Body<'i>),
    Opened(Arc<HandshakeResponse>),
}

/// Whom a message is for.
enum Target<'i, W> {
    Route(Cow<'i, str>),
    Waiter { waiter: W, error: bool },
}

impl<W> ClientConn<W> {
    /// The client's end of a stream that it began to dial at `now`, from when the handshake has
    /// `connect_timeout`.
    pub fn new(config: Arc<ClientConfig>, now: Instant) -> Self {
        let mut conn = Self {
            phase: Phase::AwaitHandshake,
            outbox: Outbox::default(),
            early: Outbox::default(),
            calls: Calls::new(config.limits.in_flight_max),
            failed: VecDeque::new(),
            server: None,
            heartbeat: None,
            connect_until: now + config.limits.connect_timeout,
            unfinished_bytes: 0,
            written_at: now,
            closed: None,
            told: false,
            config: Arc::clone(&config),
        };
        let handshake = conn.outbox.append(|out| {
            packet::encode_with(PacketKind::Handshake, out, |body| {
                config.handshake.encode(body);
                Ok::<(), packet::TooLarge>(())
            })
        });
        if let Err(error) = handshake {
            conn.lose(CloseReason::HandshakeRefused(error.to_string()));
        }
        conn
    }

    fn receive<'i>(
        &mut self, now: Instant, packet: Packet<'i>, scratch: &mut Scratch,
    ) -> Result<Option<News<'i, W>>, CloseReason> {
        match step(Side::Client, self.phase, packet.kind) {
            Step::Receive => self.message(packet.body),
            Step::Hear => Ok(None),
            Step::Shake => self.open(now, packet.body, scratch).map(Some),
            Step::Kicked => {
                Err(CloseReason::Kicked(kick::parse(packet.body, limits::KICK_BYTES_MAX)))
            }
            Step::Open | Step::Refuse => Err(CloseReason::Unexpected(packet.kind)),
        }
    }

    fn open<'i>(
        &mut self, now: Instant, body: &[u8], scratch: &mut Scratch,
    ) -> Result<News<'i, W>, CloseReason> {
        let server = HandshakeResponse::parse(body, scratch, self.config.limits.received_bytes_max)
            .map_err(CloseReason::BadHandshakeResponse)?;
        if server.code != HandshakeResponse::ACCEPTED {
            let why = format!("the server answers with code {}", server.code);
            return Err(CloseReason::HandshakeRefused(why));
        }
        let asked = Some(server.heartbeat).filter(|period| !period.is_zero());
        self.heartbeat =
            asked.map(|period| Heartbeat::new(period.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX), now));
        self.phase = Phase::Working;
        let ack = self.write(now, |out| packet::encode(PacketKind::HandshakeAck, &[], out));
        ack.expect("an empty body fits every packet");
        self.outbox.append_all(std::mem::take(&mut self.early));
        let server = Arc::new(server);
        self.server = Some(Arc::clone(&server));
        Ok(News::Opened(server))
    }

    fn message<'i>(&mut self, bytes: &'i [u8]) -> Result<Option<News<'i, W>>, CloseReason> {
        match Message::decode(bytes).map_err(CloseReason::BadMessage)? {
            Message::Push { route, body } => {
                Ok(Some(News::Message(Target::Route(self.route(route)?), body)))
            }
            Message::Response { id, error, body } => {
                let waiter = RequestId::from_wire(id).and_then(|id| self.calls.finish(id));
                if waiter.is_none() {
                    self.config.counters.add(Counter::RepliesLate);
                }
                Ok(waiter.map(|waiter| News::Message(Target::Waiter { waiter, error }, body)))
            }
            Message::Notify { .. } | Message::Request { .. } => Err(CloseReason::UnexpectedMessage),
        }
    }

    fn route<'i>(&self, route: Route<'i>) -> Result<Cow<'i, str>, CloseReason> {
        match route {
            Route::Name(name) => Ok(String::from_utf8_lossy(name)),
            Route::Code(code) => {
                let server = self.server.as_ref();
                let route = server.and_then(|server| server.dictionary.route(code));
                let route = route.ok_or(CloseReason::UnknownRouteCode(code))?;
                Ok(Cow::Owned(route.to_owned()))
            }
        }
    }

    /// Inflates last, when nothing else needs the scratch.
    fn deliver<'e>(
        &mut self, (target, body): (Target<'e, W>, Body<'e>), scratch: &'e mut Scratch,
    ) -> Option<ClientEvent<'e, W>> {
        match (target, body.inflate(scratch, self.config.limits.received_bytes_max)) {
            (Target::Route(route), Ok(body)) => Some(ClientEvent::Push { route, body }),
            (Target::Waiter { waiter, error }, Ok(body)) => {
                let result = if error { Err(self.decode_error(body)) } else { Ok(body) };
                Some(ClientEvent::Reply { waiter, result })
            }
            (target, Err(error)) => {
                let reason = CloseReason::BadInflate(error);
                if let Target::Waiter { waiter, .. } = target {
                    self.failed.push_back((waiter, reason.no_reply()));
                }
                self.lose(reason);
                self.poll_ended()
            }
        }
    }

    fn decode_error(&self, body: &[u8]) -> Error {
        let json = self.server.as_ref().is_none_or(|server| server.serializer == "json");
        if json { Error::from_json(body) } else { Error::from_protobuf(body) }
    }

    /// Whoever gets no reply, and at last the reason of the end.
    fn poll_ended<'e>(&mut self) -> Option<ClientEvent<'e, W>> {
        if let Some((waiter, error)) = self.failed.pop_front() {
            return Some(ClientEvent::Reply { waiter, result: Err(error) });
        }
        let reason = self.closed.as_ref().filter(|_| !self.told)?;
        self.told = true;
        Some(ClientEvent::Closed(reason.clone()))
    }

    fn request(&mut self, now: Instant, request: ClientRequest<W>, scratch: &mut Scratch) {
        let ClientRequest { route, body, deadline, waiter } = request;
        if let Some(reason) = &self.closed {
            let error = reason.no_reply();
            return self.failed.push_back((waiter, error));
        }
        let id = match self.calls.start(deadline, waiter) {
            Ok(id) => id,
            Err(TooMany(waiter)) => {
                return self.refuse(waiter, Error::new(error::TOO_MANY_REQUESTS, TOO_MANY));
            }
        };
        let sent = self.send(now, &route, &body, scratch, |route, body| {
            let id = u64::from(id.get());
            Message::Request { id, route, body }
        });
        if let Err(error) = sent
            && let Some(waiter) = self.calls.finish(id)
        {
            self.refuse(waiter, error);
        }
    }

    fn refuse(&mut self, waiter: W, error: Error) {
        self.config.counters.add(Counter::RequestsRefused);
        self.failed.push_back((waiter, error));
    }

    fn notify(&mut self, now: Instant, route: &str, body: &[u8], scratch: &mut Scratch) {
        let sent =
            self.send(now, route, body, scratch, |route, body| Message::Notify { route, body });
        if let Err(error) = sent {
            self.config.counters.add(Counter::NotifiesDropped);
            tracing::warn!(route, %error, "a notify was not sent");
        }
    }

    fn send<'m>(
        &mut self, now: Instant, route: &'m str, body: &'m [u8], scratch: &'m mut Scratch,
        message: impl FnOnce(Route<'m>, Body<'m>) -> Message<'m>,
    ) -> Result<(), Error> {
        let config = &self.config;
        let waiting = if self.phase == Phase::Working { &self.outbox } else { &self.early };
        if waiting.has_remaining()
            && (waiting.packets() >= config.limits.outbound_packets_max
                || waiting.remaining() + body.len() > config.limits.outbound_bytes_max)
        {
            return Err(Error::new(error::TOO_MANY_REQUESTS, OUTBOX_FULL));
        }
        let server = self.server.as_ref();
        let code = server.and_then(|server| server.dictionary.code(route));
        let route = code.map_or(Route::Name(route.as_bytes()), Route::Code);
        let worth_it = config.compression && body.len() >= config.limits.compression_bytes_min;
        let body = if worth_it { Body::deflate(body, scratch) } else { Body::Plain(body) };
        self.write(now, |out| message(route, body).encode_packet(out)).map_err(
            |error| match error {
                EncodeError::RouteTooLong { .. } | EncodeError::ResponseToNothing => {
                    Error::bad_request(error.to_string())
                }
                EncodeError::TooLarge(error) => Error::new(error::TOO_LARGE, error.to_string()),
            },
        )
    }

    fn write<E>(
        &mut self, now: Instant, packet: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.phase == Phase::AwaitHandshake {
            return self.early.append(packet);
        }
        if self.phase == Phase::Closed {
            return Ok(());
        }
        if !self.outbox.has_remaining() {
            self.written_at = now;
        }
        self.outbox.append(packet)
    }

    /// Ends the connection while the server may still read.
    fn close(&mut self, reason: CloseReason) {
        if self.closed.is_some() {
            return;
        }
        if let Some(counter) = reason.counter() {
            self.config.counters.add(counter);
        }
        let error = reason.no_reply();
        self.failed.extend(self.calls.fail_all().map(|waiter| (waiter, error.clone())));
        self.early.clear();
        self.phase = Phase::Closed;
        self.closed = Some(reason);
    }

    /// Ends the connection when nobody is left to write to, or nobody who understands.
    fn lose(&mut self, reason: CloseReason) {
        self.close(reason);
        self.outbox.clear();
    }

    fn expire(&mut self, now: Instant) {
        while let Some(waiter) = self.calls.expire(now) {
            self.config.counters.add(Counter::RequestsExpired);
            self.failed.push_back((waiter, error::CLIENT_REQUEST_TIMEOUT.into()));
        }
    }

    fn silent_at(&self) -> Option<Instant> {
        self.heartbeat.as_ref().filter(|_| self.phase == Phase::Working).map(Heartbeat::dead_at)
    }

    fn written_until(&self) -> Option<Instant> {
        let waits = self.outbox.has_remaining();
        waits.then(|| self.written_at + self.config.limits.write_timeout)
    }
}

impl<W> Machine for ClientConn<W> {
    type Event<'e> = ClientEvent<'e, W>;
    type Command = ClientCommand<W>;

    fn next<'i: 'e, 'e>(
        &mut self, now: Instant, input: &mut &'i [u8], scratch: &'e mut Scratch,
    ) -> Next<ClientEvent<'e, W>> {
        let message = loop {
            if let Some(event) = self.poll_ended() {
                return Next::Event(event);
            }
            if self.closed.is_some() {
                return Next::NeedBytes;
            }
            let before = input.len();
            match packet::decode(input, self.config.limits.received_bytes_max) {
                Ok(Some(packet)) => match self.receive(now, packet, scratch) {
                    Ok(Some(News::Message(target, body))) => break (target, body),
                    Ok(Some(News::Opened(server))) => {
                        return Next::Event(ClientEvent::Opened(server));
                    }
                    Ok(None) => {}
                    Err(reason) => self.lose(reason),
                },
                Ok(None) => {
                    // A large packet may take long, so each part of it proves the server alive.
                    if before > std::mem::replace(&mut self.unfinished_bytes, before)
                        && let Some(heartbeat) = &mut self.heartbeat
                    {
                        heartbeat.handle_heard(now);
                    }
                    return Next::NeedBytes;
                }
                Err(error) => self.lose(CloseReason::BadPacket(error)),
            }
            if let Some(heartbeat) = &mut self.heartbeat {
                heartbeat.handle_heard(now);
            }
        };
        self.deliver(message, scratch).map_or(Next::NeedBytes, Next::Event)
    }

    fn handle_command(&mut self, now: Instant, command: ClientCommand<W>, scratch: &mut Scratch) {
        match command {
            ClientCommand::Close(reason) => self.close(reason),
            ClientCommand::Notify { route, body } => self.notify(now, &route, &body, scratch),
            ClientCommand::Request(request) => self.request(now, request, scratch),
        }
    }

    fn handle_written(&mut self, now: Instant, bytes: usize) {
        if bytes > 0 {
            self.written_at = now;
        }
    }

    fn handle_eof(&mut self, _now: Instant, rest: usize) {
        let inside = rest > 0;
        self.lose(if inside { CloseReason::EndInsidePacket } else { CloseReason::PeerClosed });
    }

    fn handle_failure(&mut self, _now: Instant, kind: io::ErrorKind) {
        self.lose(CloseReason::Io(kind));
    }

    fn handle_timeout(&mut self, now: Instant, _scratch: &mut Scratch) {
        self.expire(now);
        if self.phase == Phase::AwaitHandshake && self.connect_until <= now {
            self.lose(CloseReason::HandshakeTimeout);
        }
        if self.written_until().is_some_and(|until| until <= now) {
            self.lose(CloseReason::SlowReader);
        }
        if self.silent_at().is_some_and(|until| until <= now) {
            self.lose(CloseReason::Silent);
        }
        if let Some(heartbeat) = &mut self.heartbeat
            && heartbeat.handle_timeout(now)
        {
            let beat = self.write(now, |out| packet::encode(PacketKind::Heartbeat, &[], out));
            beat.expect("an empty body fits every packet");
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::AwaitAck | Phase::AwaitHandshake => Some(self.connect_until),
            Phase::Closed => None,
            Phase::Working => self.heartbeat.as_ref().map(Heartbeat::next_beat),
        };
        let server = earlier(self.silent_at(), self.written_until());
        earlier(earlier(phase, server), self.calls.poll_timeout())
    }

    fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    fn is_finished(&self) -> bool {
        self.told && !self.outbox.has_remaining()
    }
}

/// A server asks for whole seconds; less or more than this is a mistake, and must not make a client
/// spin or time overflow.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
const HEARTBEAT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const TOO_MANY: &str = "too many requests in flight";
const OUTBOX_FULL: &str = "too much waits to be sent";
