//! Our servers, one for each settings, on a runtime and a thread of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_channel::oneshot;
use pitaya_core::{Json, Limits, Protobuf};
use pitaya_driver::{Native, Server, ServerHandle};
use pitaya_smol::Smol;
use pitaya_tokio::Tokio;
use tokio::runtime::Builder;

use crate::app::{Echo, app};
use crate::cases::{Serializer, Settings, Transport};
use crate::certificate;

/// Servers that run until this is dropped.
pub(crate) struct Host {
    addresses: Addresses,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

type Addresses = BTreeMap<Settings, SocketAddr>;

/// A runtime, set up in one of the ways it can be.
pub(crate) trait Stage {
    type Runtime: Native;
    const NAME: &str;

    /// Blocks the thread until the future ends.
    fn block_on(serve: impl Future<Output = ()>);
}

pub(crate) struct OnTokio;
pub(crate) struct OnTokioWithThreads;
pub(crate) struct OnSmol;

impl Stage for OnTokio {
    type Runtime = Tokio;
    const NAME: &str = "tokio";

    fn block_on(serve: impl Future<Output = ()>) {
        pitaya_tokio::block_on(serve).unwrap();
    }
}

impl Stage for OnTokioWithThreads {
    type Runtime = Tokio;
    const NAME: &str = "tokio with threads";

    fn block_on(serve: impl Future<Output = ()>) {
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(serve);
    }
}

impl Stage for OnSmol {
    type Runtime = Smol;
    const NAME: &str = "smol";

    fn block_on(serve: impl Future<Output = ()>) {
        pitaya_smol::block_on(serve).unwrap();
    }
}

impl Host {
    pub(crate) fn start<S: Stage>(
        settings: impl IntoIterator<Item = Settings>, echo: Echo,
    ) -> Self {
        let settings: BTreeSet<_> = settings.into_iter().collect();
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            S::block_on(serve::<S::Runtime>(settings, echo, ready, stopped));
        });
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
    let tls = certificate::shown().tls.clone();
    let server = match settings.transport {
        Transport::Tcp => server.tcp(ANY),
        Transport::Tls => server.tls(ANY, tls),
        Transport::Ws => server.ws(ANY),
        Transport::Wss => server.wss(ANY, tls),
    };
    let server = server
        .limits(Limits::default().heartbeat(Duration::from_secs(1)))
        .compression(settings.compression)
        .validator("version", |client| match &*client.client_version {
            "refused" => Err("this version is refused".to_owned()),
            _ => Ok(()),
        });
    if settings.dictionary { server.dictionary(DICTIONARY) } else { server }
}

const ANY: &str = "127.0.0.1:0";

/// One code needs both of its bytes, so that their order shows.
pub(crate) const DICTIONARY: [(&str, u16); 5] = [
    ("connector.testsvc.echo", 1),
    ("connector.testsvc.pushme", 2),
    ("connector.testsvc.raw", 0x0203),
    ("connector.testsvc.wave", 4),
    ("onNumber", 5),
];
