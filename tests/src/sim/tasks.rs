//! Tasks and their wakers: which may run, and which of them runs next.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use pitaya_core::Rng;

/// All tasks of a world but the main one, which is polled by whoever runs the world.
#[derive(Default)]
pub(super) struct Tasks {
    ready: Arc<Ready>,
    spawned: AtomicU64,
    /// Without the task that is being polled.
    waiting: Mutex<BTreeMap<TaskId, Task>>,
}

pub(super) type TaskId = u64;

/// The main task.
pub(super) const MAIN: TaskId = 0;

struct Task {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    waker: Waker,
}

impl Tasks {
    /// A task more, which may run from now on.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let id = self.spawned.fetch_add(1, Ordering::Relaxed) + 1;
        let waker = self.waker(id);
        waker.wake_by_ref();
        lock(&self.waiting).insert(id, Task { future: Box::pin(future), waker });
    }

    pub(super) fn waker(&self, id: TaskId) -> Waker {
        let ready = Arc::clone(&self.ready);
        Arc::new(TaskWaker { id, ready, queued: AtomicBool::new(false) }).into()
    }

    /// One of those that may run.
    pub(super) fn choose(&self, order: &mut Rng) -> Option<TaskId> {
        let mut ready = lock(&self.ready.0);
        let at = order.below(ready.len() as u64) as usize;
        let chosen = (at < ready.len()).then(|| ready.swap_remove(at))?;
        chosen.queued.store(false, Ordering::Relaxed);
        Some(chosen.id)
    }

    /// Polls a task; one that has ended before is woken in vain.
    pub(super) fn poll(&self, id: TaskId) {
        let Some(mut task) = lock(&self.waiting).remove(&id) else { return };
        if task.future.as_mut().poll(&mut Context::from_waker(&task.waker)).is_pending() {
            lock(&self.waiting).insert(id, task);
        }
    }

    /// Drops every task, also those that the drop of another one spawns.
    pub(super) fn drop_all(&self) {
        while let Some((_, task)) = self.pop_first() {
            drop(task);
        }
    }

    fn pop_first(&self) -> Option<(TaskId, Task)> {
        lock(&self.waiting).pop_first()
    }
}

/// Tasks that were woken and not yet polled, each once.
#[derive(Default)]
struct Ready(Mutex<Vec<Arc<TaskWaker>>>);

struct TaskWaker {
    id: TaskId,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let ready = Arc::clone(&self.ready);
            lock(&ready.0).push(self);
        }
    }
}

/// A lock that survives the panic of a task, so that the report of it can be written.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
