//! One whole run: the contests in rounds, then what is measured alone.

use std::io;

use crate::alone::Alone;
use crate::goals::{self, Contest};
use crate::rounds::{Level, Rounds};
use crate::table::Report;
use crate::{go, machine};

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) rounds: usize,
    /// By what the work of every measurement is divided.
    pub(crate) shrink: u32,
    /// The goals that are measured: those whose names begin so.
    pub(crate) only: String,
}

impl Run {
    /// Measures everything; `command` is what a reader has to type for the same.
    pub(crate) fn report(&self, command: String) -> io::Result<Report> {
        let open_files_max = machine::raise_open_files()?;
        let load_before = machine::load_average()?;
        let go = go::build();
        let (mut rows, mut checked, mut errors) = (Vec::new(), 0, 0);
        for contest in goals::contests().filter(|contest| contest.has(&self.only)) {
            let rounds = self.contest(contest);
            rows.extend(contest.rows(&rounds));
            checked += rounds.checked;
            errors += rounds.errors;
        }
        let alone = Alone { rounds: self.rounds, shrink: self.shrink, open_files_max };
        rows.extend(alone.rows(&self.only)?);
        let mut notes = vec![
            format!("{}; load average {load_before} before.", machine::facts()?),
            format!("{} rounds; replies checked: {checked}, errors: {errors}.", self.rounds),
        ];
        notes.extend(go.err().map(|error| format!("Without Pitaya for Go: {error}.")));
        Ok(Report { command, notes, rows, errors })
    }

    fn contest(&self, contest: &Contest) -> Rounds {
        let replies = contest.level.replies / u64::from(self.shrink);
        Rounds::run(&contest.cases(), Level { replies, ..contest.level }, self.rounds)
    }
}
