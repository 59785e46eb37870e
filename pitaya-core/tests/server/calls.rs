//! How calls run: rules 1 to 6 and 8, with what the client sees of them.

use pitaya_core::{CloseReason, Command, Counter, Limits};

use crate::rig::{Rig, heartbeat, millis, notify, request, seconds};

// Rule 1: one after another, but for concurrent ones, within bounds.

#[test]
fn handlers_of_a_session_run_one_after_another_in_the_order_of_arrival() {
    let mut rig = Rig::working(Limits::default());
    let bytes =
        [request(1, "t.ask", "a"), notify("t.tell", "b"), request(2, "t.ask", "c")].concat();
    assert_eq!(rig.feed(&bytes), ["call t.ask a"]);
    assert_eq!(rig.reply("a", "A").news(), ["call t.tell b"]);
    assert_eq!(rig.reply("b", "").news(), ["call t.ask c"]);
    assert_eq!(rig.reply("c", "C").sent(), ["reply 1 A", "reply 2 C"]);
}

#[test]
fn a_concurrent_call_neither_waits_nor_holds_the_turn() {
    let mut rig = Rig::working(Limits::default());
    let bytes = [request(1, "t.ask", "a"), request(2, "t.ask", "b"), request(3, "t.free", "c")];
    assert_eq!(rig.feed(&bytes.concat()), ["call t.ask a", "call t.free c"]);
    assert_eq!(rig.reply("c", "C").sent(), ["reply 3 C"]);
    assert_eq!(rig.reply("a", "A").news(), ["call t.ask b"]);
}

#[test]
fn a_greedy_client_is_left_unread_until_it_is_answered() {
    let mut rig = Rig::working(Limits::default().calls_max(3));
    let bytes = [
        request(1, "t.ask", "a"),
        notify("t.tell", "b"),
        request(3, "t.free", "c"),
        request(4, "t.free", "d"),
    ];
    assert_eq!(rig.feed(&bytes.concat()), ["call t.ask a", "call t.free c"]);
    assert!(rig.paused);
    assert_eq!(rig.reply("c", "C").news(), ["call t.free d"]);
    assert!(rig.paused);
    rig.news();
    assert_eq!(rig.count(Counter::Pauses), 2, "asking again is no new pause");
}

#[test]
fn a_late_call_keeps_its_place_among_the_bounded() {
    let mut rig = Rig::working(Limits::default().calls_max(1));
    rig.feed(&request(1, "t.quick", "a"));
    rig.pass(seconds(2));
    assert_eq!(rig.feed(&request(2, "t.free", "b")), [""; 0]);
    assert!(rig.paused);
    assert_eq!(rig.reply("a", "late").news(), ["call t.free b"]);
}

#[test]
fn waiting_bodies_are_bounded_in_bytes() {
    let mut rig = Rig::working(Limits::default().calls_waiting_bytes_max(10));
    let bytes = [
        request(1, "t.ask", "runs"),
        request(2, "t.ask", "12345"),
        request(3, "t.ask", "67890"),
        request(4, "t.free", "free"),
    ];
    assert_eq!(rig.feed(&bytes.concat()), ["call t.ask runs"]);
    assert!(rig.paused);
    assert_eq!(rig.reply("runs", "").news(), ["call t.ask 12345", "call t.free free"]);
}

// Rule 2: deadlines from arrival, hard limits from the start.

#[test]
fn a_waiting_call_that_reaches_its_deadline_is_answered_and_never_runs() {
    let mut rig = Rig::working(Limits::default().call_hard_limit(seconds(60)));
    rig.feed(&[notify("t.tell", "slow"), request(1, "t.ask", "a")].concat());
    assert_eq!(rig.pass(seconds(5) - millis(1)), [""; 0]);
    assert_eq!(rig.sent(), [""; 0]);
    assert_eq!(rig.pass(millis(1)), [""; 0]);
    assert_eq!(rig.sent(), ["error 1 PIT-408: request timeout"]);
    assert_eq!(rig.reply("slow", "").news(), [""; 0]);
    assert_eq!((rig.player.calls(), rig.count(Counter::CallsExpired)), (0, 1));
}

