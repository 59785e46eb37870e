//! What happened to each client, in order and without times.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use pitaya_core::{Counter, Counters};

/// The notes of a stage. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    clients: BTreeMap<String, Client>,
    gates: BTreeSet<String>,
    waiting: Vec<Waker>,
}

#[derive(Default)]
struct Client {
    events: Vec<String>,
    packets: Vec<String>,
}

impl Journal {
    /// Something happened to a client on the server.
    pub(crate) fn event(&self, who: &str, event: impl Into<String>) {
        self.note(|notes| {
            notes.clients.entry(who.to_owned()).or_default().events.push(event.into());
        });
    }

    /// A client received a packet, or the end.
    pub(crate) fn packet(&self, who: &str, packet: impl ToString) {
        self.note(|notes| {
            notes.clients.entry(who.to_owned()).or_default().packets.push(packet.to_string());
        });
    }

    /// Whether something happened.
    pub(crate) fn has(&self, who: &str, event: &str) -> bool {
        let notes = self.0.lock().unwrap();
        notes.clients.get(who).is_some_and(|client| client.events.iter().any(|e| e == event))
    }

    /// Waits until something has happened.
    pub(crate) async fn happened(&self, who: &str, event: &str) {
        poll_fn(|cx| self.poll_until(cx, || self.has(who, event))).await;
    }

    pub(crate) fn open_gate(&self, gate: &str) {
        self.note(|notes| {
            notes.gates.insert(gate.to_owned());
        });
    }

    pub(crate) fn is_open(&self, gate: &str) -> bool {
        self.0.lock().unwrap().gates.contains(gate)
    }

    /// Waits until a gate is open.
    pub(crate) async fn opened(&self, gate: &str) {
        poll_fn(|cx| self.poll_until(cx, || self.is_open(gate))).await;
    }

    /// All of it, with what the server counted, but for late replies, since a loop need not answer
    /// the calls of a closed session, and slow polls, which are the machine's own.
    pub(crate) fn trace(&self, counters: &Counters) -> String {
        let mut trace = String::new();
        for (who, client) in &self.0.lock().unwrap().clients {
            let lines = client.events.iter().map(|event| format!("    {event}\n"));
            let packets = client.packets.iter().map(|packet| format!("    <- {packet}\n"));
            let lines: String = lines.chain(packets).collect();
            write!(trace, "{who}\n{lines}").unwrap();
        }
        let counted =
            |counter: &&Counter| counters.count(**counter) > 0 && **counter != Counter::RepliesLate;
        let counted = Counter::ALL.iter().filter(counted);
        let lines = counted.map(|counter| format!("    {}\n", count(counters, *counter)));
        trace + "counted\n" + &lines.collect::<String>()
    }

    /// How often something was counted, as an event of a client.
    pub(crate) fn counted(&self, who: &str, counters: &Counters, counter: Counter) {
        self.event(who, count(counters, counter));
    }

    fn note(&self, note: impl FnOnce(&mut Notes)) {
        let mut notes = self.0.lock().unwrap();
        note(&mut notes);
        notes.waiting.drain(..).for_each(Waker::wake);
    }

    fn poll_until(&self, cx: &Context<'_>, done: impl Fn() -> bool) -> Poll<()> {
        if done() {
            return Poll::Ready(());
        }
        self.0.lock().unwrap().waiting.push(cx.waker().clone());
        if done() { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn count(counters: &Counters, counter: Counter) -> String {
    format!("{} {}", counter.name(), counters.count(counter))
}
