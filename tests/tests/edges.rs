//! What a server does at the edges: clients that leave or flood, hooks that wait or panic, an end
//! that comes early. In simulated time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::{Ready, pending, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::{poll_once, yield_now};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_core::{
    App, ClientConn, ClientEvent, CloseReason, Command, ConnConfig, Error, Event, Instant, Limits,
    Machine as _, Next, Payload, Player, Session,
};
use pitaya_driver::{
    Commands, Drive, DriveConfig, Mailbox, Runtime as _, Serve, Server, ServerHandle, Sleep,
    Timers, Transport,
};
use pitaya_proto::dictionary::Dictionary;
use pitaya_proto::packet::PacketKind;
use pitaya_proto::zlib::Scratch;
use pitaya_tests::raw::{RawClient, Received, ack, handshake, packet};
use pitaya_tests::sim::{self, Sim, SimStream};

/// How often close hooks ended.
type Ends = Arc<AtomicUsize>;

#[test]
fn a_close_hook_that_waits_ends_after_its_client_has_gone() {
    on_every_seed(async |sim| {
        let ends = Ends::default();
        let app = app().on_close(|_, _| yield_now()).on_close(counts(&ends));
        let server = start(&sim, Server::new("gate", app)).await;
        drop(connect(&sim, &server).await);
        sim.sleep(Duration::from_secs(3)).await;
        assert_eq!((ends.load(Ordering::Relaxed), server.connections()), (1, 0));
    });
}

