//! A connection to a server as its client sees it: handshake, requests in flight, pushes.

mod config;
mod event;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use pitaya_proto::error::{self, Error};
use pitaya_proto::handshake::HandshakeResponse;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, Packet, PacketKind};
use pitaya_proto::zlib::Scratch;
use pitaya_proto::{kick, limits};

use crate::calls::{Calls, RequestId};
use crate::conn::CloseReason;
use crate::conn::heartbeat::Heartbeat;
use crate::conn::line::Line;
use crate::conn::phase::{Side, Step, step};
use crate::{Counter, Instant, Machine, Next, Outbox, earlier};

pub use config::ClientConfig;
pub use event::{ClientCommand, ClientEvent, ClientRequest, RequestError};

/// The client's end of a connection. `W` is whoever waits for a reply; every waiter comes back
/// exactly once in a [`ClientEvent::Reply`], the last of them before [`ClientEvent::Closed`].
///
/// The handshake waits in the outbox from the start. Requests and notifies that come before the
/// server has accepted it are not sent.
#[derive(Debug)]
pub struct ClientConn<W> {
    config: Arc<ClientConfig>,
    line: Line,
    /// In which packet each request is, and who waits.
    calls: Calls<(u64, W)>,
    /// Waiters who get no reply from the server, and do not know it yet.
    failed: VecDeque<(W, RequestError)>,
    server: Option<Arc<HandshakeResponse>>,
    /// The beginning is not told yet.
    opens: bool,
    /// How much of an unfinished packet was there when it was looked at last.
    unfinished_bytes: usize,
}

/// A message for the owner; its body may still be compressed.
type News<'i, W> = (Target<'i, W>, Body<'i>);

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
            line: Line::new(now, now + config.limits.connect_timeout),
            calls: Calls::new(config.limits.in_flight_max),
            failed: VecDeque::new(),
            server: None,
            opens: false,
            unfinished_bytes: 0,
            config: Arc::clone(&config),
        };
        conn.line.inflates = config.compression;
        let mut body = Vec::new();
        config.handshake.encode(&mut body);
        let handshake = |out: &mut Vec<u8>| packet::encode(PacketKind::Handshake, &body, out);
        if let Err(error) = conn.line.write(now, handshake) {
            conn.lose(CloseReason::HandshakeRefused(error.to_string()));
        }
        conn
    }

    fn receive<'i>(
        &mut self, now: Instant, packet: Packet<'i>, scratch: &mut Scratch,
    ) -> Result<Option<News<'i, W>>, CloseReason> {
        match step(Side::Client, self.line.phase, packet.kind) {
            Step::Receive => self.message(packet.body),
            Step::Hear => Ok(None),
            Step::Shake => self.open(now, packet.body, scratch).map(|()| None),
            Step::Kicked => {
                Err(CloseReason::Kicked(kick::parse(packet.body, limits::KICK_BYTES_MAX)))
            }
            Step::Open | Step::Refuse => Err(CloseReason::Unexpected(packet.kind)),
        }
    }

    fn open(
        &mut self, now: Instant, body: &[u8], scratch: &mut Scratch,
    ) -> Result<(), CloseReason> {
        let server = HandshakeResponse::parse(body, scratch, self.config.limits.received_bytes_max)
            .map_err(CloseReason::BadHandshakeResponse)?;
        if server.code != HandshakeResponse::ACCEPTED {
            let why = format!("the server answers with code {}", server.code);
            return Err(CloseReason::HandshakeRefused(why));
        }
        let asked = Some(server.heartbeat).filter(|period| !period.is_zero());
        let period = asked.map(|period| period.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX));
        self.line.open(period.map(|period| Heartbeat::new(period, now)));
        self.line.write_empty(now, PacketKind::HandshakeAck);
        (self.server, self.opens) = (Some(Arc::new(server)), true);
        Ok(())
    }

    fn message<'i>(&mut self, bytes: &'i [u8]) -> Result<Option<News<'i, W>>, CloseReason> {
        match Message::decode(bytes).map_err(CloseReason::BadMessage)? {
            Message::Push { route, body } => Ok(Some((Target::Route(self.route(route)?), body))),
            Message::Response { id, error, body } => {
                let asked = RequestId::from_wire(id).and_then(|id| self.calls.finish(id));
                self.config.counters.add_many(Counter::RepliesLate, asked.is_none().into());
                Ok(asked.map(|(_, waiter)| (Target::Waiter { waiter, error }, body)))
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
        &mut self, (target, body): News<'e, W>, scratch: &'e mut Scratch,
    ) -> Option<ClientEvent<'e, W>> {
        match (target, body.inflate(scratch, self.config.limits.received_bytes_max)) {
            (Target::Route(route), Ok(body)) => Some(ClientEvent::Push { route, body }),
            (Target::Waiter { waiter, error }, Ok(body)) => {
                let answer = |body| RequestError::Answered(self.decode_error(body));
                let result = if error { Err(answer(body)) } else { Ok(body) };
                Some(ClientEvent::Reply { waiter, result })
            }
            (target, Err(error)) => {
                let reason = CloseReason::BadInflate(error);
                if let Target::Waiter { waiter, .. } = target {
                    let unread = RequestError::Answered(reason.no_reply());
                    self.failed.push_back((waiter, unread));
                }
                self.lose(reason);
                self.poll_event()
            }
        }
    }

    fn decode_error(&self, body: &[u8]) -> Error {
        let json = self.server.as_ref().is_none_or(|server| server.serializer == "json");
        if json { Error::from_json(body) } else { Error::from_protobuf(body) }
    }

    /// What no message brings: the beginning, whoever gets no reply, and at last the end.
    fn poll_event<'e>(&mut self) -> Option<ClientEvent<'e, W>> {
        if std::mem::take(&mut self.opens) {
            return self.server.clone().map(ClientEvent::Opened);
        }
        if let Some((waiter, error)) = self.failed.pop_front() {
            return Some(ClientEvent::Reply { waiter, result: Err(error) });
        }
        self.line.poll_closed().map(ClientEvent::Closed)
    }

    fn request(&mut self, now: Instant, request: ClientRequest<W>, scratch: &mut Scratch) {
        let ClientRequest { route, body, deadline, waiter } = request;
        let packet = self.line.outbox.appended();
        let id = match self.calls.start(deadline, (packet, waiter)) {
            Ok(id) => id,
            Err((_, waiter)) => {
                return self.refuse(waiter, Error::new(error::TOO_MANY_REQUESTS, TOO_MANY));
            }
        };
        let sent = self.send(now, &route, &body, scratch, |route, body| {
            let id = u64::from(id.get());
            Message::Request { id, route, body }
        });
        if let Err(error) = sent
            && let Some((_, waiter)) = self.calls.finish(id)
        {
            self.refuse(waiter, error);
        }
    }

    fn refuse(&mut self, waiter: W, error: Error) {
        self.config.counters.add(Counter::RequestsRefused);
        self.failed.push_back((waiter, RequestError::Unsent(error)));
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
        let server = match (&self.server, &self.line.closed) {
            (Some(server), None) => server,
            (_, Some(reason)) => return Err(reason.no_reply()),
            (None, None) => return Err(error::PIPE_BROKEN.into()),
        };
        if !self.line.outbox.has_room(body.len(), &self.config.limits) {
            return Err(Error::new(error::TOO_MANY_REQUESTS, OUTBOX_FULL));
        }
        let code = server.dictionary.code(route);
        let route = code.map_or(Route::Name(route.as_bytes()), Route::Code);
        let message = message(route, self.line.body(body, scratch, &self.config.limits));
        self.line.write(now, |out| message.encode_packet(out)).map_err(Error::from)
    }

    /// Ends the connection when nobody is left to write to, or nobody who understands.
    fn lose(&mut self, reason: CloseReason) {
        self.end(reason, self.line.outbox.first_unsent());
        self.line.outbox.clear();
    }

    /// Tells all who wait that no reply comes. Packets from `first_unsent` on will not be sent.
    fn end(&mut self, reason: CloseReason, first_unsent: u64) {
        if self.line.closed.is_some() {
            return;
        }
        let error = reason.no_reply();
        self.failed.extend(self.calls.fail_all().map(|(packet, waiter)| {
            let fate =
                if packet < first_unsent { RequestError::Unknown } else { RequestError::Unsent };
            (waiter, fate(error.clone()))
        }));
        self.line.close(reason, &self.config.counters);
    }
}

