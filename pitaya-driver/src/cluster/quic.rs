//! Links over QUIC: both servers show a certificate, and one connection is one link.

mod on;
mod refusal;
mod settings;
mod stream;

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pitaya_core::session::HostFuture;
use pitaya_core::{Counters, Limits};
use quinn::{Connecting, Connection, Endpoint, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;

use crate::cluster::identity::{CLUSTER_NAME, Identity, proven};
use crate::cluster::{Incoming, LinkStream, Network, Proven};
use crate::runtime::Runtime;
use crate::timers::before;
use on::On;
use refusal::{Refusal, Refusals};
use settings::Settings;
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
/// The socket, the timers and the tasks of QUIC are one thread's: on a runtime of one thread, such
/// as that of `run()`, its own; on a runtime of several, that of a thread `pitaya-quic`, which is
/// there until the network is closed and its streams are gone. From there a stream wakes its task
/// once for all that has come. With many calls at once that costs as much as or less than tasks all
/// over the runtime; with one call after another it costs more, since each goes over to the other
/// thread and back. A runtime of one thread is the cheaper one.
#[derive(Debug)]
pub struct Quic(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Nothing once it is closed.
    open: Mutex<Option<Open>>,
    settings: Settings,
    /// How many dialled and have not proven yet who they are.
    unproven: AtomicUsize,
    refusals: Refusals,
}

/// What keeps the thread of QUIC, if it has one: nothing of it is kept for longer than needed.
#[derive(Clone, Debug)]
struct Open {
    endpoint: Endpoint,
    runtime: Arc<dyn quinn::Runtime>,
}

impl Quic {
    /// How long a peer may take, from its first datagram, until it is known and its stream open;
    /// and how long this server waits for one that it dials. It is less than what a server has in
    /// all to say who it is, so that what went wrong is found out here.
    pub const PROOF_WITHIN: Duration = Duration::from_secs(4);

    /// Listens on that address, from which it also dials; port 0 lets the system choose. A
    /// connection that is silent for a second longer than `link_dead_after` of the limits is over.
    /// Must be polled on `runtime`.
    ///
    /// # Errors
    ///
    /// What the system says, or that the runtime has no datagrams.
    pub async fn bind<R: Runtime>(
        runtime: R, address: SocketAddr, identity: &Identity, limits: &Limits,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let runtime: Arc<dyn quinn::Runtime> = Arc::new(On::new(&runtime).await?);
        let settings = Settings::new(identity.clone(), limits);
        let socket = UdpSocket::bind(address)?;
        settings::enlarge_buffers(&socket);
        let accepts = Some(settings.accepts());
        let endpoint = Endpoint::new(settings::endpoint(), accepts, socket, Arc::clone(&runtime))?;
        let (unproven, refusals) = (AtomicUsize::new(0), Refusals::new(counters));
        let open = Mutex::new(Some(Open { endpoint, runtime }));
        Ok(Self(Arc::new(Shared { open, settings, unproven, refusals })))
    }
}

impl Network for Quic {
    fn address(&self) -> io::Result<SocketAddr> {
        self.0.open()?.endpoint.local_addr()
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
        let closed = self.0.close();
        Box::pin(async move {
            if let Some(closed) = closed {
                closed.endpoint.wait_idle().await;
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
    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> io::Result<Open> {
        self.lock().clone().ok_or_else(closed)
    }

    fn close(&self) -> Option<Open> {
        let open = self.lock().take();
        open.inspect(|open| open.endpoint.close(stream::DROPPED, b""))
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<LinkStream> {
        let Open { endpoint, runtime } = self.open()?;
        let connecting = endpoint.connect_with(self.settings.dials(), address, CLUSTER_NAME);
        let connecting = connecting.map_err(io::Error::other)?;
        let opened = within(&runtime, runtime.now() + Quic::PROOF_WITHIN, open(connecting)).await;
        let opened = opened.unwrap_or(Err(Refusal::Silent));
        let opened = opened.map_err(|refusal| self.failed(address, &refusal));
        opened.map(|opened| opened.link(runtime))
    }

    async fn accept(self: Arc<Self>) -> io::Result<Incoming> {
        let Open { endpoint, runtime } = self.open()?;
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
                let place = Place::take(Arc::clone(&self), runtime);
                return Ok(Box::pin(place.prove(incoming)));
            }
        }
    }

    fn failed(&self, remote: SocketAddr, refusal: &Refusal) -> io::Error {
        if refusal.is_worth_a_look() {
            self.refusals.refuse(remote, refusal);
        }
        refusal.into()
    }
}

/// One of those who have not proven yet who they are.
struct Place {
    shared: Arc<Shared>,
    deadline: Instant,
    runtime: Arc<dyn quinn::Runtime>,
}

impl Place {
    fn take(shared: Arc<Shared>, runtime: Arc<dyn quinn::Runtime>) -> Self {
        shared.unproven.fetch_add(1, Ordering::Relaxed);
        let deadline = runtime.now() + Quic::PROOF_WITHIN;
        Self { shared, deadline, runtime }
    }

    async fn prove(self, incoming: quinn::Incoming) -> io::Result<LinkStream> {
        let remote = canonical(incoming.remote_address());
        let accepts = Arc::new(self.shared.settings.accepts());
        let opened = within(&self.runtime, self.deadline, welcome(incoming, accepts)).await;
        let opened = opened.unwrap_or(Err(Refusal::Late));
        let opened = opened.map_err(|refusal| self.shared.failed(remote, &refusal));
        opened.map(|opened| opened.link(Arc::clone(&self.runtime)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.unproven.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection to a peer that is known, and its stream.
struct Opened {
    connection: Connection,
    peer: Proven,
    stream: (SendStream, RecvStream),
}

impl Opened {
    fn link(self, runtime: Arc<dyn quinn::Runtime>) -> LinkStream {
        let remote = canonical(self.connection.remote_address());
        let io = Box::new(Stream::new(self.connection, self.stream, runtime));
        LinkStream { io, proven: Some(self.peer), remote }
    }
}

async fn open(connecting: Connecting) -> Result<Opened, Refusal> {
    let connection = connecting.await?;
    let peer = known(&connection)?;
    // It comes once the peer believes this server, and says nothing else.
    connection.accept_uni().await?;
    let stream = connection.open_bi().await?;
    Ok(Opened { connection, peer, stream })
}

async fn welcome(
    incoming: quinn::Incoming, accepts: Arc<quinn::ServerConfig>,
) -> Result<Opened, Refusal> {
    let connection = incoming.accept_with(accepts)?.await?;
    let peer = known(&connection)?;
    // It is empty: that it is there says all.
    drop(connection.open_uni().await?);
    let stream = connection.accept_bi().await?;
    Ok(Opened { connection, peer, stream })
}

/// What comes of it, unless the deadline is first.
async fn within<T>(
    runtime: &Arc<dyn quinn::Runtime>, deadline: Instant, opening: impl Future<Output = T>,
) -> Option<T> {
    let mut timer = runtime.new_timer(deadline);
    before(poll_fn(|cx| timer.as_mut().poll(cx)), opening).await
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

/// Of a connection whose certificate names no server. Other codes are those of a stream.
const NAMELESS: VarInt = VarInt::from_u32(2);

/// So many shake hands at once, each of which costs memory and a millisecond before it has shown
/// anything. A larger cluster that starts anew does so in turns.
const UNPROVEN_MAX: usize = 512;

/// With so many, whoever comes has to show first that it has the address that it dials from.
const RETRY_ABOVE: usize = 256;
