//! Several servers as one: how they find, reach and know each other, and what they ask.

mod bridge;
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
mod rpc;
mod serve;
mod sys;
mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pitaya_core::ConnConfig;
use pitaya_core::cluster::{Epoch, Incarnation, MemberEvent, Router, Rule, ServerId, ServerInfo};
use pitaya_core::session::HostFuture;

use crate::runtime::Runtime;
use crate::server::{Shared, StartError, bind_error, resolve};
use bridge::Bridge;
pub use bridge::Desk;
use discovery::{Discovery, RuntimeHost, Search, Seeds};
pub(crate) use forward::Forwarding;
pub use identity::{Identity, IdentityError, SECRET_BYTES_MIN};
pub use network::{Duplex, Incoming, LinkStream, Network, Proven};
pub(crate) use peers::Peers;
pub use plain::Plain;
pub use quic::Quic;
pub use rpc::{Answer, Rpc, Told};

/// That a server is one of several, and how it finds the others.
///
/// A client reaches handlers on all of them through whichever it is connected to: a route such as
/// `room.hall.join` is answered by a server of the kind `room`.
pub struct Cluster {
    network: Net,
    listen: String,
    advertise: Option<SocketAddr>,
    id: Option<String>,
    metadata: BTreeMap<String, String>,
    router: Router,
    forwards_to: Option<BTreeSet<String>>,
    discoveries: Discoveries,
    listeners: Vec<Box<OnMember>>,
    /// What keeps the server from starting.
    wrong: Option<String>,
}

/// What carries the links.
enum Net {
    Certified(Identity),
    Made(Arc<dyn Network>),
    Secret(Vec<u8>),
    Told(Arc<dyn Rpc>),
}

impl Cluster {
    /// The servers that have this secret, which reach each other over QUIC. Whoever has it can be
    /// any of them; see [`Identity::from_secret`] for what it must be like, and
    /// [`Identity::secret_file`] for one that is made if there is none.
    pub fn secret(secret: impl AsRef<[u8]>) -> Self {
        Self::with(Net::Secret(secret.as_ref().to_vec()))
    }

    /// The servers that an authority of your own has certified, which reach each other over QUIC.
    /// The certificate names this server and its kind. Keep a clone of the identity to renew it.
    pub fn certified(identity: Identity) -> Self {
        Self::with(Net::Certified(identity))
    }

    /// Servers that reach each other over `network`.
    pub fn over(network: impl Network) -> Self {
        Self::with(Net::Made(Arc::new(network)))
    }

    /// Servers that reach each other through a carrier of messages, which also says who is there:
    /// no discovery is needed.
    pub fn through(rpc: impl Rpc) -> Self {
        Self::with(Net::Told(Arc::new(rpc)))
    }

    fn with(network: Net) -> Self {
        Self {
            network,
            listen: LISTEN.to_owned(),
            advertise: None,
            id: None,
            metadata: BTreeMap::new(),
            router: Router::default(),
            forwards_to: None,
            discoveries: Vec::new(),
            listeners: Vec::new(),
            wrong: None,
        }
    }

    /// The name of this server, which no other one has; by default one that is drawn at every
    /// start. A server that is started again under its name takes the place of the one before.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Where this server listens for others, such as `0.0.0.0:4500`; by default on the loopback
    /// interface, at a port that the system chooses.
    #[must_use]
    pub fn listen(self, address: impl Into<String>) -> Self {
        Self { listen: address.into(), ..self }
    }

