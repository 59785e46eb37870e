//! A player with a clock, fed with the bytes of a client, whose news and packets read as lines of
//! text.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use pitaya_core::{
    CallKey, CloseReason, Codec, Command, ConnConfig, Counter, Event, Instant, Json, Limits,
    Machine, Next, Options, Player, Reply, RouteEntry, RouteTable,
};
use pitaya_proto::dictionary::Dictionary;
use pitaya_proto::error::Error;
use pitaya_proto::kick;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, Packet, PacketKind};
use pitaya_proto::zlib::Scratch;

/// The machine and everything around it.
pub(crate) struct Rig {
    pub(crate) now: Instant,
    pub(crate) player: Player,
    pub(crate) paused: bool,
    config: Arc<ConnConfig>,
    routes: Arc<RouteTable>,
    scratch: Scratch,
    /// What the machine left of the input.
    held: Vec<u8>,
    /// Calls that started, by their bodies.
    started: Vec<(String, CallKey)>,
    /// What was taken from the outbox and ends inside a packet.
    torn: Vec<u8>,
}

impl Rig {
    /// A client that has connected just now.
    pub(crate) fn connected(limits: Limits) -> Self {
        Self::with_config(ConnConfig::new("json", dictionary(), limits).expect("it is small"))
    }

    pub(crate) fn with_config(config: ConnConfig) -> Self {
        let (now, config) = (Instant::from_micros(7), Arc::new(config));
        let routes = RouteTable::new("gate", routes(), Json::encode_error);
        let routes = Arc::new(routes.expect("they do not contradict each other"));
        Self {
            now,
            player: Player::new(Arc::clone(&config), Arc::clone(&routes), now),
            paused: false,
            config,
            routes,
            scratch: Scratch::new(),
            held: Vec::new(),
            started: Vec::new(),
            torn: Vec::new(),
        }
    }

    /// A client that is ready to work; of what it was sent nothing is left.
    pub(crate) fn working(limits: Limits) -> Self {
        let mut rig = Self::connected(limits);
        rig.open(GO);
        rig
    }

    pub(crate) fn open(&mut self, handshake: &str) {
        assert_eq!(self.feed(&shake(handshake)), [""; 0]);
        assert_eq!(self.sent(), ["handshake 200"]);
        assert_eq!(self.feed(&ack()), ["opened"]);
    }

    /// Another connection of the same server, ready to work.
    pub(crate) fn newcomer(&mut self) -> Player {
        let (config, routes) = (Arc::clone(&self.config), Arc::clone(&self.routes));
        let lost = std::mem::replace(&mut self.player, Player::new(config, routes, self.now));
        let held = std::mem::take(&mut self.held);
        self.torn.clear();
        self.open(GO);
        self.held = held;
        std::mem::replace(&mut self.player, lost)
    }

