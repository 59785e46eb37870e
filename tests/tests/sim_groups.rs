//! Groups in the simulator: who gets what is pushed to many, and in which order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use pitaya_core::{App, Counter, Ctx, Error, Group, Limits, Payload, Rng, Session, State};
use pitaya_driver::{Runtime as _, Server, ServerHandle};
use pitaya_tests::raw::{RawClient, Received, notify, request};
use pitaya_tests::sim::{self, Sim, SimStream, Wire};

#[test]
fn a_push_to_a_group_reaches_its_members_and_nobody_else() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let server = start(&sim, Limits::default()).await;
            let mut members = Vec::new();
            for size in 1..=4 {
                members.push(join(&sim, &server).await);
                for member in &mut members {
                    assert_eq!(member.next().await.unwrap(), Some(push("onJoin", size)));
                }
                assert_eq!(members[size - 1].next().await.unwrap(), Some(reply(1, size)));
            }
            let mut stranger = connect(&sim, &server).await;
            assert_eq!(ask(&mut stranger, 1, "hall.say", 7).await, reply(1, 4));
            for member in &mut members {
                assert_eq!(member.next().await.unwrap(), Some(push("onSay", 7)));
            }
            let mut left = members.remove(1);
            assert_eq!(ask(&mut left, 2, "hall.leave", 0).await, reply(2, 3));
            assert_eq!(ask(&mut left, 3, "hall.say", 8).await, reply(3, 3));
            assert_eq!(ask(&mut stranger, 2, "hall.size", 0).await, reply(2, 3));
        });
    }
}

#[test]
fn a_session_that_closes_leaves_its_groups_at_once() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let server = start(&sim, Limits::default()).await;
            let mut witness = connect(&sim, &server).await;
            for ended in 1..=3 {
                let mut client = join(&sim, &server).await;
                assert_eq!(client.next().await.unwrap(), Some(push("onJoin", 1)));
                // Its reply is unread, if it has come.
                match ended {
                    1 => drop(client),
                    2 => client.into_stream().reset(),
                    _ => client.send(b"no packet").await.unwrap(),
                }
                sim.sleep(SOON).await;
                let asked = ask(&mut witness, ended, "hall.size", 0).await;
                assert_eq!(asked, reply(ended, 0), "after end {ended}");
            }
        });
    }
}

#[test]
fn pushes_to_a_session_and_to_its_group_keep_the_order_of_their_sender() {
    for seed in sim::seeds(50) {
        sim::run(seed, |sim| async move {
            let server = start(&sim, Limits::default()).await;
            let mut other = join(&sim, &server).await;
            let mut one = join(&sim, &server).await;
            for expected in [push("onJoin", 1), reply(1, 1), push("onJoin", 2)] {
                assert_eq!(other.next().await.unwrap(), Some(expected));
            }
            for expected in [push("onJoin", 2), reply(1, 2)] {
                assert_eq!(one.next().await.unwrap(), Some(expected));
            }
            one.send(&request(2, "hall.both", "40")).await.unwrap();
            for number in 0..40 {
                assert_eq!(one.next().await.unwrap(), Some(push("onOne", number)));
                assert_eq!(one.next().await.unwrap(), Some(push("onAll", number)));
                assert_eq!(other.next().await.unwrap(), Some(push("onAll", number)));
            }
            assert_eq!(one.next().await.unwrap(), Some(reply(2, 0)));
        });
    }
}

#[test]
fn a_member_that_does_not_read_is_closed_and_delays_no_other() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let limits = Limits::default().outbound_packets_max(16);
            let server = start(&sim, limits).await;
            let wire = Wire::default().window_bytes(200);
            let mut slow = RawClient::new(sim.dial(server.addresses()[0], wire).await.unwrap());
            slow.open("slow").await.unwrap();
            slow.send(&notify("hall.join", "0")).await.unwrap();
            sim.sleep(SOON).await;
            let mut honest = join(&sim, &server).await;
            assert_eq!(honest.next().await.unwrap(), Some(push("onJoin", 2)));
            assert_eq!(honest.next().await.unwrap(), Some(reply(1, 2)));
            honest.send(&notify("hall.tick", "100")).await.unwrap();
            for number in 0..100 {
                let began = sim.now();
                assert_eq!(honest.next().await.unwrap(), Some(push("onTick", number)));
                assert!(sim.now().since(began) < SOON, "tick {number} was late");
            }
            assert_eq!(ask(&mut honest, 2, "hall.size", 0).await, reply(2, 1));
            assert_eq!(server.counters().count(Counter::ConnectionsSlow), 1);
            assert_eq!(server.counters().count(Counter::PushesRefused), 1);
        });
    }
}

