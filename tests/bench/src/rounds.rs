//! Interleaved rounds: every case runs once per round, the order turned round in every other one.

use std::io;

use crate::frames::Route;
use crate::load::{self, Plan};
use crate::process::Process;
use crate::spread::Spread;
use crate::targets::Target;

/// One server answering one route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Case {
    pub(crate) target: Target,
    pub(crate) route: Route,
}

/// How hard all cases of a measurement are loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Level {
    pub(crate) connections: usize,
    /// Requests that each connection keeps in flight.
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

    /// CPU microseconds of the server per request.
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

    /// CPU of `limit` over CPU of `ours`, round by round: 1 is as good as the limit.
    pub(crate) fn efficiency(&self, limit: Case, ours: Case) -> Result<Spread, String> {
        let pairs = self.request_us(limit)?.iter().zip(self.request_us(ours)?);
        Ok(Spread::of(pairs.map(|(limit, ours)| limit / ours).collect()))
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

fn once(case: Case, level: Level) -> io::Result<load::Outcome> {
    let replies = level.replies / case.target.slowness();
    let plan = Plan {
        route: case.route,
        connections: level.connections,
        depth: level.depth,
        warmup: replies / 5,
        replies,
    };
    load::run(Process::start(case.target)?.endpoint(), &plan)
}
