//! What lost datagrams do to calls between two servers, over QUIC on real sockets. A pair of
//! servers shares one stream, so one that is lost holds up whatever follows it, of any session.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_lite::future::zip;
use hdrhistogram::Histogram;
use pitaya_core::{App, Error, Limits, Payload, RequestError, Session, State};
use pitaya_driver::{Client, Cluster, Native, Server};
use pitaya_smol::Smol;
use pitaya_tests::crowd::all;
use pitaya_tests::lossy::{Fate, LossyWay};
use pitaya_tests::running::Running;
use pitaya_tokio::Tokio;

#[test]
fn on_tokio_lost_datagrams_lose_no_call_keep_the_order_of_each_session_and_cost_no_link() {
    lost_datagrams_lose_no_call_keep_the_order_of_each_session_and_cost_no_link::<Tokio>("tokio");
}

#[test]
fn on_smol_lost_datagrams_lose_no_call_keep_the_order_of_each_session_and_cost_no_link() {
    lost_datagrams_lose_no_call_keep_the_order_of_each_session_and_cost_no_link::<Smol>("smol");
}

fn lost_datagrams_lose_no_call_keep_the_order_of_each_session_and_cost_no_link<R: Native>(
    runtime: &str,
) {
    let world = World::start::<R>();
    for (round, per_mille) in [0, 10, 50].into_iter().enumerate() {
        world.way.lose(per_mille);
        let before = world.way.counts();
        let latencies = world.many_sessions_call::<R>(round);
        let (lost, passed) = world.way.counts();
        let (lost, passed) = (lost - before.0, passed - before.1);
        let percent = f64::from(per_mille) / 10.0;
        println!(
            "{runtime}: {percent:3} % lost, {lost:4} of {:5} datagrams  {}",
            lost + passed,
            shown(&latencies)
        );
        assert_eq!(lost > 0, per_mille > 0, "calls take the way that loses some");
    }
    world.stop();
}

#[test]
fn on_tokio_a_lost_datagram_of_one_session_holds_up_another_and_both_are_answered() {
    a_lost_datagram_of_one_session_holds_up_another_and_both_are_answered::<Tokio>("tokio");
}

#[test]
fn on_smol_a_lost_datagram_of_one_session_holds_up_another_and_both_are_answered() {
    a_lost_datagram_of_one_session_holds_up_another_and_both_are_answered::<Smol>("smol");
}

/// How long it is held up is printed; on a busy machine that says little, so it decides nothing.
fn a_lost_datagram_of_one_session_holds_up_another_and_both_are_answered<R: Native>(runtime: &str) {
    let world = World::start::<R>();
    for fate in [Fate::Passed, Fate::Lost] {
        let before = world.way.counts().0;
        let (mut ann, mut bob) = (histogram(), histogram());
        R::block_on(async {
            let clients = [world.connect::<R>().await, world.connect::<R>().await];
            for _ in 0..ROUNDS {
                world.one_calls_after_the_other(&clients, fate, [&mut ann, &mut bob]).await;
            }
            let [one, other] = clients;
            zip(one.close(), other.close()).await;
        })
        .unwrap();
        let what = format!("{runtime}: the datagram of bob's call is {fate:?}");
        println!("{what:48}  bob {}", shown(&bob));
        println!("{:48}  ann {}", "", shown(&ann));
        let lost = if fate == Fate::Lost { ROUNDS } else { 0 };
        assert_eq!(world.way.counts().0 - before, lost);
    }
    world.stop();
}

/// A gate and a room, with a lossy way between them.
struct World {
    way: LossyWay,
    gate: Running,
    room: Running,
    /// What the gate hears of the room.
    members: Arc<Mutex<Vec<String>>>,
    noted: Noted,
}

/// What ran of each session, in that order.
type Noted = Arc<Mutex<BTreeMap<(usize, usize), Vec<u32>>>>;

impl World {
    fn start<R: Native>() -> Self {
        let way = LossyWay::new(DELAY, SEED).unwrap();
        let (members, noted) = (Arc::<Mutex<Vec<String>>>::default(), Noted::default());
        let (notes, hears) = (Arc::clone(&noted), Arc::clone(&members));
        let room = Running::start::<R>(move || {
            let app = App::new(notes).route("hall.note", note).route("hall.measure", measure);
            let server = Server::new("room", app).limits(limits());
            server.cluster(Cluster::secret(SECRET).id("room-1"))
        });
        way.lead_to(room.cluster.unwrap());
        let seed = way.address().to_string();
        let gate = Running::start::<R>(move || {
            let cluster = Cluster::secret(SECRET).id("gate-1").seeds([seed]);
            let hears = move |event: &_| hears.lock().unwrap().push(format!("{event}"));
            let cluster = cluster.on_member(hears);
            let gate = Server::new("gate", App::new(())).limits(limits()).tcp("127.0.0.1:0");
            gate.cluster(cluster)
        });
        let world = Self { way, gate, room, members, noted };
        R::block_on(async {
            let client = world.connect::<R>().await;
            while let Err(RequestError::Answered(error)) =
                client.request::<_, usize>("room.hall.measure", &"?").await
            {
                assert_eq!(error.code, "PIT-500", "{error}");
            }
            client.close().await;
        })
        .unwrap();
        world
    }

