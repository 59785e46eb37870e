//! Whose turn it is to shake hands of TLS. Each handshake is milliseconds of work for the thread
//! that also serves players, so only so many are in progress at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use pitaya_core::Instant;

/// The handshakes in progress, and those that wait for them.
#[derive(Debug)]
pub(crate) struct Turns {
    begun_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    drawn: u64,
    /// The oldest first.
    begun: VecDeque<(Instant, u64)>,
    waiting: BTreeMap<u64, Waker>,
}

impl Turns {
    /// At most `begun_max` at a time.
    pub(crate) fn new(begun_max: usize) -> Arc<Self> {
        Arc::new(Self { begun_max, inner: Mutex::default() })
    }

    /// For one handshake; whose turn it was is over when the ticket is dropped.
    pub(crate) fn ticket(self: &Arc<Self>) -> Ticket {
        let mut inner = self.lock();
        inner.drawn += 1;
        Ticket { number: inner.drawn, turns: Arc::clone(self) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to wait for a turn, and to keep it.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    turns: Arc<Turns>,
}

impl Ticket {
    /// Takes the turn; or says when to ask again, unless `waker` is woken before that.
    pub(crate) fn begin(&self, now: Instant, waker: &Waker) -> Option<Instant> {
        let mut inner = self.turns.lock();
        // The work for those that stall is done, or never comes; they hold up nobody.
        while inner.begun.pop_front_if(|(begun, _)| *begun + STALLED <= now).is_some() {}
        let free = self.turns.begun_max.saturating_sub(inner.begun.len());
        // Whoever came last has the most time left to make use of a turn.
        if inner.waiting.range(self.number + 1..).take(free).count() < free {
            inner.waiting.remove(&self.number);
            inner.begun.push_back((now, self.number));
            return None;
        }
        inner.waiting.insert(self.number, waker.clone());
        let oldest = inner.begun.front().map_or(now, |(begun, _)| *begun);
        Some((oldest + STALLED).max(now + PAUSE))
    }

    /// Ends when the waker that was left is called.
    pub(crate) async fn called(&self) {
        let is_waiting = || self.turns.lock().waiting.contains_key(&self.number);
        std::future::poll_fn(|_| if is_waiting() { Poll::Pending } else { Poll::Ready(()) }).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.turns.lock();
        inner.begun.retain(|(_, number)| *number != self.number);
        if inner.waiting.remove(&self.number).is_none() {
            // It had its turn, or was called and makes no use of it.
            let next = inner.waiting.pop_last();
            drop(inner);
            next.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }
}

/// After so long a handshake that began does not count any more: a round trip takes less.
const STALLED: Duration = Duration::from_secs(1);
/// Who waits asks again no sooner, so that a crowd is little work.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(ticket: &Ticket, millis: u64) -> bool {
        let now = Instant::ZERO + Duration::from_millis(millis);
        ticket.begin(now, Waker::noop()).is_none()
    }

    #[test]
    fn only_so_many_are_in_progress_and_each_makes_room_when_it_ends() {
        let turns = Turns::new(2);
        let [first, second, third] = [(); 3].map(|()| turns.ticket());
        assert!(begins(&first, 0) && begins(&second, 0) && !begins(&third, 0));
        drop(second);
        assert!(begins(&third, 0) && !begins(&turns.ticket(), 0));
        assert!(turns.lock().waiting.is_empty());
    }

    #[test]
    fn who_stalls_holds_up_the_others_for_a_second() {
        let turns = Turns::new(1);
        let (stalled, next) = (turns.ticket(), turns.ticket());
        assert!(begins(&stalled, 0) && !begins(&next, 999) && begins(&next, 1000));
        drop(stalled);
        assert!(!begins(&turns.ticket(), 1000), "a turn is given back once");
    }

    #[test]
    fn the_last_to_come_goes_first() {
        let turns = Turns::new(1);
        let [stalled, older, newer] = [(); 3].map(|()| turns.ticket());
        assert!(begins(&stalled, 0) && !begins(&older, 0) && !begins(&newer, 0));
        assert!(!begins(&older, 1000) && begins(&newer, 1000));
    }

    #[test]
    fn the_last_to_come_is_called_first() {
        let turns = Turns::new(1);
        let tickets = [(); 3].map(|()| turns.ticket());
        let [first, second, third] = &tickets;
        assert!(begins(first, 0) && !begins(third, 0) && !begins(second, 0));
        let [first, _second, third] = tickets;
        drop(first);
        let waiting: Vec<_> = turns.lock().waiting.keys().copied().collect();
        assert!(!waiting.contains(&third.number) && waiting.len() == 1);
        assert!(begins(&third, 0));
    }
}
