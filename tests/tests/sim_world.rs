//! The simulator itself: what it promises about time, order, streams of bytes, and repeating a run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::{poll_once, yield_now, zip};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_core::Rng;
use pitaya_driver::{Listener as _, Runtime as _};
use pitaya_tests::sim::{self, Sim, SimListener, SimStream, Wire, World};

#[test]
fn a_stream_gives_the_bytes_that_went_in_whatever_the_wire() {
    for seed in sim::seeds(100) {
        let mut chance = Rng::new(seed);
        let bytes: Vec<u8> = (0..chance.below(20_000)).map(|_| chance.next_u64() as u8).collect();
        let wire = Wire::default()
            .segment_bytes_max(1 << chance.below(12))
            .window_bytes(1 << chance.below(14))
            .delay(Duration::ZERO..=Duration::from_millis(chance.below(50)));
        let got = sim::run(seed, |sim| through(sim, wire, bytes.clone(), chance));
        assert!(got == bytes, "seed {seed:#x}: {} bytes in, {} out", bytes.len(), got.len());
    }
}

#[test]
fn both_directions_of_a_connection_are_streams_of_their_own() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let (_listener, mut dialler, mut acceptor) = pair(&sim, Wire::default()).await;
            let (mut to, mut fro) = ([0; 4], [0; 5]);
            zip(dialler.write_all(b"ping"), acceptor.write_all(b"gnop!")).await.0.unwrap();
            zip(acceptor.read_exact(&mut to), dialler.read_exact(&mut fro)).await.0.unwrap();
            assert_eq!((&to, &fro), (b"ping", b"gnop!"));
        });
    }
}

#[test]
fn with_segments_of_one_byte_a_reader_sees_every_byte_alone() {
    let wire = Wire::default().segment_bytes_max(1);
    sim::run(1, |sim| async move {
        let (_listener, mut dialler, mut acceptor) = pair(&sim, wire).await;
        dialler.write_all(b"every byte").await.unwrap();
        let mut buffer = [0; 64];
        for byte in b"every byte" {
            assert_eq!(acceptor.read(&mut buffer).await.unwrap(), 1);
            assert_eq!(buffer[0], *byte);
        }
    });
}

#[test]
fn a_reader_that_does_not_read_makes_the_writer_wait() {
    sim::run(1, |sim| async move {
        let wire = Wire::default().window_bytes(1000);
        let (_listener, mut dialler, mut acceptor) = pair(&sim, wire).await;
        let mut writing = Box::pin(dialler.write_all(&[7; 1500]));
        assert!(poll_once(&mut writing).await.is_none());
        sim.sleep(Duration::from_secs(60)).await;
        assert!(poll_once(&mut writing).await.is_none());
        acceptor.read_exact(&mut [0; 600]).await.unwrap();
        writing.await.unwrap();
    });
}

#[test]
fn what_was_written_before_an_end_is_read_before_it() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let (_listener, mut dialler, mut acceptor) = pair(&sim, Wire::default()).await;
            dialler.write_all(b"half a pack").await.unwrap();
            dialler.close().await.unwrap();
            assert_eq!(dialler.write(b"et").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            let mut got = String::new();
            acceptor.read_to_string(&mut got).await.unwrap();
            assert_eq!(got, "half a pack");
            acceptor.write_all(b"the other half stays open").await.unwrap();
        });
    }
}

