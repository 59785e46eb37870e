//! The addresses at which other servers may be.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Addresses to dial, from however many discoveries; cheap to clone. There are at most
/// [`HINTS_MAX`], so that whoever forges records fills no memory.
#[derive(Clone, Debug, Default)]
pub struct Hints(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    addresses: BTreeSet<SocketAddr>,
    changed: bool,
    dropped: u64,
    reader: Option<Waker>,
}

impl Hints {
    /// A server may be there. Whether it is news, and there was room for it.
    pub fn found(&self, address: SocketAddr) -> bool {
        let mut inner = self.lock();
        if inner.addresses.contains(&address) {
            return false;
        }
        if inner.addresses.len() >= HINTS_MAX {
            inner.dropped += 1;
            return false;
        }
        inner.addresses.insert(address);
        inner.change();
        true
    }

    /// Nothing is said of that address any more.
    pub fn lost(&self, address: SocketAddr) {
        let mut inner = self.lock();
        if inner.addresses.remove(&address) {
            inner.change();
        }
    }

    /// All of them.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().addresses.iter().copied().collect()
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn change(&mut self) {
        self.changed = true;
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

/// Addresses that are kept at most.
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
        for port in 0..=u16::MAX {
            hints.found(address(port));
        }
        assert_eq!(hints.addresses().len(), HINTS_MAX);
        assert_eq!(hints.dropped(), u64::from(u16::MAX) + 1 - HINTS_MAX as u64);
    }
}
