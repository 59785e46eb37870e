//! Another server as a machine: what its sessions call runs by the rules of guarantees, and a link
//! that is left ends when nothing is in flight.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use pitaya_core::cluster::{
    GuestCall, Incarnation, Lane, LinkCommand, LinkConfig, LinkEvent, Peer, PeerCommand, PeerEvent,
    ServerId, ServerInfo,
};
use pitaya_core::{
    CallKey, ConnConfig, Counter, Counters, Dictionary, Error, Instant, Limits, Machine, Next,
    Options, RouteEntry, RouteTable, SessionId, Visibility,
};
use pitaya_proto::protos::{Msg, MsgType, Request, Response, RpcType, Session};
use pitaya_proto::zlib::Scratch;
use prost::Message as _;

#[test]
fn calls_of_one_session_run_in_turn_and_those_of_two_do_not() {
    let mut pair = Pair::open(Limits::default());
    pair.call(1, 1, "t.ask", "a");
    pair.call(2, 1, "t.ask", "b");
    pair.call(3, 2, "t.ask", "c");
    assert_eq!(pair.settle(), ["room: 1 calls a", "room: 2 calls c"]);
    pair.reply(1, "a", Ok("A"));
    assert_eq!(pair.settle(), ["gate: 1 gets A", "room: 1 calls b"]);
    pair.reply(2, "c", Err(Error::new("ROOM-1", "no")));
    pair.reply(1, "b", Ok("B"));
    assert_eq!(pair.settle(), ["gate: 3 gets ROOM-1: no", "gate: 2 gets B"]);
}

