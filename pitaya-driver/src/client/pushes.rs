//! Pushes between the connection that receives them and those who subscribed.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use pitaya_core::{ClientConfig, Counter, Counters, Decode};

/// The pushes of one route, decoded.
pub struct Subscription<T, C> {
    raw: RawSubscription,
    kind: PhantomData<fn() -> (T, C)>,
}

impl<T, C: Decode<T>> Subscription<T, C> {
    pub(super) fn new(raw: RawSubscription) -> Self {
        Self { raw, kind: PhantomData }
    }

    /// The next push, in the order in which the server sent them; `None` once the client is closed
    /// for good and nothing waits any more. A push that does not decode is logged, counted and
    /// passed over.
    ///
    /// The future may be dropped without losing a push.
    pub async fn next(&mut self) -> Option<T> {
        loop {
            match C::decode(&self.raw.next().await?) {
                Ok(push) => return Some(push),
                Err(error) => {
                    tracing::warn!(route = &*self.raw.route, %error, "a push does not decode");
                    self.raw.pushes.counters.add(Counter::PushesDropped);
                }
            }
        }
    }

    /// How many pushes were dropped because too many waited here; the oldest go first.
    pub fn dropped(&self) -> u64 {
        self.raw.dropped()
    }
}

/// The pushes of one route, as bytes.
pub struct RawSubscription {
    pushes: Arc<Pushes>,
    route: Box<str>,
    queue: Arc<Queue>,
}

impl RawSubscription {
    pub(super) fn new(pushes: Arc<Pushes>, route: &str) -> Self {
        let queue = Arc::new(Queue::default());
        pushes.add(route, &queue);
        Self { pushes, route: route.into(), queue }
    }

    /// The next push, in the order in which the server sent them; `None` once the client is closed
    /// for good and nothing waits any more.
    ///
    /// The future may be dropped without losing a push.
    pub async fn next(&mut self) -> Option<Bytes> {
        poll_fn(|cx| self.queue.poll(cx)).await
    }

    /// How many pushes were dropped because too many waited here; the oldest go first.
    pub fn dropped(&self) -> u64 {
        self.queue.lock().dropped
    }
}

impl Drop for RawSubscription {
    fn drop(&mut self) {
        self.pushes.remove(&self.route, &self.queue);
    }
}

/// Who subscribed to what, over all connections of one client.
pub(super) struct Pushes {
    counters: Arc<Counters>,
    bytes_max: usize,
    pushes_max: usize,
    subscribers: Mutex<Subscribers>,
}

#[derive(Default)]
struct Subscribers {
    ended: bool,
    by_route: BTreeMap<Box<str>, Vec<Arc<Queue>>>,
}

impl Pushes {
    pub(super) fn new(config: &ClientConfig) -> Arc<Self> {
        Arc::new(Self {
            counters: Arc::clone(&config.counters),
            bytes_max: config.limits.received_bytes_max,
            pushes_max: config.limits.subscription_pushes_max,
            subscribers: Mutex::default(),
        })
    }

    /// Hands a push to all who subscribed to its route.
    pub(super) fn deliver(&self, route: &str, body: &[u8]) {
        let subscribers = self.lock();
        let Some(queues) = subscribers.by_route.get(route) else {
            tracing::debug!(route, "nobody takes this push");
            return self.counters.add(Counter::PushesDropped);
        };
        let body = Bytes::copy_from_slice(body);
        for queue in queues {
            let dropped = queue.push(body.clone(), self.pushes_max, self.bytes_max);
            self.counters.add_many(Counter::PushesDropped, dropped);
        }
    }

    /// No more pushes will come.
    pub(super) fn end(&self) {
        let mut subscribers = self.lock();
        subscribers.ended = true;
        subscribers.by_route.values().flatten().for_each(|queue| queue.end());
    }

    fn add(&self, route: &str, queue: &Arc<Queue>) {
        let mut subscribers = self.lock();
        if subscribers.ended {
            queue.end();
        }
        subscribers.by_route.entry(route.into()).or_default().push(Arc::clone(queue));
    }

