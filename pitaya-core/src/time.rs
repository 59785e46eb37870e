//! A point in time that the caller chooses, so that a run can be repeated.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Add;
use std::time::Duration;

/// Microseconds since a moment that the runtime chose.
///
/// `std::time::Instant` cannot be made without reading a clock and cannot be printed; this can,
/// so a trace reads the same on every machine.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Instant(NonZeroU64); // One more than the microseconds, so that none takes no room.

impl Instant {
    /// The moment the runtime counts from.
    pub const ZERO: Self = Self::from_micros(0);

    /// The moment `micros` microseconds after [`Instant::ZERO`].
    pub const fn from_micros(micros: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(micros))
    }

    /// Microseconds since [`Instant::ZERO`].
    pub const fn micros(self) -> u64 {
        self.0.get() - 1
    }

    /// How long after `earlier` this is; zero if it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: a deadline beyond the end of time is never reached.
    fn add(self, later: Duration) -> Self {
        let micros = later.as_secs().saturating_mul(1_000_000);
        Self(self.0.saturating_add(micros.saturating_add(later.subsec_micros().into())))
    }
}

impl Default for Instant {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instant").field(&self.micros()).finish()
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.micros() / 1_000_000, self.micros() % 1_000_000);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        write!(f, "{hours:02}:{minutes:02}:{:02}.{micros:06}", seconds % 60)
    }
}

/// The earlier of two deadlines, either of which may not exist.
pub fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    // One that does not exist is 0, and one less than that is the greatest of all.
    let rank = |it: Option<Instant>| it.map_or(0, |it| it.0.get()).wrapping_sub(1);
    NonZeroU64::new(rank(a).min(rank(b)).wrapping_add(1)).map(Instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_deadline_saturates_instead_of_wrapping() {
        assert_eq!(Instant::from_micros(5) + Duration::MAX, Instant::from_micros(u64::MAX));
    }

    #[test]
    fn time_prints_as_a_clock() {
        let time = Instant::ZERO + Duration::from_micros(3_723_000_042);
        assert_eq!(time.to_string(), "01:02:03.000042");
    }

    #[test]
    fn the_earlier_deadline_wins_and_a_missing_one_never_does() {
        let (a, b) = (Some(Instant::from_micros(1)), Some(Instant::from_micros(2)));
        assert_eq!(earlier(a, b), a);
        assert_eq!(earlier(None, b), b);
        let end_of_time = Some(Instant::from_micros(u64::MAX));
        assert_eq!((earlier(end_of_time, None), earlier(end_of_time, a)), (end_of_time, a));
        assert_eq!(earlier(None, None), None);
    }
}
