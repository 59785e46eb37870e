//! Chat rooms in the browser; the page comes from the same process. Open it in two tabs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(not(feature = "tokio"))]
use pitaya_smol as pitaya;
#[cfg(feature = "tokio")]
use pitaya_tokio as pitaya;

use pitaya::{Acceptor, App, Error, Payload, Server, Session, StartError, State};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default)]
struct Rooms(Arc<Mutex<BTreeMap<String, Room>>>);

#[derive(Default)]
struct Room {
    people: Vec<Session>,
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
    room: String,
    here: BTreeSet<String>,
    recent: VecDeque<Message>,
}

async fn join(
    session: Session, State(rooms): State<Rooms>, Payload(join): Payload<Join>,
) -> Result<Joined, Error> {
    let (name, title) = (line(&join.name, NAME_MAX)?, line(&join.room, NAME_MAX)?);
    if session.uid().is_none() {
        session.bind(&join.id).await?;
    }
    rooms.leave(&session);
    let mut rooms = rooms.lock();
    if rooms.len() >= ROOMS_MAX {
        rooms.retain(|other, room| *other == title || !room.people.is_empty());
    }
    if rooms.len() >= ROOMS_MAX && !rooms.contains_key(&title) {
        return Err(Error::new("CHAT-FULL", "there are too many rooms"));
    }
    let room = rooms.entry(title.clone()).or_default();
    let mut namesakes = room.people.iter().filter(|person| name_of(person) == name);
    if namesakes.any(|person| person.uid() != session.uid()) {
        return Err(Error::new("CHAT-TAKEN", format!("somebody here is called {name} already")));
    }
    if !room.names().contains(&name) {
        room.push("onJoin", &name)?;
    }
    session.set("name", &name)?;
    session.set("room", &title)?;
    room.people.push(session);
    Ok(Joined { room: title, here: room.names(), recent: room.recent.clone() })
}

async fn say(
    session: Session, State(rooms): State<Rooms>, Payload(text): Payload<String>,
) -> Result<(), Error> {
    let text = line(&text, TEXT_MAX)?;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let message = Message { from: name_of(&session), text, at };
    rooms.with(&session, |room| {
        room.push("onMessage", &message)?;
        if room.recent.len() >= RECENT_MAX {
            room.recent.pop_front();
        }
        room.recent.push_back(message);
        Ok(())
    })
}

async fn typing(session: Session, State(rooms): State<Rooms>) -> Result<(), Error> {
    rooms.with(&session, |room| room.push("onTyping", &name_of(&session)))
}

async fn leave(session: Session, State(rooms): State<Rooms>) -> Result<(), Error> {
    rooms.leave(&session);
    Ok(())
}

/// The rooms with somebody in them, and how many.
async fn list(State(rooms): State<Rooms>) -> Result<BTreeMap<String, usize>, Error> {
    let rooms = rooms.lock();
    let people = rooms.iter().map(|(title, room)| (title.clone(), room.people.len()));
    Ok(people.filter(|(_, people)| *people > 0).collect())
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Room>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self, session: &Session, act: impl FnOnce(&mut Room) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let title = session.get::<String>("room").unwrap_or_default();
        let outside = || Error::new("CHAT-OUT", "join a room first");
        act(self.lock().get_mut(&title).ok_or_else(outside)?)
    }

    fn leave(&self, session: &Session) {
        // Whoever is in no room has none to leave.
        let _ = self.with(session, |room| {
            session.remove("room");
            room.people.retain(|person| person.id() != session.id());
            let name = name_of(session);
            if room.names().contains(&name) { Ok(()) } else { room.push("onLeave", &name) }
        });
    }
}

impl Room {
    /// Each once, although a tab that is replaced may still be here.
    fn names(&self) -> BTreeSet<String> {
        self.people.iter().map(name_of).collect()
    }

    fn push<T: Serialize + 'static>(&self, route: &str, value: &T) -> Result<(), Error> {
        for person in &self.people {
            let _ = person.push(route, value);
        }
        Ok(())
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

fn main() -> Result<(), StartError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3251".to_owned());
    let rooms = Rooms::default();
    let app = App::new(rooms.clone())
        .route("chat.join", join)
        .route("chat.leave", leave)
        .route("chat.rooms", list)
        .route("chat.say", say)
        .notify("chat.typing", typing)
        .on_close(move |session, _| {
            rooms.leave(&session);
            async {}
        });
    let page = |acceptor: Acceptor, (path, kind, text): (&str, &str, &'static str)| {
        acceptor.page(path, format!("{kind}; charset=utf-8"), text)
    };
    Server::new("chat", app)
        .accept(PAGES.into_iter().fold(Acceptor::ws(address), page))
        .on_ready(|addresses| println!("chat  http://{}/  open it in two tabs", addresses[0]))
        .run()
}

const NAME_MAX: usize = 24;
const TEXT_MAX: usize = 500;
const RECENT_MAX: usize = 50;
const ROOMS_MAX: usize = 100;

const PAGES: [(&str, &str, &str); 6] = [
    ("/", "text/html", include_str!("../web/chat/index.html")),
    ("/chat.css", "text/css", include_str!("../web/chat/chat.css")),
    ("/chat.js", "text/javascript", include_str!("../web/chat/chat.js")),
    ("/pitaya.js", "text/javascript", include_str!("../web/pitaya.js")),
    ("/connection.js", "text/javascript", include_str!("../web/connection.js")),
    ("/wire.js", "text/javascript", include_str!("../web/wire.js")),
];
