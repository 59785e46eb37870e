//! How the calls of one session run on one server: who has the turn, who waits, who is late.

use std::collections::{VecDeque, vec_deque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use thin_vec::ThinVec;

use crate::planted::mutant;
use crate::{CallKey, ConnConfig, Instant, Options, RouteId, earlier};

/// The calls of one session on the server that executes them.
///
/// Handlers run one after another in the order of arrival, but for routes that are concurrent. A
/// call is *waiting*, *running* or *late*: late once its caller was told of the timeout while it
/// runs on. `W` is what a waiting call carries. The queue decides; who runs handlers and writes
/// replies is not its concern.
///
/// Every session has one, most of them without a call, so an empty one is small.
#[derive(Debug)]
pub struct CallQueue<W> {
    config: Arc<ConnConfig>,
    /// Never empty.
    #[allow(clippy::box_collection, reason = "a session that is idle has a pointer, and no more")]
    waiting: Option<Box<VecDeque<Waiting<W>>>>,
    started: ThinVec<Started>,
    turn: Option<CallKey>,
    /// Calls that ever started.
    starts: u64,
}

/// What the queue must know of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket {
    /// Bytes that the call holds while it waits.
    pub bytes: usize,
    /// How calls of its route run.
    pub options: Options,
    /// The caller's id for it; nothing for a notify.
    pub request: Option<NonZeroU64>,
    /// Its route.
    pub route: RouteId,
}

/// A call that may start now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Start {
    /// When its caller stops waiting.
    pub deadline: Instant,
    /// To be given to [`CallQueue::handle_ended`].
    pub key: CallKey,
    /// What was known of it at arrival.
    pub ticket: Ticket,
}

/// What a deadline did to a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expired {
    /// It ran until the hard limit: its handler must be dropped now.
    Abandoned(CallKey, Ticket),
    /// It was not done in time: the caller must be told, if it wants an answer. It never runs, or
    /// it is late.
    TimedOut(Ticket, Duration),
}

/// What the end of a handler means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The caller waits for this reply.
    Answers(NonZeroU64),
    /// Nobody waits any more: the caller has been answered, or the session is closed.
    Late,
    /// There is no such call.
    Nothing,
    /// A notify of this route has no reply.
    Notified(RouteId),
}

impl<W> CallQueue<W> {
    /// An empty queue with the bounds of a server.
    pub fn new(config: Arc<ConnConfig>) -> Self {
        let started = ThinVec::new();
        Self { config, waiting: None, started, turn: None, starts: 0 }
    }

    /// Takes a call that arrived. If it may start at once it is returned; otherwise it waits with
    /// what `keep` gives.
    ///
    /// The bounds are the caller's to obey: ask [`is_full`](Self::is_full) before reading the next
    /// call.
    pub fn arrive(
        &mut self, now: Instant, ticket: Ticket, keep: impl FnOnce() -> W,
    ) -> Option<Start> {
        let deadline = now + self.timeout(&ticket);
        let concurrent = ticket.options.concurrent || mutant("calls take no turns");
        if concurrent || (self.turn.is_none() && self.waiting.is_none()) {
            return Some(self.start(now, deadline, ticket));
        }
        let waiting = self.waiting.get_or_insert_default();
        waiting.push_back(Waiting { deadline, ticket, kept: keep() });
        None
    }

    /// The oldest waiting call, if the turn is free. A call whose deadline has come is left to
    /// [`poll_expired`](Self::poll_expired).
    pub fn poll_start(&mut self, now: Instant) -> Option<(Start, W)> {
        let oldest = self.waiting.as_deref().filter(|_| self.turn.is_none())?.front()?;
        if oldest.deadline <= now {
            return None;
        }
        let Waiting { deadline, ticket, kept } = self.take_waiting(0)?;
        Some((self.start(now, deadline, ticket), kept))
    }

    /// Learns that a handler has ended, which passes the turn on.
    pub fn handle_ended(&mut self, key: CallKey) -> Ended {
        let Some(at) = self.started.iter().position(|started| started.start.key == key) else {
            return Ended::Nothing;
        };
        let Started { late, start, .. } = self.end(at);
        match start.ticket.request {
            None => Ended::Notified(start.ticket.route),
            Some(_) if late => Ended::Late,
            Some(request) => Ended::Answers(request),
        }
    }

