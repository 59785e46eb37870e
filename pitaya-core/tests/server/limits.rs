//! Ends that nobody wished: slow readers, slow senders, full outboxes. And kick and shutdown.

use pitaya_core::{CloseReason, Command, Counter, Fault, Limits};

use crate::rig::{GO, Rig, millis, notify, request, seconds, shake};

#[test]
fn who_calls_too_often_is_not_read_until_the_second_is_over_and_loses_nothing() {
    let mut rig = Rig::working(Limits::default().call_rate_max(2));
    let calls: Vec<_> = (1..=5).map(|id| request(id, "t.free", &id.to_string())).collect();
    assert_eq!(rig.feed(&calls.concat()), ["call t.free 1", "call t.free 2"]);
    assert!(rig.paused);
    assert_eq!(rig.pass(millis(999)), [""; 0]);
    assert_eq!(rig.pass(millis(1)), ["call t.free 3", "call t.free 4"]);
    assert_eq!(rig.pass(seconds(1)), ["call t.free 5"]);
    assert!(!rig.paused);
    assert_eq!(rig.count(Counter::CallsThrottled), 2);
    rig.pass(seconds(1));
    assert_eq!(rig.feed(&request(6, "t.free", "6")), ["call t.free 6"]);
    assert!(!rig.paused, "it is the first of its second");
}

#[test]
fn who_may_not_call_at_all_still_shakes_hands() {
    let mut rig = Rig::working(Limits::default().call_rate_max(0));
    assert_eq!(rig.feed(&request(1, "t.free", "1")), [""; 0]);
    assert!(rig.paused);
    assert_eq!(rig.pass(seconds(3)), [""; 0]);
    assert_eq!(rig.count(Counter::CallsThrottled), 0, "nothing was read of it");
}

#[test]
fn a_client_that_takes_nothing_for_five_seconds_is_closed() {
    let mut rig = Rig::working(Limits::default());
    rig.push("a");
    assert_eq!(rig.pass(millis(4999)), [""; 0]);
    rig.write(0);
    assert_eq!(rig.pass(millis(1)), ["closed: nothing was read by the peer for too long"]);
    assert!(rig.is_finished(), "what it does not read is not waited for");
    assert_eq!(rig.count(Counter::ConnectionsSlow), 1);
}

#[test]
fn a_client_that_does_not_take_the_answer_to_its_handshake_is_closed_at_once() {
    let mut rig = Rig::connected(Limits::default());
    rig.feed(&shake(GO));
    assert_eq!(rig.pass(seconds(5)), ["closed: the handshake took too long"]);
    assert!(rig.is_finished(), "both deadlines have come, and nothing is left to wait for");
}

#[test]
fn a_client_that_takes_a_little_now_and_then_stays() {
    let mut rig = Rig::working(Limits::default());
    rig.push(&"x".repeat(20));
    for _ in 0..10 {
        assert_eq!(rig.pass(millis(4999)), [""; 0]);
        rig.write(1);
    }
}

#[test]
fn the_write_deadline_counts_from_when_something_waits() {
    let mut rig = Rig::working(Limits::default());
    rig.pass(seconds(20));
    rig.push("a");
    assert_eq!(rig.pass(millis(4999)), [""; 0]);
    assert_eq!(rig.sent(), ["push 2 a"]);
    assert_eq!(rig.pass(seconds(5)), [""; 0]);
}

#[test]
fn a_closed_connection_whose_peer_does_not_read_is_finished_in_time() {
    let mut rig = Rig::working(Limits::default());
    rig.push("a").command(Command::Kick(None, CloseReason::Kicked(None)));
    assert_eq!(rig.news().len(), 1);
    assert!(!rig.is_finished());
    rig.pass(seconds(5));
    assert!(rig.is_finished());
}

#[test]
fn a_push_that_finds_no_room_closes_the_session() {
    for (limits, taken) in [
        (Limits::default().outbound_packets_max(3), 3),
        (Limits::default().outbound_bytes_max(100), 7),
    ] {
        let mut rig = Rig::working(limits);
        for _ in 0..20 {
            rig.push("12345678");
        }
        let reason = "closed: the client reads too slowly for what is pushed to it";
        assert_eq!(rig.news(), [reason]);
        assert!(rig.is_finished());
        assert_eq!(rig.count(Counter::PushesTaken), taken);
        assert_eq!(rig.count(Counter::PushesRefused), 1);
        assert_eq!(CloseReason::OutboxFull.fault(), Fault::Caller);
    }
}

