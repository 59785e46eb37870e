//! Where a server is, and how it is spoken to: `wss://play.example.com/game`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The address of a server: a transport, a host, a port, and for WebSockets a path.
///
/// A host and a port without a scheme are TCP. Only `ws` and `wss` have ports of their own, 80 and
/// 443; for `tcp` and `tls` there is none that is usual.
///
/// ```
/// use pitaya_driver::{Scheme, Url};
///
/// let url: Url = "wss://play.example.com/game".parse()?;
/// assert_eq!((url.scheme(), url.host(), url.port()), (Scheme::Wss, "play.example.com", 443));
/// assert_eq!("[::1]:3250".parse::<Url>()?.to_string(), "tcp://[::1]:3250");
/// # Ok::<(), pitaya_driver::UrlError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Url {
    scheme: Scheme,
    /// A name or an address, without brackets.
    host: String,
    port: u16,
    /// Empty for what has none; else it begins with a slash.
    path: String,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// TCP as it is.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// A WebSocket.
    Ws,
    /// A WebSocket over TLS.
    Wss,
}

/// Why a text is not the address of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UrlError {
    /// Anchors are for pages.
    #[error("`#` has no place in it")]
    Fragment,
    /// There is a character that no host name has, or an address that is none.
    #[error("the host is neither a name nor an address; IPv6 goes in brackets, as in [::1]:3250")]
    Host,
    /// There is nothing where the host should be.
    #[error("it has no host")]
    HostMissing,
    /// Only a WebSocket has a path.
    #[error("only ws and wss have a path")]
    PathOfNoWebSocket,
    /// The path has a character that has to be percent-encoded.
    #[error("the path has a character that has to be percent-encoded")]
    Path,
    /// The port is no number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// Only a WebSocket has a usual port.
    #[error("it has no port, as in 127.0.0.1:3250")]
    PortMissing,
    /// It begins with a scheme that is none of ours.
    #[error("the scheme is none of tcp, tls, ws and wss")]
    Scheme,
    /// Who the user is, is told in a request.
    #[error("`@` has no place in it: users log in with a request")]
    User,
}

impl Url {
    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The name or the address of the host; an IPv6 address is without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also where it was not written.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path and the query of a WebSocket, at least `/`; empty for others.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The host as others are told it, and the port if it is not the usual one.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { &format!("[{}]", self.host) } else { &self.host };
        if self.scheme.port() == Some(self.port) {
            host.clone()
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Where that is, if its host is an address.
    pub(super) fn socket_addr(&self) -> Option<SocketAddr> {
        let host: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(host, self.port))
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.parse()?, rest),
            None => (Scheme::Tcp, text),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = split_port(authority)?;
        let host = parse_host(host)?;
        let port = match port {
            Some(port) => parse_port(port)?,
            None => scheme.port().ok_or(UrlError::PortMissing)?,
        };
        Ok(Self { scheme, host, port, path: parse_path(scheme, path)? })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority(), self.path)
    }
}

impl Scheme {
    const ALL: [Self; 4] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Whether nobody on the way can read or change what is said.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether it is a WebSocket, with a path.
    pub fn is_web(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// The usual port.
    fn port(self) -> Option<u16> {
        match self {
            Self::Tcp | Self::Tls => None,
            Self::Ws => Some(80),
            Self::Wss => Some(443),
        }
    }
}

impl FromStr for Scheme {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let found = Self::ALL.into_iter().find(|scheme| scheme.name().eq_ignore_ascii_case(text));
        found.ok_or(UrlError::Scheme)
    }
}

/// The host, still in its brackets, and the text of the port.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::User);
    }
    let name_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    if name_end == 0 && authority.matches(':').count() > 1 {
        return Err(UrlError::Host);
    }
    match authority[name_end..].split_once(':') {
        Some((rest, port)) => Ok((&authority[..name_end + rest.len()], Some(port))),
        None => Ok((authority, None)),
    }
}