#[test]
fn a_close_hook_that_panics_costs_neither_the_others_nor_the_session() {
    on_every_seed(async |sim| {
        let ends = Ends::default();
        let app = app()
            .on_close(|_, _| -> Ready<()> { panic!("before it waits") })
            .on_close(|_, _| async { panic!("as it waits") })
            .on_close(counts(&ends));
        let server = start(&sim, Server::new("gate", app)).await;
        drop(connect(&sim, &server).await);
        sim.sleep(Duration::from_secs(3)).await;
        assert_eq!((server.sessions(), server.connections()), (0, 0));
        assert_eq!(ends.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_validator_that_panics_refuses_its_client_and_no_other() {
    on_every_seed(async |sim| {
        let server = Server::new("gate", app()).validator("name", |client| {
            let name = client.user.as_ref().and_then(|user| user.get("name"));
            assert_ne!(name.and_then(|name| name.as_str()), Some("eve"), "eve is here");
            Ok(())
        });
        let server = start(&sim, server).await;
        let mut eve = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
        eve.send(&handshake("eve")).await.unwrap();
        assert_eq!(eve.next().await.unwrap(), Some(Received::Handshake(400)));
        assert_eq!(eve.next().await.unwrap(), None);
        let mut ann = connect(&sim, &server).await;
        let reply = ann.request(1, "math.double", "4").await.unwrap();
        assert_eq!(reply, Some(Received::Reply(1, "8".to_owned())));
    });
}

#[test]
fn a_handler_that_panics_as_it_is_dropped_costs_its_own_connection_alone() {
    on_every_seed(async |sim| {
        let limits = Limits::default().call_hard_limit(Duration::from_secs(1));
        let server = start(&sim, Server::new("gate", app()).limits(limits)).await;
        let (mut ann, mut bob) = (connect(&sim, &server).await, connect(&sim, &server).await);
        bob.request(1, "hall.login", "\"bob\"").await.unwrap();
        // The task ends without another word.
        assert!(!matches!(
            bob.request(2, "hall.trap", "null").await,
            Ok(Some(Received::Reply(..)))
        ));
        sim.sleep(Duration::from_secs(3)).await;
        assert_eq!((server.sessions(), server.connections()), (1, 1));
        assert!(server.kick("bob", "").is_err(), "nobody has the id");
        let reply = ann.request(1, "math.double", "4").await.unwrap();
        assert_eq!(reply, Some(Received::Reply(1, "8".to_owned())));
    });
}

#[test]
fn the_last_packet_arrives_however_much_the_client_still_sends() {
    on_every_seed(async |sim| {
        let server = start(&sim, Server::new("gate", app())).await;
        let mut ann = connect(&sim, &server).await;
        ann.request(1, "hall.login", "\"ann\"").await.unwrap();
        server.kick("ann", "enough").unwrap();
        // Many times what the server reads of it in one turn.
        let beats = packet(PacketKind::Heartbeat, &[]).repeat(1 << 16);
        let _closed_meanwhile = ann.send(&beats).await;
        assert_eq!(ann.next().await.unwrap(), Some(Received::Kick("enough".to_owned())));
    });
}

#[test]
fn a_layer_has_all_of_its_time_whatever_the_handshake_behind_it_has() {
    on_every_seed(async |sim| {
        let limits = Limits::default().upgrade_timeout(Duration::from_secs(30));
        let server = Server::new("gate", app()).limits(limits).ws("127.0.0.1:0");
        let server = server.start_on(sim.clone()).await.unwrap();
        let mut slow = sim.connect(server.addresses()[0]).await.unwrap();
        sim.sleep(Duration::from_secs(29)).await;
        slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        slow.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 400");
    });
}

#[test]
fn an_address_is_free_once_its_server_has_shut_down() {
    on_every_seed(async |sim| {
        let server = start(&sim, Server::new("gate", app())).await;
        let address = server.addresses()[0];
        server.shutdown().await;
        assert!(sim.bind(address).await.is_ok());
    });
}

#[test]
fn a_sleep_wakes_the_task_that_polled_it_last() {
    on_every_seed(async |sim| {
        let timers = Timers::start(&sim);
        let mut sleep = Box::pin(Sleep::lasting(&timers, sim.clone(), Duration::from_secs(1)));
        assert!(poll_once(&mut sleep).await.is_none());
        sim.start(sleep).await;
        timers.stop();
    });
}

#[test]
fn one_turn_reads_no_more_than_is_fair() {
    sim::run(1, |sim| async move {
        let handlers = app().build("gate").unwrap();
        let config = ConnConfig::new("json", Dictionary::default(), Limits::default()).unwrap();
        let config = Arc::new(config);
        let player = Player::new(Arc::clone(&config), Arc::clone(&handlers.routes), sim.now());
        let flood = Flood::default();
        let mut drive = Drive::new(
            DriveConfig::new(sim.clone(), &Timers::start(&sim), &config.limits, &config.counters),
            (flood.clone(), Transport::TCP),
            (player, Ignore),
            Arc::new(Mailbox::new(1, 1)),
        );
        assert!(poll_once(&mut drive).await.is_none());
        assert_eq!(flood.0.load(Ordering::Relaxed), 64 << 10);
        assert!(poll_once(&mut drive).await.is_none());
        assert_eq!(flood.0.load(Ordering::Relaxed), 128 << 10, "it goes on");
    });
}

#[test]
fn what_comes_after_the_end_is_thrown_away() {
    let handlers = app().build("gate").unwrap();
    let config = ConnConfig::new("json", Dictionary::default(), Limits::default()).unwrap();
    let routes = Arc::clone(&handlers.routes);
    let (mut scratch, now) = (Scratch::new(), Instant::ZERO);
    let mut player = Player::new(Arc::new(config), routes, now);
    let mut server: ClientConn<()> = ClientConn::new(Arc::default(), now);
    let (mut from_client, mut from_server) = (&b"GET / HTTP/1.1"[..], &b"HTTP/1.1 200 OK"[..]);
    let closed = player.next(now, &mut from_client, &mut scratch);
    assert!(matches!(closed, Next::Event(Event::Closed(_))));
    let closed = server.next(now, &mut from_server, &mut scratch);
    assert!(matches!(closed, Next::Event(ClientEvent::Closed(_))));
    assert_eq!(player.next(now, &mut from_client, &mut scratch), Next::NeedBytes);
    assert_eq!(server.next(now, &mut from_server, &mut scratch), Next::NeedBytes);
    assert_eq!((from_client, from_server), (&[][..], &[][..]));
}

/// A client that opens and then beats without end, and how many bytes were read of it.
#[derive(Clone, Default)]
struct Flood(Arc<AtomicUsize>);

impl AsyncRead for Flood {
    fn poll_read(
        self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let opening = [handshake("ann"), ack()].concat();
        let beat = packet(PacketKind::Heartbeat, &[]);
        let before = self.0.fetch_add(buffer.len(), Ordering::Relaxed);
        assert!(before < 1 << 20, "one turn without end");
        let stream = opening.iter().chain(beat.iter().cycle());
        buffer.iter_mut().zip(stream.skip(before)).for_each(|(to, from)| *to = *from);
        Poll::Ready(Ok(buffer.len()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(
        self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Has no handlers.
struct Ignore;

impl Serve<Player> for Ignore {
    fn handle_bytes(&mut self, _now: Instant) {}

    fn handle_event(
        &mut self, _: Instant, _: &mut Context<'_>, _: Event<'_>, _: &mut Commands<Command>,
    ) {
    }

    fn poll_commands(&mut self, _: Instant, _: &mut Context<'_>, _: &mut Commands<Command>) {}

    fn is_done(&self) -> bool {
        true
    }
}

fn on_every_seed<F: Future<Output = ()>>(test: impl Fn(Sim) -> F) {
    sim::seeds(10).into_iter().for_each(|seed| sim::run(seed, &test));
}

async fn start(sim: &Sim, server: Server<Sim>) -> ServerHandle<Sim> {
    server.tcp("127.0.0.1:0").start_on(sim.clone()).await.unwrap()
}

async fn connect(sim: &Sim, server: &ServerHandle<Sim>) -> RawClient<SimStream> {
    let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
    client.open("ann").await.unwrap();
    client
}

fn app() -> App {
    App::new(()).route("math.double", double).route("hall.login", login).route("hall.trap", trap)
}

/// A hook that counts how often it ends.
fn counts(ends: &Ends) -> impl Fn(Session, CloseReason) -> Ready<()> + Send + Sync + 'static {
    let ends = Arc::clone(ends);
    move |_, _| {
        ends.fetch_add(1, Ordering::Relaxed);
        ready(())
    }
}

async fn double(Payload(n): Payload<i64>) -> Result<i64, Error> {
    Ok(n * 2)
}

async fn login(session: Session, Payload(uid): Payload<String>) -> Result<(), Error> {
    session.bind(&uid).await
}

async fn trap() -> Result<(), Error> {
    let _trap = Trap;
    pending().await
}

/// Panics when it is dropped.
struct Trap;

impl Drop for Trap {
    fn drop(&mut self) {
        panic!("a trap");
    }
}
