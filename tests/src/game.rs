//! What gates and rooms do in tests of several servers.

use std::time::Duration;

use pitaya_core::cluster::Users;
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

/// A gate: logins, and what it asks of others.
pub fn gate() -> App {
    async fn double(ctx: Ctx, Payload(points): Payload<i64>) -> Result<i64, Error> {
        let score: Score = ctx.rpc("room.scores.double", &Score { points }).await?;
        Ok(score.points)
    }
    async fn kick(users: Users, Payload(uid): Payload<String>) -> Result<Vec<String>, Error> {
        users.kick("gate", [uid], "go").await
    }
    App::new(()).nest("me", |me| {
        me.route("login", login).route("who", who).route("double", double).route("kick", kick)
    })
}

async fn login(session: Session, Payload(uid): Payload<String>) -> Result<(), Error> {
    session.bind(&uid).await?;
    session.set("level", 7)
}

async fn who(session: Session) -> Result<(String, u32), Error> {
    let uid = session.uid().unwrap_or_default().to_owned();
    Ok((uid, session.get("level").unwrap_or_default()))
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
    async fn hit(session: Session, Payload(times): Payload<u32>) -> Result<(), Error> {
        (0..times).try_for_each(|at| session.push("onHit", &at))
    }
    async fn shout(
        users: Users, Payload(shout): Payload<Shout<String>>,
    ) -> Result<Vec<String>, Error> {
        users.push("gate", shout.uids, "onShout", &shout.text).await
    }
    async fn double(Payload(score): Payload<Score>) -> Result<Score, Error> {
        if score.points < 0 {
            return Err(Error::new("SCORE-1", "negative"));
        }
        Ok(Score { points: score.points * 2 })
    }
    App::new(name.to_owned())
        .nest("hall", |hall| {
            hall.route("echo", echo)
                .route("count", count)
                .route("fail", fail)
                .route("slow", slow)
                .route("rest", rest)
                .route("login", come)
                .route("who", who)
                .route("hit", hit)
                .route("shout", shout)
        })
        .remote("scores.double", double)
}

type Reply = Result<String, Error>;
