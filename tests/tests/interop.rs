//! Real peers: Pitaya's own client in Go against our server, and our client against its own server.
//!
//! `tests/interop/README.md` says what both sides offer. Where there is no Go, nothing is checked
//! and that is said; with `CI=true` it is an error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use pitaya_driver::Native;
use pitaya_smol::Smol;
use pitaya_tokio::Tokio;
use tokio::runtime::Builder;

use app::Echo;
use cases::Case;
use host::{BlockOn, Host};

#[path = "interop/app.rs"]
mod app;
#[path = "interop/cases.rs"]
mod cases;
#[path = "interop/client.rs"]
mod client;
#[path = "interop/go.rs"]
mod go;
#[path = "interop/host.rs"]
mod host;

#[test]
fn pitayas_own_client_passes_every_case_on_tokio() {
    passes_every_case::<Tokio>("tokio", ON_TOKIO);
}

#[test]
fn pitayas_own_client_passes_every_case_on_tokio_with_several_threads() {
    passes_every_case::<Tokio>("tokio with several threads", |serve| {
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(serve);
    });
}

#[test]
fn pitayas_own_client_passes_every_case_on_smol() {
    passes_every_case::<Smol>("smol", ON_SMOL);
}

#[test]
fn one_wrong_bit_turns_a_case_red_on_tokio() {
    one_wrong_bit_turns_a_case_red::<Tokio>(ON_TOKIO);
}

#[test]
fn one_wrong_bit_turns_a_case_red_on_smol() {
    one_wrong_bit_turns_a_case_red::<Smol>(ON_SMOL);
}

#[test]
fn every_case_that_the_go_program_knows_is_played_once() {
    let Some(program) = go::program() else { return };
    let known = Command::new(program).arg("cases").output().unwrap().stdout;
    let mut played: Vec<_> = cases::all().into_iter().map(|case| case.name).collect();
    played.sort_unstable();
    assert_eq!(played, str::from_utf8(&known).unwrap().lines().collect::<Vec<_>>());
}

fn passes_every_case<R: Native>(runtime: &str, block_on: BlockOn) {
    let Some(program) = go::program() else { return };
    // The cases measure time, so those of one runtime are enough for one machine.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);

    let cases = cases::all();
    let settings = cases.iter().map(|case| case.settings);
    let host = Host::start::<R>(settings, Echo::Faithful, block_on);
    let outcomes = cases::play_all(program, &cases, |settings| host.address(settings));
    let (passed, failed): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.passed());
    let rows: Vec<_> =
        outcomes.iter().map(|outcome| format!("{runtime}  {}", outcome.row())).collect();
    println!("{}\n{runtime}: {} passed, {} failed", rows.join("\n"), passed.len(), failed.len());
    assert!(failed.is_empty() && passed.len() == cases.len(), "{runtime}: {failed:#?}");
}

/// That a case fails says little; it has to fail for what is wrong.
fn one_wrong_bit_turns_a_case_red<R: Native>(block_on: BlockOn) {
    let Some(program) = go::program() else { return };
    let outcome = |case: &Case, echo| {
        let host = Host::start::<R>([case.settings], echo, block_on);
        cases::play(program, case, host.address(case.settings))
    };
    for case in cases::all() {
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

const ON_SMOL: BlockOn = |serve| pitaya_smol::block_on(serve).unwrap();
const ON_TOKIO: BlockOn = |serve| pitaya_tokio::block_on(serve).unwrap();
