//! A world of gates, rooms and clients that runs a plan: faults, healing, and quiet at last.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pitaya_core::{Counters, Instant, Limits};
use pitaya_driver::cluster::Plain;
use pitaya_driver::{Cluster, Server, ServerHandle};
use pitaya_tests::sim::{self, Crash, Sim, Wire};

use super::app::{Place, app};
use super::client;
use super::judge;
use super::ledger::{Broken, Ledger, Trouble};
use super::plan::{self, CALM_MS, CLIENTS, Fault, Kind, Plan};

/// What came of a world.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) broken: Vec<Broken>,
    pub(crate) digest: u64,
    pub(crate) faults: BTreeMap<Kind, u64>,
    pub(crate) requests: usize,
    pub(crate) time: Duration,
}

/// All that the tasks of a test share.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) ledger: Arc<Ledger>,
    slots: Arc<Mutex<BTreeMap<String, Slot>>>,
}

/// The place of one server: its life of now, if it has one.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) lives: u64,
    pub(crate) handle: Option<ServerHandle<Sim>>,
    /// It leaves, and is not asked any more.
    drains: bool,
}

/// Runs a world to its end.
pub(crate) fn run(seed: u64) -> Verdict {
    let world = sim::World::new(seed).steps_max(STEPS_MAX);
    world.run(|sim| async move {
        let (world, plan) = (World::new(&sim), Plan::draw(seed));
        world.begin().await;
        let clients: Vec<_> = (0..CLIENTS)
            .zip(plan.ops)
            .map(|(at, ops)| sim.start(client::live(world.clone(), at, ops)))
            .collect();
        let faults: Vec<_> =
            plan.faults.into_iter().map(|fault| sim.start(world.clone().befall(fault))).collect();
        for fault in faults {
            fault.await;
        }
        world.heal().await;
        let healed = sim.time();
        judge::await_agreement(&world, healed).await;
        let mut living = Vec::new();
        for client in clients {
            living.push(client.await);
        }
        sim.sleep(QUIET).await;
        judge::ask_around(&world, &living).await;
        let broken = judge::judge(&world);
        let (digest, requests) = (sim.digest(), world.ledger.book().asked.len());
        let mut faults = BTreeMap::new();
        for trouble in &world.ledger.book().troubles {
            *faults.entry(trouble.kind).or_default() += 1;
        }
        Verdict { broken, digest, faults, requests, time: sim.time().since(Instant::ZERO) }
    })
}

impl World {
    fn new(sim: &Sim) -> Self {
        // Hosts have their numbers from here on, whoever is asked for first.
        plan::servers().for_each(|name| drop(sim.host(&name)));
        Self { sim: sim.clone(), ledger: Arc::default(), slots: Arc::default() }
    }

    pub(crate) fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn begin(&self) {
        for name in plan::servers() {
            self.start(&name).await;
        }
        let all = plan::servers().count();
        let knows = |slot: &Slot| {
            let members = slot.handle.as_ref().and_then(ServerHandle::members);
            members.is_some_and(|members| members.all().len() == all)
        };
        while !self.slots().values().all(knows) {
            self.sim.sleep(MOMENT).await;
        }
    }

    /// The next life of a server.
    async fn start(&self, name: &str) {
        let (kind, at) = if name.starts_with("gate") { ("gate", 0) } else { ("room", 10) };
        let number: usize = name[5..].parse().expect("a name ends with a number");
        let sim = self.sim.host(name);
        let network = loop {
            match Plain::bind(sim.clone(), address(900 + at + number)).await {
                Ok(network) => break network,
                // The life before is not wholly gone.
                Err(_) => self.sim.sleep(MOMENT).await,
            }
        };
        let lives = {
            let mut slots = self.slots();
            let slot = slots.entry(name.to_owned()).or_default();
            slot.lives += 1;
            slot.lives
        };
        let place = Place {
            kind,
            ledger: Arc::clone(&self.ledger),
            life: format!("{name}/{lives}"),
            sim: sim.clone(),
        };
        let seeds = [address(900), address(901)].map(|address| address.to_string());
        let cluster = Cluster::over(network).id(name).seeds(seeds);
        let mut server = Server::new(kind, app(place)).cluster(cluster).limits(limits());
        if kind == "gate" {
            server = server.tcp(gate(number));
        }
        let handle = server.start_on(sim).await.expect("its addresses are free");
        let mut slots = self.slots();
        let slot = slots.entry(name.to_owned()).or_default();
        (slot.handle, slot.drains) = (Some(handle), false);
    }

