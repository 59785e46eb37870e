//! Sessions in the simulator: what hooks, logins and pushes promise, whatever the order of things.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::or;
use pitaya_core::{App, Counter, Ctx, Error, Limits, Payload, Rng, Session, SessionId, State};
use pitaya_driver::{Acceptor, Runtime as _, Server, ServerHandle};
use pitaya_tests::raw::{RawClient, Received, notify, request};
use pitaya_tests::sim::{self, Sim, SimStream, Wire};

#[test]
fn a_connection_is_gone_once_its_close_hooks_are_done() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let nap = sim.clone();
            let app = App::new(()).on_close(move |_, _| {
                let nap = nap.clone();
                async move { nap.sleep(Duration::from_millis(100)).await }
            });
            let server = start(&sim, Server::new("gate", app)).await;
            let client = connect(&sim, &server, "ann").await;
            sim.sleep(SOON).await;
            assert_eq!((server.sessions(), server.connections()), (1, 1));
            drop(client);
            sim.sleep(Duration::from_millis(50)).await;
            assert_eq!((server.sessions(), server.connections()), (0, 1));
            sim.sleep(SOON).await;
            assert_eq!(server.connections(), 0);
        });
    }
}

#[test]
fn a_newer_login_stays_and_the_older_one_is_kicked() {
    for seed in sim::seeds(50) {
        sim::run(seed, |sim| async move {
            let hall = Hall::new(&sim);
            let server = start(&sim, Server::new("gate", app(&hall))).await;
            let mut older = connect(&sim, &server, "older").await;
            let mut newer = connect(&sim, &server, "newer").await;
            assert_eq!(ask_to_bind(&mut older, "ann").await, Some(reply("null")));
            assert_eq!(ask_to_bind(&mut newer, "ann").await, Some(reply("null")));
            let kick = Received::Kick("replaced by a newer login".to_owned());
            assert_eq!(older.rest().await.unwrap(), [kick]);
            assert_eq!(newer.request(2, "hall.whoami", "").await.unwrap().unwrap(), {
                Received::Reply(2, "\"ann\"".to_owned())
            });
            assert_eq!(server.sessions(), 1);
            assert_eq!(hall.closings(), ["replaced by a newer login"]);
            assert_eq!(server.counters().count(Counter::KicksSent), 1);
        });
    }
}

#[test]
fn a_handler_that_closes_its_session_cannot_bind_it_any_more() {
    sim::run(1, |sim| async move {
        let hall = Hall::new(&sim);
        let app = app(&hall).route("hall.leave", leave_and_bind);
        let server = start(&sim, Server::new("gate", app)).await;
        let mut ann = connect(&sim, &server, "ann").await;
        assert_eq!(ask_to_bind(&mut ann, "ann").await, Some(reply("null")));
        let mut leaver = connect(&sim, &server, "leaver").await;
        leaver.send(&request(1, "hall.leave", "\"ann\"")).await.unwrap();
        leaver.rest().await.unwrap();
        assert_eq!((server.sessions(), hall.closings()), (1, vec!["kicked: over".to_owned()]));
        assert_eq!(ann.request(2, "hall.whoami", "").await.unwrap(), {
            Some(Received::Reply(2, "\"ann\"".to_owned()))
        });
    });
}

#[test]
fn a_session_knows_by_which_kind_of_address_its_client_came() {
    for (source, version) in [
        ("TCP4 192.0.2.1 192.0.2.2", "ipv4"),
        ("TCP6 2001:db8::1 2001:db8::2", "ipv6"),
        ("TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2", "ipv4"),
    ] {
        sim::run(1, |sim| async move {
            let app = App::new(()).route("hall.version", version_of);
            let door = Acceptor::tcp("127.0.0.1:0").trusted_proxies(["10.0.0.0/8"]);
            let server = start(&sim, Server::new("gate", app).accept(door)).await;
            let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
            client.send(format!("PROXY {source} 1 2\r\n").as_bytes()).await.unwrap();
            client.open("ann").await.unwrap();
            let reply = client.request(1, "hall.version", "").await.unwrap();
            assert_eq!(reply, Some(Received::Reply(1, format!("\"{version}\""))), "{source}");
        });
    }
}

#[test]
fn a_session_whose_client_does_not_come_back_in_its_window_closes_and_tells_it_once() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let hall = Hall::new(&sim);
            let limits = Limits::default().resume_window(Duration::from_secs(2));
            let server = start(&sim, Server::new("gate", app(&hall)).limits(limits)).await;
            let client = connect(&sim, &server, "ann").await;
            drop(client);
            sim.sleep(Duration::from_millis(1900)).await;
            assert_eq!((server.sessions(), hall.closings().len()), (1, 0));
            sim.sleep(Duration::from_millis(200)).await;
            assert_eq!((server.sessions(), hall.closings().len()), (0, 1));
            sim.sleep(Duration::from_secs(10)).await;
            assert_eq!((server.connections(), hall.closings().len()), (0, 1));
        });
    }
}

