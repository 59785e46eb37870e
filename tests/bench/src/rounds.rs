//! Interleaved rounds: every case runs once per round, the order turned round in every other one.

use std::io;

use crate::calls::{self, Way};
use crate::frames::Route;
use crate::load::{self, Outcome, Plan};
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
    /// Replies in one round; a fifth as many warm up before.
    pub(crate) replies: u64,
}

/// What the rounds of one level saw.
#[derive(Debug)]
pub(crate) struct Rounds {
    cases: Vec<(Case, io::Result<Vec<f64>>)>,
    /// All replies, each compared with the expected bytes.
    pub(crate) checked: u64,
    /// Replies that were not the expected bytes.
    pub(crate) errors: u64,
}

impl Rounds {
    /// Runs `cases` against each other, `count` times. A case that fails leaves the rounds.
    pub(crate) fn run(cases: &[Case], level: Level, count: usize) -> Self {
        let cases = cases.iter().map(|case| (*case, Ok(Vec::new()))).collect();
        let mut rounds = Self { cases, checked: 0, errors: 0 };
        for round in 0..count {
            for position in 0..rounds.cases.len() {
                let last = rounds.cases.len() - 1;
                rounds.step(if round % 2 == 0 { position } else { last - position }, level);
            }
        }
        rounds
    }

    /// CPU microseconds per request of all that answers, or per call of all that takes part.
    ///
    /// # Errors
    ///
    /// With what ended the case, or that it was none of these rounds.
    pub(crate) fn request_us(&self, case: Case) -> Result<&[f64], String> {
        match self.cases.iter().find(|(known, _)| *known == case) {
            Some((_, Ok(samples))) => Ok(samples),
            Some((_, Err(error))) => Err(error.to_string()),
            None => Err("not in these rounds".to_owned()),
        }
    }

    /// CPU of one over CPU of the other, round by round.
    pub(crate) fn ratio(&self, one: Case, other: Case) -> Result<Spread, String> {
        let pairs = self.request_us(one)?.iter().zip(self.request_us(other)?);
        Ok(Spread::of(pairs.map(|(one, other)| one / other).collect()))
    }

    fn step(&mut self, index: usize, level: Level) {
        let (case, samples) = &mut self.cases[index];
        let Ok(known) = samples else { return };
        match once(*case, level) {
            Ok(outcome) => {
                known.push(outcome.request_us);
                self.checked += outcome.checked;
                self.errors += outcome.errors;
            }
            Err(error) => *samples = Err(error),
        }
    }
}

fn once(case: Case, level: Level) -> io::Result<Outcome> {
    match case {
        Case::Calls(way) => {
            let calls = level.replies / way.target().slowness();
            calls::measure(way, level.depth.into(), calls)
        }
        Case::Requests(target, route) => requests(target, route, level),
    }
}

fn requests(target: Target, route: Route, level: Level) -> io::Result<Outcome> {
    let replies = level.replies / target.slowness();
    let plan = Plan {
        route,
        connections: level.connections,
        depth: level.depth,
        warmup: replies / 5,
        replies,
    };
    let process = Process::start(target)?;
    load::run(process.endpoint(), &process.pids(), &plan)
}
