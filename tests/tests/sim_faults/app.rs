//! The handlers of all servers: each tells the ledger when it begins and when it ends.

use std::sync::Arc;
use std::time::Duration;

use pitaya_core::cluster::Users;
use pitaya_core::{App, CloseReason, Ctx, Error, Instant, Options, Payload, Session, State};
use pitaya_tests::sim::Sim;
use serde::{Deserialize, Serialize};

use super::ledger::{Ledger, Pushed};

/// One life of one server.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) kind: &'static str,
    pub(crate) ledger: Arc<Ledger>,
    /// Such as `gate-0/1`.
    pub(crate) life: String,
    pub(crate) sim: Sim,
}

/// What a client asks.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Ask {
    pub(crate) nonce: u64,
    pub(crate) times: u64,
    pub(crate) uid: String,
}

/// What it is told.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Told {
    pub(crate) nonce: u64,
    pub(crate) key: String,
    pub(crate) uid: String,
    pub(crate) missing: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Check {
    #[prost(uint64, tag = "1")]
    nonce: u64,
    /// The life that is meant.
    #[prost(uint64, tag = "2")]
    incarnation: u64,
}

type Answer = Result<Told, Error>;

pub(crate) fn app(place: Place) -> App<Place> {
    App::new(place.clone())
        .nest("hall", |hall| {
            hall.route("hello", hello)
                .route("echo", echo)
                .route("who", echo)
                .route("fail", fail)
                .route("hang", hang)
                .route("kick", kick)
                .route("login", login)
                .notify("note", note)
                .route("push", push)
                .route_with("quick", Options::concurrent(), quick)
                .route("rpc", rpc)
                .route("shout", shout)
                .route("sleep", sleep)
        })
        .remote("scores.check", check)
        .on_close(move |session: Session, why| {
            let place = place.clone();
            async move { place.close(&session, &why) }
        })
}

impl Place {
    fn now(&self) -> Instant {
        self.sim.time()
    }

    fn begin(&self, session: &Session, nonce: u64, ordered: bool) -> Run {
        let key: String = session.get("key").unwrap_or_default();
        let run = self.ledger.begin(self.now(), &self.life, &key, nonce, ordered);
        Run { key, nonce, place: self.clone(), run, uid: session.uid().unwrap_or("").to_owned() }
    }

    fn close(&self, session: &Session, why: &CloseReason) {
        if let Some(key) = session.get::<String>("key") {
            self.ledger.close(&key, *why == CloseReason::Replaced);
        }
    }
}

/// A handler at work; it has ended when this is dropped.
struct Run {
    key: String,
    nonce: u64,
    place: Place,
    run: usize,
    uid: String,
}

impl Run {
    fn done(self, missing: Vec<String>) -> Told {
        self.place.ledger.done(self.run);
        let (key, uid) = (self.key.clone(), self.uid.clone());
        Told { nonce: self.nonce, key, uid, missing }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.place.ledger.end(self.place.now(), self.run);
    }
}

/// The first word of every connection: the session is named.
async fn hello(
    State(place): State<Place>, session: Session, Payload(client): Payload<usize>,
) -> Result<String, Error> {
    let key = format!("{}/{}", place.life, session.id().number());
    session.set("key", &key)?;
    place.ledger.open(&key, client);
    Ok(key)
}

async fn echo(State(place): State<Place>, session: Session, Payload(ask): Payload<Ask>) -> Answer {
    Ok(place.begin(&session, ask.nonce, true).done(Vec::new()))
}

async fn quick(State(place): State<Place>, session: Session, ask: Payload<Ask>) -> Answer {
    Ok(place.begin(&session, ask.0.nonce, false).done(Vec::new()))
}

async fn note(State(place): State<Place>, session: Session, ask: Payload<Ask>) {
    place.begin(&session, ask.0.nonce, true).done(Vec::new());
}

async fn fail(State(place): State<Place>, session: Session, ask: Payload<Ask>) -> Answer {
    place.begin(&session, ask.0.nonce, true).done(Vec::new());
    Err(Error::new("HALL-1", "no"))
}

async fn hang(State(place): State<Place>, session: Session, ask: Payload<Ask>) -> Answer {
    let _run = place.begin(&session, ask.0.nonce, true);
    std::future::pending().await
}

async fn sleep(
    ctx: Ctx, State(place): State<Place>, session: Session, Payload(ask): Payload<Ask>,
) -> Answer {
    let run = place.begin(&session, ask.nonce, true);
    ctx.sleep(Duration::from_millis(ask.times)).await;
    Ok(run.done(Vec::new()))
}

async fn kick(State(place): State<Place>, session: Session, ask: Payload<Ask>) -> Answer {
    let run = place.begin(&session, ask.0.nonce, true);
    session.kick("go")?;
    Ok(run.done(Vec::new()))
}

async fn login(State(place): State<Place>, session: Session, Payload(ask): Payload<Ask>) -> Answer {
    let mut run = place.begin(&session, ask.nonce, true);
    place.ledger.claim(&run.key, &ask.uid);
    session.bind(&ask.uid).await?;
    place.ledger.bind(&run.key, &ask.uid);
    run.uid = ask.uid;
    Ok(run.done(Vec::new()))
}

async fn push(
    ctx: Ctx, State(place): State<Place>, session: Session, Payload(ask): Payload<Ask>,
) -> Answer {
    let run = place.begin(&session, ask.nonce, true);
    for _ in 0..ask.times {
        let (sender, to) = (place.life.clone(), run.key.clone());
        let number = place.ledger.next_push(&sender, &to);
        session.push("onPush", &Pushed { number, nonce: ask.nonce, sender, to })?;
        if ask.times > 2 {
            ctx.sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(run.done(Vec::new()))
}

async fn shout(
    users: Users, State(place): State<Place>, session: Session, Payload(ask): Payload<Ask>,
) -> Answer {
    let run = place.begin(&session, ask.nonce, true);
    let mut missing = Vec::new();
    for number in 0..2 {
        let (sender, to) = (format!("shout {}", ask.nonce), ask.uid.clone());
        let pushed = Pushed { number, nonce: ask.nonce, sender, to };
        missing = users.push("gate", [ask.uid.clone()], "onShout", &pushed).await?;
    }
    Ok(run.done(missing))
}

/// Calls a server of the other kind, and says which life of it is meant.
async fn rpc(
    ctx: Ctx, State(place): State<Place>, session: Session, Payload(ask): Payload<Ask>,
) -> Answer {
    let run = place.begin(&session, ask.nonce, true);
    let other = if place.kind == "gate" { "room" } else { "gate" };
    let servers = ctx.servers().ok_or_else(|| Error::unknown("it is alone"))?;
    let candidates = servers.candidates(other);
    let chosen = candidates.get(ask.nonce as usize % candidates.len().max(1));
    let chosen = chosen.ok_or_else(|| Error::new("HALL-2", "nobody is there"))?;
    let meant = Check { nonce: ask.nonce, incarnation: chosen.incarnation.number() };
    let _: Check = ctx.rpc_to(&chosen.id, &format!("{other}.scores.check"), &meant).await?;
    Ok(run.done(Vec::new()))
}

async fn check(
    ctx: Ctx, State(place): State<Place>, Payload(meant): Payload<Check>,
) -> Result<Check, Error> {
    let me = ctx.servers().map(|servers| servers.me().incarnation.number());
    place.ledger.note_remote(&place.life, meant.nonce, me == Some(meant.incarnation));
    Ok(meant)
}
