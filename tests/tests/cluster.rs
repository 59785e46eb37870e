//! Several servers as one, over QUIC on real sockets and through a broker, on every pairing of
//! runtimes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::thread;

use pitaya_core::{CloseReason, Limits, RequestError};
use pitaya_driver::{Client, Cluster, Native, Server};
use pitaya_smol::Smol;
use pitaya_tests::broker::Broker;
use pitaya_tests::game::{Shout, gate, room};
use pitaya_tests::running::Running;
use pitaya_tokio::Tokio;

#[test]
fn gates_and_rooms_on_any_runtime_are_one() {
    let way = Way::Quic(None);
    scenario::<Tokio, Tokio>(&way);
    scenario::<Smol, Smol>(&way);
    scenario::<Tokio, Smol>(&way);
    scenario::<Smol, Tokio>(&way);
}

#[test]
fn gates_and_rooms_are_one_through_a_carrier_of_messages_too() {
    scenario::<Tokio, Tokio>(&Way::Broker(Broker::default()));
    scenario::<Smol, Smol>(&Way::Broker(Broker::default()));
    scenario::<Tokio, Smol>(&Way::Broker(Broker::default()));
    scenario::<Smol, Tokio>(&Way::Broker(Broker::default()));
}

#[test]
fn a_room_that_leaves_answers_what_it_has_and_one_that_comes_back_is_found() {
    for way in [Way::Quic(None), Way::Broker(Broker::default())] {
        leave_and_come_back(&way);
    }
}

fn leave_and_come_back(way: &Way) {
    let gate = start::<Tokio>("gate", "gate-1", way);
    let way = way.by(&gate);
    let first = start::<Tokio>("room", "room-1", &way);
    let client_of = gate.clients.unwrap();
    Tokio::block_on(async {
        let client = Client::<Tokio>::connect(&client_of.to_string()).await.unwrap();
        wait_for(&client, "room-1").await;
        let mut resting = client.subscribe::<()>("onRest");
        let rests = client.request::<_, String>("room.hall.rest", &());
        let leaves = async {
            resting.next().await.unwrap();
            thread::spawn(|| first.stop())
        };
        let (said, leaves) = futures_lite::future::zip(rests, leaves).await;
        assert_eq!(said.unwrap(), "room-1");
        leaves.join().unwrap();
        let again = start::<Tokio>("room", "room-1", &way);
        wait_for(&client, "room-1").await;
        again.stop();
    })
    .unwrap();
    gate.stop();
}

/// Two gates and a room, as their clients see them.
fn scenario<G: Native, R: Native>(way: &Way) {
    let first = start::<G>("gate", "gate-1", way);
    let way = &way.by(&first);
    let (second, room) = (start::<G>("gate", "gate-2", way), start::<R>("room", "room-1", way));
    Tokio::block_on(async {
        let connect = async |server: &Running| {
            Client::<Tokio>::connect(&server.clients.unwrap().to_string()).await.unwrap()
        };
        let (ann, bob) = (connect(&first).await, connect(&second).await);
        wait_for(&ann, "room-1").await;
        wait_for(&bob, "room-1").await;
        // A room binds a session that it does not have, and keeps data with it.
        let _: () = ann.request("room.hall.login", &"ann").await.unwrap();
        let _: () = bob.request("gate.me.login", &"bob").await.unwrap();
        let known: (String, u32) = ann.request("gate.me.who", &()).await.unwrap();
        assert_eq!(known, ("ann".to_owned(), 7));
        // Users are reached wherever they are.
        let mut shouts = [ann.subscribe::<String>("onShout"), bob.subscribe::<String>("onShout")];
        let shout = Shout { uids: vec!["ann", "bob", "eve"], text: "hi" };
        let missing: Vec<String> = ann.request("room.hall.shout", &shout).await.unwrap();
        assert_eq!(missing, ["eve"]);
        for shouts in &mut shouts {
            assert_eq!(shouts.next().await.as_deref(), Some("hi"));
        }
        // Pushes come in order, and before the reply that follows them.
        let mut hits = ann.subscribe::<u32>("onHit");
        let _: () = ann.request("room.hall.hit", &100).await.unwrap();
        for at in 0..100 {
            assert_eq!(hits.next().await, Some(at));
        }
        // Servers call each other, and errors keep their codes.
        assert_eq!(ann.request::<_, i64>("gate.me.double", &21).await.unwrap(), 42);
        let failed = ann.request::<_, i64>("gate.me.double", &-1).await.unwrap_err();
        assert_eq!(failed.to_string(), "SCORE-1: negative");
        // A body of megabytes goes in parts, and others are answered meanwhile.
        let text = "long".repeat(300_000);
        let long = ann.request::<_, String>("room.hall.echo", &text);
        wait_for(&bob, "room-1").await;
        assert_eq!(long.await.unwrap(), format!("room-1: {text}"));
        // The newest login stays.
        let _: () = connect(&second).await.request("gate.me.login", &"ann").await.unwrap();
        let replaced = Some("replaced by a newer login".to_owned());
        assert_eq!(ann.closed().await, CloseReason::Kicked(replaced));
    })
    .unwrap();
    [room, second, first].into_iter().for_each(Running::stop);
}

/// Asks until a room of that name answers.
async fn wait_for(client: &Client<Tokio>, room: &str) {
    loop {
        match client.request::<_, String>("room.hall.echo", &"?").await {
            Ok(said) => return assert_eq!(said, format!("{room}: ?")),
            Err(RequestError::Answered(error)) => {
                assert!(["PIT-500", "PIT-503"].contains(&&*error.code), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// How servers reach each other.
#[derive(Clone)]
enum Way {
    Broker(Broker),
    /// They find each other where one is.
    Quic(Option<SocketAddr>),
}

impl Way {
    /// To others as well, once that server is there.
    fn by(&self, server: &Running) -> Self {
        match self {
            Self::Broker(broker) => Self::Broker(broker.clone()),
            Self::Quic(_) => Self::Quic(server.cluster),
        }
    }

    fn cluster(&self) -> Cluster {
        match self {
            Self::Broker(broker) => Cluster::through(broker.carrier()),
            Self::Quic(seed) => Cluster::secret(SECRET).seeds(seed.map(|seed| seed.to_string())),
        }
    }
}

fn start<R: Native>(kind: &'static str, id: &'static str, way: &Way) -> Running {
    let way = way.clone();
    Running::start(move || {
        let cluster = way.cluster().id(id);
        let server = if kind == "gate" {
            Server::<R>::new(kind, gate()).tcp("127.0.0.1:0")
        } else {
            Server::new(kind, room(id))
        };
        let limits = Limits::default().packet_bytes_max(8 << 20).inflated_bytes_max(8 << 20);
        server.cluster(cluster).limits(limits)
    })
}

const SECRET: &str = "3b5d3c7d207e37dceeedd301e35e2e58";
