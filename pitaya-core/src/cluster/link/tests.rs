//! A link between two servers, on a clock and a wire that are moved by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, Bytes};
use pitaya_proto::dictionary::Dictionary;
use pitaya_proto::link::{Kick, Push};
use pitaya_proto::protos;
use prost::Message as _;

use super::*;
use crate::cluster::{Incarnation, ServerId};
use crate::{ConnConfig, Counters, Limits};

#[test]
fn both_ends_learn_who_the_other_is_before_anything_else() {
    let mut pair = Pair::new();
    assert_eq!(pair.settle(), ["room: opened gate-1", "gate: opened room-1"]);
    let room = pair.gate.link.peer().expect("it has opened");
    assert_eq!(**room, server("room-1", "room"));
}

#[test]
fn a_call_is_answered_within_the_time_that_its_caller_waits() {
    let mut pair = Pair::open();
    pair.gate.call(pair.now, 5_000, "buy", "ann");
    assert_eq!(pair.settle(), ["room: call 1 buy until 5000"]);
    pair.room.reply(pair.now, 1, "bought");
    assert_eq!(pair.settle(), ["gate: ann gets bought"]);
    assert_eq!(pair.gate.link.in_flight(), 0);
}

#[test]
fn calls_and_pushes_arrive_in_the_order_in_which_they_were_sent() {
    let mut pair = Pair::open();
    pair.room.tell(pair.now, LinkCommand::Push(Push { route: "onHit".into(), ..Push::default() }));
    pair.room.call(pair.now, 1_000, "first", "bob");
    pair.room.tell(pair.now, LinkCommand::SessionClosed(7));
    let deadline = pair.now + millis(1_000);
    pair.room.tell(
        pair.now,
        LinkCommand::Notify { deadline, lane: Lane::Alone, request: "second".into() },
    );
    pair.room
        .tell(pair.now, LinkCommand::Kick(Kick { uids: vec!["eve".into()], ..Kick::default() }));
    pair.room.tell(pair.now, LinkCommand::Drain);
    assert_eq!(
        pair.settle(),
        [
            "gate: push onHit",
            "gate: call 1 first until 1000",
            "gate: session 7 closed",
            "gate: notify second until 1000",
            "gate: kick eve",
            "gate: drains",
        ]
    );
}

#[test]
fn a_call_without_a_reply_ends_at_its_deadline_and_a_late_one_goes_nowhere() {
    let mut pair = Pair::open();
    pair.gate.call(pair.now, 1_000, "slow", "ann");
    pair.settle();
    pair.pass(999);
    assert_eq!(pair.settle(), [""; 0]);
    pair.pass(1);
    assert_eq!(pair.settle(), ["gate: ann fails PIT-408: request timeout"]);
    pair.room.reply(pair.now, 1, "at last");
    assert_eq!(pair.settle(), [""; 0]);
    assert_eq!(pair.gate.late(), 1);
}

#[test]
fn a_link_without_calls_stays_up_by_heartbeats_alone() {
    let mut pair = Pair::open();
    for _ in 0..100 {
        pair.pass(500);
        assert_eq!(pair.settle(), [""; 0]);
    }
}

#[test]
fn after_two_seconds_of_silence_nobody_waits_for_a_peer_until_it_is_heard_again() {
    let mut pair = Pair::open();
    pair.gate.call(pair.now, 60_000, "buy", "ann");
    pair.settle();
    pair.pass_apart(1_999);
    assert_eq!(pair.gate.news(pair.now), [""; 0]);
    pair.pass_apart(1);
    let lost = "fails PIT-503: server is out of reach";
    let wanted = ["gate: suspected".to_owned(), format!("gate: ann {lost}")];
    assert_eq!(pair.gate.news(pair.now), wanted);
    pair.gate.call(pair.now, 60_000, "buy", "bob");
    assert_eq!(pair.gate.news(pair.now), [format!("gate: bob {lost}")]);
    pair.room.reply(pair.now, 1, "bought");
    assert_eq!(pair.settle(), ["room: suspected", "gate: restored"]);
    assert_eq!(pair.gate.late(), 1, "and its answer is too late");
    pair.gate.call(pair.now, 1_000, "buy", "bob");
    assert_eq!(pair.settle(), ["room: restored", "room: call 2 buy until 3000"]);
}

