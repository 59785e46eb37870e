//! Many clients behind one set of methods, as a plain loop has them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use pitaya_core::{
    CallKey, CloseReason, Codec, Command, ConnConfig, ConnId, Counter, Counters, Dictionary, Error,
    Event, Instant, Json, Limits, Next, Node, Reply, RouteEntry, RouteTable, SessionId,
};
use pitaya_proto::packet::{self, PacketKind};
use pitaya_proto::zlib::Scratch;

use crate::rig::{GO, ack, millis, notify, request, seconds, sent_line, shake};

/// A node with a clock.
struct Hall {
    node: Node,
    now: Instant,
    counters: Arc<Counters>,
}

impl Hall {
    fn new(limits: Limits) -> Self {
        let entries = vec![RouteEntry::request("t.ask"), RouteEntry::notify("t.tell")];
        let routes = RouteTable::new("gate", entries, Json::encode_error);
        let config = ConnConfig::new(Json::NAME, Dictionary::default(), limits);
        let mut config = config.expect("it is small");
        config.compression = false;
        let counters = Arc::clone(&config.counters);
        let node = Node::new(config, routes.expect("they do not contradict each other"));
        Self { node, now: Instant::ZERO, counters }
    }

    /// A client that is ready to work, with its session.
    fn enter(&mut self) -> (ConnId, SessionId) {
        let conn = self.node.accept(self.now).expect("there is room");
        let bytes = [shake(GO), ack()].concat();
        let mut input = &bytes[..];
        let next = self.node.next(self.now, conn, &mut input);
        let Next::Event((session, Event::Opened(_))) = next else { panic!("{next:?}") };
        assert_eq!(self.sent(conn), ["handshake 200"]);
        (conn, session)
    }

    fn feed<'i>(&mut self, conn: ConnId, mut input: &'i [u8]) -> Vec<(SessionId, Event<'i>)> {
        let mut events = Vec::new();
        while let Next::Event(event) = self.node.next(self.now, conn, &mut input) {
            events.push(event);
        }
        events
    }

    /// The key of the one call that these bytes start.
    fn call(&mut self, conn: ConnId, input: &[u8]) -> CallKey {
        match &self.feed(conn, input)[..] {
            [(_, Event::Call(call))] => call.key,
            other => panic!("{other:?}"),
        }
    }

    fn events(&mut self) -> Vec<(SessionId, Event<'static>)> {
        self.node.handle_timeout(self.now)
    }

    fn sent(&mut self, conn: ConnId) -> Vec<String> {
        let mut bytes = Vec::new();
        self.node.write(self.now, conn, &mut bytes);
        lines(&bytes)
    }

    fn push(&mut self, session: SessionId, body: &str) -> bool {
        self.node.push(self.now, session, "on.news", body.to_owned().into())
    }

    fn count(&self, counter: Counter) -> u64 {
        self.counters.count(counter)
    }
}

fn lines(mut bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(packet) = packet::decode(&mut bytes, packet::BODY_BYTES_MAX).expect("ours") {
        lines.push(sent_line(packet, &mut Scratch::new()));
    }
    assert!(bytes.is_empty(), "half a packet was written");
    lines
}

/// A socket that takes some bytes, then has no room, or fails.
struct Socket {
    taken: Vec<u8>,
    room: usize,
    then: io::ErrorKind,
}

impl io::Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room - self.taken.len());
        if count == 0 {
            return Err(self.then.into());
        }
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that gives these parts, then waits.
struct Parts(VecDeque<io::Result<Vec<u8>>>);

impl Parts {
    fn new<const N: usize>(parts: [io::Result<Vec<u8>>; N]) -> Self {
        Self(parts.into())
    }
}

impl io::Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(part) = self.0.pop_front() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let mut part = part?;
        let taken = part.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&part[..taken]);
        if taken < part.len() {
            self.0.push_front(Ok(part.split_off(taken)));
        }
        Ok(taken)
    }
}

