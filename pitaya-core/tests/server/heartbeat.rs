//! Heartbeats: who stays connected and who does not, for short and long intervals.

use std::time::Duration;

use pitaya_core::{Counter, Instant, Limits, Machine};

use crate::rig::{Rig, heartbeat, millis, notify, request, seconds};

const INTERVALS: [Duration; 2] = [seconds(1), seconds(30)];

fn working(interval: Duration) -> Rig {
    Rig::working(Limits::default().heartbeat(interval))
}

/// Until when the client stays if it does nothing from now on.
fn closed_after(rig: &mut Rig) -> Duration {
    let since = rig.now;
    while rig.pass(millis(10)).is_empty() {
        rig.sent();
        assert!(rig.now.since(since) < seconds(1000), "it is never closed");
    }
    rig.now.since(since)
}

#[test]
fn no_interval_makes_a_server_spin_or_time_overflow() {
    for (interval, kept) in [
        (Duration::ZERO, seconds(1)),
        (millis(1500), seconds(2)),
        // As many milliseconds as 32 bits count, two and a half times, and a second.
        (Duration::MAX, millis(10_737_419_237)),
    ] {
        let rig = working(interval);
        assert_eq!(rig.player.poll_timeout(), Some(rig.now + kept), "{interval:?}");
    }
}

#[test]
fn a_client_that_beats_one_interval_after_each_received_beat_stays() {
    for interval in INTERVALS {
        let mut rig = working(interval);
        let mut due: Vec<Instant> = Vec::new();
        let until = rig.now + interval * 10;
        let mut beats = 0;
        while rig.now < until {
            assert_eq!(rig.pass(millis(100)), [""; 0], "interval {interval:?}");
            for packet in rig.sent() {
                assert_eq!(packet, "heartbeat");
                beats += 1;
                // 150 ms each way: our beat reaches it late, and its answer us.
                due.push(rig.now + interval + millis(300));
            }
            if due.first().is_some_and(|at| *at <= rig.now) {
                due.remove(0);
                assert_eq!(rig.feed(&heartbeat()), [""; 0]);
            }
        }
        assert_eq!(beats, 10, "interval {interval:?}");
        assert!(!rig.is_finished());
    }
}

#[test]
fn a_silent_client_is_closed_in_time() {
    for interval in INTERVALS {
        let mut rig = working(interval);
        let silence = closed_after(&mut rig);
        let latest = interval * 5 / 2 + seconds(1) + millis(10);
        assert!(silence > interval * 2 && silence <= latest, "{interval:?}: {silence:?}");
        assert!(rig.is_finished());
        assert_eq!(rig.count(Counter::ConnectionsSilent), 1);
    }
}

#[test]
fn any_packet_proves_that_the_client_lives() {
    for interval in INTERVALS {
        let mut rig = working(interval);
        for id in 1..=10 {
            assert_eq!(rig.pass_writing(interval * 2), [""; 0]);
            let body = id.to_string();
            assert_eq!(rig.feed(&request(id, "t.ask", &body)), [format!("call t.ask {body}")]);
            rig.reply(&body, "").sent();
        }
    }
}

#[test]
fn half_a_packet_does_not_prove_that_the_client_lives() {
    let mut rig = working(seconds(1));
    rig.pass(seconds(3));
    rig.feed(&heartbeat()[..2]);
    assert_eq!(rig.pass(millis(500)), ["closed: nothing was heard for too long"]);
}

#[test]
fn a_client_that_we_do_not_read_is_not_closed() {
    for interval in INTERVALS {
        let limits = Limits::default().heartbeat(interval).calls_max(1);
        let mut rig = Rig::working(limits.call_hard_limit(seconds(100_000)));
        rig.feed(&[notify("t.tell", "a"), notify("t.tell", "b")].concat());
        assert!(rig.paused);
        for _ in 0..10 {
            assert_eq!(rig.pass(interval), [""; 0]);
            assert_eq!(rig.sent(), ["heartbeat"]);
        }
        assert_eq!(rig.reply("a", "").news(), ["call t.tell b"]);
        rig.reply("b", "").news();
        assert!(closed_after(&mut rig) > interval * 2);
    }
}

#[test]
fn the_server_beats_from_the_acknowledgement_on_and_not_before() {
    let mut rig = Rig::connected(Limits::default().heartbeat(seconds(1)));
    rig.feed(&crate::rig::shake(crate::rig::GO));
    rig.pass(seconds(4));
    assert_eq!(rig.sent(), ["handshake 200"]);
    rig.feed(&crate::rig::ack());
    assert_eq!((rig.pass(millis(999)), rig.sent()), (vec![], vec![]));
    assert_eq!((rig.pass(millis(1)), rig.sent()), (vec![], vec!["heartbeat".to_owned()]));
}
