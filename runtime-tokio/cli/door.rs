//! Where a server is, and the way in: TCP, TLS, WebSocket, or WebSocket over TLS.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use pitaya_driver::{Runtime, TlsClient, Transport};
use pitaya_tokio::{ClientConfig, Instant, Stream, Tokio};

/// The address of a server, such as `wss://play.example.com/game`.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    scheme: &'static Scheme,
    host: String,
    port: u16,
    path: String,
    tls: Option<TlsClient>,
}

/// Whom to trust when the URL asks for TLS.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Trust {
    /// Trust servers with a certificate of these authorities, a file in PEM
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Trust whoever answers: for development only
    #[arg(long)]
    insecure: bool,
}

/// What a connection is made of.
pub(crate) type Way = (Stream, Transport);

#[derive(Debug)]
struct Scheme {
    name: &'static str,
    is_tls: bool,
    is_web: bool,
    usual_port: Option<u16>,
}

impl Door {
    /// Reads a URL; without a scheme it is TCP.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or with whom to trust.
    pub(crate) fn parse(url: &str, trust: &Trust) -> Result<Self, String> {
        let (name, rest) = url.split_once("://").unwrap_or(("tcp", url));
        let scheme = SCHEMES.iter().find(|scheme| scheme.name == name);
        let scheme = scheme.ok_or_else(|| format!("`{name}` is none of tcp, tls, ws and wss"))?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !scheme.is_web && !["", "/"].contains(&path) {
            return Err(format!("only ws and wss have a path: `{url}`"));
        }
        let advice = || format!("`{url}` has no host and port: try tcp://127.0.0.1:3250");
        let (host, port) = split_port(authority, scheme.usual_port).ok_or_else(advice)?;
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
            path: if scheme.is_web { path.to_owned() } else { String::new() },
            tls: scheme.is_tls.then(|| trust.client()).transpose()?,
        })
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
        let authority = self.authority();
        let tls = self.tls.as_ref().map(|tls| (tls, &*self.host));
        let web = self.scheme.is_web.then_some((&*authority, &*self.path));
        Transport::connect(tls, web, now, &config.limits, &config.counters)
    }

    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        let host = if host.contains(':') { &format!("[{host}]") } else { host };
        if self.scheme.usual_port == Some(*port) { host.clone() } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name, self.authority(), self.path)
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
            None => return Err("TLS needs somebody to trust: --ca FILE, or --insecure".to_owned()),
        };
        client.map_err(|error| error.to_string())
    }
}

fn split_port(authority: &str, usual: Option<u16>) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None => usual.filter(|_| port.is_empty())?,
    };
    (!host.is_empty()).then_some((host, port))
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

const SCHEMES: [Scheme; 4] = [
    Scheme { name: "tcp", is_tls: false, is_web: false, usual_port: None },
    Scheme { name: "tls", is_tls: true, is_web: false, usual_port: None },
    Scheme { name: "ws", is_tls: false, is_web: true, usual_port: Some(80) },
    Scheme { name: "wss", is_tls: true, is_web: true, usual_port: Some(443) },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<String, String> {
        let trust = Trust { ca: None, insecure: true };
        Door::parse(url, &trust).map(|door| door.to_string())
    }

    #[test]
    fn each_scheme_is_read_as_it_is_written() {
        for (url, expected) in [
            ("127.0.0.1:3250", "tcp://127.0.0.1:3250"),
            ("tcp://localhost:1/", "tcp://localhost:1"),
            ("tls://[::1]:3251", "tls://[::1]:3251"),
            ("ws://a.example", "ws://a.example"),
            ("ws://a.example:80/game?x=1", "ws://a.example/game?x=1"),
            ("wss://a.example:80", "wss://a.example:80"),
        ] {
            assert_eq!(parsed(url).as_deref(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused_with_advice() {
        for url in ["localhost", "tcp://:1", "tcp://a:b", "tcp://a:99999", "ws://", "tls://[::1"] {
            assert!(parsed(url).is_err_and(|why| why.contains("has no host and port")), "{url}");
        }
        assert_eq!(parsed("udp://a:1").unwrap_err(), "`udp` is none of tcp, tls, ws and wss");
        assert!(parsed("tcp://a:1/b").is_err_and(|why| why.starts_with("only ws and wss")));
    }

    #[test]
    fn nobody_is_trusted_unasked() {
        let trust = Trust { ca: None, insecure: false };
        assert!(Door::parse("wss://a.example", &trust).is_err_and(|why| why.contains("--ca FILE")));
        assert!(Door::parse("ws://a.example", &trust).is_ok());
    }
}
