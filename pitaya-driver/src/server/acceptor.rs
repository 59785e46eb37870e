//! What a server listens on, and what it expects there.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;

use crate::server::start::StartError;
use crate::transport::tls::Tls;
use crate::transport::{Page, Web};

/// One acceptor: an address, and the layers between its sockets and the protocol.
///
/// ```
/// use pitaya_driver::Acceptor;
///
/// let acceptor = Acceptor::ws("127.0.0.1:3251")
///     .origins(["https://play.example.com"])
///     .page("/", "text/html; charset=utf-8", "<h1>Play</h1>");
/// ```
#[derive(Clone, Debug)]
pub struct Acceptor {
    pub(super) address: String,
    tls: Option<Tls>,
    web: Option<Web>,
    proxies: Option<Vec<String>>,
}

impl Acceptor {
    /// Plain TCP on `address`, such as `127.0.0.1:3250`; port 0 lets the system choose.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: None, web: None, proxies: None }
    }

    /// TLS over TCP.
    pub fn tls(address: impl Into<String>, tls: Tls) -> Self {
        Self { tls: Some(tls), ..Self::tcp(address) }
    }

    /// WebSockets, at every path, without subprotocols and extensions, as in Pitaya.
    pub fn ws(address: impl Into<String>) -> Self {
        Self { web: Some(Web::default()), ..Self::tcp(address) }
    }

    /// WebSockets over TLS.
    pub fn wss(address: impl Into<String>, tls: Tls) -> Self {
        Self { tls: Some(tls), ..Self::ws(address) }
    }

    /// Which pages may open a WebSocket here, such as `https://play.example.com`; by default any,
    /// as in Pitaya. Programs other than browsers name no origin and always may.
    #[must_use]
    pub fn origins<O: Into<String>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        let web = self.web.get_or_insert_default();
        web.origins.extend(origins.into_iter().map(Into::into));
        self
    }

    /// Serves a file from memory to whoever asks for `path` without wanting a WebSocket. What
    /// should be cached, or is large, belongs on a server of its own.
    #[must_use]
    pub fn page(
        mut self, path: impl Into<String>, content_type: impl Into<String>, body: impl Into<Bytes>,
    ) -> Self {
        let page = Page { path: path.into(), content_type: content_type.into(), body: body.into() };
        self.web.get_or_insert_default().pages.push(page);
        self
    }

    /// Connections come through proxies in these networks, such as `10.0.0.0/8` or `10.1.2.3`, that
    /// say for whom in a PROXY header, version 1 or 2. A connection from elsewhere, or without the
    /// header, is closed. The header comes before TLS.
    #[must_use]
    pub fn trusted_proxies<N: Into<String>>(
        mut self, networks: impl IntoIterator<Item = N>,
    ) -> Self {
        self.proxies.get_or_insert_default().extend(networks.into_iter().map(Into::into));
        self
    }

    /// What connections of this acceptor have in common.
    pub(super) fn build(&self) -> Result<Door, StartError> {
        let wrong = |why: String| StartError::Acceptor { address: self.address.clone(), why };
        let proxies = match &self.proxies {
            None => None,
            Some(proxies) if proxies.is_empty() => {
                return Err(wrong("no proxy is trusted, so nobody could connect".to_owned()));
            }
            Some(proxies) => {
                let parsed: Result<_, _> = proxies.iter().map(|text| network(text)).collect();
                Some(parsed.map_err(wrong)?)
            }
        };
        Ok(Door { tls: self.tls.clone(), web: self.web.clone().map(Arc::new), proxies })
    }
}

/// What connections of one acceptor have in common.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) tls: Option<Tls>,
    pub(super) web: Option<Arc<Web>>,
    /// The proxies that all connections come through, if any do.
    pub(super) proxies: Option<Vec<IpNet>>,
}

fn network(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from).ok();
    text.parse().ok().or_else(alone).ok_or_else(|| {
        format!("`{text}` is no network: write it such as \"10.0.0.0/8\" or \"10.1.2.3\"")
    })
}
