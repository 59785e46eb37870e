//! The addresses at which other servers may be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Addresses to dial, from however many sources; cheap to clone.
///
/// An address is there as long as one source says so: whoever forges records cannot take away what
/// another source knows, nor its room, for there are at most [`HINTS_MAX`] of each.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    inner: Arc<Mutex<Inner>>,
    source: Source,
}

#[derive(Debug, Default)]
struct Inner {
    addresses: BTreeMap<SocketAddr, BTreeSet<Source>>,
    changed: bool,
    dropped: u64,
    reader: Option<Waker>,
    rooms: BTreeMap<Source, usize>,
}

type Source = usize;

impl Hints {
    /// The same hints, for one who also gives some.
    #[must_use]
    pub fn of_another_source(&self) -> Self {
        let mut inner = self.lock();
        let source = inner.rooms.len() + 1;
        inner.rooms.insert(source, 0);
        Self { inner: Arc::clone(&self.inner), source }
    }

    /// A server may be there. Whether no source has said so, and there was room for it.
    pub fn found(&self, address: SocketAddr) -> bool {
        self.lock().add(self.source, address)
    }

    /// This source says nothing of that address any more.
    pub fn lost(&self, address: SocketAddr) {
        self.lock().remove(self.source, address);
    }

    /// All of them.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().addresses.keys().copied().collect()
    }

    /// How many found no room.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Ready once they have changed since it was last ready.
    pub fn poll_changed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.changed) {
            return Poll::Ready(());
        }
        inner.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, source: Source, address: SocketAddr) -> bool {
        if self.addresses.get(&address).is_some_and(|sources| sources.contains(&source)) {
            return false;
        }
        let room = self.rooms.entry(source).or_default();
        if *room >= HINTS_MAX {
            self.dropped += 1;
            return false;
        }
        *room += 1;
        let sources = self.addresses.entry(address).or_default();
        let is_news = sources.is_empty();
        sources.insert(source);
        if is_news {
            self.change();
        }
        is_news
    }

    fn remove(&mut self, source: Source, address: SocketAddr) {
        let Some(sources) = self.addresses.get_mut(&address) else { return };
        if !sources.remove(&source) {
            return;
        }
        let is_last = sources.is_empty();
        self.rooms.entry(source).and_modify(|room| *room -= 1);
        if is_last {
            self.addresses.remove(&address);
            self.change();
        }
    }

    fn change(&mut self) {
        self.changed = true;
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

/// Addresses that are kept at most of each source.
pub const HINTS_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    #[test]
    fn whoever_reads_is_told_of_changes_and_of_nothing_else() {
        let (hints, cx) = (Hints::default(), Context::from_waker(Waker::noop()));
        assert!(hints.poll_changed(&cx).is_pending());
        assert!(hints.found(address(1)));
        assert!(hints.poll_changed(&cx).is_ready());
        assert!(!hints.found(address(1)));
        hints.lost(address(2));
        assert!(hints.poll_changed(&cx).is_pending());
        hints.lost(address(1));
        assert!(hints.poll_changed(&cx).is_ready());
        assert_eq!(hints.addresses(), []);
    }

    #[test]
    fn forged_records_fill_no_memory() {
        let hints = Hints::default();
        let kept = (0..=u16::MAX).filter(|port| hints.found(address(*port)));
        assert_eq!(kept.count(), HINTS_MAX);
        assert_eq!(hints.addresses().len(), HINTS_MAX);
        assert_eq!(hints.dropped(), u64::from(u16::MAX) + 1 - HINTS_MAX as u64);
    }

    #[test]
    fn what_one_source_forges_takes_nothing_from_another() {
        let hints = Hints::default();
        let (seeds, forger) = (hints.of_another_source(), hints.of_another_source());
        assert_eq!((0..=u16::MAX).filter(|port| forger.found(address(*port))).count(), HINTS_MAX);
        assert!(!seeds.found(address(1)), "it is no news");
        assert!(seeds.found(address(40_000)), "there is room for it");
        (0..=u16::MAX).for_each(|port| forger.lost(address(port)));
        assert_eq!(hints.addresses(), [address(1), address(40_000)]);
        assert!(forger.found(address(2)), "what was lost makes room");
        seeds.lost(address(2));
        seeds.lost(address(1));
        assert_eq!(hints.addresses(), [address(2), address(40_000)]);
    }
}
