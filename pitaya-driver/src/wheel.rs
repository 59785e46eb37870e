//! Many deadlines at the cost of a few: a timer wheel without a clock.

use pitaya_core::Instant;

/// Deadlines, each with a value that comes back when it is reached.
///
/// Setting, moving and cancelling one costs the same however many there are. Deadlines are met up
/// to one tick of 10 ms late and never early, those that are far away up to a 64th of the way late:
/// so the heartbeats of many sessions come together instead of each waking the thread by itself.
/// Four levels of 64 slots reach 46 hours; what is beyond is looked at again then.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    /// All ticks up to this one are done with.
    tick: u64,
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    slots: Vec<Vec<u32>>,
    occupied: [u64; LEVELS],
}

/// Names a deadline of a [`Wheel`] that has not been reached.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct WheelKey {
    at: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    tick: u64,
    slot: u16,
    /// Where in the slot it is, so that it can be taken out.
    position: u32,
    /// Tells the uses of one entry apart.
    generation: u32,
    value: Option<T>,
}

impl<T> Wheel<T> {
    /// No deadlines, at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        let slots = std::iter::repeat_with(Vec::new).take(LEVELS * SLOTS).collect();
        let tick = now.micros() / TICK_MICROS;
        Self { tick, entries: Vec::new(), free: Vec::new(), slots, occupied: [0; LEVELS] }
    }

    /// Sets a deadline. One that has passed is reached at the next tick.
    pub(crate) fn set(&mut self, deadline: Instant, value: T) -> WheelKey {
        let tick = self.rounded(deadline.micros().div_ceil(TICK_MICROS).max(self.tick + 1));
        let at = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { tick, slot: 0, position: 0, generation: 0, value: None });
            u32::try_from(self.entries.len() - 1).expect("each of them has memory of its own")
        });
        let entry = &mut self.entries[at as usize];
        (entry.tick, entry.value) = (tick, Some(value));
        entry.generation = entry.generation.wrapping_add(1);
        let generation = entry.generation;
        self.link(at);
        WheelKey { at, generation }
    }

    /// Takes a deadline back, with its value; nothing if it has been reached.
    pub(crate) fn cancel(&mut self, key: WheelKey) -> Option<T> {
        let entry = &self.entries[key.at as usize];
        if entry.value.is_none() || entry.generation != key.generation {
            return None;
        }
        self.unlink(key.at);
        self.take(key.at)
    }

    /// Gives the values of all deadlines that `now` has reached.
    pub(crate) fn advance(&mut self, now: Instant, mut reached: impl FnMut(T)) {
        let target = now.micros() / TICK_MICROS;
        while let Some(tick) = self.next_tick().filter(|tick| *tick <= target) {
            self.tick = tick;
            // Higher levels first: what they hold may belong into the lowest slot of this very
            // tick.
            for level in
                (0..LEVELS).rev().filter(|level| tick.trailing_zeros() as usize >= BITS * level)
            {
                for at in self.empty(level) {
                    if self.entries[at as usize].tick > tick {
                        self.link(at);
                    } else if let Some(value) = self.take(at) {
                        reached(value);
                    }
                }
            }
        }
        self.tick = self.tick.max(target);
    }

    /// When to call [`advance`](Self::advance) next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_tick().map(|tick| Instant::from_micros(tick.saturating_mul(TICK_MICROS)))
    }

    /// How many deadlines are set.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn next_tick(&self) -> Option<u64> {
        let next = |level: usize| {
            let position = self.tick >> (BITS * level);
            // The slot of the present comes last: what is in it is a whole turn away.
            let ahead = self.occupied[level].rotate_right((position + 1) as u32 % SLOTS as u32);
            (ahead != 0)
                .then(|| (position + 1 + u64::from(ahead.trailing_zeros())) << (BITS * level))
        };
        (0..LEVELS).filter_map(next).min()
    }

    /// A tick that others have too, if it is far enough away.
    fn rounded(&self, tick: u64) -> u64 {
        let late_max = (tick - self.tick) / LATE_PARTS;
        let grain = late_max.checked_ilog2().map_or(1, |bits| 1 << bits);
        tick.checked_next_multiple_of(grain).unwrap_or(tick)
    }

    fn link(&mut self, at: u32) {
        let tick = self.entries[at as usize].tick;
        let ahead = tick.saturating_sub(self.tick).min(REACH);
        let level =
            (0..LEVELS).find(|level| ahead < 1 << (BITS * (level + 1))).unwrap_or(LEVELS - 1);
        let index = ((self.tick + ahead) >> (BITS * level)) as usize % SLOTS;
        let slot = level * SLOTS + index;
        self.occupied[level] |= 1 << index;
        let entry = &mut self.entries[at as usize];
        (entry.slot, entry.position) = (slot as u16, self.slots[slot].len() as u32);
        self.slots[slot].push(at);
    }

    fn unlink(&mut self, at: u32) {
        let Entry { slot, position, .. } = self.entries[at as usize];
        let slot = usize::from(slot);
        self.slots[slot].swap_remove(position as usize);
        if let Some(&moved) = self.slots[slot].get(position as usize) {
            self.entries[moved as usize].position = position;
        }
        if self.slots[slot].is_empty() {
            self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        }
    }

    /// Empties the slot of the present tick.
    fn empty(&mut self, level: usize) -> Vec<u32> {
        let index = (self.tick >> (BITS * level)) as usize % SLOTS;
        self.occupied[level] &= !(1 << index);
        std::mem::take(&mut self.slots[level * SLOTS + index])
    }

    fn take(&mut self, at: u32) -> Option<T> {
        self.free.push(at);
        self.entries[at as usize].value.take()
    }
}

