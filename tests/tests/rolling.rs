//! Servers are started anew, one after another, while clients go on to call: a ledger of what the
//! clients saw and one of what ran account for every request.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pitaya_core::{App, ClientConfig, Ctx, Error, Limits, Payload, RequestError, State};
use pitaya_driver::{Client, Cluster, Native as _, Server};
use pitaya_tests::running::Running;
use pitaya_tokio::Tokio;

#[test]
fn while_rooms_are_started_anew_every_request_gets_a_reply_or_an_error() {
    let world = World::start();
    let ledger = world.restart(|world, at| {
        let at = at % world.rooms.len();
        world.rooms.remove(at).stop();
        world.rooms.insert(at, world.room(at));
        world.wait_for(at);
    });
    println!("rooms, {RESTARTS} restarts: {ledger:?}");
    assert_eq!((ledger.lost, ledger.unsent), (0, 0), "the gates were there all the time");
    assert!(ledger.replies > 20 * ledger.errors, "most are answered: {ledger:?}");
}

#[test]
fn while_gates_are_started_anew_every_request_has_an_outcome_and_what_was_not_sent_has_not_run() {
    let world = World::start();
    let ledger = world.restart(|world, at| {
        let at = at % world.gates.len();
        let gate = world.gates.remove(at);
        let address = gate.clients.unwrap();
        gate.stop();
        world.gates.insert(at, world.gate(at, &address.to_string()));
    });
    println!("gates, {RESTARTS} restarts: {ledger:?}");
    assert!(ledger.replies > ledger.lost + ledger.errors, "most are answered: {ledger:?}");
}

/// What became of all requests.
#[derive(Debug, Default)]
struct Ledger {
    replies: u64,
    /// The server said no.
    errors: u64,
    /// The connection ended first, so that nobody knows.
    lost: u64,
    /// The client says that the server has not got it.
    unsent: u64,
}

/// How often the handler ran for each request.
type Ran = Arc<Mutex<BTreeMap<u64, u32>>>;

struct World {
    gates: Vec<Running>,
    rooms: Vec<Running>,
    ran: Ran,
}

impl World {
    fn start() -> Self {
        let mut world = Self { gates: Vec::new(), rooms: Vec::new(), ran: Ran::default() };
        for at in 0..2 {
            world.gates.push(world.gate(at, "127.0.0.1:0"));
        }
        for at in 0..2 {
            world.rooms.push(world.room(at));
            world.wait_for(at);
        }
        world
    }

    fn gate(&self, at: usize, address: &str) -> Running {
        let (address, seeds) = (address.to_owned(), self.seeds());
        Running::start::<Tokio>(move || {
            let cluster = Cluster::secret(SECRET).id(format!("gate-{at}")).seeds(seeds);
            Server::new("gate", App::new(())).tcp(address).cluster(cluster)
        })
    }

    fn room(&self, at: usize) -> Running {
        let (ran, seeds) = (Arc::clone(&self.ran), self.seeds());
        Running::start::<Tokio>(move || {
            let cluster = Cluster::secret(SECRET).id(format!("room-{at}")).seeds(seeds);
            let app = App::new((ran, at)).route("hall.mark", mark).route("hall.name", name);
            Server::new("room", app).cluster(cluster)
        })
    }

    fn seeds(&self) -> Vec<String> {
        let all = self.gates.iter().chain(&self.rooms);
        all.filter_map(|server| server.cluster).map(|at| at.to_string()).collect()
    }

    /// Waits until a room answers through every gate.
    fn wait_for(&self, room: usize) {
        let gates: Vec<_> = self.gates.iter().map(|gate| gate.clients.unwrap()).collect();
        Tokio::block_on(async {
            for gate in gates {
                // Each session is given a room anew.
                while name_of(gate).await != Some(room) {}
            }
        })
        .unwrap();
    }

