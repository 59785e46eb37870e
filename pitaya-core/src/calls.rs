//! Requests that wait for their reply: who waits, under which id, and until when.

use foldhash::fast::FixedState;

use crate::Instant;
use crate::planted::mutant;

/// Requests in flight to one peer. `W` is whoever waits for the reply; each waiter comes back
/// exactly once.
///
/// ```
/// use pitaya_core::{Calls, Instant};
///
/// let mut calls = Calls::new(64);
/// let id = calls.start(Instant::from_micros(10), "ada").expect("64 fit");
/// assert_eq!(calls.finish(id), Some("ada"));
/// assert_eq!(calls.finish(id), None);
/// ```
#[derive(Debug)]
pub struct Calls<W> {
    in_flight: InFlight<W>,
    in_flight_max: usize,
    next: RequestId,
}

/// What joins a request and its reply. It is never 0 nor `u32::MAX`, which some peers keep for
/// themselves.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RequestId(u32);

/// Who waits until when. It is looked up twice for each call, and rarely gone through.
#[expect(clippy::disallowed_types, reason = "its order is never seen: who goes through it sorts")]
type InFlight<W> = std::collections::HashMap<RequestId, (Instant, W), FixedState>;

impl<W> Calls<W> {
    /// Nothing in flight, and room for `in_flight_max`.
    pub fn new(in_flight_max: usize) -> Self {
        Self {
            in_flight: InFlight::default(),
            in_flight_max: in_flight_max.min(IDS_MAX),
            next: RequestId::FIRST,
        }
    }

    /// Begins to wait until `deadline`, under an id that no other request in flight has.
    ///
    /// # Errors
    ///
    /// The waiter, if there is no room.
    pub fn start(&mut self, deadline: Instant, waiter: W) -> Result<RequestId, W> {
        if self.in_flight.len() >= self.in_flight_max {
            return Err(waiter);
        }
        while self.in_flight.contains_key(&self.next) {
            self.next = self.next.successor();
        }
        let id = self.next;
        self.next = if mutant("an id is used again") { RequestId::FIRST } else { id.successor() };
        self.in_flight.insert(id, (deadline, waiter));
        Ok(id)
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.in_flight.len()
    }

    /// Everybody who waits, in no order.
    pub fn waiters(&self) -> impl Iterator<Item = &W> {
        self.in_flight.values().map(|(_, waiter)| waiter)
    }

    /// Whoever waits for the reply with this id; nobody if it is too late, or was never asked for.
    pub fn finish(&mut self, id: RequestId) -> Option<W> {
        self.in_flight.remove(&id).map(|(_, waiter)| waiter)
    }

    /// One whose deadline `now` has reached, the earliest first; ask until there is none.
    pub fn expire(&mut self, now: Instant) -> Option<W> {
        let (_, id) = self.deadlines().min().filter(|(deadline, _)| *deadline <= now)?;
        self.finish(id)
    }

    /// Everybody who waits, in the order of their ids: no reply will come.
    pub fn fail_all(&mut self) -> impl Iterator<Item = W> + use<W> {
        let mut failed: Vec<_> = std::mem::take(&mut self.in_flight).into_iter().collect();
        failed.sort_unstable_by_key(|(id, _)| *id);
        failed.into_iter().map(|(_, (_, waiter))| waiter)
    }

    /// When [`expire`](Self::expire) has something to give.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines().min().map(|(deadline, _)| deadline)
    }

    /// So few are in flight that looking at all of them costs less than keeping them in order.
    fn deadlines(&self) -> impl Iterator<Item = (Instant, RequestId)> {
        self.in_flight.iter().map(|(id, (deadline, _))| (*deadline, *id))
    }
}

impl RequestId {
    const FIRST: Self = Self(1);
    const LAST: Self = Self(u32::MAX - 1);

    /// The id on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The id that a reply carries; `None` if no request ever has it.
    pub fn from_wire(id: u64) -> Option<Self> {
        u32::try_from(id).ok().map(Self).filter(|id| (Self::FIRST..=Self::LAST).contains(id))
    }

    fn successor(self) -> Self {
        if self == Self::LAST { Self::FIRST } else { Self(self.0 + 1) }
    }
}

/// One less than there are ids, so that the search for a free one ends.
const IDS_MAX: usize = u32::MAX as usize - 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn ids_count_up_from_one() {
        let mut calls = Calls::new(3);
        for id in 1..=3 {
            assert_eq!(calls.start(at(1), ()).map(RequestId::get), Ok(id));
        }
        assert_eq!(calls.finish(RequestId(2)), Some(()));
        assert_eq!(calls.start(at(1), ()).map(RequestId::get), Ok(4));
    }

    #[test]
    fn ids_wrap_around_those_that_peers_keep_for_themselves_and_those_in_flight() {
        let mut calls = Calls::new(4);
        assert_eq!(calls.start(at(1), "slow"), Ok(RequestId(1)));
        calls.next = RequestId::LAST;
        assert_eq!(calls.start(at(1), "last"), Ok(RequestId(u32::MAX - 1)));
        assert_eq!(calls.start(at(1), "wrapped"), Ok(RequestId(2)));
    }

    #[test]
    fn one_too_many_gets_its_waiter_back() {
        let mut calls = Calls::new(1);
        let id = calls.start(at(1), "first").unwrap();
        assert_eq!(calls.start(at(1), "second"), Err("second"));
        calls.finish(id);
        assert!(calls.start(at(1), "second").is_ok());
    }

    #[test]
    fn deadlines_pass_in_their_order_and_only_once_reached() {
        let mut calls = Calls::new(9);
        for (deadline, waiter) in [(30, "c"), (10, "a"), (20, "b")] {
            calls.start(at(deadline), waiter).unwrap();
        }
        assert_eq!(calls.poll_timeout(), Some(at(10)));
        assert_eq!(calls.expire(at(9)), None);
        assert_eq!(calls.expire(at(20)), Some("a"));
        assert_eq!(calls.expire(at(20)), Some("b"));
        assert_eq!(calls.expire(at(20)), None);
        assert_eq!(calls.poll_timeout(), Some(at(30)));
    }

    #[test]
    fn a_waiter_comes_back_exactly_once() {
        let mut calls = Calls::new(9);
        let finished = calls.start(at(1), "finished").unwrap();
        let expired = calls.start(at(1), "expired").unwrap();
        let failed = calls.start(at(9), "failed").unwrap();
        assert_eq!(calls.finish(finished), Some("finished"));
        assert_eq!(calls.expire(at(5)), Some("expired"));
        assert_eq!(calls.fail_all().collect::<Vec<_>>(), ["failed"]);
        for id in [finished, expired, failed] {
            assert_eq!(calls.finish(id), None);
        }
        assert_eq!((calls.expire(at(9)), calls.poll_timeout()), (None, None));
    }

    #[test]
    fn an_id_that_was_never_given_is_nobodys() {
        for id in [0, u64::from(u32::MAX), 1 << 32 | 1, u64::MAX] {
            assert_eq!(RequestId::from_wire(id), None);
        }
        assert_eq!(RequestId::from_wire(1), Some(RequestId(1)));
    }
}
