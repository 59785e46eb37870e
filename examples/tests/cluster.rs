//! The examples of several servers as people start them: as processes, some of which get killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc;
use std::thread;

#[cfg(not(feature = "tokio"))]
use pitaya_smol as pitaya;
#[cfg(feature = "tokio")]
use pitaya_tokio as pitaya;

use pitaya::{Client, Json, RequestError, Subscription};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::running::{PATIENCE, Running, seed};

#[path = "cluster/running.rs"]
mod running;

#[test]
fn a_gate_passes_greetings_on_to_a_room_and_to_another_one_once_that_is_killed() {
    let seed = seed();
    let mut gate = Running::start("gate", &["0", &seed]);
    let url = gate.url();
    let mut rooms = ["room-1", "room-2"].map(|name| {
        let room = Running::start("room", &[name, &seed]);
        room.says("gate-1 joined");
        gate.says(&format!("{name} joined"));
        room
    });
    let killed = within(move || async move {
        let client = Client::connect(&url).await.unwrap();
        let mut pushes = client.subscribe::<String>("onGreet");
        let (first, count): (String, u32) = client.request(GREET, &"ada").await.unwrap();
        assert_eq!(count, 1);
        assert_eq!(pushes.next().await.unwrap(), format!("{first} waves to ada"));
        let is_first = usize::from(first == "room-2");
        rooms[is_first].signal(Signal::KILL);
        fails(client.request::<_, Value>(GREET, &"ada").await, "PIT-503");
        let (second, count): (String, u32) = client.request(GREET, &"ada").await.unwrap();
        assert!(second != first && count == 2, "{second} has counted {count}");
        rooms[1 - is_first].ends_well();
        first
    });
    gate.says(&format!("{killed} is silent, and gets no calls"));
    gate.ends_well();
}

#[test]
fn a_chat_goes_on_while_its_servers_are_killed_paused_and_started_again() {
    let mut chat = Running::start("cluster-chat", &["0"]);
    let url = chat.url();
    within(move || async move {
        let [ann, bob] =
            [Client::connect(&url).await.unwrap(), Client::connect(&url).await.unwrap()];
        let mut servers = ann.subscribe::<Value>("onServers");
        let now: Value = ann.request("servers.watch", &()).await.unwrap();
        until(&mut servers, now, |it| is(it, "room-1", "joined") && is(it, "room-2", "joined"))
            .await;
        let mut heard = bob.subscribe::<Value>("onMessage");
        let home = meet(&ann, &bob, &mut heard).await;
        let other = if home == "room-1" { "room-2" } else { "room-1" };

        press(&ann, &home, "kill").await;
        fails(
            ann.request::<_, Value>("room.chat.look", &json!({ "title": "tea" })).await,
            "PIT-503",
        );
        assert_eq!(meet(&ann, &bob, &mut heard).await, other);

        press(&ann, &home, "start").await;
        until(&mut servers, json!([]), |it| is(it, &home, "starting")).await;
        until(&mut servers, json!([]), |it| is(it, &home, "joined")).await;
        assert_eq!(meet(&ann, &bob, &mut heard).await, home);

        press(&ann, &home, "pause").await;
        until(&mut servers, json!([]), |it| is(it, &home, "silent")).await;
        assert_eq!(meet(&ann, &bob, &mut heard).await, other);
        press(&ann, &home, "resume").await;
        until(&mut servers, json!([]), |it| is(it, &home, "joined")).await;
        assert_eq!(meet(&ann, &bob, &mut heard).await, home);
        press(&ann, &home, "pause").await;
    });
    chat.ends_well();
}

/// Both come in and one says something; gives the server that has the room.
async fn meet(ann: &Client, bob: &Client, heard: &mut Pushes) -> String {
    for (client, name) in [(ann, "ann"), (bob, "bob")] {
        let join = json!({ "name": name, "title": "tea" });
        let looked: Value = client.request("room.chat.join", &join).await.unwrap();
        assert!(looked["here"].as_array().unwrap().contains(&json!(name)), "{looked}");
    }
    let say = json!({ "text": "hello", "title": "tea" });
    let _: () = ann.request("room.chat.say", &say).await.unwrap();
    let message = heard.next().await.unwrap();
    assert_eq!((&message["from"], &message["text"]), (&json!("ann"), &json!("hello")));
    message["server"].as_str().unwrap().to_owned()
}

async fn press(client: &Client, room: &str, button: &str) {
    let press = json!({ "button": button, "room": room });
    let _: () = client.request("servers.press", &press).await.unwrap();
}

/// Waits until what is shown of the servers is as it should be.
async fn until(servers: &mut Pushes, mut now: Value, holds: impl Fn(&Value) -> bool) {
    while !holds(&now) {
        now = servers.next().await.unwrap();
    }
}

fn is(servers: &Value, name: &str, member: &str) -> bool {
    let mut all = servers.as_array().unwrap().iter();
    all.any(|server| server["name"] == name && server["member"] == member)
}

fn fails(answered: Result<Value, RequestError>, code: &str) {
    match answered {
        Err(RequestError::Answered(error)) => assert_eq!(error.code, code, "{error}"),
        answered => panic!("{answered:?}"),
    }
}

/// Runs what clients do, and not for ever.
fn within<F: Future<Output: Send + 'static>>(
    clients: impl FnOnce() -> F + Send + 'static,
) -> F::Output {
    let (done, waits) = mpsc::channel();
    // Nobody waits for it any more if it took too long.
    thread::spawn(move || drop(done.send(pitaya::block_on(clients()).unwrap())));
    waits.recv_timeout(PATIENCE).expect("the clients are done in time, without a panic")
}

type Pushes = Subscription<Value, Json>;

const GREET: &str = "room.hall.greet";
