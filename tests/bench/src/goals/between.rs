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
            PLAIN,
            BARE,
            BARE_OVER_QUIC,
            instead("a stream of QUIC for each bare body / our whole call", STREAMS, 3.0),
            instead("unary gRPC by tonic without TLS / our whole call", GRPC, 10.0),
            instead("request through NATS without TLS / our whole call", NATS, 4.0),
            bare("a stream of QUIC for each bare body / bare bodies over our QUIC", STREAMS),
            bare("unary gRPC by tonic without TLS / bare bodies over our QUIC", GRPC),
            bare("request through NATS without TLS / bare bodies over our QUIC", NATS),
        ],
    },
    Contest {
        level: Level { connections: 1, depth: 1, replies: 40_000 },
        goals: &[calls("Q2", 2.6), PLAIN, BARE, BARE_OVER_QUIC],
    },
    Contest {
        level: Level { connections: 1, depth: 1024, replies: 400_000 },
        goals: &[calls("Q3", 2.8), PLAIN, BARE, BARE_OVER_QUIC],
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
    let what = "our link over QUIC / the same messages in frames over TCP";
    Goal { id, what, limit: MESSAGES, ours: OURS, bar: Bar::AtMost(bar) }
}

/// How much less a call of ours has to cost than another way to call.
const fn instead(what: &'static str, limit: Case, bar: f64) -> Goal {
    Goal { id: "Q4", what, limit, ours: OURS, bar: Bar::AtLeast(bar) }
}

/// The same with nothing of ours but QUIC.
const fn bare(what: &'static str, limit: Case) -> Goal {
    Goal { id: "", what, limit, ours: OUR_QUIC, bar: Bar::Unset }
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

/// All of ours but QUIC.
const PLAIN: Goal = Goal {
    id: "",
    what: "messages in frames over TCP / our link over plain TCP",
    limit: MESSAGES,
    ours: Case::Calls(Way::PitayaOverPlain),
    bar: Bar::Unset,
};
/// What the messages, their routes and their arguments cost.
const BARE: Goal = Goal {
    id: "",
    what: "bare bodies in frames over TCP / messages in frames over TCP",
    limit: BODIES,
    ours: MESSAGES,
    bar: Bar::Unset,
};
/// Nothing of ours but QUIC.
const BARE_OVER_QUIC: Goal = Goal {
    id: "",
    what: "bare bodies in frames over TCP / over our QUIC",
    limit: BODIES,
    ours: OUR_QUIC,
    bar: Bar::Unset,
};
const LOCAL: Goal = Goal {
    id: "F1",
    what: "JSON handler on tokio / the same request forwarded, both servers",
    limit: TOKIO_JSON,
    ours: FORWARDED,
    bar: Bar::Unset,
};

const BODIES: Case = Case::Calls(Way::Mux);
const MESSAGES: Case = Case::Calls(Way::MuxSameWork);
const OUR_QUIC: Case = Case::Calls(Way::MuxOverQuic);
const STREAMS: Case = Case::Calls(Way::QuicStreams);
const GRPC: Case = Case::Calls(Way::Grpc);
const NATS: Case = Case::Calls(Way::Nats);
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
