//! One connection of the load: what it asks next, and what came of what it asked.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};

use pitaya_driver::{Commands, Serve};
use pitaya_tokio::{
    ClientCommand, ClientConn, ClientEvent, ClientRequest, CloseReason, Error, Instant,
    RequestError,
};
use tokio::sync::oneshot;

use super::pace::Schedule;
use super::plan::Plan;
use super::tally::Tally;
use crate::door::words;

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    tally: Mutex<Tally>,
    /// Requests that are sent in between are counted.
    measured: Span,
    /// Requests are sent in between, or meant to be.
    sending: Span,
    pub(crate) open: AtomicUsize,
    pub(crate) in_flight: AtomicUsize,
    asked: AtomicU64,
    /// When each request is due, in an open loop.
    schedule: OnceLock<Schedule>,
    /// How to reach the task of each connection.
    wakers: Vec<OnceLock<Waker>>,
}

/// From when until when.
struct Span {
    from_us: AtomicU64,
    until_us: AtomicU64,
}

impl Shared {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            tally: Mutex::new(Tally::new()),
            measured: Span::never(),
            sending: Span::never(),
            open: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            asked: AtomicU64::new(0),
            schedule: OnceLock::new(),
            wakers: (0..plan.connections).map(|_| OnceLock::new()).collect(),
            plan,
        }
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends requests from `now` on, and counts those that are sent between `from` and `until`.
    pub(crate) fn start(&self, now: Instant, from: Instant, until: Instant) {
        self.sending.set(now, until);
        self.measured.set(from, until);
        let (rate, connections) = (self.plan.rate, self.plan.connections);
        if let Some(schedule) = rate.map(|rate| Schedule::new(now, rate, connections)) {
            self.schedule.get_or_init(|| schedule);
        }
        (0..connections).for_each(|index| self.wake(index));
    }

    pub(crate) fn schedule(&self) -> Option<&Schedule> {
        self.schedule.get()
    }

    pub(crate) fn wake(&self, index: usize) {
        self.wakers[index].get().into_iter().for_each(Waker::wake_by_ref);
    }

    /// How many requests were due before `until` and are not sent, as too much was in flight.
    pub(crate) fn unsent(&self, until: Instant) -> u64 {
        let due = self.schedule().map_or(0, |schedule| schedule.due_before(until));
        due.saturating_sub(self.asked.load(Ordering::Relaxed))
    }

    /// Sends no more, whatever was meant.
    pub(crate) fn stop(&self) {
        self.sending.set(Instant::ZERO, Instant::ZERO);
    }
}

/// The side of the task that drives one connection. Who waits for a reply is the moment at which
/// the request was sent, or meant to be sent.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    in_flight: usize,
    is_open: bool,
    /// Requests so far, each of which has its place in the schedule.
    asked: u64,
    opening: Option<oneshot::Sender<Result<(), String>>>,
    /// What the stream said when it failed.
    failure: Option<String>,
}

type Command = ClientCommand<Instant>;

impl Worker {
    pub(crate) fn new(
        shared: &Arc<Shared>, index: usize, opening: oneshot::Sender<Result<(), String>>,
    ) -> Self {
        let shared = Arc::clone(shared);
        Self {
            shared,
            index,
            in_flight: 0,
            is_open: false,
            asked: 0,
            opening: Some(opening),
            failure: None,
        }
    }

    /// Asks as often as there is room and time.
    fn fill(&mut self, now: Instant, commands: &mut Commands<Command>) {
        if !self.is_open {
            return;
        }
        let plan = &self.shared.plan;
        let before = self.in_flight;
        while self.in_flight < plan.depth {
            let due = match self.shared.schedule() {
                Some(schedule) => schedule.due(self.index, self.asked),
                None => now,
            };
            // What was due in time is sent even if there was no room for it until now.
            if now < due || !self.shared.sending.contains(due) {
                break;
            }
            commands.push(ClientCommand::Request(ClientRequest {
                route: Arc::clone(&plan.route),
                body: plan.body.clone(),
                deadline: now + plan.timeout,
                waiter: due,
            }));
            self.asked += 1;
            self.in_flight += 1;
        }
        let sent = self.in_flight - before;
        self.shared.in_flight.fetch_add(sent, Ordering::Relaxed);
        self.shared.asked.fetch_add(sent as u64, Ordering::Relaxed);
    }

    fn answered(&mut self, now: Instant, sent: Instant, result: Result<&[u8], RequestError>) {
        self.in_flight -= 1;
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        let mut tally = self.shared.tally();
        match (result, &self.shared.plan.expected) {
            (Ok(body), Some(expected)) if body != &expected[..] => {
                return tally.fail("a reply that is not the expected one", 1);
            }
            (Ok(_), _) => tally.replies += 1,
            (Err(failure), _) => {
                let Error { code, msg, .. } = failure.error();
                tally.fail(&format!("{code}: {msg}"), 1);
                drop(tally);
                if code == CONNECTION_LOST && !matches!(failure, RequestError::Answered(_)) {
                    // Its end follows, and whatever is asked until then is lost too.
                    self.leave();
                }
                return;
            }
        }
        if self.shared.measured.contains(sent) {
            tally.record(now.since(sent));
        }
    }

    fn opened(&mut self) {
        self.is_open = true;
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        if let Some(opening) = self.opening.take() {
            // The run may be over by now.
            let _ = opening.send(Ok(()));
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        let why = words(&reason, self.failure.as_ref());
        if let Some(opening) = self.opening.take() {
            // The run may be over by now.
            let _ = opening.send(Err(why));
            return;
        }
        if reason != CloseReason::Closed {
            self.shared.tally().fail(&format!("closed: {why}"), 1);
        }
        self.leave();
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Serve<ClientConn<Instant>> for Worker {
    fn handle_bytes(&mut self, _now: Instant) {}

    fn handle_failure(&mut self, error: &io::Error) {
        self.failure = Some(error.to_string());
    }

    fn handle_event(
        &mut self, now: Instant, _cx: &mut Context<'_>, event: ClientEvent<'_, Instant>,
        commands: &mut Commands<Command>,
    ) {
        match event {
            ClientEvent::Opened(_) => self.opened(),
            ClientEvent::Reply { waiter, result } => self.answered(now, waiter, result),
            ClientEvent::Push { .. } => self.shared.tally().pushes += 1,
            ClientEvent::Closed(reason) => self.closed(reason),
        }
        self.fill(now, commands);
    }

    fn poll_commands(
        &mut self, now: Instant, cx: &mut Context<'_>, commands: &mut Commands<Command>,
    ) {
        self.shared.wakers[self.index].get_or_init(|| cx.waker().clone());
        self.fill(now, commands);
    }

    fn is_done(&self) -> bool {
        true
    }
}

impl Span {
    fn never() -> Self {
        Self { from_us: AtomicU64::new(0), until_us: AtomicU64::new(0) }
    }

    fn set(&self, from: Instant, until: Instant) {
        self.from_us.store(from.micros(), Ordering::Relaxed);
        self.until_us.store(until.micros(), Ordering::Relaxed);
    }

    fn contains(&self, moment: Instant) -> bool {
        let (from, until) = (&self.from_us, &self.until_us);
        let moment = moment.micros();
        from.load(Ordering::Relaxed) <= moment && moment < until.load(Ordering::Relaxed)
    }
}

/// The code of a request whose connection ended before its reply.
const CONNECTION_LOST: &str = "PIT-499";
