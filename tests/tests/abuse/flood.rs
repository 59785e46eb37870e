//! Floods at the door: handshakes that come and go, and connections that never say what they owe.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_io::AsyncRead;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_core::{Counter, Instant};
use pitaya_tests::doors::Door;
use pitaya_tests::raw::{RawClient, handshake};

use crate::NEVER;
use crate::siege::{Attacker, Seen, Siege};

/// 20,000 of them, which is what a debug build simulates in seconds: that nothing is left behind
/// shows after each.
///
/// No limit holds this siege, so none can be left out: that a second handshake ends the connection
/// stands in the table of phases, which the core's tests hold for every kind of packet, and that a
/// connection that is gone leaves nothing is not for anybody to set. What can be shown is that more
/// than one answer would be seen: to those who shake hands as often on connections of their own.
#[test]
fn handshakes_that_come_and_go_leave_nothing_behind_and_get_one_answer_at_most() {
    let siege = Siege::new("handshakes that come and go", 20_000)
        .arriving(Duration::from_secs(40))
        .lasting(Duration::from_secs(45));
    let (seen, once, often) = flood(&siege, 1, 40);
    assert_eq!((seen.harmed, seen.left, seen.sessions), (0, 0, 0));
    assert!(0 < often && often <= once, "{often} bytes for many, {once} for one");
    assert_eq!(seen.counters.count(Counter::ConnectionsFaulty), 10_000, "a second handshake");

    let siege = siege.fewer(20).with("  each on its own connection", |limits| limits);
    let (_, once, often) = flood(&siege, 40, 1);
    assert!(often > once * 2, "{often} bytes for many, {once} for one");
}

/// Half of the attackers shake hands once, the others on so many connections so many times; how
/// many bytes one of each kind was answered at most.
fn flood(siege: &Siege, connections: usize, times: usize) -> (Seen, usize, usize) {
    let most = [0, 0].map(AtomicUsize::new).map(Arc::new);
    let seen = siege.run(|attacker| {
        let is_greedy = attacker.number % 2 == 1;
        let most = Arc::clone(&most[usize::from(is_greedy)]);
        let (connections, times) = if is_greedy { (connections, times) } else { (1, 1) };
        async move {
            let mut answer = 0;
            for _ in 0..connections {
                answer += shake_hands(&attacker, times).await;
            }
            most.fetch_max(answer, Ordering::Relaxed);
        }
    });
    let [once, often] = most.map(|most| most.load(Ordering::Relaxed));
    (seen, once, often)
}

#[test]
fn those_who_do_not_take_the_answer_to_their_handshake_are_gone_in_10_seconds() {
    let siege = Siege::new("answers that nobody takes", 1000);
    let seen = siege.run(never_acknowledge);
    assert_eq!((seen.harmed, seen.left, seen.sessions), (0, 0, 0));
    assert!(seen.held <= Duration::from_secs(10), "{:?}", seen.held);

    let siege =
        siege.fewer(1000).with("  without handshake_timeout", |l| l.handshake_timeout(NEVER));
    let seen = siege.run(never_acknowledge);
    assert_eq!((seen.harmed, seen.left), (0, 1000));
}

/// In one second 500 that never say a word and 500 that shake hands in full, and nothing more.
#[test]
fn a_flood_of_tls_is_gone_in_9_seconds() {
    let siege = Siege::new("TLS, silent or shaken", 4000)
        .honest_at(&[Door::Tls, Door::Wss])
        .arriving(Duration::from_secs(4))
        .lasting(Duration::from_secs(30));
    let seen = siege.run(speak_only_tls);
    assert_eq!((seen.harmed, seen.left, seen.sessions), (0, 0, 0));
    assert!(seen.held <= Duration::from_secs(9), "{:?}", seen.held);

    let silent = Siege::new("TLS, silent", 500).fewer(500);
    let seen = silent.run(say_nothing);
    assert_eq!((seen.harmed, seen.left), (0, 0));
    assert!(seen.held <= Duration::from_secs(6), "{:?}", seen.held);
    let seen = silent.with("  without tls_timeout", |l| l.tls_timeout(NEVER)).run(say_nothing);
    assert_eq!((seen.harmed, seen.left), (0, 500));
}

/// They say what makes the server work, and nothing more. Somebody who comes after them and goes on
/// has a turn before those who have waited for long.
#[test]
fn no_more_than_64_handshakes_of_tls_are_begun_in_a_second_for_those_who_stall() {
    let siege = Siege::new("TLS begun and left", 1000).honest_at(&[Door::Tls, Door::Wss]);
    let (seen, begun, waited) = leave_tls(&siege);
    assert_eq!((seen.harmed, seen.left), (0, 0));
    assert!(seen.held <= Duration::from_secs(6), "{:?}", seen.held);
    assert!((60..=64).contains(&begun), "{begun}");
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    assert!(seen.counters.count(Counter::TlsDelayed) > 900);

    let siege = siege.fewer(1000);
    let siege = siege.with("  without tls_handshakes_max", |l| l.tls_handshakes_max(usize::MAX));
    assert_eq!(leave_tls(&siege).1, 999, "all but the one who comes late");
}

