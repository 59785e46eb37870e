//! A carrier of messages in memory: servers say to each other what is called and told, whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures_channel::mpsc;
use pitaya_core::Error;
use pitaya_core::cluster::{Life, ServerId, ServerInfo};
use pitaya_core::session::HostFuture;
use pitaya_driver::cluster::{Answer, Desk, Rpc, Told};

/// What all servers of a cluster share; cheap to clone. It loses nothing, and its queues have no
/// bounds: the tests that use it send little.
#[derive(Clone, Default)]
pub struct Broker {
    queues: Arc<Mutex<BTreeMap<ServerId, Queue>>>,
    /// How long each message takes.
    late: Option<Arc<Late>>,
}

type Late = dyn Fn() -> HostFuture<()> + Send + Sync;

/// What waits for a server, in the order in which it was said.
struct Queue {
    info: ServerInfo,
    sender: mpsc::UnboundedSender<Message>,
}

enum Message {
    Answered(Answer, Result<Bytes, Error>),
    Called { from: Life, remaining: Duration, request: Bytes, answer: Answer },
    Joined(ServerInfo),
    Left(Life),
    Told(Life, Told),
}

impl Broker {
    /// One that brings each message after such a wait, in the order in which they were sent.
    pub fn late(wait: impl Fn() -> HostFuture<()> + Send + Sync + 'static) -> Self {
        Self { late: Some(Arc::new(wait)), ..Self::default() }
    }

    /// The way of one server to the others.
    pub fn carrier(&self) -> Carrier {
        Carrier { broker: self.clone(), me: Mutex::new(None) }
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<ServerId, Queue>> {
        lock(&self.queues)
    }

    fn send(&self, to: &Life, message: Message) {
        let sender = {
            let queues = self.queues();
            let queue = queues.get(&to.id).filter(|queue| Life::from(&queue.info) == *to);
            queue.map(|queue| queue.sender.clone())
        };
        // Whoever is about to be gone hears nothing; a message that is dropped may well be answered
        // by that, so it is not dropped under the lock.
        if let Some(sender) = sender {
            drop(sender.unbounded_send(message));
        }
    }

    /// Makes a server known to the others, and the others to it.
    fn join(&self, info: &ServerInfo) -> mpsc::UnboundedReceiver<Message> {
        let (sender, receiver) = mpsc::unbounded();
        let queue = Queue { info: info.clone(), sender };
        let mut queues = self.queues();
        queues.insert(info.id.clone(), queue);
        let me = &queues[&info.id];
        for other in queues.values().filter(|other| other.info.id != info.id) {
            // Whoever is about to be gone hears nothing.
            let _ = me.sender.unbounded_send(Message::Joined(other.info.clone()));
            let _ = other.sender.unbounded_send(Message::Joined(info.clone()));
        }
        receiver
    }

    /// Two servers lose each other, and begin anew.
    pub fn part(&self, one: &Life, other: &Life) {
        let queues = self.queues();
        let queue = |life: &Life| queues.get(&life.id).filter(|it| Life::from(&it.info) == *life);
        let (Some(one), Some(other)) = (queue(one), queue(other)) else { return };
        for (to, lost) in [(one, other), (other, one)] {
            // Whoever is about to be gone hears nothing.
            let _ = to.sender.unbounded_send(Message::Left(Life::from(&lost.info)));
            let _ = to.sender.unbounded_send(Message::Joined(lost.info.clone()));
        }
    }

    fn leave(&self, life: &Life) {
        let mut queues = self.queues();
        if queues.get(&life.id).is_some_and(|queue| Life::from(&queue.info) == *life) {
            queues.remove(&life.id);
        }
        for other in queues.values() {
            // Whoever is about to be gone hears nothing.
            let _ = other.sender.unbounded_send(Message::Left(life.clone()));
        }
    }
}

/// One server at the [`Broker`].
pub struct Carrier {
    broker: Broker,
    me: Mutex<Option<Life>>,
}

impl Rpc for Carrier {
    fn call(&self, to: &Life, remaining: Duration, request: Bytes, answer: Answer) {
        let from = lock(&self.me).clone().expect("it runs");
        self.broker.send(to, Message::Called { from, remaining, request, answer });
    }

    fn tell(&self, to: &Life, told: Told) {
        let from = lock(&self.me).clone().expect("it runs");
        self.broker.send(to, Message::Told(from, told));
    }

    fn lost(&self, to: &Life) {
        let me = lock(&self.me).clone().expect("it runs");
        self.broker.part(&me, to);
    }

    fn run(self: Arc<Self>, desk: Desk) -> HostFuture<()> {
        Box::pin(async move {
            let me = Life::from(&**desk.me());
            *lock(&self.me) = Some(me.clone());
            let mut messages = self.broker.join(desk.me());
            let here = Here { broker: &self.broker, me };
            while let Some(message) = messages.next().await {
                if let Some(late) = &self.broker.late {
                    late().await;
                }
                here.take(&desk, message);
            }
        })
    }
}

/// A server that is there until this is dropped.
struct Here<'b> {
    broker: &'b Broker,
    me: Life,
}

impl Here<'_> {
    fn take(&self, desk: &Desk, message: Message) {
        match message {
            Message::Answered(answer, result) => answer.give(result),
            Message::Called { from, remaining, request, answer } => {
                // The answer goes the way of all else that is said to the caller.
                let (broker, to) = (self.broker.clone(), from.clone());
                let answered = move |result| broker.send(&to, Message::Answered(answer, result));
                desk.called(&from, remaining, request, Answer::new(answered));
            }
            Message::Joined(info) => desk.joined(info),
            Message::Left(life) => desk.left(&life),
            Message::Told(from, told) => desk.told(&from, told),
        }
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.broker.leave(&self.me);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