    /// Where others reach this server, if that is not where it listens: behind a translation of
    /// addresses, or if it listens on every interface.
    #[must_use]
    pub fn advertise(self, address: SocketAddr) -> Self {
        Self { advertise: Some(address), ..self }
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

    /// Is told what changes in the set of servers, one change after another; it must not block.
    #[must_use]
    pub fn on_member(mut self, listener: impl Fn(&MemberEvent) + Send + Sync + 'static) -> Self {
        self.listeners.push(Box::new(listener));
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
    pub(crate) async fn build<R: Runtime>(
        self, runtime: &R, (kind, frontend): (&str, bool), conn: &Arc<ConnConfig>,
    ) -> Result<(Arc<Peers>, Finders), StartError> {
        let failed = |why: &dyn std::fmt::Display| StartError::Cluster(why.to_string());
        if let Some(why) = self.wrong {
            return Err(failed(&why));
        }
        let named = match &self.network {
            Net::Certified(identity) => Some(identity.id().to_string()),
            Net::Made(_) | Net::Secret(_) | Net::Told(_) => self.id,
        };
        let id = named.unwrap_or_else(|| format!("{kind}-{:016x}", runtime.seed()));
        let unnamed = || failed(&format!("`{id}` is no name of a server: no `/`, and not empty"));
        let id = ServerId::new(&id).ok_or_else(unnamed)?;
        let opened = self.network.open(runtime, &self.listen, (kind, &id), conn).await?;
        let Opened { network, bridge } = opened;
        let address = network.address().map_err(|error| failed(&error))?;
        // Nobody reaches a server at every address there is.
        let own = Some(address).filter(|address| !address.ip().is_unspecified());
        let unix_time = runtime.unix_time().as_micros() as u64;
        let me = ServerInfo {
            addresses: self.advertise.or(own).into_iter().collect(),
            frontend,
            hostname: hostname(),
            id,
            incarnation: Incarnation::new(unix_time),
            kind: kind.into(),
            metadata: self.metadata,
        };
        let origin = Epoch::new(unix_time.saturating_sub(runtime.now().micros()));
        let seed = runtime.seed();
        let rules = (self.router, self.forwards_to);
        let peers = Peers::new(me, network, rules, self.listeners, conn, origin, seed);
        Ok((Arc::new(peers), Finders { discoveries: self.discoveries, bridge }))
    }
}

/// Is told what changes in the set of servers.
pub(crate) type OnMember = dyn Fn(&MemberEvent) + Send + Sync;
type Discoveries = Vec<Box<dyn Discovery>>;

/// Whoever says where or who others are.
pub(crate) struct Finders {
    discoveries: Discoveries,
    bridge: Option<Arc<Bridge>>,
}

/// Looks for others and takes those who come, until the server stops.
pub(crate) fn start<R: Runtime>(shared: &Arc<Shared<R>>, peers: &Arc<Peers>, finders: Finders) {
    let spawn = |task: HostFuture<()>| shared.runtime.spawn(task);
    spawn(Box::pin(dial::accept_all(Arc::clone(shared), Arc::clone(peers))));
    spawn(Box::pin(dial::dial_all(Arc::clone(shared), Arc::clone(peers))));
    if let Some(bridge) = finders.bridge {
        spawn(bridge.run(&peers.config));
    }
    for discovery in finders.discoveries {
        let host = RuntimeHost::new(shared.runtime.clone(), Arc::clone(&shared.timers));
        let search = Search::new(Arc::clone(&peers.config.me), peers.hints.clone(), Arc::new(host));
        let shared = Arc::clone(shared);
        spawn(Box::pin(async move {
            shared.unless_stopped(discovery.run(search)).await;
        }));
    }
}

/// What carries the links of a server that is about to start.
struct Opened {
    network: Arc<dyn Network>,
    /// The same, if links end in this process.
    bridge: Option<Arc<Bridge>>,
}

impl Net {
    /// Listens, as the server of that kind and id.
    async fn open<R: Runtime>(
        self, runtime: &R, listen: &str, (kind, id): (&str, &ServerId), conn: &ConnConfig,
    ) -> Result<Opened, StartError> {
        let failed = |why: &dyn std::fmt::Display| StartError::Cluster(why.to_string());
        let identity = match self {
            Self::Made(network) => return Ok(Opened { network, bridge: None }),
            Self::Told(rpc) => {
                let bridge = Arc::new(Bridge::new(rpc, &conn.limits));
                return Ok(Opened { network: Arc::clone(&bridge) as _, bridge: Some(bridge) });
            }
            Self::Certified(identity) if identity.kind() != kind => {
                let what = identity.kind();
                return Err(failed(&format!("the certificate is that of a `{what}`")));
            }
            Self::Certified(identity) => identity,
            Self::Secret(secret) => {
                Identity::from_secret(secret, kind, id).map_err(|why| failed(&why))?
            }
        };
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in
            resolve(runtime, listen).await.map_err(|why| bind_error(kind, listen, &why))?
        {
            let (runtime, counters) = (runtime.clone(), Arc::clone(&conn.counters));
            match Quic::bind(runtime, address, &identity, &conn.limits, counters).await {
                Ok(quic) => return Ok(Opened { network: Arc::new(quic), bridge: None }),
                Err(error) => last = error,
            }
        }
        Err(bind_error(kind, listen, &last))
    }
}

/// Where a server of a cluster listens if nothing is said: only servers of the same machine reach
/// it.
const LISTEN: &str = "127.0.0.1:0";

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
