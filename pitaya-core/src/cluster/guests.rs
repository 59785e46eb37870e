//! The calls that another server sends for its sessions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::queue::{CallQueue, Ended, Expired, Start, Ticket};
use crate::{CallKey, ConnConfig, Instant, SessionId};

/// A [`CallQueue`] for each session of one frontend that has calls here; so they run by the same
/// rules as those of sessions that are connected to this server.
///
/// It belongs to the link with that life of the frontend, and is over with it. `W` is what a
/// waiting call carries.
#[derive(Debug)]
pub struct Guests<W> {
    sessions: BTreeMap<SessionId, Guest<W>>,
    /// When each of them has something to do.
    due: BTreeSet<(Instant, SessionId)>,
    /// Sessions whose turn may have become free.
    ready: VecDeque<SessionId>,
    config: Arc<ConnConfig>,
}

#[derive(Debug)]
struct Guest<W> {
    calls: CallQueue<W>,
    due: Option<Instant>,
}

/// One session has as many calls here as it may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full;

impl<W> Guests<W> {
    /// No calls yet; each session has the bounds of a server.
    pub fn new(config: Arc<ConnConfig>) -> Self {
        Self { sessions: BTreeMap::new(), due: BTreeSet::new(), ready: VecDeque::new(), config }
    }

    /// Takes a call of a session, as [`CallQueue::arrive`].
    ///
    /// # Errors
    ///
    /// A bound is reached. A frontend of ours obeys it by itself: it has the same one.
    pub fn arrive(
        &mut self, now: Instant, session: SessionId, ticket: Ticket, keep: impl FnOnce() -> W,
    ) -> Result<Option<Start>, Full> {
        let config = &self.config;
        let new = || Guest { calls: CallQueue::new(Arc::clone(config)), due: None };
        let guest = self.sessions.entry(session).or_insert_with(new);
        if guest.calls.is_full() {
            return Err(Full);
        }
        let start = guest.calls.arrive(now, ticket, keep);
        self.update(session);
        Ok(start)
    }

    /// The next call that waited for its turn, and has it now.
    pub fn poll_start(&mut self, now: Instant) -> Option<(SessionId, Start, W)> {
        while let Some(session) = self.ready.pop_front() {
            let started = self.sessions.get_mut(&session).and_then(|it| it.calls.poll_start(now));
            self.update(session);
            if let Some((start, kept)) = started {
                return Some((session, start, kept));
            }
        }
        None
    }

    /// Learns that a handler has ended, as [`CallQueue::handle_ended`].
    pub fn handle_ended(&mut self, session: SessionId, key: CallKey) -> Ended {
        let Some(guest) = self.sessions.get_mut(&session) else { return Ended::Nothing };
        let ended = guest.calls.handle_ended(key);
        self.ready.push_back(session);
        self.update(session);
        ended
    }

    /// Gives what the deadlines that `now` has reached did, one call at a time.
    pub fn poll_expired(&mut self, now: Instant) -> Option<(SessionId, Expired)> {
        while let Some(&(_, session)) = self.due.first().filter(|(due, _)| *due <= now) {
            let guest = self.sessions.get_mut(&session)?;
            let expired = guest.calls.poll_expired(now);
            self.ready.push_back(session);
            self.update(session);
            if let Some(expired) = expired {
                return Some((session, expired));
            }
        }
        None
    }

    /// A session is over, as [`CallQueue::close`].
    pub fn close(&mut self, session: SessionId, cancel: impl FnMut(CallKey)) -> usize {
        let Some(guest) = self.sessions.get_mut(&session) else { return 0 };
        let dropped = guest.calls.close(cancel);
        self.update(session);
        dropped
    }

    /// The requests of a session that are not answered.
    pub fn unanswered(&self, session: SessionId) -> Vec<NonZeroU64> {
        let guest = self.sessions.get(&session).into_iter();
        guest.flat_map(|guest| guest.calls.unanswered()).collect()
    }

