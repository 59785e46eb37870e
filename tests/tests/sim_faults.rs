//! Worlds of three gates, three rooms and twenty clients to which everything happens at once,
//! judged by a ledger that knows what really happened; and bugs that it must find.
//!
//! `PITAYA_SEEDS` says how many seeds are tried, and `PITAYA_COMMIT` draws a hundred more.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a rule is about some kinds of things")]

#[path = "sim_faults/app.rs"]
mod app;
#[path = "sim_faults/client.rs"]
mod client;
#[path = "sim_faults/judge.rs"]
mod judge;
#[path = "sim_faults/ledger.rs"]
mod ledger;
#[path = "sim_faults/plan.rs"]
mod plan;
#[path = "sim_faults/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;

use pitaya_core::Rng;
use pitaya_tests::sim;

use world::{Verdict, run};

#[test]
fn nothing_that_is_promised_breaks_whatever_happens_to_servers() {
    let mut sum = Verdict::default();
    let (mut worlds, mut failed) = (0, 0);
    for (seed, verdict) in on_all_cores(&seeds(), run) {
        (worlds, failed) = (worlds + 1, failed + usize::from(!verdict.broken.is_empty()));
        tell(seed, &verdict);
        sum.requests += verdict.requests;
        sum.time += verdict.time;
        for (kind, count) in verdict.faults {
            *sum.faults.entry(kind).or_default() += count;
        }
    }
    let hours = sum.time.as_secs_f64() / 3600.0;
    println!("seeds {worlds}, simulated hours {hours:.1}, requests judged {}", sum.requests);
    println!("faults {:?}, violations {failed}", sum.faults);
    assert_eq!(failed, 0, "see the lines above");
}

#[test]
fn one_seed_gives_one_world() {
    for seed in seeds().into_iter().take(2) {
        assert_eq!(run(seed).digest, run(seed).digest, "PITAYA_SEED={seed:#x}");
    }
}

#[cfg(mutant)]
#[test]
fn every_bug_that_is_planted_is_found_by_a_broken_promise() {
    let found = on_all_cores(&BUGS, |bug| find(bug));
    for (bug, found) in &found {
        match found {
            Some((seeds, rule)) => println!("{bug}: found after {seeds} seeds: {rule}"),
            None => println!("{bug}: not found in {BUG_SEEDS_MAX} seeds"),
        }
    }
    assert!(found.values().all(Option::is_some), "see the lines above");
}

/// After how many seeds a bug is found, and by which promise. That something panics is not enough.
#[cfg(mutant)]
fn find(bug: &'static str) -> Option<(usize, &'static str)> {
    pitaya_core::planted::plant(Some(bug));
    let broken = drawn(0).take(BUG_SEEDS_MAX).zip(1..).find_map(|(seed, at)| {
        let verdict = std::panic::catch_unwind(|| run(seed)).ok()?;
        Some((at, verdict.broken.first()?.0))
    });
    pitaya_core::planted::plant(None);
    broken
}

/// Does something with each of them, on all cores.
fn on_all_cores<K: Copy + Ord + Send + Sync, T: Send>(
    all: &[K], work: impl Fn(K) -> T + Sync,
) -> BTreeMap<K, T> {
    let (next, done) = (Mutex::new(all.iter()), Mutex::new(BTreeMap::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(one) = { next.lock().unwrap().next() } {
                    let did = work(*one);
                    done.lock().unwrap().insert(*one, did);
                }
            });
        }
    });
    done.into_inner().unwrap()
}

fn tell(seed: u64, verdict: &Verdict) {
    let mut told = BTreeMap::new();
    for (rule, how) in &verdict.broken {
        told.entry(rule).or_insert(how);
    }
    for (rule, how) in told {
        println!(
            "PITAYA_SEED={seed:#x} cargo test -p pitaya-tests --test sim_faults: {rule}: {how}"
        );
    }
}

/// Those that once broke something, a number of others, and a hundred of this commit.
fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|it| it.parse().ok());
    if std::env::var_os("PITAYA_SEED").is_some() {
        return sim::seeds(1);
    }
    let count = number("PITAYA_SEEDS").unwrap_or(SEEDS);
    let commit = std::env::var("PITAYA_COMMIT").ok();
    let commit = commit.and_then(|it| u64::from_str_radix(it.get(..16)?, 16).ok());
    let of_commit = commit.into_iter().flat_map(|commit| drawn(commit).take(100));
    BROKEN.into_iter().chain(drawn(0).take(count)).chain(of_commit).collect()
}

fn drawn(from: u64) -> impl Iterator<Item = u64> {
    let mut rng = Rng::new(from);
    std::iter::repeat_with(move || rng.next_u64())
}

/// Seeds that showed a bug of ours once.
const BROKEN: [u64; 1] = [0x6c4_5d18_8009_454f];
const SEEDS: usize = 6;

#[cfg(mutant)]
const BUG_SEEDS_MAX: usize = 200;
#[cfg(mutant)]
const BUGS: [&str; 13] = [
    "a command overtakes",
    "a kick is not the last word",
    "a long frame is overtaken",
    "a new home is told nothing",
    "a reply overtakes what came before it",
    "a server that leaves does not wait",
    "a twin is not closed",
    "an id is used again",
    "calls take no turns",
    "nobody is suspect",
    "the older login frees the id",
    "what was sent is sent again",
    "who waits for a lost link is forgotten",
];
