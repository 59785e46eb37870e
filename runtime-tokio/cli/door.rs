//! Where a server is, and the way in.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pitaya_driver::{Plain, Runtime};
use pitaya_tokio::{Stream, Tokio};

/// The address of a server, such as `tcp://127.0.0.1:3250`.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    host: String,
    port: u16,
}

/// What a connection is made of.
pub(crate) type Way = (Stream, Plain);

impl Door {
    /// Reads a URL; without a scheme it is TCP.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let bare = match url.split_once("://") {
            Some(("tcp", bare)) => bare,
            Some((scheme, _)) => return Err(format!("`{scheme}` is not spoken yet, only `tcp`")),
            None => url,
        };
        let advice = || format!("`{url}` has no host and port: try tcp://127.0.0.1:3250");
        let (host, port) = bare.trim_end_matches('/').rsplit_once(':').ok_or_else(advice)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| advice())?;
        if host.is_empty() {
            return Err(advice());
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// The addresses behind it.
    ///
    /// # Errors
    ///
    /// The host is not known.
    pub(crate) async fn resolve(&self, runtime: &Tokio) -> Result<Vec<SocketAddr>, String> {
        let found = runtime.resolve(&self.host, self.port).await;
        found.map_err(|error| format!("cannot find {self}: {error}"))
    }

    /// Connects to the first of `addresses` that can be reached within `timeout`.
    ///
    /// # Errors
    ///
    /// What the last of them said.
    pub(crate) async fn dial(
        &self, runtime: &Tokio, addresses: &[SocketAddr], timeout: Duration,
    ) -> Result<Way, String> {
        let dialled = tokio::time::timeout(timeout, dial(runtime, addresses)).await;
        let stream = dialled
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| format!("cannot connect to {self}: {}", error.kind()))?;
        Ok((stream, Plain))
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "tcp://[{host}]:{port}")
        } else {
            write!(f, "tcp://{host}:{port}")
        }
    }
}

async fn dial(runtime: &Tokio, addresses: &[SocketAddr]) -> io::Result<Stream> {
    let mut failure = io::ErrorKind::NotFound.into();
    for address in addresses {
        match runtime.connect(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
