//! A server with chat rooms: those whose titles the gate sends here. What it knows of them is gone
//! with it; the names of the people stay with their sessions, at the gate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

use crate::GOODBYE_MAX;
use crate::pitaya::{App, Cluster, Error, Group, Limits, Payload, Server, Session, State};

#[derive(Clone)]
struct Hall {
    server: String,
    rooms: Arc<Mutex<BTreeMap<String, Room>>>,
}

#[derive(Default)]
struct Room {
    people: Group,
    recent: VecDeque<Message>,
}

#[derive(Clone, Serialize)]
struct Message {
    at: u128,
    from: String,
    server: String,
    text: String,
}

#[derive(Deserialize)]
struct Join {
    name: String,
    title: String,
}

#[derive(Deserialize)]
struct Look {
    title: String,
}

#[derive(Deserialize)]
struct Say {
    text: String,
    title: String,
}

#[derive(Serialize)]
struct Looked {
    here: BTreeSet<String>,
    recent: VecDeque<Message>,
    server: String,
}

/// Runs until it is asked to stop, or whoever started it is gone.
pub(crate) fn run(name: &str, seed: &str, secret: String) -> Result<(), Box<dyn StdError>> {
    // So that it ends even while it is paused.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    thread::spawn(|| {
        // However it ends, nobody holds the other end any more.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        kill_process(getpid(), Signal::TERM)
    });
    let app = App::new(Hall { server: name.into(), rooms: Arc::default() })
        .route("chat.join", join)
        .route("chat.look", look)
        .route("chat.say", say);
    let cluster = Cluster::secret(secret).id(name).seeds([seed]);
    let limits = Limits::default().shutdown_timeout(GOODBYE_MAX);
    Ok(Server::new("room", app).cluster(cluster).limits(limits).run()?)
}

async fn join(
    session: Session, State(hall): State<Hall>, Payload(join): Payload<Join>,
) -> Result<Looked, Error> {
    session.set("name", line(&join.name, NAME_MAX)?)?;
    session.push_to_front().await?;
    hall.enter(&session, &join.title, |_| Ok(()))
}

/// Asked again and again: whoever looks is here, even if the server is another one than before.
async fn look(
    session: Session, State(hall): State<Hall>, Payload(look): Payload<Look>,
) -> Result<Looked, Error> {
    hall.enter(&session, &look.title, |_| Ok(()))
}

async fn say(
    session: Session, State(hall): State<Hall>, Payload(say): Payload<Say>,
) -> Result<(), Error> {
    let text = line(&say.text, TEXT_MAX)?;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let message = Message { at, from: name_of(&session), server: hall.server.clone(), text };
    let spread = |room: &mut Room| {
        room.recent.push_back(message.clone());
        if room.recent.len() > RECENT_MAX {
            room.recent.pop_front();
        }
        room.people.push("onMessage", &message).map(drop)
    };
    hall.enter(&session, &say.title, spread).map(drop)
}

impl Hall {
    /// Does something in the one room that the session is in from now on.
    fn enter(
        &self, session: &Session, title: &str, act: impl FnOnce(&mut Room) -> Result<(), Error>,
    ) -> Result<Looked, Error> {
        let title = line(title, NAME_MAX)?;
        if name_of(session).is_empty() {
            return Err(Error::new("CHAT-OUT", "join a room first"));
        }
        let mut rooms = self.rooms.lock().expect("nobody panics in a room");
        for (_, room) in rooms.iter().filter(|(other, _)| **other != title) {
            room.people.leave(session);
        }
        rooms.retain(|other, room| *other == title || !room.people.is_empty());
        let room = rooms.entry(title).or_default();
        if !room.people.join(session) {
            return Err(Error::new("CHAT-FULL", "nobody else fits into this room"));
        }
        act(room)?;
        let here = room.people.members().iter().map(name_of).collect();
        Ok(Looked { here, recent: room.recent.clone(), server: self.server.clone() })
    }
}

fn name_of(session: &Session) -> String {
    session.get("name").unwrap_or_default()
}

fn line(text: &str, chars_max: usize) -> Result<String, Error> {
    let text = text.trim();
    let fits = (1..=chars_max).contains(&text.chars().count());
    let wrong = || Error::bad_request(format!("write 1 to {chars_max} characters"));
    (fits && !text.contains(char::is_control)).then(|| text.to_owned()).ok_or_else(wrong)
}

const NAME_MAX: usize = 24;
const TEXT_MAX: usize = 500;
const RECENT_MAX: usize = 50;
