//! How often one line is logged, however often its cause comes.

use std::time::Duration;

use pitaya_core::Instant;

/// So many lines in a period, which begins with the first of them.
#[derive(Debug)]
pub(crate) struct Pace {
    lines_max: usize,
    period: Duration,
    until: Instant,
    lines: usize,
    suppressed: u64,
}

impl Pace {
    pub(crate) fn new(lines_max: usize, period: Duration) -> Self {
        Self { lines_max, period, until: Instant::ZERO, lines: 0, suppressed: 0 }
    }

    /// Whether a line may be logged now. If so, how many were suppressed since the last one.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        if now >= self.until {
            (self.until, self.lines) = (now + self.period, 0);
        }
        if self.lines >= self.lines_max {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(self.take_suppressed())
    }

    /// How many were suppressed since this was told last.
    pub(crate) fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_often_is_counted_until_the_period_is_over() {
        let mut pace = Pace::new(2, Duration::from_secs(1));
        let mut at = |millis| pace.pass(Instant::ZERO + Duration::from_millis(millis));
        assert_eq!([300, 900, 900, 1299].map(&mut at), [Some(0), Some(0), None, None]);
        assert_eq!([1300, 1300, 1301].map(&mut at), [Some(2), Some(0), None]);
        assert_eq!((pace.take_suppressed(), pace.take_suppressed()), (1, 0));
    }
}