#[test]
fn whoever_comes_and_goes_the_group_holds_those_who_are_here() {
    for seed in sim::seeds(50) {
        sim::run(seed, |sim| crowd(sim, Rng::new(seed)));
    }
}

/// Clients that join, are pushed to, leave and vanish at any time, some of them twice at once.
async fn crowd(sim: Sim, mut chance: Rng) {
    let server = start(&sim, Limits::default().group_members_max(6)).await;
    let mut here = Vec::new();
    for _ in 0..60 {
        match chance.below(4) {
            0 | 1 => {
                let mut client = connect(&sim, &server).await;
                client.send(&notify("hall.join", "0")).await.unwrap();
                client.send(&notify("hall.join", "0")).await.unwrap();
                here.push(client);
            }
            2 if !here.is_empty() => drop(here.remove(chance.below(here.len() as u64) as usize)),
            _ => sim.sleep(Duration::from_millis(chance.below(30))).await,
        }
    }
    sim.sleep(SOON).await;
    let mut witness = connect(&sim, &server).await;
    let Received::Reply(1, size) = ask(&mut witness, 1, "hall.size", 0).await else { panic!() };
    let size: usize = size.parse().unwrap();
    assert!(size <= here.len().min(6), "{size} members of {} sessions", here.len());
    here.clear();
    sim.sleep(SOON).await;
    assert_eq!(ask(&mut witness, 2, "hall.size", 0).await, reply(2, 0));
}

fn app() -> App<Group> {
    App::new(Group::default())
        .route("hall.both", both)
        .route("hall.join", enter)
        .route("hall.leave", leave)
        .route("hall.say", say)
        .route("hall.size", size)
        .notify("hall.tick", tick)
}

/// Tells all, the new one too, how many there are.
async fn enter(session: Session, State(hall): State<Group>) -> Result<usize, Error> {
    if hall.join(&session) {
        hall.push("onJoin", &hall.len())?;
    }
    Ok(hall.len())
}

async fn leave(session: Session, State(hall): State<Group>) -> Result<usize, Error> {
    assert!(hall.leave(&session));
    Ok(hall.len())
}

async fn say(State(hall): State<Group>, Payload(number): Payload<u32>) -> Result<usize, Error> {
    hall.push("onSay", &number)
}

async fn size(State(hall): State<Group>) -> Result<usize, Error> {
    Ok(hall.len())
}

async fn both(
    session: Session, State(hall): State<Group>, Payload(count): Payload<u32>,
) -> Result<u32, Error> {
    for number in 0..count {
        session.push("onOne", &number)?;
        hall.push("onAll", &number)?;
    }
    Ok(0)
}

async fn tick(
    ctx: Ctx, State(hall): State<Group>, Payload(count): Payload<u32>,
) -> Result<(), Error> {
    for number in 0..count {
        hall.push("onTick", &number)?;
        ctx.sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn start(sim: &Sim, limits: Limits) -> ServerHandle<Sim> {
    let server = Server::new("gate", app()).limits(limits);
    server.tcp("127.0.0.1:0").start_on(sim.clone()).await.unwrap()
}

async fn connect(sim: &Sim, server: &ServerHandle<Sim>) -> RawClient<SimStream> {
    let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
    client.open("somebody").await.unwrap();
    client
}

/// A client that has asked to join.
async fn join(sim: &Sim, server: &ServerHandle<Sim>) -> RawClient<SimStream> {
    let mut client = connect(sim, server).await;
    client.send(&request(1, "hall.join", "0")).await.unwrap();
    client
}

async fn ask(client: &mut RawClient<SimStream>, id: u64, route: &str, body: u32) -> Received {
    client.request(id, route, &body.to_string()).await.unwrap().unwrap()
}

fn push(route: &str, number: usize) -> Received {
    Received::Push(route.to_owned(), number.to_string())
}

fn reply(id: u64, number: usize) -> Received {
    Received::Reply(id, number.to_string())
}

/// Longer than any packet takes.
const SOON: Duration = Duration::from_millis(100);
