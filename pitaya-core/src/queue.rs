//! How the calls of one session run on one server: who has the turn, who waits, who is late.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::{CallKey, Instant, Limits, Options, RouteId, earlier};

/// The calls of one session on the server that executes them.
///
/// Handlers run one after another in the order of arrival, but for routes that are concurrent. A call is
/// *waiting*, *running* or *late*: late once its caller was told of the timeout while it runs on. `W` is
/// what a waiting call carries. The queue decides; who runs handlers and writes replies is not its concern.
#[derive(Debug)]
pub struct CallQueue<W> {
    waiting: VecDeque<(Arrival, W)>,
    started: Vec<Started>,
    turn: Option<CallKey>,
    waiting_bytes: usize,
    next_key: u64,
    bounds: Bounds,
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
    /// It was not done in time: the caller must be told, if it wants an answer. It never runs, or it is late.
    TimedOut(Ticket, Duration),
}

/// What the end of a handler means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The caller waits for this reply.
    Answers(NonZeroU64),
    /// Nobody waits any more: the caller has been answered, or the session is closed.
    Late,
    /// A notify has no reply, and a key that is not known has none either.
    Nothing,
}

impl<W> CallQueue<W> {
    /// An empty queue with the bounds of `limits`.
    pub fn new(limits: &Limits) -> Self {
        Self {
            waiting: VecDeque::new(),
            started: Vec::new(),
            turn: None,
            waiting_bytes: 0,
            next_key: 0,
            bounds: Bounds {
                calls_max: limits.calls_max,
                waiting_bytes_max: limits.calls_waiting_bytes_max,
                deadline: limits.call_deadline,
                hard_limit: limits.call_hard_limit,
            },
        }
    }

    /// Takes a call that arrived. If it may start at once it is returned; otherwise it waits with what `keep` gives.
    ///
    /// The bounds are the caller's to obey: ask [`is_full`](Self::is_full) before reading the next call.
    pub fn arrive(
        &mut self,
        now: Instant,
        ticket: Ticket,
        keep: impl FnOnce() -> W,
    ) -> Option<Start> {
        let deadline = now + ticket.options.deadline.unwrap_or(self.bounds.deadline);
        let arrival = Arrival { ticket, deadline, arrived: now };
        if ticket.options.concurrent || (self.turn.is_none() && self.waiting.is_empty()) {
            return Some(self.start(now, arrival));
        }
        self.waiting_bytes += ticket.bytes;
        self.waiting.push_back((arrival, keep()));
        None
    }

    /// The oldest waiting call, if the turn is free. A call whose deadline has come is left to
    /// [`poll_expired`](Self::poll_expired).
    pub fn poll_start(&mut self, now: Instant) -> Option<(Start, W)> {
        let (arrival, _) = self.waiting.front().filter(|_| self.turn.is_none())?;
        if arrival.deadline <= now {
            return None;
        }
        let (arrival, kept) = self.waiting.pop_front()?;
        self.waiting_bytes -= arrival.ticket.bytes;
        Some((self.start(now, arrival), kept))
    }

    /// Learns that a handler has ended, which passes the turn on.
    pub fn handle_ended(&mut self, key: CallKey) -> Ended {
        let Some(at) = self.started.iter().position(|started| started.key == key) else {
            return Ended::Nothing;
        };
        let started = self.started.swap_remove(at);
        self.pass_turn(key);
        match started.arrival.ticket.request {
            None => Ended::Nothing,
            Some(_) if started.late => Ended::Late,
            Some(request) => Ended::Answers(request),
        }
    }

    /// Gives what the deadlines that `now` has reached did, one call at a time.
    pub fn poll_expired(&mut self, now: Instant) -> Option<Expired> {
        if let Some(at) = self.waiting.iter().position(|(arrival, _)| arrival.deadline <= now) {
            let (arrival, _) = self.waiting.remove(at)?;
            self.waiting_bytes -= arrival.ticket.bytes;
            return Some(arrival.timed_out());
        }
        if let Some(started) = self.started.iter_mut().find(|started| started.is_overdue(now)) {
            started.late = true;
            return Some(started.arrival.timed_out());
        }
        let at = self.started.iter().position(|started| started.hard_limit <= now)?;
        let started = self.started.swap_remove(at);
        self.pass_turn(started.key);
        Some(Expired::Abandoned(started.key, started.arrival.ticket))
    }

    /// Closes the session: what waits is dropped unrun and counted in the result; what runs is late from now
    /// on and goes on, but for the calls whose keys `cancel` is given.
    pub fn close(&mut self, mut cancel: impl FnMut(CallKey)) -> usize {
        let dropped = self.waiting.len();
        self.waiting = VecDeque::new();
        self.waiting_bytes = 0;
        self.started.retain_mut(|started| {
            started.late = true;
            let cancelled = started.arrival.ticket.options.cancel_on_close;
            if cancelled {
                cancel(started.key);
            }
            !cancelled
        });
        dropped
    }

    /// Whether a bound is reached, so that the session must not be read.
    pub fn is_full(&self) -> bool {
        self.len() >= self.bounds.calls_max || self.waiting_bytes >= self.bounds.waiting_bytes_max
    }

    /// Whether a request with that id waits or runs and is not answered yet.
    pub fn has_request(&self, request: NonZeroU64) -> bool {
        let is = |ticket: &Ticket| ticket.request == Some(request);
        self.started.iter().any(|started| !started.late && is(&started.arrival.ticket))
            || self.waiting.iter().any(|(arrival, _)| is(&arrival.ticket))
    }

    /// Calls that wait, run or are late.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.started.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next moment at which [`poll_expired`](Self::poll_expired) has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|(arrival, _)| arrival.deadline).min();
        earlier(waiting, self.started.iter().map(Started::poll_timeout).min())
    }

    fn start(&mut self, now: Instant, arrival: Arrival) -> Start {
        let key = CallKey(self.next_key);
        self.next_key += 1;
        let options = arrival.ticket.options;
        if !options.concurrent {
            self.turn = Some(key);
        }
        let hard_limit = now + options.hard_limit.unwrap_or(self.bounds.hard_limit);
        self.started.push(Started { key, arrival, hard_limit, late: false });
        Start { key, ticket: arrival.ticket, deadline: arrival.deadline }
    }

    fn pass_turn(&mut self, ended: CallKey) {
        if self.turn == Some(ended) {
            self.turn = None;
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    arrived: Instant,
    deadline: Instant,
    ticket: Ticket,
}

impl Arrival {
    fn timed_out(&self) -> Expired {
        Expired::TimedOut(self.ticket, self.deadline.since(self.arrived))
    }
}

#[derive(Debug)]
struct Started {
    arrival: Arrival,
    hard_limit: Instant,
    key: CallKey,
    late: bool,
}

impl Started {
    /// A request that was not answered in time, or by the moment its handler has to go.
    fn is_overdue(&self, now: Instant) -> bool {
        !self.late && self.arrival.ticket.request.is_some() && self.poll_timeout() <= now
    }

    fn poll_timeout(&self) -> Instant {
        match self.arrival.ticket.request {
            Some(_) if !self.late => self.arrival.deadline.min(self.hard_limit),
            Some(_) | None => self.hard_limit,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    calls_max: usize,
    deadline: Duration,
    hard_limit: Duration,
    waiting_bytes_max: usize,
}
