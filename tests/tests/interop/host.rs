//! Our servers, one for each settings, on a runtime and a thread of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_channel::oneshot;
use pitaya_core::{Json, Limits, Protobuf};
use pitaya_driver::{Native, Server, ServerHandle};

use crate::app::{Echo, app};
use crate::cases::{Serializer, Settings};

/// Servers that run until this is dropped.
pub(crate) struct Host {
    addresses: Addresses,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

type Addresses = BTreeMap<Settings, SocketAddr>;

/// What blocks a thread on a runtime until the future ends.
pub(crate) type BlockOn = fn(Pin<Box<dyn Future<Output = ()>>>);

impl Host {
    pub(crate) fn start<R: Native>(
        settings: impl IntoIterator<Item = Settings>, echo: Echo, block_on: BlockOn,
    ) -> Self {
        let settings: BTreeSet<_> = settings.into_iter().collect();
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let serve = move || block_on(Box::pin(serve::<R>(settings, echo, ready, stopped)));
        let thread = thread::spawn(serve);
        let addresses = started.recv().expect("the servers start");
        Self { addresses, running: Some((stop, thread)) }
    }

    pub(crate) fn address(&self, settings: Settings) -> SocketAddr {
        self.addresses[&settings]
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some((stop, thread)) = self.running.take() else { return };
        drop(stop);
        let ended = thread.join();
        assert!(ended.is_ok() || thread::panicking(), "the servers end without a panic");
    }
}

async fn serve<R: Native>(
    settings: BTreeSet<Settings>, echo: Echo, ready: mpsc::Sender<Addresses>,
    stopped: oneshot::Receiver<()>,
) {
    let mut servers: Vec<ServerHandle<R>> = Vec::new();
    let mut addresses = Addresses::new();
    for settings in settings {
        let server = server::<R>(settings, echo).start().await.unwrap();
        addresses.insert(settings, server.addresses()[0]);
        servers.push(server);
    }
    ready.send(addresses).expect("the test waits");
    // A sender that was dropped asks for the same.
    let _ = stopped.await;
    for server in servers {
        server.shutdown().await;
    }
}

fn server<R: Native>(settings: Settings, echo: Echo) -> Server<R> {
    let server = match settings.serializer {
        Serializer::Json => Server::new("connector", app::<Json>(echo)),
        Serializer::Protobuf => Server::new("connector", app::<Protobuf>(echo)),
    };
    let server = server
        .tcp("127.0.0.1:0")
        .limits(Limits::default().heartbeat(Duration::from_secs(1)))
        .compression(settings.compression)
        .validator("version", |client| match &*client.client_version {
            "refused" => Err("this version is refused".to_owned()),
            _ => Ok(()),
        });
    if settings.dictionary { server.dictionary(DICTIONARY) } else { server }
}

/// One code needs both of its bytes, so that their order shows.
pub(crate) const DICTIONARY: [(&str, u16); 5] = [
    ("connector.testsvc.echo", 1),
    ("connector.testsvc.pushme", 2),
    ("connector.testsvc.raw", 0x0203),
    ("connector.testsvc.wave", 4),
    ("onNumber", 5),
];
