//! A server that reaches others through a carrier of messages, of which the test is the far side.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_lite::future;
use pitaya_core::cluster::{Incarnation, Life, ServerId, ServerInfo};
use pitaya_core::session::HostFuture;
use pitaya_core::{Counter, Error, Json, Limits, RequestError};
use pitaya_driver::cluster::{Answer, Desk, Rpc, Told};
use pitaya_driver::{Client, Cluster, Runtime as _, Server, ServerHandle};
use pitaya_proto::link::{Push, Seat};
use pitaya_proto::protos::{Msg, MsgType, Request, Response, RpcType};
use pitaya_tests::game::gate;
use pitaya_tests::sim::{self, Sim};
use prost::Message as _;
use serde::de::DeserializeOwned;

#[test]
fn a_server_that_a_carrier_names_is_a_member_and_is_called() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default()).await;
        world.desk().joined(room(1));
        let client = world.connect().await;
        let said: Result<String, _> = world
            .ask(&client, |to, request, answer| {
                let msg = Request::decode(&*request).unwrap().msg.unwrap();
                assert_eq!((to.id.as_str(), &*msg.route), ("room-1", "room.hall.echo"));
                assert_eq!(*msg.data, *b"null");
                answer.give(Ok(response(br#""hi""#)));
            })
            .await;
        assert_eq!(said.unwrap(), "hi");
    });
}

#[test]
fn a_server_that_is_idle_or_only_told_things_for_long_is_not_suspected() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default()).await;
        world.desk().joined(room(1));
        let client = world.connect().await;
        sim.sleep(Duration::from_secs(60)).await;
        for _ in 0..100 {
            client.notify("room.hall.tell", &1).unwrap();
            sim.sleep(Duration::from_millis(100)).await;
        }
        let told = world.carrier.told.lock().unwrap().len();
        assert_eq!((told, world.gate.counters().count(Counter::LinksSuspected)), (100, 0));
    });
}

#[test]
fn whoever_waits_for_an_answer_that_is_dropped_or_for_a_server_that_has_left_is_told_at_once() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default()).await;
        world.desk().joined(room(1));
        let client = world.connect().await;
        let dropped = world.ask::<()>(&client, |_, _, answer| drop(answer)).await;
        assert_eq!(code(dropped), "PIT-503");
        let (mut began, mut late) = (None, None);
        let lost = world.ask::<()>(&client, |life, _, answer| {
            (began, late) = (Some(sim.now()), Some(answer));
            world.desk().left(&life);
        });
        assert_eq!(code(lost.await), "PIT-503");
        assert!(sim.now().since(began.unwrap()) < Duration::from_secs(1));
        // It comes too late, and does no harm.
        late.unwrap().give(Ok(response(b"1")));
        assert_eq!(world.members(), ["gate-1"]);
        assert_eq!(*world.carrier.lost.lock().unwrap(), [], "the carrier knows it");
        assert_eq!(code(client.request::<_, ()>("room.hall.echo", &()).await), "PIT-500");
    });
}

#[test]
fn an_answer_that_no_frame_can_hold_is_an_error_and_harms_no_other() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default().link_frame_bytes_max(4096)).await;
        world.desk().joined(room(1));
        let client = world.connect().await;
        let long = format!("{:?}", "x".repeat(5000));
        let long = |_, _, answer: Answer| answer.give(Ok(response(long.as_bytes())));
        assert_eq!(code(world.ask::<String>(&client, long).await), "PIT-413");
        let short = |_, _, answer: Answer| answer.give(Ok(response(br#""y""#)));
        assert_eq!(world.ask::<String>(&client, short).await.unwrap(), "y");
    });
}

