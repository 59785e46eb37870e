//! Chat rooms in the browser; the page comes from the same process. Open it in two tabs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(not(feature = "tokio"))]
use pitaya_smol as pitaya;
#[cfg(feature = "tokio")]
use pitaya_tokio as pitaya;

use pitaya::{Acceptor, App, Error, Payload, Server, Session, StartError, State};
use serde::{Deserialize, Serialize};

/// The rooms by their titles.
#[derive(Clone, Default)]
struct Rooms(Arc<Mutex<BTreeMap<String, Room>>>);

/// People by their names, and the messages that newcomers see.
#[derive(Default)]
struct Room {
    people: BTreeMap<String, Session>,
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
    here: Vec<String>,
    recent: VecDeque<Message>,
}

async fn join(
    session: Session, State(rooms): State<Rooms>, Payload(join): Payload<Join>,
) -> Result<Joined, Error> {
    let (title, name) = (line(&join.room, NAME_MAX)?, line(&join.name, NAME_MAX)?);
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
    match room.people.get(&name) {
        None => room.push("onJoin", &name),
        Some(person) if person.uid() == session.uid() => {}
        Some(_) => return Err(Error::new("CHAT-TAKEN", format!("{name} is somebody else here"))),
    }
    session.set("seat", (&title, &name))?;
    room.people.insert(name, session);
    let here = room.people.keys().cloned().collect();
    Ok(Joined { room: title, here, recent: room.recent.clone() })
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

async fn say(
    session: Session, State(rooms): State<Rooms>, Payload(text): Payload<String>,
) -> Result<(), Error> {
    let text = line(&text, TEXT_MAX)?;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    rooms.at_seat(&session, |room, from| {
        let message = Message { from, text, at };
        room.push("onMessage", &message);
        if room.recent.len() >= RECENT_MAX {
            room.recent.pop_front();
        }
        room.recent.push_back(message);
    })
}

async fn typing(session: Session, State(rooms): State<Rooms>) -> Result<(), Error> {
    rooms.at_seat(&session, |room, name| room.push("onTyping", &name))
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Room>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_seat(&self, session: &Session, act: impl FnOnce(&mut Room, String)) -> Result<(), Error> {
        let seat: Option<(String, String)> = session.get("seat");
        let outside = || Error::new("CHAT-OUT", "join a room first");
        let (title, name) = seat.ok_or_else(outside)?;
        let mut rooms = self.lock();
        act(rooms.entry(title).or_default(), name);
        Ok(())
    }

    fn leave(&self, session: &Session) {
        // Whoever has no seat has nothing to leave.
        let _ = self.at_seat(session, |room, name| {
            session.remove("seat");
            let owner = room.people.get(&name).map(Session::id);
            // A tab that took the place of this one stays.
            if owner == Some(session.id()) {
                room.people.remove(&name);
                room.push("onLeave", &name);
            }
        });
    }
}

impl Room {
    fn push<T: Serialize + 'static>(&self, route: &str, value: &T) {
        for person in self.people.values() {
            let _ = person.push(route, value);
        }
    }
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
