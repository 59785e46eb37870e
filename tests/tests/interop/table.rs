//! The table of peers: what each run adds to it, and what is said where a peer is missing.

use std::io::{self, Write as _};

/// Adds a row. They have a mark of their own, by which a script finds them among all else.
pub(crate) fn add(peer: &str, transport: &str, runtime: &str, passed: usize, failed: usize) {
    println!("PEER  {peer:35}  {transport:4}  {runtime:18}  {passed:4} passed  {failed:3} failed");
}

/// Says that a peer is not met on this machine; with `CI=true` that is an error.
pub(crate) fn skip(peer: &str, why: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{peer} was not met: {why}");
    say(&format!("{peer} was not met: {why}"));
}

/// Whether what takes minutes is wanted too; says so if not.
pub(crate) fn is_all_wanted(what: &str) -> bool {
    let wanted = std::env::var("PITAYA_PEERS").as_deref() == Ok("all");
    if !wanted {
        say(&format!("{what}: without PITAYA_PEERS=all it is not played, for it takes minutes"));
    }
    wanted
}

/// Not by `eprintln`, which the test harness hides.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {what}"); // nobody may be listening
}
