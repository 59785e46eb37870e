//! Servers behind one name.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use pitaya_core::session::HostFuture;

use crate::cluster::discovery::seeds::AGAIN;
use crate::cluster::discovery::{Discovery, HINTS_MAX, Search};

/// A name whose addresses are those of the servers, as that of a headless service of Kubernetes,
/// and their port.
///
/// It is asked for again and again, and servers are found and lost as their addresses come and go.
/// A resolver that fails loses nothing of what it said before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dns {
    every: Duration,
    name: String,
    port: u16,
}

impl Dns {
    /// All addresses of `name`, at `port`.
    pub fn new(name: impl Into<String>, port: u16) -> Self {
        Self { every: EVERY, name: name.into(), port }
    }

    /// How long after an answer it is asked for again: ten seconds by default. A server that starts
    /// dials the others by itself, so nobody waits for this; to ask more often would mostly get
    /// what the resolver has in its cache.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }
}

impl Discovery for Dns {
    fn run(self: Box<Self>, search: Search) -> HostFuture<()> {
        Box::pin(async move {
            let mut known = BTreeSet::new();
            loop {
                match search.resolve(&self.name, self.port).await {
                    Ok(addresses) => known = said(&known, addresses, &search),
                    Err(error) => tracing::debug!(name = self.name, %error, "was not resolved"),
                }
                let wait = if known.is_empty() { self.every.min(AGAIN) } else { self.every };
                search.sleep(wait).await;
            }
        })
    }
}

/// Says what is new and what is gone, and gives what there is.
fn said(
    known: &BTreeSet<SocketAddr>, addresses: Vec<SocketAddr>, search: &Search,
) -> BTreeSet<SocketAddr> {
    let now: BTreeSet<_> = addresses.into_iter().take(HINTS_MAX).collect();
    // First what is gone, which makes room.
    known.difference(&now).for_each(|address| search.lost(*address));
    now.difference(known).for_each(|address| search.found(*address));
    now
}

const EVERY: Duration = Duration::from_secs(10);