#[test]
fn after_ten_seconds_of_silence_a_link_is_over() {
    let mut pair = Pair::open();
    pair.pass_apart(2_000);
    assert_eq!(pair.gate.news(pair.now), ["gate: suspected"]);
    pair.pass_apart(7_999);
    assert_eq!(pair.gate.news(pair.now), [""; 0]);
    pair.pass_apart(1);
    assert_eq!(pair.gate.news(pair.now), ["gate: closed: nothing was heard for too long"]);
    assert!(pair.gate.link.is_finished());
    assert_eq!(pair.gate.link.poll_timeout(), None);
}

#[test]
fn a_peer_that_beats_and_takes_nothing_is_given_up_after_ten_seconds() {
    let mut pair = Pair::open();
    for _ in 0..20 {
        pair.pass(500);
        pair.carry_to_gate();
        assert_eq!(pair.gate.news(pair.now), [""; 0]);
    }
    pair.pass(500);
    let why = "gate: closed: nothing was read by the peer for too long";
    assert_eq!(pair.gate.news(pair.now), [why]);
}

#[test]
fn a_peer_that_says_nothing_is_given_up_after_five_seconds() {
    let mut end = End::new("gate", "gate-1", 0, Limits::default());
    end.link.handle_timeout(at(4_999), &mut Scratch::new());
    assert_eq!(end.news(at(4_999)), [""; 0]);
    end.link.handle_timeout(at(5_000), &mut Scratch::new());
    assert_eq!(end.news(at(5_000)), ["gate: closed: the peer did not say who it is"]);
}

#[test]
fn a_peer_that_is_not_who_it_has_proven_to_be_is_refused() {
    let proven =
        |id, kind: &str| Some(Proven { id: ServerId::new(id).expect("a name"), kind: kind.into() });
    let room = server("room-1", "room").hello(1);
    for (proven, hello, end) in [
        (proven("room-1", "gate"), room.clone(), IMPOSTOR),
        (
            proven("room-2", "room"),
            room.clone(),
            r#"the peer says that it is "room-1", which it is not"#,
        ),
        (None, Hello { version: 9, ..room.clone() }, "the peer speaks version 9 and not 1"),
        (None, server("gate-1", "gate").hello(1), "the peer is this server itself"),
        (None, Hello { kind: "a.b".into(), ..room.clone() }, IMPOSTOR),
        (
            None,
            Hello { id: String::new(), ..room.clone() },
            r#"the peer says that it is "", which it is not"#,
        ),
        (None, Hello { addresses: vec!["nowhere".into()], ..room }, IMPOSTOR),
    ] {
        let mut gate = End::proving("gate", "gate-1", proven);
        gate.hear(&[Frame::Hello(hello)]);
        assert_eq!(gate.news(at(0)), [format!("gate: closed: {end}")]);
        assert!(gate.link.is_finished(), "and nothing is said to it any more");
    }
}

#[test]
fn frames_that_do_not_belong_where_they_are_end_the_link() {
    let hello = || Frame::Hello(server("room-1", "room").hello(1));
    let call = || Frame::Call { id: 1, remaining: millis(1), request: b"a" };
    for (frames, end) in [
        (vec![call()], "a frame that does not belong here"),
        (vec![hello(), hello()], "a frame that does not belong here"),
        (vec![hello(), call(), call()], "a frame that does not belong here"),
    ] {
        let mut gate = End::new("gate", "gate-1", 0, Limits::default());
        gate.hear(&frames);
        let news = gate.news(at(0));
        assert_eq!(news.last(), Some(&format!("gate: closed: {end}")), "{news:?}");
    }
    let mut gate = End::new("gate", "gate-1", 0, Limits::default());
    gate.unread = b"GET / HTTP/1.1\r\n".to_vec();
    assert_eq!(gate.news(at(0)), ["gate: closed: bad frame: wrong frame kind 0x47"]);
}

