//! The servers with the rooms, as the gate has them: processes that it starts, and members of the
//! cluster that it hears of.

use std::collections::BTreeMap;
use std::env::current_exe;
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::pitaya::cluster::MemberEvent;
use crate::pitaya::{Error, Group, Session};

/// The servers by their names, and the pages that watch them.
#[derive(Clone)]
pub(crate) struct Rooms(Arc<Shared>);

struct Shared {
    /// Where a new one finds the gate, and what lets it in.
    seed: SocketAddr,
    secret: String,
    rooms: Mutex<BTreeMap<String, Room>>,
    watchers: Group,
}

struct Room {
    process: Child,
    is_paused: bool,
    started: Instant,
    member: Member,
}

/// What the cluster says of a server.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Member {
    Joined,
    Left,
    Silent,
    Starting,
}

/// What the page shows of a server.
#[derive(Serialize)]
pub(crate) struct Shown {
    name: String,
    member: Member,
    process: &'static str,
}

/// What the page asks to be done to a server.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Button {
    Kill,
    Pause,
    Resume,
    Start,
}

impl Rooms {
    pub(crate) fn new(secret: &str, seed: SocketAddr) -> Self {
        let (rooms, watchers) = (Mutex::default(), Group::default());
        Self(Arc::new(Shared { seed, secret: secret.to_owned(), rooms, watchers }))
    }

    /// Starts this program as the room of that name, unless it runs already.
    pub(crate) fn start(&self, name: &str) {
        let mut rooms = self.lock();
        if rooms.get_mut(name).is_some_and(Room::runs) {
            return;
        }
        match self.0.spawn(name) {
            Ok(process) => {
                let (is_paused, started) = (false, Instant::now());
                let member = Member::Starting;
                rooms.insert(name.to_owned(), Room { process, is_paused, started, member });
            }
            Err(error) => println!("{name}  does not start: {error}"),
        }
    }

    /// Does to a server what somebody wants to see done to it.
    pub(crate) fn press(&self, name: &str, button: Button) -> Result<(), Error> {
        if !self.lock().contains_key(name) {
            return Err(Error::bad_request("no such server"));
        }
        println!("{name}: somebody presses {button:?}");
        match button {
            Button::Kill => self.signal(name, Signal::KILL),
            Button::Pause => self.signal(name, Signal::STOP),
            Button::Resume => self.signal(name, Signal::CONT),
            Button::Start => self.start(name),
        }
        self.show();
        Ok(())
    }

    /// Hears from the cluster that something has changed.
    pub(crate) fn tell(&self, event: &MemberEvent) {
        let (server, member) = match event {
            MemberEvent::Joined(server) | MemberEvent::Restored(server) => (server, Member::Joined),
            MemberEvent::Suspected(server) => (server, Member::Silent),
            MemberEvent::Left(server) => (server, Member::Left),
            MemberEvent::Changed(_) | MemberEvent::Drains(_) => return,
        };
        if let Some(room) = self.lock().get_mut(server.id.as_str()) {
            match (room.member, member) {
                (Member::Starting, Member::Joined) => {
                    let at = server.addresses.first().map(ToString::to_string).unwrap_or_default();
                    println!("{event} in {} ms, at {at}", room.started.elapsed().as_millis());
                }
                // What it says is over is its life before this one.
                (Member::Starting, _) => return,
                (_, _) => println!("{event}"),
            }
            room.member = member;
        }
        self.show();
    }

    /// Shows a page what there is, now and whenever it changes.
    pub(crate) fn watch(&self, session: &Session) -> Vec<Shown> {
        self.0.watchers.join(session);
        self.shown()
    }

    /// Ends all servers; those that are paused cannot do it themselves.
    pub(crate) fn stop(&self) {
        let mut rooms = self.lock();
        for room in rooms.values_mut() {
            room.signal(if room.is_paused { Signal::KILL } else { Signal::TERM });
        }
        for room in rooms.values_mut() {
            // It is gone already, or it will be.
            let _ = room.process.wait();
        }
    }

    fn signal(&self, name: &str, signal: Signal) {
        let mut rooms = self.lock();
        let Some(room) = rooms.get_mut(name) else { return };
        room.signal(signal);
        match signal {
            Signal::STOP => room.is_paused = true,
            Signal::CONT => room.is_paused = false,
            // So that what is shown next is the end of it.
            _ => drop(room.process.wait()),
        }
    }

    /// Shows all pages what there is now.
    fn show(&self) {
        // What it is sent as cannot fail, and a page that is gone sees nothing.
        let _ = self.0.watchers.push("onServers", &self.shown());
    }

    fn shown(&self) -> Vec<Shown> {
        let mut rooms = self.lock();
        let shown = rooms.iter_mut().map(|(name, room)| Shown {
            name: name.clone(),
            member: room.member,
            process: match (room.runs(), room.is_paused) {
                (false, _) => "dead",
                (true, true) => "paused",
                (true, false) => "runs",
            },
        });
        shown.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Room>> {
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The server ends when its standard input does, and so with this process.
    fn spawn(&self, name: &str) -> io::Result<Child> {
        Command::new(current_exe()?)
            .args(["room", name, &self.seed.to_string()])
            .env("PITAYA_SECRET", &self.secret)
            .stdin(Stdio::piped())
            .spawn()
    }
}

impl Room {
    fn runs(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    fn signal(&mut self, signal: Signal) {
        // While it is not waited for, its id is that of nobody else.
        if self.runs() {
            // It may end by itself in this moment.
            let _ = kill_process(Pid::from_child(&self.process), signal);
        }
    }
}
