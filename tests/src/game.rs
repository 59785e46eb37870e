//! What gates and rooms do in tests of several servers.

use std::sync::Arc;
use std::time::Duration;

use pitaya_core::cluster::{ServerId, ServerInfo, Users};
use pitaya_core::{App, Ctx, Error, Payload, Session, State};
use serde::{Deserialize, Serialize};

/// Something for several users.
#[derive(Deserialize, Serialize)]
pub struct Shout<T> {
    /// To whom.
    pub uids: Vec<T>,
    /// What.
    pub text: T,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Score {
    #[prost(int64, tag = "1")]
    points: i64,
}

/// Where a call between servers has been, and how long its first caller still waits.
#[derive(Clone, PartialEq, prost::Message)]
struct Trail {
    #[prost(string, repeated, tag = "1")]
    steps: Vec<String>,
    #[prost(uint64, tag = "2")]
    remaining_millis: u64,
}

/// A gate: logins, and what it asks of others.
pub fn gate() -> App {
    async fn double(ctx: Ctx, Payload(points): Payload<i64>) -> Result<i64, Error> {
        let score: Score = ctx.rpc("room.scores.double", &Score { points }).await?;
        Ok(score.points)
    }
    async fn kick(users: Users, Payload(uid): Payload<String>) -> Result<Vec<String>, Error> {
        users.kick("gate", [uid], "go").await
    }
    async fn trail(mut ctx: Ctx) -> Result<(Vec<String>, u64), Error> {
        ctx.sleep(Duration::from_secs(1)).await;
        ctx.context = ctx.context.with("began", "gate".into());
        let trail: Trail = ctx.rpc("room.scores.trail", &Trail::default()).await?;
        Ok((trail.steps, trail.remaining_millis))
    }
    async fn name(ctx: Ctx, Payload(id): Payload<String>) -> Result<Vec<String>, Error> {
        let id = ServerId::new(&id).ok_or_else(|| Error::unknown("no name"))?;
        let named: Trail = ctx.rpc_to(&id, "room.scores.name", &Trail::default()).await?;
        Ok(named.steps)
    }
    async fn call_own_kind(ctx: Ctx) -> Result<(), Error> {
        ctx.rpc("gate.trails.end", &Trail::default()).await.map(|_: Trail| ())
    }
    async fn servers(ctx: Ctx, Payload(id): Payload<String>) -> Result<Servers, Error> {
        let servers = ctx.servers().ok_or_else(|| Error::unknown("alone"))?;
        let described = |server: &Arc<ServerInfo>| {
            let floor = server.metadata.get("floor").cloned().unwrap_or_default();
            format!("{} {} {floor}", server.kind, server.id)
        };
        let one = ServerId::new(&id).and_then(|id| servers.by_id(&id).map(described));
        let rooms = servers.of_kind("room").iter().map(described).collect();
        Ok((one, rooms, servers.all().len()))
    }
    App::new(())
        .nest("me", |me| {
            me.route("login", login)
                .route("who", who)
                .route("double", double)
                .route("kick", kick)
                .route("trail", trail)
                .route("name", name)
                .route("own", call_own_kind)
                .route("servers", servers)
        })
        .remote("trails.end", |ctx: Ctx| async move { Ok::<_, Error>(step(&ctx)) })
}

/// One server, those that are rooms, and how many there are.
type Servers = (Option<String>, Vec<String>, usize);

fn step(ctx: &Ctx) -> Trail {
    let steps = ["began", "then"].map(|name| ctx.context.value(name)?.as_str().map(str::to_owned));
    let remaining_millis = ctx.remaining().as_millis() as u64;
    Trail { steps: steps.into_iter().flatten().collect(), remaining_millis }
}

async fn login(session: Session, Payload(uid): Payload<String>) -> Result<(), Error> {
    session.bind(&uid).await?;
    session.set("level", 7)
}

async fn who(session: Session) -> Result<(String, u32), Error> {
    let uid = session.uid().unwrap_or_default().to_owned();
    Ok((uid, session.get("level").unwrap_or_default()))
}

async fn shout(users: Users, Payload(shout): Payload<Shout<String>>) -> Result<Vec<String>, Error> {
    users.push("gate", shout.uids, "onShout", &shout.text).await
}

/// A room that says by which name it is called.
pub fn room(name: &str) -> App<String> {
    async fn echo(State(room): State<String>, Payload(text): Payload<String>) -> Reply {
        Ok(format!("{room}: {text}"))
    }
    async fn count(session: Session, State(room): State<String>) -> Result<(String, u32), Error> {
        let count = session.get::<u32>("count").unwrap_or_default() + 1;
        session.set("count", count)?;
        Ok((room, count))
    }
    async fn fail() -> Result<(), Error> {
        Err(Error::new("ROOM-1", "no").with_metadata("why", "because"))
    }
    async fn slow(ctx: Ctx) -> Result<(), Error> {
        ctx.sleep(Duration::from_secs(7)).await;
        Ok(())
    }
    async fn rest(ctx: Ctx, session: Session, State(room): State<String>) -> Reply {
        session.push("onRest", &())?;
        ctx.sleep(Duration::from_secs(2)).await;
        Ok(room)
    }
    async fn come(session: Session, uid: Payload<String>) -> Result<(), Error> {
        login(session.clone(), uid).await?;
        session.push_to_front().await
    }
    async fn kick(session: Session) -> Result<(), Error> {
        session.kick("out")
    }
    async fn hit(session: Session, Payload(times): Payload<u32>) -> Result<(), Error> {
        (0..times).try_for_each(|at| session.push("onHit", &at))
    }
    async fn shout_late(
        ctx: Ctx, users: Users, late: Payload<Shout<String>>,
    ) -> Result<Vec<String>, Error> {
        ctx.sleep(Duration::from_secs(2)).await;
        shout(users, late).await
    }
    let asked = |_, uid: Arc<str>| async move {
        if &*uid == BANNED { Err(Error::new("BANNED", "not here")) } else { Ok(()) }
    };
    let app = App::new(name.to_owned()).on_bind(asked).nest("hall", |hall| {
        hall.route("echo", echo)
            .route("count", count)
            .route("fail", fail)
            .route("slow", slow)
            .route("rest", rest)
            .route("login", come)
            .route("who", who)
            .route("hit", hit)
            .route("kick", kick)
            .route("shout", shout)
            .route("shout_late", shout_late)
    });
    with_remotes(app)
}

/// What servers ask of a room.
fn with_remotes(app: App<String>) -> App<String> {
    async fn double(Payload(score): Payload<Score>) -> Result<Score, Error> {
        if score.points < 0 {
            return Err(Error::new("SCORE-1", "negative"));
        }
        Ok(Score { points: score.points * 2 })
    }
    async fn trail(mut ctx: Ctx) -> Result<Trail, Error> {
        ctx.sleep(Duration::from_secs(1)).await;
        ctx.context = ctx.context.with("then", "room".into());
        ctx.rpc("gate.trails.end", &Trail::default()).await
    }
    app.remote("scores.double", double)
        .remote("scores.name", |State(room): State<String>| async move {
            Ok::<_, Error>(Trail { steps: vec![room], remaining_millis: 0 })
        })
        .remote("scores.trail", trail)
}

type Reply = Result<String, Error>;

/// Whom no room lets in.
pub const BANNED: &str = "mallory";