#[test]
fn a_later_life_of_a_server_takes_the_place_of_an_earlier_one_and_not_the_other_way_round() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default()).await;
        let client = world.connect().await;
        for (incarnation, current) in [(2, 2), (2, 2), (1, 2), (3, 3)] {
            world.desk().joined(room(incarnation));
            sim.sleep(Duration::from_secs(1)).await;
            let answered = world.ask::<u32>(&client, |life, _, answer| {
                assert_eq!(life.incarnation, Incarnation::new(current));
                answer.give(Ok(response(b"7")));
            });
            assert_eq!(answered.await.unwrap(), 7);
        }
        assert_eq!(world.gate.counters().count(Counter::LinksOpened), 2);
        world.desk().left(&life(2));
        sim.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.members(), ["gate-1", "room-1"], "it was over before");
    });
}

#[test]
fn lives_that_join_faster_than_they_are_linked_are_refused_and_may_join_again() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default().members_max(2)).await;
        (1..=5).for_each(|incarnation| world.desk().joined(room(incarnation)));
        assert_eq!(world.gate.counters().count(Counter::LinksRefused), 3);
        sim.sleep(Duration::from_secs(1)).await;
        world.desk().joined(room(5));
        let client = world.connect().await;
        let answered = world.ask::<u32>(&client, |life, _, answer| {
            assert_eq!(life.incarnation, Incarnation::new(5));
            answer.give(Ok(response(b"7")));
        });
        assert_eq!(answered.await.unwrap(), 7);
    });
}

#[test]
fn a_server_is_answered_by_the_remotes_here_and_strangers_are_not() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default()).await;
        world.desk().joined(room(1));
        let answered = world.called(&life(1), call("gate.trails.end")).await.unwrap();
        assert_eq!(Response::decode(&*answered).unwrap().error, None);
        let unknown = world.called(&life(1), call("gate.trails.none")).await.unwrap();
        assert_eq!(Response::decode(&*unknown).unwrap().error.unwrap().code, "PIT-404");
        let stranger = world.called(&life(2), call("gate.trails.end")).await;
        assert_eq!(stranger.unwrap_err().code, "PIT-503");
        let dropped = || world.gate.counters().count(Counter::LinkFramesDropped);
        assert_eq!(dropped(), 0);
        world.desk().told(&life(2), Told::Drains);
        assert_eq!(dropped(), 1);
    });
}

#[test]
fn a_server_that_calls_more_than_there_is_room_for_is_answered_at_once() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default().link_commands_max(3)).await;
        world.desk().joined(room(1));
        sim.sleep(Duration::from_secs(1)).await;
        let calls: Vec<_> =
            (0..5).map(|_| world.called(&life(1), call("gate.trails.end"))).collect();
        let mut codes = Vec::new();
        for called in calls {
            codes.push(called.await.map_or_else(|error| error.code.into_owned(), |_| "ok".into()));
        }
        assert_eq!(codes, ["ok", "ok", "ok", "PIT-503", "PIT-503"]);
    });
}

#[test]
fn a_notify_that_cannot_be_sent_is_counted_as_dropped_and_not_as_forwarded() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default().link_commands_max(1)).await;
        world.desk().joined(room(1));
        let client = world.connect().await;
        ["room.a.b"; 5].iter().chain(&["shop.a.b"]).for_each(|it| client.notify(it, &1).unwrap());
        sim.sleep(Duration::from_secs(1)).await;
        let told = world.carrier.told.lock().unwrap().len() as u64;
        let counts = [Counter::CallsForwarded, Counter::LinkFramesDropped];
        assert_eq!(counts.map(|it| world.gate.counters().count(it)), [told, 6 - told]);
    });
}

#[test]
fn a_server_that_says_that_it_drains_gets_no_new_calls() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default()).await;
        world.desk().joined(room(1));
        let client = world.connect().await;
        sim.sleep(Duration::from_secs(1)).await;
        world.desk().told(&life(1), Told::Drains);
        sim.sleep(Duration::from_secs(1)).await;
        assert_eq!(code(client.request::<_, ()>("room.hall.echo", &()).await), "PIT-500");
        world.gate.shutdown().await;
        assert_eq!(*world.carrier.told.lock().unwrap(), [Told::Drained, Told::Drains]);
        assert_eq!(*world.carrier.lost.lock().unwrap(), [], "it has left");
        assert!(world.carrier.desk.lock().unwrap().is_none(), "others do not see it any more");
    });
}

