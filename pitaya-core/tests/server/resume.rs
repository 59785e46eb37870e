//! A lost client that comes back: nothing that was pushed is missing, doubled or out of order.

use pitaya_core::{CloseReason, Command, Counter, Limits};

use crate::rig::{GO, Rig, ack, millis, notify, request, seconds, shake};

fn working() -> Rig {
    Rig::working(Limits::default().resume_window(seconds(2)))
}

#[test]
fn pushes_before_during_and_after_a_detach_arrive_in_order_on_the_next_connection() {
    let mut rig = working();
    rig.push("1").sent();
    rig.push("2").push("3");
    assert_eq!(rig.eof(), ["detached: closed by the peer"]);
    assert!(rig.is_finished(), "the stream is to be closed, the session is not");
    rig.push("4");
    rig.pass(millis(1999));
    let newcomer = rig.newcomer();
    rig.player.attach(rig.now, newcomer);
    rig.push("5");
    assert_eq!(rig.sent_anew(), ["push 2 2", "push 2 3", "push 2 4", "push 2 5"]);
    assert!(!rig.is_finished());
    assert_eq!(rig.feed(&request(1, "t.ask", "a")), ["call t.ask a"]);
}

#[test]
fn a_packet_torn_in_half_is_sent_again_whole_wherever_it_was_torn() {
    let whole = {
        let mut rig = working();
        rig.push("first").push("second").waiting_bytes()
    };
    for torn in 0..=whole {
        let mut rig = working();
        rig.push("first").push("second");
        rig.write(torn);
        let seen = rig.whole_packets();
        assert_eq!(rig.eof(), ["detached: closed by the peer"]);
        rig.push("third");
        let newcomer = rig.newcomer();
        rig.player.attach(rig.now, newcomer);
        let all = [seen, rig.sent_anew()].concat();
        assert_eq!(all, ["push 2 first", "push 2 second", "push 2 third"], "torn at {torn}");
    }
}

#[test]
fn what_the_new_connection_was_told_first_stays_first() {
    let mut rig = working();
    rig.push("kept");
    rig.eof();
    let mut newcomer = rig.newcomer();
    rig.push_to(&mut newcomer, "welcome back");
    rig.player.attach(rig.now, newcomer);
    assert_eq!(rig.sent_anew(), ["push 2 welcome back", "push 2 kept"]);
}

#[test]
fn the_answer_to_the_lost_handshake_is_not_given_on_the_new_connection() {
    for written in 0..100 {
        let mut rig = Rig::connected(Limits::default().resume_window(seconds(2)));
        assert_eq!(rig.feed(&[shake(GO), ack()].concat()), ["opened"]);
        rig.push("kept").write(written);
        assert_eq!(rig.eof(), ["detached: closed by the peer"]);
        let newcomer = rig.newcomer();
        rig.player.attach(rig.now, newcomer);
        assert_eq!(rig.sent_anew(), ["push 2 kept"], "after {written} bytes");
    }
}

#[test]
fn every_kind_of_loss_detaches_and_keeps_what_waits() {
    type Lose = fn(&mut Rig) -> Vec<String>;
    let ways: [(&str, Lose); 6] = [
        ("closed by the peer", Rig::eof),
        ("the stream ended inside a packet", |rig| {
            rig.feed(&[4]);
            rig.eof()
        }),
        ("the socket failed: broken pipe", |rig| {
            let reason = CloseReason::Io(std::io::ErrorKind::BrokenPipe);
            rig.command(Command::Close(reason)).news()
        }),
        ("nothing was read by the peer for too long", |rig| rig.push("unread").pass(seconds(5))),
        ("a packet did not finish in time", |rig| {
            rig.sent();
            rig.feed(&[4]);
            rig.pass_writing(seconds(10))
        }),
        ("nothing was heard for too long", |rig| rig.pass_writing(seconds(76))),
    ];
    for (reason, lose) in ways {
        let mut rig = working();
        assert_eq!(lose(&mut rig), [format!("detached: {reason}")]);
        rig.push("kept");
        // The owner of the stream may still report its end.
        assert_eq!(rig.eof(), [""; 0]);
        rig.fail();
        assert_eq!(rig.news(), [""; 0]);
        let newcomer = rig.newcomer();
        rig.player.attach(rig.now, newcomer);
        assert_eq!(rig.sent_anew().last().map(String::as_str), Some("push 2 kept"), "{reason}");
    }
}

#[test]
fn past_the_window_the_session_closes_once() {
    let mut rig = working();
    rig.feed(&request(1, "t.ask", "a"));
    rig.push("lost");
    assert_eq!(rig.eof(), ["detached: closed by the peer"]);
    assert_eq!(rig.pass(millis(1999)), [""; 0]);
    assert_eq!(rig.pass(millis(1)), ["closed: closed by the peer"]);
    assert_eq!(rig.eof(), [""; 0]);
    assert_eq!(rig.pass(seconds(100)), ["abandoned a"]);
    assert_eq!(rig.sent(), [""; 0]);
}

