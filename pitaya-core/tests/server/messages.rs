//! What messages and bodies lead to: routes, errors, compression, codes, and bytes in any pieces.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use pitaya_core::{Broadcast, Command, ConnConfig, Counter, Limits, Machine, Reply};
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, PacketKind};
use pitaya_proto::zlib::Scratch;

use crate::rig::{
    COCOS, GO, JS, LIBPITAYA, Rig, ack, data, heartbeat, name, notify, packet, request, seconds,
    shake,
};

fn compressed(plain: &str) -> Vec<u8> {
    Scratch::new().deflate(plain.as_bytes()).expect("it gets shorter").to_vec()
}

#[test]
fn a_route_that_leads_nowhere_is_answered_with_pitayas_words() {
    let mut rig = Rig::working(Limits::default());
    for (route, answer) in [
        (&b"\xff.\xfe"[..], "PIT-400: route is not utf-8"),
        (b"a.", "PIT-400: route field can not be empty"),
        (b"a", "PIT-400: invalid route"),
        (b"t.nobody", "PIT-404: pitaya/handler: gate.t.nobody not found"),
        (b"room.t.ask", "PIT-500: no servers available of this type"),
        (b"t.tell", "PIT-400: tried to request a notify route"),
    ] {
        let (route, body) = (Route::Name(route), Body::Plain(b"{}"));
        assert_eq!(rig.feed(&data(Message::Request { id: 9, route, body })), [""; 0]);
        assert_eq!(rig.sent(), [format!("error 9 {answer}")]);
    }
}

#[test]
fn error_bodies_in_json_hold_both_keys() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&request(1, "room.t.ask", ""));
    let text = String::from_utf8_lossy(rig.player.outbox().chunk()).into_owned();
    let json = r#"{"code":"PIT-500","msg":"no servers available of this type"}"#;
    assert!(text.ends_with(json), "{text}");
}

#[test]
fn a_request_id_in_flight_closes_and_an_answered_one_is_free_again() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&request(1, "t.ask", "a"));
    rig.reply("a", "A");
    assert_eq!(rig.feed(&request(1, "t.quick", "b")), ["call t.quick b"]);
    rig.pass(seconds(1));
    assert_eq!(rig.feed(&request(1, "t.free", "c")), ["call t.free c"], "the other is late");
    let closed = ["closed: request 1 is already in flight"];
    assert_eq!(rig.feed(&request(1, "t.free", "d")), closed);

    let mut rig = Rig::working(Limits::default());
    rig.feed(&[request(1, "t.ask", "a"), request(2, "t.ask", "waits")].concat());
    assert_eq!(rig.feed(&request(2, "t.ask", "b")), ["closed: request 2 is already in flight"]);
}

#[test]
fn a_message_only_servers_send_and_one_that_is_none_close() {
    for (body, reason) in [
        (&[4, 1, 2][..], "a message that only the other side sends"),
        (&[6, 1, b'a'], "a message that only the other side sends"),
        (&[8, 0], "bad message: "),
        (&[0], "bad message: "),
        (&[1, 1, 0, 9], "route code 9 is not in the dictionary"),
    ] {
        let mut rig = Rig::working(Limits::default());
        let news = rig.feed(&packet(PacketKind::Data, body));
        assert!(news.len() == 1 && news[0].starts_with(&format!("closed: {reason}")), "{news:?}");
        assert!(rig.is_finished());
        assert_eq!(rig.count(Counter::ConnectionsFaulty), 1);
    }
}

#[test]
fn codes_are_taken_from_every_client() {
    for client in [GO, JS, LIBPITAYA, COCOS] {
        let mut rig = Rig::connected(Limits::default());
        rig.open(client);
        let body = Body::Plain(b"a");
        let ask = data(Message::Request { id: 1, route: Route::Code(1), body });
        assert_eq!(rig.feed(&ask), ["call t.ask a"]);
    }
}

#[test]
fn codes_and_compression_go_only_to_those_who_can_take_them() {
    let long = "x".repeat(1000);
    for (client, zlib, route) in
        [(GO, "zlib ", "2"), (JS, "", "2"), (LIBPITAYA, "zlib ", "on.news"), (COCOS, "", "on.news")]
    {
        let mut rig = Rig::connected(Limits::default());
        rig.open(client);
        rig.feed(&request(1, "t.ask", "a"));
        rig.push(&long).push("short").reply("a", &long);
        let expected = [
            format!("push {route} {zlib}{long}"),
            format!("push {route} short"),
            format!("reply 1 {zlib}{long}"),
        ];
        assert_eq!(rig.sent(), expected, "{client}");
    }
}

#[test]
fn a_push_for_many_reads_to_each_kind_of_client_like_one_for_it_alone() {
    let long = "x".repeat(1000);
    let pushes = [&*long, "short"].map(|body| Arc::new(Broadcast::new("on.news", body.to_owned())));
    for client in [GO, JS, LIBPITAYA, COCOS, GO, JS, LIBPITAYA, COCOS] {
        let mut alone = Rig::connected(Limits::default());
        alone.open(client);
        alone.push(&long).push("short");
        let mut among = Rig::connected(Limits::default());
        among.open(client);
        for push in &pushes {
            among.command(Command::Broadcast(Arc::clone(push)));
        }
        assert_eq!(among.sent(), alone.sent(), "{client}");
        assert_eq!(among.count(Counter::PushesTaken), 2);
    }
}

