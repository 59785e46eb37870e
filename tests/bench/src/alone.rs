//! What is measured alone instead of in rounds: system calls, decoding, memory, heartbeats.

use std::io;
use std::time::Duration;

use crate::decode::Decoding;
use crate::fan_out::FanOut;
use crate::spread::Spread;
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
        let parts: [Part; 6] = [
            (&["R7"], Self::syscalls),
            (&["B1", "B2", "B3"], Self::fan_out),
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

    fn fan_out(self) -> Vec<Row> {
        let measured = FanOut::measure(self.rounds, self.shrink).map_err(text);
        let measured = measured.and_then(|measured| match measured.errors {
            0 => Ok(measured),
            errors => Err(format!("{errors} of {} pushes were wrong", measured.checked)),
        });
        let row = |id, what: &str, bar, pick: fn(&FanOut) -> &[Vec<f64>; 2]| Row {
            id,
            what: format!("{what}, G=1000"),
            bar,
            figures: measured.as_ref().map(|all| efficiency(pick(all))).map_err(Clone::clone),
        };
        vec![
            row("B1", "loop of sends / push to a group", Bar::AtLeast(0.8), |all| &all.single),
            row("B2", "the same with 16 pushes at once", Bar::AtLeast(0.65), |all| &all.burst),
            row("B3", "long push to a group / compressed", Bar::AtLeast(0.8), |all| &all.long),
        ]
    }

    fn idle_sessions(self) -> Vec<Row> {
        // Both ends need a file per session, and a few more.
        let sessions = (IDLE_SESSIONS / self.shrink as usize).min(self.open_files_max / 2);
        let measure = |target| idle::session_bytes(target, sessions).map_err(text);
        let (limit, ours) = (measure(Target::EpollSameWork), measure(Target::PitayaTokio));
        let few = sessions.min(LAYERED_SESSIONS);
        let bytes = |runtime: &str, bar, bytes: Result<f64, String>| Row {
            id: "M1",
            what: format!("user bytes per idle bound session on {runtime}"),
            bar,
            figures: limit.clone().and_then(|limit| Ok(judged(limit, bytes?, 0))),
        };
        let against_go = |what, target, bar| Row {
            id: "G3",
            what: format!("the same of Pitaya for Go {what} / ours on tokio"),
            bar,
            figures: ours.clone().and_then(|ours| Ok(ratio(measure(target)?, ours, 0))),
        };
        let layered =
            |target, scheme| idle::layered_session_bytes(target, scheme, few).map_err(text);
        vec![
            bytes(&format!("tokio, N={sessions}"), Bar::AtMost(2000.0), ours.clone()),
            bytes(
                &format!("tokio over WebSocket, N={few}"),
                Bar::Unset,
                layered(Target::PitayaWeb, "ws"),
            ),
            bytes(
                &format!("tokio over TLS, N={few}"),
                Bar::Unset,
                layered(Target::PitayaTls, "tls"),
            ),
            bytes(&format!("smol, N={sessions}"), Bar::Unset, measure(Target::PitayaSmol)),
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

/// What the limit costs over what ours costs, round by round.
fn efficiency([limit_us, ours_us]: &[Vec<f64>; 2]) -> Figures {
    let pairs = limit_us.iter().zip(ours_us);
    let ratio = Spread::of(pairs.map(|(limit, ours)| limit / ours).collect());
    let median = |values: &[f64]| format!("{:.3} us", Spread::of(values.to_vec()).median);
    Figures {
        limit: median(limit_us),
        ours: median(ours_us),
        shown: ratio.to_string(),
        value: ratio.median,
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
/// Each costs a handshake that takes its time.
const LAYERED_SESSIONS: usize = 2_000;
const CROWD_SESSIONS: usize = 50_000;
const HEARTBEAT_SESSIONS: u64 = 100_000;
const HEARTBEAT_WINDOW: Duration = Duration::from_secs(10);
