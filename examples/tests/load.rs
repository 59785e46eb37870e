//! A gate and two rooms as processes, and clients that have several requests in flight all the time
//! while a room is killed, started again and stopped for a while. A ledger of what the clients saw
//! accounts for every request. Times are printed; on a busy machine they say little, so that none
//! decides.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

#[cfg(not(feature = "tokio"))]
use pitaya_smol as pitaya;
#[cfg(feature = "tokio")]
use pitaya_tokio as pitaya;

#[cfg(not(feature = "tokio"))]
use pitaya::Smol as Runtime;
#[cfg(feature = "tokio")]
use pitaya::Tokio as Runtime;
use pitaya_tests::crowd::{AfterError, Crowd, Outcome};
use rustix::process::Signal;

use crate::running::{Running, seed};

#[path = "cluster/running.rs"]
mod running;

#[test]
fn when_a_room_is_killed_every_request_gets_a_reply_or_an_error_and_its_next_life_is_called() {
    let mut servers = Servers::start();
    let crowd = servers.crowd();

    let killed = Instant::now();
    servers.rooms[0].signal(Signal::KILL);
    let error = crowd.first(killed, Outcome::is_error);
    let suspected = servers.gate.says(killed, "room-1 is silent");
    println!("killed: the gate calls it silent after {}", after(killed, suspected));
    println!("killed: the first error comes after {}", after(killed, error));
    let rerouted = crowd.first(error, |it| it.is_reply_of("room-2"));
    println!("killed: the other room answers {} later", after(error, rerouted));

    let started = Instant::now();
    servers.rooms[0] = Running::start("room", &["room-1", &servers.seed]);
    servers.gate.says(killed, "room-1 left");
    let joined = servers.gate.says(started, "room-1 joined");
    println!("started again: it has joined after {}", after(started, joined));
    let answers = crowd.first(started, |it| it.is_reply_of("room-1"));
    println!("started again: it is called {} later", after(joined, answers));
    crowd.hear("room-1");

    crowd.stop();
    servers.stop();
}

#[test]
fn while_a_room_stands_still_every_request_gets_a_reply_or_an_error_and_then_it_is_called_again() {
    let servers = Servers::start();
    let crowd = servers.crowd();

    let stopped = Instant::now();
    servers.rooms[0].signal(Signal::STOP);
    let suspected = servers.gate.says(stopped, "room-1 is silent");
    println!("stands still: the gate calls it silent after {}", after(stopped, suspected));
    let error = crowd.first(stopped, Outcome::is_error);
    println!("stands still: the first error comes after {}", after(stopped, error));
    // The others are served meanwhile.
    crowd.first(stopped + STANDS_STILL, |it| it.is_reply_of("room-2"));

    let goes_on = Instant::now();
    servers.rooms[0].signal(Signal::CONT);
    let (again, line) = servers.gate.says_any(goes_on, &["answers again", "joined"]);
    // A machine may be so busy that it stood still for too long.
    assert!(line.contains("again") || again - stopped >= LINK_DEAD_AFTER, "the link goes on");
    println!("goes on: the gate hears it after {}", after(goes_on, again));
    let answers = crowd.first(again, |it| it.is_reply_of("room-1"));
    println!("goes on: it is called {} later", after(again, answers));
    crowd.hear("room-1");
    assert!(suspected - stopped < LINK_DEAD_AFTER, "it was silent long before it was gone");

    crowd.stop();
    servers.stop();
}

/// A gate and two rooms, as processes.
struct Servers {
    gate: Gate,
    rooms: [Running; 2],
    seed: String,
}

struct Gate {
    process: Running,
    url: String,
}

impl Servers {
    fn start() -> Self {
        let seed = seed();
        let process = Running::start("gate", &["0", &seed]);
        let url = process.url();
        let rooms = ROOMS.map(|name| {
            let room = Running::start("room", &[name, &seed]);
            process.says(&format!("{name} joined"));
            room
        });
        Self { gate: Gate { process, url }, rooms, seed }
    }

    /// Clients that both rooms answer all the time.
    fn crowd(&self) -> Crowd {
        let crowd = Crowd::start::<Runtime>(&self.gate.url, AfterError::AsksOn);
        ROOMS.iter().for_each(|room| crowd.hear(room));
        crowd
    }

    fn stop(mut self) {
        self.rooms.iter_mut().for_each(Running::ends_well);
        self.gate.process.ends_well();
    }
}

impl Gate {
    /// Waits until it says `text` after that moment, and gives when it did.
    fn says(&self, begin: Instant, text: &str) -> Instant {
        self.says_any(begin, &[text]).0
    }

    /// Waits until it says one of these after that moment, and gives when and what.
    fn says_any(&self, begin: Instant, texts: &[&str]) -> (Instant, String) {
        let is_any = |line: &str| texts.iter().any(|text| line.contains(text));
        let line = self.process.line(|at, line| at >= begin && is_any(line));
        line.unwrap_or_else(|| panic!("it says none of {texts:?}"))
    }
}

fn after(begin: Instant, end: Instant) -> String {
    format!("{} ms", end.saturating_duration_since(begin).as_millis())
}

const ROOMS: [&str; 2] = ["room-1", "room-2"];
const STANDS_STILL: Duration = Duration::from_secs(5);
/// That of the gate, `link_dead_after`.
const LINK_DEAD_AFTER: Duration = Duration::from_secs(10);
