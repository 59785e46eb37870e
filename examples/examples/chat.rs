//! Chat rooms in the browser; the page comes from the same process. Open it in two tabs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(not(feature = "tokio"))]
use pitaya_smol as pitaya;
#[cfg(feature = "tokio")]
use pitaya_tokio as pitaya;

use pitaya::{Acceptor, App, Error, Group, Payload, Server, Session, StartError, State};
use serde::{Deserialize, Serialize};

/// The rooms by their titles.
#[derive(Clone, Default)]
struct Rooms(Arc<Mutex<BTreeMap<String, Room>>>);

#[derive(Default)]
struct Room {
    people: Group,
    recent: VecDeque<Message>,
}

#[derive(Clone, Serialize)]
struct Message {
    from: String,
    text: String,
    at: u128,
}

#[derive(Deserialize)]
struct Join {
    /// Known to one tab alone, which takes its own place again after a reload.
    id: String,
    name: String,
    room: String,
}

#[derive(Serialize)]
struct Joined {
    here: BTreeSet<String>,
    recent: VecDeque<Message>,
}

async fn join(
    session: Session, State(rooms): State<Rooms>, Payload(join): Payload<Join>,
) -> Result<Joined, Error> {
    let (title, name) = (line(&join.room, NAME_MAX)?, line(&join.name, NAME_MAX)?);
    if session.uid().is_none() {
        session.bind(&join.id).await?; // kicks the tab whose place this is
    }
    rooms.leave(&session);
    let mut rooms = rooms.lock();
    // Empty rooms are forgotten, but for one that somebody comes back to.
    rooms.retain(|other, room| *other == title || !room.people.is_empty());
    let room = rooms.entry(title.clone()).or_default();
    let namesake = room.people.members().into_iter().find(|person| name_of(person) == name);
    if namesake.as_ref().is_some_and(|person| person.uid() != session.uid()) {
        return Err(Error::new("CHAT-TAKEN", format!("{name} is somebody else here")));
    }
    if !room.people.join(&session) {
        return Err(Error::new("CHAT-FULL", "nobody else fits into this room"));
    }
    session.set("seat", (title, &name))?;
    if namesake.is_none() {
        room.people.push("onJoin", &name)?;
    }
    Ok(Joined { here: room.names(), recent: room.recent.clone() })
}

async fn say(
    session: Session, State(rooms): State<Rooms>, Payload(text): Payload<String>,
) -> Result<(), Error> {
    let text = line(&text, TEXT_MAX)?;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    rooms.seat(&session, |room, from| {
        let message = Message { from, text, at };
        room.recent.push_back(message.clone());
        if room.recent.len() > RECENT_MAX {
            room.recent.pop_front();
        }
        room.people.push("onMessage", &message)
    })
}

async fn typing(session: Session, State(rooms): State<Rooms>) -> Result<(), Error> {
    rooms.seat(&session, |room, name| room.people.push("onTyping", &name))
}

/// How many people are in each room.
async fn list(State(rooms): State<Rooms>) -> Result<BTreeMap<String, usize>, Error> {
    let rooms = rooms.lock();
    let people = rooms.iter().map(|(title, room)| (title.clone(), room.people.len()));
    Ok(people.filter(|(_, people)| *people > 0).collect())
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Room>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something in the room of a session, with its name there.
    fn seat(
        &self, session: &Session, act: impl FnOnce(&mut Room, String) -> Result<usize, Error>,
    ) -> Result<(), Error> {
        let seat: Option<(String, String)> = session.get("seat");
        let (title, name) = seat.ok_or_else(|| Error::new("CHAT-OUT", "join a room first"))?;
        act(self.lock().entry(title).or_default(), name).map(drop)
    }

    fn leave(&self, session: &Session) {
        // Without a seat there is nothing to leave.
        let _ = self.seat(session, |room, name| {
            session.remove("seat");
            room.people.leave(session);
            let is_replaced = room.names().contains(&name);
            if is_replaced { Ok(0) } else { room.people.push("onLeave", &name) }
        });
    }
}

impl Room {
    fn names(&self) -> BTreeSet<String> {
        self.people.members().iter().map(name_of).collect()
    }
}

fn name_of(session: &Session) -> String {
    let (_, name): (String, String) = session.get("seat").unwrap_or_default();
    name
}

fn line(text: &str, chars_max: usize) -> Result<String, Error> {
    let text = text.trim();
    let fits = (1..=chars_max).contains(&text.chars().count());
    let wrong = || Error::bad_request(format!("write 1 to {chars_max} characters"));
    (fits && !text.contains(char::is_control)).then(|| text.to_owned()).ok_or_else(wrong)
}

fn main() -> Result<(), StartError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3251".to_owned());
    let rooms = Rooms::default();
    let app = App::new(rooms.clone())
        .route("chat.join", join)
        .route("chat.rooms", list)
        .route("chat.say", say)
        .notify("chat.typing", typing)
        .on_close(move |session, _| {
            rooms.leave(&session);
            async {}
        });
    let page = |acceptor: Acceptor, (path, kind, text)| acceptor.page(path, kind, text);
    Server::new("chat", app)
        .accept(PAGES.into_iter().fold(Acceptor::ws(address), page))
        .on_ready(|addresses| println!("chat  http://{}/  open it in two tabs", addresses[0]))
        .run()
}

const NAME_MAX: usize = 24;
const TEXT_MAX: usize = 500;
const RECENT_MAX: usize = 50;

const JS: &str = "text/javascript; charset=utf-8";
const PAGES: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("../web/chat/index.html")),
    ("/chat.css", "text/css; charset=utf-8", include_str!("../web/chat/chat.css")),
    ("/chat.js", JS, include_str!("../web/chat/chat.js")),
    ("/connection.js", JS, include_str!("../web/connection.js")),
    ("/pitaya.js", JS, include_str!("../web/pitaya.js")),
    ("/wire.js", JS, include_str!("../web/wire.js")),
];