    /// Gives what the deadlines that `now` has reached did, one call at a time.
    pub fn poll_expired(&mut self, now: Instant) -> Option<Expired> {
        let overdue = self.waiting().position(|waiting| waiting.deadline <= now);
        if let Some(at) = overdue {
            let Waiting { ticket, .. } = self.take_waiting(at)?;
            return Some(Expired::TimedOut(ticket, self.timeout(&ticket)));
        }
        if let Some(overdue) = self.started.iter_mut().find(|started| started.is_overdue(now)) {
            overdue.late = true;
            let Start { deadline, ticket, .. } = overdue.start;
            // Less than its deadline if the hard limit is shorter.
            let waited = self.timeout(&ticket).saturating_sub(deadline.since(now));
            return Some(Expired::TimedOut(ticket, waited));
        }
        let at = self.started.iter().position(|started| started.hard_limit <= now)?;
        let Start { key, ticket, .. } = self.end(at).start;
        Some(Expired::Abandoned(key, ticket))
    }

    /// Closes the session: what waits is dropped unrun and counted in the result; what runs is late
    /// from now on and goes on, but for the calls whose keys `cancel` is given.
    pub fn close(&mut self, mut cancel: impl FnMut(CallKey)) -> usize {
        let dropped = self.waiting().len();
        self.waiting = None;
        self.started.retain_mut(|started| {
            started.late = true;
            let cancelled = started.start.ticket.options.cancel_on_close;
            if cancelled {
                cancel(started.start.key);
                self.turn = self.turn.filter(|turn| *turn != started.start.key);
            }
            !cancelled
        });
        dropped
    }

    /// The requests whose callers were told nothing yet.
    pub fn unanswered(&self) -> impl Iterator<Item = NonZeroU64> {
        let waiting = self.waiting().map(|waiting| &waiting.ticket);
        let started = self.started.iter().filter(|started| !started.late);
        waiting.chain(started.map(|it| &it.start.ticket)).filter_map(|ticket| ticket.request)
    }

    /// Lets go of memory that is not used.
    pub(crate) fn rest(&mut self) {
        self.started.shrink_to_fit();
    }

    /// Whether a call waits for its turn.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether a bound is reached, so that the session must not be read.
    pub fn is_full(&self) -> bool {
        let limits = &self.config.limits;
        let waiting_bytes = || self.waiting().map(|waiting| waiting.ticket.bytes).sum::<usize>();
        self.count() >= limits.calls_max
            || self.waiting.is_some() && waiting_bytes() >= limits.calls_waiting_bytes_max
    }

    /// Whether a request with that id waits or runs and is not answered yet.
    pub fn has_request(&self, request: NonZeroU64) -> bool {
        let is = |ticket: &Ticket| ticket.request == Some(request);
        self.started.iter().any(|started| !started.late && is(&started.start.ticket))
            || self.waiting.is_some() && self.waiting().any(|waiting| is(&waiting.ticket))
    }

    /// Calls that wait, run or are late.
    pub fn count(&self) -> usize {
        self.waiting.as_deref().map_or(0, VecDeque::len) + self.started.len()
    }

    /// The next moment at which [`poll_expired`](Self::poll_expired) has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting().map(|waiting| waiting.deadline).min();
        earlier(waiting, self.started.iter().map(Started::poll_timeout).min())
    }

    fn start(&mut self, now: Instant, deadline: Instant, ticket: Ticket) -> Start {
        let key = CallKey(NonZeroU64::MIN.saturating_add(self.starts));
        self.starts += 1;
        if !ticket.options.concurrent {
            self.turn = Some(key);
        }
        let hard_limit = ticket.options.hard_limit.unwrap_or(self.config.limits.call_hard_limit);
        let start = Start { deadline, key, ticket };
        self.started.push(Started { hard_limit: now + hard_limit, late: false, start });
        start
    }

    /// Takes out what has ended, which passes the turn on.
    fn end(&mut self, at: usize) -> Started {
        let ended = self.started.remove(at);
        if self.turn == Some(ended.start.key) {
            self.turn = None;
        }
        ended
    }

    fn timeout(&self, ticket: &Ticket) -> Duration {
        ticket.options.deadline.unwrap_or(self.config.limits.call_deadline)
    }

    /// Takes out what waits at `at`; the last one leaves no memory behind.
    fn take_waiting(&mut self, at: usize) -> Option<Waiting<W>> {
        let waiting = self.waiting.as_mut()?;
        let taken = waiting.remove(at);
        if waiting.is_empty() {
            self.waiting = None;
        }
        taken
    }

    fn waiting(&self) -> vec_deque::Iter<'_, Waiting<W>> {
        self.waiting.as_deref().map(VecDeque::iter).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Waiting<W> {
    deadline: Instant,
    ticket: Ticket,
    kept: W,
}

