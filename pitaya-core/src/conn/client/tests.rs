//! The client's end against a server that is played by hand, and against our own.

mod peer;

use std::num::NonZeroU64;

use bytes::Bytes;
use pitaya_proto::dictionary::Dictionary;
use pitaya_proto::handshake::{HandshakeLimits, HandshakeRequest};
use pitaya_proto::packet::{HEADER_BYTES, PacketError};
use pitaya_proto::zlib::InflateError;
use proptest::prelude::*;

use super::*;
use crate::conn::{ConnConfig, ConnEvent, ServerConn};
use crate::{Limits, Reply};
use peer::*;

#[test]
fn the_handshake_goes_out_first_and_says_who_we_are() {
    let mut config = ClientConfig::default();
    config.handshake.client_version = "9".to_owned();
    config.handshake.platform = "moon".to_owned();
    let mut peer = Peer::dial(config);
    let sent = peer.sent();
    let [(PacketKind::Handshake, body)] = &sent[..] else { panic!("{sent:?}") };
    let said = HandshakeRequest::parse(body, &LIMITS).unwrap();
    assert_eq!((&*said.platform, &*said.client_version), ("moon", "9"));
    assert_eq!(said.lib_version, format!("{}-pitaya-rust", env!("CARGO_PKG_VERSION")));
    assert!(said.inflates() && said.reads_route_codes());
}

#[test]
fn an_accepted_handshake_is_acknowledged() {
    let mut peer = Peer::dial(ClientConfig::default());
    peer.sent();
    assert_eq!(peer.hear(&accepted("json", 30)), ["opened json"]);
    assert_eq!(peer.sent(), [(PacketKind::HandshakeAck, vec![])]);
}

