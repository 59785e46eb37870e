//! The clock of a world, what will happen in it, and its network.

use std::collections::BTreeMap;
use std::task::Waker;

use pitaya_core::{Instant, Rng};

use crate::sim::hosts::Hosts;
use crate::sim::net::{LinkId, Net, Side};
use crate::sim::trace::{Record, Trace};

/// All that tasks share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) hosts: Hosts,
    pub(super) net: Net,
    pub(super) now: Instant,
    pub(super) seed: u64,
    pub(super) trace: Trace,
    agenda: BTreeMap<Slot, Coming>,
    planned: u64,
    seeded: u64,
}

/// When something comes. What comes at one moment comes in an order that the seed chooses.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Slot {
    at: Instant,
    tie: u64,
    number: u64,
}

/// What will happen.
#[derive(Debug)]
pub(super) enum Coming {
    /// Something arrives at that side of a link.
    Arrival(LinkId, Side),
    /// A timer goes off.
    Wake(Waker),
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hosts: Hosts::default(),
            net: Net::default(),
            now: Instant::ZERO,
            seed,
            trace: Trace::default(),
            agenda: BTreeMap::new(),
            planned: 0,
            seeded: 0,
        }
    }

    pub(super) fn plan(&mut self, at: Instant, coming: Coming) -> Slot {
        self.planned += 1;
        let tie = draw(self.seed, AGENDA, self.planned);
        let slot = Slot { at, tie, number: self.planned };
        self.agenda.insert(slot, coming);
        slot
    }

    pub(super) fn cancel(&mut self, slot: Slot) {
        self.agenda.remove(&slot);
    }

    /// Lets the next thing happen; whether there was one.
    pub(super) fn advance(&mut self) -> bool {
        let Some((slot, coming)) = self.agenda.pop_first() else { return false };
        self.now = slot.at;
        match coming {
            Coming::Arrival(link, side) => self.arrive(link, side),
            Coming::Wake(waker) => waker.wake(),
        }
        true
    }

    /// Lets time pass while nothing runs: all that happens meanwhile is there at its end.
    pub(super) fn hold(&mut self, until: Instant) {
        while self.agenda.first_key_value().is_some_and(|(slot, _)| slot.at <= until) {
            self.advance();
        }
        self.now = until;
    }

    /// A seed for whoever asks; no two get the same.
    pub(super) fn next_seed(&mut self) -> u64 {
        self.seeded += 1;
        draw(self.seed, SEEDS, self.seeded)
    }

    pub(super) fn record(&mut self, record: Record) {
        self.trace.add(self.now, record);
    }
}

/// A number for one moment of one source of chance, whatever was drawn before: so the rest of a run
/// stays as it is when something is left out.
pub(super) fn draw(seed: u64, source: u64, index: u64) -> u64 {
    let source = Rng::new(seed ^ source.rotate_left(32)).next_u64();
    Rng::new(source.wrapping_add(index)).next_u64()
}

/// The source of chance for what comes at one moment; others are links.
const AGENDA: u64 = u64::MAX;
/// The source of chance for seeds.
const SEEDS: u64 = u64::MAX - 2;
