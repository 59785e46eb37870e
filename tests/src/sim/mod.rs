//! A runtime in one thread whose clock, network and order of events follow from a seed.
//!
//! ```
//! use std::time::Duration;
//!
//! let day = Duration::from_secs(24 * 60 * 60);
//! let end = pitaya_tests::sim::run(7, |sim| async move {
//!     sim.sleep(day).await;
//!     sim.time()
//! });
//! assert_eq!(end.micros(), 24 * 60 * 60 * 1_000_000);
//! ```
//!
//! The driver runs in it as it is. Time stands still while a task runs and jumps to the next event
//! when none can. What could come in any order comes in an order that the seed chooses; what is one
//! stream of bytes never does. A run that fails says how to repeat it.
//!
//! Tasks and sockets belong to the host whose handle made them, [`Sim::host`]; and to hosts happens
//! what happens to machines: they crash, stop for a while, and do not reach each other.

mod faults;
mod hosts;
mod net;
mod pipe;
mod runtime;
mod state;
mod stream;
mod tasks;
mod trace;

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pitaya_core::Rng;

pub use faults::{Crash, Tap};
pub use pipe::Wire;
pub use runtime::{Sim, SimTimer};
pub use stream::{SimListener, SimStream};

use hosts::HostId;
use tasks::MAIN;

/// Runs `main` in a world of its own to its end, and gives what it gives.
///
/// # Panics
///
/// A task panics, `main` waits for what will never happen, or it takes more than a hundred hours or
/// five million steps. What is printed then names the seed.
pub fn run<T, F: Future<Output = T>>(seed: u64, main: impl FnOnce(Sim) -> F) -> T {
    World::new(seed).run(main)
}

/// Seeds to try: `count` of them, or only the one that the environment variable `PITAYA_SEED`
/// names.
///
/// # Panics
///
/// The variable is no number, decimal or with `0x`.
pub fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("PITAYA_SEED") {
        Ok(named) => vec![parse_seed(&named).expect("PITAYA_SEED is a number")],
        Err(_) => (0..count).map(|n| Rng::new(n).next_u64()).collect(),
    }
}

/// The description of a world; see [`World::run`].
#[derive(Clone, Debug)]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) wire: Wire,
    steps_max: u64,
    time_max: Duration,
}

impl World {
    /// A world in which everything follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, wire: Wire::default(), steps_max: STEPS_MAX, time_max: TIME_MAX }
    }

    /// What connections are like, but for those that [`Sim::dial`] makes otherwise.
    #[must_use]
    pub fn wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// How many steps a run may take at most; a step polls one task or lets one event happen.
    #[must_use]
    pub fn steps_max(self, steps_max: u64) -> Self {
        Self { steps_max, ..self }
    }

    /// How much simulated time a run may take at most.
    #[must_use]
    pub fn time_max(self, time_max: Duration) -> Self {
        Self { time_max, ..self }
    }

    /// Runs `main` to its end; what other tasks still did is dropped.
    ///
    /// # Panics
    ///
    /// As [`run`], with the bounds of this world.
    pub fn run<T, F: Future<Output = T>>(&self, main: impl FnOnce(Sim) -> F) -> T {
        let sim = Sim::new(self);
        let _report = Report(&sim);
        let mut order = Rng::new(self.seed);
        let waker = sim.tasks().waker(HostId::default(), MAIN);
        let mut main = pin!(main(sim.clone()));
        waker.wake_by_ref();
        for _ in 0..self.steps_max {
            match sim.tasks().choose(&mut order) {
                Some(MAIN) => {
                    sim.ran(MAIN);
                    let polled = main.as_mut().poll(&mut Context::from_waker(&waker));
                    if let Poll::Ready(output) = polled {
                        sim.tasks().drop_all();
                        return output;
                    }
                }
                Some(task) => {
                    sim.ran(task);
                    sim.tasks().poll(task);
                }
                None => assert!(sim.advance(), "nothing will happen any more, and `main` waits"),
            }
            assert!(sim.elapsed() <= self.time_max, "`main` took more than {:?}", self.time_max);
        }
        panic!("`main` took more than {} steps", self.steps_max);
    }
}

/// Says how to repeat a run that panics.
struct Report<'s>(&'s Sim);

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.whence());
        }
    }
}

fn parse_seed(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

const STEPS_MAX: u64 = 5_000_000;
const TIME_MAX: Duration = Duration::from_secs(100 * 60 * 60);