#[test]
fn one_packet_larger_than_the_outbox_is_taken_when_nothing_waits() {
    let mut rig = Rig::working(Limits::default().outbound_bytes_max(10));
    rig.push("larger than ten bytes");
    assert_eq!(rig.sent(), ["push 2 larger than ten bytes"]);
}

#[test]
fn a_packet_that_began_has_ten_seconds_to_finish() {
    let mut rig = Rig::working(Limits::default());
    let ask = request(1, "t.ask", "a");
    rig.feed(&ask[..1]);
    for byte in &ask[1..10] {
        assert_eq!(rig.pass(seconds(1)), [""; 0]);
        assert_eq!(rig.feed(&[*byte]), [""; 0]);
    }
    assert_eq!(rig.pass(seconds(1)), ["closed: a packet did not finish in time"]);
    assert_eq!(rig.count(Counter::PacketsUnfinished), 1);
}

#[test]
fn each_packet_has_its_own_ten_seconds() {
    let mut rig = Rig::working(Limits::default());
    let tell = notify("t.tell", "a");
    rig.feed(&tell[..5]);
    rig.pass(seconds(9));
    assert_eq!(rig.feed(&[&tell[5..], &tell[..5]].concat()), ["call t.tell a"]);
    assert_eq!(rig.pass(seconds(9)), [""; 0]);
    assert_eq!(rig.reply("a", "").feed(&tell[5..]), ["call t.tell a"]);
}

#[test]
fn an_end_inside_a_packet_is_the_fault_of_the_network_and_of_nobody_who_is_faulty() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&[4, 0, 0]);
    assert_eq!(rig.eof(), ["closed: the stream ended inside a packet"]);
    assert_eq!(CloseReason::EndInsidePacket.fault(), Fault::Network);
    assert_eq!(rig.count(Counter::ConnectionsFaulty), 0);
}

#[test]
fn a_kick_is_the_last_packet() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&request(1, "t.ask", "a"));
    let text = Some("cheating".to_owned());
    rig.push("before").command(Command::Kick(text.clone(), CloseReason::Kicked(text)));
    rig.push("after").reply("a", "after");
    assert_eq!(rig.news(), ["closed: kicked: cheating"]);
    assert_eq!(rig.sent(), ["push 2 before", "kick cheating"]);
    assert!(rig.is_finished());
}

#[test]
fn a_shutdown_answers_what_is_in_flight_and_closes_plainly() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&[request(1, "t.ask", "a"), request(2, "t.ask", "b")].concat());
    rig.command(Command::Shutdown);
    assert_eq!(rig.feed(&request(3, "t.ask", "never read")), [""; 0]);
    assert!(rig.paused);
    assert_eq!(rig.reply("a", "A").news(), ["call t.ask b"]);
    rig.reply("b", "B");
    assert_eq!(rig.news(), ["closed: the server shuts down"]);
    assert_eq!(rig.sent(), ["reply 1 A", "reply 2 B"]);
    assert!(rig.is_finished());
}

#[test]
fn a_shutdown_ends_an_idle_client_at_once_and_a_stuck_handler_in_time() {
    let closed = "closed: the server shuts down".to_owned();
    let mut idle = Rig::working(Limits::default());
    assert_eq!(idle.command(Command::Shutdown).news(), [closed.as_str()]);

    let mut new = Rig::connected(Limits::default());
    new.feed(&shake(GO));
    assert_eq!(new.command(Command::Shutdown).news(), [closed.as_str()]);

    let mut stuck = Rig::working(Limits::default());
    stuck.feed(&notify("t.tell", "a"));
    stuck.command(Command::Shutdown);
    assert_eq!(stuck.pass(seconds(19)), [""; 0]);
    stuck.sent();
    assert_eq!(stuck.pass(seconds(1)), ["abandoned a".to_owned(), closed]);
}
