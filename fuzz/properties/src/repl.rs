//! What is typed to `pitaya repl`: every line is a command or says why it is none, and a script is
//! its lines.

#![allow(dead_code, reason = "the command uses what is not asked for here")]

use command::{Command, Handshake};
use serde_json::json;

use crate::held_at_most;

#[path = "../../../runtime-tokio/cli/repl/command.rs"]
mod command;
#[path = "../../../runtime-tokio/cli/repl/script.rs"]
mod script;

/// The input is a line, or what somebody took for one.
pub fn repl_command(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (parsed, held) = held_at_most(|| command::parse(&text));
    assert!(held as usize <= HELD_PER_BYTE_MAX * text.len() + HELD_MAX, "{held} bytes");
    assert_eq!(command::parse(&format!(" \t{text}\u{a0}\n")), parsed, "blanks around it");
    match parsed {
        Ok(None) => assert!(text.trim_start().starts_with('#') || text.trim().is_empty()),
        Ok(Some(command)) => {
            if let Command::Notify { data, .. } | Command::Request { data, .. } = &command {
                assert_eq!(data, data.trim());
            }
            let again = line(&command);
            assert_eq!(command::parse(&again), Ok(Some(command)), "{again}");
        }
        Err(error) => assert!(!error.0.is_empty() && !error.0.contains(char::is_control)),
    }
}

/// The input is a script.
pub fn repl_script(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let parsed = script::parse(&text);
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, command::parse(line)));
    let wrong = lines.clone().find_map(|(at, parsed)| Some((at, parsed.err()?)));
    match (parsed, wrong) {
        (Err(error), wrong) => assert_eq!(Some((error.line, error.error)), wrong),
        (Ok(_), Some((at, error))) => panic!("line {at} is taken: {error:?}"),
        (Ok(steps), None) => {
            let steps = steps.into_iter().map(|step| (step.line, step.command));
            let commands = lines.filter_map(|(at, parsed)| Some((at, parsed.ok()??)));
            assert!(steps.eq(commands));
        }
    }
    let other = text.replace("\r\n", "\n").replace('\n', "\r\n");
    assert_eq!(script::parse(&other), script::parse(&text), "with the other ends of lines");
}

/// A line that means this.
fn line(command: &Command) -> String {
    match command {
        Command::Clear => "clear".to_owned(),
        Command::Connect(None) => "connect".to_owned(),
        Command::Connect(Some(url)) => format!("connect {url}"),
        Command::Disconnect => "disconnect".to_owned(),
        Command::Exit => "exit".to_owned(),
        Command::Help => "help".to_owned(),
        Command::Notify { route, data } => format!("notify {route} {data}"),
        Command::Push { route, kind } => format!("push {route} {kind}"),
        Command::Request { route, data } => format!("request {route} {data}"),
        Command::Routes => "routes".to_owned(),
        Command::SetHandshake(handshake) => format!("sethandshake {}", told(handshake)),
    }
}

fn told(handshake: &Handshake) -> serde_json::Value {
    let Handshake { platform, library, build_number, version, user } = handshake;
    let sys = json!({
        "platform": platform, "libVersion": library, "clientBuildNumber": build_number,
        "clientVersion": version,
    });
    json!({ "sys": sys, "user": user })
}

/// A map of JSON takes its time to grow, and its values are larger than their text.
const HELD_PER_BYTE_MAX: usize = 300;
const HELD_MAX: usize = 4 << 10;
