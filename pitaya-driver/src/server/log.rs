//! What clients can make a server say, told no more often than somebody would read it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pitaya_core::{ConnConfig, Counter, Instant};

use crate::pace::Pace;

/// Says a line by [`tracing`], unless too many of its kind were said: its text is its kind.
macro_rules! seldom {
    ($shared:expr, $level:ident, $text:literal $(, $($field:tt)+)?) => {
        if $shared.may_log($text) {
            tracing::$level!($($($field)+,)? $text);
        }
    };
}

pub(crate) use seldom;

/// How often each line of one server was said of late.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<BTreeMap<&'static str, Pace>>);

impl Log {
    /// Whether a line may be said now. If so, it is told before how many were suppressed.
    pub(super) fn pass(&self, now: Instant, line: &'static str, config: &ConnConfig) -> bool {
        let pace = || Pace::new(config.limits.log_lines_max, Duration::from_secs(1));
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = paces.entry(line).or_insert_with(pace).pass(now);
        drop(paces);
        match passed {
            Some(suppressed) => tell(line, suppressed),
            None => config.counters.add(Counter::LogLinesSuppressed),
        }
        passed.is_some()
    }

    /// Tells of all that was suppressed and not told.
    pub(super) fn finish(&self) {
        let paces = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        paces.into_iter().for_each(|(line, mut pace)| tell(line, pace.take_suppressed()));
    }
}

fn tell(line: &str, suppressed: u64) {
    if suppressed > 0 {
        tracing::warn!(line, suppressed, "more lines like this one");
    }
}
