//! The book of one session: what its client asked, which calls ran, and what the client was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use pitaya_core::{
    Call, CallKey, Command, Error, Event, Instant, Limits, Machine, Player, Reply, RouteTable,
};
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, Packet, PacketKind};

use crate::line::{Judge, Reader};
use crate::speech::{inflated, number, numbered, plain};
use crate::transcript::{ServerOrder, Transcript};

/// Judges whatever a player says and writes.
pub(crate) struct Ledger {
    pub(crate) limits: Limits,
    pub(crate) transcript: Transcript,
    routes: Arc<RouteTable>,
    opened: bool,
    detached: bool,
    closed: bool,
    inflates: bool,
    reads_codes: bool,
    /// What the player was like before its last turn.
    is_full: bool,
    is_open: bool,
    order: ServerOrder,
    reader: Reader,
    /// Calls that the player took from the client, in their order.
    asked: Vec<Asked>,
    /// How many of them cannot start any more, because an ordered one behind them did.
    passed: usize,
    running: BTreeMap<CallKey, Running>,
    /// The last that was made, and the last that the client read.
    pushes: u32,
    pushed: u32,
}

struct Asked {
    at: Instant,
    body: Vec<u8>,
    request: u64,
    answers: usize,
    started: bool,
}

struct Running {
    asked_at: Instant,
    body: Vec<u8>,
    ordered: bool,
    request: u64,
    since: Instant,
}

impl Ledger {
    pub(crate) fn new(limits: Limits, routes: Arc<RouteTable>) -> Self {
        Self {
            limits,
            transcript: Transcript::default(),
            routes,
            opened: false,
            detached: false,
            closed: false,
            inflates: false,
            reads_codes: false,
            is_full: false,
            is_open: false,
            order: ServerOrder::default(),
            reader: Reader::default(),
            asked: Vec::new(),
            passed: 0,
            running: BTreeMap::new(),
            pushes: 0,
            pushed: 0,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.detached && !self.closed
    }

    pub(crate) fn is_working(&self) -> bool {
        self.opened && !self.detached && !self.closed
    }

    /// A number that grows whenever something happens.
    pub(crate) fn progress(&self) -> usize {
        self.transcript.events.len() + self.transcript.written.len()
    }

    /// A push with the next number, while there is somebody to push to.
    pub(crate) fn push(&mut self, bytes: u8) -> Option<Command> {
        let is_open = self.opened && !self.closed;
        self.pushes += u32::from(is_open);
        let body = numbered(self.pushes, bytes).into();
        is_open.then(|| Command::Push("on.news".into(), body))
    }

    /// The number of the last push.
    pub(crate) fn pushes(&self) -> u32 {
        self.pushes
    }

    /// The end of one of the handlers that run; its reply is the body of its call made longer, or
    /// an error.
    pub(crate) fn reply(&mut self, at: u8, bytes: u8, error: bool) -> Option<Command> {
        let key = *self.running.keys().nth(usize::from(at) % self.running.len().max(1))?;
        let mut body = self.running.remove(&key)?.body;
        body.resize(body.len() + usize::from(bytes), b'.');
        let reply = if error { Reply::error(ERROR) } else { Reply::ok(body) };
        Some(Command::Reply(key, reply))
    }

    /// The client is back on another stream, as the Go client.
    pub(crate) fn reconnect(&mut self) {
        self.detached = false;
        (self.inflates, self.reads_codes) = (true, true);
        self.reader.reconnect();
        self.order = ServerOrder::accepted();
    }

    /// The client reads.
    pub(crate) fn read(&mut self, now: Instant, written: &[u8]) {
        self.order.check(written, self.opened);
        let mut reader = std::mem::take(&mut self.reader);
        reader.read(written, |packet| self.on_written(now, packet));
        self.reader = reader;
        self.transcript.written.extend(written);
    }

    pub(crate) fn all_are_answered(&self) {
        for asked in self.asked.iter().filter(|asked| asked.request != 0) {
            assert_eq!(asked.answers, 1, "request {} of {}", asked.request, asked.at);
        }
    }

    /// All that was written is read, so an answer that is due has come.
    pub(crate) fn none_is_overdue(&self, now: Instant) {
        let requests = self.asked.iter().filter(|asked| asked.request != 0 && asked.answers == 0);
        let overdue = requests.filter(|asked| asked.at + self.limits.call_deadline <= now);
        let overdue: Vec<_> = overdue.map(|asked| asked.request).collect();
        assert!(!self.is_working() || overdue.is_empty(), "{overdue:?} at {now}");
        let oldest = self.running.values().map(|running| running.since).min();
        assert!(oldest.is_none_or(|since| now < since + self.limits.call_hard_limit));
    }

    fn on_asked(&mut self, at: Instant, message: Message<'_>) {
        let (request, body) = match message {
            Message::Notify { body, .. } => (0, body),
            Message::Request { id, body, .. } => (id, body),
            Message::Push { .. } | Message::Response { .. } => return,
        };
        // A call that is refused for its route is refused whatever its body.
        let body = inflated(body, self.limits.inflated_bytes_max).unwrap_or_default();
        self.asked.push(Asked { at, body, request, answers: 0, started: false });
    }

    fn on_call(&mut self, now: Instant, call: Call<'_>) {
        assert!(self.opened && !self.closed && self.is_open, "a call of nobody");
        assert!(!self.is_full, "a call whose reply finds no room");
        let ordered = &**self.routes.name(call.route) != "t.free";
        let request = call.request.map_or(0, u64::from);
        let from = if ordered { self.passed } else { 0 };
        let found = self.asked.iter().enumerate().skip(from).find(|(_, asked)| {
            !asked.started && asked.request == request && asked.body == *call.body
        });
        let (at, _) = found.expect("what the client asked, in its order, once");
        self.asked[at].started = true;
        let asked_at = self.asked[at].at;
        let is_answered = |twin: &Running| now >= twin.asked_at + SHORTEST_DEADLINE;
        let mut twins = self.running.values().filter(|running| running.request == request);
        assert!(request == 0 || twins.all(is_answered), "request {request} twice at a time");
        if ordered {
            self.passed = at + 1;
            assert!(self.running.values().all(|running| !running.ordered), "two have the turn");
        }
        let body = call.body.into_owned();
        let running = Running { asked_at, body, ordered, request, since: now };
        assert!(self.running.insert(call.key, running).is_none(), "a key comes twice");
    }

    fn on_written(&mut self, now: Instant, packet: Packet<'_>) {
        match packet.kind {
            PacketKind::Data => {}
            PacketKind::Handshake | PacketKind::Heartbeat | PacketKind::Kick => return,
            PacketKind::HandshakeAck => panic!("a server acknowledges nothing"),
        }
        let plain = |body: Body<'_>| {
            assert!(self.inflates || matches!(body, Body::Plain(_)), "it cannot inflate");
            plain(body)
        };
        match Message::decode(packet.body).expect("it is ours") {
            Message::Push { route, body } => {
                assert!(self.reads_codes || matches!(route, Route::Name(_)), "it reads no codes");
                self.pushed += 1;
                assert_eq!(number(&plain(body)), Some(self.pushed), "pushes in their order");
            }
            Message::Response { id, error, body } => {
                let body = plain(body);
                self.on_answer(now, id, error, &body);
            }
            Message::Notify { .. } | Message::Request { .. } => panic!("a server that asks"),
        }
    }

