//! Clients that are pushed to and do not read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pitaya_core::{Counter, Limits};
use pitaya_proto::packet::PacketKind;
use pitaya_tests::doors::Door;
use pitaya_tests::raw::{RawClient, Received, packet};
use pitaya_tests::sim::Wire;

use crate::NEVER;
use crate::crowd::{Accounts, Ear};
use crate::siege::{Attacker, Seen, Siege};

/// Ten pushes in a second, to a group of 700: what counts is that these do not read at all.
#[test]
fn those_who_take_nothing_for_5_seconds_are_closed() {
    let siege = Siege::new("500 that do not read", 500)
        .pushing(Duration::from_millis(100), 1 << 10)
        .lasting(Duration::from_secs(9));
    let calm = siege.calm();
    let (seen, heard) = hold(&siege);
    assert_eq!((seen.harmed, seen.left), (0, 0));
    assert_eq!(seen.counters.count(Counter::ConnectionsSlow), 500);
    assert!(seen.answer * 2 <= calm.answer * 3, "{:?} and {:?}", seen.answer, calm.answer);
    every_push_is_accounted_for(&seen, heard, 500);
    // What is pushed in those 5 s, in a buffer that doubles.
    assert!(seen.peak_bytes < calm.peak_bytes + ((500 * 128) << 10), "{}", seen.peak_bytes);

    let siege = siege.fewer(500).with("  without write_timeout", |l| l.write_timeout(NEVER));
    let (seen, _) = hold(&siege);
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
    let calm = siege.calm();
    let (seen, heard) = hold(&siege);
    assert_eq!((seen.harmed, seen.left), (0, 0));
    assert_eq!(seen.counters.count(Counter::PushesRefused), 100);
    every_push_is_accounted_for(&seen, heard, 100);
    // 256 packets of 512 bytes and more, in a buffer that doubles.
    assert!(seen.peak_bytes < calm.peak_bytes + ((100 * 320) << 10), "{}", seen.peak_bytes);

    let siege = siege.fewer(100).pushing(Duration::from_millis(4), 128);
    let (bounded, _) = hold(&siege.with("  many small pushes", |limits| limits));
    let siege = siege
        .with("  without outbound_packets_max", |limits| limits.outbound_packets_max(usize::MAX));
    let (seen, _) = hold(&siege);
    assert_eq!(seen.counters.count(Counter::PushesRefused), 0);
    assert!(seen.peak_bytes > bounded.peak_bytes * 2, "{}", seen.peak_bytes);
}

/// They come one after another, so that the first of them hold most.
#[test]
fn who_holds_most_is_closed_when_too_much_waits_for_all_clients() {
    let siege = Siege::new("100 that do not read, 2 MiB for all", 100)
        .honest_at(&[Door::Tcp])
        .pushing(Duration::from_millis(24), 512)
        .arriving(Duration::from_secs(1))
        .lasting(Duration::from_millis(4500))
        .with("100 that do not read, 2 MiB for all", |limits| {
            limits.write_timeout(NEVER).process_outbound_bytes_max(2 << 20)
        });
    let calm = siege.calm();
    let (seen, gone) = outlast(&siege);
    let shed = seen.counters.count(Counter::OutboundShed);
    assert_eq!((seen.harmed, shed), (0, gone.len() as u64));
    assert!((50..95).contains(&gone.len()), "{gone:?}");
    assert!(gone.iter().all(|number| *number < gone.len() + 10), "{gone:?}");
    // Buffers double, and what is in the network counts here as well.
    let held_max = 8 << 20;
    assert!(seen.peak_bytes < calm.peak_bytes + held_max, "{}", seen.peak_bytes);

    let siege = siege.fewer(100).with("  without process_outbound_bytes_max", |limits| {
        limits.process_outbound_bytes_max(usize::MAX)
    });
    let calm = siege.calm();
    let (seen, gone) = outlast(&siege);
    assert_eq!((seen.harmed, seen.left, gone.len()), (0, 100, 0));
    assert!(seen.peak_bytes > calm.peak_bytes + held_max, "{}", seen.peak_bytes);
}

/// What was taken came in order to who stayed, or was refused, or was on its way to a session that
/// closed, which is bounded: nothing else became of it.
fn every_push_is_accounted_for(seen: &Seen, heard: u64, closed: u64) {
    let count = |counter| seen.counters.count(counter);
    let Accounts { taken, to_open, to_closed } = seen.accounts;
    assert_eq!(taken, to_open + to_closed);
    assert_eq!(seen.heard, to_open);
    // What comes in the very moment in which a session closes, its connection no longer takes.
    let reached = count(Counter::PushesTaken) + count(Counter::PushesRefused);
    assert!((taken - closed..=taken).contains(&reached), "{reached} of {taken}");
    let lost = to_closed - heard - count(Counter::PushesRefused);
    let lost_max = Limits::default().outbound_packets_max as u64 + IN_WINDOW;
    assert_eq!(heard, HEARD * closed);
    assert!((closed..=lost_max * closed).contains(&lost), "{lost}");
}

/// What was seen, and which attackers lost their connection.
fn outlast(siege: &Siege) -> (Seen, Vec<usize>) {
    let gone = Arc::<Mutex<Vec<usize>>>::default();
    let seen = siege.run(|attacker| {
        let (number, gone) = (attacker.number, Arc::clone(&gone));
        async move {
            stop_reading(attacker, Arc::default()).await;
            gone.lock().unwrap().push(number);
        }
    });
    let gone = std::mem::take(&mut *gone.lock().unwrap());
    (seen, gone)
}

/// What was seen, and how many pushes the attackers heard.
fn hold(siege: &Siege) -> (Seen, u64) {
    let heard = Arc::<AtomicU64>::default();
    let seen = siege.run(|attacker| stop_reading(attacker, Arc::clone(&heard)));
    (seen, heard.load(Ordering::Relaxed))
}

async fn stop_reading(Attacker { doors, sim, .. }: Attacker, heard: Arc<AtomicU64>) {
    // A narrow one, so that what waits does so at the server.
    let wire = Wire::default().window_bytes(WINDOW_BYTES);
    let Ok(mut client) = doors.enter_over(Door::Tcp, wire).await.map(RawClient::new) else {
        return;
    };
    if client.open("deaf").await.is_err() || client.request(1, "hall.join", "null").await.is_err() {
        return;
    }
    let mut ear = Ear::default();
    while ear.heard() < HEARD {
        let Ok(Some(Received::Push(_, text))) = client.next().await else { return };
        assert!(ear.hear(&text), "{text}");
    }
    heard.fetch_add(ear.heard(), Ordering::Relaxed);
    let beat = packet(PacketKind::Heartbeat, &[]);
    while client.send(&beat).await.is_ok() {
        sim.sleep(Duration::from_millis(500)).await;
    }
}

/// How many pushes somebody hears before it stops reading.
const HEARD: u64 = 3;
const WINDOW_BYTES: usize = 4 << 10;
/// Pushes that may be on their way: the smallest here is of 512 bytes.
const IN_WINDOW: u64 = WINDOW_BYTES as u64 / 512;
