//! Rule 7: calls for servers of other kinds hold a place and no turn.

use pitaya_core::{ConnConfig, Counter, Dictionary, Limits};

use crate::rig::{GO, Rig, notify, request, seconds};

#[test]
fn forwarded_calls_leave_at_once_and_are_answered_in_any_order() {
    let mut rig = forwarding(Limits::default());
    let bytes = [
        request(1, "t.ask", "a"),
        request(2, "room.t.hit", "b"),
        notify("room.t.wave", "c"),
        request(3, "room.t.hit", "d"),
    ];
    assert_eq!(
        rig.feed(&bytes.concat()),
        [
            "call t.ask a",
            "forward room.t.hit Some(2)",
            "forward room.t.wave None",
            "forward room.t.hit Some(3)",
        ]
    );
    assert_eq!(rig.reply("d", "D").sent(), ["reply 3 D"]);
    assert_eq!(rig.reply("b", "B").sent(), ["reply 2 B"]);
    assert_eq!(rig.reply("a", "A").sent(), ["reply 1 A"]);
    assert_eq!(rig.player.calls(), 0);
}

#[test]
fn a_forwarded_request_without_an_answer_is_told_so_at_its_deadline_and_a_late_one_is_dropped() {
    let mut rig = forwarding(Limits::default());
    rig.feed(&request(1, "room.t.hit", "a"));
    assert_eq!(rig.pass(seconds(4)), [""; 0]);
    assert_eq!(rig.sent(), [""; 0]);
    rig.pass(seconds(1));
    assert_eq!(rig.sent(), ["error 1 PIT-408: request timeout"]);
    assert_eq!(rig.reply("a", "late").sent(), [""; 0]);
    assert_eq!((rig.count(Counter::CallsExpired), rig.count(Counter::RepliesLate)), (1, 1));
}

#[test]
fn forwarded_requests_count_towards_the_bound_of_their_session() {
    let mut rig = forwarding(Limits::default().calls_max(2));
    let bytes =
        [request(1, "room.t.hit", "a"), request(2, "t.ask", "b"), request(3, "t.free", "c")];
    assert_eq!(rig.feed(&bytes.concat()), ["forward room.t.hit Some(1)", "call t.ask b"]);
    assert!(rig.paused);
    assert_eq!(rig.reply("a", "A").news(), ["call t.free c"]);
}

#[test]
fn the_id_of_a_forwarded_request_is_not_used_again_before_it_is_answered() {
    let mut rig = forwarding(Limits::default());
    rig.feed(&request(1, "room.t.hit", "a"));
    let closed = "closed: request 1 is already in flight";
    assert_eq!(rig.feed(&request(1, "t.ask", "b")), [closed]);
}

#[test]
fn whoever_drains_waits_for_the_answers_of_others() {
    let mut rig = forwarding(Limits::default());
    rig.feed(&request(1, "room.t.hit", "a"));
    assert_eq!(rig.command(pitaya_core::Command::Shutdown).news(), [""; 0]);
    assert_eq!(rig.reply("a", "A").news(), ["closed: the server shuts down"]);
    assert_eq!(rig.sent(), ["reply 1 A"]);
}

#[test]
fn a_server_without_others_says_that_there_are_none() {
    let mut rig = Rig::working(Limits::default());
    assert_eq!(rig.feed(&request(1, "room.t.hit", "a")), [""; 0]);
    assert_eq!(rig.sent(), ["error 1 PIT-500: no servers available of this type"]);
}

fn forwarding(limits: Limits) -> Rig {
    let mut config = ConnConfig::new("json", Dictionary::default(), limits).expect("it is small");
    config.forwards = true;
    let mut rig = Rig::with_config(config);
    rig.open(GO);
    rig
}
