//! The ratios that are measured in rounds, and their bars.

mod between;

use crate::frames::Route;
use crate::rounds::{Case, Level, Rounds};
use crate::spread::Spread;
use crate::table::{Bar, Figures, Row};
use crate::targets::Target;

/// Goals whose servers are loaded alike, and so measured against each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contest {
    pub(crate) level: Level,
    goals: &'static [Goal],
}

/// Two servers of which one is the measure of the other.
#[derive(Clone, Copy, Debug)]
struct Goal {
    id: &'static str,
    /// What is divided by what.
    what: &'static str,
    limit: Case,
    ours: Case,
    bar: Bar,
}

/// Every contest there is.
pub(crate) fn contests() -> impl Iterator<Item = &'static Contest> {
    CONTESTS.iter().chain(&between::CONTESTS)
}

impl Contest {
    /// Whether a goal has a name that begins with `only`.
    pub(crate) fn has(&self, only: &str) -> bool {
        self.goals.iter().any(|goal| goal.id.starts_with(only))
    }

    /// Every server of the contest, once.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for case in self.goals.iter().flat_map(|goal| [goal.limit, goal.ours]) {
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        cases
    }

    pub(crate) fn rows(&self, rounds: &Rounds) -> Vec<Row> {
        let Level { connections, depth, .. } = self.level;
        let load = |goal: &Goal| match goal.ours {
            Case::Calls(_) => format!("{depth} in flight"),
            Case::Requests(..) => format!("N={connections} d={depth}"),
        };
        let row = |goal: &Goal| Row {
            id: goal.id,
            what: format!("{}, {}", goal.what, load(goal)),
            bar: goal.bar,
            figures: goal.figures(rounds),
        };
        self.goals.iter().map(row).collect()
    }
}

impl Goal {
    fn figures(&self, rounds: &Rounds) -> Result<Figures, String> {
        let ratio = match self.bar {
            // It says how much more ours may cost.
            Bar::AtMost(_) => rounds.ratio(self.ours, self.limit)?,
            Bar::AtLeast(_) | Bar::Unset => rounds.ratio(self.limit, self.ours)?,
        };
        let median = |case| Ok::<_, String>(Spread::of(rounds.request_us(case)?).median);
        Ok(Figures {
            limit: format!("{:.3} us", median(self.limit)?),
            ours: format!("{:.3} us", median(self.ours)?),
            shown: ratio.to_string(),
            value: ratio.median,
        })
    }
}

const CONTESTS: [Contest; 4] = [
    Contest {
        level: Level { connections: 64, depth: 1, replies: 100_000 },
        goals: &[
            Goal {
                id: "R1",
                what: "raw epoll echo / echo handler on tokio",
                limit: RAW,
                ours: TOKIO_ECHO,
                bar: Bar::AtLeast(0.85),
            },
            Goal {
                id: "R2",
                what: "raw epoll echo / JSON handler on tokio",
                limit: RAW,
                ours: TOKIO_JSON,
                bar: Bar::AtLeast(0.78),
            },
            Goal {
                id: "R6",
                what: "JSON handler on tokio / on smol",
                limit: TOKIO_JSON,
                ours: SMOL_JSON,
                bar: Bar::AtLeast(0.75),
            },
            Goal {
                id: "W1",
                what: "JSON handler on tokio over TCP / over WebSocket",
                limit: TOKIO_JSON,
                ours: WEB_JSON,
                bar: Bar::Unset,
            },
            Goal {
                id: "",
                what: "raw epoll echo / same work in an epoll loop, echo",
                limit: RAW,
                ours: SAME_WORK_ECHO,
                bar: Bar::Unset,
            },
            Goal {
                id: "",
                what: "raw epoll echo / same work in an epoll loop, JSON",
                limit: RAW,
                ours: SAME_WORK_JSON,
                bar: Bar::Unset,
            },
            Goal {
                id: "",
                what: "raw epoll echo / bare tokio, echo",
                limit: RAW,
                ours: BARE_TOKIO,
                bar: Bar::Unset,
            },
            Goal {
                id: "",
                what: "raw epoll echo / same work on bare tokio, echo",
                limit: RAW,
                ours: BARE_SAME_WORK_ECHO,
                bar: Bar::Unset,
            },
            WHAT_TOKIO_TAKES,
            Goal {
                id: "G1",
                what: "Pitaya for Go without compression / JSON handler on tokio",
                limit: GO_JSON,
                ours: TOKIO_JSON,
                bar: Bar::AtLeast(3.5),
            },
            Goal {
                id: "G2",
                what: "Pitaya for Go as shipped / JSON handler on tokio",
                limit: GO_COMPRESSING_JSON,
                ours: TOKIO_JSON,
                bar: Bar::AtLeast(40.0),
            },
        ],
    },
    Contest {
        level: Level { connections: 64, depth: 16, replies: 1_000_000 },
        goals: &[
            Goal {
                id: "R3",
                what: "same work in an epoll loop / JSON handler on tokio",
                limit: SAME_WORK_JSON,
                ours: TOKIO_JSON,
                bar: Bar::AtLeast(0.75),
            },
            Goal {
                id: "",
                what: "same work in an epoll loop / JSON handler on smol",
                limit: SAME_WORK_JSON,
                ours: SMOL_JSON,
                bar: Bar::Unset,
            },
            Goal {
                id: "W1",
                what: "JSON handler on tokio over TCP / over WebSocket",
                limit: TOKIO_JSON,
                ours: WEB_JSON,
                bar: Bar::Unset,
            },
            Goal {
                id: "G1",
                what: "Pitaya for Go without compression / JSON handler on tokio",
                limit: GO_JSON,
                ours: TOKIO_JSON,
                bar: Bar::AtLeast(20.0),
            },
            Goal {
                id: "G2",
                what: "Pitaya for Go as shipped / JSON handler on tokio",
                limit: GO_COMPRESSING_JSON,
                ours: TOKIO_JSON,
                bar: Bar::AtLeast(300.0),
            },
        ],
    },
    Contest { level: Level { connections: 1_000, depth: 1, replies: 100_000 }, goals: &CROWD },
    Contest { level: Level { connections: 10_000, depth: 1, replies: 100_000 }, goals: &CROWD },
];

