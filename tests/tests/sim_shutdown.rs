//! Shutting down in the simulator: what is in flight is answered, nobody is kicked, and the time is
//! bounded.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pitaya_core::{App, Counter, Ctx, Error, Limits, Options, Payload};
use pitaya_driver::{Runtime as _, Server, ServerHandle};
use pitaya_tests::raw::{RawClient, Received, request};
use pitaya_tests::sim::{self, Sim, SimStream, Wire};

#[test]
fn what_is_in_flight_is_answered_and_then_every_connection_closes_plainly() {
    for seed in sim::seeds(50) {
        sim::run(seed, |sim| async move {
            let closings = Closings::default();
            let server = start(&sim, &closings, Limits::default()).await;
            let (address, counters) = (server.addresses()[0], Arc::clone(server.counters()));
            let mut clients = Vec::new();
            for _ in 0..5 {
                let mut client = connect(&sim, address).await;
                // One runs, two wait for it.
                for id in 1..=3 {
                    client.send(&request(id, "hall.nap", "1000")).await.unwrap();
                }
                clients.push(client);
            }
            let idle = connect(&sim, address).await;
            let strange = RawClient::new(sim.connect(address).await.unwrap());
            sim.sleep(SOON).await;
            let took = shut_down(&sim, server).await;
            // Three seconds of naps, and one for clients to notice the end.
            assert!((3.7..4.1).contains(&took.as_secs_f64()), "{took:?}");
            for client in &mut clients {
                let replies = [1, 2, 3].map(|id| Received::Reply(id, "1000".to_owned()));
                assert_eq!(client.rest().await.unwrap(), replies);
            }
            for mut client in [idle, strange] {
                assert_eq!(client.rest().await.unwrap(), []);
            }
            assert_eq!(closings.reasons(), ["the server shuts down"; 6]);
            assert_eq!(counters.count(Counter::KicksSent), 0);
            assert_eq!(counters.count(Counter::ShutdownsCut), 0);
            assert_eq!(counters.count(Counter::ConnectionsClosed), 7);
        });
    }
}

#[test]
fn while_a_server_shuts_down_it_takes_neither_connections_nor_calls() {
    for seed in sim::seeds(50) {
        sim::run(seed, |sim| async move {
            let server = start(&sim, &Closings::default(), Limits::default()).await;
            let address = server.addresses()[0];
            let mut client = connect(&sim, address).await;
            client.send(&request(1, "hall.nap", "1000")).await.unwrap();
            sim.sleep(SOON).await;
            let stop = sim.start(server.shutdown());
            sim.sleep(SOON).await;
            assert!(sim.connect(address).await.is_err());
            client.send(&request(2, "hall.nap", "0")).await.unwrap();
            let reply = Received::Reply(1, "1000".to_owned());
            assert_eq!(client.rest().await.unwrap(), [reply]);
            stop.await;
        });
    }
}

#[test]
fn a_handler_that_is_stuck_delays_a_shutdown_until_the_timeout_and_no_longer() {
    for seed in sim::seeds(50) {
        sim::run(seed, |sim| async move {
            let limits = Limits::default().shutdown_timeout(Duration::from_secs(3));
            let closings = Closings::default();
            let server = start(&sim, &closings, limits).await;
            let (address, counters) = (server.addresses()[0], Arc::clone(server.counters()));
            let mut stuck = connect(&sim, address).await;
            stuck.send(&request(1, "hall.stick", "0")).await.unwrap();
            let mut honest = connect(&sim, address).await;
            honest.send(&request(1, "hall.nap", "500")).await.unwrap();
            sim.sleep(SOON).await;
            let took = shut_down(&sim, server).await;
            assert!((3.0..3.02).contains(&took.as_secs_f64()), "{took:?}");
            let reply = Received::Reply(1, "500".to_owned());
            assert_eq!(honest.rest().await.unwrap(), [reply]);
            assert_eq!(stuck.rest().await.unwrap(), []);
            assert_eq!(counters.count(Counter::ShutdownsCut), 1);
            assert_eq!(counters.count(Counter::ConnectionsClosed), 2);
            assert_eq!(closings.reasons(), ["the server shuts down"; 2]);
        });
    }
}

