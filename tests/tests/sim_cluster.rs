//! Several servers as one, in the simulator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_lite::future;
use pitaya_core::cluster::{Life, Routed, Rule, ServerId};
use pitaya_core::{CloseReason, Counter, Json, Limits, RequestError};
use pitaya_driver::cluster::Plain;
use pitaya_driver::{Client, Cluster, Runtime as _, Server, ServerHandle};
use pitaya_tests::broker::Broker;
use pitaya_tests::game::{BANNED, Shout, gate, room};
use pitaya_tests::sim::{self, Sim};

#[test]
fn a_client_of_a_gate_is_answered_by_a_room() {
    for (seed, way) in worlds(10) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 1, 1).await;
            let client = cluster.connect(0).await;
            let said: String = client.request("room.hall.echo", &"hello").await.unwrap();
            assert_eq!(said, "room-0: hello");
            client.close().await;
            cluster.stop().await;
        });
    }
}

#[test]
fn a_long_body_goes_to_a_room_and_back_in_parts_and_its_session_keeps_its_order() {
    for (seed, way) in worlds(10) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 1, 1).await;
            let (client, other) = (cluster.connect(0).await, cluster.connect(0).await);
            let text = "long".repeat(500);
            let long = client.request::<_, String>("room.hall.echo", &text);
            let next = client.request::<_, String>("room.hall.echo", &"next");
            let short = other.request::<_, String>("room.hall.echo", &"short");
            assert_eq!(long.await.unwrap(), format!("room-0: {text}"));
            assert_eq!(next.await.unwrap(), "room-0: next");
            assert_eq!(short.await.unwrap(), "room-0: short");
            for server in [&cluster.gates[0], &cluster.rooms[0]] {
                assert!(server.counters().count(Counter::LinkFramesParted) > 0);
            }
        });
    }
}

#[test]
fn a_session_stays_with_its_room_and_its_calls_keep_their_order() {
    for (seed, way) in worlds(10) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 2, 3).await;
            let client = cluster.connect(1).await;
            let count = |_| client.request::<_, (String, u32)>("room.hall.count", &());
            let counts: Vec<_> = (0..10).map(count).collect();
            let mut rooms = Vec::new();
            for (at, counted) in counts.into_iter().enumerate() {
                let (room, count) = counted.await.unwrap();
                assert_eq!(count, at as u32 + 1);
                rooms.push(room);
            }
            rooms.dedup();
            assert_eq!(rooms.len(), 1);
        });
    }
}

#[test]
fn a_rule_of_the_cluster_says_which_room_answers() {
    for (seed, way) in worlds(3) {
        sim::run(seed, |sim| async move {
            let cluster = World::start_with(&sim, way, 1, 3, |cluster| {
                cluster.rule("room", Rule::custom(|call| ServerId::new(&said(call)?)))
            });
            let cluster = cluster.await;
            let client = cluster.connect(0).await;
            for name in ["room-2", "room-0", "room-1", "room-2"] {
                let said: String = client.request("room.hall.echo", &name).await.unwrap();
                assert_eq!(said, format!("{name}: {name}"));
            }
            let nobody =
                client.request::<_, String>("room.hall.echo", &"room-9").await.unwrap_err();
            assert_eq!(nobody.to_string(), "PIT-500: no servers available of this type");
        });
    }
}

#[test]
fn errors_and_missing_routes_come_back_as_they_are() {
    for (seed, way) in worlds(3) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 1, 1).await;
            let client = cluster.connect(0).await;
            // It waits for longer than the gate does.
            let client = client.within(Duration::from_secs(10));
            let fail = async |route: &str| {
                let failed = client.request::<_, ()>(route, &()).await;
                let Err(RequestError::Answered(error)) = failed else { panic!("{failed:?}") };
                error
            };
            let error = fail("room.hall.fail").await;
            assert_eq!((&*error.code, &*error.msg), ("ROOM-1", "no"));
            assert_eq!(error.metadata, BTreeMap::from([("why".to_owned(), "because".to_owned())]));
            assert_eq!(fail("room.hall.nobody").await.code, "PIT-404");
            assert_eq!(fail("room.scores.double").await.code, "PIT-404", "clients call no remotes");
            let none = fail("shop.hall.buy").await.to_string();
            assert_eq!(none, "PIT-500: no servers available of this type");
            assert_eq!(fail("room.hall.slow").await.to_string(), "PIT-408: request timeout");
        });
    }
}

