//! Interleaved rounds: every case runs once per round, the order turned round in every other one.

use std::io;

use crate::calls::{self, Way};
use crate::frames::Route;
use crate::load::{self, Load, Outcome, Plan};
use crate::process::Process;
use crate::spread::Spread;
use crate::targets::Target;

/// What is loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Case {
    /// One server calls another.
    Calls(Way),
    /// Clients ask one server, by one route.
    Requests(Target, Route),
}

/// How hard all cases of a measurement are loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Level {
    /// Those of clients; one server that calls another has one.
    pub(crate) connections: usize,
    /// Requests or calls that each connection keeps in flight.
    pub(crate) depth: u32,
    /// Replies in one round; a fifth as many warm up.
    pub(crate) replies: u64,
}

/// What the rounds of one level saw.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// With what each turn of each round cost.
    cases: Vec<(Case, io::Result<Vec<Vec<f64>>>)>,
    /// All replies, each compared with the expected bytes.
    pub(crate) checked: u64,
    /// Replies that were not the expected bytes.
    pub(crate) errors: u64,
}

impl Rounds {
    /// Runs `cases` against each other, `count` times. A case that fails leaves the rounds.
    ///
    /// In a round all have their servers at once and short turns one after another, so that what
    /// disturbs the machine for a while disturbs all alike; or, if that would be too many
    /// connections, one long turn each.
    pub(crate) fn run(cases: &[Case], level: Level, count: usize) -> Self {
        let served = |case: &Case| match case {
            Case::Calls(_) => None,
            Case::Requests(target, route) => Some((*target, *route)),
        };
        let served: Option<Vec<Served>> = cases.iter().map(served).collect();
        let few = cases.len() * level.connections <= CONNECTIONS_MAX;
        let cases = cases.iter().map(|case| (*case, Ok(Vec::new()))).collect();
        let mut rounds = Self { cases, checked: 0, errors: 0 };
        for round in 0..count {
            if let Some(served) = served.as_ref().filter(|_| few) {
                rounds.take_turns(served, level);
                continue;
            }
            for position in 0..rounds.cases.len() {
                let last = rounds.cases.len() - 1;
                rounds.step(if round % 2 == 0 { position } else { last - position }, level);
            }
        }
        rounds
    }

    /// CPU microseconds per request of all that answers, or per call of all that takes part, round
    /// by round.
    ///
    /// # Errors
    ///
    /// With what ended the case, or that it was none of these rounds.
    pub(crate) fn request_us(&self, case: Case) -> Result<Vec<f64>, String> {
        Ok(self.turns(case)?.iter().map(|round| Spread::of(round.clone()).median).collect())
    }

    /// CPU of one over CPU of the other, turn by turn, and of each round the median.
    pub(crate) fn ratio(&self, one: Case, other: Case) -> Result<Spread, String> {
        let rounds = self.turns(one)?.iter().zip(self.turns(other)?).map(|(one, other)| {
            let turns = one.iter().zip(other).map(|(one, other)| one / other);
            Spread::of(turns.collect()).median
        });
        Ok(Spread::of(rounds.collect()))
    }

    fn turns(&self, case: Case) -> Result<&[Vec<f64>], String> {
        match self.cases.iter().find(|(known, _)| *known == case) {
            Some((_, Ok(rounds))) => Ok(rounds),
            Some((_, Err(error))) => Err(error.to_string()),
            None => Err("not in these rounds".to_owned()),
        }
    }

    /// One round in short turns.
    fn take_turns(&mut self, served: &[Served], level: Level) {
        let level = Level { replies: level.replies / TURNS, ..level };
        let mut stands: Vec<_> = served.iter().map(|it| Stand::start(*it, level)).collect();
        for turn in 0..TURNS {
            for position in 0..stands.len() {
                let last = stands.len() - 1;
                let stand = &mut stands[if turn % 2 == 0 { position } else { last - position }];
                if let Err(error) = stand.as_mut().map_or(Ok(()), Stand::take_turn) {
                    *stand = Err(error);
                }
            }
        }
        for ((_, rounds), stand) in self.cases.iter_mut().zip(stands) {
            let Ok(known) = rounds else { continue };
            match stand {
                Ok(Stand { load, turns, .. }) => {
                    let outcome = load.outcome();
                    self.checked += outcome.checked;
                    self.errors += outcome.errors;
                    known.push(turns);
                }
                Err(error) => *rounds = Err(error),
            }
        }
    }

    /// One long turn.
    fn step(&mut self, index: usize, level: Level) {
        let (case, samples) = &mut self.cases[index];
        let Ok(known) = samples else { return };
        match once(*case, level) {
            Ok(outcome) => {
                known.push(vec![outcome.request_us]);
                self.checked += outcome.checked;
                self.errors += outcome.errors;
            }
            Err(error) => *samples = Err(error),
        }
    }
}

/// A server and its load, in turns with others.
struct Stand {
    process: Process,
    load: Load,
    turns: Vec<f64>,
}

impl Stand {
    fn start((target, route): Served, level: Level) -> io::Result<Self> {
        let process = Process::start(target)?;
        let load = Load::connect(process.endpoint(), plan(target, route, level))?;
        Ok(Self { process, load, turns: Vec::new() })
    }

    fn take_turn(&mut self) -> io::Result<()> {
        self.turns.push(self.load.measure(&self.process.pids())?);
        Ok(())
    }
}

/// Who is asked, and what.
type Served = (Target, Route);

fn once(case: Case, level: Level) -> io::Result<Outcome> {
    match case {
        Case::Calls(way) => {
            let calls = level.replies / way.target().slowness();
            calls::measure(way, level.depth.into(), calls)
        }
        Case::Requests(target, route) => {
            let process = Process::start(target)?;
            load::run(process.endpoint(), &process.pids(), &plan(target, route, level))
        }
    }
}

fn plan(target: Target, route: Route, level: Level) -> Plan {
    let Level { connections, depth, replies } = level;
    // Fewer than twice what is in flight would be the beginning and the end, and nothing between.
    let replies = (replies / target.slowness()).max(2 * connections as u64 * u64::from(depth));
    Plan { route, connections, depth, warmup: replies / 5, replies }
}

/// Turns of each case in one round.
const TURNS: u64 = 10;
/// Connections of all cases together: this process may open 20,000 files.
const CONNECTIONS_MAX: usize = 15_000;