#[test]
fn a_running_call_past_its_deadline_is_answered_once_and_runs_on_with_the_turn() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&request(1, "t.quick", "a"));
    rig.pass(seconds(1));
    assert_eq!(rig.sent(), ["error 1 PIT-408: request timeout"]);
    assert_eq!(rig.feed(&request(2, "t.ask", "b")), [""; 0]);
    assert_eq!(rig.reply("a", "too late").news(), ["call t.ask b"]);
    assert_eq!(rig.sent(), [""; 0]);
    assert_eq!(rig.count(Counter::RepliesLate), 1);
}

#[test]
fn the_deadline_counts_from_arrival_not_from_the_start() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&[notify("t.tell", "slow"), request(1, "t.ask", "a")].concat());
    rig.pass(seconds(4));
    assert_eq!(rig.reply("slow", "").news(), ["call t.ask a"]);
    rig.pass(seconds(1));
    assert_eq!(rig.sent(), ["error 1 PIT-408: request timeout"]);
}

#[test]
fn at_the_hard_limit_a_handler_is_dropped_and_the_turn_passes() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&[request(1, "t.brief", "a"), request(2, "t.ask", "b")].concat());
    assert_eq!(rig.pass(seconds(2) - millis(1)), [""; 0]);
    assert_eq!(rig.pass(millis(1)), ["abandoned a", "call t.ask b"]);
    assert_eq!(rig.sent(), ["error 1 PIT-408: request timeout"]);
    assert_eq!(rig.reply("a", "from the grave").sent(), [""; 0]);
    assert_eq!(rig.count(Counter::CallsAbandoned), 1);
}

#[test]
fn the_hard_limit_counts_from_the_start_not_from_arrival() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&[notify("t.tell", "slow"), request(1, "t.brief", "a")].concat());
    rig.pass(seconds(1));
    assert_eq!(rig.reply("slow", "").news(), ["call t.brief a"]);
    assert_eq!(rig.pass(seconds(2) - millis(1)), [""; 0]);
    assert_eq!(rig.pass(millis(1)), ["abandoned a"]);
}

// Rule 3: notifies.

#[test]
fn a_notify_waiting_past_its_deadline_is_dropped_and_counted() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&[request(1, "t.ask", "a"), notify("t.tell", "b")].concat());
    rig.pass(seconds(5));
    assert_eq!(rig.sent(), ["error 1 PIT-408: request timeout"]);
    assert_eq!(rig.count(Counter::CallsExpired), 2);
    assert_eq!(rig.reply("a", "").news(), [""; 0]);
}

#[test]
fn a_running_notify_is_bound_by_the_hard_limit_only() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&notify("t.tell", "a"));
    assert_eq!(rig.pass(seconds(20) - millis(1)), [""; 0]);
    assert_eq!(rig.count(Counter::CallsExpired), 0);
    assert_eq!(rig.pass(millis(1)), ["abandoned a"]);
    assert_eq!(rig.sent(), [""; 0]);
}

#[test]
fn a_notify_is_never_answered() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&[notify("t.tell", "a"), notify("t.nobody", "b")].concat());
    assert_eq!(rig.reply("a", "unheard").sent(), [""; 0]);
}

#[test]
fn a_request_with_id_zero_runs_as_a_notify() {
    let mut rig = Rig::working(Limits::default());
    let bytes = [request(0, "t.ask", "a"), request(0, "t.tell", "b"), request(0, "t.no", "c")];
    assert_eq!(rig.feed(&bytes.concat()), ["call t.ask a"]);
    assert_eq!(rig.reply("a", "unheard").news(), ["call t.tell b"]);
    assert_eq!(rig.reply("b", "unheard").sent(), [""; 0]);
}