#[test]
fn a_room_binds_pushes_and_keeps_data_with_a_session_that_it_does_not_have() {
    for (seed, way) in worlds(10) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 2, 2).await;
            let client = cluster.connect(0).await;
            let mut hits = client.subscribe::<u32>("onHit");
            let _: () = client.request("room.hall.login", &"ann").await.unwrap();
            let known: (String, u32) = client.request("gate.me.who", &()).await.unwrap();
            assert_eq!(known, ("ann".to_owned(), 7));
            let known: (String, u32) = client.request("room.hall.who", &()).await.unwrap();
            assert_eq!(known, ("ann".to_owned(), 7));
            let _: () = client.request("room.hall.hit", &3).await.unwrap();
            for at in 0..3 {
                assert_eq!(hits.next().await, Some(at));
            }
        });
    }
}

#[test]
fn a_room_that_refuses_a_user_id_changes_nothing_at_the_gate() {
    for (seed, way) in worlds(10) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 2, 2).await;
            let (older, client) = (cluster.connect(0).await, cluster.connect(1).await);
            let _: () = older.request("gate.me.login", &BANNED).await.unwrap();
            let refused = client.request::<_, ()>("room.hall.login", &BANNED).await;
            assert_eq!(refused.unwrap_err().to_string(), "BANNED: not here");
            for (client, uid) in [(older, BANNED), (client, "")] {
                let known: (String, u32) = client.request("gate.me.who", &()).await.unwrap();
                assert_eq!(known.0, uid);
            }
        });
    }
}

#[test]
fn users_are_reached_wherever_they_are_and_the_missing_are_named() {
    for (seed, way) in worlds(10) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 3, 1).await;
            let mut clients = Vec::new();
            for (at, uid) in ["ann", "bob", "cid", "dan"].into_iter().enumerate() {
                let client = cluster.connect(at % 3).await;
                let _: () = client.request("gate.me.login", &uid).await.unwrap();
                clients.push((client.subscribe::<String>("onShout"), client));
            }
            let shout = Shout { uids: vec!["ann", "bob", "eve", "cid", "dan"], text: "hi" };
            let shout = serde_json::to_value(shout).unwrap();
            let missing: Vec<String> =
                clients[0].1.request("room.hall.shout", &shout).await.unwrap();
            assert_eq!(missing, ["eve"]);
            for (shouts, _) in &mut clients {
                assert_eq!(shouts.next().await.as_deref(), Some("hi"));
            }
            let missing: Vec<String> = clients[0].1.request("gate.me.kick", &"bob").await.unwrap();
            assert_eq!(missing, [""; 0]);
            let why = clients[1].1.closed().await;
            assert_eq!(why, CloseReason::Kicked(Some("go".to_owned())));
        });
    }
}

#[test]
fn the_newest_login_stays_whichever_gate_it_is_on() {
    for (seed, way) in worlds(10) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 2, 1).await;
            let (first, second) = (cluster.connect(0).await, cluster.connect(1).await);
            let _: () = first.request("gate.me.login", &"ann").await.unwrap();
            let _: () = second.request("gate.me.login", &"ann").await.unwrap();
            let why = first.closed().await;
            let replaced = "replaced by a newer login".to_owned();
            assert_eq!(why, CloseReason::Kicked(Some(replaced)));
            let known: (String, u32) = second.request("gate.me.who", &()).await.unwrap();
            assert_eq!(known.0, "ann");
        });
    }
}

#[test]
fn a_room_kicks_a_client_that_it_does_not_have() {
    for (seed, way) in worlds(10) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 1, 1).await;
            let client = cluster.connect(0).await;
            // It is answered or not, as it happens.
            let _ = client.request::<_, ()>("room.hall.kick", &()).await;
            assert_eq!(client.closed().await, CloseReason::Kicked(Some("out".to_owned())));
        });
    }
}

