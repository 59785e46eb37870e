//! Real peers: clients and codecs that others wrote against ours, and our client against Pitaya's
//! own server.
//!
//! `tests/interop/README.md` says what both sides offer. Where a peer cannot run, nothing is
//! checked and that is said; with `CI=true` it is an error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use app::Echo;
use cases::{Case, Settings, Transport};
use host::{Host, OnSmol, OnTokio, OnTokioWithThreads, Stage};
use script::{Client, Verdict};

#[path = "interop/app.rs"]
mod app;
#[path = "interop/autobahn.rs"]
mod autobahn;
#[path = "interop/cases.rs"]
mod cases;
#[path = "interop/certificate.rs"]
mod certificate;
#[path = "interop/client.rs"]
mod client;
#[path = "interop/codec.rs"]
mod codec;
#[path = "interop/echo.rs"]
mod echo;
#[path = "interop/go.rs"]
mod go;
#[path = "interop/host.rs"]
mod host;
#[path = "interop/packages.rs"]
mod packages;
#[path = "interop/script.rs"]
mod script;
#[path = "interop/secure.rs"]
mod secure;
#[path = "interop/table.rs"]
mod table;

macro_rules! on {
    ($module:ident, $stage:ty) => {
        mod $module {
            use super::*;

            #[test]
            fn pitayas_own_client_passes_every_case_over_tcp() {
                pitayas_own_client_passes_every_case::<$stage>(Transport::Tcp);
            }

            #[test]
            fn pitayas_own_client_passes_every_case_over_tls() {
                if table::is_all_wanted("Go over tls") {
                    pitayas_own_client_passes_every_case::<$stage>(Transport::Tls);
                }
            }

            #[test]
            fn pitayas_own_client_passes_every_case_over_ws() {
                if table::is_all_wanted("Go over ws") {
                    pitayas_own_client_passes_every_case::<$stage>(Transport::Ws);
                }
            }

            #[test]
            fn pitayas_own_client_passes_every_case_over_wss() {
                if table::is_all_wanted("Go over wss") {
                    pitayas_own_client_passes_every_case::<$stage>(Transport::Wss);
                }
            }

            #[test]
            fn clients_in_javascript_pass_every_case_over_ws() {
                scripts_pass_every_case::<$stage>(&JAVASCRIPT, Transport::Ws);
            }

            #[test]
            fn clients_in_javascript_pass_every_case_over_wss() {
                if table::is_all_wanted("JavaScript over wss") {
                    scripts_pass_every_case::<$stage>(&JAVASCRIPT, Transport::Wss);
                }
            }

            #[test]
            fn a_client_in_python_passes_every_case_over_tcp() {
                scripts_pass_every_case::<$stage>(&[Client::Python], Transport::Tcp);
            }

            #[test]
            fn a_client_in_python_passes_every_case_over_tls_1_2() {
                if table::is_all_wanted("Python over tls") {
                    scripts_pass_every_case::<$stage>(&[Client::Python], Transport::Tls);
                }
            }

            #[test]
            fn one_wrong_bit_turns_pitayas_own_client_red() {
                super::one_wrong_bit_turns_pitayas_own_client_red::<$stage>();
            }
        }
    };
}

on!(on_tokio, OnTokio);
on!(on_tokio_with_threads, OnTokioWithThreads);
on!(on_smol, OnSmol);

#[test]
fn every_case_that_the_go_program_knows_is_played_once() {
    let Some(program) = go::program() else { return };
    let known = Command::new(program).arg("cases").output().unwrap().stdout;
    let mut played: Vec<_> = cases::all(Transport::Tcp).into_iter().map(|case| case.name).collect();
    played.sort_unstable();
    assert_eq!(played, str::from_utf8(&known).unwrap().lines().collect::<Vec<_>>());
}

#[test]
fn one_wrong_bit_turns_a_client_in_javascript_red() {
    for client in JAVASCRIPT {
        one_wrong_bit_turns_a_script_red(client, Transport::Ws, "Unexpected token '#'");
    }
}

#[test]
fn one_wrong_bit_turns_a_client_in_python_red() {
    one_wrong_bit_turns_a_script_red(Client::Python, Transport::Tcp, "Expecting value");
}