#[derive(Debug)]
struct Started {
    hard_limit: Instant,
    late: bool,
    start: Start,
}

impl Started {
    /// A request that was not answered in time, or by the moment its handler has to go.
    fn is_overdue(&self, now: Instant) -> bool {
        !self.late && self.start.ticket.request.is_some() && self.poll_timeout() <= now
    }

    fn poll_timeout(&self) -> Instant {
        match self.start.ticket.request {
            Some(_) if !self.late => self.start.deadline.min(self.hard_limit),
            Some(_) | None => self.hard_limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use pitaya_proto::dictionary::Dictionary;

    use super::*;
    use crate::Limits;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue() -> CallQueue<&'static str> {
        let limits = Limits::default().calls_max(4).calls_waiting_bytes_max(100);
        CallQueue::new(Arc::new(ConnConfig::new("json", Dictionary::default(), limits).unwrap()))
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + SECOND * u32::try_from(seconds).unwrap()
    }

    fn request(id: u64) -> Ticket {
        let request = NonZeroU64::new(id);
        Ticket { bytes: 10, options: Options::default(), request, route: RouteId(0) }
    }

    fn notify() -> Ticket {
        request(0)
    }

    fn concurrent(id: u64) -> Ticket {
        Ticket { options: Options::concurrent(), ..request(id) }
    }

    fn runs(queue: &mut CallQueue<&'static str>, ticket: Ticket) -> CallKey {
        queue.arrive(at(0), ticket, || panic!("it waits")).expect("it has the turn").key
    }

    fn waits(queue: &mut CallQueue<&'static str>, ticket: Ticket, kept: &'static str) {
        assert_eq!(queue.arrive(at(0), ticket, || kept), None);
    }

    #[test]
    fn the_oldest_waiting_call_gets_the_turn_when_the_one_before_has_ended() {
        let mut queue = queue();
        let first = runs(&mut queue, request(1));
        waits(&mut queue, notify(), "second");
        waits(&mut queue, request(3), "third");
        assert_eq!(queue.poll_start(at(0)), None);
        assert_eq!(queue.handle_ended(first), Ended::Answers(NonZeroU64::MIN));
        let (second, kept) = queue.poll_start(at(0)).unwrap();
        assert_eq!((kept, queue.poll_start(at(0))), ("second", None));
        assert_eq!(queue.handle_ended(second.key), Ended::Notified(RouteId(0)));
        assert_eq!(queue.poll_start(at(0)).unwrap().1, "third");
    }

    #[test]
    fn a_call_that_arrives_while_others_wait_does_not_overtake_them() {
        let mut queue = queue();
        let first = runs(&mut queue, request(1));
        waits(&mut queue, request(2), "second");
        queue.handle_ended(first);
        waits(&mut queue, request(3), "third");
        assert_eq!(queue.poll_start(at(0)).unwrap().1, "second");
    }

    #[test]
    fn a_concurrent_call_starts_at_once_and_leaves_the_turn_free() {
        let mut queue = queue();
        let concurrent_first = runs(&mut queue, concurrent(1));
        runs(&mut queue, request(2));
        runs(&mut queue, concurrent(3));
        waits(&mut queue, request(4), "waits");
        queue.handle_ended(concurrent_first);
        assert_eq!(queue.poll_start(at(0)), None, "it had no turn to pass on");
    }

    #[test]
    fn every_call_counts_towards_the_bound_and_waiting_bytes_towards_theirs() {
        let mut queue = queue();
        let first = runs(&mut queue, concurrent(1));
        runs(&mut queue, notify());
        waits(&mut queue, request(3), "");
        assert!(!queue.is_full());
        waits(&mut queue, Ticket { bytes: 90, ..request(4) }, "");
        assert!(queue.is_full() && queue.count() == 4);
        queue.handle_ended(first);
        assert!(queue.is_full(), "100 bytes wait");
        assert!(queue.poll_expired(at(5)).is_some());
        assert!(!queue.is_full());
    }

    #[test]
    fn at_its_deadline_a_waiting_call_is_timed_out_and_never_starts() {
        let mut queue = queue();
        let first = runs(&mut queue, notify());
        waits(&mut queue, request(2), "");
        queue.handle_ended(first);
        assert_eq!(queue.poll_start(at(5)), None, "it is too late to start it");
        assert_eq!(queue.poll_timeout(), Some(at(5)));
        assert_eq!(queue.poll_expired(at(4)), None);
        assert_eq!(queue.poll_expired(at(5)), Some(Expired::TimedOut(request(2), SECOND * 5)));
        assert!(queue.count() == 0 && queue.poll_timeout().is_none());
    }

    #[test]
    fn at_its_deadline_a_running_call_is_timed_out_once_and_keeps_the_turn() {
        let mut queue = queue();
        let first = runs(&mut queue, request(1));
        assert_eq!(queue.poll_expired(at(5)), Some(Expired::TimedOut(request(1), SECOND * 5)));
        assert_eq!(queue.poll_expired(at(19)), None);
        assert!(!queue.has_request(NonZeroU64::MIN), "its id is free");
        waits(&mut queue, request(2), "");
        assert_eq!(queue.handle_ended(first), Ended::Late);
        assert!(queue.poll_start(at(1)).is_some());
    }

    #[test]
    fn at_the_hard_limit_a_call_is_dropped_and_the_turn_passes() {
        let mut queue = queue();
        let first = runs(&mut queue, notify());
        assert_eq!(queue.poll_timeout(), Some(at(20)), "a running notify has no deadline");
        waits(&mut queue, Ticket { options: hour(), ..request(2) }, "second");
        assert_eq!(queue.poll_expired(at(20)), Some(Expired::Abandoned(first, notify())));
        assert_eq!(queue.handle_ended(first), Ended::Nothing);
        assert_eq!(queue.poll_start(at(20)).unwrap().1, "second");
        assert_eq!(queue.poll_timeout(), Some(at(40)), "its limit counts from its start");
    }

    #[test]
    fn a_hard_limit_before_the_deadline_is_the_time_that_was_waited() {
        let mut queue = queue();
        let options = Options { hard_limit: Some(SECOND * 2), ..Options::default() };
        let key = runs(&mut queue, Ticket { options, ..request(1) });
        let ticket = Ticket { options, ..request(1) };
        assert_eq!(queue.poll_expired(at(2)), Some(Expired::TimedOut(ticket, SECOND * 2)));
        assert_eq!(queue.poll_expired(at(2)), Some(Expired::Abandoned(key, ticket)));
    }

    #[test]
    fn a_call_that_is_cancelled_leaves_the_turn_free() {
        let mut queue = queue();
        let options = Options { cancel_on_close: true, ..Options::default() };
        runs(&mut queue, Ticket { options, ..request(1) });
        queue.close(|_| ());
        runs(&mut queue, request(2));
    }

    #[test]
    fn a_notify_that_waits_past_its_deadline_is_dropped() {
        let mut queue = queue();
        runs(&mut queue, notify());
        waits(&mut queue, notify(), "");
        assert_eq!(queue.poll_expired(at(5)), Some(Expired::TimedOut(notify(), SECOND * 5)));
        assert_eq!((queue.poll_expired(at(19)), queue.count()), (None, 1));
    }

    #[test]
    fn closing_drops_what_waits_and_cancels_only_what_asks_for_it() {
        let mut queue = queue();
        let options = Options { cancel_on_close: true, ..Options::concurrent() };
        let torn = runs(&mut queue, Ticket { options, ..request(1) });
        let whole = runs(&mut queue, request(2));
        waits(&mut queue, request(3), "");
        let mut cancelled = Vec::new();
        assert_eq!(queue.close(|key| cancelled.push(key)), 1);
        assert_eq!((cancelled, queue.count()), (vec![torn], 1));
        assert_eq!(queue.poll_expired(at(19)), None, "nobody is left to be told of a timeout");
        assert_eq!(queue.handle_ended(whole), Ended::Late);
        assert_eq!(queue.poll_start(at(0)), None);
    }

    fn hour() -> Options {
        Options { deadline: Some(SECOND * 3600), ..Options::default() }
    }
}