    /// The sessions that have calls here.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys().copied()
    }

    /// When [`poll_expired`](Self::poll_expired) has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Notes when a session has something to do; one without calls needs nothing.
    fn update(&mut self, session: SessionId) {
        let Some(guest) = self.sessions.get_mut(&session) else { return };
        let due = guest.calls.poll_timeout();
        let before = std::mem::replace(&mut guest.due, due);
        if guest.calls.count() == 0 {
            self.sessions.remove(&session);
        }
        if before != due {
            if let Some(before) = before {
                self.due.remove(&(before, session));
            }
            self.due.extend(due.map(|due| (due, session)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pitaya_proto::dictionary::Dictionary;

    use super::*;
    use crate::{Limits, Options, RouteId};

    const ANN: SessionId = SessionId(1);
    const BOB: SessionId = SessionId(2);

    fn guests() -> Guests<&'static str> {
        let limits = Limits::default().calls_max(3);
        Guests::new(ConnConfig::new("json", Dictionary::default(), limits).unwrap().into())
    }

    fn ticket(id: u64) -> Ticket {
        let request = NonZeroU64::new(id);
        Ticket { bytes: 1, options: Options::default(), request, route: RouteId(0) }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn starts(guests: &mut Guests<&'static str>, session: SessionId, id: u64) -> CallKey {
        guests.arrive(at(0), session, ticket(id), || "").unwrap().expect("it has the turn").key
    }

    fn waits(guests: &mut Guests<&'static str>, session: SessionId, id: u64, kept: &'static str) {
        assert_eq!(guests.arrive(at(0), session, ticket(id), || kept), Ok(None));
    }

    #[test]
    fn calls_of_one_session_take_turns_and_those_of_two_do_not() {
        let mut guests = guests();
        let first = starts(&mut guests, ANN, 1);
        waits(&mut guests, ANN, 2, "second");
        starts(&mut guests, BOB, 3);
        assert_eq!(guests.poll_start(at(0)), None);
        assert_eq!(guests.handle_ended(ANN, first), Ended::Answers(NonZeroU64::MIN));
        let (session, start, kept) = guests.poll_start(at(0)).expect("its turn has come");
        assert_eq!((session, start.ticket.request, kept), (ANN, NonZeroU64::new(2), "second"));
        assert_eq!(guests.poll_start(at(0)), None);
    }

    #[test]
    fn a_session_without_calls_is_forgotten() {
        let mut guests = guests();
        let key = starts(&mut guests, ANN, 1);
        guests.handle_ended(ANN, key);
        assert_eq!((guests.sessions().count(), guests.poll_timeout()), (0, None));
        assert_eq!(guests.handle_ended(ANN, key), Ended::Nothing);
    }

    #[test]
    fn each_session_has_its_own_deadlines() {
        let mut guests = guests();
        starts(&mut guests, ANN, 1);
        waits(&mut guests, ANN, 2, "waits");
        guests.arrive(at(1), BOB, ticket(3), || "").unwrap();
        assert_eq!(guests.poll_timeout(), Some(at(5)));
        let mut expired = |seconds| {
            std::iter::from_fn(|| guests.poll_expired(at(seconds)))
                .map(|(session, _)| session)
                .collect::<Vec<_>>()
        };
        assert_eq!(expired(4), []);
        assert_eq!(expired(5), [ANN, ANN]);
        assert_eq!(expired(6), [BOB]);
        assert_eq!(expired(20), [ANN], "it ran until the hard limit");
        assert_eq!(guests.sessions().collect::<Vec<_>>(), [BOB]);
    }

    #[test]
    fn a_call_too_many_is_refused_and_a_closed_session_drops_what_waits() {
        let mut guests = guests();
        let first = starts(&mut guests, ANN, 1);
        waits(&mut guests, ANN, 2, "");
        waits(&mut guests, ANN, 3, "");
        assert_eq!(guests.arrive(at(0), ANN, ticket(4), || ""), Err(Full));
        assert_eq!(guests.close(ANN, |_| panic!("it may run on")), 2);
        assert_eq!(guests.handle_ended(ANN, first), Ended::Late);
        assert_eq!((guests.sessions().count(), guests.poll_start(at(0))), (0, None));
    }
}
