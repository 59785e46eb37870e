//! How servers are found, in simulated time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_lite::FutureExt as _;
use pitaya_core::cluster::{Incarnation, ServerId, ServerInfo};
use pitaya_core::session::HostFuture;
use pitaya_driver::Timers;
use pitaya_driver::cluster::discovery::{
    Discovery, Dns, Hints, RESOLVE_TIME_MAX, RuntimeHost, Search, SearchHost, Seeds,
};
use pitaya_tests::registry::Registry;
use pitaya_tests::sim::{self, Sim};

#[test]
fn a_seed_is_found_once_its_name_is_known() {
    on_every_seed(async |sim| {
        let world = World::new(&sim);
        let seeds = Seeds::new(["late:3300", "10.0.0.2:3300", "localhost:3301"]).unwrap();
        let (hints, ended) = world.start(seeds, "10.0.0.1:3300");
        sim.sleep(SECOND).await;
        assert_eq!(hints.addresses(), addresses(["10.0.0.2:3300", "127.0.0.1:3301"]));
        sim.sleep(100 * SECOND).await;
        sim.name("late", ["10.0.0.3".parse().unwrap()]);
        sim.sleep(3 * SECOND).await;
        let all = ["10.0.0.2:3300", "10.0.0.3:3300", "127.0.0.1:3301"];
        assert_eq!(hints.addresses(), addresses(all));
        ended.await;
        assert_eq!(hints.addresses(), addresses(all), "its end withdraws nothing");
    });
}

#[test]
fn a_server_is_no_seed_of_its_own() {
    on_every_seed(async |sim| {
        let seeds = Seeds::new(["10.0.0.1:3300", "10.0.0.1:3301"]).unwrap();
        let (hints, ended) = World::new(&sim).start(seeds, "10.0.0.1:3300");
        ended.await;
        assert_eq!(hints.addresses(), addresses(["10.0.0.1:3301"]));
    });
}

#[test]
fn a_resolver_that_never_answers_holds_up_no_other_seed() {
    on_every_seed(async |sim| {
        let world = World::new(&sim);
        let silent = Arc::new(Silent { asked: AtomicUsize::new(0), host: world.host });
        let world = World { host: Arc::clone(&silent) as Arc<dyn SearchHost>, ..world };
        let seeds = Seeds::new(["silent:1", "10.0.0.2:3300"]).unwrap();
        let (hints, _run) = world.start(seeds, "10.0.0.1:3300");
        sim.sleep(SECOND).await;
        assert_eq!(hints.addresses(), addresses(["10.0.0.2:3300"]));
        sim.sleep(2 * RESOLVE_TIME_MAX).await;
        assert_eq!(silent.asked.load(Ordering::Relaxed), 2, "it is given up and asked again");
    });
}

#[test]
fn servers_behind_a_name_are_found_and_lost_as_its_addresses_come_and_go() {
    on_every_seed(async |sim| {
        let name = |hosts: &[&str]| sim.name("rooms", hosts.iter().map(|ip| ip.parse().unwrap()));
        let (hints, _run) = World::new(&sim).start(Dns::new("rooms", 3300), "10.0.0.1:3300");
        sim.sleep(15 * SECOND).await;
        name(&["10.0.0.1", "10.0.0.2"]);
        sim.sleep(3 * SECOND).await;
        assert_eq!(hints.addresses(), addresses(["10.0.0.2:3300"]), "soon, as it knew of none");
        name(&["10.0.0.1", "10.0.0.3", "10.0.0.4"]);
        sim.sleep(11 * SECOND).await;
        assert_eq!(hints.addresses(), addresses(["10.0.0.3:3300", "10.0.0.4:3300"]));
        name(&[]);
        sim.sleep(600 * SECOND).await;
        let known = addresses(["10.0.0.3:3300", "10.0.0.4:3300"]);
        assert_eq!(hints.addresses(), known, "a resolver that fails loses nothing");
        name(&["10.0.0.4"]);
        sim.sleep(11 * SECOND).await;
        assert_eq!(hints.addresses(), addresses(["10.0.0.4:3300"]));
    });
}