#[test]
fn a_bind_that_a_hook_refuses_leaves_the_session_free_for_another() {
    sim::run(1, |sim| async move {
        let hall = Hall::new(&sim);
        let server = start(&sim, Server::new("gate", app(&hall))).await;
        let mut client = connect(&sim, &server, "client").await;
        let banned = Received::Error(1, "BANNED".to_owned());
        assert_eq!(ask_to_bind(&mut client, "eve").await, Some(banned));
        assert_eq!(ask_to_bind(&mut client, "ann").await, Some(reply("null")));
        assert!(server.kick("eve", "over").is_err());
        assert!(server.kick("ann", "over").is_ok());
    });
}

#[test]
fn pushes_that_overflow_close_the_client_that_does_not_read_and_no_other() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let hall = Hall::new(&sim);
            let limits = Limits::default().outbound_packets_max(16);
            let server = start(&sim, Server::new("gate", app(&hall)).limits(limits)).await;
            let mut honest = connect(&sim, &server, "honest").await;
            let wire = Wire::default().window_bytes(200);
            let slow = sim.dial(server.addresses()[0], wire).await.unwrap();
            let mut slow = RawClient::new(slow);
            slow.open("slow").await.unwrap();
            for client in [&mut honest, &mut slow] {
                client.send(&notify("hall.listen", "100")).await.unwrap();
            }
            for tick in 0..100 {
                let push = Received::Push("onTick".to_owned(), tick.to_string());
                assert_eq!(honest.next().await.unwrap(), Some(push));
            }
            sim.sleep(Duration::from_secs(1)).await;
            assert_eq!(hall.closings(), ["the client reads too slowly for what is pushed to it"]);
            assert_eq!(server.counters().count(Counter::ConnectionsSlow), 1);
            let pong = honest.request(1, "hall.whoami", "").await.unwrap();
            assert_eq!(pong, Some(reply("null")));
        });
    }
}

#[test]
fn of_two_who_do_not_read_the_one_that_holds_more_is_closed_when_too_much_waits_for_both() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let hall = Hall::new(&sim);
            let limits = Limits::default().process_outbound_bytes_max(1000);
            let server = start(&sim, Server::new("gate", app(&hall)).limits(limits)).await;
            let mut slow = Vec::new();
            for ticks in ["20", "100"] {
                let wire = Wire::default().window_bytes(200);
                let stream = sim.dial(server.addresses()[0], wire).await.unwrap();
                let mut client = RawClient::new(stream);
                client.open("slow").await.unwrap();
                client.send(&notify("hall.listen", ticks)).await.unwrap();
                slow.push(client);
            }
            sim.sleep(Duration::from_secs(3)).await;
            assert_eq!(hall.closings(), ["the client reads too slowly for what is pushed to it"]);
            assert_eq!(server.counters().count(Counter::OutboundShed), 1);
            for tick in 0..20 {
                let push = Received::Push("onTick".to_owned(), tick.to_string());
                assert_eq!(slow[0].next().await.unwrap(), Some(push));
            }
            // What was written and what was shed no longer counts.
            slow[0].send(&notify("hall.listen", "20")).await.unwrap();
            sim.sleep(Duration::from_secs(1)).await;
            assert_eq!((server.sessions(), server.connections()), (1, 1));
        });
    }
}

#[test]
fn a_handler_runs_on_when_its_client_is_closed_for_what_waits_for_all() {
    sim::run(1, |sim| async move {
        let hall = Hall::new(&sim);
        let limits = Limits::default().process_outbound_bytes_max(1000);
        let app = app(&hall).notify("hall.buy", buy);
        let server = start(&sim, Server::new("gate", app).limits(limits)).await;
        let wire = Wire::default().window_bytes(200);
        let stream = sim.dial(server.addresses()[0], wire).await.unwrap();
        let mut client = RawClient::new(stream);
        client.open("slow").await.unwrap();
        client.send(&notify("hall.buy", "")).await.unwrap();
        sim.sleep(SOON).await;
        assert_eq!((server.sessions(), hall.closings().len()), (0, 1));
        assert!(!hall.is_bound("bought"));
        sim.sleep(Duration::from_secs(5)).await;
        assert!(hall.is_bound("bought"));
    });
}