#[test]
fn without_a_window_a_lost_session_closes_at_once() {
    let mut rig = Rig::working(Limits::default());
    rig.push("lost");
    assert_eq!(rig.eof(), ["closed: closed by the peer"]);
    assert!(rig.is_finished());
    assert_eq!(rig.pass(seconds(100)), [""; 0]);
}

#[test]
fn a_fault_or_a_wish_is_no_loss_and_closes_at_once() {
    let mut rig = working();
    assert_eq!(rig.feed(&[9]), ["closed: bad packet: wrong packet type 0x09"]);
    let mut rig = working();
    rig.command(Command::Kick(None, CloseReason::Replaced));
    assert_eq!(rig.news(), ["closed: replaced by a newer login"]);
}

#[test]
fn a_session_that_waits_can_be_closed_and_closes_once() {
    for command in [
        Command::Close(CloseReason::Closed),
        Command::Kick(Some("gone".to_owned()), CloseReason::Kicked(None)),
        Command::Shutdown,
    ] {
        let mut rig = working();
        rig.push("kept");
        assert_eq!(rig.eof(), ["detached: closed by the peer"]);
        let news = rig.command(command).news();
        assert_eq!(rig.waiting_bytes(), 0, "nobody will ever read it");
        assert!(news.len() == 1 && news[0].starts_with("closed: "), "{news:?}");
        assert_eq!(rig.pass(seconds(3)), [""; 0]);
    }
}

#[test]
fn calls_go_on_while_the_client_is_away_and_their_replies_wait_for_it() {
    let mut rig = working();
    rig.feed(&[request(1, "t.ask", "a"), request(2, "t.ask", "b")].concat());
    assert_eq!(rig.eof(), ["detached: closed by the peer"]);
    assert_eq!(rig.reply("a", "A").news(), ["call t.ask b"]);
    let newcomer = rig.newcomer();
    rig.player.attach(rig.now, newcomer);
    rig.reply("b", "B");
    assert_eq!(rig.sent_anew(), ["reply 1 A", "reply 2 B"]);
    let in_flight = rig.feed(&[notify("t.tell", "c"), request(3, "t.free", "d")].concat());
    assert_eq!(in_flight, ["call t.tell c", "call t.free d"]);
}

#[test]
fn what_is_kept_for_an_absent_client_is_bounded_like_an_outbox() {
    let mut rig = Rig::working(Limits::default().resume_window(seconds(2)).outbound_packets_max(3));
    rig.eof();
    rig.push("1").push("2").push("3");
    assert_eq!(rig.news(), [""; 0]);
    rig.push("4");
    let reason = "closed: the client reads too slowly for what is pushed to it";
    assert_eq!(rig.news(), [reason]);
    assert_eq!((rig.count(Counter::PushesRefused), rig.waiting_bytes()), (1, 0));
}

#[test]
fn an_absent_client_is_not_beaten_to_nor_timed_out_by_writes() {
    let mut rig = Rig::working(Limits::default().resume_window(seconds(600)).heartbeat(seconds(1)));
    rig.push("kept");
    rig.eof();
    assert_eq!(rig.pass(seconds(599)), [""; 0]);
    let newcomer = rig.newcomer();
    rig.player.attach(rig.now, newcomer);
    assert_eq!(rig.sent_anew(), ["push 2 kept"]);
}

#[test]
fn a_session_may_be_lost_and_found_many_times() {
    let mut rig = working();
    let mut seen = Vec::new();
    for round in 0..5 {
        rig.push(&format!("{round} a")).push(&format!("{round} b"));
        rig.write(round * 3);
        seen.extend(rig.whole_packets());
        assert_eq!(rig.eof(), ["detached: closed by the peer"]);
        rig.push(&format!("{round} c"));
        rig.pass(seconds(1));
        let newcomer = rig.newcomer();
        rig.player.attach(rig.now, newcomer);
    }
    seen.extend(rig.sent_anew());
    let all: Vec<_> = (0..5)
        .flat_map(|round| ["a", "b", "c"].map(|what| format!("push 2 {round} {what}")))
        .collect();
    assert_eq!(seen, all);
}

#[test]
fn a_client_that_comes_back_before_it_is_missed_takes_its_session_over() {
    let mut rig = working();
    rig.push("1").push("2");
    rig.write(7);
    let newcomer = rig.newcomer();
    rig.player.attach(rig.now, newcomer);
    assert_eq!(rig.sent_anew(), ["push 2 1", "push 2 2"]);
}
