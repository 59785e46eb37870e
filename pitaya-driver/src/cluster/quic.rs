//! Links over QUIC: both servers show a certificate, and one connection is one link.

mod refusal;
mod settings;
mod stream;

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pitaya_core::Counters;
use pitaya_core::session::HostFuture;
use quinn::{AsyncTimer, AsyncUdpSocket, Connecting, Connection, Endpoint, VarInt};
use rustls::pki_types::CertificateDer;

use crate::cluster::identity::{CLUSTER_NAME, Identity, proven};
use crate::cluster::{Incoming, LinkStream, Network, Proven};
use crate::runtime::Runtime;
use crate::timers::before;
use refusal::{Refusal, Refusals};
use stream::Stream;

/// The network of a server whose peers prove who they are: QUIC with TLS 1.3, a certificate on both
/// sides, and no data before that is done.
///
/// Each connection carries one stream, which the server that dials opens as soon as the other has
/// said that it believes it. So who is refused learns of it from [`dial`](Network::dial). The
/// stream is there for the other once something was written to it. All of that takes at most
/// [`PROOF_WITHIN`](Self::PROOF_WITHIN).
///
/// Closing a stream waits until the peer has all of it; dropping one ends it at once.
///
/// On a runtime of several threads a datagram may wake another thread than the one that waits for
/// it, which costs several times what the datagram does. The tasks of a connection run where the
/// runtime puts them: a runtime of one thread, such as that of `run()`, is the cheaper one.
#[derive(Debug)]
pub struct Quic(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Nothing once it is closed.
    endpoint: Mutex<Option<Endpoint>>,
    dials: quinn::ClientConfig,
    runtime: Arc<dyn quinn::Runtime>,
    /// How many dialled and have not proven yet who they are.
    unproven: AtomicUsize,
    refusals: Refusals,
}

impl Quic {
    /// How long a peer may take, from its first datagram, until it is known and its stream open;
    /// and how long this server waits for one that it dials. It is less than what a server has in
    /// all to say who it is, so that what went wrong is found out here.
    pub const PROOF_WITHIN: Duration = Duration::from_secs(4);

    /// Listens on that address, from which it also dials; port 0 lets the system choose. Must be
    /// polled on `runtime`.
    ///
    /// # Errors
    ///
    /// What the system says, or that the runtime has no datagrams.
    pub async fn bind<R: Runtime>(
        runtime: R, address: SocketAddr, identity: &Identity, counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let sockets = runtime.quic().ok_or_else(without_datagrams)?;
        let runtime: Arc<dyn quinn::Runtime> = Arc::new(On { runtime, sockets });
        let (accepts, dials) = settings::configs(identity)?;
        let socket = UdpSocket::bind(address)?;
        settings::enlarge_buffers(&socket);
        let endpoint =
            Endpoint::new(settings::endpoint(), Some(accepts), socket, Arc::clone(&runtime))?;
        let (unproven, refusals) = (AtomicUsize::new(0), Refusals::new(counters));
        let endpoint = Mutex::new(Some(endpoint));
        Ok(Self(Arc::new(Shared { endpoint, dials, runtime, unproven, refusals })))
    }
}

impl Network for Quic {
    fn address(&self) -> io::Result<SocketAddr> {
        self.0.endpoint()?.local_addr()
    }

