//! A server that does nothing but look for others.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_channel::oneshot;
use futures_lite::FutureExt as _;
use pitaya_core::cluster::{Incarnation, ServerId, ServerInfo};
use pitaya_driver::cluster::discovery::{Discovery, Hints, RuntimeHost, Search, SearchHost};
use pitaya_driver::{Runtime, Timers};

/// A server, until it is dropped.
pub(crate) struct Server {
    hints: Hints,
    name: String,
    host: Arc<dyn SearchHost>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Server {
    pub(crate) fn start<R: Runtime>(
        runtime: &R, discovery: Box<dyn Discovery>, id: &str, port: u16,
    ) -> Self {
        let host = Arc::new(RuntimeHost::new(runtime.clone(), Timers::start(runtime)));
        let me = ServerInfo {
            addresses: vec![at(port)],
            frontend: false,
            hostname: "host".to_owned(),
            id: ServerId::new(id).unwrap(),
            incarnation: Incarnation::new(1),
            kind: "room".into(),
            metadata: Default::default(),
        };
        let hints = Hints::default();
        let run = discovery.run(Search::new(Arc::new(me), hints.clone(), host.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        runtime.spawn(async {
            // Either way it stops.
            let stopped = async { stopped.await.unwrap_or_default() };
            run.or(stopped).await;
            // Nobody has to wait for it.
            let _ = end.send(());
        });
        Self { hints, name: id.to_owned(), host, stop, ended }
    }

    /// Waits until it has found exactly the servers at these ports.
    pub(crate) async fn finds(&self, ports: &[u16]) {
        let wanted: Vec<_> = ports.iter().map(|port| at(*port)).collect();
        self.hints_are(|hints| hints == wanted).await;
    }

    pub(crate) fn finds_only(&self, ports: &[u16]) {
        let wanted: Vec<_> = ports.iter().map(|port| at(*port)).collect();
        assert_eq!(self.hints.addresses(), wanted, "{}", self.name);
    }

    /// Waits until its hints are as they should be.
    pub(crate) async fn hints_are(&self, are: impl Fn(&[SocketAddr]) -> bool) {
        let found = poll_fn(|cx| {
            while !are(&self.hints.addresses()) {
                std::task::ready!(self.hints.poll_changed(cx));
            }
            Poll::Ready(true)
        });
        let late = async {
            self.host.sleep(LONG).await;
            false
        };
        let hints = || self.hints.addresses();
        assert!(found.or(late).await, "{} has {:?} after {LONG:?}", self.name, hints());
    }

    /// Drops the discovery, which says goodbye.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.ended.await.unwrap();
    }
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Longer than anything here takes: probing and announcing takes two seconds.
pub(crate) const LONG: Duration = Duration::from_secs(90);
