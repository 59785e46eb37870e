//! Clients that are slow on purpose: they hold a place for as little as they can.

use std::time::Duration;

use futures_lite::future::or;
use pitaya_core::{Counter, Limits};
use pitaya_proto::packet::PacketKind;
use pitaya_tests::doors::{AnyClient, Door};
use pitaya_tests::raw::{RawClient, handshake, packet, request};
use pitaya_tests::sim::Sim;

use crate::NEVER;
use crate::siege::{Attacker, Siege};

/// A byte in a second: half of them never end their handshake, the others are let in and never end
/// a request. They come over a minute, so that they do not wait for each other.
#[test]
fn those_who_send_a_byte_in_a_second_are_gone_in_11_seconds() {
    let siege = Siege::new("a byte in a second", 5000)
        .arriving(Duration::from_secs(60))
        .lasting(Duration::from_secs(75));
    let seen = siege.run(dribble);
    assert_eq!((seen.harmed, seen.left), (0, 0));
    assert!(seen.held <= Duration::from_secs(11), "{:?}", seen.held);
    assert!(seen.peak_bytes < 64 << 20, "{}", seen.peak_bytes);
    assert_eq!(seen.counters.count(Counter::HandshakesExpired), 2500);
    assert_eq!(seen.counters.count(Counter::PacketsUnfinished), 2500);

    let fewer = Siege::new("", 500).fewer(500);
    let seen = fewer.with("  without packet_timeout", |l| l.packet_timeout(NEVER)).run(dribble);
    assert_eq!((seen.harmed, seen.left), (0, 250));
    // The handshake is a packet too; but as such it has twice the time.
    let seen = fewer.with("  without handshake_timeout", no_handshake_timeout).run(dribble);
    assert_eq!(seen.counters.count(Counter::PacketsUnfinished), 500);
}

/// Beating proves a client alive, but does not bring its handshake on.
#[test]
fn those_who_beat_and_never_shake_hands_are_gone_in_10_seconds() {
    // All of them at once, rather than as many at a time as may shake hands.
    let siege = Siege::new("heartbeats only", 16_000)
        .with("heartbeats only", |limits| limits.handshaking_max(16_384));
    let seen = siege.run(squat);
    assert_eq!((seen.harmed, seen.left, seen.sessions), (0, 0, 0));
    assert!(seen.held <= Duration::from_secs(10), "{:?}", seen.held);
    assert_eq!(seen.counters.count(Counter::HandshakesExpired), 16_000);

    let seen =
        siege.fewer(500).with("  without handshake_timeout", no_handshake_timeout).run(squat);
    assert_eq!((seen.harmed, seen.left), (0, 500));
}

fn no_handshake_timeout(limits: Limits) -> Limits {
    limits.handshake_timeout(NEVER)
}

async fn dribble(Attacker { doors, sim, number }: Attacker) {
    let is_let_in = number % 2 == 1;
    let (entered, bytes) = if is_let_in {
        (doors.open(Door::Tcp).await, request(1, "math.double", &long_number()))
    } else {
        (doors.enter(Door::Tcp).await.map(RawClient::new), handshake(&long_number()))
    };
    let Ok(mut client) = entered else { return };
    for byte in bytes {
        if client.send(&[byte]).await.is_err() || is_closed_within_a_second(&sim, &mut client).await
        {
            return;
        }
    }
}

async fn squat(Attacker { doors, sim, .. }: Attacker) {
    let Ok(mut client) = doors.enter(Door::Tcp).await.map(RawClient::new) else { return };
    let beat = packet(PacketKind::Heartbeat, &[]);
    while client.send(&beat).await.is_ok() && !is_closed_within_a_second(&sim, &mut client).await {}
}

async fn is_closed_within_a_second(sim: &Sim, client: &mut AnyClient) -> bool {
    let closed = async {
        // However it ends.
        let _ = client.rest().await;
        true
    };
    let waited = async {
        sim.sleep(Duration::from_secs(1)).await;
        false
    };
    or(closed, waited).await
}

fn long_number() -> String {
    "1".repeat(500)
}
