//! Both ends of a connection, joined by nothing but bytes, cut at every place.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Buf;
use pitaya_core::{Counter, Counters, Instant, Limits, Outbox};

use super::*;

#[test]
fn what_one_end_says_the_other_hears_however_the_wire_is_cut() {
    for layers in [Joined::tcp, Joined::tls, Joined::ws, Joined::wss] {
        for step in [1, 2, 3, 7, 64, 1000, 70_000] {
            let mut joined = layers();
            let (hello, long) = (packet(5, b'a'), packet(20_000, b'b'));
            for said in [&hello, &long, &packet(0, b'c')] {
                joined.client.say(said);
                joined.server.say(said);
            }
            joined.settle(step);
            let all = [hello, long, packet(0, b'c')].concat();
            assert_eq!((joined.server.heard, joined.client.heard), (all.clone(), all), "{step}");
        }
    }
}

#[test]
fn packets_stay_in_the_outbox_until_they_are_written() {
    let mut joined = Joined::wss();
    joined.settle(4096);
    joined.server.say(&packet(100, b'a'));
    let wire = joined.server.transport.encode(&mut joined.server.outbox).remaining();
    assert!(wire > 104);
    assert_eq!(joined.server.outbox.packets(), 1);
    joined.settle(10);
    assert_eq!(joined.server.outbox.packets(), 0);
    assert_eq!(joined.client.heard, packet(100, b'a'));
}

#[test]
fn a_goodbye_is_told_in_the_words_of_the_layers() {
    for layers in [Joined::tls, Joined::ws, Joined::wss] {
        let mut joined = layers();
        joined.settle(100);
        assert!(!joined.client.transport.is_ended());
        joined.server.say(&packet(3, b'z'));
        joined.settle(100);
        let goodbye = joined.server.transport.close().map(|last| last.split()).unwrap_or_default();
        assert!(!goodbye.is_empty());
        joined.client.hear(&goodbye).unwrap();
        assert!(joined.client.transport.is_ended());
        assert_eq!(joined.client.heard, packet(3, b'z'));
    }
}

#[test]
fn what_came_before_a_failure_is_still_heard() {
    for layers in [Joined::ws, Joined::wss] {
        for step in [1, 1000] {
            let mut joined = layers();
            joined.settle(1000);
            joined.client.say(&packet(3, b'a'));
            joined.client.say(b"no packet");
            assert!(joined.try_settle(step).is_err());
            assert_eq!(joined.server.heard, packet(3, b'a'), "{step}");
        }
    }
}

#[test]
fn what_nobody_says_is_due_at_its_time_and_counted() {
    let (mut tls, mut ws) = (Joined::tls(), Joined::ws());
    let limits = Limits::default();
    let due = Some(Instant::ZERO + limits.tls_timeout);
    assert_eq!(tls.server.transport.poll_timeout(), due);
    tls.server.transport.handle_timeout();
    assert_eq!(tls.server.counters.count(Counter::TlsRefused), 1);
    ws.server.transport.handle_timeout();
    assert_eq!(ws.server.counters.count(Counter::UpgradesRefused), 1);
    tls.settle(1);
    ws.settle(1);
    assert_eq!(tls.server.transport.poll_timeout(), None);
    assert_eq!(ws.server.transport.poll_timeout(), None);
}

#[test]
fn whoever_connects_has_one_deadline_for_all_layers_and_they_have_none() {
    for layers in [Joined::tls, Joined::ws, Joined::wss] {
        let mut joined = layers();
        assert_eq!(joined.client.transport.poll_timeout(), None);
        joined.settle(100);
        assert_eq!(joined.client.transport.poll_timeout(), None);
    }
}

