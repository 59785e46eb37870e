//! Links over QUIC on real sockets: who is let in, who is not, and that every byte arrives.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use futures_lite::future::{or, poll_once, zip};
use futures_lite::io::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_core::Limits;
use pitaya_core::cluster::ServerId;
use pitaya_driver::Native;
use pitaya_driver::cluster::{Identity, Network as _, Quic};
use pitaya_smol::Smol;
use pitaya_tests::sim;
use pitaya_tokio::Tokio;

use crate::authority::{Authority, GOOD, Wanted};
use crate::programs::{Program, SmolGlobal, TokioThreads, on_all};
use crate::servers::{
    Peer, SECRET, WORD, accept_aside, begin, converse, exchange, hear, link, once_there_and_back,
    proven,
};

#[path = "quic/authority.rs"]
mod authority;
#[path = "quic/programs.rs"]
mod programs;
#[path = "quic/renewal.rs"]
mod renewal;
#[path = "quic/servers.rs"]
mod servers;

#[test]
fn on_tokio_two_servers_know_each_other_and_lose_no_byte() {
    two_servers_know_each_other_and_lose_no_byte::<Tokio, Tokio>();
}

#[test]
fn on_smol_two_servers_know_each_other_and_lose_no_byte() {
    two_servers_know_each_other_and_lose_no_byte::<Smol, Smol>();
}

#[test]
fn from_tokio_to_smol_two_servers_know_each_other_and_lose_no_byte() {
    two_servers_know_each_other_and_lose_no_byte::<Tokio, Smol>();
}

#[test]
fn from_smol_to_tokio_two_servers_know_each_other_and_lose_no_byte() {
    two_servers_know_each_other_and_lose_no_byte::<Smol, Tokio>();
}

#[test]
fn on_several_threads_two_servers_know_each_other_and_lose_no_byte() {
    two_servers_know_each_other_and_lose_no_byte::<TokioThreads, TokioThreads>();
    two_servers_know_each_other_and_lose_no_byte::<SmolGlobal, SmolGlobal>();
}

#[test]
fn from_several_threads_to_one_two_servers_know_each_other_and_lose_no_byte() {
    two_servers_know_each_other_and_lose_no_byte::<TokioThreads, Smol>();
    two_servers_know_each_other_and_lose_no_byte::<SmolGlobal, Tokio>();
}

#[test]
fn from_one_thread_to_several_two_servers_know_each_other_and_lose_no_byte() {
    two_servers_know_each_other_and_lose_no_byte::<Smol, TokioThreads>();
    two_servers_know_each_other_and_lose_no_byte::<Tokio, SmolGlobal>();
}

fn two_servers_know_each_other_and_lose_no_byte<D: Program, A: Program>() {
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            A::run(async {
                let two = Peer::with_secret::<A::Runtime>(SECRET, "two").await;
                tell.send(two.address()).unwrap();
                let mut accepted = two.accept().await.unwrap();
                assert_eq!(accepted.proven, proven("one"));
                hear(&mut accepted, WORD).await;
                exchange(accepted, 2, 1).await;
                two.quic.close().await;
            })
        });
        scope.spawn(move || {
            D::run(async {
                let one = Peer::with_secret::<D::Runtime>(SECRET, "one").await;
                let address = told.recv().unwrap();
                let dialled = one.dial(address).await.unwrap();
                assert_eq!((&dialled.proven, dialled.remote), (&proven("two"), address));
                exchange(dialled, 1, 2).await;
                one.quic.close().await;
            })
        });
    });
}

#[test]
fn what_is_written_last_arrives_though_the_stream_is_closed_and_gone() {
    on_all(
        what_is_written_last_arrives_though_the_stream_is_closed_and_gone_on::<Tokio>,
        what_is_written_last_arrives_though_the_stream_is_closed_and_gone_on::<Smol>,
    );
}

