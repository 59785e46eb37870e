//! What really happened, written down beside the servers and clients, which know nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pitaya_core::{Instant, RequestError};
use serde::{Deserialize, Serialize};

use super::app::Told;
use super::plan::{Kind, What};

#[derive(Default)]
pub(crate) struct Ledger(Mutex<Book>);

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) asked: BTreeMap<u64, Asked>,
    pub(crate) runs: Vec<Run>,
    /// The rules that were broken, as soon as it showed.
    pub(crate) broken: Vec<Broken>,
    /// The sessions there were: who has them, under which user ids they asked to be.
    pub(crate) sessions: BTreeMap<String, Session>,
    pub(crate) pushed: BTreeMap<usize, Vec<(Instant, Pushed)>>,
    pub(crate) troubles: Vec<Trouble>,
    /// The session of each client, as long as it is connected.
    current: BTreeMap<usize, String>,
    connecting: BTreeMap<usize, String>,
    pushes: BTreeMap<(String, String), u64>,
    turns: BTreeMap<(String, String), Turn>,
    remotes: BTreeMap<u64, String>,
}

/// The name of an invariant, and how it was broken.
pub(crate) type Broken = (&'static str, String);

pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) client: usize,
    /// The session that the client had, if it was connected.
    pub(crate) key: Option<String>,
    pub(crate) what: What,
    pub(crate) outcome: Option<(Instant, Result<Told, RequestError>)>,
}

pub(crate) struct Run {
    pub(crate) nonce: u64,
    pub(crate) life: String,
    pub(crate) key: String,
    pub(crate) ordered: bool,
    pub(crate) from: Instant,
    pub(crate) until: Option<Instant>,
    /// It ended by itself.
    pub(crate) done: bool,
}

#[derive(Default)]
struct Turn {
    running: Option<(u64, Instant)>,
    latest: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) client: usize,
    pub(crate) bound: Option<String>,
    pub(crate) claims: BTreeSet<String>,
    pub(crate) replaced: bool,
    pub(crate) closed: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Pushed {
    pub(crate) number: u64,
    pub(crate) nonce: u64,
    pub(crate) sender: String,
    /// A session, or a user id.
    pub(crate) to: String,
}

/// A time in which nothing is asked of some hosts.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) kind: Kind,
    pub(crate) hosts: [String; 2],
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

impl Ledger {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ask(&self, at: Instant, client: usize, nonce: u64, what: What) {
        let mut book = self.book();
        let key = book.current.get(&client).cloned();
        book.asked.insert(nonce, Asked { at, client, key, what, outcome: None });
    }

    /// A request has come to its end, which it must not have before.
    pub(crate) fn answer(&self, at: Instant, nonce: u64, outcome: Result<Told, RequestError>) {
        let mut book = self.book();
        let Some(asked) = book.asked.get_mut(&nonce) else { return };
        let again = asked.outcome.replace((at, outcome)).is_some();
        book.rule(!again, ONE_OUTCOME, || format!("request {nonce} ended twice"));
    }

    pub(crate) fn begin(
        &self, at: Instant, life: &str, key: &str, nonce: u64, ordered: bool,
    ) -> usize {
        let mut book = self.book();
        let before = book.runs.iter().find(|run| run.nonce == nonce).map(|run| run.life.clone());
        let twice = || format!("request {nonce} ran on {before:?} and on {life}");
        book.rule(before.is_none(), AT_MOST_ONCE, twice);
        if ordered {
            book.take_turn(at, life, key, nonce);
        }
        let (life, key) = (life.to_owned(), key.to_owned());
        book.runs.push(Run { nonce, life, key, ordered, from: at, until: None, done: false });
        book.runs.len() - 1
    }

    pub(crate) fn done(&self, run: usize) {
        self.book().runs[run].done = true;
    }

    pub(crate) fn end(&self, at: Instant, run: usize) {
        let mut book = self.book();
        let Run { life, key, nonce, until, ordered, .. } = &mut book.runs[run];
        *until = Some(at);
        if *ordered {
            let (place, nonce) = ((life.clone(), key.clone()), *nonce);
            let turn = book.turns.entry(place).or_default();
            turn.running.take_if(|(running, _)| *running == nonce);
        }
    }

    pub(crate) fn open(&self, key: &str, client: usize) {
        let mut book = self.book();
        book.sessions.insert(key.to_owned(), Session { client, ..Session::default() });
    }

    /// A client knows its session.
    pub(crate) fn shake(&self, client: usize, key: &str) {
        self.book().connecting.insert(client, key.to_owned());
    }

    pub(crate) fn close(&self, key: &str, replaced: bool) {
        let mut book = self.book();
        let session = book.sessions.entry(key.to_owned()).or_default();
        (session.closed, session.replaced) = (true, replaced);
    }

