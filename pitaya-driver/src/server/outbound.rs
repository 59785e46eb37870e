//! What waits to be written to all clients of one server, and who holds most of it.

use std::collections::BTreeMap;

/// Connections for which something waits, by number, each with its address. Most are never here:
/// what is said to them is written at once.
#[derive(Debug)]
pub(super) struct Outbound<A> {
    total: usize,
    held: BTreeMap<usize, (usize, A)>,
}

impl<A> Outbound<A> {
    /// Notes that this connection, for which `before` bytes waited, now holds `bytes`. One that was
    /// shed holds nothing any more, whatever it says.
    pub(super) fn change(
        &mut self, id: usize, before: usize, bytes: usize, address: impl Fn() -> A,
    ) {
        if self.is_shed(id, before) {
            return;
        }
        self.total = self.total - before + bytes;
        if bytes == 0 {
            self.held.remove(&id);
        } else {
            self.held.entry(id).or_insert_with(|| (0, address())).0 = bytes;
        }
    }

    /// Whether a connection for which `before` bytes waited was shed.
    fn is_shed(&self, id: usize, before: usize) -> bool {
        before > 0 && !self.held.contains_key(&id)
    }

    /// The address of who holds most, who then holds nothing, if all together hold more than
    /// `bytes_max`.
    pub(super) fn shed(&mut self, bytes_max: usize) -> Option<A> {
        if self.total <= bytes_max {
            return None;
        }
        // A walk over all of them, but only as often as somebody is closed.
        let (&worst, _) = self.held.iter().max_by_key(|(_, (bytes, _))| bytes)?;
        let (bytes, address) = self.held.remove(&worst)?;
        self.total -= bytes;
        Some(address)
    }
}

impl<A> Default for Outbound<A> {
    fn default() -> Self {
        Self { total: 0, held: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_most_is_shed_first_until_the_rest_holds_no_more_than_may_wait() {
        let mut outbound = Outbound::default();
        for (id, bytes) in [(1, 20), (2, 50), (3, 10), (4, 40)] {
            outbound.change(id, 0, bytes, || id);
        }
        assert_eq!(outbound.shed(120), None);
        let shed: Vec<_> = std::iter::from_fn(|| outbound.shed(30)).collect();
        assert_eq!(shed, [2, 4]);
        outbound.change(1, 20, 21, || unreachable!("it is there"));
        assert_eq!(outbound.shed(30), Some(1));
    }

    #[test]
    fn what_was_written_or_shed_no_longer_counts() {
        let mut outbound = Outbound::default();
        for id in [1, 2] {
            outbound.change(id, 0, 60, || id);
        }
        outbound.change(1, 60, 0, || 1);
        assert_eq!(outbound.shed(60), None);
        assert_eq!(outbound.shed(59), Some(2));
        assert!(outbound.is_shed(2, 60) && !outbound.is_shed(1, 0));
        outbound.change(2, 60, 100, || 2);
        outbound.change(1, 0, 10, || 1);
        assert_eq!((outbound.shed(10), outbound.total), (None, 10));
    }
}
