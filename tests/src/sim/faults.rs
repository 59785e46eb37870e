//! What happens to hosts, as tests ask for it.

use std::collections::BTreeMap;

use crate::sim::{Sim, Wire};

/// How a host goes down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// Its process is killed: the system resets its connections.
    Killed,
    /// It loses power: others hear nothing, until it runs again and knows their connections no
    /// more.
    Powerless,
}

/// What was said over one connection of a host that is [watched](Sim::watch).
#[derive(Clone, Debug)]
pub struct Tap {
    /// The host that dialled.
    pub dialler: String,
    /// The host that was dialled.
    pub acceptor: String,
    /// What the dialler wrote, and what the acceptor did.
    pub said: [Vec<u8>; 2],
}

impl Sim {
    /// This host goes down: its tasks are dropped where they stand, with all that they hold. What
    /// is started on it afterwards is its next life. No task of its own may ask for it.
    pub fn crash(&self, how: Crash) {
        let resets = how == Crash::Killed;
        let mut state = self.state();
        state.note_fault(if resets { "killed" } else { "powerless" }, self.host, self.host);
        state.drop_sockets(self.host, resets);
        drop(state);
        self.tasks().drop_all_of(self.host);
        self.tasks().resume(self.host);
    }

    /// No task of this host runs until [`resume`](Self::resume); bytes come and timers go off.
    pub fn pause(&self) {
        self.state().note_fault("paused", self.host, self.host);
        self.tasks().pause(self.host);
    }

    /// Tasks of this host run again.
    pub fn resume(&self) {
        self.tasks().resume(self.host);
    }

    /// Nothing comes from this host to another one until [`heal`](Self::heal): what is sent waits
    /// on its way, and neither can dial the other.
    pub fn cut(&self, other: &Self) {
        let mut state = self.state();
        state.note_fault("cut", self.host, other.host);
        state.cut(self.host, other.host);
    }

    /// What waits on its way to the other host arrives.
    pub fn heal(&self, other: &Self) {
        self.state().heal(self.host, other.host);
    }

    /// All connections between this host and another one are reset.
    pub fn reset(&self, other: &Self) {
        let mut state = self.state();
        state.note_fault("reset", self.host, other.host);
        state.reset_all(self.host, other.host);
    }

    /// What connections between this host and another one are like from now on.
    pub fn wire(&self, other: &Self, wire: Wire) {
        let mut state = self.state();
        state.note_fault("wire", self.host, other.host);
        state.hosts.set_wire(self.host, other.host, wire);
    }

    /// How many connections there are between this host and another one.
    pub fn connections(&self, other: &Self) -> usize {
        self.state().connections(self.host, other.host)
    }

    /// From now on what is said over connections that this host dials is written down.
    pub fn watch(&self) {
        self.state().hosts.watch(self.host);
    }

    /// What was said over connections of hosts that are watched, in the order of their dials.
    pub fn taps(&self) -> Vec<Tap> {
        self.state().hosts.taps.values().cloned().collect()
    }

    /// How often each kind of thing happened to hosts.
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.state().hosts.faults.clone()
    }
}
