//! When to send a heartbeat, and when to give up on a silent peer.

use std::time::Duration;

use crate::Instant;

/// Both heartbeat deadlines of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    /// In milliseconds, which are exact enough.
    period: u32,
    pub(crate) next_beat: Instant,
    /// Any packet proves that the peer is alive, not only a heartbeat.
    pub(crate) last_heard: Instant,
}

impl Heartbeat {
    pub(crate) fn new(period: Duration, now: Instant) -> Self {
        let millis = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
        Self { period: millis, next_beat: now + period, last_heard: now }
    }

    /// Whether a heartbeat is due; if so the next one is a period later.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        let due = self.next_beat <= now;
        if due {
            self.next_beat = now + Duration::from_millis(self.period.into());
        }
        due
    }

    /// When silence has lasted too long.
    pub(crate) fn dead_at(&self) -> Instant {
        let silence = u64::from(self.period) * HALF_PERIODS_MAX / 2 + GRACE_MILLIS;
        self.last_heard + Duration::from_millis(silence)
    }
}

/// JavaScript clients answer a beat one period after it came, so two periods and a round trip are
/// healthy silence; Pitaya itself gives up after two to three.
const HALF_PERIODS_MAX: u64 = 5;
const GRACE_MILLIS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_healthy_for_two_and_a_half_periods_and_a_second() {
        let mut heartbeat = Heartbeat::new(Duration::from_secs(30), Instant::ZERO);
        assert_eq!(heartbeat.dead_at(), Instant::from_micros(76_000_000));
        heartbeat.last_heard = Instant::from_micros(10);
        assert_eq!(heartbeat.dead_at(), Instant::from_micros(76_000_010));
    }

    #[test]
    fn a_beat_is_due_once_a_period() {
        let mut heartbeat = Heartbeat::new(Duration::from_secs(1), Instant::ZERO);
        assert!(!heartbeat.handle_timeout(Instant::from_micros(999_999)));
        assert!(heartbeat.handle_timeout(Instant::from_micros(1_000_000)));
        assert!(!heartbeat.handle_timeout(Instant::from_micros(1_000_000)));
        assert_eq!(heartbeat.next_beat, Instant::from_micros(2_000_000));
    }
}