#[test]
fn a_call_that_was_on_its_way_when_a_server_said_that_it_drains_is_answered() {
    sim::run(1, |sim| async move {
        let (desk, stops) = stopping(&sim).await;
        sim.sleep(Duration::from_millis(5)).await;
        let (answer, answered) = answer();
        desk.called(&life(1), Duration::from_secs(5), call("gate.trails.end"), answer);
        desk.told(&life(1), Told::Drained);
        let answered = answered.await.unwrap().unwrap();
        assert_eq!(Response::decode(&*answered).unwrap().error, None);
        stops.await;
    });
}

#[test]
fn what_must_not_be_lost_finds_room_where_there_is_none() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default().link_commands_max(3)).await;
        world.desk().joined(room(1));
        sim.sleep(Duration::from_secs(1)).await;
        let dropped = || world.gate.counters().count(Counter::LinkFramesDropped);
        for _ in 0..3 {
            world.desk().told(&life(1), Told::Push(Push::default()));
        }
        for session in 0..3 {
            world.desk().told(&life(1), Told::Closed(session));
        }
        assert_eq!(dropped(), 0);
        world.desk().told(&life(1), Told::Push(Push::default()));
        assert_eq!(dropped(), 1);
        sim.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.members(), ["gate-1", "room-1"]);
    });
}

#[test]
fn what_must_not_be_lost_and_finds_no_room_costs_the_link_which_begins_anew() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default().link_commands_max(3)).await;
        world.desk().joined(room(1));
        let client = world.connect().await;
        let count = |counter| world.gate.counters().count(counter);
        let mut called = None;
        let lost = world.ask::<()>(&client, |_, _, answer| {
            called = Some((world.called(&life(1), call("gate.trails.end")), answer));
            for session in 0..1_000_000 {
                world.desk().told(&life(1), Told::Closed(session));
            }
        });
        assert_eq!(code(lost.await), "PIT-503");
        assert_eq!(called.unwrap().0.await.unwrap_err().code, "PIT-503");
        assert_eq!(world.members(), ["gate-1"]);
        assert_eq!(*world.carrier.lost.lock().unwrap(), [life(1)]);
        assert_eq!(count(Counter::LinksClosed), 1);
        // The call and five words had found room.
        assert_eq!(count(Counter::LinkFramesDropped), 1_000_000 - 5);
        world.desk().left(&life(1));
        world.desk().joined(room(1));
        sim.sleep(Duration::from_secs(1)).await;
        let answered =
            world.ask::<u32>(&client, |_, _, answer| answer.give(Ok(response(b"7")))).await;
        assert_eq!(answered.unwrap(), 7);
    });
}

#[test]
fn answers_that_find_no_room_are_errors_and_harm_no_link() {
    sim::run(1, |sim| async move {
        let limits = Limits::default().link_outbound_bytes_max(10_000);
        let world = World::start(&sim, limits).await;
        world.desk().joined(room(1));
        let client = world.connect().await;
        sim.sleep(Duration::from_secs(1)).await;
        let asked: Vec<_> =
            (0..5).map(|_| client.request::<_, String>("room.hall.echo", &())).collect();
        let taken = async {
            while world.carrier.calls.lock().unwrap().len() < 5 {
                sim.sleep(Duration::from_millis(1)).await;
            }
            let long = format!("{:?}", "x".repeat(4000));
            for (_, _, answer) in world.carrier.calls.lock().unwrap().drain(..) {
                answer.give(Ok(response(long.as_bytes())));
            }
        };
        let (answers, ()) = future::zip(futures::future::join_all(asked), taken).await;
        let (long, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!(long.len(), 2);
        assert!(refused.into_iter().all(|it| code(it) == "PIT-503"));
        assert_eq!(world.gate.counters().count(Counter::LinkCallsRefused), 3);
        assert_eq!(world.members(), ["gate-1", "room-1"]);
    });
}

#[test]
fn a_word_that_makes_no_sense_ends_the_link_and_the_other_server_has_to_hear_of_it() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default()).await;
        for (number, uid) in [String::new(), "a".repeat(129)].into_iter().enumerate() {
            world.desk().joined(room(1));
            sim.sleep(Duration::from_secs(1)).await;
            assert_eq!(world.members(), ["gate-1", "room-1"]);
            world.desk().told(&life(1), Told::Seat(Seat { uid, ..Seat::default() }));
            sim.sleep(Duration::from_secs(1)).await;
            assert_eq!(world.members(), ["gate-1"]);
            assert_eq!(world.carrier.lost.lock().unwrap().len(), number + 1);
        }
    });
}