#[test]
fn a_client_reaches_public_routes_only_and_only_through_a_frontend() {
    let mut pair = Pair::open(Limits::default());
    for (at, (route, said)) in [
        ("t.secret", "PIT-404: pitaya/handler: room.t.secret not found"),
        ("t.nobody", "PIT-404: pitaya/handler: room.t.nobody not found"),
        ("t.tell", "PIT-400: tried to request a notify route"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = at as u32 + 1;
        pair.call(id, 1, route, "a");
        assert_eq!(pair.settle(), [format!("gate: {id} gets {said}")]);
    }
    // A room has no clients: it cannot speak for one.
    pair.room_calls(request(Some(1), "gate.t.ask", "a", MsgType::MsgRequest));
    assert_eq!(pair.settle(), ["room: 1 gets PIT-403: route is not public"]);
}

#[test]
fn a_call_has_as_much_time_as_its_caller_has_left() {
    let mut pair = Pair::open(Limits::default());
    pair.call_within(1, 1, "t.ask", "a", Duration::from_secs(2));
    pair.call_within(2, 1, "t.ask", "b", Duration::from_secs(2));
    assert_eq!(pair.settle(), ["room: 1 calls a"]);
    assert_eq!(
        pair.pass(Duration::from_secs(2)),
        ["gate: 1 fails PIT-408: request timeout", "gate: 2 fails PIT-408: request timeout"]
    );
    pair.reply(1, "a", Ok("late"));
    assert_eq!(pair.settle(), [""; 0], "what waited never runs, and a late reply goes nowhere");
    assert_eq!(pair.room.count(Counter::CallsExpired), 2);
}

#[test]
fn one_call_too_many_of_a_session_is_answered_at_once() {
    let mut pair = Pair::open(Limits::default().calls_max(1));
    pair.call(1, 1, "t.ask", "a");
    pair.call(2, 1, "t.ask", "b");
    assert_eq!(pair.settle(), ["room: 1 calls a", "gate: 2 gets PIT-503: server is busy"]);
}

#[test]
fn when_a_session_closes_what_waits_never_runs_and_what_runs_goes_on() {
    let mut pair = Pair::open(Limits::default());
    pair.call(1, 1, "t.ask", "a");
    pair.call(2, 1, "t.ask", "b");
    pair.call(3, 2, "t.torn", "c");
    pair.settle();
    pair.gate.tell(pair.now, PeerCommand::Link(LinkCommand::SessionClosed(1)));
    pair.gate.tell(pair.now, PeerCommand::Link(LinkCommand::SessionClosed(2)));
    let over = |id: u32| format!("gate: {id} gets PIT-000: close closed session");
    let closed = ["room: session 1 closed", "room: session 2 closed", "room: 2 drops c"];
    let told: Vec<_> = closed.map(str::to_owned).into_iter().chain([2, 1, 3].map(over)).collect();
    assert_eq!(pair.settle(), told);
    pair.reply(1, "a", Ok("A"));
    assert_eq!(pair.settle(), [""; 0]);
    assert_eq!(pair.room.count(Counter::CallsDropped), 1);
    assert_eq!(pair.room.count(Counter::RepliesLate), 1);
}

#[test]
fn calls_of_a_session_that_closes_hold_no_place_and_no_link_that_is_left() {
    let mut pair = Pair::open(Limits::default().link_calls_max(3));
    for route in ["t.ask", "t.torn"] {
        pair.call(1, 1, route, "a");
        pair.call(2, 1, route, "b");
        pair.call(3, 1, route, "c");
        assert_eq!(pair.settle(), ["room: 1 calls a"]);
        pair.gate.tell(pair.now, PeerCommand::Link(LinkCommand::SessionClosed(1)));
        pair.settle();
        pair.reply(1, "a", Ok("A"));
        pair.settle();
        pair.call(4, 2, "t.ask", "d");
        assert_eq!(pair.settle(), ["room: 2 calls d"]);
        pair.reply(2, "d", Ok("D"));
        assert_eq!(pair.settle(), ["gate: 4 gets D"]);
    }
    pair.room.tell(pair.now, PeerCommand::Link(LinkCommand::Drain));
    pair.room.tell(pair.now, PeerCommand::Leave);
    assert_eq!(pair.settle(), ["gate: drains", "room: closed: closed by this server"]);
}

#[test]
fn a_handler_that_reaches_its_hard_limit_is_dropped_and_the_turn_passes() {
    let mut pair = Pair::open(Limits::default());
    pair.call_within(1, 1, "t.ask", "a", Duration::from_secs(60));
    pair.call_within(2, 1, "t.ask", "b", Duration::from_secs(60));
    pair.settle();
    // The route's own deadline is the shorter one.
    let news = pair.pass(Duration::from_secs(5));
    let late = "PIT-408: request timeout";
    assert_eq!(news, [format!("gate: 2 gets {late}"), format!("gate: 1 gets {late}")]);
    assert_eq!(pair.pass(Duration::from_secs(15)), ["room: 1 drops a"]);
}

#[test]
fn a_link_that_is_left_ends_when_nothing_is_in_flight_either_way() {
    let mut pair = Pair::open(Limits::default());
    pair.call(1, 1, "t.ask", "a");
    pair.call(2, 1, "t.ask", "b");
    pair.settle();
    pair.room.tell(pair.now, PeerCommand::Link(LinkCommand::Drain));
    pair.room.tell(pair.now, PeerCommand::Leave);
    assert_eq!(pair.settle(), ["gate: drains"]);
    pair.call(3, 1, "t.ask", "c");
    assert_eq!(pair.settle(), ["gate: 3 fails PIT-503: server is out of reach"]);
    pair.reply(1, "a", Ok("A"));
    assert_eq!(pair.settle(), ["gate: 1 gets A", "room: 1 calls b"]);
    pair.reply(1, "b", Ok("B"));
    assert_eq!(pair.settle(), ["gate: 2 gets B", "room: closed: closed by this server"]);
    assert!(pair.room.peer.is_finished());
}

#[test]
fn a_link_that_is_left_waits_for_a_long_call_of_which_a_part_is_there() {
    let mut pair = Pair::open(Limits::default().link_part_bytes_max(64));
    let long = "a".repeat(300);
    pair.call(1, 1, "t.ask", &long);
    assert!(carry(pair.now, &mut pair.gate, &mut pair.room), "a part is on its way");
    pair.room.tell(pair.now, PeerCommand::Link(LinkCommand::Drain));
    pair.room.tell(pair.now, PeerCommand::Leave);
    assert_eq!(pair.settle(), ["gate: drains".to_owned(), format!("room: 1 calls {long}")]);
    pair.reply(1, &long, Ok("A"));
    assert_eq!(pair.settle(), ["gate: 1 gets A", "room: closed: closed by this server"]);
}

#[test]
fn a_call_that_makes_no_sense_costs_its_caller_an_error_and_nobody_else() {
    let mut pair = Pair::open(Limits::default());
    let whole = request(Some(1), "room.t.ask", "a", MsgType::MsgRequest);
    for request in [
        Request { session: None, ..whole.clone() },
        Request { msg: None, ..whole.clone() },
        Request { r#type: 7, ..whole },
    ] {
        pair.gate_calls(1, request.encode_to_vec().into(), Duration::from_secs(5));
        let news = pair.settle();
        assert!(news.len() == 1 && news[0].starts_with("gate: 1 gets PIT-400: "), "{news:?}");
    }
    pair.gate_calls(1, Bytes::from_static(b"\xff\xff"), Duration::from_secs(5));
    assert_eq!(pair.settle(), ["gate: 1 gets PIT-400: malformed request"]);
    pair.call(1, 1, "t.ask", "a");
    assert_eq!(pair.settle(), ["room: 1 calls a"]);
}

fn request(session: Option<i64>, route: &str, body: &str, kind: MsgType) -> Request {
    let data = Bytes::copy_from_slice(body.as_bytes());
    let msg = Msg { route: route.into(), data, r#type: kind.into(), ..Msg::default() };
    Request {
        r#type: RpcType::Sys.into(),
        session: session.map(|id| Session { id, ..Session::default() }),
        msg: Some(msg),
        ..Request::default()
    }
}

/// A gate and a room.
struct Pair {
    gate: End,
    room: End,
    now: Instant,
}

impl Pair {
    fn open(limits: Limits) -> Self {
        let gate = End::new("gate", 1, limits.clone());
        let mut pair = Self { gate, room: End::new("room", 0, limits), now: Instant::ZERO };
        pair.settle();
        pair
    }

    fn call(&mut self, id: u32, session: i64, route: &str, body: &str) {
        self.call_within(id, session, route, body, Duration::from_secs(10));
    }

    fn call_within(&mut self, id: u32, session: i64, route: &str, body: &str, wait: Duration) {
        let kind = MsgType::MsgRequest;
        let request = request(Some(session), &format!("room.{route}"), body, kind);
        self.gate_calls(id, request.encode_to_vec().into(), wait);
    }

    fn gate_calls(&mut self, waiter: u32, request: Bytes, wait: Duration) {
        let call =
            LinkCommand::Call { deadline: self.now + wait, lane: Lane::Alone, request, waiter };
        self.gate.tell(self.now, PeerCommand::Link(call));
    }

    fn room_calls(&mut self, request: Request) {
        let (deadline, request) = (self.now + Duration::from_secs(5), request.encode_to_vec());
        let call =
            LinkCommand::Call { deadline, lane: Lane::Alone, request: request.into(), waiter: 1 };
        self.room.tell(self.now, PeerCommand::Link(call));
    }

    /// The room answers the call of that session with that body.
    fn reply(&mut self, session: u64, call: &str, reply: Result<&'static str, Error>) {
        let key = self.room.started[&(session, call.to_owned())];
        let reply = reply.map(|text| Bytes::from_static(text.as_bytes()));
        let reply = PeerCommand::Reply(SessionId::new(session), key, reply);
        self.room.tell(self.now, reply);
    }

    /// Carries what waits, and says what became of it, until nothing does.
    fn settle(&mut self) -> Vec<String> {
        let mut news = Vec::new();
        loop {
            let before = news.len();
            let carried = carry(self.now, &mut self.gate, &mut self.room)
                | carry(self.now, &mut self.room, &mut self.gate);
            news.extend(self.gate.news(self.now));
            news.extend(self.room.news(self.now));
            if !carried && news.len() == before {
                return news;
            }
        }
    }

    /// Lets time pass by steps of half a second, in which both beat.
    fn pass(&mut self, duration: Duration) -> Vec<String> {
        let mut news = Vec::new();
        let until = self.now + duration;
        while self.now < until {
            self.now = self.now + Duration::from_millis(500);
            for end in [&mut self.gate, &mut self.room] {
                end.peer.handle_timeout(self.now, &mut Scratch::new());
            }
            news.extend(self.settle());
        }
        news
    }
}

fn carry(now: Instant, from: &mut End, to: &mut End) -> bool {
    let bytes = from.peer.outbox().chunk().to_vec();
    from.peer.outbox().advance(bytes.len());
    from.peer.handle_written(now, bytes.len());
    to.unread.extend_from_slice(&bytes);
    !bytes.is_empty()
}

/// One end, whose news read as lines of text.
struct End {
    name: &'static str,
    peer: Peer<u32>,
    counters: Arc<Counters>,
    unread: Vec<u8>,
    started: BTreeMap<(u64, String), CallKey>,
}

impl End {
    fn new(kind: &'static str, dialled: u64, limits: Limits) -> Self {
        let conn = ConnConfig::new("json", Dictionary::default(), limits).unwrap();
        let (counters, me) = (Arc::clone(&conn.counters), Arc::new(server(kind)));
        let config = LinkConfig { conn: Arc::new(conn), me };
        let torn = Options { cancel_on_close: true, ..Options::default() };
        let entries = vec![
            RouteEntry::request("t.ask"),
            RouteEntry::notify("t.tell"),
            RouteEntry { options: torn, ..RouteEntry::request("t.torn") },
            RouteEntry { visibility: Visibility::Internal, ..RouteEntry::request("t.secret") },
        ];
        let routes = RouteTable::new(kind, entries, |error| error.to_json()).unwrap();
        let peer = Peer::new(config.into(), routes.into(), Instant::ZERO, None, dialled);
        Self { name: kind, peer, counters, unread: Vec::new(), started: BTreeMap::new() }
    }

    fn tell(&mut self, now: Instant, command: PeerCommand<u32>) {
        self.peer.handle_command(now, command, &mut Scratch::new());
    }

    fn count(&self, counter: Counter) -> u64 {
        self.counters.count(counter)
    }

    fn news(&mut self, now: Instant) -> Vec<String> {
        let (unread, mut scratch) = (std::mem::take(&mut self.unread), Scratch::new());
        let (mut input, mut news) = (&unread[..], Vec::new());
        while let Next::Event(event) = self.peer.next(now, &mut input, &mut scratch) {
            let line = line(event, &mut self.started);
            news.extend(line.map(|line| format!("{}: {line}", self.name)));
        }
        self.unread = input.to_vec();
        news
    }
}

fn line(
    event: PeerEvent<'_, u32>, started: &mut BTreeMap<(u64, String), CallKey>,
) -> Option<String> {
    Some(match event {
        PeerEvent::Abandoned(session, key) => {
            let found = started.iter().find(|((of, _), it)| *of == session.number() && **it == key);
            format!("{} drops {}", session.number(), found.unwrap().0.1)
        }
        PeerEvent::Call(GuestCall { call, session, .. }) => {
            let body = String::from_utf8_lossy(&call.body).into_owned();
            let line = format!("{} calls {body}", session.number());
            started.insert((session.number(), body), call.key);
            line
        }
        PeerEvent::Link(LinkEvent::Reply { waiter, result: Ok(bytes) }) => {
            let response = Response::decode(&bytes[..]).unwrap();
            let data = String::from_utf8_lossy(&response.data).into_owned();
            let said = response.error.map_or(data, |it| format!("{}: {}", it.code, it.msg));
            format!("{waiter} gets {said}")
        }
        PeerEvent::Link(LinkEvent::Reply { waiter, result: Err(error) }) => {
            format!("{waiter} fails {error}")
        }
        PeerEvent::Link(LinkEvent::Closed(end)) => format!("closed: {end}"),
        PeerEvent::Link(LinkEvent::Drains) => "drains".to_owned(),
        PeerEvent::Link(LinkEvent::SessionClosed(session)) => format!("session {session} closed"),
        PeerEvent::Link(LinkEvent::Opened(..)) => return None,
        other @ (PeerEvent::Link(_) | PeerEvent::Remote { .. }) => {
            panic!("nothing leads to {other:?}")
        }
    })
}

fn server(kind: &str) -> ServerInfo {
    ServerInfo {
        addresses: Vec::new(),
        frontend: kind == "gate",
        hostname: String::new(),
        id: ServerId::new(&format!("{kind}-1")).unwrap(),
        incarnation: Incarnation::new(1),
        kind: kind.into(),
        metadata: BTreeMap::new(),
    }
}
