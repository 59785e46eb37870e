//! What is measured alone instead of in rounds: system calls, decoding, memory, heartbeats.

use std::io;
use std::time::Duration;

use crate::decode::Decoding;
use crate::table::{Bar, Figures, Row};
use crate::targets::Target;
use crate::{beats, idle, syscalls};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alone {
    pub(crate) rounds: usize,
    pub(crate) shrink: u32,
    pub(crate) open_files_max: usize,
}

/// A measurement, and the names of the goals that it serves.
type Part = (&'static [&'static str], fn(Alone) -> Vec<Row>);

impl Alone {
    /// The rows of the goals whose names begin with `only`.
    pub(crate) fn rows(self, only: &str) -> io::Result<Vec<Row>> {
        let parts: [Part; 5] = [
            (&["R7"], Self::syscalls),
            (&["D1", "D2"], Self::decoding),
            (&["M1", "G3"], Self::idle_sessions),
            (&["M2"], Self::idle_crowd),
            (&["T1"], Self::heartbeats),
        ];
        let asked = |(ids, _): &&Part| ids.iter().any(|id| id.starts_with(only));
        Ok(parts.iter().filter(asked).flat_map(|(_, measure)| measure(self)).collect())
    }

    fn syscalls(self) -> Vec<Row> {
        let requests = SYSCALL_REQUESTS / u64::from(self.shrink);
        let count = |target| syscalls::per_request(target, requests).map_err(text);
        let limit = count(Target::RawEcho);
        let what = "system calls per request, N=8 d=1";
        let row = |runtime, target, bar| {
            let figures = limit.clone().and_then(|limit| Ok(judged(limit, count(target)?, 2)));
            Row { id: "R7", what: format!("{what} on {runtime}"), bar, figures }
        };
        vec![
            row("tokio", Target::PitayaTokio, Bar::AtMost(2.5)),
            row("smol", Target::PitayaSmol, Bar::Unset),
        ]
    }

    fn decoding(self) -> Vec<Row> {
        let decoding = Decoding::measure(self.rounds);
        let row = |id, what: &str, bar, figures| Row {
            id,
            what: format!("{what}, 100 B"),
            bar,
            figures: Ok(figures),
        };
        let walk = "packet and message decode / borrowed header walk";
        let codec = "`LengthDelimitedCodec` / packet and message decode";
        vec![
            row("D1", walk, Bar::AtMost(2.0), decoding.over_walk()),
            row("D2", codec, Bar::AtLeast(6.0), decoding.under_codec()),
        ]
    }

    fn idle_sessions(self) -> Vec<Row> {
        // Both ends need a file per session, and a few more.
        let sessions = (IDLE_SESSIONS / self.shrink as usize).min(self.open_files_max / 2);
        let measure = |target| idle::session_bytes(target, sessions).map_err(text);
        let (limit, ours) = (measure(Target::EpollSameWork), measure(Target::PitayaTokio));
        let bytes = |runtime, bar, bytes: Result<f64, String>| Row {
            id: "M1",
            what: format!("user bytes per idle bound session, N={sessions} on {runtime}"),
            bar,
            figures: limit.clone().and_then(|limit| Ok(judged(limit, bytes?, 0))),
        };
        let against_go = |what, target, bar| Row {
            id: "G3",
            what: format!("the same of Pitaya for Go {what} / ours on tokio"),
            bar,
            figures: ours.clone().and_then(|ours| Ok(ratio(measure(target)?, ours, 0))),
        };
        vec![
            bytes("tokio", Bar::AtMost(2000.0), ours.clone()),
            bytes("smol", Bar::Unset, measure(Target::PitayaSmol)),
            against_go("without compression", Target::Go, Bar::AtLeast(15.0)),
            against_go("as shipped", Target::GoCompressing, Bar::Unset),
        ]
    }

    fn idle_crowd(self) -> Vec<Row> {
        let sessions = CROWD_SESSIONS / self.shrink as usize;
        let measure = |target| idle::crowd_bytes(target, sessions).map(|bytes| bytes / 1e6);
        let figures = measure(Target::TwoTasks).and_then(|limit| {
            let ours = measure(Target::PitayaTokio)?;
            let value = ours / limit;
            Ok(Figures { shown: format!("{value:.2}"), value, ..judged(limit, ours, 0) })
        });
        vec![Row {
            id: "M2",
            what: format!("MB of all servers with {sessions} idle sessions / with two tasks each"),
            bar: Bar::AtMost(0.25),
            figures: figures.map_err(text),
        }]
    }

    fn heartbeats(self) -> Vec<Row> {
        let sessions = HEARTBEAT_SESSIONS / u64::from(self.shrink);
        let window = HEARTBEAT_WINDOW / self.shrink;
        let share = beats::core_share(sessions, window).map_err(text);
        vec![Row {
            id: "T1",
            what: format!(
                "share of a core for the heartbeats of {sessions} sessions, sockets apart"
            ),
            bar: Bar::AtMost(0.002),
            figures: share.map(|share| judged(0.0, share, 4)),
        }]
    }
}

/// A value that is judged by itself.
fn judged(limit: f64, ours: f64, decimals: usize) -> Figures {
    let show = |value: f64| format!("{value:.decimals$}");
    Figures { limit: show(limit), ours: show(ours), shown: show(ours), value: ours }
}

/// `limit` over `ours`.
fn ratio(limit: f64, ours: f64, decimals: usize) -> Figures {
    let value = limit / ours;
    Figures { shown: format!("{value:.1}"), value, ..judged(limit, ours, decimals) }
}

fn text(error: io::Error) -> String {
    error.to_string()
}

const SYSCALL_REQUESTS: u64 = 20_000;
const IDLE_SESSIONS: usize = 5_000;
const CROWD_SESSIONS: usize = 50_000;
const HEARTBEAT_SESSIONS: u64 = 100_000;
const HEARTBEAT_WINDOW: Duration = Duration::from_secs(10);
