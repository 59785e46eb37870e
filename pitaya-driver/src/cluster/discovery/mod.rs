//! Where other servers may be.
//!
//! What is found is only a hint to dial: who is there, the link itself shows. Nobody is taken for
//! gone because a record is, as long as its link lives.

mod dns;
mod hints;
mod host;
#[cfg(any(feature = "mdns", feature = "zeroconf"))]
mod instances;
#[cfg(feature = "mdns")]
mod mdns;
pub mod record;
mod seeds;
#[cfg(feature = "zeroconf")]
mod zeroconf;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pitaya_core::cluster::ServerInfo;
use pitaya_core::session::HostFuture;

use crate::timers::before;

pub use dns::Dns;
pub use hints::{HINTS_MAX, Hints};
pub use host::RuntimeHost;
#[cfg(feature = "mdns")]
pub use mdns::Mdns;
pub use seeds::{SeedError, Seeds};
#[cfg(feature = "zeroconf")]
pub use zeroconf::Zeroconf;

/// Says where other servers may be, and may tell them where this one is.
pub trait Discovery: Send + 'static {
    /// Looks for others until it is dropped, which also withdraws what was told of this server. One
    /// that has said all it knows may end; nothing is withdrawn by that.
    fn run(self: Box<Self>, search: Search) -> HostFuture<()>;
}

/// What a discovery has at hand; one for each of them.
#[derive(Clone)]
pub struct Search {
    hints: Hints,
    host: Arc<dyn SearchHost>,
    me: Arc<ServerInfo>,
}

/// What a discovery asks of the runtime.
pub trait SearchHost: Send + Sync {
    /// The addresses of a host name.
    fn resolve(&self, host: &str, port: u16) -> HostFuture<io::Result<Vec<SocketAddr>>>;

    /// Waits.
    fn sleep(&self, duration: Duration) -> HostFuture<()>;
}

impl Search {
    /// On behalf of the server `me`, as a source of its own among those of the hints.
    pub fn new(me: Arc<ServerInfo>, hints: Hints, host: Arc<dyn SearchHost>) -> Self {
        Self { hints: hints.of_another_source(), host, me }
    }

    /// The server that looks for others, with the addresses where they reach it.
    pub fn me(&self) -> &Arc<ServerInfo> {
        &self.me
    }

    /// A server may be there. Where this one is itself is no hint.
    pub fn found(&self, address: SocketAddr) {
        if !self.me.addresses.contains(&address) {
            self.hints.found(address);
        }
    }

    /// Nothing is said of that address any more.
    pub fn lost(&self, address: SocketAddr) {
        self.hints.lost(address);
    }

    /// The addresses of a host name.
    ///
    /// # Errors
    ///
    /// What the system says, that there are none, or that it took longer than [`RESOLVE_TIME_MAX`].
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let answer = before(self.sleep(RESOLVE_TIME_MAX), self.host.resolve(host, port)).await;
        let addresses = answer.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
        if addresses.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(addresses)
    }

    /// Waits, in the time of the runtime.
    pub async fn sleep(&self, duration: Duration) {
        self.host.sleep(duration).await;
    }
}

/// How long a resolver may take: as long as those of systems ask two servers twice, with the five
/// seconds that they wait for each.
pub const RESOLVE_TIME_MAX: Duration = Duration::from_secs(20);
