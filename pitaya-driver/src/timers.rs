//! One timer wheel for all that waits on one executor; it alone uses the runtime's timer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pitaya_core::Instant;

use crate::runtime::{Runtime, Timer};
use crate::wheel::{Wheel, WheelKey};

/// Where the deadlines of many tasks are kept.
#[derive(Debug)]
pub struct Timers {
    inner: Mutex<Inner>,
    /// In microseconds: when the wheel was turned last.
    turned_at: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    wheel: Wheel<Waker>,
    /// The task that turns the wheel, and until when it sleeps.
    task: Option<Waker>,
    sleeps_until: Option<Instant>,
    stopped: bool,
}

impl Timers {
    /// Deadlines of which a task of `runtime` takes care until [`stop`](Self::stop).
    pub fn start<R: Runtime>(runtime: &R) -> Arc<Self> {
        let now = runtime.now();
        let inner =
            Inner { wheel: Wheel::new(now), task: None, sleeps_until: None, stopped: false };
        let turned_at = AtomicU64::new(now.micros());
        let timers = Arc::new(Self { inner: Mutex::new(inner), turned_at });
        let (turned, clock) = (Arc::clone(&timers), runtime.clone());
        runtime.spawn(async move {
            let mut timer = clock.timer();
            poll_fn(|cx| turned.poll_turn(cx, &clock, &mut timer)).await;
        });
        timers
    }

    /// When it was last looked which deadlines had come. A runtime looks at its sockets first.
    pub fn turned_at(&self) -> Instant {
        Instant::from_micros(self.turned_at.load(Ordering::Relaxed))
    }

    /// Ends the task; what is set is not reached any more.
    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.stopped = true;
        wake(inner.task.take());
    }

    fn poll_turn<R: Runtime>(
        &self, cx: &mut Context<'_>, clock: &R, timer: &mut R::Timer,
    ) -> Poll<()> {
        loop {
            let mut reached = Vec::new();
            let sleeps_until = {
                let mut inner = self.lock();
                if inner.stopped {
                    return Poll::Ready(());
                }
                let now = clock.now();
                inner.wheel.advance(now, |waker| reached.push(waker));
                self.turned_at.store(now.micros(), Ordering::Relaxed);
                inner.task = Some(cx.waker().clone());
                inner.sleeps_until = inner.wheel.poll_timeout();
                inner.sleeps_until
            };
            reached.into_iter().for_each(Waker::wake);
            match sleeps_until {
                Some(until) if timer.poll_at(cx, until).is_ready() => {}
                Some(_) | None => return Poll::Pending,
            }
        }
    }

    fn set(&self, deadline: Instant, waker: &Waker) -> WheelKey {
        let mut inner = self.lock();
        let key = inner.wheel.set(deadline, waker.clone());
        let next = inner.wheel.poll_timeout();
        if inner.sleeps_until.is_none_or(|until| next.is_some_and(|next| next < until)) {
            inner.sleeps_until = next;
            wake(inner.task.take());
        }
        key
    }

    fn cancel(&self, key: WheelKey) {
        self.lock().wheel.cancel(key);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}

/// The deadline of one task among the [`Timers`].
#[derive(Debug)]
pub struct Alarm {
    timers: Arc<Timers>,
    set: Option<Set>,
}

#[derive(Debug)]
struct Set {
    at: Instant,
    key: WheelKey,
    /// A future may move to another task, which is the one to be woken then.
    task: Waker,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new(timers: Arc<Timers>) -> Self {
        Self { timers, set: None }
    }

    /// Sees to it that the task is woken at `deadline`, or before it.
    ///
    /// An alarm that is set and not later is kept: the task looks again when it goes off, which is
    /// cheaper than to move it with every packet.
    pub fn set(&mut self, cx: &Context<'_>, now: Instant, deadline: Instant) {
        let serves =
            |set: &Set| now < set.at && set.at <= deadline && set.task.will_wake(cx.waker());
        if self.set.as_ref().is_some_and(serves) {
            return;
        }
        self.clear();
        let key = self.timers.set(deadline, cx.waker());
        self.set = Some(Set { at: deadline, key, task: cx.waker().clone() });
    }

    /// Whether the deadline that it was set for may have come by `now`: it is set for that one or
    /// for an earlier one.
    pub(crate) fn may_be_over(&self, now: Instant) -> bool {
        self.set.as_ref().is_none_or(|set| set.at <= now)
    }

    /// Forgets the deadline.
    pub fn clear(&mut self) {
        if let Some(set) = self.set.take() {
            self.timers.cancel(set.key);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A wait until a moment, by the clock of a runtime.
#[derive(Debug)]
pub struct Sleep<R> {
    alarm: Alarm,
    clock: R,
    until: Instant,
}

impl<R: Runtime> Sleep<R> {
    /// Ends at `until`, or up to a tick of the wheel later.
    pub fn until(timers: &Arc<Timers>, clock: R, until: Instant) -> Self {
        Self { alarm: Alarm::new(Arc::clone(timers)), clock, until }
    }

    /// Ends after `duration`.
    pub fn lasting(timers: &Arc<Timers>, clock: R, duration: Duration) -> Self {
        let until = clock.now() + duration;
        Self::until(timers, clock, until)
    }
}

impl<R: Runtime> Future for Sleep<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (now, until) = (self.clock.now(), self.until);
        if until <= now {
            return Poll::Ready(());
        }
        self.alarm.set(cx, now, until);
        Poll::Pending
    }
}

/// The result of `work`, unless `until` ends first.
pub(crate) async fn before<T>(
    until: impl Future<Output = ()>, work: impl Future<Output = T>,
) -> Option<T> {
    let (mut until, mut work) = (pin!(until), pin!(work));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => until.as_mut().poll(cx).map(|()| None),
    })
    .await
}