    async fn connect<R: Native>(&self) -> Client<R> {
        let client = Client::connect(&self.gate.clients.unwrap().to_string()).await.unwrap();
        client.within(LONG)
    }

    /// Some sessions call at once, each with several calls in flight.
    fn many_sessions_call<R: Native>(&self, round: usize) -> Histogram<u64> {
        let latencies = RefCell::new(histogram());
        R::block_on(async {
            let session = async |at| {
                let client = self.connect::<R>().await;
                call(&client, (round, at), &latencies).await;
                client.close().await;
            };
            all((0..SESSIONS).map(session)).await;
        })
        .unwrap();
        let noted = self.noted.lock().unwrap();
        let in_order: Vec<_> = (0..CALLS).collect();
        for at in 0..SESSIONS {
            assert_eq!(noted[&(round, at)], in_order, "what ran of the session {at}");
        }
        latencies.into_inner()
    }

    /// Bob calls, his datagram meets its fate, and only then Ann calls.
    async fn one_calls_after_the_other<R: Native>(
        &self, [ann, bob]: &[Client<R>; 2], fate: Fate, latencies: [&mut Histogram<u64>; 2],
    ) {
        let much = "x".repeat(MUCH);
        let told = self.way.next(MUCH..MUCH + 500, fate);
        let timed = async |client: &Client<R>, text: &str| {
            let begin = Instant::now();
            let bytes: usize = client.request("room.hall.measure", &text).await.unwrap();
            assert_eq!(bytes, text.len());
            begin.elapsed()
        };
        let then_ann = async {
            told.await.unwrap();
            timed(ann, "ann").await
        };
        let (bobs, anns) = zip(timed(bob, &much), then_ann).await;
        for (latency, latencies) in [anns, bobs].into_iter().zip(latencies) {
            latencies.record(latency.as_micros() as u64).unwrap();
        }
    }

    fn stop(self) {
        assert_eq!(*self.members.lock().unwrap(), ["room-1 joined"], "no link is given up");
        self.gate.stop();
        self.room.stop();
    }
}

/// A session calls, a few calls at a time, and is answered and pushed to in that order.
async fn call<R: Native>(
    client: &Client<R>, session: (usize, usize), latencies: &RefCell<Histogram<u64>>,
) {
    let (sent, answered) = (Cell::new(0), Cell::new(0));
    let lane = async |_| {
        while sent.get() < CALLS {
            let number = sent.replace(sent.get() + 1);
            let begin = Instant::now();
            let said: u32 = client.request("room.hall.note", &(session, number)).await.unwrap();
            assert_eq!((said, answered.get()), (number, number), "replies come in order");
            answered.set(number + 1);
            latencies.borrow_mut().record(begin.elapsed().as_micros() as u64).unwrap();
        }
    };
    let mut pushes = client.subscribe::<u32>("onNote");
    let hear = async {
        for number in 0..CALLS {
            assert_eq!(pushes.next().await, Some(number), "pushes come in order");
        }
    };
    zip(all((0..IN_FLIGHT).map(lane)), hear).await;
}

async fn note(
    session: Session, State(noted): State<Noted>,
    Payload((name, number)): Payload<((usize, usize), u32)>,
) -> Result<u32, Error> {
    noted.lock().unwrap().entry(name).or_default().push(number);
    session.push("onNote", &number)?;
    Ok(number)
}

async fn measure(Payload(text): Payload<String>) -> Result<usize, Error> {
    Ok(text.len())
}

/// On a busy machine nobody is silent because it has to wait for a core.
fn limits() -> Limits {
    Limits::default().call_deadline(LONG).link_suspect_after(Duration::from_secs(9))
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).unwrap()
}

fn shown(latencies: &Histogram<u64>) -> String {
    let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let max = latencies.max() as f64 / 1000.0;
    format!("p50 {:5.1} ms  p99 {:5.1} ms  max {max:5.1} ms", at(0.5), at(0.99))
}

/// One way, so that a datagram that is sent again can be told from one that is not.
const DELAY: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(30);
const SEED: u64 = 1;
const SESSIONS: usize = 8;
const CALLS: u32 = 300;
const IN_FLIGHT: usize = 2;
const ROUNDS: u64 = 60;
/// In bytes: more than any other datagram has in a test that sends so much at once.
const MUCH: usize = 600;
const SECRET: &str = "3b5d3c7d207e37dceeedd301e35e2e58";
