//! How an input is read as a script: settings, then steps until the bytes or the patience end.

use std::fmt;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use pitaya_core::{Instant, Limits};

/// The unread rest of a script. With `PITAYA_STEPS` in the environment its steps are printed, so
/// that a person can read what an input does.
pub(crate) struct Script<'a> {
    input: Unstructured<'a>,
    steps_left: usize,
    is_shown: bool,
}

impl<'a> Script<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        let is_shown = std::env::var_os(SHOW).is_some();
        Self { input: Unstructured::new(data), steps_left: STEPS_MAX, is_shown }
    }

    /// A byte that chooses; 0 when there are none.
    pub(crate) fn choice(&mut self) -> u8 {
        self.input.arbitrary().unwrap_or(0)
    }

    pub(crate) fn step<S: Arbitrary<'a> + fmt::Debug>(&mut self) -> Option<S> {
        self.steps_left = self.steps_left.checked_sub(1)?;
        let step = if self.input.is_empty() { None } else { self.input.arbitrary().ok() };
        if self.is_shown {
            eprintln!("{step:?}");
        }
        step
    }
}

/// How time goes on.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Wait {
    Millis(u16),
    Seconds(u8),
    UntilDeadline,
}

impl Wait {
    pub(crate) fn until(self, now: Instant, deadline: Option<Instant>) -> Instant {
        match self {
            Self::Millis(millis) => now + Duration::from_millis(millis.into()),
            Self::Seconds(seconds) => now + Duration::from_secs(u64::from(seconds) % 100),
            Self::UntilDeadline => deadline.unwrap_or(now).max(now),
        }
    }
}

/// How many bytes: all, as often as not.
pub(crate) fn some(bytes: u8) -> usize {
    if bytes < 0x80 { bytes.into() } else { usize::MAX }
}

/// Limits that are small enough to be reached.
pub(crate) fn limits(choice: u8) -> Limits {
    let small: [fn(Limits) -> Limits; 8] = [
        |limits| limits.outbound_packets_max(3),
        |limits| limits.outbound_bytes_max(64),
        |limits| limits.calls_max(2).in_flight_max(2),
        |limits| limits.calls_waiting_bytes_max(40),
        |limits| limits.resume_window(Duration::from_secs(2)),
        |limits| limits.heartbeat(Duration::from_secs(1)),
        |limits| limits.packet_bytes_max(64).inflated_bytes_max(64).handshake_bytes_max(300),
        |limits| limits.compression_bytes_min(16),
    ];
    let chosen = small.into_iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1);
    chosen.fold(Limits::default(), |limits, (_, shrink)| shrink(limits))
}

/// So that the time for one input stays bounded, however little a step needs.
const STEPS_MAX: usize = 150;

const SHOW: &str = "PITAYA_STEPS";
