//! Sessions in the simulator: what hooks, logins and ends promise in whatever order things happen.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use pitaya_core::App;
use pitaya_driver::{Runtime as _, Server, ServerHandle};
use pitaya_tests::raw::RawClient;
use pitaya_tests::sim::{self, Sim, SimStream};

#[test]
fn a_connection_is_gone_once_its_close_hooks_are_done() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let nap = sim.clone();
            let app = App::new(()).on_close(move |_, _| {
                let nap = nap.clone();
                async move { nap.sleep(Duration::from_millis(100)).await }
            });
            let server = start(&sim, Server::new("gate", app)).await;
            let client = connect(&sim, &server, "ann").await;
            sim.sleep(SOON).await;
            assert_eq!((server.sessions(), server.connections()), (1, 1));
            drop(client);
            sim.sleep(Duration::from_millis(50)).await;
            assert_eq!((server.sessions(), server.connections()), (0, 1));
            sim.sleep(SOON).await;
            assert_eq!(server.connections(), 0);
        });
    }
}

async fn start(sim: &Sim, server: Server<Sim>) -> ServerHandle<Sim> {
    server.tcp("127.0.0.1:0").start_on(sim.clone()).await.unwrap()
}

async fn connect(sim: &Sim, server: &ServerHandle<Sim>, name: &str) -> RawClient<SimStream> {
    let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
    client.open(name).await.unwrap();
    client
}

/// Longer than any packet takes.
const SOON: Duration = Duration::from_millis(100);
