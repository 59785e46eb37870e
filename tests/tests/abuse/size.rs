//! Clients that say or send more than anybody should hold for them.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_core::Counter;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{BODY_BYTES_MAX, PacketKind};
use pitaya_proto::zlib::Scratch;
use pitaya_tests::doors::{Door, Stream};
use pitaya_tests::raw::{ack, handshake, message};
use pitaya_tests::sim::Sim;
use pitaya_tests::web::{BINARY, CONTINUATION, PING, frame, head};

use crate::NEVER;
use crate::flood::wait_for_the_end;
use crate::siege::{Attacker, Siege};

/// They claim what the wire can carry at most, and send 64 KiB of it.
#[test]
fn a_claim_of_16_mib_is_closed_at_its_header_and_nothing_is_held_for_it() {
    let siege = Siege::new("claims of 16 MiB", 1000).lasting(Duration::from_secs(8));
    let calm = siege.calm();
    let seen = siege.run(claim);
    assert_eq!((seen.harmed, seen.left, seen.sessions), (0, 0, 0));
    assert_eq!(seen.counters.count(Counter::ConnectionsFaulty), 1000);
    assert!(seen.peak_bytes < calm.peak_bytes + (16 << 20), "{}", seen.peak_bytes);

    let most = siege
        .with("  without handshake_bytes_max", |limits| limits.handshake_bytes_max(BODY_BYTES_MAX));
    let seen = most.run(claim);
    assert!(seen.peak_bytes > calm.peak_bytes + (64 << 20), "{}", seen.peak_bytes);
}

/// Three of each kind: a message of up to 1 GiB in fragments, one in fragments of one byte with
/// pings between them, and one that claims 2^63 bytes.
///
/// What is measured is the whole world: for each of the nine, at the server, the 64 KiB that a
/// message may have, in a vector that doubles, and what is read of it; in the network a window of
/// 64 KiB, cut into segments and in a queue that doubles; and what the attacker has at hand. That
/// is a third of a MiB, so 3 MiB for all of them, of which less than half is the server's.
#[test]
fn a_websocket_message_without_bound_is_closed_at_the_limit() {
    let siege = Siege::new("WebSocket messages without bound", 9).honest_at(&[Door::Ws, Door::Wss]);
    let calm = siege.calm();
    let seen = siege.run(never_end_a_message);
    assert_eq!((seen.harmed, seen.left, seen.sessions), (0, 0, 0));
    assert!(seen.peak_bytes < calm.peak_bytes + (3 << 20), "{}", seen.peak_bytes);

    let endless = siege
        .lasting(Duration::from_secs(25))
        .with("  without packet_bytes_max", |limits| limits.packet_bytes_max(BODY_BYTES_MAX));
    let seen = endless.run(never_end_a_message);
    assert!(seen.peak_bytes > calm.peak_bytes + (16 << 20), "{}", seen.peak_bytes);
}

/// Pings prove that somebody is there; the message between them still has to end.
#[test]
fn a_websocket_message_that_goes_on_slowly_between_pings_is_gone_in_10_seconds() {
    let siege = Siege::new("fragments between pings", 500).honest_at(&[Door::Ws, Door::Wss]);
    let seen = siege.run(ping_within_a_message);
    assert_eq!((seen.harmed, seen.left), (0, 0));
    // As they do not read, they are given a second to notice.
    assert!(seen.held <= Duration::from_secs(12), "{:?}", seen.held);

    let patient = siege.fewer(500).with("  without packet_timeout", |l| l.packet_timeout(NEVER));
    let seen = patient.run(ping_within_a_message);
    assert_eq!((seen.harmed, seen.left), (0, 500));
}

