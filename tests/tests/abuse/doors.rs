//! A server with a door of every kind, and how a client comes through each of them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::AsyncWriteExt as _;
use futures_rustls::TlsConnector;
use pitaya_core::{App, Ctx, Error, Limits, Payload, Session, State};
use pitaya_driver::{Acceptor, Server, ServerHandle, Tls};
use pitaya_tests::certificate::Certificate;
use pitaya_tests::raw::RawClient;
use pitaya_tests::sim::{Sim, Wire};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::web::WebStream;

/// One way in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Door {
    Tcp,
    Tls,
    Ws,
    Wss,
    /// TCP through a proxy.
    ProxiedTcp,
    /// WebSocket through a proxy.
    ProxiedWs,
    /// TCP through a proxy that nobody here is.
    Strange,
}

/// Where the doors are, and what a client has to know.
#[derive(Clone)]
pub(crate) struct Doors {
    addresses: Arc<[SocketAddr]>,
    tls: TlsConnector,
    pub(crate) sim: Sim,
}

/// What a client speaks through, whichever door it took.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client that came through some door.
pub(crate) type AnyClient = RawClient<Box<dyn Stream>>;

impl Doors {
    /// Connects, and says and hears nothing yet of what is behind the door.
    pub(crate) async fn knock(&self, door: Door) -> io::Result<Box<dyn Stream>> {
        self.knock_over(door, Wire::default()).await
    }

    /// As [`knock`](Self::knock), over a wire of one's own.
    pub(crate) async fn knock_over(&self, door: Door, wire: Wire) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.sim.dial(self.addresses[door as usize], wire).await?))
    }

    /// Connects, and speaks what the door wants to hear before the protocol begins.
    pub(crate) async fn enter(&self, door: Door) -> io::Result<Box<dyn Stream>> {
        self.enter_over(door, Wire::default()).await
    }

    /// As [`enter`](Self::enter), over a wire of one's own.
    pub(crate) async fn enter_over(&self, door: Door, wire: Wire) -> io::Result<Box<dyn Stream>> {
        let mut io = self.knock_over(door, wire).await?;
        match door {
            Door::Tcp | Door::Strange => Ok(io),
            Door::Tls => self.speak_tls(io).await,
            Door::Ws => Ok(Box::new(WebStream::open(io).await?)),
            Door::Wss => Ok(Box::new(WebStream::open(self.speak_tls(io).await?).await?)),
            Door::ProxiedTcp | Door::ProxiedWs => {
                io.write_all(b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n").await?;
                let is_web = door == Door::ProxiedWs;
                Ok(if is_web { Box::new(WebStream::open(io).await?) } else { io })
            }
        }
    }

    /// A client whose session is open.
    pub(crate) async fn open(&self, door: Door) -> io::Result<AnyClient> {
        let mut client = RawClient::new(self.enter(door).await?);
        client.open("somebody").await?;
        Ok(client)
    }

    async fn speak_tls(&self, io: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        Ok(Box::new(self.tls.connect(name, io).await?))
    }
}

/// Everybody who can be pushed to.
pub(crate) type Hall = Arc<Mutex<Vec<Session>>>;

/// Starts a server with every door.
pub(crate) async fn start(sim: &Sim, limits: &Limits, hall: &Hall) -> (ServerHandle<Sim>, Doors) {
    let certificate = Certificate::localhost();
    let tls = Tls::from_pem(&certificate.chain, &certificate.key).unwrap();
    let app = App::new(Arc::clone(hall))
        .route("math.double", double)
        .route("hall.join", join)
        .route("hall.measure", measure)
        .route("hall.wait", wait);
    let server = Server::new("gate", app)
        .limits(limits.clone())
        .tcp(ANY)
        .tls(ANY, tls.clone())
        .ws(ANY)
        .wss(ANY, tls)
        .accept(Acceptor::tcp(ANY).trusted_proxies(["10.0.0.0/8"]))
        .accept(Acceptor::ws(ANY).trusted_proxies(["10.0.0.0/8"]))
        .accept(Acceptor::tcp(ANY).trusted_proxies(["192.0.2.0/24"]));
    let server = server.start_on(sim.clone()).await.unwrap();
    let addresses = server.addresses().into();
    let doors = Doors { addresses, tls: trusting(&certificate), sim: sim.clone() };
    (server, doors)
}

fn trusting(certificate: &Certificate) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.chain.as_bytes()).unwrap()).unwrap();
    let config =
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn double(Payload(number): Payload<u64>) -> Result<u64, Error> {
    Ok(number * 2)
}

async fn join(State(hall): State<Hall>, session: Session) -> Result<(), Error> {
    hall.lock().unwrap().push(session);
    Ok(())
}

async fn measure(Payload(text): Payload<String>) -> Result<usize, Error> {
    Ok(text.len())
}

async fn wait(ctx: Ctx) -> Result<(), Error> {
    ctx.sleep(Duration::from_secs(1)).await;
    Ok(())
}

const ANY: &str = "127.0.0.1:0";