#[test]
fn a_reset_takes_what_was_not_read() {
    sim::run(1, |sim| async move {
        let (_listener, mut dialler, mut acceptor) = pair(&sim, Wire::default()).await;
        dialler.write_all(b"lost").await.unwrap();
        dialler.reset();
        sim.sleep(Duration::from_secs(1)).await;
        let read = acceptor.read(&mut [0; 8]).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(acceptor.write(b"?").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn an_end_that_is_dropped_with_bytes_unread_resets_the_connection() {
    sim::run(1, |sim| async move {
        let (_listener, mut dialler, mut acceptor) = pair(&sim, Wire::default()).await;
        dialler.write_all(b"never read").await.unwrap();
        acceptor.write_all(b"last words").await.unwrap();
        sim.sleep(Duration::from_secs(1)).await;
        drop(acceptor);
        sim.sleep(Duration::from_secs(1)).await;
        let read = dialler.read(&mut [0; 16]).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn an_end_that_is_dropped_with_nothing_unread_closes_plainly() {
    sim::run(1, |sim| async move {
        let (_listener, mut dialler, mut acceptor) = pair(&sim, Wire::default()).await;
        acceptor.write_all(b"last words").await.unwrap();
        drop(acceptor);
        let mut got = String::new();
        dialler.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "last words");
        dialler.write_all(b"into the void").await.unwrap();
        sim.sleep(Duration::from_secs(1)).await;
        assert_eq!(dialler.write(b"?").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn nobody_can_connect_where_nobody_listens() {
    sim::run(1, |sim| async move {
        let refused = |result: std::io::Result<SimStream>| {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        };
        refused(sim.connect(ADDRESS).await);
        let listener = sim.bind(ADDRESS).await.unwrap();
        assert_eq!(sim.bind(ADDRESS).await.unwrap_err().kind(), ErrorKind::AddrInUse);
        let mut waiting = sim.connect(ADDRESS).await.unwrap();
        drop(listener);
        assert_eq!(waiting.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        refused(sim.connect(ADDRESS).await);
    });
}

#[test]
fn time_passes_only_when_nothing_can_run() {
    sim::run(1, |sim| async move {
        let begin = sim.time();
        let naps = [30, 10, 20].map(|seconds| {
            let napper = sim.clone();
            sim.start(async move {
                napper.sleep(Duration::from_secs(seconds)).await;
                napper.time()
            })
        });
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(sim.time(), begin);
        for (nap, seconds) in naps.into_iter().zip([30, 10, 20]) {
            assert_eq!(nap.await.since(begin), Duration::from_secs(seconds));
        }
    });
}

#[test]
fn one_seed_gives_one_run_and_other_seeds_give_others() {
    let digests: Vec<_> = sim::seeds(30)
        .into_iter()
        .map(|seed| {
            let digest = sim::run(seed, bustle);
            assert_eq!(sim::run(seed, bustle), digest, "seed {seed:#x}");
            digest
        })
        .collect();
    let different: BTreeSet<_> = digests.iter().collect();
    assert_eq!(different.len(), digests.len());
}

#[test]
fn tasks_that_are_ready_together_run_in_every_order() {
    let order = |seed| {
        sim::run(seed, |sim| async move {
            let order = Arc::new(Mutex::new(Vec::new()));
            let tasks = [0, 1, 2].map(|task| {
                let order = Arc::clone(&order);
                sim.start(async move { order.lock().unwrap().push(task) })
            });
            for task in tasks {
                task.await;
            }
            order.lock().unwrap().clone()
        })
    };
    assert_eq!((0..100).map(order).collect::<BTreeSet<_>>().len(), 6);
}

#[test]
fn a_run_that_cannot_end_says_so() {
    let stuck = |world: World, text: &str| {
        let run = AssertUnwindSafe(|| world.run(|sim| async move { endless(&sim, text).await }));
        let panic = catch_unwind(run).unwrap_err();
        let said = panic.downcast_ref::<String>().cloned();
        said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap()
    };
    let world = World::new(7).steps_max(1000).time_max(Duration::from_secs(5));
    assert_eq!(stuck(world.clone(), "waits"), "nothing will happen any more, and `main` waits");
    assert_eq!(stuck(world.clone(), "sleeps"), "`main` took more than 5s");
    assert_eq!(stuck(world, "spins"), "`main` took more than 1000 steps");
}

async fn endless(sim: &Sim, how: &str) {
    loop {
        match how {
            "waits" => std::future::pending().await,
            "sleeps" => sim.sleep(Duration::from_secs(1)).await,
            _spins => yield_now().await,
        }
    }
}

/// Many connections at once, and what became of them all as a number.
async fn bustle(sim: Sim) -> u64 {
    let listener = sim.bind(ADDRESS).await.unwrap();
    let echoes = sim.clone();
    sim.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            echoes.spawn(async move {
                let mut got = [0; 100];
                while let Ok(1..) = stream.read(&mut got).await {
                    stream.write_all(&got[..1]).await.unwrap();
                }
            });
        }
    });
    let clients: Vec<_> = (0..5)
        .map(|client| {
            let dialler = sim.clone();
            sim.start(async move {
                let mut stream = dialler.connect(ADDRESS).await.unwrap();
                stream.write_all(&[client; 50]).await.unwrap();
                stream.read_exact(&mut [0]).await.unwrap();
            })
        })
        .collect();
    for client in clients {
        client.await;
    }
    sim.digest()
}

/// What comes out when `bytes` go in, in pieces of any size.
async fn through(sim: Sim, wire: Wire, bytes: Vec<u8>, mut chance: Rng) -> Vec<u8> {
    let (_listener, mut dialler, mut acceptor) = pair(&sim, wire).await;
    let mut pieces = chance.clone();
    let write = async {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(chance.below(rest.len() as u64) as usize + 1);
            dialler.write_all(piece).await.unwrap();
            sim.sleep(Duration::from_micros(chance.below(1000))).await;
            rest = later;
        }
        dialler.close().await.unwrap();
    };
    let read = async {
        let mut got = Vec::new();
        loop {
            let mut buffer = vec![0; pieces.below(3000) as usize + 1];
            let count = acceptor.read(&mut buffer).await.unwrap();
            got.extend_from_slice(&buffer[..count]);
            if count == 0 {
                return got;
            }
        }
    };
    zip(write, read).await.1
}

async fn pair(sim: &Sim, wire: Wire) -> (SimListener, SimStream, SimStream) {
    let listener = sim.bind(ADDRESS).await.unwrap();
    let (dialler, accepted) = zip(sim.dial(ADDRESS, wire), listener.accept()).await;
    (listener, dialler.unwrap(), accepted.unwrap().0)
}

const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3250);