#[test]
fn a_push_for_many_that_finds_no_room_closes_the_session() {
    let mut rig = Rig::working(Limits::default().outbound_packets_max(2));
    let push = Arc::new(Broadcast::new("on.news", "a"));
    for _ in 0..3 {
        rig.command(Command::Broadcast(Arc::clone(&push)));
    }
    let reason = "closed: the client reads too slowly for what is pushed to it";
    assert_eq!(rig.feed(b""), [reason]);
    assert_eq!((rig.count(Counter::PushesTaken), rig.count(Counter::PushesRefused)), (2, 1));
}

#[test]
fn without_compression_nothing_is_compressed() {
    let mut config =
        ConnConfig::new("json", Default::default(), Limits::default()).expect("it is small");
    config.compression = false;
    let mut rig = Rig::with_config(config);
    rig.open(GO);
    let long = "x".repeat(1000);
    assert_eq!(rig.push(&long).sent(), [format!("push on.news {long}")]);
}

#[test]
fn a_compressed_body_reaches_its_handler_inflated_now_or_later() {
    let long = "x".repeat(1000);
    let zlib = compressed(&long);
    let ask = |id| data(Message::Request { id, route: name("t.ask"), body: Body::Zlib(&zlib) });
    let mut rig = Rig::working(Limits::default());
    assert_eq!(rig.feed(&[ask(1), ask(2)].concat()), [format!("call t.ask {long}")]);
    assert_eq!(rig.reply(&long, "").news(), [format!("call t.ask {long}")]);
}

#[test]
fn waiting_bodies_count_as_large_as_they_are_kept() {
    let zlib = compressed(&"x".repeat(1000));
    let tell = data(Message::Notify { route: name("t.ask"), body: Body::Zlib(&zlib) });
    let mut rig = Rig::working(Limits::default().calls_waiting_bytes_max(2000));
    let bytes = [notify("t.tell", "runs"), tell.repeat(9)].concat();
    assert_eq!(rig.feed(&bytes), ["call t.tell runs"]);
    assert!(rig.paused);
    assert_eq!(rig.player.calls(), 3);
}

#[test]
fn a_body_that_does_not_inflate_closes_once_and_never_runs() {
    let bomb = compressed(&"x".repeat(65_537));
    for (zlib, reason, counter) in [
        (&b"no zlib"[..], "malformed zlib stream", Counter::ConnectionsFaulty),
        (&bomb, "zlib stream inflates to more than allowed", Counter::BodiesTooLarge),
        (b"", "zlib stream without end", Counter::ConnectionsFaulty),
    ] {
        let closed = format!("closed: bad compressed body: {reason}");
        let runs = request(1, "t.ask", "runs");
        // It would run at once, or wait, or lead nowhere.
        for (route, before) in [("t.ask", &vec![]), ("t.ask", &runs), ("t.nowhere", &vec![])] {
            let bad = data(Message::Request { id: 2, route: name(route), body: Body::Zlib(zlib) });
            let mut rig = Rig::working(Limits::default());
            rig.feed(before);
            let running = rig.player.calls();
            assert_eq!(rig.feed(&[bad.clone(), heartbeat()].concat()), [closed.as_str()]);
            assert_eq!(rig.player.calls(), running);
            assert_eq!((rig.count(counter), rig.count(Counter::CallsDropped)), (1, 0));
        }
    }
}

#[test]
fn a_reply_that_no_packet_can_hold_is_answered_with_an_error() {
    let mut rig = Rig::connected(Limits::default());
    rig.open(COCOS);
    rig.feed(&request(1, "t.ask", "a"));
    rig.reply("a", &"x".repeat(packet::BODY_BYTES_MAX));
    let sent = rig.sent();
    assert!(sent.len() == 1 && sent[0].starts_with("error 1 PIT-413: "), "{}", sent.len());
}

#[test]
fn an_error_reply_says_so() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&request(1, "t.ask", "a"));
    let key = rig.key("a");
    let body = Bytes::from_static(br#"{"code":"GAME-1","msg":"no gold"}"#);
    rig.command(Command::Reply(key, Reply::error(body)));
    assert_eq!(rig.sent(), ["error 1 GAME-1: no gold"]);
}

/// A client's whole life, in pieces of `piece` bytes; calls are answered as they come but for some.
fn life(bytes: &[u8], piece: usize) -> (Vec<String>, Vec<String>) {
    let mut rig = Rig::connected(Limits::default().calls_max(4).outbound_packets_max(5));
    let (mut news, mut sent) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        rig.receive(piece);
        while let Some(line) = rig.next() {
            if let Some(body) = line.strip_prefix("call t.ask ") {
                rig.push(body).reply(body, "done");
            } else if let Some(body) = line.strip_prefix("call t.tell ") {
                rig.reply(body, "");
            }
            news.push(line);
            sent.extend(rig.sent());
        }
    }
    news.extend(rig.eof());
    sent.extend(rig.sent());
    (news, sent)
}

#[test]
fn how_the_network_cuts_the_stream_changes_neither_events_nor_answers() {
    let zlib = compressed(&"y".repeat(300));
    let good = [
        shake(GO),
        ack(),
        request(1, "t.ask", "one"),
        request(2, "t.nobody", "two"),
        heartbeat(),
        notify("t.tell", "three"),
        data(Message::Request { id: 3, route: Route::Code(1), body: Body::Zlib(&zlib) }),
        request(0, "t.ask", "four"),
        request(4, "t.free", "five"),
    ]
    .concat();
    for end in [&[][..], &[4, 0, 0], &[9], &request(4, "t.ask", "again")] {
        let bytes = [&good, end].concat();
        let whole = life(&bytes, bytes.len());
        assert!(whole.0.len() >= 6 && whole.1.len() >= 5, "{whole:?}");
        for piece in [1, 2, 3, 5, 7, 64] {
            assert_eq!(life(&bytes, piece), whole, "pieces of {piece} bytes");
        }
    }
}
