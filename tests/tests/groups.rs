//! A group over real sockets, on both runtimes: who joins, who is told, who has left.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use futures_channel::mpsc;
use futures_lite::StreamExt as _;
use pitaya_core::{App, Error, Group, Payload, Session, State};
use pitaya_driver::{Client, Native, Server};

async fn all_members_are_told<R: Native + Unpin>() {
    let (gone, mut sizes) = mpsc::unbounded();
    let hall = Group::default();
    let left = hall.clone();
    let app = App::new(hall.clone()).route("hall.join", join).route("hall.say", say).on_close(
        move |_, _| {
            gone.unbounded_send(left.len()).unwrap();
            std::future::ready(())
        },
    );
    let server = Server::<R>::new("gate", app).dictionary([("onSay", 7)]).tcp("127.0.0.1:0");
    let server = server.start().await.unwrap();
    let address = server.addresses()[0].to_string();
    let mut members = Vec::new();
    for size in 1..=3_usize {
        let client = Client::<R>::connect(&address).await.unwrap();
        let said = client.subscribe::<String>("onSay");
        let joined = client.subscribe::<usize>("onJoin");
        assert_eq!(client.request("hall.join", &()).await, Ok(size));
        members.push((client, said, joined));
    }
    let long = "a long word ".repeat(100);
    for ((client, ..), text) in members.iter().zip(["short", &long, "the last"]) {
        assert_eq!(client.request("hall.say", &text).await, Ok(3));
    }
    for (at, (_, said, joined)) in members.iter_mut().enumerate() {
        for text in ["short", &long, "the last"] {
            assert_eq!(said.next().await.as_deref(), Some(text));
        }
        for size in at + 1..=3 {
            assert_eq!(joined.next().await, Some(size));
        }
    }
    for size in (0..3).rev() {
        members.pop();
        assert_eq!(sizes.next().await, Some(size), "it left before its close was told");
    }
    assert_eq!(hall.push("onSay", &"nobody hears"), Ok(0));
    server.shutdown().await;
}

#[test]
fn all_members_are_told_on_tokio() {
    pitaya_tokio::Tokio::block_on(all_members_are_told::<pitaya_tokio::Tokio>()).unwrap();
}

#[test]
fn all_members_are_told_on_smol() {
    pitaya_smol::Smol::block_on(all_members_are_told::<pitaya_smol::Smol>()).unwrap();
}

async fn join(session: Session, State(hall): State<Group>) -> Result<usize, Error> {
    hall.join(&session);
    hall.push("onJoin", &hall.len())
}

async fn say(State(hall): State<Group>, Payload(text): Payload<String>) -> Result<usize, Error> {
    hall.push("onSay", &text)
}
