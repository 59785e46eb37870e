//! Every way into a server of the simulator, and how a client comes through each of them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::AsyncWriteExt as _;
use futures_rustls::TlsConnector;
use pitaya_driver::{Acceptor, Listener, Runtime as _, Server, ServerHandle, StartError, Tls};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::certificate::Certificate;
use crate::raw::RawClient;
use crate::sim::{Sim, SimListener, SimStream, Wire};
use crate::web::{self, WebStream};

/// One way in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// TCP as it is.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// TCP through a proxy.
    ProxiedTcp,
    /// WebSocket through a proxy.
    ProxiedWs,
    /// TCP through a proxy that nobody here is.
    Strange,
}

/// Where the doors are, and what a client has to know.
#[derive(Clone, Debug)]
pub struct Doors {
    addresses: Arc<[SocketAddr]>,
    tls: Arc<ClientConfig>,
    /// The world that they are in.
    pub sim: Sim,
}

/// What a client speaks through, whichever door it took.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client that came through some door.
pub type AnyClient = RawClient<Box<dyn Stream>>;

impl Door {
    /// Those that anybody may come through.
    pub const OPEN: [Self; 4] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// Whether it is for WebSockets.
    pub fn is_web(self) -> bool {
        matches!(self, Self::Ws | Self::Wss | Self::ProxiedWs)
    }
}

impl Doors {
    /// Starts a server with every door there is.
    ///
    /// # Errors
    ///
    /// What keeps the server from starting.
    ///
    /// # Panics
    ///
    /// A certificate cannot be made.
    pub async fn start(
        sim: &Sim, server: Server<Sim>,
    ) -> Result<(ServerHandle<Sim>, Self), StartError> {
        let certificate = Certificate::localhost();
        let tls = Tls::from_pem(&certificate.chain, &certificate.key).expect("made just above");
        let server = server
            .tcp(ANY)
            .tls(ANY, tls.clone())
            .ws(ANY)
            .wss(ANY, tls)
            .accept(Acceptor::tcp(ANY).trusted_proxies(["10.0.0.0/8"]))
            .accept(Acceptor::ws(ANY).trusted_proxies(["10.0.0.0/8"]))
            .accept(Acceptor::tcp(ANY).trusted_proxies(["192.0.2.0/24"]));
        let server = server.start_on(sim.clone()).await?;
        let addresses = server.addresses().into();
        let doors = Self { addresses, tls: trusting(&certificate), sim: sim.clone() };
        Ok((server, doors))
    }

    /// Connects, and says and hears nothing yet of what is behind the door.
    ///
    /// # Errors
    ///
    /// Nobody listens.
    pub async fn knock(&self, door: Door) -> io::Result<Box<dyn Stream>> {
        self.knock_over(door, Wire::default()).await
    }

    /// As [`knock`](Self::knock), over a wire of one's own.
    ///
    /// # Errors
    ///
    /// Nobody listens.
    pub async fn knock_over(&self, door: Door, wire: Wire) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.sim.dial(self.addresses[door as usize], wire).await?))
    }

    /// Connects, and speaks what the door wants to hear before the protocol begins.
    ///
    /// # Errors
    ///
    /// Nobody listens, or it is refused.
    pub async fn enter(&self, door: Door) -> io::Result<Box<dyn Stream>> {
        self.enter_over(door, Wire::default()).await
    }

    /// As [`enter`](Self::enter), over a wire of one's own.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter).
    pub async fn enter_over(&self, door: Door, wire: Wire) -> io::Result<Box<dyn Stream>> {
        let mut io = self.knock_over(door, wire).await?;
        match door {
            Door::Tcp | Door::Strange => Ok(io),
            Door::Tls => self.speak_tls(io).await,
            Door::Ws => Ok(Box::new(WebStream::open(io).await?)),
            Door::Wss => Ok(Box::new(WebStream::open(self.speak_tls(io).await?).await?)),
            Door::ProxiedTcp | Door::ProxiedWs => {
                io.write_all(b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n").await?;
                Ok(if door.is_web() { Box::new(WebStream::open(io).await?) } else { io })
            }
        }
    }

    /// The first that a client of TLS says.
    ///
    /// # Panics
    ///
    /// rustls refuses its own configuration.
    pub fn hello(&self) -> Vec<u8> {
        let name = ServerName::try_from("localhost").expect("it is a name");
        let client = ClientConnection::new(Arc::clone(&self.tls), name);
        let mut hello = Vec::new();
        client.expect("it was used before").write_tls(&mut hello).expect("memory takes everything");
        hello
    }

    /// A client whose session is open.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter), or it is not let in.
    pub async fn open(&self, door: Door) -> io::Result<AnyClient> {
        let mut client = RawClient::new(self.enter(door).await?);
        client.open("somebody").await?;
        Ok(client)
    }

    /// Connects, and speaks the layers of an open door, but leaves its WebSocket to the caller,
    /// byte by byte.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter).
    pub async fn enter_bare(&self, door: Door) -> io::Result<Box<dyn Stream>> {
        let mut io = self.knock(door).await?;
        if matches!(door, Door::Tls | Door::Wss) {
            io = self.speak_tls(io).await?;
        }
        if door.is_web() {
            web::open(&mut io).await?;
        }
        Ok(io)
    }

    /// Shakes hands of TLS over a connection.
    ///
    /// # Errors
    ///
    /// The stream fails, or what comes is no TLS.
    pub async fn speak_tls(&self, io: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(Arc::clone(&self.tls)).connect(name, io).await?))
    }
}

fn trusting(certificate: &Certificate) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let chain = CertificateDer::from_pem_slice(certificate.chain.as_bytes());
    roots.add(chain.expect("a certificate was made")).expect("it is its own authority");
    let config =
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_root_certificates(roots)
            .with_no_client_auth();
    Arc::new(config)
}

/// A listener whose connections seem to come from elsewhere, one after another from each of these
/// addresses and then from the first again.
#[derive(Debug)]
pub struct Elsewhere {
    listener: SimListener,
    addresses: Vec<IpAddr>,
    accepted: AtomicUsize,
}

impl Elsewhere {
    /// Listens on a free port.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn listen(sim: &Sim, addresses: &[&str]) -> io::Result<Self> {
        let listener = sim.bind(([127, 0, 0, 1], 0).into()).await?;
        let parse = |text: &&str| text.parse().map_err(io::Error::other);
        let addresses = addresses.iter().map(parse).collect::<io::Result<_>>()?;
        Ok(Self { listener, addresses, accepted: AtomicUsize::new(0) })
    }
}

impl Listener for Elsewhere {
    type Stream = SimStream;

    async fn accept(&self) -> io::Result<(SimStream, SocketAddr)> {
        let (stream, remote) = self.listener.accept().await?;
        let at = self.accepted.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
        Ok((stream, SocketAddr::new(self.addresses[at], remote.port())))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

const ANY: &str = "127.0.0.1:0";
