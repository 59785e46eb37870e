//! The cases that Pitaya's own client plays: reading their file, playing them, telling how it went.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::certificate;

/// How a server is set up.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Settings {
    pub(crate) transport: Transport,
    pub(crate) serializer: Serializer,
    pub(crate) compression: bool,
    pub(crate) dictionary: bool,
}

impl Settings {
    pub(crate) const fn plain(transport: Transport) -> Self {
        Self { transport, serializer: Serializer::Json, compression: true, dictionary: false }
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Serializer {
    Json,
    Protobuf,
}

impl Serializer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Protobuf => "protobuf",
        }
    }
}

/// What lies between the sockets and the packets.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Transport {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

/// One line of `cases.txt`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) settings: Settings,
}

impl Case {
    fn parse(line: &'static str, transport: Transport) -> Option<Self> {
        let mut words = line.split('#').next()?.split_whitespace();
        let name = words.next()?;
        let mut settings = Settings::plain(transport);
        for word in words {
            match word {
                "serializer=json" => settings.serializer = Serializer::Json,
                "serializer=protobuf" => settings.serializer = Serializer::Protobuf,
                "compression=on" => settings.compression = true,
                "compression=off" => settings.compression = false,
                "dictionary=on" => settings.dictionary = true,
                "dictionary=off" => settings.dictionary = false,
                // How Go's own server does is of no account here: ours passes them all.
                "go=same" | "go=differs" => {}
                unknown => panic!("case {name}: what is `{unknown}`?"),
            }
        }
        Some(Self { name, settings })
    }
}

/// How a case ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    /// Nothing if a signal ended the process.
    pub(crate) code: Option<i32>,
    /// What the process said.
    pub(crate) output: String,
    took: Duration,
}

impl Outcome {
    pub(crate) fn passed(&self) -> bool {
        self.code == Some(0)
    }

    pub(crate) fn row(&self) -> String {
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let millis = self.took.as_millis();
        let output = if self.passed() { "" } else { self.output.trim() };
        format!("{:27}  {verdict}  {millis:4} ms  {output}", self.name).trim_end().to_owned()
    }
}

pub(crate) fn all(transport: Transport) -> Vec<Case> {
    let lines = include_str!("../../interop/cases.txt").lines();
    lines.filter_map(|line| Case::parse(line, transport)).collect()
}

/// Plays each case in a process of its own against the server at `address`, a few at a time.
pub(crate) fn play_all(
    program: &Path, cases: &[Case], address: impl Fn(Settings) -> SocketAddr + Sync,
) -> Vec<Outcome> {
    // From the end, where those stand that take long.
    let waiting = Mutex::new(cases.iter().enumerate().rev());
    let outcomes = Mutex::new(Vec::new());
    let take = || waiting.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..PROCESSES_MAX {
            scope.spawn(|| {
                while let Some((at, case)) = take() {
                    let outcome = play(program, case, address(case.settings));
                    outcomes.lock().unwrap().push((at, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Plays one case. The program gives up by itself on one that does not end.
pub(crate) fn play(program: &Path, case: &Case, address: SocketAddr) -> Outcome {
    let began = Instant::now();
    let ended = Command::new(program)
        .args(["client", "--case", case.name, "--addr", &address.to_string()])
        .args(["--serializer", case.settings.serializer.name()])
        .args(["--transport", case.settings.transport.name(), "--ca"])
        .arg(&certificate::shown().file)
        .stdin(Stdio::null())
        .output()
        .expect("the program was just built");
    let output = [&ended.stdout[..], &ended.stderr].concat();
    Outcome {
        name: case.name,
        code: ended.status.code(),
        output: String::from_utf8_lossy(&output).into_owned(),
        took: began.elapsed(),
    }
}

const PROCESSES_MAX: usize = 4;
