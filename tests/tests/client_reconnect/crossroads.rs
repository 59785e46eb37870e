//! A name with several addresses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_lite::future::zip;
use pitaya_core::{ClientConfig, Instant};
use pitaya_driver::{Client, ConnectError, Listener as _, Runtime};
use pitaya_tests::sim::{self, Sim, SimListener, SimStream, SimTimer};

use crate::scene::*;

#[test]
fn an_address_that_does_not_answer_leaves_time_for_those_behind_it() {
    sim::run(1, |sim| async move {
        let listener = sim.bind(ANY.parse().unwrap()).await.unwrap();
        let open = listener.local_addr().unwrap();
        let began = sim.time();
        let world = Crossroads { sim: sim.clone(), addresses: vec![NOWHERE, NOWHERE, open] };
        let connect = Client::connect_on(world, "play.example.com:1", ClientConfig::default());
        let (client, _peer) = zip(connect, accept_open(&listener)).await;
        let client: Client<_> = client.unwrap();
        // Of five seconds each takes its share of what is left.
        assert_near(sim.time().since(began), Duration::from_secs(5) * 2 / 3);
        client.close().await;
    });
}

#[test]
fn addresses_that_do_not_answer_take_no_longer_than_one_alone() {
    for count in 1..=3 {
        sim::run(1, |sim| async move {
            let world = Crossroads { sim: sim.clone(), addresses: vec![NOWHERE; count] };
            let (name, began) = ("play.example.com:1", sim.time());
            let connected: Result<Client<_>, _> =
                Client::connect_on(world, name, ClientConfig::default()).await;
            let address = name.to_owned();
            assert_eq!(connected.unwrap_err(), ConnectError::Timeout { address });
            assert_near(sim.time().since(began), Duration::from_secs(5));
        });
    }
}

/// The simulator with one name in it.
#[derive(Clone)]
struct Crossroads {
    sim: Sim,
    addresses: Vec<SocketAddr>,
}

impl Runtime for Crossroads {
    type Listener = SimListener;
    type Stream = SimStream;
    type Timer = SimTimer;

    fn now(&self) -> Instant {
        self.sim.now()
    }

    fn timer(&self) -> SimTimer {
        self.sim.timer()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.sim.spawn(task);
    }

    async fn bind(&self, address: SocketAddr) -> io::Result<SimListener> {
        self.sim.bind(address).await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<SimStream> {
        if address == NOWHERE {
            return std::future::pending().await;
        }
        self.sim.connect(address).await
    }

    async fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(self.addresses.clone())
    }

    async fn stop_signal(&self) -> io::Result<()> {
        self.sim.stop_signal().await
    }

    fn seed(&self) -> u64 {
        self.sim.seed()
    }
}

/// Where what is sent is lost.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::BROADCAST), 1);
