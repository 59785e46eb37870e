//! An open loop: requests are due at moments that do not depend on the replies.

use std::time::Duration;

use pitaya_driver::Runtime;
use pitaya_tokio::{Instant, Tokio};

use super::worker::Shared;

/// When which request of which connection is due: one after another, in turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: Instant,
    rate: u32,
    connections: usize,
}

impl Schedule {
    pub(crate) fn new(start: Instant, rate: u32, connections: usize) -> Self {
        Self { start, rate, connections }
    }

    /// When connection `index` is to send after it has sent `asked` requests.
    pub(crate) fn due(&self, index: usize, asked: u64) -> Instant {
        self.nth(asked.saturating_mul(self.connections as u64).saturating_add(index as u64))
    }

    /// How many requests are due before `moment`.
    pub(crate) fn due_before(&self, moment: Instant) -> u64 {
        let micros = u64::try_from(moment.since(self.start).as_micros()).unwrap_or(u64::MAX);
        let due = (u128::from(micros) * u128::from(self.rate)).div_ceil(1_000_000);
        u64::try_from(due).unwrap_or(u64::MAX)
    }

    /// When the `n`th request of all is due.
    fn nth(&self, n: u64) -> Instant {
        let micros = u128::from(n) * 1_000_000 / u128::from(self.rate);
        self.start + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// Wakes each connection when its next request is due, until `until`.
pub(crate) async fn keep(
    runtime: &Tokio, schedule: &Schedule, shared: &Shared, until: Instant,
) -> Result<(), String> {
    let mut alarm = alarm::Alarm::new().map_err(|error| format!("no timer: {error}"))?;
    let (connections, mut next) = (schedule.connections as u64, 0);
    while schedule.nth(next) < until {
        let now = runtime.now();
        let (first, due) = (next, schedule.due_before(now + TICK));
        // Nobody has to be woken twice.
        for n in first.max(due.saturating_sub(connections))..due {
            shared.wake(usize::try_from(n % connections).unwrap_or_default());
        }
        next = due.max(next);
        let left = schedule.nth(next).since(now);
        if left.is_zero() {
            tokio::task::yield_now().await;
        } else {
            alarm.sleep(left).await.map_err(|error| format!("the timer: {error}"))?;
        }
    }
    Ok(())
}

/// What is due in less is due now: time is counted in microseconds.
const TICK: Duration = Duration::from_micros(1);

/// A timer to the microsecond; tokio's own goes off at whole milliseconds.
#[cfg(target_os = "linux")]
mod alarm {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::time::Duration;

    use nix::sys::timer::TimerSetTimeFlags;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    pub(super) struct Alarm(AsyncFd<Fd>);

    struct Fd(TimerFd);

    impl AsRawFd for Fd {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    impl Alarm {
        #[expect(deprecated, reason = "what replaces it is unsafe; an `Fd` owns its descriptor")]
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            let timer = Fd(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
            Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
        }

        pub(super) async fn sleep(&mut self, time: Duration) -> io::Result<()> {
            let once = Expiration::OneShot(time.into());
            self.0.get_ref().0.set(once, TimerSetTimeFlags::empty())?;
            self.0.readable().await?.try_io(|fd| Ok(fd.get_ref().0.wait()?)).unwrap_or(Ok(()))
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod alarm {
    use std::io;
    use std::time::Duration;

    pub(super) struct Alarm;

    impl Alarm {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn sleep(&mut self, time: Duration) -> io::Result<()> {
            tokio::time::sleep(time).await;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns_at_the_rate() {
        let start = Instant::from_micros(100);
        let schedule = Schedule::new(start, 3, 2);
        let due: Vec<_> =
            [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(at, n)| schedule.due(at, n).micros()).to_vec();
        assert_eq!(due, [100, 333_433, 666_766, 1_000_100]);
    }

    #[test]
    fn what_is_due_is_counted_as_it_is_scheduled() {
        let schedule = Schedule::new(Instant::from_micros(7), 300_007, 5);
        for n in [0, 1, 2, 1_000, 123_456_789] {
            let at = schedule.nth(n);
            assert!(schedule.due_before(at) <= n, "{n}");
            assert!(n < schedule.due_before(at + TICK), "{n}");
        }
    }
}