    fn remove(&self, route: &str, queue: &Arc<Queue>) {
        let mut subscribers = self.lock();
        if let Some(queues) = subscribers.by_route.get_mut(route) {
            queues.retain(|other| !Arc::ptr_eq(other, queue));
            if queues.is_empty() {
                subscribers.by_route.remove(route);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits in one subscription.
#[derive(Default)]
struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    bodies: VecDeque<Bytes>,
    bytes: usize,
    dropped: u64,
    ended: bool,
    reader: Option<Waker>,
}

impl Queue {
    /// Takes a push, and drops the oldest ones that it leaves no room for; how many those were.
    fn push(&self, body: Bytes, pushes_max: usize, bytes_max: usize) -> u64 {
        let mut waiting = self.lock();
        let mut dropped = 0;
        while waiting.bodies.len() >= pushes_max || waiting.bytes + body.len() > bytes_max {
            let Some(oldest) = waiting.bodies.pop_front() else { break };
            waiting.bytes -= oldest.len();
            dropped += 1;
        }
        waiting.dropped += dropped;
        waiting.bytes += body.len();
        waiting.bodies.push_back(body);
        waiting.reader.take().into_iter().for_each(Waker::wake);
        dropped
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut waiting = self.lock();
        if let Some(body) = waiting.bodies.pop_front() {
            waiting.bytes -= body.len();
            return Poll::Ready(Some(body));
        }
        if waiting.ended {
            return Poll::Ready(None);
        }
        waiting.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn end(&self) {
        let mut waiting = self.lock();
        waiting.ended = true;
        waiting.reader.take().into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pitaya_core::Limits;

    use super::*;

    fn pushes(limits: Limits) -> (Arc<Pushes>, Arc<Counters>) {
        let config = ClientConfig { limits, ..ClientConfig::default() };
        (Pushes::new(&config), config.counters)
    }

    /// What waits, up to the first moment when nothing does; `None` at the end.
    fn taken(subscription: &mut RawSubscription) -> Vec<Option<Bytes>> {
        let cx = Context::from_waker(Waker::noop());
        let mut taken = Vec::new();
        while taken.last() != Some(&None) {
            match subscription.queue.poll(&cx) {
                Poll::Ready(push) => taken.push(push),
                Poll::Pending => break,
            }
        }
        taken
    }

    fn some(bodies: &[&'static str]) -> Vec<Option<Bytes>> {
        bodies.iter().map(|body| Some(Bytes::from_static(body.as_bytes()))).collect()
    }

    #[test]
    fn each_subscriber_of_a_route_gets_every_push_of_it() {
        let (pushes, counters) = pushes(Limits::default());
        let mut first = RawSubscription::new(Arc::clone(&pushes), "on");
        let mut second = RawSubscription::new(Arc::clone(&pushes), "on");
        let mut other = RawSubscription::new(Arc::clone(&pushes), "off");
        pushes.deliver("on", b"1");
        pushes.deliver("on", b"2");
        assert_eq!(taken(&mut first), some(&["1", "2"]));
        assert_eq!(taken(&mut second), some(&["1", "2"]));
        assert_eq!(taken(&mut other), []);
        assert_eq!(counters.count(Counter::PushesDropped), 0);
    }

    #[test]
    fn the_oldest_push_makes_room_and_is_counted() {
        let limits = Limits::default().subscription_pushes_max(3).received_bytes_max(6);
        let (pushes, counters) = pushes(limits);
        let mut subscription = RawSubscription::new(Arc::clone(&pushes), "on");
        for body in ["1", "2", "3", "4"] {
            pushes.deliver("on", body.as_bytes());
        }
        assert_eq!(subscription.dropped(), 1);
        pushes.deliver("on", b"55555");
        assert_eq!(subscription.dropped(), 3);
        assert_eq!(taken(&mut subscription), some(&["4", "55555"]));
        pushes.deliver("on", b"7777777");
        assert_eq!(taken(&mut subscription), some(&["7777777"]));
        assert_eq!(counters.count(Counter::PushesDropped), 3);
    }

    #[test]
    fn what_nobody_subscribed_to_is_counted() {
        let (pushes, counters) = pushes(Limits::default());
        drop(RawSubscription::new(Arc::clone(&pushes), "on"));
        pushes.deliver("on", b"1");
        assert_eq!(counters.count(Counter::PushesDropped), 1);
        assert!(pushes.lock().by_route.is_empty());
    }

    #[test]
    fn what_waits_at_the_end_is_still_given() {
        let (pushes, _) = pushes(Limits::default());
        let mut subscription = RawSubscription::new(Arc::clone(&pushes), "on");
        pushes.deliver("on", b"last");
        pushes.end();
        let mut all = some(&["last"]);
        all.push(None);
        assert_eq!(taken(&mut subscription), all);
        assert_eq!(taken(&mut RawSubscription::new(pushes, "on")), [None]);
    }
}
