//! The scenario on a runtime: the driver serves, clients have sockets.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use pitaya_core::Counter;
use pitaya_driver::{Runtime, Server, ServerHandle, Timer as _};
use pitaya_tests::raw::RawClient;

use crate::hall;
use crate::journal::Journal;
use crate::scenario::Stage;

/// A server and its clients on a runtime.
pub(crate) struct OnRuntime<R: Runtime> {
    address: SocketAddr,
    clients: BTreeMap<&'static str, RawClient<R::Stream>>,
    journal: Journal,
    runtime: R,
    server: ServerHandle<R>,
}

impl<R: Runtime> OnRuntime<R> {
    pub(crate) async fn new(runtime: R) -> Self {
        let journal = Journal::default();
        let handshakes = journal.clone();
        let server = Server::new("gate", hall::app(&journal))
            .limits(hall::limits())
            .tcp("127.0.0.1:0")
            .validator("name", move |handshake| {
                handshakes.event(hall::name(handshake), "handshake");
                Ok(())
            })
            .start_on(runtime.clone())
            .await
            .unwrap();
        let address = server.addresses()[0];
        Self { address, clients: BTreeMap::new(), journal, runtime, server }
    }

    fn client(&mut self, who: &str) -> &mut RawClient<R::Stream> {
        self.clients.get_mut(who).unwrap()
    }
}

impl<R: Runtime> Stage for OnRuntime<R> {
    async fn dial(&mut self, who: &'static str) {
        let stream = self.runtime.connect(self.address).await.unwrap();
        self.clients.insert(who, RawClient::new(stream));
    }

    async fn send(&mut self, who: &'static str, bytes: &[u8]) {
        self.client(who).send(bytes).await.unwrap();
    }

    async fn send_bytewise(&mut self, who: &'static str, bytes: &[u8]) {
        for byte in bytes {
            self.send(who, &[*byte]).await;
            // The server may read this one before the next one comes.
            wait(&self.runtime, Duration::from_millis(1)).await;
        }
    }

    async fn receive(&mut self, who: &'static str, packets: usize) {
        for _ in 0..packets {
            let packet = self.client(who).next().await;
            let packet = packet.unwrap_or_else(|error| panic!("{who} reads: {error}"));
            self.journal.packet(who, packet.expect("the server has more to say"));
        }
    }

    async fn happened(&mut self, who: &'static str, event: &str) {
        self.journal.happened(who, event).await;
    }

    async fn counted(&mut self, who: &'static str, counter: Counter) {
        self.journal.counted(who, self.server.counters(), counter);
    }

    async fn end(&mut self, who: &'static str) {
        self.client(who).end().await.unwrap();
    }

    async fn stop(self) -> String {
        let counters = Arc::clone(self.server.counters());
        self.server.shutdown().await;
        for (who, mut client) in self.clients {
            for packet in client.rest().await.unwrap() {
                self.journal.packet(who, packet);
            }
            self.journal.packet(who, "end");
        }
        self.journal.trace(&counters)
    }
}

/// Runs what must not take for ever.
pub(crate) async fn in_time<R: Runtime, T>(runtime: &R, future: impl Future<Output = T>) -> T {
    let late = async {
        wait(runtime, Duration::from_secs(30)).await;
        panic!("the scenario hangs");
    };
    or(future, late).await
}

async fn wait<R: Runtime>(runtime: &R, duration: Duration) {
    let (mut timer, until) = (runtime.timer(), runtime.now() + duration);
    poll_fn(|cx| timer.poll_at(cx, until)).await;
}