#[test]
fn what_was_read_of_a_packet_is_kept_until_the_rest_comes() {
    let mut hall = Hall::new(Limits::default());
    let (conn, session) = hall.enter();
    for byte in notify("t.tell", "a") {
        assert_eq!(hall.node.read(hall.now, conn, &mut Parts::new([])), []);
        let events = hall.node.read(hall.now, conn, &mut Parts::new([Ok(vec![byte])]));
        for (whose, event) in events {
            let Event::Call(call) = event else { panic!("{event:?}") };
            assert_eq!((whose, &*call.body), (session, &b"a"[..]));
            assert!(hall.node.reply(hall.now, whose, call.key, Reply::ok([])));
        }
    }
    let long = "a".repeat(60_000);
    let calls = (1..=3).map(|id| request(id, "t.ask", &long)).collect::<Vec<_>>().concat();
    let mut stream = Parts::new([Ok(calls)]);
    assert_eq!(hall.node.read(hall.now, conn, &mut stream).len(), 1);
    assert!(!stream.0.is_empty(), "others have their turn");
    for _ in 0..2 {
        assert_eq!(hall.node.read(hall.now, conn, &mut stream), [], "one runs at a time");
    }
    assert!(stream.0.is_empty());
}

#[test]
fn a_client_that_may_not_send_more_is_not_read_until_it_may() {
    let mut hall = Hall::new(Limits::default().calls_max(2));
    let (conn, session) = hall.enter();
    let calls = [1, 2, 3].map(|id| request(id, "t.ask", "a")).concat();
    let events = hall.node.read(hall.now, conn, &mut Parts::new([Ok(calls)]));
    let [(_, Event::Call(first))] = &events[..] else { panic!("{events:?}") };
    let mut more = Parts::new([Ok(request(4, "t.ask", "b"))]);
    assert_eq!(hall.node.read(hall.now, conn, &mut more), []);
    assert!(!more.0.is_empty(), "it is not read");

    let mut started = vec![first.key];
    while let Some(key) = started.pop() {
        hall.node.reply(hall.now, session, key, Reply::ok("1"));
        let read = hall.node.read(hall.now, conn, &mut more);
        for (_, event) in read.into_iter().chain(hall.events()) {
            let Event::Call(call) = event else { panic!("{event:?}") };
            started.push(call.key);
        }
    }
    assert_eq!(hall.sent(conn), ["reply 1 1", "reply 2 1", "reply 3 1", "reply 4 1"]);
}

#[test]
fn a_stream_ends_once_all_is_taken_that_came_before_its_end() {
    let mut hall = Hall::new(Limits::default().calls_max(1));
    let (conn, session) = hall.enter();
    let calls = [1, 2, 3].map(|id| request(id, "t.ask", "a")).concat();
    // A socket that has ended says so as often as it is read.
    let mut stream = Parts::new([Ok(calls), Ok(Vec::new()), Ok(Vec::new())]);
    for _ in 0..3 {
        let events = hall.node.read(hall.now, conn, &mut stream);
        let [(_, Event::Call(call))] = &events[..] else { panic!("{events:?}") };
        assert_eq!(hall.events(), []);
        hall.node.reply(hall.now, session, call.key, Reply::ok("1"));
    }
    for _ in 0..2 {
        assert_eq!(hall.node.read(hall.now, conn, &mut stream), []);
    }
    assert_eq!(hall.events(), [(session, Event::Closed(CloseReason::PeerClosed))]);
}

#[test]
fn how_a_stream_that_is_read_ends_is_told() {
    let reset = || Err(io::ErrorKind::ConnectionReset.into());
    let half = request(1, "t.ask", "a")[..7].to_vec();
    for (parts, reason) in [
        (Parts::new([Ok(Vec::new())]), CloseReason::PeerClosed),
        (Parts::new([Ok(half), Ok(Vec::new())]), CloseReason::end(7)),
        (Parts::new([reset()]), CloseReason::Io(io::ErrorKind::ConnectionReset)),
    ] {
        let mut hall = Hall::new(Limits::default());
        let ((conn, session), mut parts) = (hall.enter(), parts);
        assert_eq!(hall.node.read(hall.now, conn, &mut parts), []);
        assert_eq!(hall.events(), [(session, Event::Closed(reason))]);
        assert!(hall.node.is_finished(conn));
        assert_eq!(hall.node.read(hall.now, conn, &mut parts), [], "it is gone");
    }
}

#[test]
fn a_call_is_answered_in_its_frame_or_a_later_one() {
    let mut hall = Hall::new(Limits::default());
    let (conn, session) = hall.enter();
    let key = hall.call(conn, &[request(1, "t.ask", "a"), request(2, "t.ask", "b")].concat());
    hall.now = hall.now + millis(16);
    assert_eq!(hall.events(), []);
    assert!(hall.node.reply(hall.now, session, key, Reply::encode::<Json>(Ok(7))));
    let events = hall.events();
    let [(_, Event::Call(next))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&*next.body, &**hall.node.routes().name(next.route)), (&b"b"[..], "t.ask"));
    let no = Error::new("GAME-1", "no gold");
    hall.node.reply(hall.now, session, next.key, Reply::encode::<Json>(Err::<(), _>(no)));
    assert_eq!(hall.sent(conn), ["reply 1 7", "error 2 GAME-1: no gold"]);
}