    /// A client is connected, or not any more.
    pub(crate) fn connect(&self, client: usize, is_open: bool) {
        let mut book = self.book();
        match book.connecting.get(&client).cloned().filter(|_| is_open) {
            Some(key) => book.current.insert(client, key),
            None => book.current.remove(&client),
        };
    }

    pub(crate) fn claim(&self, key: &str, uid: &str) {
        let mut book = self.book();
        book.sessions.entry(key.to_owned()).or_default().claims.insert(uid.to_owned());
    }

    pub(crate) fn bind(&self, key: &str, uid: &str) {
        let mut book = self.book();
        book.sessions.entry(key.to_owned()).or_default().bound = Some(uid.to_owned());
    }

    pub(crate) fn next_push(&self, sender: &str, to: &str) -> u64 {
        let mut book = self.book();
        let number = book.pushes.entry((sender.to_owned(), to.to_owned())).or_default();
        *number += 1;
        *number
    }

    /// A push has come to a client, which it must be meant for.
    pub(crate) fn push(&self, at: Instant, client: usize, pushed: Pushed) {
        let mut book = self.book();
        let of_client = |session: &&Session| session.client == client;
        let meant = book.sessions.get(&pushed.to).filter(of_client).is_some()
            || book.sessions.values().any(|it| of_client(&it) && it.claims.contains(&pushed.to));
        book.rule(meant, MEANT, || format!("client {client} got {pushed:?}"));
        book.pushed.entry(client).or_default().push((at, pushed));
    }

    pub(crate) fn note_remote(&self, life: &str, nonce: u64, meant: bool) {
        let mut book = self.book();
        book.rule(meant, LIVES, || format!("the call of {nonce} came to {life}"));
        let before = book.remotes.insert(nonce, life.to_owned());
        let twice = || format!("the call of {nonce} ran on {before:?} and {life}");
        book.rule(before.is_none(), AT_MOST_ONCE, twice);
    }

    pub(crate) fn trouble(&self, trouble: Trouble) {
        self.book().troubles.push(trouble);
    }

    pub(crate) fn break_rule(&self, name: &'static str, how: String) {
        self.book().broken.push((name, how));
    }
}

impl Book {
    pub(crate) fn rule(&mut self, holds: bool, name: &'static str, how: impl FnOnce() -> String) {
        if !holds {
            self.broken.push((name, how()));
        }
    }

    /// Whether something befell a host in that time, but for what is of that kind.
    pub(crate) fn is_troubled(
        &self, host: &str, from: Instant, until: Instant, but: Option<Kind>,
    ) -> bool {
        let befalls =
            |it: &&Trouble| it.hosts.iter().any(|name| name == host) && Some(it.kind) != but;
        let mut troubles = self.troubles.iter().filter(befalls);
        troubles.any(|it| it.from <= until && from <= it.until)
    }

    /// How many things befell a host in that time.
    pub(crate) fn troubles_of(&self, host: &str, from: Instant, until: Instant) -> usize {
        let of_host = |it: &&Trouble| it.hosts.iter().any(|name| name == host);
        let troubles = self.troubles.iter().filter(of_host);
        troubles.filter(|it| it.from <= until && from <= it.until).count()
    }

    /// One ordered call after another, in the order in which they were asked.
    fn take_turn(&mut self, at: Instant, life: &str, key: &str, nonce: u64) {
        let direct = self.asked.get(&nonce).is_some_and(|it| it.key.as_deref() == Some(key));
        let turn = self.turns.entry((life.to_owned(), key.to_owned())).or_default();
        let (running, latest) = (turn.running.replace((nonce, at)), turn.latest);
        if direct {
            turn.latest = nonce;
        }
        // What began over a link that is lost runs on beside what comes over the next one.
        let ends = [key, life].map(|it| it.split('/').next().unwrap_or(it));
        let lost = |from| ends.iter().any(|end| self.is_troubled(end, from, at, None));
        let takes_turns = running.is_none_or(|(_, from)| lost(from));
        self.rule(takes_turns, TURNS, || {
            format!("{nonce} of {key} began on {life} while {running:?} ran")
        });
        self.rule(!direct || latest < nonce, ORDER, || {
            format!("{nonce} of {key} began on {life} after {latest}")
        });
    }
}

// Each invariant, as it is named in a report.
pub(crate) const ONE_OUTCOME: &str = "a request has one outcome, by its deadline";
pub(crate) const AT_MOST_ONCE: &str = "a handler runs at most once for a request";
pub(crate) const TURNS: &str = "ordered calls of a session on a server run one after another";
pub(crate) const ORDER: &str = "ordered calls of a session run and are answered in their order";
pub(crate) const MEANT: &str = "a push comes only to whom it is meant for";
pub(crate) const LIVES: &str = "nothing meant for one life of a server reaches another";
