//! Runs of code that stand in two files: what both runtimes do alike belongs into the driver.

use crate::source::{Lines, Source};

/// Runs of at least `lines_min` equal lines of code, each with its lines in both files. Comments,
/// blanks, imports, tests and lone brackets do not count, and the names of the runtimes are one
/// word.
pub(crate) fn equal_runs(one: &Source, other: &Source, lines_min: usize) -> Vec<(Lines, Lines)> {
    let (one, other) = (code(one), code(other));
    let mut runs = Vec::new();
    for at in 0..one.len() {
        for beside in 0..other.len() {
            let goes_on = at > 0 && beside > 0 && one[at - 1].1 == other[beside - 1].1;
            let lines = equal_lines(&one[at..], &other[beside..]);
            if !goes_on && lines >= lines_min {
                runs.push((span(&one[at..at + lines]), span(&other[beside..beside + lines])));
            }
        }
    }
    runs
}

/// A line of code with its number, as it reads for any runtime.
type Line = (usize, String);

fn code(source: &Source) -> Vec<Line> {
    let mut in_import = false;
    let mut is_import = |line: &str| {
        let is_import = in_import || line.starts_with("use ") || line.starts_with("pub use ");
        in_import = is_import && !line.ends_with(';');
        is_import
    };
    let lines: Vec<_> = source.text.lines().collect();
    let lines = source.code().into_iter().map(|at| (at, lines[at - 1].trim()));
    let telling = lines.filter(|(_, line)| !is_import(line) && !is_bracket(line));
    telling.map(|(at, line)| (at, any_runtime(line))).collect()
}

fn is_bracket(line: &str) -> bool {
    !line.contains(char::is_alphanumeric)
}

fn any_runtime(line: &str) -> String {
    let named = ["Tokio", "tokio", "Smol", "smol"].iter();
    named.fold(line.to_owned(), |line, name| line.replace(name, "runtime"))
}

fn equal_lines(one: &[Line], other: &[Line]) -> usize {
    one.iter().zip(other).take_while(|((_, one), (_, other))| one == other).count()
}

fn span(lines: &[Line]) -> Lines {
    lines[0].0..=lines[lines.len() - 1].0
}