#[test]
fn a_call_that_is_never_answered_is_abandoned_and_the_next_one_runs() {
    let mut hall = Hall::new(Limits::default());
    let (conn, session) = hall.enter();
    let key = hall.call(conn, &notify("t.tell", "a"));
    hall.now = hall.now + seconds(20);
    assert_eq!(hall.events(), [(session, Event::Abandoned(key))]);
    hall.call(conn, &notify("t.tell", "b"));
}

#[test]
fn connections_are_bounded_and_those_turned_away_are_counted() {
    let mut hall = Hall::new(Limits::default().connections_max(2));
    let (first, _) = hall.enter();
    hall.enter();
    assert_eq!(hall.node.accept(hall.now), None);
    assert_eq!(hall.count(Counter::ConnectionsRefused), 1);
    hall.node.handle_end(hall.now, first, CloseReason::PeerClosed);
    assert_eq!(hall.events().len(), 1);
    assert!(hall.node.accept(hall.now).is_some(), "there is room again");
    assert_eq!(hall.count(Counter::ConnectionsAccepted), 3);
}

#[test]
fn clients_that_shake_hands_are_bounded_apart() {
    let mut hall = Hall::new(Limits::default().handshaking_max(1));
    hall.enter();
    hall.node.accept(hall.now).expect("the other one is done");
    assert_eq!(hall.node.accept(hall.now), None);
    hall.now = hall.now + seconds(5);
    assert_eq!(hall.events(), []);
    assert_eq!(hall.counters.count(Counter::HandshakesExpired), 1);
    hall.enter();
}

#[test]
fn the_newest_login_wins_and_the_older_client_is_kicked_once() {
    let mut hall = Hall::new(Limits::default());
    let ((old_conn, old), (_, new)) = (hall.enter(), hall.enter());
    assert_eq!(hall.node.bind(hall.now, old, "ann"), Ok(()));
    assert_eq!(hall.node.bind(hall.now, new, "ann"), Ok(()));
    assert!(!hall.push(old, "unheard"));
    assert_eq!(hall.events(), [(old, Event::Closed(CloseReason::Replaced))]);
    assert!(!hall.node.is_finished(old_conn), "the kick is not written yet");
    assert_eq!(hall.sent(old_conn), ["kick replaced by a newer login"]);
    assert!(hall.node.is_finished(old_conn));
    assert_eq!((hall.events(), hall.node.sessions().by_uid("ann")), (vec![], Some(new)));
}

#[test]
fn a_bind_that_is_refused_changes_nothing() {
    let mut hall = Hall::new(Limits::default());
    let (_, session) = hall.enter();
    assert!(hall.node.bind(hall.now, session, "").is_err());
    assert_eq!(hall.node.bind(hall.now, session, "ann"), Ok(()));
    assert!(hall.node.bind(hall.now, session, "bob").is_err());
    let (_, other) = hall.enter();
    hall.node.command(hall.now, other, Command::Close(CloseReason::Closed));
    assert!(hall.node.bind(hall.now, other, "ann").is_err(), "it is about to close");
    assert_eq!(hall.node.sessions().by_uid("ann"), Some(session));
    assert_eq!(hall.count(Counter::UidsRefused), 3);
}

#[test]
fn a_lost_session_goes_on_with_the_connection_of_a_fresh_one() {
    let mut hall = Hall::new(Limits::default().resume_window(seconds(2)));
    let (old, session) = hall.enter();
    hall.node.bind(hall.now, session, "ann").unwrap();
    hall.push(session, "before");
    hall.node.handle_end(hall.now, old, CloseReason::PeerClosed);
    assert_eq!(hall.sent(old), [""; 0], "it is kept for the next stream");
    assert_eq!(hall.events(), [(session, Event::Detached(CloseReason::PeerClosed))]);
    assert!(hall.node.is_finished(old));
    hall.push(session, "during");
    hall.now = hall.now + millis(1999);

    let (new, fresh) = hall.enter();
    assert!(hall.node.attach(hall.now, session, fresh));
    hall.push(session, "after");
    let pushes = ["before", "during", "after"].map(|body| format!("push on.news {body}"));
    assert_eq!(hall.sent(new), pushes);
    assert_eq!(hall.events(), [], "the fresh one ends without a word");
    hall.now = hall.now + seconds(3);
    assert_eq!(hall.events(), []);
    assert!(!hall.push(fresh, "unheard") && hall.node.is_finished(old));
    assert_eq!(hall.node.sessions().by_uid("ann"), Some(session));
    hall.call(new, &request(1, "t.ask", "a"));
    let counted = [Counter::ConnectionsClosed, Counter::SessionsOpened, Counter::SessionsClosed];
    assert_eq!(counted.map(|counter| hall.count(counter)), [1, 2, 1]);
}

