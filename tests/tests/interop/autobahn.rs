//! Autobahn's cases against the driver's own layer for WebSocket, on both of its ends, and over its
//! own layer for TLS.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::thread;

use crate::app::Echo;
use crate::cases::Transport;
use crate::certificate;
use crate::echo::{EchoServer, visit};
use crate::packages;
use crate::table;
use crate::turn;

#[test]
fn no_case_of_autobahn_fails_for_a_server_over_ws() {
    no_case_fails(Transport::Ws, End::Server);
}

#[test]
fn no_case_of_autobahn_fails_for_a_server_over_wss() {
    no_case_fails(Transport::Wss, End::Server);
}

#[test]
fn no_case_of_autobahn_fails_for_a_client_over_ws() {
    no_case_fails(Transport::Ws, End::Client);
}

#[test]
fn one_wrong_bit_turns_autobahn_red() {
    for (transport, end) in
        [(Transport::Ws, End::Server), (Transport::Wss, End::Server), (Transport::Ws, End::Client)]
    {
        let Some(verdicts) = play("1.2.*", transport, end, Echo::OneBitOff) else { return };
        let failed = verdicts.iter().filter(|verdict| verdict.said == "FAILED").count();
        // The first of the eight sends nothing, so there is no bit to be wrong.
        assert_eq!((verdicts.len(), failed), (8, 7), "{verdicts:#?}");
    }
}

fn no_case_fails(transport: Transport, end: End) {
    let Some(verdicts) = play("*", transport, end, Echo::Faithful) else { return };
    let mut counts = BTreeMap::new();
    verdicts.iter().for_each(|verdict| *counts.entry(&*verdict.said).or_insert(0) += 1);
    println!("Autobahn against a {end:?} over {}: {counts:?}", transport.name());
    let (passed, failed): (Vec<_>, Vec<_>) = verdicts.iter().partition(|verdict| verdict.passed());
    let peer = format!("Autobahn, kosoku, to a {end:?}");
    // A layer is a value, so a thread that feeds it with bytes is all that it needs.
    table::add(&peer, transport.name(), "no runtime", passed.len(), failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(passed.len(), CASES);
    let loose = verdicts.iter().filter(|verdict| verdict.said == "NON-STRICT");
    assert_eq!(loose.map(|verdict| &*verdict.case).collect::<Vec<_>>(), NON_STRICT);
}

/// Which end of a WebSocket is tried.
#[derive(Clone, Copy, Debug)]
enum End {
    Client,
    Server,
}

/// How a case went.
#[derive(Debug)]
struct Verdict {
    case: String,
    /// About what was said, and about how it was closed.
    said: String,
    closed: String,
}

impl Verdict {
    fn parse(line: &str) -> Self {
        // The verdict about closing may have several words.
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_else(|| panic!("what is `{line}`?"));
        Self { case: word(), said: word(), closed: word() }
    }

    fn passed(&self) -> bool {
        ["OK", "NON-STRICT", "INFORMATIONAL"].contains(&&*self.said)
            && ["OK", "INFORMATIONAL"].contains(&&*self.closed)
    }
}

fn play(cases: &str, transport: Transport, end: End, faith: Echo) -> Option<Vec<Verdict>> {
    packages::python("autobahn.py").filter(|_| table::is_all_wanted("Autobahn"))?;
    let _turn = turn();
    let said = match end {
        End::Client => against_a_client(cases, faith),
        End::Server => against_a_server(cases, transport, faith),
    };
    Some(said.lines().map(Verdict::parse).collect())
}

fn against_a_server(cases: &str, transport: Transport, faith: Echo) -> String {
    let echo = EchoServer::start(transport, faith);
    let mut script = packages::python("autobahn.py").expect("it was just there");
    script.arg(cases).arg(echo.address().to_string());
    if transport == Transport::Wss {
        script.arg(&certificate::shown().file);
    }
    let played = script.output().unwrap();
    let said = String::from_utf8_lossy(&played.stderr);
    assert!(played.status.success(), "{}: {said}", played.status);
    String::from_utf8(played.stdout).unwrap()
}

/// The client asks how many cases there are, visits each, and then asks for the verdicts.
fn against_a_client(cases: &str, faith: Echo) -> String {
    let mut script = packages::python("autobahn.py").expect("it was just there");
    let mut serving = Serving(script.arg(cases).stdout(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(serving.0.stdout.take().expect("asked for"));
    let mut address = String::new();
    said.read_line(&mut address).unwrap();
    let address = address.trim().parse().unwrap();
    let count = visit(address, "/getCaseCount", None).unwrap();
    let count: usize = count.to_text().unwrap().parse().unwrap();
    thread::scope(|scope| {
        for first in 1..=AT_ONCE_MAX {
            scope.spawn(move || {
                for case in (first..=count).step_by(AT_ONCE_MAX) {
                    // How it ends is what the peer judges.
                    drop(visit(address, &format!("/runCase?case={case}&agent=us"), Some(faith)));
                }
            });
        }
    });
    visit(address, "/updateReports?agent=us", None).unwrap();
    let mut verdicts = String::new();
    said.read_to_string(&mut verdicts).unwrap();
    assert!(serving.0.wait().unwrap().success());
    verdicts
}

/// A process that does not outlive its test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // As a rule it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const AT_ONCE_MAX: usize = 4;
/// All that are not about an extension.
const CASES: usize = 301;
/// `tests/interop/README.md` says why.
const NON_STRICT: [&str; 2] = ["6.4.3", "6.4.4"];
