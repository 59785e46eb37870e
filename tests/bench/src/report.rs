//! One whole run: the contests in rounds, then what is measured alone.

use std::io;

use crate::decode::Decoding;
use crate::goals::{CONTESTS, Contest};
use crate::rounds::{Level, Rounds};
use crate::table::{Bar, Figures, Report, Row};
use crate::targets::Target;
use crate::{go, idle, machine, syscalls};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) rounds: usize,
    /// By what the work of every measurement is divided.
    pub(crate) shrink: u32,
}

impl Run {
    /// Measures everything; `command` is what a reader has to type for the same.
    pub(crate) fn report(self, command: String) -> io::Result<Report> {
        let open_files_max = machine::raise_open_files()?;
        let load_before = machine::load_average()?;
        go::build()?;
        let (mut rows, mut checked, mut errors) = (Vec::new(), 0, 0);
        for contest in &CONTESTS {
            let rounds = self.contest(contest);
            rows.extend(contest.rows(&rounds));
            checked += rounds.checked;
            errors += rounds.errors;
        }
        rows.extend(self.syscalls());
        rows.extend(self.decoding());
        rows.extend(self.idle_sessions(open_files_max));
        let notes = vec![
            format!("{}; load average {load_before} before.", machine::facts()?),
            format!("{} rounds; replies checked: {checked}, errors: {errors}.", self.rounds),
        ];
        Ok(Report { command, notes, rows, errors })
    }

    fn contest(self, contest: &Contest) -> Rounds {
        let replies = contest.level.replies / u64::from(self.shrink);
        Rounds::run(&contest.cases(), Level { replies, ..contest.level }, self.rounds)
    }

    fn syscalls(self) -> [Row; 2] {
        let requests = SYSCALL_REQUESTS / u64::from(self.shrink);
        let once = Once {
            id: "R7",
            what: "system calls per request, N=8 d=1".to_owned(),
            limit: Target::RawEcho,
            bar: Bar::AtMost(2.5),
            decimals: 2,
        };
        once.rows(|target| syscalls::per_request(target, requests))
    }

    fn idle_sessions(self, open_files_max: usize) -> [Row; 2] {
        // Both ends need a file per session, and a few more.
        let sessions = (IDLE_SESSIONS / self.shrink as usize).min(open_files_max / 2);
        let once = Once {
            id: "M1",
            what: format!("user bytes per idle bound session, N={sessions}"),
            limit: Target::EpollSameWork,
            bar: Bar::AtMost(2000.0),
            decimals: 0,
        };
        once.rows(|target| idle::session_bytes(target, sessions))
    }

    fn decoding(self) -> [Row; 2] {
        let decoding = Decoding::measure(self.rounds);
        let row = |id, what: &str, bar, figures| Row {
            id,
            what: format!("{what}, 100 B"),
            bar,
            figures: Ok(figures),
        };
        let walk = "packet and message decode / borrowed header walk";
        let codec = "`LengthDelimitedCodec` / packet and message decode";
        [
            row("D1", walk, Bar::AtMost(2.0), decoding.over_walk()),
            row("D2", codec, Bar::AtLeast(6.0), decoding.under_codec()),
        ]
    }
}

/// A figure taken once per server, and judged by itself instead of as a ratio.
struct Once {
    id: &'static str,
    what: String,
    limit: Target,
    bar: Bar,
    decimals: usize,
}

impl Once {
    /// A row for tokio, which is judged, and one for smol.
    fn rows(self, measure: impl Fn(Target) -> io::Result<f64>) -> [Row; 2] {
        let measure = |target| measure(target).map_err(|error| error.to_string());
        let limit = measure(self.limit);
        let show = |value: f64| format!("{value:.*}", self.decimals);
        [("tokio", Target::PitayaTokio, self.bar), ("smol", Target::PitayaSmol, Bar::Unset)].map(
            |(runtime, target, bar)| {
                let values = limit.clone().and_then(|limit| Ok((limit, measure(target)?)));
                let figures = values.map(|(limit, ours)| Figures {
                    limit: show(limit),
                    ours: show(ours),
                    shown: show(ours),
                    value: ours,
                });
                Row { id: self.id, what: format!("{} on {runtime}", self.what), bar, figures }
            },
        )
    }
}

const SYSCALL_REQUESTS: u64 = 20_000;
const IDLE_SESSIONS: usize = 5_000;