#[test]
fn a_refused_handshake_ends_the_connection() {
    let mut peer = Peer::dial(ClientConfig::default());
    let refusal = handshake(br#"{"code":400,"sys":{}}"#);
    assert_eq!(
        peer.hear(&refusal),
        ["closed: handshake refused: the server answers with code 400"]
    );
    assert!(peer.conn.is_finished());
}

#[test]
fn a_server_that_does_not_answer_the_handshake_is_given_up() {
    let mut peer = Peer::dial(ClientConfig::default());
    assert_eq!(peer.conn.poll_timeout(), Some(seconds(5)));
    assert_eq!(peer.wait_until(seconds(5)), ["closed: the handshake took too long"]);
}

#[test]
fn a_handshake_that_no_packet_holds_never_leaves() {
    let user = serde_json::json!({ "name": "x".repeat(1 << 24) });
    let mut config = ClientConfig::default();
    config.handshake.user = Some(user.as_object().unwrap().clone());
    let mut peer = Peer::dial(config);
    let events = peer.hear(b"");
    assert!(events[0].starts_with("closed: handshake refused: packet body of"), "{events:?}");
    assert_eq!(peer.sent(), []);
}

#[test]
fn replies_find_their_requests_in_any_order() {
    let mut peer = Peer::open();
    peer.request("hall.join", b"1", "ada");
    peer.request("hall.join", b"2", "bob");
    assert_eq!(
        peer.messages(),
        [request(1, Route::Name(b"hall.join"), b"1"), request(2, Route::Name(b"hall.join"), b"2")]
    );
    assert_eq!(peer.hear(&response(2, false, b"two")), ["bob: two"]);
    assert_eq!(peer.hear(&response(1, false, b"one")), ["ada: one"]);
    assert_eq!(peer.conn.calls.poll_timeout(), None);
}

#[test]
fn an_error_is_read_as_the_server_writes_it() {
    let error = Error::new("SHOP-7", "too expensive");
    let (json, protobuf) = (error.to_json(), error.to_protobuf());
    for (serializer, body) in [("json", &json), ("protobuf", &protobuf), ("own", &protobuf)] {
        let mut peer = Peer::dial(ClientConfig::default());
        peer.hear(&accepted(serializer, 30));
        peer.request("shop.buy", b"", "ada");
        assert_eq!(peer.hear(&response(1, true, body)), ["ada: SHOP-7: too expensive"]);
    }
}

#[test]
fn a_late_reply_is_dropped_and_counted() {
    let mut peer = Peer::open();
    peer.request("a.b", b"", "ada");
    peer.sent();
    assert_eq!(peer.conn.poll_timeout(), Some(seconds(5)));
    assert_eq!(peer.wait_until(seconds(5)), ["ada: PIT-504: request timeout"]);
    for id in [1, 7, 1 << 40] {
        assert_eq!(peer.hear(&response(id, false, b"late")), [""; 0]);
    }
    assert_eq!(peer.counters.count(Counter::RepliesLate), 3);
    assert_eq!(peer.counters.count(Counter::RequestsExpired), 1);
}

#[test]
fn routes_of_the_dictionary_travel_as_codes_both_ways() {
    let mut peer = Peer::dial(ClientConfig::default());
    peer.hear(&handshake(br#"{"code":200,"sys":{"dict":{"a.b":1,"onHit":258},"heartbeat":30}}"#));
    peer.sent();
    peer.request("a.b", b"", "ada");
    peer.notify("a.c", b"");
    assert_eq!(
        peer.messages(),
        [request(1, Route::Code(1), b""), notify(Route::Name(b"a.c"), b"")]
    );
    assert_eq!(peer.hear(&push(Route::Code(258), b"1")), ["push onHit: 1"]);
    assert_eq!(peer.hear(&push(Route::Name(b"on\xff"), b"2")), ["push on\u{fffd}: 2"]);
    let events = peer.hear(&push(Route::Code(3), b""));
    assert_eq!(events[1..], ["closed: route code 3 is not in the dictionary"]);
}

#[test]
fn bodies_are_compressed_only_when_configured_long_and_shorter() {
    let long = [b'a'; 1000];
    for (compression, body, is_compressed) in
        [(false, &long[..], false), (true, &long[..], true), (true, &long[..255], false)]
    {
        let mut peer = Peer::dial(ClientConfig { compression, ..ClientConfig::default() });
        peer.hear(&accepted("json", 30));
        peer.sent();
        peer.notify("a.b", body);
        let sent = peer.messages();
        assert_eq!(sent[0].len() < body.len(), is_compressed);
    }
}

#[test]
fn compressed_replies_and_pushes_are_inflated() {
    let mut peer = Peer::open();
    peer.request("a.b", b"", "ada");
    let mut scratch = Scratch::new();
    let body = Body::deflate(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &mut scratch);
    let reply = data(Message::Response { id: 1, error: false, body });
    assert_eq!(peer.hear(&reply), ["ada: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]);
    let push = data(Message::Push { route: Route::Name(b"on"), body });
    assert_eq!(peer.hear(&push), ["push on: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]);
}

#[test]
fn a_bomb_ends_the_connection_and_answers_its_waiter() {
    let limits = Limits::default().received_bytes_max(1000);
    let mut peer = Peer::dial(ClientConfig { limits, ..ClientConfig::default() });
    peer.hear(&accepted("json", 30));
    peer.request("a.b", b"", "ada");
    let (plain, mut scratch) = ([0; 1001], Scratch::new());
    let body = Body::deflate(&plain, &mut scratch);
    let events = peer.hear(&data(Message::Response { id: 1, error: false, body }));
    assert_eq!(events[0], "ada: PIT-499: broken low-level pipe");
    assert_eq!(
        events[1..],
        [format!("closed: {}", CloseReason::BadInflate(InflateError::TooLarge))]
    );
}

#[test]
fn every_waiter_is_answered_before_the_end_is_told_once() {
    let mut peer = Peer::open();
    peer.request("a.b", b"", "ada");
    peer.request("a.b", b"", "bob");
    peer.conn.handle_end(Instant::ZERO, CloseReason::end(0));
    let gone = "PIT-499: broken low-level pipe";
    assert_eq!(
        peer.hear(b""),
        [format!("ada: {gone}"), format!("bob: {gone}"), "closed: closed by the peer".to_owned()]
    );
    peer.request("a.b", b"", "cy");
    assert_eq!(peer.hear(b""), [format!("cy: {gone}")]);
    assert!(peer.conn.is_finished());
}

#[test]
fn a_request_is_unsent_as_long_as_its_last_byte_is_not_written() {
    let whole = request(1, Route::Name(b"a.b"), b"").len() + HEADER_BYTES;
    for written in 0..=2 * whole {
        let mut peer = Peer::open();
        peer.request("a.b", b"", "ada");
        peer.request("a.b", b"", "bob");
        peer.conn.outbox().advance(written);
        peer.conn.handle_end(Instant::ZERO, CloseReason::PeerClosed);
        let fate = |end| if written < end { "unsent" } else { "unknown" };
        assert_eq!(peer.fates(), [("ada", fate(whole)), ("bob", fate(2 * whole))], "{written}");
    }
}

#[test]
fn what_waits_when_we_close_may_still_arrive() {
    let mut peer = Peer::open();
    peer.request("a.b", b"", "ada");
    peer.command(ClientCommand::Close(CloseReason::Closed));
    peer.request("a.b", b"", "late");
    assert_eq!(peer.fates(), [("ada", "unknown"), ("late", "unsent")]);
    assert_eq!(peer.messages().len(), 1);
}

#[test]
fn a_kick_gives_its_reason_if_there_is_one() {
    for (body, told) in [
        (&b""[..], "closed: kicked: no reason given"),
        (br#"{"reason":"be nice"}"#, "closed: kicked: be nice"),
    ] {
        let mut peer = Peer::open();
        assert_eq!(peer.hear(&packet(PacketKind::Kick, body)), [told]);
    }
}

#[test]
fn what_waits_is_still_written_when_we_close() {
    let mut peer = Peer::open();
    peer.notify("a.b", b"bye");
    peer.command(ClientCommand::Close(CloseReason::Closed));
    assert_eq!(peer.hear(b""), ["closed: closed by the application"]);
    assert!(!peer.conn.is_finished());
    assert_eq!(peer.messages(), [notify(Route::Name(b"a.b"), b"bye")]);
    assert!(peer.conn.is_finished());
}

#[test]
fn a_handshake_that_waits_for_the_dial_and_for_layers_has_all_of_the_connect_timeout() {
    let limits = Limits::default().connect_timeout(Duration::from_secs(30));
    assert!(limits.write_timeout < Duration::from_secs(29));
    let mut peer = Peer::dial(ClientConfig { limits, ..ClientConfig::default() });
    assert_eq!(peer.wait_until(seconds(29)), [""; 0]);
    assert_eq!(peer.wait_until(seconds(30)), ["closed: the handshake took too long"]);
}

#[test]
fn a_client_beats_every_interval_and_gives_up_after_two_and_a_half_and_a_second() {
    let mut peer = Peer::dial(ClientConfig::default());
    peer.hear(&accepted("json", 2));
    peer.sent();
    assert_eq!(peer.conn.poll_timeout(), Some(seconds(2)));
    assert_eq!(peer.wait_until(seconds(2)), [""; 0]);
    assert_eq!(peer.sent(), [(PacketKind::Heartbeat, vec![])]);
    peer.hear(&packet(PacketKind::Heartbeat, b""));
    assert_eq!(peer.wait_until(seconds(7)), [""; 0]);
    peer.sent();
    assert_eq!(peer.wait_until(seconds(8)), ["closed: nothing was heard for too long"]);
}

#[test]
fn a_server_that_asks_for_no_heartbeats_may_be_silent() {
    let mut peer = Peer::dial(ClientConfig::default());
    peer.hear(&accepted("json", 0));
    peer.sent();
    assert_eq!(peer.conn.poll_timeout(), None);
    assert_eq!(peer.wait_until(seconds(1 << 30)), [""; 0]);
}

#[test]
fn no_interval_that_a_server_asks_for_makes_a_client_spin_or_time_overflow() {
    for (heartbeat, first) in [("1e-9", Duration::from_millis(100)), ("1e19", HEARTBEAT_MAX)] {
        let mut peer = Peer::dial(ClientConfig::default());
        let json = format!(r#"{{"code":200,"sys":{{"heartbeat":{heartbeat}}}}}"#);
        peer.hear(&handshake(json.as_bytes()));
        peer.sent();
        assert_eq!(peer.conn.poll_timeout(), Some(Instant::ZERO + first));
    }
}

#[test]
fn every_packet_proves_the_server_alive() {
    let mut peer = Peer::dial(ClientConfig::default());
    peer.hear(&accepted("json", 2));
    for at in 1..5 {
        peer.now = seconds(4 * at);
        assert_eq!(peer.hear(&push(Route::Name(b"on"), b"")), ["push on: "]);
        assert_eq!(peer.wait_until(seconds(4 * at)), [""; 0]);
        peer.sent();
    }
    assert_eq!(peer.wait_until(seconds(22)), ["closed: nothing was heard for too long"]);
}

#[test]
fn each_part_of_a_large_packet_proves_the_server_alive() {
    let mut peer = Peer::dial(ClientConfig::default());
    peer.hear(&accepted("json", 2));
    let large = push(Route::Name(b"on"), &[b'x'; 20]);
    for (at, byte) in large.iter().enumerate() {
        peer.now = seconds(4 * at as u64);
        let events = peer.hear(&[*byte]);
        assert_eq!(events.len(), usize::from(at + 1 == large.len()), "{events:?}");
        peer.conn.handle_timeout(peer.now, &mut Scratch::new());
        peer.sent();
    }
}

#[test]
fn a_server_that_reads_nothing_is_given_up() {
    let mut peer = Peer::open();
    peer.now = seconds(3);
    peer.notify("a.b", b"");
    assert_eq!(peer.conn.poll_timeout(), Some(seconds(8)));
    assert_eq!(peer.wait_until(seconds(8)), ["closed: nothing was read by the peer for too long"]);
}

#[test]
fn what_is_asked_before_the_handshake_is_done_is_not_sent() {
    let mut peer = Peer::dial(ClientConfig::default());
    peer.request("a.b", b"", "ada");
    peer.notify("a.c", b"");
    assert_eq!(peer.fates(), [("ada", "unsent")]);
    peer.hear(&accepted("json", 30));
    let kinds: Vec<_> = peer.sent().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [PacketKind::Handshake, PacketKind::HandshakeAck]);
    assert_eq!(peer.counters.count(Counter::RequestsRefused), 1);
    assert_eq!(peer.counters.count(Counter::NotifiesDropped), 1);
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() {
    let limits = Limits::default().in_flight_max(1).outbound_bytes_max(100);
    let mut peer = Peer::dial(ClientConfig { limits, ..ClientConfig::default() });
    peer.hear(&accepted("json", 30));
    peer.sent();
    let refused = |peer: &mut Peer, route: &str, body: &[u8]| {
        peer.request(route, body, "ada");
        peer.hear(b"")
    };
    let events = refused(&mut peer, &"x".repeat(256), b"");
    assert_eq!(events, ["ada: PIT-400: route of 256 bytes, at most 255 fit a message"]);
    let events = refused(&mut peer, "a.b", &vec![0; 1 << 24]);
    assert!(events[0].starts_with("ada: PIT-413: packet body of"), "{events:?}");
    assert_eq!(peer.sent(), []);
    peer.notify("a.b", &[0; 200]);
    let events = refused(&mut peer, "a.b", &[0; 1]);
    assert_eq!(events, ["ada: PIT-429: too much waits to be sent"]);
    peer.notify("a.b", &[0; 1]);
    assert_eq!(peer.messages().len(), 1);
    peer.request("a.b", b"", "ada");
    let events = refused(&mut peer, "a.b", b"");
    assert_eq!(events, ["ada: PIT-429: too many requests in flight"]);
    assert_eq!(peer.counters.count(Counter::RequestsRefused), 4);
    assert_eq!(peer.counters.count(Counter::NotifiesDropped), 1);
}

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    for (bytes, reason) in [
        (vec![9], CloseReason::BadPacket(PacketError::Kind(9))),
        (accepted("json", 30), CloseReason::Unexpected(PacketKind::Handshake)),
        (packet(PacketKind::HandshakeAck, b""), CloseReason::Unexpected(PacketKind::HandshakeAck)),
        (data(request_message(Route::Name(b"a.b"))), CloseReason::UnexpectedMessage),
    ] {
        let mut peer = Peer::open();
        assert_eq!(peer.hear(&bytes), [format!("closed: {reason}")]);
        assert!(peer.conn.is_finished());
    }
}

#[test]
fn our_own_server_understands_it() {
    let config = ConnConfig::new("json", Dictionary::new([("a.b", 1)]).unwrap(), Limits::default());
    let mut server = ServerConn::new(Arc::new(config.unwrap()), Instant::ZERO);
    let mut peer = Peer::dial(ClientConfig::default());
    let bytes = drain(peer.conn.outbox());
    assert_eq!(server.next(Instant::ZERO, &mut &bytes[..]), Next::NeedBytes);
    assert_eq!(peer.hear(&drain(server.outbox())), ["opened json"]);
    peer.request("a.b", b"1", "ada");
    let bytes = drain(peer.conn.outbox());
    let mut input = &bytes[..];
    assert!(matches!(server.next(Instant::ZERO, &mut input), Next::Event(ConnEvent::Opened(_))));
    let Next::Event(ConnEvent::Called(call)) = server.next(Instant::ZERO, &mut input) else {
        panic!("no call")
    };
    assert_eq!(call.route, Route::Code(1));
    let (id, scratch) = (NonZeroU64::new(1).unwrap(), &mut Scratch::new());
    server.reply(Instant::ZERO, id, &Reply::ok(Bytes::from_static(b"one")), scratch).unwrap();
    server.kick(Instant::ZERO, Some("bye"), CloseReason::Closed);
    assert_eq!(peer.hear(&drain(server.outbox())), ["ada: one", "closed: kicked: bye"]);
}

proptest! {
    #[test]
    fn however_a_server_s_bytes_are_cut_they_say_the_same(
        noise in prop::collection::vec(any::<u8>(), 0..20),
        cuts in prop::collection::vec(1..9_usize, 1..8),
    ) {
        let mut stream = accepted("json", 30);
        stream.extend(response(1, false, b"one"));
        stream.extend(push(Route::Name(b"on"), b"two"));
        stream.extend(packet(PacketKind::Data, &noise));
        stream.extend(&noise);
        let mut whole = Peer::dial(ClientConfig::default());
        let mut pieces = Peer::dial(ClientConfig::default());
        let (mut told, mut cuts) = (Vec::new(), cuts.into_iter().cycle());
        for peer in [&mut whole, &mut pieces] {
            peer.request("a.b", b"", "ada");
        }
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(cuts.next().unwrap()));
            told.extend(pieces.hear(piece));
            rest = after;
        }
        prop_assert_eq!(whole.hear(&stream), told);
        prop_assert_eq!(whole.sent(), pieces.sent());
    }
}

const LIMITS: HandshakeLimits = HandshakeLimits { bytes_max: 4096, depth_max: 9, keys_max: 99 };