#[test]
fn whoever_binds_and_leaves_in_whatever_order_hooks_and_logins_stay_right() {
    let mut seen = BTreeMap::new();
    for seed in sim::seeds(200) {
        for outcome in sim::run(seed, |sim| crowd(sim, Rng::new(seed))) {
            *seen.entry(outcome).or_insert(0) += 1;
        }
    }
    println!("{seen:?}");
    let all = [Outcome::Kicked, Outcome::Left, Outcome::Refused, Outcome::Stayed];
    assert!(std::env::var("PITAYA_SEED").is_ok() || seen.keys().eq(all.iter()), "{seen:?}");
}

/// What became of a client that tried to bind.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Outcome {
    /// A newer login came.
    Kicked,
    /// It left, or its connection did.
    Left,
    /// A bind hook said no.
    Refused,
    /// It stayed until the server kicked it at the end.
    Stayed,
}

/// Many clients with few user ids, who come, bind and leave at any time.
async fn crowd(sim: Sim, mut chance: Rng) -> Vec<Outcome> {
    let hall = Hall::new(&sim);
    let limits = Limits::default().heartbeat(Duration::from_secs(3600)).binds_max(usize::MAX);
    let server = start(&sim, Server::new("gate", app(&hall)).limits(limits)).await;
    let address = server.addresses()[0];
    let visits: Vec<_> = (0..12)
        .map(|_| {
            let (dialler, chance) = (sim.clone(), Rng::new(chance.next_u64()));
            sim.start(async move {
                dialler.sleep(Duration::from_millis(Rng::clone(&chance).below(60))).await;
                let stream = dialler.connect(address).await.unwrap();
                visit(&dialler, RawClient::new(stream), chance).await
            })
        })
        .collect();
    sim.sleep(Duration::from_secs(10)).await;
    hall.judge_logins(&server);
    let mut outcomes = Vec::new();
    for visit in visits {
        outcomes.push(visit.await);
    }
    let counters = Arc::clone(server.counters());
    server.shutdown().await;
    hall.judge_sessions(counters.count(Counter::SessionsOpened));
    assert_eq!(counters.count(Counter::SessionsClosed), counters.count(Counter::SessionsOpened));
    assert_eq!(counters.count(Counter::ShutdownsCut), 0);
    outcomes
}

async fn visit(sim: &Sim, mut client: RawClient<SimStream>, mut chance: Rng) -> Outcome {
    client.open("visitor").await.unwrap();
    let uid = ["ann", "bob", "eve"][chance.below(3) as usize];
    client.send(&request(1, "hall.bind", &format!("\"{uid}\""))).await.unwrap();
    let stays = Duration::from_millis(chance.below(100)) * 1000_u32.pow(chance.below(2) as u32);
    let leaves = async {
        sim.sleep(stays.min(Duration::from_secs(20))).await;
        None
    };
    let outcome = or(async { Some(read(&mut client).await) }, leaves).await;
    match (outcome, chance.below(3)) {
        (Some(outcome), _) => return outcome,
        (None, 0) => client.into_stream().reset(),
        (None, 1) => {
            client.end().await.unwrap();
            client.rest().await.unwrap();
        }
        (None, _) => drop(client),
    }
    Outcome::Left
}

/// Reads until the client is refused or kicked; one that is bound reads for ever.
async fn read(client: &mut RawClient<SimStream>) -> Outcome {
    loop {
        match client.next().await.unwrap() {
            Some(Received::Reply(1, _)) => {}
            Some(Received::Error(1, code)) => {
                assert_eq!(code, "BANNED");
                return Outcome::Refused;
            }
            Some(Received::Kick(why)) => {
                assert_eq!(client.rest().await.unwrap(), [], "nothing follows a kick");
                return if why == "over" { Outcome::Stayed } else { Outcome::Kicked };
            }
            other => panic!("not expected: {other:?}"),
        }
    }
}

/// The application and what became of its sessions.
#[derive(Clone)]
struct Hall {
    notes: Arc<Mutex<Vec<(SessionId, Note)>>>,
    sim: Sim,
}

#[derive(Debug)]
enum Note {
    Bound(String),
    Closed(String),
}

impl Hall {
    fn new(sim: &Sim) -> Self {
        Self { notes: Arc::default(), sim: sim.clone() }
    }

    fn note(&self, session: &Session, note: Note) {
        self.notes.lock().unwrap().push((session.id(), note));
    }

    fn is_bound(&self, uid: &str) -> bool {
        let notes = self.notes.lock().unwrap();
        notes.iter().any(|(_, note)| matches!(note, Note::Bound(bound) if bound == uid))
    }

    fn closings(&self) -> Vec<String> {
        let notes = self.notes.lock().unwrap();
        let closing = |(_, note): &(SessionId, Note)| match note {
            Note::Closed(reason) => Some(reason.clone()),
            Note::Bound(_) => None,
        };
        notes.iter().filter_map(closing).collect()
    }