// Rule 4: a closed session.

#[test]
fn when_the_session_closes_waiting_calls_are_dropped_unrun_and_counted() {
    let mut rig = Rig::working(Limits::default());
    let bytes = [request(1, "t.ask", "a"), request(2, "t.ask", "b"), notify("t.tell", "c")];
    rig.feed(&bytes.concat());
    assert_eq!(rig.eof(), ["closed: closed by the peer"]);
    assert_eq!((rig.player.calls(), rig.count(Counter::CallsDropped)), (1, 2));
    assert_eq!(rig.reply("a", "").news(), [""; 0]);
}

#[test]
fn a_call_whose_turn_comes_as_the_session_closes_is_dropped_unrun() {
    for close in [
        Command::Close(CloseReason::Closed),
        Command::Kick(None, CloseReason::Kicked(None)),
        Command::Close(CloseReason::Replaced),
    ] {
        let mut rig = Rig::working(Limits::default());
        rig.feed(&[request(1, "t.ask", "a"), request(2, "t.ask", "b")].concat());
        rig.command(close).reply("a", "");
        let news = rig.news();
        assert!(news.len() == 1 && news[0].starts_with("closed: "), "{news:?}");
        assert_eq!(rig.count(Counter::CallsDropped), 1);
    }
}

#[test]
fn when_the_session_closes_running_handlers_run_on_and_their_replies_are_counted() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&[request(1, "t.ask", "a"), request(2, "t.free", "b")].concat());
    rig.command(Command::Close(CloseReason::Closed));
    rig.reply("a", "before it is told");
    assert_eq!(rig.news(), ["closed: closed by the application"]);
    rig.reply("b", "after");
    assert_eq!((rig.sent(), rig.count(Counter::RepliesLate)), (vec![], 2));
}

#[test]
fn a_handler_that_outlives_its_session_is_still_bound_by_the_hard_limit() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&request(1, "t.ask", "a"));
    assert_eq!(rig.eof(), ["closed: closed by the peer"]);
    assert_eq!(rig.pass(seconds(20)), ["abandoned a"]);
    assert_eq!((rig.player.calls(), rig.count(Counter::CallsExpired)), (0, 0));
}

#[test]
fn a_handler_to_be_cancelled_on_close_is_dropped_at_once() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&[request(1, "t.torn", "a"), request(2, "t.free", "b")].concat());
    assert_eq!(rig.eof(), ["closed: closed by the peer", "abandoned a"]);
    assert_eq!(rig.player.calls(), 1);
}

#[test]
fn a_closed_session_is_closed_once() {
    let mut rig = Rig::working(Limits::default());
    rig.command(Command::Close(CloseReason::Closed));
    assert_eq!(rig.news(), ["closed: closed by the application"]);
    rig.command(Command::Close(CloseReason::Replaced)).push("unheard");
    rig.command(Command::Kick(None, CloseReason::Kicked(None)));
    assert_eq!(rig.eof(), [""; 0]);
    assert_eq!(rig.pass(seconds(600)), [""; 0]);
    assert_eq!(rig.sent(), [""; 0]);
}

// Rule 5 (a slow poll is counted) is the driver's: only it polls handlers.

#[test]
fn a_handler_stuck_past_its_hard_limit_gives_its_turn_away_and_is_named() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&[notify("t.tell", "stuck"), notify("t.tell", "next")].concat());
    rig.pass(seconds(4));
    rig.feed(&notify("t.tell", "young"));
    assert_eq!(rig.pass(seconds(16)), ["abandoned stuck"]);
    assert_eq!(rig.feed(&notify("t.tell", "new")), ["call t.tell new"]);
}

// Rule 6: what we do not read is not held against the client.

