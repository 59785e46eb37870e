//! Servers that the operator names.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use pitaya_core::session::HostFuture;

use crate::cluster::discovery::{Discovery, Search};

/// A few servers of the cluster, named by its operator. One that can be reached is enough: servers
/// tell each other of the others.
///
/// ```
/// use pitaya_driver::cluster::discovery::Seeds;
///
/// let seeds = Seeds::new(["gate-1.example.com:3300", "10.0.0.7:3300", "[2001:db8::7]:3300"])?;
/// # Ok::<(), pitaya_driver::cluster::discovery::SeedError>(())
/// ```
///
/// A name that has no address yet is asked for again, until it has one. Then it is left alone: for
/// names whose addresses come and go there is [`Dns`](crate::cluster::discovery::Dns).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seeds(Vec<Seed>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Seed {
    host: String,
    port: u16,
}

/// Why a text names no server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SeedError {
    /// There is nothing in front of the port.
    #[error("`{0}` has no host")]
    NoHost(String),
    /// There is no number behind the last colon.
    #[error("`{0}` has no port")]
    NoPort(String),
}

impl Seeds {
    /// Servers, each a name or an address and a port.
    ///
    /// # Errors
    ///
    /// The first text that is not that.
    pub fn new<S: AsRef<str>>(seeds: impl IntoIterator<Item = S>) -> Result<Self, SeedError> {
        seeds.into_iter().map(|seed| Seed::parse(seed.as_ref())).collect::<Result<_, _>>().map(Self)
    }
}

impl Discovery for Seeds {
    fn run(self: Box<Self>, search: Search) -> HostFuture<()> {
        let look = |seed: Seed| -> HostFuture<()> { Box::pin(seed.look(search.clone())) };
        let mut looking: Vec<_> = self.0.into_iter().map(look).collect();
        // One name that takes long holds up none of the others.
        Box::pin(poll_fn(move |cx| {
            looking.retain_mut(|seed| seed.as_mut().poll(cx).is_pending());
            if looking.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        }))
    }
}

impl Seed {
    fn parse(text: &str) -> Result<Self, SeedError> {
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = parts.ok_or_else(|| SeedError::NoPort(text.to_owned()))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.trim().is_empty() {
            return Err(SeedError::NoHost(text.to_owned()));
        }
        Ok(Self { host: bare.to_owned(), port })
    }

    async fn look(self, search: Search) {
        let addresses = loop {
            match search.resolve(&self.host, self.port).await {
                Ok(addresses) => break addresses,
                Err(error) => tracing::debug!(seed = self.host, %error, "has no address yet"),
            }
            search.sleep(AGAIN).await;
        };
        addresses.into_iter().for_each(|address| search.found(address));
    }
}

/// When a name is asked for again that has no address. It often gets one while its server starts,
/// and resolvers keep in mind for some seconds that there was none.
pub(super) const AGAIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_host_and_a_port() {
        let seed = |text: &str| Seed::parse(text).map(|seed| (seed.host, seed.port));
        assert_eq!(seed("gate.example.com:3300"), Ok(("gate.example.com".to_owned(), 3300)));
        assert_eq!(seed("[::1]:3300"), Ok(("::1".to_owned(), 3300)));
        for text in ["gate", "gate:", "gate:65536", "gate:no", ""] {
            assert_eq!(seed(text), Err(SeedError::NoPort(text.to_owned())));
        }
        for text in [":3300", "[]:3300", " :3300"] {
            assert_eq!(seed(text), Err(SeedError::NoHost(text.to_owned())));
        }
        let seeds = Seeds::new(["gate:1", "no", ":2"]);
        assert_eq!(seeds, Err(SeedError::NoPort("no".to_owned())), "the first that is wrong");
    }
}