impl<W> Machine for ClientConn<W> {
    type Event<'e> = ClientEvent<'e, W>;
    type Command = ClientCommand<W>;

    fn next<'i: 'e, 'e>(
        &mut self, now: Instant, input: &mut &'i [u8], scratch: &'e mut Scratch,
    ) -> Next<ClientEvent<'e, W>> {
        let message = loop {
            if let Some(event) = self.poll_event() {
                return Next::Event(event);
            }
            if self.line.closed.is_some() {
                *input = &[];
                return Next::NeedBytes;
            }
            let before = input.len();
            match packet::decode(input, self.config.limits.received_bytes_max) {
                Ok(Some(packet)) => {
                    self.line.handle_heard(now);
                    match self.receive(now, packet, scratch) {
                        Ok(Some(message)) => break message,
                        Ok(None) => {}
                        Err(reason) => self.lose(reason),
                    }
                }
                Ok(None) => {
                    // A large packet may take long, so each part of it proves the server alive.
                    if before > std::mem::replace(&mut self.unfinished_bytes, before) {
                        self.line.handle_heard(now);
                    }
                    return Next::NeedBytes;
                }
                Err(error) => self.lose(CloseReason::BadPacket(error)),
            }
        };
        self.deliver(message, scratch).map_or(Next::NeedBytes, Next::Event)
    }

    fn handle_command(&mut self, now: Instant, command: ClientCommand<W>, scratch: &mut Scratch) {
        match command {
            // What waits is still sent, while the server may read.
            ClientCommand::Close(reason) => self.end(reason, u64::MAX),
            ClientCommand::Notify { route, body } => self.notify(now, &route, &body, scratch),
            ClientCommand::Request(request) => self.request(now, request, scratch),
        }
    }

    fn handle_written(&mut self, now: Instant, bytes: usize) {
        self.line.handle_written(now, bytes);
    }

    fn handle_end(&mut self, _now: Instant, how: CloseReason) {
        self.lose(how);
    }

    fn handle_timeout(&mut self, now: Instant, _scratch: &mut Scratch) {
        while let Some((_, waiter)) = self.calls.expire(now) {
            self.config.counters.add(Counter::RequestsExpired);
            let timeout = RequestError::Unknown(error::CLIENT_REQUEST_TIMEOUT.into());
            self.failed.push_back((waiter, timeout));
        }
        if let Some(reason) = self.line.handle_timeout(now, &self.config.limits) {
            self.lose(reason);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.line.poll_timeout(&self.config.limits), self.calls.poll_timeout())
    }

    fn outbox(&mut self) -> &mut Outbox {
        &mut self.line.outbox
    }

    fn is_finished(&self) -> bool {
        self.line.told && !self.line.outbox.has_remaining()
    }
}

/// A server asks for whole seconds; less or more than this is a mistake, and must not make a client
/// spin or time overflow.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
const HEARTBEAT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const TOO_MANY: &str = "too many requests in flight";
const OUTBOX_FULL: &str = "too much waits to be sent";
