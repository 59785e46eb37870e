//! The table of results, as Markdown, and its place in a file.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// What a value has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// Shown to put the others in proportion.
    Unset,
}

impl Bar {
    fn verdict(self, value: f64) -> &'static str {
        let met = match self {
            Self::AtLeast(bar) => bar <= value,
            Self::AtMost(bar) => value <= bar,
            Self::Unset => return "",
        };
        if met { "met" } else { "missed" }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bar) => write!(f, ">= {bar}"),
            Self::AtMost(bar) => write!(f, "<= {bar}"),
            Self::Unset => Ok(()),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) what: String,
    pub(crate) bar: Bar,
    /// Why there is nothing to show, if so.
    pub(crate) figures: Result<Figures, String>,
}

/// What was measured for a row.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) limit: String,
    pub(crate) ours: String,
    /// The value as shown.
    pub(crate) shown: String,
    /// The value as judged.
    pub(crate) value: f64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, what, bar, figures } = self;
        match figures {
            Ok(Figures { limit, ours, shown, value }) => {
                let verdict = bar.verdict(*value);
                write!(f, "| {id} | {what} | {limit} | {ours} | {shown} | {bar} | {verdict} |")
            }
            Err(reason) => write!(f, "| {id} | {what} | | | not measured: {reason} | {bar} | |"),
        }
    }
}

/// All that a run has to say.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) command: String,
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// Wrong replies.
    pub(crate) errors: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "```sh\n{}\n```\n", self.command)?;
        writeln!(f, "| | what | limit | ours | median (min..max) | bar | |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        writeln!(f)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))
    }
}

impl Report {
    /// Whether everything with a bar was measured, by right replies alone.
    pub(crate) fn is_sound(&self) -> bool {
        self.errors == 0 && self.rows.iter().all(|row| row.bar == Bar::Unset || row.figures.is_ok())
    }
}

/// A file with a place for the report between two markers.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    path: &'a Path,
    text: String,
}

impl<'a> Page<'a> {
    /// Reads the file at `path`, or begins one if there is none.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or lacks the markers.
    pub(crate) fn open(path: &'a Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => NEW_FILE.to_owned(),
            Err(error) => return Err(error),
        };
        if spliced(&text, "").is_none() {
            let missing = format!("no lines {BEGIN} and {END} in {}", path.display());
            return Err(io::Error::other(missing));
        }
        Ok(Self { path, text })
    }

    /// Puts `report` in the place of the one that was there.
    pub(crate) fn write(self, report: &Report) -> io::Result<()> {
        let text = spliced(&self.text, &report.to_string()).expect("open found the markers");
        fs::write(self.path, text)
    }
}

fn spliced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";
const NEW_FILE: &str = "# Performance\n\n<!-- bench: begin -->\n<!-- bench: end -->\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_replaces_the_one_between_the_markers_and_nothing_else() {
        let first = spliced("before\n<!-- bench: begin -->\n<!-- bench: end -->\nafter\n", "one\n");
        let second = spliced(&first.unwrap(), "two\n").unwrap();
        assert_eq!(second, "before\n<!-- bench: begin -->\ntwo\n<!-- bench: end -->\nafter\n");
        assert_eq!(spliced("no markers", "one\n"), None);
        assert_eq!(spliced("<!-- bench: end --><!-- bench: begin -->", "one\n"), None);
    }

    #[test]
    fn a_new_file_has_a_place_for_the_table() {
        assert!(spliced(NEW_FILE, "one\n").unwrap().contains("\none\n"));
    }

    #[test]
    fn a_value_on_the_bar_meets_it() {
        assert_eq!(Bar::AtLeast(0.85).verdict(0.85), "met");
        assert_eq!(Bar::AtLeast(0.85).verdict(0.84), "missed");
        assert_eq!(Bar::AtMost(2.5).verdict(2.5), "met");
        assert_eq!(Bar::AtMost(2.5).verdict(2.6), "missed");
        assert_eq!(Bar::Unset.verdict(0.0), "");
    }

    #[test]
    fn a_row_without_figures_says_why() {
        let row = Row {
            id: "R7",
            what: "system calls".to_owned(),
            bar: Bar::AtMost(2.5),
            figures: Err("no strace".to_owned()),
        };
        let line = "| R7 | system calls | | | not measured: no strace | <= 2.5 | |";
        assert_eq!(row.to_string(), line);
    }
}