async fn what_is_written_last_arrives_though_the_stream_is_closed_and_gone_on<R: Native>() {
    let (one, two) = pair::<R>().await;
    let [mut dialled, mut accepted] = link(&one, &two).await;
    let last = vec![7; 100_000];
    accepted.io.write_all(&last).await.unwrap();
    accepted.io.close().await.unwrap();
    drop(accepted);
    let mut heard = Vec::new();
    // It had not read to our end, so the connection is cut; but not before we have its last.
    let ended = dialled.io.read_to_end(&mut heard).await;
    assert!(heard == last && ended.is_ok(), "{} bytes, {ended:?}", heard.len());
}

#[test]
fn a_stream_that_is_dropped_is_over_at_once() {
    on_all(
        a_stream_that_is_dropped_is_over_at_once_on::<Tokio>,
        a_stream_that_is_dropped_is_over_at_once_on::<Smol>,
    );
}

async fn a_stream_that_is_dropped_is_over_at_once_on<R: Native>() {
    let (one, two) = pair::<R>().await;
    let [mut dialled, accepted] = link(&one, &two).await;
    drop(accepted);
    let error = dialled.io.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let error = dialled.io.write(b"?").await.unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (RESET, "closed by the peer, code 1"));
    assert!(dialled.io.close().await.is_err(), "nobody had what was written");
    assert_eq!((one.refused(), two.refused()), (0, 0));
}

const RESET: io::ErrorKind = io::ErrorKind::ConnectionReset;

#[test]
fn a_server_that_proves_nothing_is_refused_counted_and_told() {
    on_all(
        a_server_that_proves_nothing_is_refused_counted_and_told_on::<Tokio>,
        a_server_that_proves_nothing_is_refused_counted_and_told_on::<Smol>,
    );
}

async fn a_server_that_proves_nothing_is_refused_counted_and_told_on<R: Native>() {
    let (ours, id) = (Authority::new(), ServerId::new("x").unwrap());
    let good = Peer::new::<R>(&ours.identity(GOOD)).await;
    let friend = Peer::new::<R>(&ours.identity(GOOD)).await;
    let mut others = link(&friend, &good).await;
    for (refused, (identity, why)) in [
        (Identity::from_secret(SECRET, "room", &id).unwrap(), "UnknownIssuer"),
        (Authority::new().identity(GOOD), "BadSignature"),
        (ours.identity(Wanted { last_year: 2000, ..GOOD }), "certificate expired"),
    ]
    .into_iter()
    .enumerate()
    {
        let stranger = Peer::new::<R>(&identity).await;
        // It does not believe us, nor do we believe it, whoever dials.
        let error = refuse(&stranger, &good).await;
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{why}: {error}");
        let error = refuse(&good, &stranger).await;
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert_eq!(good.refused(), 2 * refused as u64 + 2, "{why}");
        assert_eq!(stranger.refused(), 2, "{why}");
        converse(&mut others).await;
    }
}

/// Why there is no link between two servers, from the one that dials.
async fn refuse(dials: &Peer, accepts: &Peer) -> io::Error {
    let (dialled, accepted) = zip(dials.dial(accepts.address()), accepts.accept()).await;
    accepted.unwrap_err();
    dialled.unwrap_err()
}

#[test]
fn two_secrets_are_two_clusters() {
    on_all(two_secrets_are_two_clusters_on::<Tokio>, two_secrets_are_two_clusters_on::<Smol>);
}

async fn two_secrets_are_two_clusters_on<R: Native>() {
    let one = Peer::with_secret::<R>(SECRET, "one").await;
    let two = Peer::with_secret::<R>("another secret, of another cluster", "two").await;
    let error = refuse(&one, &two).await;
    assert_eq!(error.to_string(), "invalid peer certificate: BadSignature");
    assert_eq!((one.refused(), two.refused()), (1, 1));
}