    fn dial(&self, address: SocketAddr) -> HostFuture<io::Result<LinkStream>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.dial(address).await })
    }

    fn accept(&self) -> HostFuture<io::Result<Incoming>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.accept().await })
    }

    fn close(&self) -> HostFuture<()> {
        let endpoint = self.0.close();
        Box::pin(async move {
            if let Some(endpoint) = endpoint {
                endpoint.wait_idle().await;
            }
        })
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        // That peers are told of it is up to who runs on.
        drop(self.0.close());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Endpoint>> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoint(&self) -> io::Result<Endpoint> {
        self.lock().clone().ok_or_else(closed)
    }

    fn close(&self) -> Option<Endpoint> {
        let endpoint = self.lock().take();
        endpoint.inspect(|endpoint| endpoint.close(stream::DROPPED, b""))
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<LinkStream> {
        let connecting = self.endpoint()?.connect_with(self.dials.clone(), address, CLUSTER_NAME);
        let connecting = connecting.map_err(io::Error::other)?;
        let deadline = self.runtime.now() + Quic::PROOF_WITHIN;
        let opened = before(self.reach(deadline), self.open(connecting)).await;
        opened.unwrap_or(Err(Refusal::Silent)).map_err(|refusal| self.failed(address, &refusal))
    }

    async fn open(&self, connecting: Connecting) -> Result<LinkStream, Refusal> {
        let connection = connecting.await?;
        let peer = known(&connection)?;
        // It comes once the peer believes this server, and says nothing else.
        connection.accept_uni().await?;
        let stream = connection.open_bi().await?;
        Ok(self.link(connection, stream, peer))
    }

    async fn accept(self: Arc<Self>) -> io::Result<Incoming> {
        let endpoint = self.endpoint()?;
        loop {
            let incoming = endpoint.accept().await.ok_or_else(closed)?;
            let unproven = self.unproven.load(Ordering::Relaxed);
            if unproven >= UNPROVEN_MAX {
                self.refusals.refuse(incoming.remote_address(), &Refusal::Crowd);
                incoming.refuse();
            } else if unproven >= RETRY_ABOVE && !incoming.remote_address_validated() {
                // Whoever answers has the address that it dials from, and costs nothing till then.
                incoming.retry().expect("an address that is not validated may be asked again");
            } else {
                let place = Place::take(Arc::clone(&self));
                return Ok(Box::pin(place.prove(incoming)));
            }
        }
    }

    async fn welcome(&self, incoming: quinn::Incoming) -> Result<LinkStream, Refusal> {
        let connection = incoming.accept()?.await?;
        let peer = known(&connection)?;
        // It is empty: that it is there says all.
        drop(connection.open_uni().await?);
        let stream = connection.accept_bi().await?;
        Ok(self.link(connection, stream, peer))
    }

    fn link(
        &self, connection: Connection, stream: (quinn::SendStream, quinn::RecvStream), peer: Proven,
    ) -> LinkStream {
        let remote = canonical(connection.remote_address());
        let io = Box::new(Stream::new(connection, stream, Arc::clone(&self.runtime)));
        LinkStream { io, proven: Some(peer), remote }
    }

    fn failed(&self, remote: SocketAddr, refusal: &Refusal) -> io::Error {
        if refusal.is_worth_a_look() {
            self.refusals.refuse(remote, refusal);
        }
        refusal.into()
    }

    /// Ends at `deadline`.
    async fn reach(&self, deadline: Instant) {
        let mut timer = self.runtime.new_timer(deadline);
        poll_fn(|cx| timer.as_mut().poll(cx)).await;
    }
}

/// One of those who have not proven yet who they are.
struct Place {
    shared: Arc<Shared>,
    deadline: Instant,
}

impl Place {
    fn take(shared: Arc<Shared>) -> Self {
        shared.unproven.fetch_add(1, Ordering::Relaxed);
        let deadline = shared.runtime.now() + Quic::PROOF_WITHIN;
        Self { shared, deadline }
    }

    async fn prove(self, incoming: quinn::Incoming) -> io::Result<LinkStream> {
        let (shared, remote) = (&self.shared, canonical(incoming.remote_address()));
        let opened = before(shared.reach(self.deadline), shared.welcome(incoming)).await;
        let opened = opened.unwrap_or(Err(Refusal::Late));
        opened.map_err(|refusal| shared.failed(remote, &refusal))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.unproven.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who a peer is whose certificate an authority of ours has signed.
fn known(connection: &Connection) -> Result<Proven, Refusal> {
    let identity = connection.peer_identity().map(|shown| shown.downcast());
    let chain: Option<Box<Vec<CertificateDer<'static>>>> = identity.and_then(Result::ok);
    let peer = chain.as_ref().and_then(|chain| chain.first()).and_then(proven);
    peer.ok_or_else(|| {
        connection.close(NAMELESS, b"");
        Refusal::Nameless
    })
}

/// As the peer would say it, though both kinds of address come to one socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the network of this server is closed")
}

fn without_datagrams() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this runtime has no datagrams, which QUIC needs")
}

/// Sockets and timers of a runtime, whose own executor runs the tasks.
struct On<R> {
    runtime: R,
    sockets: Arc<dyn quinn::Runtime>,
}

impl<R: Runtime> quinn::Runtime for On<R> {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        self.sockets.new_timer(at)
    }

    fn spawn(&self, task: HostFuture<()>) {
        self.runtime.spawn(task);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.sockets.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        self.sockets.now()
    }
}

impl<R> std::fmt::Debug for On<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sockets.fmt(f)
    }
}

/// Of a connection whose certificate names no server. Other codes are those of a stream.
const NAMELESS: VarInt = VarInt::from_u32(2);

/// So many shake hands at once, each of which costs memory and a millisecond before it has shown
/// anything. A larger cluster that starts anew does so in turns.
const UNPROVEN_MAX: usize = 512;

/// With so many, whoever comes has to show first that it has the address that it dials from.
const RETRY_ABOVE: usize = 256;