#[test]
fn one_call_too_many_is_answered_at_once_on_either_side() {
    let limits = Limits::default().link_calls_max(1);
    let busy = "PIT-503: server is busy";
    let mut pair = Pair::with(limits, Limits::default());
    pair.settle();
    pair.gate.call(pair.now, 1_000, "one", "ann");
    pair.gate.call(pair.now, 1_000, "two", "bob");
    assert_eq!(
        pair.settle(),
        [format!("gate: bob fails {busy}"), "room: call 1 one until 1000".into()]
    );
    pair.room.call(pair.now, 1_000, "three", "cid");
    pair.room.call(pair.now, 1_000, "four", "dan");
    assert_eq!(pair.settle(), ["gate: call 1 three until 1000", &format!("room: dan gets {busy}")]);
}

#[test]
fn what_no_frame_can_hold_is_an_error_of_its_sender() {
    let limits = Limits::default().link_frame_bytes_max(300);
    let mut pair = Pair::with(limits.clone(), limits);
    pair.settle();
    let large = "x".repeat(300);
    pair.gate.call(pair.now, 1_000, &large, "ann");
    let news = pair.settle();
    assert!(news.len() == 1 && news[0].starts_with("gate: ann fails PIT-413: "), "{news:?}");
    pair.gate.call(pair.now, 1_000, "small", "bob");
    pair.settle();
    pair.room.reply(pair.now, 2, &large);
    let news = pair.settle();
    assert!(news.len() == 1 && news[0].starts_with("gate: bob gets PIT-413: "), "{news:?}");
}

#[test]
fn nothing_new_goes_to_a_peer_for_which_too_much_waits() {
    let limits = Limits::default().link_outbound_bytes_max(100);
    let mut pair = Pair::with(limits, Limits::default());
    pair.settle();
    pair.gate.call(pair.now, 1_000, &"x".repeat(100), "ann");
    pair.gate.call(pair.now, 1_000, "small", "bob");
    pair.gate.tell(pair.now, LinkCommand::Push(Push::default()));
    let news = pair.settle();
    assert_eq!(news.first().map(String::as_str), Some("gate: bob fails PIT-503: server is busy"));
    assert_eq!(pair.gate.counters.count(Counter::LinkFramesDropped), 1);
}

#[test]
fn what_must_not_be_lost_goes_to_a_suspect_too_and_costs_the_link_where_there_is_no_room() {
    let mut pair = Pair::with(Limits::default().link_outbound_bytes_max(100), Limits::default());
    pair.settle();
    pair.pass_apart(2_000);
    pair.gate.tell(pair.now, LinkCommand::SessionClosed(7));
    let news = pair.settle();
    assert!(news.contains(&"room: session 7 closed".to_owned()), "{news:?}");
    pair.pass(500);
    pair.settle();
    for session in 8..40 {
        pair.gate.call(pair.now, 1_000, &"x".repeat(100), "ann");
        pair.gate.tell(pair.now, LinkCommand::SessionClosed(session));
        let news = pair.settle();
        assert!(news.contains(&format!("room: session {session} closed")), "{news:?}");
    }
    pair.gate.call(pair.now, 1_000, &"x".repeat(100), "bob");
    (40..99).for_each(|session| pair.gate.tell(pair.now, LinkCommand::SessionClosed(session)));
    let end = "gate: closed: nothing was read by the peer for too long";
    assert_eq!(pair.gate.news(pair.now).last().map(String::as_str), Some(end));
}

#[test]
fn what_nobody_waits_for_is_not_sent_to_a_suspect_and_counted_while_replies_go_on() {
    let mut pair = Pair::open();
    pair.gate.call(pair.now, 60_000, "buy", "ann");
    pair.settle();
    for _ in 0..4 {
        pair.pass(500);
        pair.carry_to_gate();
        assert_eq!(pair.gate.news(pair.now), [""; 0]);
    }
    assert_eq!(pair.room.news(pair.now), ["room: suspected"]);
    pair.room.tell(pair.now, LinkCommand::Push(Push::default()));
    pair.room.reply(pair.now, 1, "bought");
    pair.carry_to_gate();
    assert_eq!(pair.gate.news(pair.now), ["gate: ann gets bought"], "and no push before it");
    assert_eq!(pair.room.counters.count(Counter::LinkFramesDropped), 1);
}

