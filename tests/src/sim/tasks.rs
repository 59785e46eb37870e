//! Tasks and their wakers: which may run, and which of them runs next.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use pitaya_core::Rng;

use crate::sim::hosts::HostId;

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
    host: HostId,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    waker: Waker,
}

impl Tasks {
    /// A task more of a host, which may run from now on.
    pub(super) fn spawn(&self, host: HostId, future: impl Future<Output = ()> + Send + 'static) {
        let id = self.spawned.fetch_add(1, Ordering::Relaxed) + 1;
        let waker = self.waker(host, id);
        waker.wake_by_ref();
        lock(&self.waiting).insert(id, Task { host, future: Box::pin(future), waker });
    }

    pub(super) fn waker(&self, host: HostId, id: TaskId) -> Waker {
        let ready = Arc::clone(&self.ready);
        Arc::new(TaskWaker { host, id, ready, queued: AtomicBool::new(false) }).into()
    }

    /// One of those that may run.
    pub(super) fn choose(&self, order: &mut Rng) -> Option<TaskId> {
        let ready = &mut lock(&self.ready.0).awake;
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

    /// No task of that host runs until it is resumed; they are woken meanwhile.
    pub(super) fn pause(&self, host: HostId) {
        let mut queues = lock(&self.ready.0);
        let (held, awake) =
            std::mem::take(&mut queues.awake).into_iter().partition(|it| it.host == host);
        queues.awake = awake;
        queues.paused.entry(host).or_default().extend::<Vec<_>>(held);
    }

    /// Tasks of that host run, if it was paused.
    pub(super) fn resume(&self, host: HostId) {
        let mut queues = lock(&self.ready.0);
        let held = queues.paused.remove(&host).unwrap_or_default();
        queues.awake.extend(held);
    }

    /// Drops every task of a host, also those that the drop of another one spawns.
    pub(super) fn drop_all_of(&self, host: HostId) {
        while let Some(task) = self.pop_of(host) {
            drop(task);
        }
    }

    fn pop_of(&self, host: HostId) -> Option<Task> {
        lock(&self.waiting).extract_if(.., |_, task| task.host == host).next().map(|(_, it)| it)
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
struct Ready(Mutex<Queues>);

#[derive(Default)]
struct Queues {
    awake: Vec<Arc<TaskWaker>>,
    /// Those of hosts that are paused.
    paused: BTreeMap<HostId, Vec<Arc<TaskWaker>>>,
}

struct TaskWaker {
    host: HostId,
    id: TaskId,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let ready = Arc::clone(&self.ready);
            let mut queues = lock(&ready.0);
            match queues.paused.get_mut(&self.host) {
                Some(held) => held.push(self),
                None => queues.awake.push(self),
            }
        }
    }
}

/// A lock that survives the panic of a task, so that the report of it can be written.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