#[test]
fn a_carrier_that_ends_reaches_nobody_any_more_and_whoever_waits_is_told() {
    sim::run(1, |sim| async move {
        let world = World::start(&sim, Limits::default()).await;
        world.desk().joined(room(1));
        let client = world.connect().await;
        let mut kept = None;
        let lost = world.ask::<()>(&client, |_, _, answer| {
            kept = Some(answer);
            world.carrier.ends.lock().unwrap().take();
        });
        assert_eq!(code(lost.await), "PIT-503");
        assert_eq!(world.members(), ["gate-1"]);
    });
}

#[test]
fn whoever_calls_a_server_that_stops_before_it_was_linked_is_told_in_the_end() {
    sim::run(1, |sim| async move {
        let (desk, stops) = stopping(&sim).await;
        desk.joined(ServerInfo { id: ServerId::new("room-2").unwrap(), ..room(1) });
        let (answer, answered) = answer();
        let late = Life { id: ServerId::new("room-2").unwrap(), ..life(1) };
        desk.called(&late, Duration::from_secs(5), call("gate.trails.end"), answer);
        desk.told(&life(1), Told::Drained);
        stops.await;
        assert_eq!(answered.await.unwrap().unwrap_err().code, "PIT-503");
    });
}

/// The desk of a gate that stops and has just said so to a room, which has not heard it yet; and
/// its end.
async fn stopping(sim: &Sim) -> (Desk, impl Future<Output = ()> + use<>) {
    let World { gate, carrier, .. } = {
        let world = World::start(sim, Limits::default()).await;
        world.desk().joined(room(1));
        sim.sleep(Duration::from_secs(1)).await;
        world
    };
    *carrier.is_slow.lock().unwrap() = true;
    let desk = carrier.desk.lock().unwrap().clone().unwrap();
    let stops = sim.start(async move { gate.shutdown().await });
    while carrier.told.lock().unwrap().is_empty() {
        sim.sleep(Duration::from_millis(1)).await;
    }
    (desk, stops)
}

/// A gate, and what carries its messages.
struct World {
    sim: Sim,
    gate: ServerHandle<Sim>,
    carrier: Arc<Carrier>,
}

/// What a carrier was given.
#[derive(Default)]
struct Carrier {
    calls: Mutex<Vec<(Life, Bytes, Answer)>>,
    told: Mutex<Vec<Told>>,
    lost: Mutex<Vec<Life>>,
    /// While it runs.
    desk: Mutex<Option<Desk>>,
    /// Nobody says that it has heard that this server drains.
    is_slow: Mutex<bool>,
    /// It ends once this is dropped.
    ends: Mutex<Option<oneshot::Sender<()>>>,
}

impl World {
    async fn start(sim: &Sim, limits: Limits) -> Self {
        let carrier = Arc::<Carrier>::default();
        let cluster = Cluster::through(Shared(Arc::clone(&carrier))).id("gate-1");
        let server = Server::new("gate", gate()).tcp("127.0.0.1:0").limits(limits);
        let gate = server.cluster(cluster).start_on(sim.clone()).await.unwrap();
        let world = Self { sim: sim.clone(), gate, carrier };
        while world.carrier.desk.lock().unwrap().is_none() {
            sim.sleep(Duration::from_millis(1)).await;
        }
        world
    }

