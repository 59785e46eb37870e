//! What runs against peers add to their table, and what is said where a peer is missing.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::Mutex;

pub(crate) use pitaya_tests::peers::add;

/// Counts a test that passed, and adds the row of its kind once all of them have.
pub(crate) fn add_one_of(
    all: usize, peer: &'static str, transport: &'static str, runtime: &'static str,
) {
    static PASSED: Mutex<BTreeMap<[&str; 3], usize>> = Mutex::new(BTreeMap::new());
    let mut passed = PASSED.lock().unwrap();
    let passed = passed.entry([peer, transport, runtime]).or_insert(0);
    *passed += 1;
    if *passed == all {
        add(peer, transport, runtime, all, 0);
    }
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