fn pitayas_own_client_passes_every_case<S: Stage>(transport: Transport) {
    let Some(program) = go::program() else { return };
    let _turn = turn();
    let cases = cases::all(transport);
    let settings = cases.iter().map(|case| case.settings);
    let host = Host::start::<S>(settings, Echo::Faithful);
    let outcomes = cases::play_all(program, &cases, |settings| host.address(settings));
    let (passed, failed): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.passed());
    let rows: Vec<_> = outcomes.iter().map(cases::Outcome::row).collect();
    println!("Pitaya's client over {} on {}\n{}", transport.name(), S::NAME, rows.join("\n"));
    table::add("Go, pitaya v3.0.0-beta.6", transport.name(), S::NAME, passed.len(), failed.len());
    assert!(failed.is_empty() && passed.len() == cases.len(), "{failed:#?}");
}

fn scripts_pass_every_case<S: Stage>(clients: &[Client], transport: Transport) {
    let plain = Settings::plain(transport);
    let coded = Settings { dictionary: true, ..plain };
    let _turn = turn();
    let host = Host::start::<S>([plain, coded], Echo::Faithful);
    // All at once: they mostly wait.
    thread::scope(|scope| {
        for client in clients {
            scope.spawn(|| {
                let Some(cases) = client.cases() else { return };
                let (codes, rest): (Vec<_>, Vec<_>) =
                    cases.iter().partition(|case| *case == "dictionary");
                let mut verdicts = client.play(transport, host.address(plain), &rest);
                verdicts.extend(client.play(transport, host.address(coded), &codes));
                judge::<S>(*client, transport, cases, &verdicts);
            });
        }
    });
}

fn judge<S: Stage>(
    client: Client, transport: Transport, mut cases: Vec<String>, verdicts: &[Verdict],
) {
    let failed: Vec<_> = verdicts.iter().filter(|verdict| verdict.failure.is_some()).collect();
    let passed = verdicts.len() - failed.len();
    table::add(&client.name(), transport.name(), S::NAME, passed, failed.len());
    assert!(failed.is_empty(), "{client:?}: {failed:#?}");
    let mut played: Vec<_> = verdicts.iter().map(|verdict| &verdict.name).collect();
    played.sort_unstable();
    cases.sort_unstable();
    assert_eq!(played, cases.iter().collect::<Vec<_>>());
}

/// That a case fails says little; it has to fail for what is wrong.
fn one_wrong_bit_turns_pitayas_own_client_red<S: Stage>() {
    let Some(program) = go::program() else { return };
    let outcome = |case: &Case, echo| {
        let host = Host::start::<S>([case.settings], echo);
        cases::play(program, case, host.address(case.settings))
    };
    for transport in [Transport::Tcp, Transport::Wss] {
        for case in cases::all(transport) {
            if ["request-json", "request-protobuf"].contains(&case.name) {
                assert!(outcome(&case, Echo::Faithful).passed());
                let red = outcome(&case, Echo::OneBitOff);
                println!("with one bit off: {}", red.row());
                assert_eq!(red.code, Some(1));
                let complaint = format!("FAIL {}: reply of echo: expected ", case.name);
                assert!(red.output.starts_with(&complaint), "{}", red.output);
            }
        }
    }
}

fn one_wrong_bit_turns_a_script_red(client: Client, transport: Transport, complaint: &str) {
    if client.cases().is_none() {
        return;
    }
    let failure = |echo| {
        let host = Host::start::<OnTokio>([Settings::plain(transport)], echo);
        let address = host.address(Settings::plain(transport));
        let verdicts = client.play(transport, address, &["request"]);
        verdicts.into_iter().map(|verdict| verdict.failure).next().expect("one case, one verdict")
    };
    assert_eq!(failure(Echo::Faithful), None);
    let red = failure(Echo::OneBitOff).expect("one bit is wrong");
    println!("with one bit off: {}: {red}", client.name());
    assert!(red.contains(complaint), "{red}");
}

/// The cases measure time, so those of one server are enough for one machine.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

const JAVASCRIPT: [Client; 3] = [
    Client::JavaScript("pinus"),
    Client::JavaScript("pomelo"),
    Client::JavaScript("pomelo-in-a-page"),
];