const WHAT_TOKIO_TAKES: Goal = Goal {
    id: "",
    what: "raw epoll echo / same work on bare tokio, JSON",
    limit: RAW,
    ours: BARE_SAME_WORK_JSON,
    bar: Bar::Unset,
};

const CROWD: [Goal; 2] = [
    Goal {
        id: "R4",
        what: "raw epoll echo / JSON handler on tokio",
        limit: RAW,
        ours: TOKIO_JSON,
        bar: Bar::AtLeast(0.85),
    },
    WHAT_TOKIO_TAKES,
];

const RAW: Case = Case::Requests(Target::RawEcho, Route::Echo);
const SAME_WORK_ECHO: Case = Case::Requests(Target::EpollSameWork, Route::Echo);
const SAME_WORK_JSON: Case = Case::Requests(Target::EpollSameWork, Route::Json);
const BARE_TOKIO: Case = Case::Requests(Target::BareTokioEcho, Route::Echo);
const BARE_SAME_WORK_ECHO: Case = Case::Requests(Target::BareTokioSameWork, Route::Echo);
const BARE_SAME_WORK_JSON: Case = Case::Requests(Target::BareTokioSameWork, Route::Json);
const TOKIO_ECHO: Case = Case::Requests(Target::PitayaTokio, Route::Echo);
const TOKIO_JSON: Case = Case::Requests(Target::PitayaTokio, Route::Json);
const GO_JSON: Case = Case::Requests(Target::Go, Route::Json);
const GO_COMPRESSING_JSON: Case = Case::Requests(Target::GoCompressing, Route::Json);
const WEB_JSON: Case = Case::Requests(Target::PitayaWeb, Route::Json);
const SMOL_JSON: Case = Case::Requests(Target::PitayaSmol, Route::Json);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_in_several_goals_is_measured_once_per_round() {
        let [single, pipelined, ..] = CONTESTS.map(|contest| contest.cases());
        let go = [GO_JSON, GO_COMPRESSING_JSON];
        let ours = [TOKIO_ECHO, TOKIO_JSON, SMOL_JSON, WEB_JSON];
        let same_work = [SAME_WORK_ECHO, SAME_WORK_JSON];
        let bare = [BARE_TOKIO, BARE_SAME_WORK_ECHO, BARE_SAME_WORK_JSON];
        assert_eq!(single, [&[RAW][..], &ours, &same_work, &bare, &go].concat());
        assert_eq!(
            pipelined,
            [&[SAME_WORK_JSON, TOKIO_JSON, SMOL_JSON, WEB_JSON][..], &go].concat()
        );
    }
}
