//! What came of the requests: latencies, and errors by kind.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Counts of one run.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Microseconds from when a request was sent, or meant to be sent, to its reply.
    pub(crate) latency: Histogram<u64>,
    /// Good replies, those of the warm-up too.
    pub(crate) replies: u64,
    pub(crate) pushes: u64,
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS);
        Self {
            latency: latency.expect("the bounds are far enough apart"),
            replies: 0,
            pushes: 0,
            errors: BTreeMap::new(),
        }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros);
    }

    pub(crate) fn fail(&mut self, kind: &str, count: u64) {
        if count == 0 {
            return;
        }
        // What a server says is an error is a kind too, and it may say anything.
        let is_room = self.errors.len() < KINDS_MAX || self.errors.contains_key(kind);
        let kind = if is_room { kind } else { "other kinds" };
        *self.errors.entry(kind.to_owned()).or_default() += count;
    }

    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Anything longer is the end of a run.
const LATENCY_US_MAX: u64 = 60 * 60 * 1_000_000;
/// Decimal digits that are kept of a latency.
const DIGITS: u8 = 3;
const KINDS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_kind_and_kinds_are_bounded() {
        let mut tally = Tally::new();
        for kind in 0..100 {
            tally.fail(&kind.to_string(), 2);
        }
        tally.fail("0", 1);
        tally.fail("never", 0);
        assert_eq!((tally.errors.len(), tally.failed()), (KINDS_MAX + 1, 201));
        assert_eq!(tally.errors["0"], 3);
    }

    #[test]
    fn a_latency_of_hours_is_still_counted() {
        let mut tally = Tally::new();
        tally.record(Duration::MAX);
        tally.record(Duration::ZERO);
        assert_eq!(tally.latency.len(), 2);
    }
}