    fn desk(&self) -> Desk {
        self.carrier.desk.lock().unwrap().clone().unwrap()
    }

    async fn connect(&self) -> Client<Sim, Json> {
        let address = self.gate.addresses()[0].to_string();
        Client::connect_on(self.sim.clone(), &address, Default::default()).await.unwrap()
    }

    /// What a client hears of a request that `take` gets as a call.
    async fn ask<T: DeserializeOwned>(
        &self, client: &Client<Sim, Json>, take: impl FnOnce(Life, Bytes, Answer),
    ) -> Result<T, RequestError> {
        let taken = async {
            loop {
                let call = self.carrier.calls.lock().unwrap().pop();
                if let Some((to, request, answer)) = call {
                    return take(to, request, answer);
                }
                self.sim.sleep(Duration::from_millis(1)).await;
            }
        };
        future::zip(client.request("room.hall.echo", &()), taken).await.0
    }

    fn called(&self, from: &Life, request: Bytes) -> HostFuture<Result<Bytes, Error>> {
        let (answer, answered) = answer();
        self.desk().called(from, Duration::from_secs(5), request, answer);
        Box::pin(async { answered.await.unwrap() })
    }

    fn members(&self) -> Vec<String> {
        let members = self.gate.members().unwrap();
        members.all().iter().map(|server| server.id.to_string()).collect()
    }
}

/// The carrier as its server has it.
struct Shared(Arc<Carrier>);

impl Rpc for Shared {
    fn call(&self, to: &Life, _: Duration, request: Bytes, answer: Answer) {
        self.0.calls.lock().unwrap().push((to.clone(), request, answer));
    }

    fn tell(&self, to: &Life, told: Told) {
        let desk = self.0.desk.lock().unwrap().clone();
        if told == Told::Drains && !*self.0.is_slow.lock().unwrap() {
            desk.into_iter().for_each(|desk| desk.told(to, Told::Drained));
        }
        self.0.told.lock().unwrap().push(told);
    }

    fn lost(&self, to: &Life) {
        self.0.lost.lock().unwrap().push(to.clone());
    }

    fn run(self: Arc<Self>, desk: Desk) -> HostFuture<()> {
        struct Runs(Arc<Carrier>);
        impl Drop for Runs {
            fn drop(&mut self) {
                *self.0.desk.lock().unwrap() = None;
            }
        }
        Box::pin(async move {
            let runs = Runs(Arc::clone(&self.0));
            let (ends, end) = oneshot::channel();
            *runs.0.ends.lock().unwrap() = Some(ends);
            *runs.0.desk.lock().unwrap() = Some(desk);
            // It says so by being dropped.
            let _ = end.await;
        })
    }
}

fn answer() -> (Answer, oneshot::Receiver<Result<Bytes, Error>>) {
    let (teller, told) = oneshot::channel();
    (Answer::new(|result| drop(teller.send(result))), told)
}

fn room(incarnation: u64) -> ServerInfo {
    ServerInfo {
        addresses: Vec::new(),
        frontend: false,
        hostname: "elsewhere".into(),
        id: ServerId::new("room-1").unwrap(),
        incarnation: Incarnation::new(incarnation),
        kind: "room".into(),
        metadata: BTreeMap::new(),
    }
}

fn life(incarnation: u64) -> Life {
    Life::from(&room(incarnation))
}

fn call(route: &str) -> Bytes {
    let msg = Msg { route: route.into(), r#type: MsgType::MsgRequest.into(), ..Msg::default() };
    let request = Request { r#type: RpcType::User.into(), msg: Some(msg), ..Request::default() };
    request.encode_to_vec().into()
}

fn response(data: &[u8]) -> Bytes {
    Response { data: Bytes::copy_from_slice(data), error: None }.encode_to_vec().into()
}

fn code<T: std::fmt::Debug>(result: Result<T, RequestError>) -> String {
    match result {
        Err(RequestError::Answered(error)) => error.code.into_owned(),
        other => panic!("{other:?}"),
    }
}