#[test]
fn both_ends_rank_two_links_between_them_alike() {
    let dial = |gate, room| {
        let mut pair = Pair::new();
        pair.gate = End::new("gate", "gate-1", gate, Limits::default());
        pair.room = End::new("room", "room-1", room, Limits::default());
        carry(pair.now, &mut pair.gate, &mut pair.room);
        pair.carry_to_gate();
        [pair.gate.dial(), pair.room.dial()]
    };
    let [by_gate, by_room, later] = [dial(2, 0), dial(0, 1), dial(3, 0)];
    assert!([by_gate, by_room, later].iter().all(|[gate, room]| gate == room));
    assert!(by_gate < later && later < by_room, "the lower id first, then the earlier dial");
}

#[test]
fn whoever_waits_is_told_before_the_end_is_and_what_was_said_before_still_leaves() {
    let mut pair = Pair::open();
    pair.gate.call(pair.now, 1_000, "one", "ann");
    pair.gate.tell(pair.now, LinkCommand::Close(LinkEnd::Closed));
    assert_eq!(
        pair.gate.news(pair.now),
        ["gate: ann fails PIT-503: server is out of reach", "gate: closed: closed by this server",]
    );
    assert!(!pair.gate.link.is_finished());
    pair.carry_to_room();
    assert_eq!(pair.room.news(pair.now), ["room: call 1 one until 1000"]);
    assert!(pair.gate.link.is_finished());
    pair.room.link.handle_end(pair.now, CloseReason::PeerClosed);
    assert_eq!(pair.room.news(pair.now), ["room: closed: closed by the peer"]);
    pair.room.link.handle_end(pair.now, CloseReason::PeerClosed);
    assert_eq!(pair.room.news(pair.now), [""; 0], "it is said once");
}

/// Two servers and the wire between them, which carries when it is told to.
struct Pair {
    gate: End,
    room: End,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        Self::with(Limits::default(), Limits::default())
    }

    fn with(gate: Limits, room: Limits) -> Self {
        let gate = End::new("gate", "gate-1", 1, gate);
        Self { gate, room: End::new("room", "room-1", 0, room), now: Instant::ZERO }
    }

    fn open() -> Self {
        let mut pair = Self::new();
        pair.settle();
        pair
    }

    /// Carries what waits, and says what became of it, until nothing does.
    fn settle(&mut self) -> Vec<String> {
        let mut news = Vec::new();
        loop {
            let before = news.len();
            news.extend(self.gate.news(self.now));
            let carried = self.carry_to_room();
            news.extend(self.room.news(self.now));
            if !self.carry_to_gate() && !carried && news.len() == before {
                return news;
            }
        }
    }

    fn carry_to_room(&mut self) -> bool {
        carry(self.now, &mut self.gate, &mut self.room)
    }

    fn carry_to_gate(&mut self) -> bool {
        carry(self.now, &mut self.room, &mut self.gate)
    }

    /// Lets time pass for both, as a driver does: they act whenever they have something to do.
    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        for end in [&mut self.gate, &mut self.room] {
            end.link.handle_timeout(self.now, &mut Scratch::new());
        }
    }

    /// The same while the wire is cut.
    fn pass_apart(&mut self, millis: u64) {
        self.pass(millis);
        for end in [&mut self.gate, &mut self.room] {
            // It left, and arrives nowhere.
            let waits = end.link.outbox().remaining();
            end.link.outbox().advance(waits);
            end.link.handle_written(self.now, waits);
        }
    }
}

fn carry(now: Instant, from: &mut End, to: &mut End) -> bool {
    let bytes = from.link.outbox().chunk().to_vec();
    from.link.outbox().advance(bytes.len());
    from.link.handle_written(now, bytes.len());
    to.unread.extend_from_slice(&bytes);
    !bytes.is_empty()
}

/// One end, whose news read as lines of text.
struct End {
    name: &'static str,
    link: Link<&'static str>,
    counters: Arc<Counters>,
    unread: Vec<u8>,
}

impl End {
    /// The gate has dialled.
    fn new(kind: &'static str, id: &str, dialled: u64, limits: Limits) -> Self {
        let conn = ConnConfig::new("json", Dictionary::default(), limits).expect("it is small");
        let (counters, me) = (Arc::clone(&conn.counters), Arc::new(server(id, kind)));
        let config = LinkConfig { conn: Arc::new(conn), me };
        let link = Link::new(Arc::new(config), Instant::ZERO, None, dialled);
        Self { name: kind, link, counters, unread: Vec::new() }
    }

