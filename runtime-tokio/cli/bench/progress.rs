//! How far a run is, on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use pitaya_tokio::Instant;

use super::report::grouped;
use super::tally::Tally;

/// One line that is written over and over on a terminal, and once a second elsewhere.
pub(crate) struct Progress {
    is_terminal: bool,
    measuring: Option<Measuring>,
    /// Whether the line on the terminal is not ended.
    is_begun: bool,
}

struct Measuring {
    began: Instant,
    replies_before: u64,
    duration: Duration,
    seconds_shown: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), measuring: None, is_begun: false }
    }

    pub(crate) fn connecting(&mut self, open: usize, wanted: usize) {
        if self.is_terminal {
            let (open, wanted) = (grouped(open as u64), grouped(wanted as u64));
            self.write(&format!("connecting  {open} of {wanted}"));
        }
    }

    /// The warm-up is over.
    pub(crate) fn measure(&mut self, now: Instant, replies: u64, duration: Duration) {
        self.measuring =
            Some(Measuring { began: now, replies_before: replies, duration, seconds_shown: 0 });
    }

    pub(crate) fn show(&mut self, now: Instant, tally: &Tally) {
        let Some(measuring) = &mut self.measuring else {
            if self.is_terminal {
                self.write("warming up");
            }
            return;
        };
        let elapsed = now.since(measuring.began);
        let is_due = measuring.seconds_shown < elapsed.as_secs();
        if self.is_terminal || is_due {
            measuring.seconds_shown = elapsed.as_secs();
            let replies = tally.replies - measuring.replies_before;
            let share = elapsed.as_secs_f64() / measuring.duration.as_secs_f64();
            self.write(&line(elapsed, share, replies, tally.failed()));
        }
    }

    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.is_begun) {
            self.say("\r\u{1b}[K");
        }
    }

    fn write(&mut self, line: &str) {
        if self.is_terminal {
            self.is_begun = true;
            self.say(&format!("\r{line}\u{1b}[K"));
        } else {
            self.say(&format!("{line}\n"));
        }
    }

    fn say(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // Progress that nobody can see is no reason to stop.
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

/// How long, a bar, and what came so far.
pub(crate) fn line(elapsed: Duration, share: f64, replies: u64, errors: u64) -> String {
    let filled = ((share * BAR_CELLS as f64) as usize).min(BAR_CELLS);
    let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR_CELLS - filled));
    let (seconds, replies, errors) = (elapsed.as_secs_f64(), grouped(replies), grouped(errors));
    format!("{seconds:5.1} s  {bar}  {replies} replies  {errors} errors")
}

const BAR_CELLS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_full_at_the_end_and_not_beyond() {
        let line = |share| line(Duration::from_millis(1500), share, 1_904_331, 0);
        assert!(line(2.0).contains(&"█".repeat(32)) && !line(2.0).contains('░'));
        assert!(line(0.5).contains(&format!("{}{}", "█".repeat(16), "░".repeat(16))));
        assert!(line(0.5).ends_with("1,904,331 replies  0 errors"), "{}", line(0.5));
        assert!(line(0.5).starts_with("  1.5 s"));
    }
}
