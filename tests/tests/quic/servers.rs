//! Servers with a network each, and what is said over their links.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;

use futures_channel::oneshot;
use futures_lite::future::{poll_once, zip};
use futures_lite::io::{AsyncReadExt as _, AsyncWriteExt as _, split};
use pitaya_core::cluster::ServerId;
use pitaya_core::{Counter, Counters, Limits};
use pitaya_driver::Native;
use pitaya_driver::cluster::{Identity, Incoming, LinkStream, Network as _, Proven, Quic};

pub(crate) const SECRET: &str = "all servers of the cluster have it";

/// A server that is known by a name, on the runtime that runs it.
pub(crate) struct Peer {
    pub(crate) quic: Quic,
    pub(crate) counters: Arc<Counters>,
}

impl Peer {
    /// One of the cluster of everybody with that secret.
    pub(crate) async fn with_secret<R: Native>(secret: &str, id: &str) -> Self {
        let id = ServerId::new(id).unwrap();
        Self::new::<R>(&Identity::from_secret(secret, "room", &id).unwrap()).await
    }

    pub(crate) async fn new<R: Native>(identity: &Identity) -> Self {
        let (runtime, counters) = (R::current().unwrap(), Arc::<Counters>::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let limits = Limits::default();
        let bound = Quic::bind(runtime, any, identity, &limits, Arc::clone(&counters)).await;
        let quic = bound.unwrap();
        Self { quic, counters }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.quic.address().unwrap()
    }

    /// Waits for one that dials, and for what comes of it.
    pub(crate) async fn accept(&self) -> io::Result<LinkStream> {
        self.quic.accept().await?.await
    }

    /// Dials, and says a word so that the stream is seen.
    pub(crate) async fn dial(&self, address: SocketAddr) -> io::Result<LinkStream> {
        let mut link = self.quic.dial(address).await?;
        link.io.write_all(WORD).await?;
        Ok(link)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.counters.count(Counter::LinksRefused)
    }
}

/// A link from one server to another: the end of who dialled, and the other.
pub(crate) async fn link(dials: &Peer, accepts: &Peer) -> [LinkStream; 2] {
    let (dialled, accepted) = zip(dials.dial(accepts.address()), accepts.accept()).await;
    let (dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
    hear(&mut accepted, WORD).await;
    [dialled, accepted]
}

/// Takes the next one who dials, and lets a task of its own see what comes of it.
pub(crate) async fn accept_aside<R: Native>(
    accepts: &Peer,
) -> oneshot::Receiver<io::Result<LinkStream>> {
    aside::<R>(accepts.quic.accept().await.unwrap())
}

fn aside<R: Native>(incoming: Incoming) -> oneshot::Receiver<io::Result<LinkStream>> {
    let (tell, told) = oneshot::channel();
    R::current().unwrap().spawn(async { drop(tell.send(incoming.await)) });
    told
}

/// Lets one server begin to dial another, of which only the first datagram arrives. Its end is the
/// first of the two.
pub(crate) async fn begin<R: Native>(
    dials: &Peer, accepts: &Peer,
) -> (Incoming, oneshot::Receiver<io::Result<LinkStream>>) {
    let between = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (there, address) = (accepts.address(), between.local_addr().unwrap());
    thread::spawn(move || {
        let mut first = [0; 2000];
        let bytes = between.recv(&mut first).unwrap();
        between.send_to(&first[..bytes], there).unwrap();
    });
    let mut dialling = dials.quic.dial(address);
    assert!(poll_once(&mut dialling).await.is_none());
    (dialling, accept_aside::<R>(accepts).await)
}

/// A way to that address which only the first datagram takes, and the first answer: what is sent
/// again on a slow machine does not arrive.
pub(crate) fn once_there_and_back(there: SocketAddr) -> SocketAddr {
    let [near, far] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = near.local_addr().unwrap();
    thread::spawn(move || {
        let mut datagram = [0; 2000];
        let (bytes, dials) = near.recv_from(&mut datagram).unwrap();
        far.send_to(&datagram[..bytes], there).unwrap();
        let bytes = far.recv(&mut datagram).unwrap();
        near.send_to(&datagram[..bytes], dials).unwrap();
    });
    address
}

/// What one end says is heard at the other, both ways.
pub(crate) async fn converse([one, two]: &mut [LinkStream; 2]) {
    for word in [&b"a word"[..], b"and another"] {
        one.io.write_all(word).await.unwrap();
        hear(two, word).await;
        two.io.write_all(word).await.unwrap();
        hear(one, word).await;
    }
}

pub(crate) async fn hear(link: &mut LinkStream, word: &[u8]) {
    let mut heard = vec![0; word.len()];
    link.io.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, word);
}

/// Says as much as it hears, all at once, and closes when it has heard all.
pub(crate) async fn exchange(link: LinkStream, says: u8, hears: u8) {
    let (mut read, mut write) = split(link.io);
    let heard = async {
        let mut heard = Vec::new();
        read.read_to_end(&mut heard).await.unwrap();
        heard
    };
    let said = async {
        write.write_all(&much(says)).await.unwrap();
        write.close().await.unwrap();
    };
    assert!(zip(heard, said).await.0 == much(hears), "every byte is as it was");
}

/// Bytes of which no two neighbours can be swapped unseen.
fn much(seed: u8) -> Vec<u8> {
    (0..MUCH).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
}

pub(crate) fn proven(id: &str) -> Option<Proven> {
    Some(Proven { id: ServerId::new(id).unwrap(), kind: "room".into() })
}

pub(crate) const WORD: &[u8] = b"hello";
/// Several windows of a link.
const MUCH: u32 = 4 << 20;
