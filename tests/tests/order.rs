//! In which order a client gets what the handlers of its session send.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use pitaya_core::{App, Ctx, Error, Payload, Session};
use pitaya_driver::{Runtime as _, Server};
use pitaya_tests::raw::{self, RawClient, Received};
use pitaya_tests::sim::{self, Sim};

#[test]
fn what_a_handler_sends_comes_before_its_reply() {
    assert_eq!(pushes_and_replies("hall.now"), WANTED.map(str::to_owned));
}

#[test]
fn what_a_handler_that_waited_sends_comes_before_its_reply() {
    assert_eq!(pushes_and_replies("hall.later"), WANTED.map(str::to_owned));
}

/// What comes for two requests that push twice each.
fn pushes_and_replies(route: &str) -> Vec<String> {
    let requests = [(1, "2"), (2, "2")].map(|(id, body)| raw::request(id, route, body)).concat();
    sim::run(1, |sim| async move {
        let server = Server::<Sim>::new("gate", app()).tcp("127.0.0.1:0");
        let server = server.start_on(sim.clone()).await.unwrap();
        let stream = sim.connect(server.addresses()[0]).await.unwrap();
        let mut client = RawClient::new(stream);
        client.open("ada").await.unwrap();
        client.send(&requests).await.unwrap();
        let mut came = Vec::new();
        while came.len() < WANTED.len() {
            came.push(text(client.next().await.unwrap().expect("there is more to come")));
        }
        came
    })
}

fn text(received: Received) -> String {
    match received {
        Received::Push(route, body) => format!("{route} {body}"),
        Received::Reply(id, body) => format!("reply {id}: {body}"),
        other @ (Received::Error(..)
        | Received::Handshake(_)
        | Received::Heartbeat
        | Received::Kick(_)) => panic!("{other:?}"),
    }
}

fn app() -> App {
    App::new(()).route("hall.now", now).route("hall.later", later)
}

async fn now(session: Session, Payload(ticks): Payload<u64>) -> Result<u64, Error> {
    (0..ticks).try_for_each(|tick| session.push("onTick", &tick))?;
    Ok(ticks)
}

async fn later(ctx: Ctx, session: Session, ticks: Payload<u64>) -> Result<u64, Error> {
    ctx.sleep(Duration::from_millis(1)).await;
    now(session, ticks).await
}

const WANTED: [&str; 6] =
    ["onTick 0", "onTick 1", "reply 1: 2", "onTick 0", "onTick 1", "reply 2: 2"];