    /// Restarts servers one after another under load, and judges what became of it.
    fn restart(mut self, mut one: impl FnMut(&mut Self, usize)) -> Ledger {
        let gates: Vec<_> = self.gates.iter().map(|gate| gate.clients.unwrap()).collect();
        let (stop, nonces) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|at| {
                let (gate, stop, nonces) = (gates[at % 2], Arc::clone(&stop), Arc::clone(&nonces));
                let ran = Arc::clone(&self.ran);
                std::thread::spawn(move || {
                    Tokio::block_on(async move { call(gate, &stop, &nonces, &ran).await }).unwrap()
                })
            })
            .collect();
        (0..RESTARTS).for_each(|at| one(&mut self, at));
        stop.store(true, Ordering::Relaxed);
        let mut all = Ledger::default();
        for client in clients {
            let Ledger { replies, errors, lost, unsent } = client.join().unwrap();
            all.replies += replies;
            all.errors += errors;
            all.lost += lost;
            all.unsent += unsent;
        }
        let outcomes = all.replies + all.errors + all.lost + all.unsent;
        assert_eq!(outcomes, nonces.load(Ordering::Relaxed), "each request has one outcome");
        assert!(self.ran.lock().unwrap().values().all(|times| *times == 1), "none runs twice");
        self.rooms.into_iter().chain(self.gates).for_each(Running::stop);
        all
    }
}

/// Calls until it is told to stop.
async fn call(gate: SocketAddr, stop: &AtomicBool, nonces: &AtomicU64, ran: &Ran) -> Ledger {
    let limits = Limits::default()
        .reconnect_delay_min(Duration::from_millis(20))
        .reconnect_delay_max(Duration::from_millis(200))
        .reconnect_attempts_max(10_000);
    let config = ClientConfig { limits, ..ClientConfig::default() };
    // The gate may be away at this moment.
    let client = loop {
        let client = Client::<Tokio>::builder(gate.to_string()).config(config.clone());
        if let Ok(client) = client.connect().await {
            break client;
        }
    };
    let mut ledger = Ledger::default();
    while !stop.load(Ordering::Relaxed) {
        let nonce = nonces.fetch_add(1, Ordering::Relaxed);
        match client.request::<_, u64>("room.hall.mark", &nonce).await {
            Ok(marked) => {
                assert_eq!(marked, nonce, "the reply is that of another request");
                ledger.replies += 1;
            }
            Err(RequestError::Answered(error)) => {
                assert!(["PIT-408", "PIT-500", "PIT-503"].contains(&&*error.code), "{error}");
                if error.code == "PIT-500" {
                    assert!(!has_run(ran, nonce), "there was no server, and it ran");
                }
                ledger.errors += 1;
            }
            Err(RequestError::Unknown(_)) => ledger.lost += 1,
            Err(RequestError::Unsent(_)) => {
                assert!(!has_run(ran, nonce), "it was not sent, and ran");
                ledger.unsent += 1;
            }
        }
    }
    client.close().await;
    ledger
}

fn has_run(ran: &Ran, nonce: u64) -> bool {
    ran.lock().unwrap().contains_key(&nonce)
}

/// The room that a new session at a gate is given, if there is any.
async fn name_of(gate: SocketAddr) -> Option<usize> {
    let client = Client::<Tokio>::connect(&gate.to_string()).await.ok()?;
    let name = client.request("room.hall.name", &()).await.ok();
    client.close().await;
    name
}

async fn mark(
    ctx: Ctx, State((ran, _)): State<(Ran, usize)>, Payload(nonce): Payload<u64>,
) -> Result<u64, Error> {
    *ran.lock().unwrap().entry(nonce).or_default() += 1;
    ctx.sleep(Duration::from_millis(2)).await;
    Ok(nonce)
}

async fn name(State((_, at)): State<(Ran, usize)>) -> Result<usize, Error> {
    Ok(at)
}

const CLIENTS: usize = 8;
const RESTARTS: usize = 20;
const SECRET: &str = "3b5d3c7d207e37dceeedd301e35e2e58";
