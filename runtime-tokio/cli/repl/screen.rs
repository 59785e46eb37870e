//! What is shown: replies, pushes and errors, above the prompt if there is one.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use pitaya_tokio::Error;
use rustyline::ExternalPrinter;

use super::json::{escaped, pretty};

/// Where everything goes that people are to see.
pub(crate) struct Screen {
    pretty: bool,
    /// What prints while a line is being edited; nothing when lines come from elsewhere.
    above: Mutex<Option<Above>>,
}

pub(crate) type Above = Box<dyn ExternalPrinter + Send>;

impl Screen {
    pub(crate) fn new(pretty: bool) -> Self {
        Self { pretty, above: Mutex::new(None) }
    }

    /// From now on there is a prompt to print above.
    pub(crate) fn print_above(&self, above: Above) {
        *self.above.lock().unwrap_or_else(PoisonError::into_inner) = Some(above);
    }

    pub(crate) fn reply(&self, body: &[u8]) {
        self.note(&format!("sv-> {}", self.body(body)));
    }

    pub(crate) fn push(&self, route: &str, body: &[u8]) {
        self.note(&format!("sv-> {} {}", escaped(route), self.body(body)));
    }

    /// A request that was answered with an error, or not at all.
    pub(crate) fn failure(&self, error: &Error) {
        let Error { code, msg, metadata } = error;
        let mut line = format!("error {}: {}", escaped(code), escaped(msg));
        for (key, value) in metadata {
            line.push_str(&format!("\n  {}: {}", escaped(key), escaped(value)));
        }
        self.note(&line);
    }

    /// A mistake of whoever types.
    pub(crate) fn complain(&self, what: &str) {
        if !self.printed_above(what) {
            eprintln!("error: {what}");
        }
    }

    pub(crate) fn note(&self, line: &str) {
        if !self.printed_above(line) {
            // Whoever reads may have gone away; what is left to be done is done all the same.
            let _ = writeln!(io::stdout().lock(), "{line}");
        }
    }

    pub(crate) fn clear(&self) {
        if io::IsTerminal::is_terminal(&io::stdout()) {
            self.note("\u{1b}[2J\u{1b}[H");
        }
    }

    fn printed_above(&self, line: &str) -> bool {
        let mut above = self.above.lock().unwrap_or_else(PoisonError::into_inner);
        above.as_mut().is_some_and(|above| above.print(format!("{line}\n")).is_ok())
    }

    fn body(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        if self.pretty { pretty(&text).unwrap_or_else(|| escaped(&text)) } else { escaped(&text) }
    }
}