#[test]
fn silence_is_not_held_against_a_client_that_is_not_read() {
    let limits = Limits::default().calls_max(1).heartbeat(seconds(1));
    let mut rig = Rig::working(limits.call_hard_limit(seconds(1000)));
    rig.feed(&notify("t.tell", "a"));
    assert!(rig.paused);
    for _ in 0..100 {
        assert_eq!(rig.pass(seconds(1)), [""; 0]);
        assert_eq!(rig.sent(), ["heartbeat"]);
    }
    assert_eq!(rig.reply("a", "").news(), [""; 0]);
    // Reading has resumed: from here on silence counts again, from the beginning.
    assert_eq!(rig.pass(millis(3499)), [""; 0]);
    assert_eq!(rig.pass(millis(1)), ["closed: nothing was heard for too long"]);
}

#[test]
fn an_unfinished_packet_is_not_held_against_a_client_that_is_not_read() {
    let mut rig = Rig::working(Limits::default().outbound_packets_max(1));
    let tell = notify("t.tell", "a");
    assert_eq!(rig.feed(&tell[..3]), [""; 0]);
    rig.pass(seconds(9));
    assert_eq!(rig.push("long enough to be taken byte by byte").news(), [""; 0]);
    assert!(rig.paused);
    for _ in 0..10 {
        assert_eq!(rig.pass(seconds(4)), [""; 0]);
        rig.write(1);
    }
    rig.sent();
    assert_eq!(rig.news(), [""; 0]);
    // Reading has resumed: the packet has its ten seconds again.
    assert_eq!(rig.pass_writing(millis(9999)), [""; 0]);
    assert_eq!(rig.pass_writing(millis(1)), ["closed: a packet did not finish in time"]);
}

#[test]
fn while_the_outbox_is_full_no_call_starts() {
    let mut rig = Rig::working(Limits::default().outbound_packets_max(2));
    rig.feed(&[request(1, "t.ask", "a"), request(2, "t.ask", "b")].concat());
    rig.push("x").reply("a", "A");
    assert_eq!(rig.feed(&request(3, "t.free", "c")), [""; 0]);
    assert!(rig.paused);
    assert_eq!(rig.sent(), ["push 2 x", "reply 1 A"]);
    assert_eq!(rig.news(), ["call t.ask b", "call t.free c"]);
}

#[test]
fn refusals_stop_too_while_the_outbox_is_full() {
    let mut rig = Rig::working(Limits::default().outbound_packets_max(4));
    let requests: Vec<u8> = (1..=100).flat_map(|id| request(id, "t.nobody", "")).collect();
    assert_eq!(rig.feed(&requests), [""; 0]);
    assert!(rig.paused);
    let mut answered = 0;
    while rig.waiting_bytes() > 0 {
        let sent = rig.sent();
        assert!(sent.len() <= 4, "{sent:?}");
        answered += sent.len();
        rig.news();
    }
    assert_eq!(answered, 100);
}

// Rule 8: order.

#[test]
fn replies_leave_in_the_order_of_the_requests() {
    let mut rig = Rig::working(Limits::default());
    let requests: Vec<u8> =
        (1..=60).flat_map(|id| request(id, "t.ask", &format!("body {id}"))).collect();
    let mut news = rig.feed(&requests);
    for id in 1..=60 {
        assert_eq!(news, [format!("call t.ask body {id}")]);
        rig.reply(&format!("body {id}"), &id.to_string());
        news = rig.news();
    }
    let replies: Vec<_> = (1..=60).map(|id| format!("reply {id} {id}")).collect();
    assert_eq!(rig.sent(), replies);
}

#[test]
fn pushes_keep_their_order_and_stay_before_the_reply_they_came_before() {
    let mut rig = Rig::working(Limits::default());
    rig.feed(&[request(1, "t.ask", "a"), heartbeat()].concat());
    rig.push("1").push("2").reply("a", "A").push("3");
    assert_eq!(rig.sent(), ["push 2 1", "push 2 2", "reply 1 A", "push 2 3"]);
}
