//! What happens to hosts of the simulator, seen by those who talk with them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_driver::{Listener as _, Runtime as _};
use pitaya_tests::sim::{self, Crash, Sim, SimStream, Wire};

#[test]
fn the_connections_of_a_host_that_is_killed_are_reset_and_nobody_listens_there() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let (near, far) = (sim.host("near"), sim.host("far"));
            let mut stream = connected(&near, &far).await;
            far.crash(Crash::Killed);
            let failed = stream.read(&mut [0]).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::ConnectionReset);
            let refused = near.connect(address()).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            connected(&near, &far).await;
        });
    }
}

#[test]
fn a_host_without_power_says_nothing_until_it_runs_again() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let (near, far) = (sim.host("near"), sim.host("far"));
            let mut stream = connected(&near, &far).await;
            far.crash(Crash::Powerless);
            stream.write_all(b"?").await.unwrap();
            assert!(!ends_within(&sim, 1000, stream.read(&mut [0])).await);
            assert!(!ends_within(&sim, 100, near.connect(address())).await);
            connected(&near, &far).await;
            stream.write_all(b"?").await.unwrap();
            let failed = stream.read(&mut [0]).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::ConnectionReset);
        });
    }
}

#[test]
fn a_host_that_is_stopped_goes_on_with_all_that_came_meanwhile() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let (near, far) = (sim.host("near"), sim.host("far"));
            let mut stream = connected(&near, &far).await;
            far.pause();
            stream.write_all(b"abc").await.unwrap();
            assert!(!ends_within(&sim, 100, stream.read(&mut [0])).await);
            far.resume();
            assert_eq!(read(&mut stream).await, *b"abc");
        });
    }
}

#[test]
fn what_is_sent_where_the_way_is_cut_arrives_in_order_once_it_is_whole() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let (near, far) = (sim.host("near"), sim.host("far"));
            let mut stream = connected(&near, &far).await;
            far.cut(&near);
            stream.write_all(b"ab").await.unwrap();
            assert!(!ends_within(&sim, 100, stream.read(&mut [0])).await);
            assert!(!ends_within(&sim, 10, near.connect(address())).await);
            stream.write_all(b"c").await.unwrap();
            far.heal(&near);
            assert_eq!(read(&mut stream).await, *b"abc");
            assert_eq!(sim.faults()["cut"], 1);
        });
    }
}

#[test]
fn a_reset_between_two_hosts_is_seen_by_both_and_by_nobody_else() {
    sim::run(1, |sim| async move {
        let (near, far) = (sim.host("near"), sim.host("far"));
        let mut stream = connected(&near, &far).await;
        let mut other = sim.connect(address()).await.unwrap();
        assert_eq!(near.connections(&far), 1);
        near.reset(&far);
        let failed = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::ConnectionReset);
        other.write_all(b"abc").await.unwrap();
        assert_eq!(read(&mut other).await, *b"abc");
        assert_eq!(near.connections(&far), 0);
    });
}

#[test]
fn two_hosts_have_a_wire_of_their_own_and_what_one_says_is_written_down() {
    sim::run(1, |sim| async move {
        let (near, far) = (sim.host("near"), sim.host("far"));
        drop(connected(&near, &far).await);
        near.watch();
        let slow = Duration::from_secs(1);
        near.wire(&far, Wire::default().delay(slow..=slow));
        let mut stream = near.connect(address()).await.unwrap();
        let sent = sim.time();
        stream.write_all(b"abc").await.unwrap();
        assert_eq!(read(&mut stream).await, *b"abc");
        assert!(sim.time().since(sent) >= 2 * slow);
        let taps = sim.taps();
        assert_eq!((&*taps[0].dialler, &*taps[0].acceptor), ("near", "far"));
        assert_eq!(taps[0].said, [b"abc", b"abc"]);
    });
}

/// A connection to a host that says again what it hears.
async fn connected(near: &Sim, far: &Sim) -> SimStream {
    let listener = far.bind(address()).await.unwrap();
    let host = far.clone();
    far.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            host.spawn(async move {
                let mut buffer = [0; 8];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    near.connect(address()).await.unwrap()
}

async fn read(stream: &mut SimStream) -> [u8; 3] {
    let mut bytes = [0; 3];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn ends_within<T>(sim: &Sim, seconds: u64, work: impl Future<Output = T>) -> bool {
    let ends = async {
        work.await;
        true
    };
    let over = async {
        sim.sleep(Duration::from_secs(seconds)).await;
        false
    };
    futures_lite::future::or(ends, over).await
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 90))
}
