//! A discovery in memory: servers announce themselves in a value that they share.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pitaya_core::session::HostFuture;
use pitaya_driver::cluster::discovery::{Discovery, Search};

/// What servers announce; cheap to clone. Each server runs a clone as its discovery, and is there
/// until that is dropped.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    announced: BTreeMap<Announcement, Vec<SocketAddr>>,
    announcements: Announcement,
    readers: BTreeMap<Announcement, Waker>,
}

type Announcement = usize;

impl Registry {
    /// Announces addresses for somebody who may not even be there, until the result is dropped.
    pub fn announce(&self, addresses: &[SocketAddr]) -> Announced {
        let mut inner = self.lock();
        inner.announcements += 1;
        let number = inner.announcements;
        inner.announced.insert(number, addresses.to_vec());
        inner.change();
        Announced { number, registry: self.clone() }
    }

    /// All that is announced.
    pub fn addresses(&self) -> BTreeSet<SocketAddr> {
        self.lock().announced.values().flatten().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discovery for Registry {
    fn run(self: Box<Self>, search: Search) -> HostFuture<()> {
        Box::pin(async move {
            let announced = self.announce(&search.me().addresses);
            let mut known = BTreeSet::new();
            poll_fn(|cx| {
                announced.wake_on_change(cx);
                let now = self.addresses();
                known.difference(&now).for_each(|address| search.lost(*address));
                now.difference(&known).for_each(|address| search.found(*address));
                known = now;
                Poll::Pending
            })
            .await
        })
    }
}

/// Something that is announced until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Announced {
    number: Announcement,
    registry: Registry,
}

impl Announced {
    fn wake_on_change(&self, cx: &Context<'_>) {
        self.registry.lock().readers.insert(self.number, cx.waker().clone());
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        inner.announced.remove(&self.number);
        inner.readers.remove(&self.number);
        inner.change();
    }
}

impl Inner {
    fn change(&mut self) {
        std::mem::take(&mut self.readers).into_values().for_each(Waker::wake);
    }
}
