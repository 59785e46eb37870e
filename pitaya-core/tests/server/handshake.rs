//! From the first byte to the first call: who gets in, how long it may take, and who is sent away.

use std::sync::{Arc, Mutex};

use pitaya_core::{CloseReason, Command, ConnConfig, Counter, Limits, Validator};
use pitaya_proto::dictionary::Dictionary;
use pitaya_proto::packet::PacketKind;

use crate::rig::{
    COCOS, GO, JS, LIBPITAYA, Rig, ack, heartbeat, millis, packet, request, seconds, shake,
};

fn config() -> ConnConfig {
    ConnConfig::new("json", Dictionary::default(), Limits::default()).expect("it is small")
}

#[test]
fn every_known_client_gets_in() {
    for client in [GO, JS, LIBPITAYA, COCOS, "{}", "null"] {
        let mut rig = Rig::connected(Limits::default());
        assert_eq!(rig.feed(&shake(client)), [""; 0], "{client}");
        assert_eq!(rig.sent(), ["handshake 200"]);
        assert_eq!(rig.feed(&ack()), ["opened"]);
    }
}

#[test]
fn a_request_in_the_segment_of_the_acknowledgement_is_a_call() {
    let mut rig = Rig::connected(Limits::default());
    let bytes = [shake(GO), ack(), request(1, "t.ask", "a")].concat();
    assert_eq!(rig.feed(&bytes), ["opened", "call t.ask a"]);
}

#[test]
fn a_handshake_that_is_none_is_refused_with_400_and_the_connection_closed() {
    for json in ["", "x", "[]", r#"{"sys":{"platform":1}}"#] {
        let mut rig = Rig::connected(Limits::default());
        let news = rig.feed(&[shake(json), ack(), request(1, "t.ask", "a")].concat());
        assert_eq!(news.len(), 1);
        assert!(news[0].starts_with("closed: bad handshake: "), "{json}: {news:?}");
        assert!(!rig.is_finished(), "the refusal is not written yet");
        assert_eq!(rig.sent(), ["handshake 400"]);
        assert!(rig.is_finished());
    }
}

#[test]
fn validators_are_asked_in_order_and_the_first_refusal_is_the_last_word() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = |name: &'static str, verdict: Result<(), String>| -> (String, Box<Validator>) {
        let asked = Arc::clone(&asked);
        let validator = move |_: &_| {
            asked.lock().expect("nobody panicked").push(name);
            verdict.clone()
        };
        (name.to_owned(), Box::new(validator))
    };
    let mut config = config();
    config.validators = vec![
        asking("first", Ok(())),
        asking("second", Err("too old".to_owned())),
        asking("third", Err("never asked".to_owned())),
    ];
    let mut rig = Rig::with_config(config);
    let reason = "closed: handshake refused: failed to run 'second' validator: too old";
    assert_eq!(rig.feed(&[shake(GO), ack()].concat()), [reason]);
    assert_eq!(rig.sent(), ["handshake 400"]);
    assert_eq!(*asked.lock().unwrap(), ["first", "second"]);
    assert_eq!(rig.count(Counter::HandshakesRefused), 1);
}

#[test]
fn a_handshake_has_five_seconds_and_the_acknowledgement_five_more() {
    let expired = ["closed: the handshake took too long"];
    let mut rig = Rig::connected(Limits::default());
    assert_eq!(rig.pass(millis(4999)), [""; 0]);
    assert_eq!(rig.pass(millis(1)), expired);

    let mut rig = Rig::connected(Limits::default());
    rig.pass(millis(4999));
    assert_eq!(rig.feed(&shake(GO)), [""; 0]);
    rig.sent();
    assert_eq!(rig.pass(millis(4999)), [""; 0]);
    assert_eq!(rig.pass(millis(1)), expired);
    assert_eq!(rig.count(Counter::HandshakesExpired), 1);
}

#[test]
fn heartbeats_do_not_extend_the_handshake() {
    for bytes in [vec![], shake(GO)] {
        let mut rig = Rig::connected(Limits::default());
        rig.feed(&bytes);
        rig.sent();
        for _ in 0..49 {
            assert_eq!(rig.feed(&heartbeat()), [""; 0]);
            assert_eq!(rig.pass(millis(100)), [""; 0]);
        }
        assert_eq!(rig.pass(millis(100)), ["closed: the handshake took too long"]);
    }
}

#[test]
fn an_end_before_the_handshake_is_done_is_never_a_session() {
    let mut rig = Rig::connected(Limits::default().resume_window(seconds(2)));
    rig.feed(&shake(GO));
    assert_eq!(rig.eof(), ["closed: closed by the peer"]);
    assert!(rig.is_finished());
}

#[test]
fn what_does_not_belong_into_the_phase_closes_at_once() {
    let ask = request(1, "t.ask", "a");
    let unexpected = |kind| format!("closed: {}", CloseReason::Unexpected(kind));
    for (bytes, kind) in [
        (ask.clone(), PacketKind::Data),
        (ack(), PacketKind::HandshakeAck),
        ([shake(GO), ask].concat(), PacketKind::Data),
        ([shake(GO), shake(GO)].concat(), PacketKind::Handshake),
        ([shake(GO), ack(), shake(GO)].concat(), PacketKind::Handshake),
    ] {
        let mut rig = Rig::connected(Limits::default());
        assert_eq!(rig.feed(&bytes).last(), Some(&unexpected(kind)));
        assert_eq!(rig.count(Counter::ConnectionsFaulty), 1);
        rig.sent();
        assert!(rig.is_finished());
    }
}

#[test]
fn a_peer_that_speaks_another_protocol_is_closed_by_its_first_byte() {
    for byte in [0x16, b'G', 0, 0xff] {
        let mut rig = Rig::connected(Limits::default());
        let reason = format!("closed: bad packet: wrong packet type {byte:#04x}");
        assert_eq!(rig.feed(&[byte]), [reason]);
        assert!(rig.is_finished(), "there is nothing to be said to it");
    }
}

#[test]
fn a_stranger_may_send_four_kibibytes_and_a_client_sixty_four() {
    let too_large = |news: &[String]| news[0].starts_with("closed: bad packet: packet body of ");
    let mut rig = Rig::connected(Limits::default());
    assert_eq!(rig.feed(&packet(PacketKind::Heartbeat, &[0; 4096])), [""; 0]);
    assert!(too_large(&rig.feed(&[1, 0, 0x10, 1])), "by the header alone");

    let mut rig = Rig::connected(Limits::default());
    rig.feed(&shake(GO));
    assert!(too_large(&rig.feed(&[3, 0, 0x10, 1])));

    let mut rig = Rig::working(Limits::default());
    assert_eq!(rig.feed(&packet(PacketKind::Heartbeat, &[0; 65_536])), [""; 0]);
    assert!(too_large(&rig.feed(&[4, 1, 0, 1])));
}

#[test]
fn before_the_handshake_nothing_is_pushed_and_a_kick_is_a_plain_close() {
    let mut rig = Rig::connected(Limits::default());
    rig.push("unheard").command(Command::Kick(None, CloseReason::Replaced));
    assert_eq!(rig.news(), ["closed: replaced by a newer login"]);
    assert_eq!(rig.sent(), [""; 0]);
}