#[test]
fn a_name_is_asked_for_as_often_as_one_wants() {
    on_every_seed(async |sim| {
        let dns = Dns::new("rooms", 3300).every(60 * SECOND);
        sim.name("rooms", ["10.0.0.2".parse().unwrap()]);
        let (hints, _run) = World::new(&sim).start(dns, "10.0.0.1:3300");
        sim.sleep(SECOND).await;
        sim.name("rooms", ["10.0.0.3".parse().unwrap()]);
        sim.sleep(50 * SECOND).await;
        assert_eq!(hints.addresses(), addresses(["10.0.0.2:3300"]));
        sim.sleep(15 * SECOND).await;
        assert_eq!(hints.addresses(), addresses(["10.0.0.3:3300"]));
    });
}

#[test]
fn servers_in_a_registry_find_each_other_while_they_are_there() {
    on_every_seed(async |sim| {
        let (world, registry) = (World::new(&sim), Registry::default());
        let (first, _run) = world.start(registry.clone(), "10.0.0.1:3300");
        let (second, other) = world.start(registry.clone(), "10.0.0.2:3300");
        sim.sleep(SECOND).await;
        assert_eq!(first.addresses(), addresses(["10.0.0.2:3300"]));
        assert_eq!(second.addresses(), addresses(["10.0.0.1:3300"]));
        let stale = registry.announce(&addresses(["10.0.0.9:3300"]));
        sim.sleep(SECOND).await;
        assert_eq!(first.addresses(), addresses(["10.0.0.2:3300", "10.0.0.9:3300"]));
        drop((stale, other));
        sim.sleep(SECOND).await;
        assert_eq!(first.addresses(), []);
    });
}

/// What servers of a simulated world have at hand.
struct World {
    host: Arc<dyn SearchHost>,
    sim: Sim,
}

impl World {
    fn new(sim: &Sim) -> Self {
        let host = RuntimeHost::new(sim.clone(), Timers::start(sim));
        Self { host: Arc::new(host), sim: sim.clone() }
    }

    /// Lets a server at that address look for others until the second is dropped, which can also be
    /// waited for.
    fn start(&self, discovery: impl Discovery, at: &str) -> (Hints, HostFuture<()>) {
        let (hints, me) = (Hints::default(), Arc::new(server(at)));
        let search = Search::new(me, hints.clone(), Arc::clone(&self.host));
        let run = Box::new(discovery).run(search);
        let (stop, stopped) = futures_channel::oneshot::channel::<()>();
        let ended = self.sim.start(run.or(async {
            // Either way it ends.
            let _ = stopped.await;
        }));
        let run = async {
            ended.await;
            drop(stop);
        };
        (hints, Box::pin(run))
    }
}

/// A resolver that knows everybody but one host, for which it never answers.
struct Silent {
    asked: AtomicUsize,
    host: Arc<dyn SearchHost>,
}

impl SearchHost for Silent {
    fn resolve(&self, host: &str, port: u16) -> HostFuture<io::Result<Vec<SocketAddr>>> {
        if host != "silent" {
            return self.host.resolve(host, port);
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    }

    fn sleep(&self, duration: Duration) -> HostFuture<()> {
        self.host.sleep(duration)
    }
}

fn server(at: &str) -> ServerInfo {
    ServerInfo {
        addresses: addresses([at]),
        frontend: false,
        hostname: "host".to_owned(),
        id: ServerId::new(&at.replace(':', "-")).unwrap(),
        incarnation: Incarnation::new(1),
        kind: "room".into(),
        metadata: Default::default(),
    }
}

fn addresses<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<SocketAddr> {
    texts.into_iter().map(|text| text.parse().unwrap()).collect()
}

fn on_every_seed<F: Future<Output = ()>>(test: impl Fn(Sim) -> F) {
    sim::seeds(10).into_iter().for_each(|seed| sim::run(seed, &test));
}

const SECOND: Duration = Duration::from_secs(1);
