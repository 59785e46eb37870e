//! The uid directory in worlds that nobody chose; those that a fuzzer chose are in its corpus.

use pitaya_core::Rng;

#[test]
fn a_user_id_has_one_session_in_worlds_from_any_seed() {
    for seed in 0..WORLDS {
        let mut rng = Rng::new(seed);
        let script: Vec<u8> = (0..SCRIPT_BYTES).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
        let _seed = Seed(seed);
        pitaya_properties::directory(&script);
    }
}

/// Says which world it was, if it was one.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed is {}", self.0);
        }
    }
}

const WORLDS: u64 = 1000;

/// Enough for as many steps as a script may have.
const SCRIPT_BYTES: usize = 1000;
