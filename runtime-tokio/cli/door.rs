//! Where a server is, and the way in: TCP, TLS, WebSocket, or WebSocket over TLS.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use pitaya_driver::{Runtime, TlsClient, Transport, Url};
use pitaya_tokio::{ClientConfig, CloseReason, Instant, Stream, Tokio};

/// A server's URL, and whom to trust there.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    url: Url,
    /// What it is called where something is wrong with it.
    name: String,
    tls: Option<TlsClient>,
}

/// Whom to trust when the URL asks for TLS.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Trust {
    /// Trust these authorities, a file in PEM, instead of those of the system
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Trust whoever answers: for development only
    #[arg(long)]
    insecure: bool,
}

/// What a connection is made of.
pub(crate) type Way = (Stream, Transport);

impl Door {
    /// Reads a URL; without a scheme it is TCP.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or with whom to trust.
    pub(crate) fn parse(url: &str, trust: &Trust) -> Result<Self, String> {
        let refuse =
            |why| format!("`{}` is not the address of a server: {why}", url.escape_debug());
        let url: Url = url.parse().map_err(refuse)?;
        let tls = url.scheme().is_secure().then(|| trust.client()).transpose()?;
        Ok(Self { name: url.to_string(), url, tls })
    }

    /// What may be behind an address without a scheme, by which it is called.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub(crate) fn behind(scheme: &str, address: &str, trust: &Trust) -> Result<Self, String> {
        let door = Self::parse(&format!("{scheme}://{address}"), trust)?;
        Ok(Self { name: address.to_owned(), ..door })
    }

    /// How and where it is spoken to.
    pub(crate) fn url(&self) -> String {
        self.url.to_string()
    }

    /// The addresses behind it.
    ///
    /// # Errors
    ///
    /// The host is not known.
    pub(crate) async fn resolve(&self, runtime: &Tokio) -> Result<Vec<SocketAddr>, String> {
        let found = runtime.resolve(self.url.host(), self.url.port()).await;
        found.map_err(|error| format!("cannot find {self}: {error}"))
    }

    /// Connects to the first of `addresses` that can be reached in time; what stands between the
    /// socket and the messages is shaken hands with later.
    ///
    /// # Errors
    ///
    /// What the last of them said.
    pub(crate) async fn dial(
        &self, runtime: &Tokio, addresses: &[SocketAddr], config: &ClientConfig,
    ) -> Result<Way, String> {
        let timeout = config.limits.connect_timeout;
        let dialled = tokio::time::timeout(timeout, dial(runtime, addresses)).await;
        let stream = dialled
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| format!("cannot connect to {self}: {}", error.kind()))?;
        let transport = self.transport(runtime.now(), config);
        let transport = transport.map_err(|error| format!("cannot talk to {self}: {error}"))?;
        Ok((stream, transport))
    }

    fn transport(&self, now: Instant, config: &ClientConfig) -> io::Result<Transport> {
        let Self { url, tls, .. } = self;
        let authority = url.authority();
        let tls = tls.as_ref().map(|tls| (tls, url.host()));
        let web = url.scheme().is_web().then(|| (&*authority, url.path()));
        Transport::connect(tls, web, now, &config.limits, &config.counters)
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The end of a connection in words, with more of them where the stream said more.
pub(crate) fn words(reason: &CloseReason, failure: Option<&String>) -> String {
    match (reason, failure) {
        (CloseReason::Io(_), Some(failure)) => failure.clone(),
        (reason, _) => reason.to_string(),
    }
}

impl Trust {
    fn client(&self) -> Result<TlsClient, String> {
        let client = match &self.ca {
            Some(path) => {
                let pem = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
                TlsClient::trusting(pem)
            }
            None if self.insecure => TlsClient::trusting_anybody(),
            None => TlsClient::trusting_system(),
        };
        client.map_err(|error| error.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<String, String> {
        let trust = Trust { ca: None, insecure: true };
        Door::parse(url, &trust).map(|door| door.to_string())
    }

    #[test]
    fn a_door_is_named_by_its_url() {
        for url in ["tcp://127.0.0.1:3250", "tls://[::1]:3251", "wss://a.example/game?x=1"] {
            assert_eq!(parsed(url).as_deref(), Ok(url));
        }
        assert_eq!(parsed("localhost:3250").as_deref(), Ok("tcp://localhost:3250"));
    }

    #[test]
    fn what_leads_nowhere_is_refused_with_the_reason() {
        for url in ["localhost", "udp://a:1", "tcp://a:1/b", "tls://\u{1b}:1"] {
            let why = parsed(url).expect_err(url);
            assert!(why.contains("` is not the address of a server: "), "{why}");
            assert!(!why.contains('\u{1b}'), "{why}");
        }
    }
}
