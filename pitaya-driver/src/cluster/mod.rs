//! Several servers as one: how they find, reach and know each other, and what they ask.

mod dial;
pub mod discovery;
mod forward;
mod guest;
mod host;
mod identity;
mod network;
mod peers;
mod plain;
mod quic;
mod remotes;
mod serve;
mod sys;
mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pitaya_core::cluster::{Epoch, Incarnation, Router, Rule, ServerId, ServerInfo};
use pitaya_core::session::HostFuture;
use pitaya_core::{Counters, Limits};

use crate::runtime::Runtime;
use crate::server::{Shared, StartError};
use discovery::{Discovery, RuntimeHost, Search, Seeds};
pub(crate) use forward::Forwarding;
pub use identity::{Identity, IdentityError, SECRET_BYTES_MIN};
pub use network::{Duplex, Incoming, LinkStream, Network, Proven};
pub(crate) use peers::Peers;
pub use plain::Plain;
pub use quic::Quic;

/// That a server is one of several, and how it finds the others.
///
/// A client reaches handlers on all of them through whichever it is connected to: a route such as
/// `room.hall.join` is answered by a server of the kind `room`.
pub struct Cluster {
    network: Arc<dyn Network>,
    id: Option<String>,
    metadata: BTreeMap<String, String>,
    router: Router,
    forwards_to: Option<BTreeSet<String>>,
    discoveries: Discoveries,
    /// What keeps the server from starting.
    wrong: Option<String>,
}

impl Cluster {
    /// Servers that reach each other over `network`.
    pub fn over(network: impl Network) -> Self {
        Self {
            network: Arc::new(network),
            id: None,
            metadata: BTreeMap::new(),
            router: Router::default(),
            forwards_to: None,
            discoveries: Vec::new(),
            wrong: None,
        }
    }

    /// The name of this server, which no other one has; by default one that is drawn at every
    /// start. A server that is started again under its name takes the place of the one before.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Something that other servers are to know of this one.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Where other servers may be, each such as `10.0.0.5:4500`: one that can be reached is enough,
    /// since servers tell each other.
    #[must_use]
    pub fn seeds<A: AsRef<str>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        match Seeds::new(addresses) {
            Ok(seeds) => return self.discovery(seeds),
            Err(why) => self.wrong = Some(why.to_string()),
        }
        self
    }

    /// Says where other servers may be. There may be several discoveries.
    #[must_use]
    pub fn discovery(mut self, discovery: impl Discovery) -> Self {
        self.discoveries.push(Box::new(discovery));
        self
    }

    /// By which rule calls for servers of a kind find one of them; by default
    /// [`Rule::Sticky`]: a session stays with one.
    #[must_use]
    pub fn rule(self, kind: &str, rule: Rule) -> Self {
        Self { router: self.router.rule(kind, rule), ..self }
    }

    /// Clients reach servers of these kinds and of no others; by default of all kinds.
    #[must_use]
    pub fn forward_to<K: Into<String>>(self, kinds: impl IntoIterator<Item = K>) -> Self {
        Self { forwards_to: Some(kinds.into_iter().map(Into::into).collect()), ..self }
    }

    /// What of it belongs to all links.
    pub(crate) fn build<R: Runtime>(
        self, runtime: &R, (kind, frontend): (&str, bool), limits: &Limits,
        counters: &Arc<Counters>,
    ) -> Result<(Arc<Peers>, Discoveries), StartError> {
        let failed = |why: &dyn std::fmt::Display| StartError::Cluster(why.to_string());
        if let Some(why) = self.wrong {
            return Err(failed(&why));
        }
        let id = self.id.unwrap_or_else(|| format!("{kind}-{:016x}", runtime.seed()));
        let unnamed = || failed(&format!("`{id}` is no name of a server: no `/`, and not empty"));
        let unix_time = runtime.unix_time().as_micros() as u64;
        let me = ServerInfo {
            addresses: vec![self.network.address().map_err(|error| failed(&error))?],
            frontend,
            hostname: hostname(),
            id: ServerId::new(&id).ok_or_else(unnamed)?,
            incarnation: Incarnation::new(unix_time),
            kind: kind.into(),
            metadata: self.metadata,
        };
        let origin = Epoch::new(unix_time.saturating_sub(runtime.now().micros()));
        let (shared, seed) = ((limits, counters), runtime.seed());
        let peers =
            Peers::new(me, self.network, self.router, self.forwards_to, shared, origin, seed);
        Ok((Arc::new(peers), self.discoveries))
    }
}

pub(crate) type Discoveries = Vec<Box<dyn Discovery>>;

/// Looks for others and takes those who come, until the server stops.
pub(crate) fn start<R: Runtime>(
    shared: &Arc<Shared<R>>, peers: &Arc<Peers>, discoveries: Discoveries,
) {
    let spawn = |task: HostFuture<()>| shared.runtime.spawn(task);
    spawn(Box::pin(dial::accept_all(Arc::clone(shared), Arc::clone(peers))));
    spawn(Box::pin(dial::dial_all(Arc::clone(shared), Arc::clone(peers))));
    for discovery in discoveries {
        let host = RuntimeHost::new(shared.runtime.clone(), Arc::clone(&shared.timers));
        let search = Search::new(Arc::clone(&peers.config.me), peers.hints.clone(), Arc::new(host));
        let shared = Arc::clone(shared);
        spawn(Box::pin(async move {
            shared.unless_stopped(discovery.run(search)).await;
        }));
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