    /// An id may be used again once it is answered; the older request is answered first.
    fn on_answer(&mut self, now: Instant, id: u64, error: bool, body: &[u8]) {
        let mut open =
            self.asked.iter_mut().filter(|asked| asked.request == id && asked.answers == 0);
        let asked = open.next().expect("an answer to what was asked, once");
        asked.answers += 1;
        if !error {
            let echo = body.strip_prefix(&asked.body[..]).expect("its own answer");
            assert!(asked.started && echo.iter().all(|byte| *byte == b'.'));
            return;
        }
        let code = Error::from_json(body).code;
        if code == "PIT-408" {
            assert!(now >= asked.at + SHORTEST_DEADLINE, "a timeout too early");
        } else {
            assert!(code.starts_with("PIT-") || asked.started, "{code}");
        }
    }
}

impl Judge<Player> for Ledger {
    fn on_turn(&mut self, machine: &mut Player) {
        let outbox = machine.outbox();
        self.is_full = outbox.packets() >= self.limits.outbound_packets_max
            || outbox.remaining() >= self.limits.outbound_bytes_max;
        self.is_open = machine.is_open();
    }

    fn on_paused(&mut self, _now: Instant) {}

    fn on_taken(&mut self, now: Instant, bytes: &[u8]) {
        let is_over = self.closed || self.detached;
        assert!(bytes.is_empty() || !self.is_full || is_over, "it reads what it may not answer");
        let mut input = bytes;
        while let Ok(Some(packet)) = packet::decode(&mut input, usize::MAX) {
            if packet.kind == PacketKind::Data
                && self.is_working()
                && let Ok(message) = Message::decode(packet.body)
            {
                self.on_asked(now, message);
            }
        }
    }

    fn on_event(&mut self, now: Instant, event: Event<'_>) {
        self.transcript.events.push(format!("{now} {event:?}"));
        match event {
            Event::Abandoned(key) => {
                let running = self.running.remove(&key).expect("only what runs is dropped");
                let limit = running.since + SHORTEST_HARD_LIMIT;
                assert!(now >= limit || self.closed, "dropped too early");
            }
            Event::Call(call) => self.on_call(now, call),
            Event::Closed(_) => {
                assert!(!self.closed, "a second end");
                self.closed = true;
            }
            Event::Detached(reason) => {
                assert!(self.is_working() && reason.is_loss());
                assert!(!self.limits.resume_window.is_zero());
                self.detached = true;
            }
            Event::Forward(_) => panic!("nothing is forwarded here"),
            Event::Opened(request) => {
                assert!(!self.opened && !self.closed);
                self.opened = true;
                self.inflates = request.inflates();
                self.reads_codes = request.reads_route_codes();
            }
        }
    }
}

const ERROR: &[u8] = br#"{"code":"X-1","msg":"no"}"#;
/// Of all routes in the scripts.
const SHORTEST_DEADLINE: Duration = Duration::from_secs(1);
const SHORTEST_HARD_LIMIT: Duration = Duration::from_secs(2);
