//! Clients that are slow on purpose: they hold a place for as little as they can.

use std::io;
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_core::{Counter, Limits};
use pitaya_proto::packet::PacketKind;
use pitaya_tests::doors::{Door, Stream};
use pitaya_tests::raw::{ack, handshake, packet, request};
use pitaya_tests::sim::Sim;
use pitaya_tests::web::{BINARY, frame};

use crate::NEVER;
use crate::flood::wait_for_the_end;
use crate::siege::{Attacker, Siege};

/// A byte in a second, through every door: half of them never end their handshake, the others are
/// let in and never end a request. They come over a minute, so that they do not wait for each
/// other.
#[test]
fn those_who_send_a_byte_in_a_second_are_gone_in_11_seconds() {
    let siege = Siege::new("a byte in a second", 5000)
        .arriving(Duration::from_secs(60))
        .lasting(Duration::from_secs(120));
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

/// Beating proves a client alive, but does not bring its handshake on, through whichever door.
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
    let door = any_door(number / 2);
    let Ok(mut io) = doors.enter_bare(door).await else { return };
    let whole = |packet: Vec<u8>| {
        if door.is_web() { frame(BINARY, true, &packet) } else { packet }
    };
    let mut slow = whole(handshake(&long_number()));
    if number % 2 == 1 {
        if let_in(&mut io, [handshake("slow"), ack()].map(whole)).await.is_err() {
            return;
        }
        slow = whole(request(1, "math.double", &long_number()));
    }
    for byte in slow {
        if say(&mut io, &[byte]).await.is_err() || is_closed_within_a_second(&sim, &mut io).await {
            return;
        }
    }
}

async fn let_in(io: &mut Box<dyn Stream>, [handshake, ack]: [Vec<u8>; 2]) -> io::Result<()> {
    say(io, &handshake).await?;
    if io.read(&mut [0; 1024]).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    say(io, &ack).await
}

async fn say(io: &mut Box<dyn Stream>, bytes: &[u8]) -> io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await
}

async fn squat(Attacker { doors, sim, number }: Attacker) {
    let Ok(mut io) = doors.enter(any_door(number)).await else { return };
    let beat = packet(PacketKind::Heartbeat, &[]);
    while say(&mut io, &beat).await.is_ok() && !is_closed_within_a_second(&sim, &mut io).await {}
}

/// Every door, but few of them with TLS, for which a debug build takes long.
fn any_door(number: usize) -> Door {
    match number % 16 {
        0 => Door::Tls,
        1 => Door::Wss,
        number if number.is_multiple_of(2) => Door::Tcp,
        _ => Door::Ws,
    }
}

async fn is_closed_within_a_second(sim: &Sim, io: &mut Box<dyn Stream>) -> bool {
    let closed = async {
        wait_for_the_end(io).await;
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