#[test]
fn whoever_dials_without_what_a_server_has_is_refused_and_counted() {
    Tokio::block_on(async {
        let ours = Authority::new();
        let good = Peer::new::<Tokio>(&ours.identity(GOOD)).await;
        let friend = Peer::new::<Tokio>(&ours.identity(GOOD)).await;
        let mut others = link(&friend, &good).await;
        let cluster = |cluster| Some(Wanted { cluster, ..GOOD });
        let server = |server| Some(Wanted { server, ..GOOD });
        for (refused, (shows, protocols)) in [
            (None, &["pitaya-link/1"][..]),
            (Some(GOOD), &["pitaya-link/2", "h3"]),
            (Some(GOOD), &[]),
            (cluster("other.internal"), &["pitaya-link/1"]),
            (server("spiffe://room/own"), &["pitaya-link/1"]),
            (server("pitaya://room/a/b"), &["pitaya-link/1"]),
        ]
        .into_iter()
        .enumerate()
        {
            let dials = ours.dials(shows, protocols);
            let (error, accepted) = zip(dial_raw(dials, good.address()), good.accept()).await;
            let accepted = accepted.unwrap_err();
            assert_eq!(good.refused(), refused as u64 + 1, "{refused}: {error}, {accepted}");
            converse(&mut others).await;
        }
    })
    .unwrap();
}

/// Dials as somebody else would, and says why that failed, in the end.
async fn dial_raw(config: quinn::ClientConfig, address: SocketAddr) -> quinn::ConnectionError {
    let endpoint = stranger();
    let connecting = endpoint.connect_with(config, address, "cluster.internal").unwrap();
    match connecting.await {
        // It is looked at only after the stranger has all that it needs.
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    }
}

fn stranger() -> quinn::Endpoint {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = quinn::EndpointConfig::default();
    quinn::Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime)).unwrap()
}

#[test]
fn a_dial_to_nobody_ends() {
    on_all(a_dial_to_nobody_ends_on::<Tokio>, a_dial_to_nobody_ends_on::<Smol>);
}

async fn a_dial_to_nobody_ends_on<R: Native>() {
    let (runtime, nobody) = (R::current().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let one = Peer::with_secret::<R>(SECRET, "one").await;
    let begin = runtime.now();
    let error = one.dial(nobody.local_addr().unwrap()).await.unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (io::ErrorKind::TimedOut, NOBODY));
    assert!(runtime.now().since(begin) < Quic::PROOF_WITHIN * 3);
    assert_eq!(one.refused(), 0, "nobody was there to be refused");
}

const NOBODY: &str = "nobody answers there";

#[test]
fn a_dial_may_be_dropped_at_any_time() {
    on_all(
        a_dial_may_be_dropped_at_any_time_on::<Tokio>,
        a_dial_may_be_dropped_at_any_time_on::<Smol>,
    );
}

async fn a_dial_may_be_dropped_at_any_time_on<R: Native>() {
    let (one, two) = pair::<R>().await;
    drop(one.quic.dial(two.address()));
    assert!(poll_once(one.quic.dial(two.address())).await.is_none());
    // It was seen, and what it began comes to an end.
    let error = two.accept().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    // This one is dropped between the proof and the stream.
    let (dialled, accepted) = zip(one.quic.dial(two.address()), accept_aside::<R>(&two)).await;
    drop(dialled.unwrap());
    assert_eq!(accepted.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    converse(&mut link(&one, &two).await).await;
    assert_eq!((one.refused(), two.refused()), (0, 0));
}

#[test]
fn whoever_dials_and_says_nothing_is_given_up_and_holds_up_nobody() {
    on_all(
        whoever_dials_and_says_nothing_is_given_up_and_holds_up_nobody_on::<Tokio>,
        whoever_dials_and_says_nothing_is_given_up_and_holds_up_nobody_on::<Smol>,
    );
}

async fn whoever_dials_and_says_nothing_is_given_up_and_holds_up_nobody_on<R: Native>() {
    let (one, two) = pair::<R>().await;
    let silent = Peer::with_secret::<R>(SECRET, "silent").await;
    let (_dialling, no_handshake) = begin::<R>(&silent, &two).await;
    let (dialled, no_stream) = zip(silent.quic.dial(two.address()), accept_aside::<R>(&two)).await;
    let mut others = link(&one, &two).await;
    converse(&mut others).await;

    for given_up in [no_handshake.await, no_stream.await] {
        let error = given_up.unwrap().unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (io::ErrorKind::TimedOut, UNFINISHED));
    }
    assert_eq!((one.refused(), two.refused()), (0, 2));
    assert!(dialled.unwrap().io.read(&mut [0]).await.is_err());
    converse(&mut others).await;
}