/// More of them than may be at the door at once.
#[test]
fn silent_connections_make_room_for_somebody_new_after_2_seconds() {
    let siege = Siege::new("silence", 2000);
    let seen = siege.run(say_nothing_over_tcp);
    assert_eq!((seen.harmed, seen.left), (0, 0));
    assert!(seen.newcomer.unwrap() < Duration::from_secs(3), "{:?}", seen.newcomer);
    assert!(seen.shaking <= 1024, "{}", seen.shaking);
    assert!(seen.counters.count(Counter::ConnectionsShed) >= 1024);

    let siege = siege.fewer(2000);
    let stubborn = siege.with("  without handshake_idle_max", |l| l.handshake_idle_max(NEVER));
    let seen = stubborn.run(say_nothing_over_tcp);
    assert!(seen.newcomer.unwrap() > Duration::from_secs(4), "{:?}", seen.newcomer);
    let open = siege.with("  without handshaking_max", |l| l.handshaking_max(usize::MAX));
    assert_eq!(open.run(say_nothing_over_tcp).shaking, 2000);
}

/// A quarter of them comes past the proxies, the others say nothing or half of what a proxy owes.
#[test]
fn proxies_that_stall_or_are_strangers_are_gone_in_a_second() {
    let siege = Siege::new("proxies that stall", 1000)
        .honest_at(&[Door::ProxiedTcp, Door::ProxiedWs])
        .lasting(Duration::from_secs(10));
    let seen = siege.run(stall_behind_a_proxy);
    assert_eq!((seen.harmed, seen.left, seen.sessions), (0, 0, 0));
    assert!(seen.held <= Duration::from_millis(1100), "{:?}", seen.held);
    assert_eq!(seen.counters.count(Counter::ProxiesRefused), 1000);

    let siege = siege.fewer(1000).with("  without proxy_timeout", |l| l.proxy_timeout(NEVER));
    let seen = siege.run(stall_behind_a_proxy);
    assert_eq!((seen.harmed, seen.left), (0, 750));
}

/// Shakes hands so often at once, and takes what comes; how many bytes that are.
async fn shake_hands(attacker: &Attacker, times: usize) -> usize {
    let Ok(mut io) = attacker.doors.enter(Door::Tcp).await else { return 0 };
    if io.write_all(&handshake("nobody").repeat(times)).await.is_err() {
        return 0;
    }
    let (mut answer, mut bytes) = (0, [0; 1024]);
    // One handshake alone is answered and then waited for.
    while let Ok(count @ 1..) = io.read(&mut bytes).await {
        answer += count;
        if times == 1 {
            break;
        }
    }
    answer
}

async fn never_acknowledge(Attacker { doors, .. }: Attacker) {
    let Ok(mut client) = doors.enter(Door::Tcp).await.map(RawClient::new) else { return };
    if client.send(&handshake("nobody")).await.is_ok() {
        let _ = client.rest().await;
    }
}

async fn speak_only_tls(attacker: Attacker) {
    if attacker.number.is_multiple_of(2) {
        return say_nothing(attacker).await;
    }
    if let Ok(io) = attacker.doors.enter(Door::Tls).await {
        wait_for_the_end(io).await;
    }
}

/// What was seen, how many were answered in one second at most, and how long somebody waited who
/// came half a second after them.
fn leave_tls(siege: &Siege) -> (Seen, usize, Duration) {
    let (answers, waited) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None)));
    let seen = siege.run(|attacker| {
        let (answers, waited) = (Arc::clone(&answers), Arc::clone(&waited));
        async move {
            let Attacker { doors, sim, number } = attacker;
            if number == 0 {
                sim.sleep(Duration::from_millis(500)).await;
                let came = sim.time();
                doors.open(Door::Tls).await.unwrap();
                *waited.lock().unwrap() = Some(sim.time().since(came));
                return;
            }
            let Ok(mut io) = doors.knock(Door::Tls).await else { return };
            if io.write_all(&doors.hello()).await.is_ok()
                && matches!(io.read(&mut [0; 1024]).await, Ok(1..))
            {
                answers.lock().unwrap().push(sim.time());
            }
            wait_for_the_end(io).await;
        }
    });
    let mut answers = std::mem::take(&mut *answers.lock().unwrap());
    answers.sort_unstable();
    // Answers are up to some milliseconds on their way.
    let second = Duration::from_millis(990);
    let within =
        |from: &Instant| answers.iter().filter(|at| (*from..*from + second).contains(at)).count();
    let waited = waited.lock().unwrap().unwrap();
    (seen, answers.iter().map(within).max().unwrap(), waited)
}

async fn say_nothing(Attacker { doors, .. }: Attacker) {
    if let Ok(io) = doors.knock(Door::Tls).await {
        wait_for_the_end(io).await;
    }
}

async fn say_nothing_over_tcp(Attacker { doors, .. }: Attacker) {
    if let Ok(io) = doors.knock(Door::Tcp).await {
        wait_for_the_end(io).await;
    }
}

async fn stall_behind_a_proxy(Attacker { doors, number, .. }: Attacker) {
    let (door, said): (_, &[u8]) = match number % 4 {
        0 => (Door::ProxiedTcp, b""),
        1 => (Door::ProxiedWs, b"PROXY TCP4 203.0"),
        2 => (Door::ProxiedTcp, b"\r\n\r\n\0\r\nQUIT\n\x21"),
        _ => (Door::Strange, b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n"),
    };
    let Ok(mut io) = doors.knock(door).await else { return };
    if io.write_all(said).await.is_ok() {
        wait_for_the_end(io).await;
    }
}

pub(crate) async fn wait_for_the_end(mut io: impl AsyncRead + Unpin) {
    while matches!(io.read(&mut [0; 1024]).await, Ok(1..)) {}
}
