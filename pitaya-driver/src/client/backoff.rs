//! How long to wait before each attempt to connect again.

use std::time::Duration;

use pitaya_core::{Limits, Rng};

/// Waits that grow, each drawn from all between the shortest and a bound that doubles, so that the
/// clients of a server that was lost do not come back in step.
#[derive(Debug)]
pub(super) struct Backoff {
    rng: Rng,
    /// Attempts since a connection lasted.
    attempts: usize,
    attempts_max: usize,
    delay_max: Duration,
    delay_min: Duration,
}

/// An attempt to connect again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Attempt {
    /// Counts from one.
    pub(super) number: usize,
    pub(super) delay: Duration,
}

impl Backoff {
    pub(super) fn new(limits: &Limits, seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            attempts: 0,
            attempts_max: limits.reconnect_attempts_max,
            delay_max: limits.reconnect_delay_max,
            delay_min: limits.reconnect_delay_min.min(limits.reconnect_delay_max),
        }
    }

    /// A connection that was open for so long is gone. One that did not last says little about the
    /// next one.
    pub(super) fn handle_lost(&mut self, lasted: Duration) {
        if lasted >= self.delay_max {
            self.attempts = 0;
        }
    }

    /// The next attempt, unless there were enough of them.
    pub(super) fn next(&mut self) -> Option<Attempt> {
        if self.attempts >= self.attempts_max {
            return None;
        }
        self.attempts += 1;
        let doubled = 1_u32.checked_shl(u32::try_from(self.attempts).unwrap_or(u32::MAX));
        let bound = self.delay_min.saturating_mul(doubled.unwrap_or(u32::MAX)).min(self.delay_max);
        let spread = u64::try_from((bound - self.delay_min).as_micros()).unwrap_or(u64::MAX);
        let delay =
            self.delay_min + Duration::from_micros(self.rng.below(spread.saturating_add(1)));
        Some(Attempt { number: self.attempts, delay })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(attempts_max: usize) -> Limits {
        Limits::default()
            .reconnect_attempts_max(attempts_max)
            .reconnect_delay_min(Duration::from_millis(500))
            .reconnect_delay_max(Duration::from_secs(30))
    }

    #[test]
    fn each_wait_is_any_between_the_shortest_and_a_bound_that_doubles() {
        let bounds = [1, 2, 4, 8, 16, 30, 30, 30];
        let mut longest = [Duration::ZERO; 8];
        for seed in 0..1000 {
            let mut backoff = Backoff::new(&limits(8), seed);
            for (at, bound) in bounds.into_iter().enumerate() {
                let Attempt { number, delay } = backoff.next().unwrap();
                assert_eq!(number, at + 1);
                let all = Duration::from_millis(500)..=Duration::from_secs(bound);
                assert!(all.contains(&delay), "wait {number}: {delay:?}");
                longest[at] = longest[at].max(delay);
            }
        }
        for (longest, bound) in longest.into_iter().zip(bounds) {
            assert!(longest > Duration::from_secs(bound) * 99 / 100, "{longest:?} of {bound} s");
        }
    }

    #[test]
    fn attempts_end_when_there_were_enough_in_a_row() {
        let mut backoff = Backoff::new(&limits(2), 7);
        assert!(backoff.next().is_some() && backoff.next().is_some());
        assert_eq!(backoff.next(), None);
        backoff.handle_lost(Duration::from_millis(29_999));
        assert_eq!(backoff.next(), None);
        backoff.handle_lost(Duration::from_secs(30));
        assert_eq!(backoff.next().map(|attempt| attempt.number), Some(1));
        assert_eq!(Backoff::new(&limits(0), 7).next(), None);
    }

    #[test]
    fn no_setting_overflows() {
        for (min, max) in [(Duration::ZERO, Duration::ZERO), (Duration::MAX, Duration::MAX)] {
            let limits = limits(usize::MAX).reconnect_delay_min(min).reconnect_delay_max(max);
            let mut backoff = Backoff::new(&limits, 7);
            assert!((0..100).all(|_| backoff.next().unwrap().delay == min));
        }
        let limits = limits(99).reconnect_delay_min(Duration::from_secs(60));
        let delay = Backoff::new(&limits, 7).next().unwrap().delay;
        assert_eq!(delay, Duration::from_secs(30), "the shortest wait is not above the longest");
    }
}
