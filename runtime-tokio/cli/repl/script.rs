//! A file of commands, one on each line, as Pitaya's own client runs them.

use super::command::{self, Command, ParseError};

/// A command and the line it stands on, counted from one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) command: Command,
}

/// What is wrong with which line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ScriptError {
    pub(crate) line: usize,
    pub(crate) error: ParseError,
}

/// Reads a whole script, so that a mistake in its last line is known before its first is run.
///
/// # Errors
///
/// The first line that means nothing.
pub(crate) fn parse(text: &str) -> Result<Vec<Step>, ScriptError> {
    let step = |(at, line): (usize, &str)| match command::parse(line) {
        Ok(command) => command.map(|command| Ok(Step { line: at + 1, command })),
        Err(error) => Some(Err(ScriptError { line: at + 1, error })),
    };
    text.lines().enumerate().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_command_and_knows_where_it_stands() {
        let steps = parse("# say hello\r\nconnect\r\n\r\n  exit").unwrap();
        let expected = [
            Step { line: 2, command: Command::Connect(None) },
            Step { line: 4, command: Command::Exit },
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn the_first_line_that_means_nothing_is_named() {
        let error = parse("connect\n\nrequest\nfly").expect_err("two lines mean nothing");
        assert_eq!((error.line, error.error), (3, command::parse("request").unwrap_err()));
    }
}
