//! How many connections a server takes from one source, in simulated time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::AsyncWriteExt as _;
use pitaya_core::{App, Counter, Limits};
use pitaya_driver::{Acceptor, Runtime as _, Server};
use pitaya_tests::doors::{Door, Doors, Elsewhere};
use pitaya_tests::raw::RawClient;
use pitaya_tests::sim::{self, Sim};
use pitaya_tests::web::WebStream;

#[test]
fn a_source_has_only_so_many_connections_until_one_of_them_ends() {
    on_every_seed(async |sim| {
        let limits = Limits::default().source_connections_max(2);
        let door = Elsewhere::listen(&sim, &["10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"]);
        let server = Server::<Sim>::new("gate", App::new(())).limits(limits);
        let server = server.accept_on(Acceptor::tcp("the door"), door.await.unwrap());
        let server = server.start_on(sim.clone()).await.unwrap();
        let knock = async || let_in(sim.connect(server.addresses()[0]).await.unwrap()).await;
        let (first, second) = (knock().await, knock().await);
        assert!(first.is_some() && second.is_some());
        assert!(knock().await.is_none(), "the third of one source");
        assert!(knock().await.is_some(), "another source");
        assert_eq!(server.counters().count(Counter::SourcesRefused), 1);
        drop(first);
        sim.sleep(SOON).await;
        assert!(knock().await.is_some(), "there is room again");
    });
}

#[test]
fn a_source_behind_a_proxy_has_only_so_many_connections_until_one_of_them_ends() {
    on_every_seed(async |sim| {
        let limits = Limits::default().source_connections_max(2);
        for door in [Door::ProxiedTcp, Door::ProxiedWs] {
            let server = Server::new("gate", App::new(())).limits(limits.clone());
            let (server, doors) = Doors::start(&sim, server).await.unwrap();
            let knock = async |source| let_in_from(&doors, door, source).await;
            let first = knock("203.0.113.7").await;
            let second = knock("203.0.113.7").await;
            assert!(first.is_some() && second.is_some());
            assert!(knock("203.0.113.7").await.is_none(), "the third of one source");
            assert!(knock("203.0.113.8").await.is_some(), "another source");
            assert_eq!(server.counters().count(Counter::SourcesRefused), 1);
            drop(first);
            sim.sleep(SOON).await;
            assert!(knock("203.0.113.7").await.is_some(), "there is room again");
        }
    });
}

#[test]
fn a_source_comes_only_so_often_in_a_second() {
    on_every_seed(async |sim| {
        let limits = Limits::default().source_accepts_max(3);
        let server = Server::new("gate", App::new(())).limits(limits);
        let (server, doors) = Doors::start(&sim, server).await.unwrap();
        let counters = Arc::clone(server.counters());
        for second in 1..=3 {
            for time in 0..5 {
                let is_let_in = let_in_from(&doors, Door::ProxiedTcp, "203.0.113.7").await;
                assert_eq!(is_let_in.is_some(), time < 3, "{time} in second {second}");
            }
            assert!(let_in_from(&doors, Door::ProxiedTcp, "203.0.113.8").await.is_some());
            assert_eq!(counters.count(Counter::SourcesRefused), second * 2);
            sim.sleep(Duration::from_secs(1)).await;
        }
    });
}

/// A client that a proxy names.
async fn let_in_from(doors: &Doors, door: Door, source: &str) -> Option<impl Sized + use<>> {
    let mut io = doors.knock(door).await.unwrap();
    io.write_all(format!("PROXY TCP4 {source} 10.0.0.1 56324 443\r\n").as_bytes()).await.unwrap();
    let io = if door == Door::ProxiedWs { Box::new(WebStream::open(io).await.ok()?) } else { io };
    let_in(io).await
}

/// A client with a session, if it is let in.
async fn let_in<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Option<RawClient<S>> {
    let mut client = RawClient::new(stream);
    client.open("ann").await.ok()?;
    Some(client)
}

fn on_every_seed<F: Future<Output = ()>>(test: impl Fn(Sim) -> F) {
    sim::seeds(10).into_iter().for_each(|seed| sim::run(seed, &test));
}

/// Longer than a connection takes to end.
const SOON: Duration = Duration::from_millis(1100);
