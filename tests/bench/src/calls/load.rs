//! The load of a server that calls another: so many calls at any time, each reply compared.

use std::io;
use std::process::id;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Order;
use crate::load::Outcome;
use crate::machine::cpu_times;

/// Whoever can call the other server.
pub(super) trait Caller: Clone + Send + Sync + 'static {
    /// What came back.
    type Reply: AsRef<[u8]> + Send;

    fn call(
        &mut self, body: [u8; BODY_BYTES],
    ) -> impl Future<Output = io::Result<Self::Reply>> + Send;
}

/// Calls as ordered; must be polled on the runtime of the caller.
///
/// # Errors
///
/// If a call fails or all of them take too long; a wrong reply is counted instead.
pub(super) async fn run<C: Caller>(order: &Order, caller: &C) -> io::Result<Outcome> {
    let load = Arc::new(Load::new(order));
    let mut tasks = JoinSet::new();
    for _ in 0..order.in_flight {
        tasks.spawn(Arc::clone(&load).work(caller.clone()));
    }
    let all = async {
        while let Some(done) = tasks.join_next().await {
            done.map_err(io::Error::other)??;
        }
        Ok::<_, io::Error>(())
    };
    timeout(RUN_TIME_MAX, all).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    load.outcome()
}

struct Load {
    pids: Vec<u32>,
    warmup: u64,
    all: u64,
    begun: AtomicU64,
    done: AtomicU64,
    errors: AtomicU64,
    /// The CPU time at the end of the warm-up, and of all.
    marks: Mutex<Vec<Duration>>,
}

impl Load {
    fn new(order: &Order) -> Self {
        let warmup = order.calls / 5;
        Self {
            pids: [&[id()], &order.pids[..]].concat(),
            warmup,
            all: warmup + order.calls,
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            marks: Mutex::default(),
        }
    }

    /// One call after another, until all have begun.
    async fn work<C: Caller>(self: Arc<Self>, mut caller: C) -> io::Result<()> {
        loop {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            if number >= self.all {
                return Ok(());
            }
            let body = body(number);
            let reply = caller.call(body).await?;
            let wrong = reply.as_ref() != body;
            self.errors.fetch_add(wrong.into(), Ordering::Relaxed);
            let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
            if done == self.warmup || done == self.all {
                self.mark()?;
            }
        }
    }

    fn mark(&self) -> io::Result<()> {
        let used = cpu_times(&self.pids)?;
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).push(used);
        Ok(())
    }

    fn outcome(&self) -> io::Result<Outcome> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let [start, end] = marks[..] else { return Err(io::Error::other("too few calls")) };
        let request_us = (end - start).as_secs_f64() * 1e6 / (self.all - self.warmup) as f64;
        let errors = self.errors.load(Ordering::Relaxed);
        Ok(Outcome { request_us, checked: self.all, errors })
    }
}

/// That of a call, which no other call has.
fn body(number: u64) -> [u8; BODY_BYTES] {
    let mut body = [b'x'; BODY_BYTES];
    body[..8].copy_from_slice(&number.to_be_bytes());
    body
}

pub(super) const BODY_BYTES: usize = 100;
const RUN_TIME_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Way;

    /// Answers rightly but for one call.
    #[derive(Clone)]
    struct Wrong(u64);

    impl Caller for Wrong {
        type Reply = Vec<u8>;

        async fn call(&mut self, body: [u8; BODY_BYTES]) -> io::Result<Vec<u8>> {
            tokio::task::yield_now().await;
            let mut reply = body.to_vec();
            reply[99] ^= u8::from(body[..8] == self.0.to_be_bytes());
            Ok(reply)
        }
    }

    #[test]
    fn every_call_is_checked_and_a_wrong_reply_is_counted() {
        let address = "127.0.0.1:1".parse().unwrap();
        let order = Order { way: Way::Mux, address, in_flight: 7, calls: 100, pids: Vec::new() };
        let outcome = pitaya_tokio::block_on(run(&order, &Wrong(60))).unwrap().unwrap();
        assert_eq!((outcome.checked, outcome.errors), (120, 1));
        assert!(0.0 < outcome.request_us);
    }
}