#[test]
fn a_session_taken_over_while_it_is_connected_leaves_its_old_stream() {
    let mut hall = Hall::new(Limits::default());
    let ((old, session), (new, fresh)) = (hall.enter(), hall.enter());
    assert!(hall.node.attach(hall.now, session, fresh));
    assert!(hall.node.is_finished(old));
    assert_eq!(hall.feed(old, &request(1, "t.ask", "a")), []);
    hall.node.handle_end(hall.now, old, CloseReason::PeerClosed);
    hall.push(session, "a");
    assert_eq!((hall.events(), hall.sent(new)), (vec![], vec!["push on.news a".to_owned()]));
}

#[test]
fn only_open_sessions_attach() {
    let mut hall = Hall::new(Limits::default());
    let ((_, session), (_, fresh)) = (hall.enter(), hall.enter());
    assert!(!hall.node.attach(hall.now, session, session));
    hall.node.command(hall.now, session, Command::Kick(None, CloseReason::Replaced));
    assert!(!hall.node.attach(hall.now, session, fresh), "a kick is not undone");
    assert_eq!(hall.events(), [(session, Event::Closed(CloseReason::Replaced))]);
    assert!(!hall.node.attach(hall.now, session, fresh));
    assert!(hall.push(fresh, "still here"));
}

#[test]
fn past_the_window_a_lost_session_closes_once_without_a_connection() {
    let mut hall = Hall::new(Limits::default().resume_window(seconds(2)));
    let (conn, session) = hall.enter();
    hall.node.handle_end(hall.now, conn, CloseReason::Io(io::ErrorKind::ConnectionReset));
    let reason = CloseReason::Io(io::ErrorKind::ConnectionReset);
    assert_eq!(hall.events(), [(session, Event::Detached(reason.clone()))]);
    assert_eq!(hall.node.poll_timeout(), Some(hall.now + seconds(2)));
    hall.now = hall.now + seconds(2);
    assert_eq!(hall.events(), [(session, Event::Closed(reason))]);
    assert_eq!((hall.events(), hall.node.is_empty()), (vec![], true));
    assert_eq!(hall.count(Counter::ConnectionsClosed), 1);
}

#[test]
fn a_stream_is_dropped_once_its_end_is_told_and_all_is_written() {
    let mut hall = Hall::new(Limits::default());
    let (conn, session) = hall.enter();
    hall.push(session, "last");
    hall.node.command(hall.now, session, Command::Close(CloseReason::Closed));
    assert!(!hall.node.is_finished(conn), "nobody has learnt of it");
    assert_eq!(hall.events(), [(session, Event::Closed(CloseReason::Closed))]);
    assert!(!hall.node.is_finished(conn), "something waits");
    assert_eq!(hall.sent(conn), ["push on.news last"]);
    assert!(hall.node.is_finished(conn));
    assert_eq!((hall.events(), hall.node.is_empty()), (vec![], true));
}

#[test]
fn a_stream_that_ended_is_dropped_once_that_is_told() {
    let mut hall = Hall::new(Limits::default());
    let (conn, session) = hall.enter();
    hall.node.handle_end(hall.now, conn, CloseReason::PeerClosed);
    assert!(!hall.node.is_finished(conn), "nobody has learnt of it");
    assert_eq!(hall.events(), [(session, Event::Closed(CloseReason::PeerClosed))]);
    assert!(hall.node.is_finished(conn));
}

