//! Clients that are pushed to and do not read.

use std::time::Duration;

use pitaya_core::Counter;
use pitaya_proto::packet::PacketKind;
use pitaya_tests::doors::Door;
use pitaya_tests::raw::{RawClient, packet};
use pitaya_tests::sim::Wire;

use crate::NEVER;
use crate::siege::{Attacker, Siege};

/// Ten pushes in a second, to 700 sessions: what counts is that these do not read at all.
#[test]
fn those_who_take_nothing_for_5_seconds_are_closed() {
    let siege = Siege::new("500 that do not read", 500)
        .pushing(Duration::from_millis(100), 1 << 10)
        .lasting(Duration::from_secs(9));
    let calm = siege.calm();
    let seen = siege.run(never_read);
    assert_eq!((seen.harmed, seen.left), (0, 0));
    assert_eq!(seen.counters.count(Counter::ConnectionsSlow), 500);
    assert!(seen.answer * 2 <= calm.answer * 3, "{:?} and {:?}", seen.answer, calm.answer);

    let siege = siege.fewer(500).with("  without write_timeout", |l| l.write_timeout(NEVER));
    let seen = siege.run(never_read);
    assert_eq!((seen.harmed, seen.left), (0, 500));
}

/// Before those five seconds are over, more is pushed than may wait for one client. 100 rather than
/// 500 of them: what a debug build simulates in seconds.
#[test]
fn no_more_waits_for_one_client_than_its_limit() {
    let siege = Siege::new("100 that do not read, many pushes", 100)
        .honest_at(&[Door::Tcp])
        .pushing(Duration::from_millis(12), 512)
        .lasting(Duration::from_secs(6));
    let seen = siege.run(never_read);
    assert_eq!((seen.harmed, seen.left), (0, 0));
    assert_eq!(seen.counters.count(Counter::PushesRefused), 100);

    let siege = siege.fewer(100).pushing(Duration::from_millis(4), 128);
    let bounded = siege.with("  many small pushes", |limits| limits).run(never_read);
    let siege = siege
        .with("  without outbound_packets_max", |limits| limits.outbound_packets_max(usize::MAX));
    let seen = siege.run(never_read);
    assert_eq!(seen.counters.count(Counter::PushesRefused), 0);
    assert!(seen.peak_bytes > bounded.peak_bytes * 2, "{}", seen.peak_bytes);
}

async fn never_read(Attacker { doors, sim, .. }: Attacker) {
    // A narrow one, so that what waits does so at the server.
    let wire = Wire::default().window_bytes(4 << 10);
    let Ok(mut client) = doors.enter_over(Door::Tcp, wire).await.map(RawClient::new) else {
        return;
    };
    if client.open("deaf").await.is_err() || client.request(1, "hall.join", "null").await.is_err() {
        return;
    }
    let beat = packet(PacketKind::Heartbeat, &[]);
    while client.send(&beat).await.is_ok() {
        sim.sleep(Duration::from_millis(500)).await;
    }
}
