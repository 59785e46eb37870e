//! Clients that are scripts, and the cases that they play.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::process::Command;

use crate::cases::Transport;
use crate::packages;

/// A client that is a script.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    /// In JavaScript, on the codec of this name.
    JavaScript(&'static str),
    Python,
}

/// How a case went that a script played.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) name: String,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
}

impl Client {
    pub(crate) fn name(self) -> String {
        match self {
            Self::JavaScript(codec) => format!("JavaScript, {codec}"),
            Self::Python => "Python, pypomelo".to_owned(),
        }
    }

    /// The names of the cases it knows, or nothing on a machine where it cannot run.
    pub(crate) fn cases(self) -> Option<Vec<String>> {
        let listed = self.script()?.output().unwrap();
        assert!(listed.status.success(), "{self:?}: {}", String::from_utf8_lossy(&listed.stderr));
        Some(String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect())
    }

    /// Plays these cases side by side.
    pub(crate) fn play<C: AsRef<OsStr>>(
        self, transport: Transport, address: SocketAddr, cases: &[C],
    ) -> Vec<Verdict> {
        let mut play = self.script().expect("whoever plays a case knows its name");
        if let Self::JavaScript(codec) = self {
            play.arg(codec);
        }
        play.arg(format!("{}://{address}", transport.name()));
        let played = play.arg(self.name()).args(cases).output().unwrap();
        let errors = String::from_utf8_lossy(&played.stderr);
        assert!(errors.is_empty(), "{self:?} complains: {errors}");
        String::from_utf8(played.stdout).unwrap().lines().map(Verdict::parse).collect()
    }

    fn script(self) -> Option<Command> {
        match self {
            Self::JavaScript(_) => packages::node("play.js"),
            Self::Python => packages::python("play.py"),
        }
    }
}

impl Verdict {
    fn parse(line: &str) -> Self {
        if let Some(name) = line.strip_prefix("PASS ") {
            return Self { name: name.to_owned(), failure: None };
        }
        let failed = line.strip_prefix("FAIL ").and_then(|said| said.split_once(": "));
        let (name, why) = failed.unwrap_or_else(|| panic!("what is `{line}`?"));
        Self { name: name.to_owned(), failure: Some(why.to_owned()) }
    }
}
