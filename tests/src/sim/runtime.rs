//! The simulator as a runtime of the driver, and what tests ask of it beside that.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::oneshot;
use pitaya_core::Instant;
use pitaya_driver::{Runtime, Timer};

use crate::sim::World;
use crate::sim::hosts::HostId;
use crate::sim::net::Side;
use crate::sim::pipe::Wire;
use crate::sim::state::{Coming, Slot, State, draw};
use crate::sim::stream::{SimListener, SimStream};
use crate::sim::tasks::{TaskId, Tasks, lock};
use crate::sim::trace::Record;

/// A handle to a world that runs, and to one host in it: what is made by it belongs to that host.
#[derive(Clone)]
pub struct Sim {
    pub(super) host: HostId,
    world: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    tasks: Tasks,
    wire: Wire,
}

impl Sim {
    pub(super) fn new(world: &World) -> Self {
        let state = Mutex::new(State::new(world.seed));
        let inner = Inner { state, tasks: Tasks::default(), wire: world.wire.clone() };
        Self { host: HostId::default(), world: Arc::new(inner) }
    }

    /// The host of that name, in the same world; without any, things belong to one that has none.
    pub fn host(&self, name: &str) -> Self {
        Self { host: self.state().hosts.of_name(name), world: Arc::clone(&self.world) }
    }

    /// The simulated time.
    pub fn time(&self) -> Instant {
        self.state().now
    }

    /// Waits.
    pub async fn sleep(&self, duration: Duration) {
        let (mut timer, until) = (self.timer(), self.time() + duration);
        poll_fn(|cx| timer.poll_at(cx, until)).await;
    }

    /// Holds the executor, as code does that computes for long: time passes, bytes arrive and
    /// timers go off, but no task runs.
    pub fn hold(&self, duration: Duration) {
        let mut state = self.state();
        let until = state.now + duration;
        state.hold(until);
    }

    /// Runs a future beside the others; what it gives can be waited for, or not.
    ///
    /// # Panics
    ///
    /// What is waited for panics if the future was dropped.
    pub fn start<T, F>(&self, future: F) -> impl Future<Output = T> + Send + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (teller, told) = oneshot::channel();
        self.spawn(async move {
            // Nobody has to wait for it.
            let _ = teller.send(future.await);
        });
        async { told.await.expect("the task runs to its end") }
    }

    /// Connects over a wire of its own.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub async fn dial(&self, address: SocketAddr, wire: Wire) -> io::Result<SimStream> {
        let seed = self.state().seed;
        self.sleep(wire.trip(draw(seed, DIALS, u64::from(address.port())))).await;
        self.reach(address).await?;
        let dialled = self.state().dial(self.host, address, &wire);
        let stream = dialled.map(|link| SimStream::new(self.clone(), link, Side::Dialler));
        self.sleep(wire.trip(draw(seed, DIALS, self.time().micros()))).await;
        stream
    }

    /// Waits until a packet comes there and one comes back; so a system asks again and again.
    async fn reach(&self, address: SocketAddr) -> io::Result<()> {
        for _ in 0..DIAL_ATTEMPTS_MAX {
            if self.state().hosts.is_reachable(self.host, address) {
                return Ok(());
            }
            self.sleep(DIAL_PAUSE).await;
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// From now on a host has these addresses; without any, nobody knows it.
    pub fn name(&self, host: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        self.state().net.names.insert(host.to_owned(), addresses.into_iter().collect());
    }

    /// Adds a line to the trace.
    pub fn tell(&self, line: impl Into<String>) {
        self.state().record(Record::Told(line.into()));
    }

    /// A number for all that has happened so far: equal for equal runs.
    pub fn digest(&self) -> u64 {
        self.state().trace.digest()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.world.state)
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.world.tasks
    }

    pub(super) fn advance(&self) -> bool {
        self.state().advance()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.time().since(Instant::ZERO)
    }

    pub(super) fn ran(&self, task: TaskId) {
        self.state().record(Record::Ran(task));
    }

    /// How to repeat the run, and what happened last.
    pub(super) fn whence(&self) -> String {
        let state = self.state();
        let (seed, now, trace) = (state.seed, state.now, &state.trace);
        format!("PITAYA_SEED={seed:#x} cargo test NAME repeats this run: t={now} {trace}")
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").finish_non_exhaustive()
    }
}

impl Runtime for Sim {
    type Listener = SimListener;
    type Stream = SimStream;
    type Timer = SimTimer;

    fn now(&self) -> Instant {
        self.time()
    }

    fn timer(&self) -> SimTimer {
        SimTimer { set: None, sim: self.clone() }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.state().hosts.light(self.host);
        self.tasks().spawn(self.host, task);
    }

    async fn bind(&self, address: SocketAddr) -> io::Result<SimListener> {
        let (address, number) = self.state().listen(self.host, address)?;
        Ok(SimListener::new(self.clone(), address, number))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<SimStream> {
        let wire = self.state().hosts.wire(self.host, address);
        self.dial(address, wire.unwrap_or_else(|| self.world.wire.clone())).await
    }

    /// The names there are: addresses, `localhost`, and those that [`Sim::name`] gave.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let host = if host == "localhost" { "127.0.0.1" } else { host };
        let named = self.state().net.names.get(host).cloned().unwrap_or_default();
        let address = host.parse().into_iter();
        let addresses: Vec<_> = address.chain(named).map(|ip| SocketAddr::new(ip, port)).collect();
        if addresses.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(addresses)
    }

    /// Nobody asks a world to stop: its `main` ends it.
    async fn stop_signal(&self) -> io::Result<()> {
        std::future::pending().await
    }

    fn unix_time(&self) -> Duration {
        self.elapsed()
    }

    fn seed(&self) -> u64 {
        self.state().next_seed()
    }
}

/// A timer on simulated time.
#[derive(Debug)]
pub struct SimTimer {
    set: Option<Slot>,
    sim: Sim,
}

impl Timer for SimTimer {
    fn poll_at(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let mut state = self.sim.state();
        self.set.take().into_iter().for_each(|slot| state.cancel(slot));
        if deadline <= state.now {
            return Poll::Ready(());
        }
        self.set = Some(state.plan(deadline, Coming::Wake(cx.waker().clone())));
        Poll::Pending
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        if let Some(slot) = self.set.take() {
            self.sim.state().cancel(slot);
        }
    }
}

/// How often, and after which pause, a system tries to reach a host.
const DIAL_ATTEMPTS_MAX: usize = 127;
const DIAL_PAUSE: Duration = Duration::from_secs(1);
/// The source of chance for how long dialling takes.
const DIALS: u64 = u64::MAX - 1;
