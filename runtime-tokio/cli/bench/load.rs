//! A run: connect, warm up, measure, wait for what is on its way, close.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pitaya_driver::{Drive, DriveConfig, Mailbox, Native, Runtime, Timers};
use pitaya_tokio::{ClientCommand, ClientConfig, ClientConn, CloseReason, Instant, Tokio};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::plan::Plan;
use super::progress::Progress;
use super::report::{Report, Sample};
use super::worker::{Shared, Worker};
use super::{cpu, pace};
use crate::door::Door;

/// A load that has not begun.
pub(crate) struct Load(Arc<Shared>);

impl Load {
    pub(crate) fn new(plan: Plan) -> Self {
        Self(Arc::new(Shared::new(plan)))
    }

    /// Loads the server behind the door, to the end.
    ///
    /// # Errors
    ///
    /// Nothing could be measured.
    pub(crate) async fn run(self, door: &Door) -> Result<Report, String> {
        let shared = self.0;
        let runtime = Tokio::current().map_err(|error| error.to_string())?;
        let mut progress = Progress::new();
        let crew = Crew::gather(&runtime, door, &shared, &mut progress).await?;
        let connected = shared.open.load(Ordering::Relaxed);

        let now = runtime.now();
        let from = now + shared.plan.warmup;
        let until = from + shared.plan.duration;
        shared.start(now, from, until);
        let pacing = shared.schedule().map(|schedule| {
            let (runtime, schedule, shared) = (runtime.clone(), *schedule, Arc::clone(&shared));
            tokio::spawn(async move { pace::keep(&runtime, &schedule, &shared, until).await })
        });
        watch(&runtime, &shared, from, &mut progress).await;
        let began = sample(&runtime, &shared)?;
        progress.measure(began.at, began.replies, shared.plan.duration);
        watch(&runtime, &shared, until, &mut progress).await;
        let ended = sample(&runtime, &shared)?;
        if let Some(pacing) = pacing {
            pacing.await.map_err(|error| error.to_string())??;
        }
        drain(&runtime, &shared, until).await;
        progress.end();
        crew.dismiss().await;
        let tally = shared.tally().clone();
        Ok(Report::new(&shared.plan, tally, connected, began, ended))
    }
}

/// All connections.
struct Crew {
    runtime: Tokio,
    door: Door,
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    config: Arc<ClientConfig>,
    timers: Arc<Timers>,
    drives: Arc<DriveConfig<Tokio>>,
    /// The next one to be made, and how many could not be.
    next: AtomicUsize,
    failed: AtomicUsize,
    hands: Mutex<Vec<Hand>>,
}

/// How to end a connection, and how to know that it has.
struct Hand {
    mailbox: Arc<Mailbox<ClientCommand<Instant>>>,
    task: JoinHandle<()>,
}

impl Crew {
    /// Makes the connections, only so many at a time.
    async fn gather(
        runtime: &Tokio, door: &Door, shared: &Arc<Shared>, progress: &mut Progress,
    ) -> Result<Arc<Self>, String> {
        let (config, timers) = (Arc::new(shared.plan.config()), Timers::start(runtime));
        let crew = Arc::new(Self {
            drives: DriveConfig::new(runtime.clone(), &timers, &config.limits, &config.counters),
            runtime: runtime.clone(),
            door: door.clone(),
            addresses: door.resolve(runtime).await?,
            shared: Arc::clone(shared),
            config,
            timers,
            next: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            hands: Mutex::default(),
        });
        let mut dialling = JoinSet::new();
        for _ in 0..shared.plan.connecting_max.min(shared.plan.connections) {
            let crew = Arc::clone(&crew);
            dialling.spawn(async move { crew.dial_some().await });
        }
        let mut last = Ok(());
        while !dialling.is_empty() {
            let joined = tokio::time::timeout(TICK, dialling.join_next()).await;
            if let Ok(Some(Ok(Err(why)))) = joined {
                last = Err(why);
            }
            progress.connecting(shared.open.load(Ordering::Relaxed), shared.plan.connections);
        }
        progress.end();
        if shared.open.load(Ordering::Relaxed) == 0 { last.map(|()| crew) } else { Ok(crew) }
    }