#[test]
fn a_message_that_began_is_due_unless_we_do_not_read() {
    let mut joined = Joined::ws();
    joined.settle(100);
    joined.client.say(&packet(50, b'a'));
    let wire = joined.client.wire();
    joined.server.hear(&wire[..9]).unwrap();
    let due = Some(Instant::ZERO + Limits::default().packet_timeout);
    assert_eq!(joined.server.transport.poll_timeout(), due);
    joined.server.transport.handle_pause();
    assert_eq!(joined.server.transport.poll_timeout(), None);
    joined.server.transport.handle_resume(Instant::ZERO);
    assert_eq!(joined.server.transport.poll_timeout(), due);
    joined.server.hear(&wire[9..12]).unwrap();
    assert_eq!(joined.server.transport.poll_timeout(), due);
    joined.server.hear(&wire[12..]).unwrap();
    assert_eq!(joined.server.transport.poll_timeout(), None);
    assert_eq!(joined.server.heard, packet(50, b'a'));
}

#[test]
fn answers_that_nobody_takes_stop_the_reading() {
    let mut joined = Joined::ws();
    joined.settle(100);
    // A ping of 100 bytes with a mask of zeros.
    let ping = [&[0x89, 0x80 | 100, 0, 0, 0, 0][..], &[7; 100]].concat();
    let mut pings = 0;
    while joined.server.transport.wants_bytes() {
        joined.server.hear(&ping).unwrap();
        pings += 1;
        assert!(pings < 10_000, "it never stops");
    }
    let answers = joined.server.wire();
    assert!(answers.len() >= 64 << 10);
    assert!(joined.server.transport.wants_bytes());
}

#[test]
fn a_long_packet_that_leaves_slowly_does_not_stop_the_reading() {
    // Two ends that both write one and read nothing would wait for each other.
    for layers in [Joined::tls, Joined::ws, Joined::wss] {
        let mut joined = layers();
        joined.settle(1000);
        joined.server.say(&packet(1 << 20, b'a'));
        let _ = joined.server.transport.encode(&mut joined.server.outbox);
        assert!(joined.server.transport.wants_bytes());
    }
}

#[test]
fn a_server_may_take_long_for_a_message_as_without_a_websocket() {
    let mut joined = Joined::ws();
    joined.settle(100);
    joined.server.say(&packet(50, b'a'));
    let wire = joined.server.wire();
    joined.client.hear(&wire[..9]).unwrap();
    assert_eq!(joined.client.transport.poll_timeout(), None);
}

#[test]
fn a_message_has_its_own_time_also_if_it_follows_at_once() {
    let mut joined = Joined::ws();
    joined.settle(100);
    let long = packet(30_000, b'a');
    for _ in 0..2 {
        joined.client.say(&long);
    }
    let wire = joined.client.wire();
    joined.server.hear(&wire[..20_000]).unwrap();
    let began = Limits::default().packet_timeout;
    assert_eq!(joined.server.transport.poll_timeout(), Some(Instant::ZERO + began));
    let later = Instant::ZERO + began / 2;
    joined.server.hear_at(later, &wire[20_000..50_000]).unwrap();
    assert_eq!(joined.server.transport.poll_timeout(), Some(later + began));
    joined.server.hear_at(later + began / 2, &wire[50_000..59_000]).unwrap();
    assert_eq!(joined.server.transport.poll_timeout(), Some(later + began));
    assert_eq!(joined.server.heard, long);
}

#[test]
fn a_message_that_began_behind_another_is_noticed_however_the_wire_is_cut() {
    let (whole, ping) = (&[0x82, 0x84, 0, 0, 0, 0, 1, 0, 0, 0][..], &[0x89, 0x80, 0, 0, 0, 0][..]);
    let first = &[0x02, 0x81, 0, 0, 0, 0, 4][..];
    let last = &[0x80, 0x83, 0, 0, 0, 0, 0, 0, 0][..];
    for (frames, has_begun) in [
        ([whole, whole, ping], false),
        ([whole, first, ping], true),
        ([whole, ping, &ping[..4]], true),
        ([whole, whole, &whole[..1]], true),
        ([first, ping, last], false),
    ] {
        for step in [1, 3, 100] {
            let mut joined = Joined::ws();
            joined.settle(100);
            for part in frames.concat().chunks(step) {
                joined.server.hear(part).unwrap();
            }
            let due = joined.server.transport.poll_timeout();
            assert_eq!(due.is_some(), has_begun, "{frames:?} by {step}");
        }
    }
}

