//! The ratios of what goes from one server to another: calls, and requests that are forwarded.

use super::{Contest, Goal, TOKIO_JSON};
use crate::calls::Way;
use crate::frames::Route;
use crate::rounds::{Case, Level};
use crate::table::Bar;
use crate::targets::Target;

pub(super) const CONTESTS: [Contest; 5] = [
    Contest {
        level: Level { connections: 1, depth: 64, replies: 400_000 },
        goals: &[
            calls("Q1", 2.5),
            QUIC,
            SAME_WORK,
            PLAIN,
            Goal {
                id: "Q4",
                what: "a stream of QUIC for each call / our link",
                limit: Case::Calls(Way::QuicStreams),
                ours: OURS,
                bar: Bar::AtLeast(3.0),
            },
            Goal {
                id: "Q4",
                what: "unary gRPC by tonic without TLS / our link",
                limit: Case::Calls(Way::Grpc),
                ours: OURS,
                bar: Bar::AtLeast(10.0),
            },
            Goal {
                id: "Q4",
                what: "request through NATS without TLS / our link",
                limit: Case::Calls(Way::Nats),
                ours: OURS,
                bar: Bar::AtLeast(4.0),
            },
        ],
    },
    Contest {
        level: Level { connections: 1, depth: 1, replies: 40_000 },
        goals: &[calls("Q2", 2.6), QUIC, SAME_WORK, PLAIN],
    },
    Contest {
        level: Level { connections: 1, depth: 1024, replies: 400_000 },
        goals: &[calls("Q3", 2.8), QUIC, SAME_WORK, PLAIN],
    },
    Contest {
        level: Level { connections: 64, depth: 1, replies: 100_000 },
        goals: &[forwarded(6.0), LOCAL],
    },
    Contest {
        level: Level { connections: 64, depth: 16, replies: 500_000 },
        goals: &[forwarded(20.0), LOCAL],
    },
];

/// What a call over our link may cost.
const fn calls(id: &'static str, bar: f64) -> Goal {
    let what = "our link over QUIC / frames over TCP";
    Goal { id, what, limit: FRAMES, ours: OURS, bar: Bar::AtMost(bar) }
}

/// How much less ours has to cost than what Pitaya for Go forwards.
const fn forwarded(bar: f64) -> Goal {
    Goal {
        id: "G4",
        what: "forwarded by Pitaya for Go through NATS / by ours",
        limit: Case::Requests(Target::GoGate, Route::RoomJson),
        ours: FORWARDED,
        bar: Bar::AtLeast(bar),
    }
}

/// Nothing of ours but QUIC.
const QUIC: Goal = Goal {
    id: "",
    what: "frames over TCP / over our QUIC",
    limit: FRAMES,
    ours: Case::Calls(Way::MuxOverQuic),
    bar: Bar::Unset,
};
/// Nothing of ours but what is in a call, and what for.
const SAME_WORK: Goal = Goal {
    id: "",
    what: "frames over TCP / with messages, routes and arguments as ours",
    limit: FRAMES,
    ours: Case::Calls(Way::MuxSameWork),
    bar: Bar::Unset,
};
/// All of ours but QUIC.
const PLAIN: Goal = Goal {
    id: "",
    what: "frames over TCP / our link over plain TCP",
    limit: FRAMES,
    ours: Case::Calls(Way::PitayaOverPlain),
    bar: Bar::Unset,
};
const LOCAL: Goal = Goal {
    id: "F1",
    what: "JSON handler on tokio / the same request forwarded, both servers",
    limit: TOKIO_JSON,
    ours: FORWARDED,
    bar: Bar::Unset,
};

const FRAMES: Case = Case::Calls(Way::Mux);
const FORWARDED: Case = Case::Requests(Target::PitayaGate, Route::RoomJson);
const OURS: Case = Case::Calls(Way::Pitaya);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_call_is_measured_at_64_in_flight_and_the_link_at_all_levels() {
        let [many, one, most, ..] = CONTESTS.map(|contest| contest.cases());
        let ways = <Way as clap::ValueEnum>::value_variants();
        assert!(ways.iter().all(|way| many.contains(&Case::Calls(*way))));
        assert_eq!(many.len(), ways.len());
        assert_eq!(one, most);
        assert_eq!(one, many[..5]);
    }

    #[test]
    fn only_the_goals_that_are_asked_for_are_measured() {
        let asked = |only| CONTESTS.map(|contest| contest.has(only));
        assert_eq!(asked("Q"), [true, true, true, false, false]);
        assert_eq!(asked("Q4"), [true, false, false, false, false]);
        assert_eq!(asked("G4"), [false, false, false, true, true]);
    }
}