fn parse_host(host: &str) -> Result<String, UrlError> {
    if host.is_empty() {
        return Err(UrlError::HostMissing);
    }
    if let Some(address) = host.strip_prefix('[') {
        let address: Option<Ipv6Addr> = address.strip_suffix(']').and_then(|a| a.parse().ok());
        return address.map(|address| address.to_string()).ok_or(UrlError::Host);
    }
    let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.bytes().all(is_of_a_name) { Ok(host.to_ascii_lowercase()) } else { Err(UrlError::Host) }
}

fn parse_port(port: &str) -> Result<u16, UrlError> {
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|port| digits && *port != 0).ok_or(UrlError::Port)
}

fn parse_path(scheme: Scheme, path: &str) -> Result<String, UrlError> {
    if path.contains('#') {
        return Err(UrlError::Fragment);
    }
    if !scheme.is_web() {
        let bare = matches!(path, "" | "/");
        return if bare { Ok(String::new()) } else { Err(UrlError::PathOfNoWebSocket) };
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(UrlError::Path);
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(format!("{slash}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_server_is_read_and_written() {
        for (text, written) in [
            ("127.0.0.1:3250", "tcp://127.0.0.1:3250"),
            ("Play.Example.com:3250", "tcp://play.example.com:3250"),
            ("my_host:1", "tcp://my_host:1"),
            ("[::1]:65535", "tcp://[::1]:65535"),
            ("tcp://[0:0::1]:1", "tcp://[::1]:1"),
            ("tcp://localhost:3250/", "tcp://localhost:3250"),
            ("TLS://a:3251", "tls://a:3251"),
            ("ws://a", "ws://a/"),
            ("ws://a:80/", "ws://a/"),
            ("ws://a:443/", "ws://a:443/"),
            ("ws://[::1]", "ws://[::1]/"),
            ("ws://[::1]:3252?room=1", "ws://[::1]:3252/?room=1"),
            ("wss://a:443", "wss://a/"),
            ("wss://a/game?token=%20@:", "wss://a/game?token=%20@:"),
        ] {
            let url: Url = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.to_string(), written);
            assert_eq!(written.parse(), Ok(url));
        }
    }

    #[test]
    fn what_names_no_server_says_why() {
        for (text, error) in [
            ("", UrlError::HostMissing),
            (":1", UrlError::HostMissing),
            ("ws://", UrlError::HostMissing),
            ("ws:///game", UrlError::HostMissing),
            ("http://a", UrlError::Scheme),
            ("://a:1", UrlError::Scheme),
            ("nowhere", UrlError::PortMissing),
            ("tls://a", UrlError::PortMissing),
            ("[::1]", UrlError::PortMissing),
            ("a:b", UrlError::Port),
            ("a:", UrlError::Port),
            ("a:0", UrlError::Port),
            ("a:+1", UrlError::Port),
            ("a:65536", UrlError::Port),
            ("::1:3250", UrlError::Host),
            ("fe80::1", UrlError::Host),
            ("[::1", UrlError::Host),
            ("[::1]x:1", UrlError::Host),
            ("[1.2.3.4]:1", UrlError::Host),
            ("a b:1", UrlError::Host),
            ("ü:1", UrlError::Host),
            ("ws://a\r\nb/", UrlError::Host),
            ("ws://me@a/", UrlError::User),
            ("tcp://a:1/game", UrlError::PathOfNoWebSocket),
            ("a:1?b", UrlError::PathOfNoWebSocket),
            ("ws://a/#top", UrlError::Fragment),
            ("ws://a/ b", UrlError::Path),
            ("ws://a/\r\nHost: b", UrlError::Path),
        ] {
            assert_eq!(text.parse::<Url>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_host_is_an_address_or_a_name() {
        let address = |text: &str| text.parse::<Url>().unwrap().socket_addr();
        assert_eq!(address("ws://[::1]"), Some("[::1]:80".parse().unwrap()));
        assert_eq!(address("10.0.0.1:1"), Some("10.0.0.1:1".parse().unwrap()));
        assert_eq!(address("localhost:1"), None);
    }
}