    fn proving(kind: &'static str, id: &str, proven: Option<Proven>) -> Self {
        let mut end = Self::new(kind, id, 0, Limits::default());
        end.link.proven = proven;
        end
    }

    fn hear(&mut self, frames: &[Frame<'_>]) {
        for frame in frames {
            link::encode(frame, &mut self.unread).expect("it fits");
        }
    }

    fn call(&mut self, now: Instant, wait: u64, request: &str, waiter: &'static str) {
        let (deadline, request) = (now + millis(wait), Bytes::copy_from_slice(request.as_bytes()));
        self.tell(now, LinkCommand::Call { deadline, lane: Lane::Session(1), request, waiter });
    }

    fn reply(&mut self, now: Instant, id: u32, response: &str) {
        let response = Bytes::copy_from_slice(response.as_bytes());
        self.tell(now, LinkCommand::Reply { id, lane: Lane::Session(1), response });
    }

    fn tell(&mut self, now: Instant, command: LinkCommand<&'static str>) {
        self.link.handle_command(now, command, &mut Scratch::new());
    }

    fn news(&mut self, now: Instant) -> Vec<String> {
        let (unread, mut scratch) = (std::mem::take(&mut self.unread), Scratch::new());
        let (mut input, mut news) = (&unread[..], Vec::new());
        while let Next::Event(event) = self.link.next(now, &mut input, &mut scratch) {
            news.push(format!("{}: {}", self.name, text(event)));
        }
        self.unread = input.to_vec();
        news
    }

    fn dial(&mut self) -> Dial {
        let (mut input, mut scratch) = (&self.unread[..], Scratch::new());
        let next = self.link.next(Instant::ZERO, &mut input, &mut scratch);
        let Next::Event(LinkEvent::Opened(_, dial)) = next else { panic!("it opens: {next:?}") };
        dial
    }

    fn late(&self) -> u64 {
        self.counters.count(Counter::RepliesLate)
    }
}

fn text(event: LinkEvent<'_, &'static str>) -> String {
    match event {
        LinkEvent::Call { id, deadline, request } => {
            let what = id.map_or_else(|| "notify".to_owned(), |id| format!("call {id}"));
            let request = String::from_utf8_lossy(&request);
            format!("{what} {request} until {}", deadline.micros() / 1000)
        }
        LinkEvent::Closed(end) => format!("closed: {end}"),
        LinkEvent::Drains => "drains".to_owned(),
        LinkEvent::Known(known) => format!("known: {}", known.addresses.concat()),
        LinkEvent::Said(said) => format!("said {said:?}"),
        LinkEvent::Kick(kick) => format!("kick {}", kick.uids.concat()),
        LinkEvent::Opened(peer, _) => format!("opened {}", peer.id),
        LinkEvent::Push(push) => format!("push {}", push.route),
        LinkEvent::Reply { waiter, result: Ok(response) } => {
            format!("{waiter} gets {}", said(&response))
        }
        LinkEvent::Reply { waiter, result: Err(error) } => format!("{waiter} fails {error}"),
        LinkEvent::Restored => "restored".to_owned(),
        LinkEvent::SessionClosed(session) => format!("session {session} closed"),
        LinkEvent::Suspected => "suspected".to_owned(),
    }
}

/// A response of this module if it is one, or else what the test sent.
fn said(response: &[u8]) -> String {
    let error = protos::Response::decode(response).ok().and_then(|response| response.error);
    error.map_or_else(
        || String::from_utf8_lossy(response).into_owned(),
        |error| format!("{}: {}", error.code, error.msg),
    )
}

fn server(id: &str, kind: &str) -> ServerInfo {
    ServerInfo {
        addresses: vec![([10, 0, 0, 1], 4500).into()],
        frontend: kind == "gate",
        hostname: "a machine".into(),
        id: ServerId::new(id).expect("a name"),
        incarnation: Incarnation::new(3),
        kind: kind.into(),
        metadata: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
    }
}

fn at(ms: u64) -> Instant {
    Instant::ZERO + millis(ms)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const IMPOSTOR: &str = r#"the peer says that it is "room-1", which it is not"#;