#[test]
fn the_close_hooks_of_what_is_cut_still_have_their_moment() {
    for seed in sim::seeds(50) {
        sim::run(seed, |sim| async move {
            let (ended, clock) = (Closings::default(), sim.clone());
            let told = ended.clone();
            let app = App::new(()).route("hall.stick", stick).on_close(move |_, reason| {
                let (told, clock) = (told.clone(), clock.clone());
                async move {
                    clock.sleep(SOON).await;
                    told.0.lock().unwrap().push(reason.to_string());
                }
            });
            let limits = Limits::default().shutdown_timeout(Duration::from_secs(3));
            let server = Server::new("gate", app).limits(limits).tcp("127.0.0.1:0");
            let server = server.start_on(sim.clone()).await.unwrap();
            for _ in 0..3 {
                let mut stuck = connect(&sim, server.addresses()[0]).await;
                stuck.send(&request(1, "hall.stick", "0")).await.unwrap();
                drop(sim.start(async move { stuck.rest().await }));
            }
            sim.sleep(SOON).await;
            let took = shut_down(&sim, server).await;
            assert!((3.1..3.2).contains(&took.as_secs_f64()), "{took:?}");
            assert_eq!(ended.reasons(), ["the server shuts down"; 3]);
        });
    }
}

#[test]
fn clients_that_do_not_read_delay_a_shutdown_until_they_are_given_up_and_no_longer() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let server = start(&sim, &Closings::default(), Limits::default()).await;
            let (address, counters) = (server.addresses()[0], Arc::clone(server.counters()));
            let wire = Wire::default().window_bytes(100);
            let mut deaf = RawClient::new(sim.dial(address, wire).await.unwrap());
            deaf.open("deaf").await.unwrap();
            for id in 1..=20 {
                deaf.send(&request(id, "hall.nap", "10")).await.unwrap();
            }
            sim.sleep(SOON).await;
            let took = shut_down(&sim, server).await;
            assert!((4.0..7.0).contains(&took.as_secs_f64()), "{took:?}");
            assert_eq!(counters.count(Counter::ShutdownsCut), 0);
            assert_eq!(counters.count(Counter::ConnectionsClosed), 1);
        });
    }
}

async fn shut_down(sim: &Sim, server: ServerHandle<Sim>) -> Duration {
    let begin = sim.time();
    server.shutdown().await;
    sim.time().since(begin)
}

/// Why sessions closed.
#[derive(Clone, Default)]
struct Closings(Arc<Mutex<Vec<String>>>);

impl Closings {
    fn reasons(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

async fn start(sim: &Sim, closings: &Closings, limits: Limits) -> ServerHandle<Sim> {
    let told = closings.clone();
    let for_ever = Options { hard_limit: Some(Duration::from_secs(3600)), ..Options::default() };
    let app = App::new(())
        .route("hall.nap", nap)
        .route_with("hall.stick", for_ever, stick)
        .on_close(move |_, reason| {
            told.0.lock().unwrap().push(reason.to_string());
            std::future::ready(())
        });
    let server = Server::new("gate", app).limits(limits).tcp("127.0.0.1:0");
    server.start_on(sim.clone()).await.unwrap()
}

async fn nap(ctx: Ctx, Payload(millis): Payload<u64>) -> Result<u64, Error> {
    ctx.sleep(Duration::from_millis(millis)).await;
    Ok(millis)
}

async fn stick() -> Result<(), Error> {
    std::future::pending().await
}

async fn connect(sim: &Sim, address: SocketAddr) -> RawClient<SimStream> {
    let mut client = RawClient::new(sim.connect(address).await.unwrap());
    client.open("client").await.unwrap();
    client
}

/// Longer than any packet takes.
const SOON: Duration = Duration::from_millis(100);