    /// The client sends bytes; everything that follows from them.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        self.receive(bytes);
        self.news()
    }

    /// The client sends bytes, which nobody looks at yet.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Everything that is new, without bytes.
    pub(crate) fn news(&mut self) -> Vec<String> {
        let mut news = Vec::new();
        while let Some(line) = self.next() {
            news.push(line);
        }
        news
    }

    /// One piece of news.
    pub(crate) fn next(&mut self) -> Option<String> {
        let held = std::mem::take(&mut self.held);
        let mut input = &held[..];
        let next = self.player.next(self.now, &mut input, &mut self.scratch);
        self.paused = matches!(next, Next::Paused);
        let line = match next {
            Next::Event(event) => Some(line(event, &self.routes, &mut self.started)),
            Next::NeedBytes | Next::Paused => None,
        };
        self.held = input.to_vec();
        line
    }

    /// Lets time pass, deadline by deadline; everything that follows from it.
    pub(crate) fn pass(&mut self, duration: Duration) -> Vec<String> {
        let until = self.now + duration;
        let mut news = Vec::new();
        while let Some(deadline) = self.player.poll_timeout().filter(|at| *at <= until) {
            assert!(deadline >= self.now || self.now == until, "a deadline lies in the past");
            self.now = self.now.max(deadline);
            self.player.handle_timeout(self.now, &mut self.scratch);
            let again = self.player.poll_timeout().is_some_and(|next| next <= self.now);
            assert!(!again, "a deadline that was acted on does not go away");
            news.extend(self.news());
        }
        self.now = until;
        news
    }

    pub(crate) fn command(&mut self, command: Command) -> &mut Self {
        self.player.handle_command(self.now, command, &mut self.scratch);
        self
    }

    /// Answers the call with that body.
    pub(crate) fn reply(&mut self, call: &str, reply: &str) -> &mut Self {
        let key = self.key(call);
        self.command(Command::Reply(key, Reply::ok(Bytes::from(reply.to_owned()))))
    }

    pub(crate) fn push(&mut self, body: &str) -> &mut Self {
        self.command(Command::Push("on.news".into(), body.to_owned().into()))
    }

    pub(crate) fn push_to(&mut self, other: &mut Player, body: &str) {
        std::mem::swap(&mut self.player, other);
        self.push(body);
        std::mem::swap(&mut self.player, other);
    }

    /// The socket fails.
    pub(crate) fn fail(&mut self) {
        self.player.handle_end(self.now, CloseReason::Io(std::io::ErrorKind::ConnectionReset));
    }

    pub(crate) fn eof(&mut self) -> Vec<String> {
        let rest = self.held.len();
        self.player.handle_end(self.now, CloseReason::end(rest));
        self.news()
    }

    /// The socket takes so many bytes.
    pub(crate) fn write(&mut self, bytes: usize) {
        let outbox = self.player.outbox();
        let mut taken = vec![0; bytes.min(outbox.remaining())];
        outbox.copy_to_slice(&mut taken);
        self.player.handle_written(self.now, taken.len());
        self.torn.extend(taken);
    }

    /// The socket takes everything; the packets that the client has got since it was last asked.
    pub(crate) fn sent(&mut self) -> Vec<String> {
        self.write(usize::MAX);
        self.whole_packets()
    }

    /// The packets that the client has got since it was last asked, as far as they are whole.
    pub(crate) fn whole_packets(&mut self) -> Vec<String> {
        let torn = std::mem::take(&mut self.torn);
        let mut input = &torn[..];
        let mut lines = Vec::new();
        while let Some(packet) = packet::decode(&mut input, packet::BODY_BYTES_MAX).expect("ours") {
            lines.push(sent_line(packet, &mut self.scratch));
        }
        self.torn = input.to_vec();
        lines
    }

    /// Lets time pass while everything is written.
    pub(crate) fn pass_writing(&mut self, duration: Duration) -> Vec<String> {
        let until = self.now + duration;
        let mut news = Vec::new();
        while self.now < until {
            news.extend(self.pass(until.since(self.now).min(seconds(1))));
            self.sent();
        }
        news
    }

    /// As [`sent`](Self::sent), on a new connection: what the lost one tore in half is gone with
    /// it.
    pub(crate) fn sent_anew(&mut self) -> Vec<String> {
        self.torn.clear();
        self.sent()
    }

    pub(crate) fn waiting_bytes(&mut self) -> usize {
        self.player.outbox().remaining()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.player.is_finished()
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.config.counters.count(counter)
    }

    /// The key of the call with that body.
    pub(crate) fn key(&self, call: &str) -> CallKey {
        let found = self.started.iter().rev().find(|(body, _)| body == call);
        found.unwrap_or_else(|| panic!("`{call}` has not started")).1
    }
}

/// What the Go client, the JavaScript one, libpitaya and the one for Cocos say of themselves.
pub(crate) const GO: &str = r#"{"sys":{"platform":"mac","libVersion":"0.3.5-release"}}"#;
pub(crate) const JS: &str = r#"{"sys":{"type":"js-websocket","version":"0.0.1","rsa":{}}}"#;
pub(crate) const LIBPITAYA: &str = r#"{"sys":{"platform":"desktop","libVersion":"4.6.2-"}}"#;
pub(crate) const COCOS: &str = r#"{"sys":{"type":"pitaya_cocos","version":"1.0.0"},"user":{}}"#;

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn shake(json: &str) -> Vec<u8> {
    packet(PacketKind::Handshake, json.as_bytes())
}

pub(crate) fn ack() -> Vec<u8> {
    packet(PacketKind::HandshakeAck, b"")
}