#[test]
fn a_socket_without_room_gets_the_rest_later() {
    let mut hall = Hall::new(Limits::default());
    let (conn, session) = hall.enter();
    hall.push(session, "a").then(|| hall.push(session, "b"));
    let mut socket = Socket { taken: Vec::new(), room: 5, then: io::ErrorKind::WouldBlock };
    hall.node.write(hall.now, conn, &mut socket);
    assert_eq!(socket.taken.len(), 5);
    socket.room = 1000;
    hall.node.write(hall.now, conn, &mut socket);
    assert_eq!(lines(&socket.taken), ["push on.news a", "push on.news b"]);
}

#[test]
fn a_socket_that_fails_ends_its_connection() {
    let mut hall = Hall::new(Limits::default());
    let (conn, session) = hall.enter();
    hall.push(session, "a");
    let mut socket = Socket { taken: Vec::new(), room: 5, then: io::ErrorKind::BrokenPipe };
    hall.node.write(hall.now, conn, &mut socket);
    let reason = CloseReason::Io(io::ErrorKind::BrokenPipe);
    assert_eq!(hall.events(), [(session, Event::Closed(reason))]);
    assert!(hall.node.is_finished(conn));
}

#[test]
fn a_bad_client_harms_nobody_else() {
    let mut hall = Hall::new(Limits::default());
    let (good, session) = hall.enter();
    let key = hall.call(good, &request(1, "t.ask", "a"));
    for bytes in [&b"GET / HTTP/1.1"[..], &[0x16, 3, 1], &shake("x"), &[1, 0xff, 0xff, 0xff]] {
        let bad = hall.node.accept(hall.now).expect("there is room");
        assert_eq!(hall.feed(bad, bytes), []);
        hall.sent(bad);
        assert!(hall.node.is_finished(bad));
    }
    let (bad, bad_session) = hall.enter();
    let reason = CloseReason::Unexpected(PacketKind::Handshake);
    assert_eq!(hall.feed(bad, &shake(GO)), [(bad_session, Event::Closed(reason))]);
    hall.node.reply(hall.now, session, key, Reply::encode::<Json>(Ok("A")));
    assert_eq!(hall.sent(good), ["reply 1 \"A\""]);
    hall.events();
    assert_eq!((hall.node.sessions().count(), hall.count(Counter::ConnectionsFaulty)), (1, 5));
}

#[test]
fn what_a_client_sends_after_its_end_is_taken_and_ignored() {
    let mut hall = Hall::new(Limits::default());
    let (conn, _) = hall.enter();
    let bytes = [vec![9], request(1, "t.ask", "a")].concat();
    assert_eq!(hall.feed(conn, &bytes).len(), 1);
    let mut input = &bytes[..];
    assert_eq!(hall.node.next(hall.now, conn, &mut input), Next::NeedBytes);
    assert!(input.is_empty());
    hall.events();
    assert_eq!(hall.node.next(hall.now, conn, &mut &bytes[..]), Next::NeedBytes);
}

#[test]
fn a_shutdown_answers_what_is_in_flight_and_ends_empty() {
    let mut hall = Hall::new(Limits::default().resume_window(seconds(600)));
    let ((busy, session), (idle, idle_session)) = (hall.enter(), hall.enter());
    let (lost, lost_session) = hall.enter();
    hall.node.handle_end(hall.now, lost, CloseReason::PeerClosed);
    hall.events();
    let key = hall.call(busy, &request(1, "t.ask", "a"));
    hall.node.shutdown(hall.now);
    assert_eq!(hall.node.accept(hall.now), None);
    let closed = |session| (session, Event::Closed(CloseReason::Shutdown));
    assert_eq!(hall.events(), [closed(idle_session), closed(lost_session)]);
    assert_eq!(hall.sent(idle), [""; 0]);
    hall.node.reply(hall.now, session, key, Reply::encode::<Json>(Ok(1)));
    assert_eq!(hall.events(), [closed(session)]);
    assert_eq!(hall.sent(busy), ["reply 1 1"]);
    assert_eq!((hall.events(), hall.node.is_empty()), (vec![], true));
}

#[test]
fn a_loop_that_waits_for_sockets_is_woken_for_what_was_decided() {
    let mut hall = Hall::new(Limits::default().heartbeat(seconds(10)));
    let (_, session) = hall.enter();
    assert_eq!(hall.node.poll_timeout(), Some(hall.now + seconds(10)));
    hall.node.command(hall.now, session, Command::Close(CloseReason::Closed));
    assert!(hall.node.poll_timeout().is_some_and(|at| at <= hall.now));
    assert_eq!(hall.events().len(), 1);
    assert_eq!(hall.node.poll_timeout(), None);
}
