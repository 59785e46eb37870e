//! What is promised about calls and shows only where handlers run: slow polls, closed sessions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_channel::mpsc;
use futures_lite::StreamExt as _;
use pitaya_core::{App, Counter, Ctx, Error, Limits, Payload, Session, State};
use pitaya_driver::{Runtime as _, Server, ServerHandle};
use pitaya_tests::raw::{self, RawClient};
use pitaya_tests::sim::{self, Sim, SimStream, Wire};
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
fn a_handler_that_holds_its_executor_past_the_hard_limit_costs_its_session_and_no_other() {
    sim::run(1, |sim| async move {
        let app = App::new(sim.clone()).notify("hall.compute", compute);
        let server = Server::<Sim>::new("gate", app).tcp(ANY);
        let server = server.start_on(sim.clone()).await.unwrap();
        let mut stuck = connect(&sim, &server, Wire::default()).await;
        let _other = connect(&sim, &server, Wire::default()).await;
        stuck.send(&raw::notify("hall.compute", "19000")).await.unwrap();
        sim.sleep(Duration::from_secs(20)).await;
        assert_eq!(server.connections(), 2);
        stuck.send(&raw::notify("hall.compute", "20000")).await.unwrap();
        assert_eq!(stuck.rest().await.unwrap(), []);
        assert_eq!(server.connections(), 1);
        let counted = [Counter::CallsSlow, Counter::CallsAbandoned, Counter::KicksSent];
        assert_eq!(counted.map(|counter| server.counters().count(counter)), [2, 1, 0]);
    });
}

#[test]
fn who_was_heard_while_the_executor_was_held_up_is_not_silent() {
    sim::run(1, |sim| async move {
        let limits = Limits::default().heartbeat(Duration::from_secs(1));
        let app = App::new(sim.clone()).notify("hall.compute", compute);
        let server = Server::<Sim>::new("gate", app).limits(limits).tcp(ANY);
        let server = server.start_on(sim.clone()).await.unwrap();
        let far = Wire::default().delay(TRIP..=TRIP);
        let mut far = connect(&sim, &server, far).await;
        let mut near = connect(&sim, &server, Wire::default()).await;
        sim.sleep(Duration::from_millis(2700)).await;
        far.send(&HEARTBEAT).await.unwrap();
        near.send(&raw::notify("hall.compute", "2000")).await.unwrap();
        sim.sleep(Duration::from_millis(2100)).await;
        // The beat came in time, and lay in the socket until after.
        assert_eq!(server.counters().count(Counter::ConnectionsSilent), 0);
        assert_eq!(server.connections(), 2);
    });
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

async fn connect(sim: &Sim, server: &ServerHandle<Sim>, wire: Wire) -> RawClient<SimStream> {
    let mut client = RawClient::new(sim.dial(server.addresses()[0], wire).await.unwrap());
    client.open("ada").await.unwrap();
    client
}

async fn compute(State(sim): State<Sim>, Payload(millis): Payload<u64>) {
    sim.hold(Duration::from_millis(millis));
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
const HEARTBEAT: [u8; 4] = [3, 0, 0, 0];
const TRIP: Duration = Duration::from_millis(300);
