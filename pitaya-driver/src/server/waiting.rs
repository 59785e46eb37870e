//! Tasks that wait until something comes true of their server.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// Those who wait now: whoever goes away, because of a deadline for instance, leaves nothing
/// behind.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// By the keys of their waiters; nothing for one that was woken and has not looked again.
    wakers: Mutex<Slab<Option<Waker>>>,
}

impl Waiting {
    pub(super) fn waiter(&self) -> Waiter<'_> {
        Waiter { waiting: self, key: None }
    }

    pub(super) fn wake_all(&self) {
        let wakers: Vec<_> = self.lock().iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        // Nothing of an application runs under this lock, so what it guards is whole.
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits until it is dropped.
pub(super) struct Waiter<'w> {
    waiting: &'w Waiting,
    /// Its own from when it had to wait.
    key: Option<usize>,
}

impl Waiter<'_> {
    /// Ready when `done`, at which it looks again whenever all are woken.
    pub(super) fn poll(&mut self, cx: &Context<'_>, done: impl Fn() -> bool) -> Poll<()> {
        if done() {
            return Poll::Ready(());
        }
        self.register(cx.waker());
        // It may have come true before the waker was there to be woken.
        if done() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn register(&mut self, waker: &Waker) {
        let mut wakers = self.waiting.lock();
        let key = *self.key.get_or_insert_with(|| wakers.insert(None));
        if wakers[key].as_ref().is_some_and(|known| known.will_wake(waker)) {
            return;
        }
        let known = wakers[key].replace(waker.clone());
        drop(wakers);
        // The last trace of a task, maybe, which has a waiter of its own.
        drop(known);
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let waker = self.waiting.lock().remove(key);
        // Only now, for the same reason.
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[test]
    fn whoever_waits_no_longer_is_not_kept() {
        let waiting = Waiting::default();
        let mut stays = waiting.waiter();
        assert!(stays.poll(&Context::from_waker(&task().1), || false).is_pending());
        for _ in 0..1000 {
            let mut leaves = waiting.waiter();
            for _ in 0..3 {
                assert!(leaves.poll(&Context::from_waker(&task().1), || false).is_pending());
                waiting.wake_all();
            }
        }
        assert_eq!(waiting.lock().len(), 1);
        assert!(waiting.lock().capacity() < 10);
        drop(stays);
        assert!(waiting.lock().is_empty());
    }

    #[test]
    fn all_who_wait_are_woken_once_each_time_they_looked() {
        let waiting = Waiting::default();
        let tasks = [task(), task()];
        let mut waiters = [waiting.waiter(), waiting.waiter()];
        for round in 1..4 {
            for ((_, waker), waiter) in tasks.iter().zip(&mut waiters) {
                let cx = Context::from_waker(waker);
                assert!(waiter.poll(&cx, || false).is_pending());
                assert!(waiter.poll(&cx, || false).is_pending());
            }
            waiting.wake_all();
            waiting.wake_all();
            assert!(tasks.iter().all(|(task, _)| task.0.load(Ordering::Relaxed) == round));
        }
    }

    #[test]
    fn the_task_that_looked_last_is_the_one_that_is_woken() {
        let (waiting, (one, first), (other, last)) = (Waiting::default(), task(), task());
        let mut waiter = waiting.waiter();
        assert!(waiter.poll(&Context::from_waker(&first), || false).is_pending());
        assert!(waiter.poll(&Context::from_waker(&last), || false).is_pending());
        waiting.wake_all();
        let woken = [one, other].map(|task| task.0.load(Ordering::Relaxed));
        assert_eq!(woken, [0, 1]);
        assert!(waiter.poll(&Context::from_waker(&last), || true).is_ready());
    }

    /// How often it was woken.
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn task() -> (Arc<Task>, Waker) {
        let task = Arc::new(Task(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&task));
        (task, waker)
    }
}