    /// One fault, from its beginning to its end.
    async fn befall(self, fault: Fault) {
        self.sim.sleep(fault.at).await;
        let (one, other) = (self.sim.host(&fault.one), self.sim.host(&fault.other));
        match fault.kind {
            Kind::Cut | Kind::CutOneWay => {
                self.note(&fault, &fault.other, fault.lasts);
                one.cut(&other);
                if fault.kind == Kind::Cut {
                    other.cut(&one);
                }
                self.sim.sleep(fault.lasts).await;
                one.heal(&other);
                other.heal(&one);
            }
            Kind::Drained => self.drain(&fault).await,
            Kind::Killed => self.crash(&fault, Crash::Killed).await,
            Kind::Powerless => self.crash(&fault, Crash::Powerless).await,
            Kind::Paused => {
                self.note(&fault, &fault.one, fault.lasts);
                one.pause();
                let noticed = judge::await_notice(self.clone(), fault.clone(), self.sim.time());
                drop(self.sim.start(noticed));
                self.sim.sleep(fault.lasts).await;
                one.resume();
            }
            Kind::Reset => {
                self.note(&fault, &fault.other, MOMENT);
                one.reset(&other);
            }
            Kind::Slow => {
                self.note(&fault, &fault.other, fault.lasts);
                let delay = Duration::from_millis(1)..=fault.lasts.min(SLOW_MAX);
                one.wire(&other, Wire::default().delay(delay).segment_bytes_max(7));
                one.reset(&other);
                self.sim.sleep(fault.lasts).await;
                one.wire(&other, Wire::default());
                one.reset(&other);
            }
        }
    }

    /// What is asked of these hosts while the fault lasts, and soon after, may fail.
    fn note(&self, fault: &Fault, other: &str, lasts: Duration) {
        let (from, hosts) = (self.sim.time(), [fault.one.clone(), other.to_owned()]);
        let until = from + lasts + AFTERMATH;
        self.ledger.trouble(Trouble { kind: fault.kind, hosts, from, until });
    }

    async fn crash(&self, fault: &Fault, how: Crash) {
        let slot = self.slots().get_mut(&fault.one).map(|slot| slot.handle.take());
        let Some(Some(handle)) = slot else { return };
        self.note(fault, &fault.one, fault.lasts);
        self.sim.host(&fault.one).crash(how);
        drop(handle);
        self.sim.sleep(fault.lasts).await;
        self.start(&fault.one).await;
    }

    /// The server leaves in its own time, and comes back later.
    async fn drain(&self, fault: &Fault) {
        let handle = self.slots().get_mut(&fault.one).and_then(|slot| slot.handle.take());
        let Some(handle) = handle else { return };
        self.note(fault, &fault.one, fault.lasts + DRAIN);
        let left = Arc::new(Mutex::new(false));
        let leaves = Arc::clone(&left);
        let host = self.sim.host(&fault.one);
        drop(host.start(async move {
            handle.shutdown().await;
            *leaves.lock().unwrap_or_else(PoisonError::into_inner) = true;
        }));
        let until = self.sim.time() + DRAIN;
        while self.sim.time() < until && !*left.lock().unwrap_or_else(PoisonError::into_inner) {
            self.sim.sleep(MOMENT).await;
        }
        self.sim.sleep(fault.lasts).await;
        self.start(&fault.one).await;
    }

    /// Whatever still lasts is over.
    async fn heal(&self) {
        let calm = Instant::ZERO + Duration::from_millis(CALM_MS);
        self.sim.sleep(calm.since(self.sim.time())).await;
    }

    /// The counters of every server that is there, with what is open.
    pub(crate) fn counted(&self) -> Vec<(String, Arc<Counters>, usize, usize)> {
        let slots = self.slots();
        let there = slots.iter().filter_map(|(name, slot)| Some((name, slot.handle.as_ref()?)));
        there
            .map(|(name, it)| {
                (name.clone(), Arc::clone(it.counters()), it.connections(), it.sessions())
            })
            .collect()
    }
}

/// Where clients connect to a gate.
pub(crate) fn gate(number: usize) -> String {
    address(800 + number).to_string()
}

fn address(port: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port as u16))
}

/// Shorter than by default, so that a world is.
fn limits() -> Limits {
    Limits::default()
        .call_deadline(CALL_DEADLINE)
        .call_hard_limit(CALL_HARD_LIMIT)
        .heartbeat(Duration::from_secs(2))
        // What is a little longer goes in parts.
        .link_part_bytes_max(128)
        .shutdown_timeout(Duration::from_secs(10))
}

pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(4);
const CALL_HARD_LIMIT: Duration = Duration::from_secs(6);
/// How long hosts need to be as before, once a fault is over.
pub(crate) const AFTERMATH: Duration = Duration::from_secs(2);
/// No server takes longer to leave.
const DRAIN: Duration = Duration::from_secs(13);
const MOMENT: Duration = Duration::from_millis(20);
/// When all that was begun has ended.
const QUIET: Duration = Duration::from_secs(9);
const SLOW_MAX: Duration = Duration::from_millis(300);
const STEPS_MAX: u64 = 20_000_000;
