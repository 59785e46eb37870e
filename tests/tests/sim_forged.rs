//! What a server of the cluster tries that it has no right to, or that makes no sense, changes
//! nothing for anybody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_core::{Counter, Json};
use pitaya_driver::cluster::Plain;
use pitaya_driver::{Client, Cluster, Runtime as _, Server, ServerHandle};
use pitaya_proto::link::{self, Frame, Hello, Kick, Push, Seat, SeatStep};
use pitaya_proto::protos::{Msg, Request, Response, RpcType, Session};
use pitaya_tests::game::gate;
use pitaya_tests::sim::{self, Sim, SimStream};
use prost::Message as _;

#[test]
fn a_server_that_was_lent_no_session_neither_binds_nor_changes_nor_pushes_to_nor_kicks_one() {
    sim::run(1, |sim| async move {
        let (gate, ann) = start(&sim).await;
        let mut hits = ann.subscribe_raw("onHit");
        let mut evil = Evil::link(&sim).await;
        let session = Session { id: 1, uid: "eve".into(), data: br#"{"level":99}"#[..].into() };
        for route in ["sys.bindsession", "sys.pushsession"] {
            let error = evil.call(RpcType::User, route, session.encode_to_vec()).await;
            assert_eq!(error.as_deref(), Some("session not found"), "{route}");
        }
        let push = Push { route: "onHit".into(), sessions: vec![1], ..Push::default() };
        evil.send(&Frame::Push(push)).await;
        evil.send(&Frame::Kick(Kick { sessions: vec![1], ..Kick::default() })).await;
        sim.sleep(SOON).await;
        assert_eq!(gate.counters().count(Counter::LinkFramesForbidden), 4);
        assert_untouched(&ann).await;
        assert!(futures_lite::future::poll_once(hits.next()).await.is_none());
    });
}

#[test]
fn a_server_without_users_takes_no_user_id_from_anybody() {
    sim::run(1, |sim| async move {
        let (gate, ann) = start(&sim).await;
        let mut evil = Evil::link(&sim).await;
        for step in [SeatStep::Announce, SeatStep::Claim, SeatStep::Lost, SeatStep::Dropped] {
            let (step, uid) = (step.into(), "ann".to_owned());
            let seat = Seat { step, uid, session: 1, epoch: u64::MAX, wait_micros: 0 };
            evil.send(&Frame::Seat(seat)).await;
        }
        sim.sleep(SOON).await;
        assert_eq!(gate.counters().count(Counter::LinkFramesForbidden), 4);
        assert_untouched(&ann).await;
    });
}

#[test]
fn a_server_without_clients_speaks_for_none_and_reaches_no_handler() {
    sim::run(1, |sim| async move {
        let (_gate, ann) = start(&sim).await;
        let mut evil = Evil::link(&sim).await;
        let error = evil.call(RpcType::Sys, "gate.me.who", Vec::new()).await;
        assert_eq!(error.as_deref(), Some("route is not public"));
        let error = evil.call(RpcType::User, "me.who", Vec::new()).await;
        assert_eq!(error.as_deref(), Some("route not found"), "a handler is no remote");
        assert_untouched(&ann).await;
    });
}

#[test]
fn bytes_that_are_no_frame_end_their_own_link_and_no_other() {
    sim::run(1, |sim| async move {
        let (gate, ann) = start(&sim).await;
        let mut good = Evil::link(&sim).await;
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[3, 255, 255, 255], &[1, 0, 0, 1, 255]] {
            let mut stream = sim.connect(cluster()).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            sim.sleep(Duration::from_secs(2)).await;
            let mut rest = Vec::new();
            // It may have been reset, with what was not read.
            let _ = stream.read_to_end(&mut rest).await;
        }
        assert_eq!(gate.counters().count(Counter::LinksClosed), 3);
        let error = good.call(RpcType::User, "sys.nothing", Vec::new()).await;
        assert_eq!(error.as_deref(), Some("route not found"), "the other link is there");
        assert_untouched(&ann).await;
    });
}

/// A gate with one client, which has bound `ann`.
async fn start(sim: &Sim) -> (ServerHandle<Sim>, Client<Sim, Json>) {
    let network = Plain::bind(sim.clone(), cluster()).await.unwrap();
    let server = Server::new("gate", gate()).tcp("127.0.0.1:0");
    let server = server.cluster(Cluster::over(network).id("gate-1"));
    let server = server.start_on(sim.clone()).await.unwrap();
    let address = server.addresses()[0].to_string();
    let ann = Client::connect_on(sim.clone(), &address, Default::default()).await.unwrap();
    let _: () = ann.request("gate.me.login", &"ann").await.unwrap();
    (server, ann)
}

async fn assert_untouched(ann: &Client<Sim, Json>) {
    let known: (String, u32) = ann.request("gate.me.who", &()).await.unwrap();
    assert_eq!(known, ("ann".to_owned(), 7));
}

fn cluster() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 900))
}

/// A room that says what it likes.
struct Evil {
    stream: SimStream,
    unread: Vec<u8>,
}

impl Evil {
    async fn link(sim: &Sim) -> Self {
        let stream = sim.connect(cluster()).await.unwrap();
        let mut evil = Self { stream, unread: Vec::new() };
        let (id, kind) = ("room-1".to_owned(), "room".to_owned());
        let version = link::VERSION;
        let hello = Hello { version, id, kind, incarnation: 1, dial: 1, ..Hello::default() };
        evil.send(&Frame::Hello(hello)).await;
        evil
    }

    async fn send(&mut self, frame: &Frame<'_>) {
        let mut bytes = Vec::new();
        link::encode(frame, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Calls, and gives the text of the error that comes back.
    async fn call(&mut self, kind: RpcType, route: &str, argument: Vec<u8>) -> Option<String> {
        let msg = Msg { route: route.into(), data: argument.into(), ..Msg::default() };
        let session = (kind == RpcType::Sys).then(|| Session { id: 1, ..Session::default() });
        let (r#type, msg) = (kind.into(), Some(msg));
        let request = Request { r#type, session, msg, ..Request::default() }.encode_to_vec();
        let remaining = Duration::from_secs(5);
        self.send(&Frame::Call { id: 1, remaining, request: &request }).await;
        Response::decode(self.reply().await).unwrap().error.map(|error| error.msg)
    }

    async fn reply(&mut self) -> Bytes {
        loop {
            let mut input = &self.unread[..];
            while let Some(frame) = link::decode(&mut input, 1 << 20).unwrap() {
                if let Frame::Reply { response, .. } = frame {
                    let response = Bytes::copy_from_slice(response);
                    self.unread = input.to_vec();
                    return response;
                }
            }
            self.unread = input.to_vec();
            let mut buffer = [0; 1024];
            let count = self.stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the link has ended");
            self.unread.extend_from_slice(&buffer[..count]);
        }
    }
}

const SOON: Duration = Duration::from_millis(100);