const UNFINISHED: &str = "it dialled, but did not finish in time";

#[test]
fn a_crowd_that_proves_nothing_is_bounded_and_counted() {
    Tokio::block_on(async {
        let ours = Authority::new();
        let one = Peer::new::<Tokio>(&ours.identity(GOOD)).await;
        let two = Peer::new::<Tokio>(&ours.identity(GOOD)).await;
        let (dials, crowd) = (says_nothing_twice(ours.dials(None, &[])), stranger());
        let (mut dialling, mut accepting) = (Vec::new(), Vec::new());
        for _ in 0..CROWD_MAX {
            let dial = crowd.connect_with(dials.clone(), two.address(), "cluster.internal");
            dialling.push(dial.unwrap());
            // The later ones have shown first that they are where they say.
            accepting.push(two.quic.accept().await.unwrap());
        }
        let nobody = async { two.quic.accept().await.map(drop) };
        let there = once_there_and_back(two.address());
        let error = or(async { one.dial(there).await.map(drop) }, nobody).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(two.refused(), 1);
        drop(accepting);
        converse(&mut link(&one, &two).await).await;
    })
    .unwrap();
}

/// Who dials so is not heard again after it was refused, however slow the machine is.
fn says_nothing_twice(mut dials: quinn::ClientConfig) -> quinn::ClientConfig {
    let mut transport = quinn::TransportConfig::default();
    transport.initial_rtt(Duration::from_secs(3600));
    dials.transport_config(Arc::new(transport));
    dials
}

const CROWD_MAX: usize = 512;

#[test]
fn a_runtime_without_datagrams_says_so() {
    sim::run(1, |runtime| async move {
        let identity = Authority::new().identity(GOOD);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = Quic::bind(runtime, any, &identity, &Limits::default(), Arc::default()).await;
        let error = bound.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    });
}

#[test]
fn a_network_that_is_closed_accepts_and_dials_no_more() {
    on_all(
        a_network_that_is_closed_accepts_and_dials_no_more_on::<Tokio>,
        a_network_that_is_closed_accepts_and_dials_no_more_on::<Smol>,
    );
}

async fn a_network_that_is_closed_accepts_and_dials_no_more_on<R: Native>() {
    let (one, two) = pair::<R>().await;
    let [mut dialled, _accepted] = link(&one, &two).await;
    let address = two.address();
    let waits = two.quic.accept();
    let (waited, ()) = zip(waits, two.quic.close()).await;
    assert_eq!(waited.err().map(|error| error.kind()), Some(io::ErrorKind::NotConnected));
    let again = two.quic.accept().await.err().map(|error| error.kind());
    assert_eq!(again, Some(io::ErrorKind::NotConnected));
    assert!(two.dial(address).await.is_err() && two.quic.address().is_err());
    assert!(dialled.io.read(&mut [0]).await.is_err(), "what was open is given up");
}

/// Two servers that know each other's secret.
async fn pair<R: Native>() -> (Peer, Peer) {
    (Peer::with_secret::<R>(SECRET, "one").await, Peer::with_secret::<R>(SECRET, "two").await)
}