    fn closing(&self, session: SessionId) -> Option<String> {
        let notes = self.notes.lock().unwrap();
        notes.iter().find_map(|(id, note)| match note {
            Note::Closed(reason) if *id == session => Some(reason.clone()),
            Note::Bound(_) | Note::Closed(_) => None,
        })
    }

    /// Once it is quiet, a user id belongs to the session that bound it last if that is still here,
    /// and to nobody otherwise. All who are here are kicked.
    fn judge_logins(&self, server: &ServerHandle<Sim>) {
        let mut logins = BTreeMap::new();
        let bound = |(session, note): &(SessionId, Note)| match note {
            Note::Bound(uid) => Some((uid.clone(), *session)),
            Note::Closed(_) => None,
        };
        let all: Vec<_> = self.notes.lock().unwrap().iter().filter_map(bound).collect();
        for (uid, session) in all {
            if let Some(older) = logins.insert(uid, session) {
                assert!(self.closing(older).is_some(), "two sessions of one user id live");
            }
        }
        assert!(!logins.contains_key("eve"), "a refused bind has bound");
        for uid in ["ann", "bob", "eve"] {
            let closing = logins.get(uid).map(|session| self.closing(*session));
            assert_ne!(closing, Some(Some(REPLACED.to_owned())), "the newest login of {uid} left");
            assert_eq!(server.kick(uid, "over").is_ok(), closing == Some(None), "{uid}");
        }
    }

    /// Every session that began was closed exactly once, and is not bound after that.
    fn judge_sessions(&self, opened: u64) {
        let mut closed = BTreeMap::new();
        for (session, note) in self.notes.lock().unwrap().iter() {
            let first = closed.insert(*session, matches!(note, Note::Closed(_)));
            assert_ne!(first, Some(true), "after its close {session:?} is {note:?}");
        }
        assert!(closed.values().all(|closed| *closed));
        assert_eq!(closed.len() as u64, opened);
    }
}

fn app(hall: &Hall) -> App<Hall> {
    let (asked, told) = (hall.clone(), hall.clone());
    App::new(hall.clone())
        .route("hall.bind", bind)
        .notify("hall.listen", listen)
        .route("hall.whoami", whoami)
        .on_bind(move |session, uid| {
            let sim = asked.sim.clone();
            async move {
                sim.sleep(Duration::from_millis(session.id().number() * 7 % 20)).await;
                if &*uid == "eve" { Err(Error::new("BANNED", "not here")) } else { Ok(()) }
            }
        })
        .on_close(move |session, reason| {
            told.note(&session, Note::Closed(reason.to_string()));
            std::future::ready(())
        })
}

async fn leave_and_bind(session: Session, Payload(uid): Payload<String>) -> Result<(), Error> {
    session.kick("over")?;
    session.bind(&uid).await
}

async fn version_of(session: Session) -> Result<Option<String>, Error> {
    Ok(session.get("ipversion"))
}

async fn bind(
    session: Session, State(hall): State<Hall>, Payload(uid): Payload<String>,
) -> Result<(), Error> {
    session.bind(&uid).await?;
    hall.note(&session, Note::Bound(uid));
    Ok(())
}

/// Ticks, some at a time.
async fn listen(ctx: Ctx, session: Session, Payload(ticks): Payload<u32>) -> Result<(), Error> {
    for tick in 0..ticks {
        session.push("onTick", &tick)?;
        ctx.sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn buy(ctx: Ctx, session: Session, State(hall): State<Hall>) -> Result<(), Error> {
    (0..200).try_for_each(|tick| session.push("onTick", &tick))?;
    ctx.sleep(Duration::from_secs(4)).await;
    hall.note(&session, Note::Bound("bought".to_owned()));
    Ok(())
}

async fn whoami(session: Session) -> Result<Option<String>, Error> {
    Ok(session.uid().map(str::to_owned))
}

async fn ask_to_bind(client: &mut RawClient<SimStream>, uid: &str) -> Option<Received> {
    client.request(1, "hall.bind", &format!("\"{uid}\"")).await.unwrap()
}

fn reply(body: &str) -> Received {
    Received::Reply(1, body.to_owned())
}

async fn start(sim: &Sim, server: Server<Sim>) -> ServerHandle<Sim> {
    server.tcp("127.0.0.1:0").start_on(sim.clone()).await.unwrap()
}

async fn connect(sim: &Sim, server: &ServerHandle<Sim>, name: &str) -> RawClient<SimStream> {
    let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
    client.open(name).await.unwrap();
    client
}

/// Longer than any packet takes.
const SOON: Duration = Duration::from_millis(100);
const REPLACED: &str = "replaced by a newer login";