pub(crate) fn heartbeat() -> Vec<u8> {
    packet(PacketKind::Heartbeat, b"")
}

pub(crate) fn packet(kind: PacketKind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    packet::encode(kind, body, &mut out).expect("it fits a packet");
    out
}

pub(crate) fn request(id: u64, route: &str, body: &str) -> Vec<u8> {
    data(Message::Request { id, route: name(route), body: Body::Plain(body.as_bytes()) })
}

pub(crate) fn notify(route: &str, body: &str) -> Vec<u8> {
    data(Message::Notify { route: name(route), body: Body::Plain(body.as_bytes()) })
}

pub(crate) fn data(message: Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode_packet(&mut out).expect("the wire carries it");
    out
}

pub(crate) fn name(route: &str) -> Route<'_> {
    Route::Name(route.as_bytes())
}

fn dictionary() -> Dictionary {
    Dictionary::new([("t.ask", 1), ("on.news", 2), ("t.gone", 3)]).expect("each is there once")
}

fn routes() -> Vec<RouteEntry> {
    let request = |name: &str, options| RouteEntry { options, ..RouteEntry::request(name) };
    vec![
        request("t.ask", Options::default()),
        request("t.free", Options::concurrent()),
        request("t.quick", Options { deadline: Some(seconds(1)), ..Options::default() }),
        request("t.brief", Options { hard_limit: Some(seconds(2)), ..Options::default() }),
        request("t.torn", Options { cancel_on_close: true, ..Options::default() }),
        RouteEntry::notify("t.tell"),
    ]
}

fn line(event: Event<'_>, routes: &RouteTable, started: &mut Vec<(String, CallKey)>) -> String {
    match event {
        Event::Abandoned(key) => {
            let (body, _) = started.iter().find(|(_, started)| *started == key).expect("it ran");
            format!("abandoned {body}")
        }
        Event::Call(call) => {
            let body = String::from_utf8_lossy(&call.body).into_owned();
            started.push((body.clone(), call.key));
            format!("call {} {body}", routes.name(call.route))
        }
        Event::Closed(reason) => format!("closed: {reason}"),
        Event::Detached(reason) => format!("detached: {reason}"),
        Event::Forward(call) => {
            let body = String::from_utf8_lossy(&call.body).into_owned();
            started.extend(call.key.map(|key| (body, key)));
            let request = call.request.map(|request| request.get());
            format!("forward {} {request:?}", call.route)
        }
        Event::Opened(_) => "opened".to_owned(),
    }
}

pub(crate) fn sent_line(packet: Packet<'_>, scratch: &mut Scratch) -> String {
    match packet.kind {
        PacketKind::Handshake => {
            let json: serde_json::Value = serde_json::from_slice(packet.body).expect("ours");
            format!("handshake {}", json["code"])
        }
        PacketKind::HandshakeAck => panic!("a server acknowledges nothing"),
        PacketKind::Heartbeat => "heartbeat".to_owned(),
        PacketKind::Kick => {
            let reason = kick::parse(packet.body, 1024);
            format!("kick {}", reason.as_deref().unwrap_or("without a reason"))
        }
        PacketKind::Data => message_line(packet.body, scratch),
    }
}

fn message_line(body: &[u8], scratch: &mut Scratch) -> String {
    let mut text = |body: Body<'_>| {
        let zlib = if matches!(body, Body::Zlib(_)) { "zlib " } else { "" };
        let plain = body.inflate(scratch, packet::BODY_BYTES_MAX).expect("ours");
        format!("{zlib}{}", String::from_utf8_lossy(plain))
    };
    match Message::decode(body).expect("ours") {
        Message::Notify { .. } | Message::Request { .. } => panic!("a server calls nobody"),
        Message::Push { route: Route::Name(name), body } => {
            format!("push {} {}", String::from_utf8_lossy(name), text(body))
        }
        Message::Push { route: Route::Code(code), body } => format!("push {code} {}", text(body)),
        Message::Response { id, error: false, body } => format!("reply {id} {}", text(body)),
        Message::Response { id, error: true, body } => {
            let json = text(body);
            format!("error {id} {}", Error::from_json(json.as_bytes()))
        }
    }
}
