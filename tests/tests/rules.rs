//! What is promised about calls and shows only where handlers run: slow polls, closed sessions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_channel::mpsc;
use futures_lite::StreamExt as _;
use pitaya_core::{App, Counter, Ctx, Error, Session, State};
use pitaya_driver::{Runtime as _, Server};
use pitaya_tests::raw::{self, RawClient};
use pitaya_tests::sim::{self, Sim};
use pitaya_tokio::Tokio;

#[test]
fn a_handler_that_holds_its_executor_is_counted() {
    pitaya_tokio::block_on(async {
        let app = App::new(()).route("hall.spin", spin).route("hall.rest", rest);
        let server = Server::<Tokio>::new("gate", app).tcp(ANY).start().await.unwrap();
        let address = server.addresses()[0].to_string();
        let client = pitaya_tokio::Client::connect(&address).await.unwrap();
        let slow = || server.counters().count(Counter::CallsSlow);

        assert_eq!(client.request("hall.rest", &()).await, Ok(()));
        assert_eq!(slow(), 0, "it took long, but held nothing");
        assert_eq!(client.request("hall.spin", &()).await, Ok(()));
        assert_eq!(slow(), 1);
        server.shutdown().await;
    })
    .unwrap();
}

#[test]
fn a_handler_that_outlives_its_session_can_neither_push_nor_kick_nor_bind_nor_set() {
    let refusals = sim::run(1, |sim| async move {
        let (outcomes, mut refused) = mpsc::unbounded();
        let app = App::new(outcomes).notify("hall.stay", stay);
        let server = Server::<Sim>::new("gate", app).tcp(ANY);
        let server = server.start_on(sim.clone()).await.unwrap();
        let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
        client.open("ada").await.unwrap();
        client.send(&raw::notify("hall.stay", "")).await.unwrap();
        drop(client);
        refused.next().await.unwrap()
    });
    assert_eq!(refusals, ["close closed session"; 4]);
}

#[test]
fn a_close_hook_that_never_ends_is_dropped_at_the_hard_limit() {
    let (abandoned, cut) = sim::run(1, |sim| async move {
        let (arrived, mut here) = mpsc::unbounded();
        let app = App::new(arrived).notify("hall.arrive", arrive);
        let app = app.on_close(|_, _| std::future::pending());
        let server = Server::<Sim>::new("gate", app).tcp(ANY);
        let server = server.start_on(sim.clone()).await.unwrap();
        let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
        client.open("ada").await.unwrap();
        client.send(&raw::notify("hall.arrive", "")).await.unwrap();
        here.next().await.unwrap();
        let counters = Arc::clone(server.counters());
        server.shutdown().await;
        (counters.count(Counter::CallsAbandoned), counters.count(Counter::ShutdownsCut))
    });
    assert_eq!((abandoned, cut), (1, 0));
}

async fn arrive(State(arrived): State<mpsc::UnboundedSender<()>>) {
    arrived.unbounded_send(()).unwrap();
}

async fn spin() -> Result<(), Error> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(15) {
        std::hint::spin_loop();
    }
    Ok(())
}

async fn rest(ctx: Ctx) -> Result<(), Error> {
    ctx.sleep(Duration::from_millis(15)).await;
    Ok(())
}

/// Tries all that needs an open session, long after its own is gone.
async fn stay(
    ctx: Ctx, session: Session, State(outcomes): State<mpsc::UnboundedSender<Vec<String>>>,
) {
    ctx.sleep(Duration::from_secs(10)).await;
    let tried = [
        session.push("onLate", &()),
        session.kick(""),
        session.bind("ada").await,
        session.set("late", true),
    ];
    let refused = tried.into_iter().filter_map(|tried| tried.err().map(|error| error.msg));
    outcomes.unbounded_send(refused.map(Into::into).collect()).unwrap();
}

const ANY: &str = "127.0.0.1:0";