#[test]
fn a_push_that_a_link_has_no_room_for_is_dropped_there_and_is_no_push_that_a_client_refused() {
    sim::run(1, |sim| async move {
        let cluster = World::start(&sim, Way::Streams, 1, 1).await;
        let client = cluster.connect(0).await;
        client.request::<_, ()>("room.hall.hit", &20_000).await.unwrap_err();
        let counts = [Counter::LinkFramesDropped, Counter::PushesRefused];
        assert_eq!(counts.map(|counter| cluster.rooms[0].counters().count(counter)), [1, 0]);
    });
}

#[test]
fn what_travels_with_a_call_goes_on_to_the_next_server_and_its_deadline_does_not_grow() {
    for (seed, way) in worlds(3) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 1, 1).await;
            let client = cluster.connect(0).await;
            let (steps, remaining): (Vec<String>, u64) =
                client.request("gate.me.trail", &()).await.unwrap();
            assert_eq!(steps, ["gate", "room"]);
            // The gate and the room each took a second of it.
            let most = Limits::default().call_deadline.as_millis() as u64 - 2000;
            assert!((most - 500..=most).contains(&remaining), "{remaining} ms are left");
        });
    }
}

#[test]
fn a_call_to_the_own_kind_is_refused_with_a_hint() {
    for (seed, way) in worlds(3) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 2, 1).await;
            let client = cluster.connect(0).await;
            let failed = client.request::<_, ()>("gate.me.own", &()).await;
            let Err(RequestError::Answered(error)) = failed else { panic!("{failed:?}") };
            assert_eq!(error.code, pitaya_proto::error::CALL_TO_SELF.code);
            assert!(error.msg.contains("may be processed locally"), "{error}");
        });
    }
}

#[test]
fn handlers_see_every_server_with_what_it_says_of_itself() {
    for (seed, way) in worlds(3) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 1, 2).await;
            let client = cluster.connect(0).await;
            let ask = async |id: &str| -> (Option<String>, Vec<String>, usize) {
                client.request("gate.me.servers", &id).await.unwrap()
            };
            let rooms = ["room room-0 1", "room room-1 2"].map(str::to_owned).to_vec();
            assert_eq!(ask("room-1").await, (Some(rooms[1].clone()), rooms.clone(), 3));
            assert_eq!(ask("room-7").await, (None, rooms, 3));
        });
    }
}

#[test]
fn servers_call_each_other_and_get_what_the_other_answers() {
    for (seed, way) in worlds(3) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, way, 1, 3).await;
            let client = cluster.connect(0).await;
            for id in ["room-2", "room-0", "room-1"] {
                let named: Vec<String> = client.request("gate.me.name", &id).await.unwrap();
                assert_eq!(named, [id]);
            }
            let doubled: i64 = client.request("gate.me.double", &21).await.unwrap();
            assert_eq!(doubled, 42);
            let failed = client.request::<_, i64>("gate.me.double", &-1).await;
            let Err(RequestError::Answered(error)) = failed else { panic!("{failed:?}") };
            assert_eq!(error.to_string(), "SCORE-1: negative");
        });
    }
}

#[test]
fn a_room_that_leaves_answers_what_it_has_and_then_others_are_asked() {
    for (seed, way) in worlds(10) {
        sim::run(seed, |sim| async move {
            let mut cluster = World::start(&sim, way, 1, 2).await;
            let client = cluster.connect(0).await;
            let said: String = client.request("room.hall.echo", &"a").await.unwrap();
            let at = usize::from(said.starts_with("room-1"));
            let rests = client.request::<_, String>("room.hall.rest", &());
            // It is on its way before the room leaves.
            let mut rests = std::pin::pin!(rests);
            assert!(future::poll_once(&mut rests).await.is_none());
            sim.sleep(Duration::from_millis(500)).await;
            let room = cluster.rooms.remove(at);
            let leaves = sim.start(room.shutdown());
            assert_eq!(rests.await.unwrap(), format!("room-{at}"));
            leaves.await;
            let said: String = client.request("room.hall.echo", &"b").await.unwrap();
            assert_eq!(said, format!("room-{}: b", 1 - at));
        });
    }
}