/// 1,000 in a second, each of 4 MiB.
#[test]
fn a_zlib_bomb_is_inflated_to_the_limit_and_no_further() {
    let siege = Siege::new("zlib bombs", 1000)
        .arriving(Duration::from_secs(1))
        .lasting(Duration::from_secs(4));
    let bomb: Arc<[u8]> = bomb().into();
    assert!(bomb.len() < 64 << 10, "it fits a packet: {}", bomb.len());
    let attack = |attacker| explode(attacker, Arc::clone(&bomb));
    let seen = siege.run(attack);
    assert_eq!((seen.harmed, seen.left), (0, 0));
    assert_eq!(seen.counters.count(Counter::BodiesTooLarge), 1000);

    let fewer = siege.fewer(20);
    let (calm, seen) = (fewer.calm(), fewer.run(attack));
    assert!(seen.peak_bytes < calm.peak_bytes + (1 << 20), "{}", seen.peak_bytes);
    let more =
        fewer.with("  without inflated_bytes_max", |limits| limits.inflated_bytes_max(usize::MAX));
    let seen = more.run(attack);
    assert!(seen.peak_bytes > calm.peak_bytes + BOMB_BYTES as u64, "{}", seen.peak_bytes);
}

async fn claim(Attacker { doors, sim, .. }: Attacker) {
    let Ok(mut io) = doors.enter(Door::Tcp).await else { return };
    let header = [PacketKind::Handshake as u8, 0xff, 0xff, 0xff];
    let body = std::iter::repeat_n(vec![b' '; 4 << 10], 16);
    send_slowly(&sim, &mut io, std::iter::once(header.to_vec()).chain(body)).await;
    wait_for_the_end(io).await;
}

async fn never_end_a_message(Attacker { doors, sim, number }: Attacker) {
    let Ok(mut io) = doors.enter_bare(Door::Ws).await else { return };
    let begin = std::iter::once(frame(BINARY, false, b""));
    let large = frame(CONTINUATION, false, &[1; 16 << 10]);
    let small = [frame(CONTINUATION, false, b"1"), frame(PING, true, b"")].concat().repeat(200);
    match number % 3 {
        0 => {
            let fragments = std::iter::repeat_n(large, (1 << 30) / (16 << 10));
            send_slowly(&sim, &mut io, begin.chain(fragments)).await;
        }
        1 => send_slowly(&sim, &mut io, begin.chain(std::iter::repeat(small))).await,
        _ => send_slowly(&sim, &mut io, std::iter::once(head(BINARY, true, 1 << 63))).await,
    }
    wait_for_the_end(io).await;
}

/// Sends part after part, and reads what comes, until the server closes: slowly enough for each to
/// be with the server before the next one comes.
async fn send_slowly(sim: &Sim, io: &mut Box<dyn Stream>, parts: impl Iterator<Item = Vec<u8>>) {
    for part in parts {
        let closed = async {
            wait_for_the_end(&mut *io).await;
            true
        };
        let passed = async {
            sim.sleep(Duration::from_millis(10)).await;
            false
        };
        if or(closed, passed).await || io.write_all(&part).await.is_err() {
            break;
        }
    }
}

async fn ping_within_a_message(Attacker { doors, sim, .. }: Attacker) {
    let Ok(mut io) = doors.enter_bare(Door::Ws).await else { return };
    // Let in first: those who are not have yet less time.
    let _ = io.write_all(&frame(BINARY, true, &handshake("nobody"))).await;
    let _ = io.read(&mut [0; 1024]).await;
    let _ = io.write_all(&frame(BINARY, true, &ack())).await;
    let fragments = [frame(PING, true, b""), frame(CONTINUATION, false, b"\x04")].concat();
    let mut parts = vec![frame(BINARY, false, b"\x04")];
    while io.write_all(&parts.concat()).await.is_ok() {
        sim.sleep(Duration::from_millis(500)).await;
        parts = vec![fragments.clone()];
    }
}

fn bomb() -> Vec<u8> {
    let mut scratch = Scratch::new();
    let body = Body::deflate(&[b' '; BOMB_BYTES], &mut scratch);
    let route = Route::Name(b"hall.measure");
    message(&Message::Request { id: 1, route, body })
}

async fn explode(Attacker { doors, .. }: Attacker, bomb: Arc<[u8]>) {
    let Ok(mut client) = doors.open(Door::Tcp).await else { return };
    if client.send(&bomb).await.is_ok() {
        // What comes is an answer if it was taken.
        let _ = client.next().await;
    }
}

const BOMB_BYTES: usize = 4 << 20;