    /// Makes connections until there are all, or too many could not be made.
    async fn dial_some(&self) -> Result<(), String> {
        let mut outcome = Ok(());
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let gives_up = self.failed.load(Ordering::Relaxed) >= FAILED_MAX;
            if index >= self.shared.plan.connections || gives_up {
                return outcome;
            }
            if let Err(why) = self.dial(index).await {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.shared.tally().fail(&why, 1);
                outcome = Err(why);
            }
        }
    }

    async fn dial(&self, index: usize) -> Result<(), String> {
        let began = self.runtime.now();
        let way = self.door.dial(&self.runtime, &self.addresses, &self.config).await?;
        let mailbox = Arc::new(Mailbox::new(1, 0));
        let (opening, opened) = oneshot::channel();
        let machine = ClientConn::new(Arc::clone(&self.config), began);
        let task = tokio::spawn(Drive::new(
            Arc::clone(&self.drives),
            way,
            (machine, Worker::new(&self.shared, index, opening)),
            Arc::clone(&mailbox),
        ));
        let outcome = opened.await.unwrap_or_else(|_| Err("closed".to_owned()));
        outcome.map_err(|why| format!("no connection to {}: {why}", self.door))?;
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        hands.push(Hand { mailbox, task });
        Ok(())
    }

    /// Closes all connections.
    async fn dismiss(&self) {
        let hands = std::mem::take(&mut *self.hands.lock().unwrap_or_else(PoisonError::into_inner));
        for hand in &hands {
            // It may be closed already.
            let _ = hand.mailbox.send_last(ClientCommand::Close(CloseReason::Closed));
        }
        let all_closed = async {
            for hand in hands {
                // How a task ended matters no more.
                let _ = hand.task.await;
            }
        };
        // A server that does not take its leave is left.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, all_closed).await;
        self.timers.stop();
    }
}

/// Waits until `moment`, or until no connection is left.
async fn watch(runtime: &Tokio, shared: &Shared, moment: Instant, progress: &mut Progress) {
    loop {
        let now = runtime.now();
        let left = moment.since(now);
        progress.show(now, &shared.tally());
        if left.is_zero() || shared.open.load(Ordering::Relaxed) == 0 {
            return;
        }
        tokio::time::sleep(left.min(TICK)).await;
    }
}

/// Waits for the replies that are still on their way, and in an open loop for those to what was due
/// before `end` and is still to be sent.
async fn drain(runtime: &Tokio, shared: &Shared, end: Instant) {
    let in_flight = || shared.in_flight.load(Ordering::Relaxed) as u64;
    let is_left = || shared.open.load(Ordering::Relaxed) > 0;
    let until = runtime.now() + shared.plan.timeout + DRAIN_GRACE;
    while in_flight() + shared.unsent(end) > 0 && is_left() && runtime.now() < until {
        tokio::time::sleep(DRAIN_TICK).await;
    }
    shared.stop();
    let (lost, unsent) = (in_flight(), shared.unsent(end));
    let mut tally = shared.tally();
    tally.fail("neither a reply nor an error", lost);
    tally.fail("due, but not sent: too much was in flight", unsent);
}

fn sample(runtime: &Tokio, shared: &Shared) -> Result<Sample, String> {
    let server = shared
        .plan
        .pid
        .map(|pid| cpu::of(pid).map_err(|error| format!("the CPU time of process {pid}: {error}")));
    Ok(Sample {
        at: runtime.now(),
        replies: shared.tally().replies,
        server_cpu: server.transpose()?,
        own_cpu: cpu::own().map_err(|error| error.to_string())?,
    })
}

/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(100);
const DRAIN_TICK: Duration = Duration::from_millis(5);
/// Longer than the last request waits for its reply.
const DRAIN_GRACE: Duration = Duration::from_secs(1);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// So many connections that cannot be made say enough.
const FAILED_MAX: usize = 64;