#[test]
fn a_handler_of_a_room_that_leaves_reaches_users_of_other_gates_until_it_ends() {
    for (seed, way) in worlds(10) {
        sim::run(seed, |sim| async move {
            let mut cluster = World::start(&sim, way, 2, 1).await;
            let (ann, bob) = (cluster.connect(0).await, cluster.connect(1).await);
            let _: () = bob.request("gate.me.login", &"bob").await.unwrap();
            let mut shouts = bob.subscribe::<String>("onShout");
            let mut shouted = std::pin::pin!(shout_late(&ann, "bob"));
            assert!(future::poll_once(&mut shouted).await.is_none());
            sim.sleep(Duration::from_millis(500)).await;
            let leaves = sim.start(cluster.rooms.remove(0).shutdown());
            assert_eq!(shouted.await.unwrap(), [""; 0]);
            assert_eq!(shouts.next().await.as_deref(), Some("late"));
            leaves.await;
        });
    }
}

#[test]
fn a_handler_whose_link_was_lost_runs_on_beside_calls_over_the_next_one() {
    for seed in sim::seeds(10) {
        sim::run(seed, |sim| async move {
            let cluster = World::start(&sim, Way::Messages, 2, 1).await;
            let (ann, bob) = (cluster.connect(0).await, cluster.connect(1).await);
            let _: () = bob.request("gate.me.login", &"bob").await.unwrap();
            let mut shouts = bob.subscribe::<String>("onShout");
            let mut shouted = std::pin::pin!(shout_late(&ann, "bob"));
            assert!(future::poll_once(&mut shouted).await.is_none());
            sim.sleep(Duration::from_millis(500)).await;
            cluster.part("gate-0", "room-0");
            let Err(RequestError::Answered(lost)) = shouted.await else { panic!("it has no link") };
            assert_eq!(lost.code, "PIT-503");
            sim.sleep(Duration::from_millis(500)).await;
            let said: String = ann.request("room.hall.echo", &"next").await.unwrap();
            assert_eq!(said, "room-0: next");
            let mut late = std::pin::pin!(shouts.next());
            assert!(future::poll_once(&mut late).await.is_none(), "it runs");
            assert_eq!(late.await.as_deref(), Some("late"));
        });
    }
}

#[test]
fn when_a_server_is_lost_its_carrier_tells_it_so_and_both_find_each_other_again() {
    sim::run(1, |sim| async move {
        let broker = late_broker(&sim);
        let start = async |id: &str, limits: Limits| {
            let cluster = Cluster::through(broker.carrier()).id(id);
            let server = Server::new("gate", gate()).tcp("127.0.0.1:0").limits(limits);
            server.cluster(cluster).start_on(sim.clone()).await.unwrap()
        };
        let one = start("gate-1", Limits::default().uid_bytes_max(1000)).await;
        let other = start("gate-2", Limits::default()).await;
        let address = one.addresses()[0].to_string();
        // The home of some of them is the other server, to which they make no sense.
        for uid in ["a", "b", "c", "d"].map(|letter| letter.repeat(500)) {
            let client = Client::<_, Json>::connect_on(sim.clone(), &address, Default::default());
            let client = client.await.unwrap();
            let (login, moment) =
                (client.request::<_, ()>("me.login", &uid), Duration::from_secs(1));
            // Then it goes.
            future::or(async { drop(login.await) }, sim.sleep(moment)).await;
        }
        sim.sleep(Duration::from_secs(10)).await;
        for server in [one, other] {
            assert!(server.counters().count(Counter::LinksClosed) > 0);
            assert_eq!(server.members().unwrap().all().len(), 2);
        }
    });
}