/// How late a deadline may be met: 10 ms.
const TICK_MICROS: u64 = 10_000;
/// What part of its way a deadline may be late.
const LATE_PARTS: u64 = 64;
const LEVELS: usize = 4;
const BITS: usize = 6;
const SLOTS: usize = 1 << BITS;
/// The furthest tick that has a slot of its own.
const REACH: u64 = (1 << (BITS * LEVELS)) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(tick: u64) -> Instant {
        Instant::from_micros(tick * TICK_MICROS)
    }

    fn reached(wheel: &mut Wheel<u64>, now: Instant) -> Vec<u64> {
        let mut reached = Vec::new();
        wheel.advance(now, |value| reached.push(value));
        reached.sort_unstable();
        reached
    }

    proptest! {
        #[test]
        fn every_deadline_is_met_in_time_and_none_before(
            start in 0_u64..1 << 30,
            ticks in prop::collection::vec(1_u64..1 << 26, 1..40),
            steps in prop::collection::vec(1_u64..1 << 22, 1..40),
        ) {
            let mut wheel = Wheel::new(at(start));
            let mut waiting: Vec<u64> = ticks.iter().map(|tick| start + tick).collect();
            for &tick in &waiting {
                wheel.set(at(tick), tick);
            }
            let late_max = |tick: u64| (tick - start) / LATE_PARTS;
            let mut now = start;
            for step in steps {
                now += step;
                for tick in reached(&mut wheel, at(now)) {
                    prop_assert!(tick <= now, "{} is early", tick);
                    let waits = waiting.iter().position(|waiting| *waiting == tick);
                    waiting.swap_remove(waits.expect("it was set, and not reached before"));
                }
                prop_assert!(waiting.iter().all(|tick| now < tick + late_max(*tick) + 1));
                prop_assert!(wheel.poll_timeout().is_none_or(|next| next > at(now)));
                prop_assert_eq!(wheel.len(), waiting.len());
            }
        }
    }

    #[test]
    fn what_is_near_is_met_in_its_tick_and_what_is_far_together() {
        let mut wheel = Wheel::new(Instant::ZERO);
        let near: Vec<_> = (1..128).map(|tick| wheel.set(at(tick), tick)).collect();
        (1..=near.len() as u64).for_each(|tick| assert_eq!(reached(&mut wheel, at(tick)), [tick]));
        let mut wheel = Wheel::new(Instant::ZERO);
        let far: Vec<_> = (2970..3000).map(|tick| wheel.set(at(tick), tick)).collect();
        assert_eq!(reached(&mut wheel, at(2976)).len(), 7);
        assert_eq!(reached(&mut wheel, at(3007)).len(), 0);
        assert_eq!(reached(&mut wheel, at(3008)).len(), far.len() - 7);
    }

    #[test]
    fn a_cancelled_deadline_is_never_reached() {
        let mut wheel = Wheel::new(Instant::ZERO);
        let keys: Vec<_> = (0..3).map(|value| wheel.set(at(5), value)).collect();
        assert_eq!(keys.into_iter().nth(1).and_then(|key| wheel.cancel(key)), Some(1));
        assert_eq!(reached(&mut wheel, at(5)), [0, 2]);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn the_key_of_a_reached_deadline_cancels_no_later_one() {
        let mut wheel = Wheel::new(Instant::ZERO);
        let old = wheel.set(at(1), 1);
        assert_eq!(reached(&mut wheel, at(1)), [1]);
        wheel.set(at(2), 2);
        assert_eq!(wheel.cancel(old), None);
        assert_eq!(reached(&mut wheel, at(2)), [2]);
    }

    #[test]
    fn a_deadline_in_the_past_is_met_at_the_next_tick() {
        let mut wheel = Wheel::new(at(100));
        wheel.set(Instant::ZERO, 7);
        assert_eq!(wheel.poll_timeout(), Some(at(101)));
        assert_eq!(reached(&mut wheel, at(101)), [7]);
    }
}
