//! The call queue against its rules, kept by a plain list that is searched anew for every question.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use pitaya_core::{
    CallKey, CallQueue, ConnConfig, Ended, Expired, Instant, Limits, Options, RouteEntry, RouteId,
    RouteTable, Start, Ticket,
};
use pitaya_proto::dictionary::Dictionary;

use crate::script::Script;

/// The input is a byte that chooses bounds, and a script.
pub fn call_queue(data: &[u8]) {
    let mut script = Script::new(data);
    let limits = match script.choice() % 2 {
        0 => Limits::default().calls_max(3).calls_waiting_bytes_max(40),
        _ => Limits::default(),
    };
    let mut run = Run {
        queue: CallQueue::new(config(limits.clone())),
        rules: Rules { calls: Vec::new(), limits },
        now: Instant::ZERO,
        route: route(),
        is_closed: false,
    };
    while let Some(step) = script.step() {
        run.step(step);
        run.agrees();
    }
    run.ends();
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Arrive(Kind),
    Close,
    End(u8),
    EndUnknown,
    Expire,
    Start,
    Wait(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Kind {
    id: u8,
    bytes: u8,
    concurrent: bool,
    cancel_on_close: bool,
    deadline: Option<u8>,
    hard_limit: Option<u8>,
}

struct Run {
    queue: CallQueue<usize>,
    rules: Rules,
    now: Instant,
    route: RouteId,
    is_closed: bool,
}

impl Run {
    fn step(&mut self, step: Step) {
        match step {
            Step::Arrive(kind) => self.arrive(kind),
            Step::Close => self.close(),
            Step::End(at) => self.end(at.into()),
            Step::EndUnknown => self.end_again(),
            Step::Expire => self.expire(),
            Step::Start => self.start(),
            Step::Wait(wait) => self.now = self.now + seconds(wait),
        }
    }

    /// As whoever reads a session: not while a bound is reached, nothing that is in flight already,
    /// and nothing of a closed one.
    fn arrive(&mut self, kind: Kind) {
        let request = NonZeroU64::new(u64::from(kind.id) % 16);
        let in_flight = request.is_some_and(|id| self.queue.has_request(id));
        if self.queue.is_full() || self.is_closed || in_flight {
            return;
        }
        let ticket = self.ticket(kind, request);
        let serial = self.rules.calls.len();
        let start = self.queue.arrive(self.now, ticket, || serial);
        let starts = self.rules.arrive(self.now, kind, ticket);
        assert_eq!(start.is_some(), starts, "{ticket:?}");
        if let Some(start) = start {
            self.rules.start(self.now, serial, start);
        }
    }

    fn ticket(&self, kind: Kind, request: Option<NonZeroU64>) -> Ticket {
        let options = Options {
            cancel_on_close: kind.cancel_on_close,
            concurrent: kind.concurrent,
            deadline: kind.deadline.map(seconds),
            hard_limit: kind.hard_limit.map(seconds),
        };
        Ticket { bytes: usize::from(kind.bytes) % 32, options, request, route: self.route }
    }

    fn start(&mut self) {
        let polled = self.queue.poll_start(self.now);
        assert_eq!(polled.map(|(_, serial)| serial), self.rules.next_start(self.now));
        if let Some((start, serial)) = polled {
            self.rules.start(self.now, serial, start);
        }
    }

    fn end(&mut self, at: usize) {
        let running: Vec<_> = self.rules.with(State::is_started).collect();
        let Some(serial) = running.get(at % running.len().max(1)).copied() else { return };
        let key = self.rules.calls[serial].key.expect("it started");
        assert_eq!(self.queue.handle_ended(key), self.rules.end(serial));
    }

    /// A handler whose end was told before, or that was dropped.
    fn end_again(&mut self) {
        let gone: Vec<CallKey> = self
            .rules
            .with(|state| matches!(state, State::Gone))
            .filter_map(|serial| self.rules.calls[serial].key)
            .collect();
        for key in gone {
            assert_eq!(self.queue.handle_ended(key), Ended::Nothing);
        }
    }

    fn expire(&mut self) {
        let mut expired: Vec<String> = Vec::new();
        while let Some(one) = self.queue.poll_expired(self.now) {
            expired.push(format!("{one:?}"));
            assert!(expired.len() <= 2 * self.rules.calls.len(), "it expires for ever");
        }
        let mut expected: Vec<String> =
            self.rules.expire(self.now).iter().map(|one| format!("{one:?}")).collect();
        expired.sort();
        expected.sort();
        assert_eq!(expired, expected);
        assert!(self.queue.poll_timeout().is_none_or(|at| at > self.now));
    }

    fn close(&mut self) {
        let mut cancelled = Vec::new();
        let dropped = self.queue.close(|key| cancelled.push(key));
        cancelled.sort();
        assert_eq!((dropped, cancelled), self.rules.close());
        self.is_closed = true;
    }

    fn agrees(&self) {
        let (queue, rules) = (&self.queue, &self.rules);
        let waiting_bytes: usize = rules.waiting().map(|at| rules.calls[at].ticket.bytes).sum();
        let len = rules.with(|state| !matches!(state, State::Gone)).count();
        assert_eq!(queue.count(), len);
        let is_full =
            len >= rules.limits.calls_max || waiting_bytes >= rules.limits.calls_waiting_bytes_max;
        assert_eq!(queue.is_full(), is_full);
        assert_eq!(queue.poll_timeout(), rules.calls.iter().filter_map(Call::due).min());
        for id in (1..16).filter_map(NonZeroU64::new) {
            assert_eq!(queue.has_request(id), rules.has_request(id), "request {id}");
        }
        let ordered = |at: &usize| !rules.calls[*at].kind.concurrent;
        assert!(rules.with(State::is_started).filter(ordered).count() <= 1, "two have the turn");
    }

    /// Without any end of a handler, time alone empties the queue, and nothing is left untold.
    fn ends(&mut self) {
        while let Some(deadline) = self.queue.poll_timeout() {
            self.now = self.now.max(deadline);
            self.expire();
            self.start();
            self.agrees();
        }
        assert_eq!(self.queue.count(), 0);
        let untold = |call: &&Call| call.ticket.request.is_some() && call.outcomes != 1;
        let untold: Vec<_> = self.rules.calls.iter().filter(untold).collect();
        assert!(untold.is_empty() || self.is_closed, "{untold:?}");
        assert!(self.rules.calls.iter().all(|call| call.outcomes <= 1));
    }
}

/// Rules 1 to 6, and every call there ever was, in the order of arrival.
struct Rules {
    calls: Vec<Call>,
    limits: Limits,
}

#[derive(Debug)]
struct Call {
    kind: Kind,
    ticket: Ticket,
    arrived: Instant,
    deadline: Instant,
    hard_limit: Option<Instant>,
    key: Option<CallKey>,
    state: State,
    /// How often its caller was answered or told.
    outcomes: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Gone,
    Late,
    Running,
    Waiting,
}

impl State {
    fn is_started(self) -> bool {
        matches!(self, Self::Running | Self::Late)
    }
}

impl Call {
    /// The time that was waited is less than the deadline if the hard limit came before.
    fn timed_out(&self, now: Instant) -> Expired {
        Expired::TimedOut(self.ticket, now.min(self.deadline).since(self.arrived))
    }

    /// When time does something to it.
    fn due(&self) -> Option<Instant> {
        match self.state {
            State::Gone => None,
            State::Waiting => Some(self.deadline),
            State::Running if self.ticket.request.is_some() => {
                self.hard_limit.map(|limit| limit.min(self.deadline))
            }
            State::Running | State::Late => self.hard_limit,
        }
    }
}

impl Rules {
    fn with(&self, is: impl Fn(State) -> bool) -> impl Iterator<Item = usize> {
        let found = move |at: &usize| is(self.calls[*at].state);
        (0..self.calls.len()).filter(found)
    }

    fn waiting(&self) -> impl Iterator<Item = usize> {
        self.with(|state| matches!(state, State::Waiting))
    }

    fn turn_is_free(&self) -> bool {
        self.with(State::is_started).all(|at| self.calls[at].kind.concurrent)
    }

    /// Whether it starts at once.
    fn arrive(&mut self, now: Instant, kind: Kind, ticket: Ticket) -> bool {
        let free = self.turn_is_free() && self.waiting().next().is_none();
        let deadline = kind.deadline.map_or(self.limits.call_deadline, seconds);
        self.calls.push(Call {
            kind,
            ticket,
            arrived: now,
            deadline: now + deadline,
            hard_limit: None,
            key: None,
            state: State::Waiting,
            outcomes: 0,
        });
        free || kind.concurrent
    }

    fn start(&mut self, now: Instant, serial: usize, start: Start) {
        assert!(self.calls.iter().all(|call| call.key != Some(start.key)), "a key comes twice");
        let call = &mut self.calls[serial];
        let hard_limit = call.kind.hard_limit.map_or(self.limits.call_hard_limit, seconds);
        assert!(matches!(call.state, State::Waiting));
        assert_eq!((start.ticket, start.deadline), (call.ticket, call.deadline));
        call.hard_limit = Some(now + hard_limit);
        call.key = Some(start.key);
        call.state = State::Running;
    }

    fn next_start(&self, now: Instant) -> Option<usize> {
        let oldest = self.waiting().next()?;
        (self.turn_is_free() && self.calls[oldest].deadline > now).then_some(oldest)
    }

    fn end(&mut self, serial: usize) -> Ended {
        let call = &mut self.calls[serial];
        let state = std::mem::replace(&mut call.state, State::Gone);
        match (call.ticket.request, state) {
            (None, _) => Ended::Notified(call.ticket.route),
            (Some(request), State::Running) => {
                call.outcomes += 1;
                Ended::Answers(request)
            }
            (Some(_), State::Gone | State::Late | State::Waiting) => Ended::Late,
        }
    }

    fn expire(&mut self, now: Instant) -> Vec<Expired> {
        let mut expired = Vec::new();
        for call in self.calls.iter_mut().filter(|call| call.due().is_some_and(|at| at <= now)) {
            match call.state {
                State::Waiting => {
                    call.outcomes += 1;
                    call.state = State::Gone;
                    expired.push(call.timed_out(now));
                    continue;
                }
                State::Running if call.ticket.request.is_some() => {
                    call.outcomes += 1;
                    call.state = State::Late;
                    expired.push(call.timed_out(now));
                }
                State::Gone | State::Late | State::Running => {}
            }
            if call.hard_limit.is_some_and(|limit| limit <= now) {
                call.state = State::Gone;
                expired.push(Expired::Abandoned(call.key.expect("it started"), call.ticket));
            }
        }
        expired
    }

    /// How many never run, and which are dropped while they run.
    fn close(&mut self) -> (usize, Vec<CallKey>) {
        let (mut dropped, mut cancelled) = (0, Vec::new());
        for call in &mut self.calls {
            match call.state {
                State::Waiting => {
                    call.state = State::Gone;
                    dropped += 1;
                }
                State::Late | State::Running => {
                    let cancels = call.kind.cancel_on_close;
                    call.state = if cancels { State::Gone } else { State::Late };
                    cancelled.extend(call.key.filter(|_| cancels));
                }
                State::Gone => {}
            }
        }
        cancelled.sort();
        (dropped, cancelled)
    }

    fn has_request(&self, id: NonZeroU64) -> bool {
        let mut open = self.with(|state| matches!(state, State::Waiting | State::Running));
        open.any(|at| self.calls[at].ticket.request == Some(id))
    }
}

fn config(limits: Limits) -> Arc<ConnConfig> {
    let config = ConnConfig::new("json", Dictionary::default(), limits);
    Arc::new(config.expect("an empty dictionary is short"))
}

fn seconds(byte: u8) -> Duration {
    Duration::from_secs(u64::from(byte) % 30)
}

fn route() -> RouteId {
    let entries = vec![RouteEntry::request("t.ask")];
    let table = RouteTable::new("gate", entries, |_| Vec::new());
    table.expect("a good name").id("t.ask").expect("just declared")
}