#[test]
fn a_server_that_is_not_trusted_is_not_spoken_to() {
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let trusts = TlsClient::trusting(other.cert.pem()).unwrap();
    let mut joined = Joined::new(Some(trusts), None);
    assert!(joined.try_settle(1000).is_err());
    assert_eq!(joined.server.heard, b"");
}

/// One end of a connection.
struct End {
    transport: Transport,
    outbox: Outbox,
    heard: Vec<u8>,
    room: Room,
    counters: Arc<Counters>,
}

impl End {
    fn say(&mut self, packet: &[u8]) {
        let Ok(()) = self.outbox.append(|out| {
            out.extend_from_slice(packet);
            Ok::<(), Infallible>(())
        });
    }

    fn hear(&mut self, wire: &[u8]) -> io::Result<()> {
        self.hear_at(Instant::ZERO, wire)
    }

    fn hear_at(&mut self, now: Instant, wire: &[u8]) -> io::Result<()> {
        let (heard, decoded) = self.transport.decode(now, wire, &mut self.room);
        self.heard.extend_from_slice(heard);
        decoded
    }

    /// All that there is to write, taken.
    fn wire(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut wire = self.transport.encode(&mut self.outbox);
            if !wire.has_remaining() {
                return all;
            }
            let chunk = wire.chunk().len();
            all.extend_from_slice(wire.chunk());
            wire.advance(chunk);
        }
    }
}

struct Joined {
    client: End,
    server: End,
}

impl Joined {
    fn new(trusts: Option<TlsClient>, path: Option<&str>) -> Self {
        let (limits, now) = (Limits::default(), Instant::ZERO);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let counters = || Arc::new(Counters::default());
        let (mine, yours) = (counters(), counters());
        let tls = trusts.as_ref().map(|_| Tls::from_pem(&chain, &key).unwrap());
        let web = path.map(|_| Arc::new(Web::default()));
        let accepted = Transport::accept(tls.as_ref(), web.as_ref(), now, &limits, &mine);
        let (tls, web) = (trusts.as_ref().map(|it| (it, "localhost")), path.map(|it| ("a:1", it)));
        let connected = Transport::connect(tls, web, now, &limits, &yours);
        let end = |transport: io::Result<Transport>, counters| End {
            transport: transport.unwrap(),
            outbox: Outbox::default(),
            heard: Vec::new(),
            room: Room::default(),
            counters,
        };
        Self { client: end(connected, yours), server: end(accepted, mine) }
    }

    fn tcp() -> Self {
        Self::new(None, None)
    }

    fn tls() -> Self {
        Self::new(TlsClient::trusting_anybody().ok(), None)
    }

    fn ws() -> Self {
        Self::new(None, Some("/play"))
    }

    fn wss() -> Self {
        Self::new(TlsClient::trusting_anybody().ok(), Some("/play"))
    }

    fn settle(&mut self, step: usize) {
        self.try_settle(step).unwrap();
    }

    /// Carries bytes to and fro, so many at a time, until nobody says any more.
    fn try_settle(&mut self, step: usize) -> io::Result<()> {
        loop {
            let (to_server, to_client) = (self.client.wire(), self.server.wire());
            if to_server.is_empty() && to_client.is_empty() {
                return Ok(());
            }
            to_server.chunks(step).try_for_each(|part| self.server.hear(part))?;
            to_client.chunks(step).try_for_each(|part| self.client.hear(part))?;
        }
    }
}

/// A packet whose body is `length` times `byte`.
fn packet(length: usize, byte: u8) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(length).unwrap().to_be_bytes();
    [vec![4, high, middle, low], vec![byte; length]].concat()
}
