//! The clock of the machine, for runtimes that live by it.

use pitaya_core::Instant;
use rustix::time::{ClockId, clock_gettime};

/// The time.
pub fn now() -> Instant {
    read(ClockId::Monotonic)
}

/// The time when the system's own clock ticked last. It is not measured, so it is cheap to know.
pub fn rough_now() -> Instant {
    #[cfg(target_os = "linux")]
    return read(ClockId::MonotonicCoarse);
    #[cfg(not(target_os = "linux"))]
    now()
}

fn read(clock: ClockId) -> Instant {
    let time = clock_gettime(clock);
    // Both count from the start of the machine, and neither is negative.
    Instant::from_micros(time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rough_time_is_never_ahead() {
        for _ in 0..1000 {
            let rough = rough_now();
            assert!(rough <= now());
        }
    }
}