/// Lets a room shout at a user after two seconds, and tells who was missing.
async fn shout_late(client: &Client<Sim, Json>, uid: &str) -> Result<Vec<String>, RequestError> {
    let shout = serde_json::to_value(Shout { uids: vec![uid], text: "late" }).unwrap();
    client.request("room.hall.shout_late", &shout).await
}

/// The text that a call has for its argument.
fn said(call: &Routed<'_>) -> Option<String> {
    serde_json::from_slice(call.payload).ok()
}

/// How servers reach each other.
#[derive(Clone, Copy)]
enum Way {
    Messages,
    Streams,
}

/// Worlds of as many seeds, each of both kinds.
fn worlds(seeds: u64) -> Vec<(u64, Way)> {
    let both = |seed| [(seed, Way::Messages), (seed, Way::Streams)];
    sim::seeds(seeds).into_iter().flat_map(both).collect()
}

/// Brings messages after up to two milliseconds each.
fn late_broker(sim: &Sim) -> Broker {
    let sim = sim.clone();
    Broker::late(move || {
        let sim = sim.clone();
        let wait = Duration::from_micros(sim.seed() % 2_000);
        Box::pin(async move { sim.sleep(wait).await })
    })
}

/// Gates and rooms that find each other by the first gate, or are told by what carries their
/// messages.
struct World {
    sim: Sim,
    settings: fn(Cluster) -> Cluster,
    /// What carries messages, where there are no streams between servers.
    broker: Option<Broker>,
    gates: Vec<ServerHandle<Sim>>,
    rooms: Vec<ServerHandle<Sim>>,
}

impl World {
    async fn start(sim: &Sim, way: Way, gates: usize, rooms: usize) -> Self {
        Self::start_with(sim, way, gates, rooms, |cluster| cluster).await
    }

    async fn start_with(
        sim: &Sim, way: Way, gates: usize, rooms: usize, settings: fn(Cluster) -> Cluster,
    ) -> Self {
        let broker = match way {
            Way::Messages => Some(late_broker(sim)),
            Way::Streams => None,
        };
        let sim = sim.clone();
        let mut world = Self { sim, settings, broker, gates: Vec::new(), rooms: Vec::new() };
        for at in 0..gates {
            let gate = Server::new("gate", gate()).tcp("127.0.0.1:0");
            world.gates.push(world.join(gate, &format!("gate-{at}"), at).await);
        }
        for at in 0..rooms {
            let (name, place) = (format!("room-{at}"), gates + at);
            let room = Server::new("room", room(&name));
            world.rooms.push(world.join(room, &name, place).await);
        }
        let all = gates + rooms;
        for server in world.gates.iter().chain(&world.rooms) {
            while server.members().unwrap().all().len() < all {
                world.sim.sleep(Duration::from_millis(10)).await;
            }
        }
        world
    }

    async fn join(&self, server: Server<Sim>, name: &str, at: usize) -> ServerHandle<Sim> {
        let cluster = match &self.broker {
            Some(broker) => Cluster::through(broker.carrier()),
            None => {
                let network = Plain::bind(self.sim.clone(), address(at)).await.unwrap();
                Cluster::over(network).seeds([address(0).to_string()])
            }
        };
        let cluster = (self.settings)(cluster).id(name).metadata("floor", at.to_string());
        let limits = Limits::default().link_part_bytes_max(256);
        server.cluster(cluster).limits(limits).start_on(self.sim.clone()).await.unwrap()
    }

    /// Two servers lose each other, and are linked again.
    fn part(&self, one: &str, other: &str) {
        let members = self.gates[0].members().unwrap();
        let life = |id| Life::from(&**members.by_id(&ServerId::new(id).unwrap()).unwrap());
        self.broker.as_ref().unwrap().part(&life(one), &life(other));
    }

    async fn connect(&self, gate: usize) -> Client<Sim, Json> {
        let address = self.gates[gate].addresses()[0].to_string();
        Client::connect_on(self.sim.clone(), &address, Default::default()).await.unwrap()
    }

    async fn stop(self) {
        for server in self.gates.into_iter().chain(self.rooms) {
            server.shutdown().await;
        }
    }
}

fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 900 + at as u16))
}
