//! Which of several servers a key belongs to, so that all of them agree without asking.

use std::sync::Arc;

use super::{ServerId, ServerInfo};

/// The server that `key` belongs to, by highest random weight; nobody if there are none.
///
/// Every server that knows the same candidates, in any order, names the same one. When one leaves,
/// only its keys move, and evenly to all others; when one joins, it takes its share from each. A
/// server that is restarted has the keys that it had before.
///
/// ```
/// use std::sync::Arc;
///
/// use pitaya_core::cluster::{Incarnation, ServerId, ServerInfo, rendezvous};
///
/// # fn server(id: &str) -> Arc<ServerInfo> {
/// #     Arc::new(ServerInfo {
/// #         addresses: vec![], frontend: true, hostname: "".into(), kind: "gate".into(),
/// #         id: ServerId::new(id).unwrap(), incarnation: Incarnation::new(1),
/// #         metadata: Default::default(),
/// #     })
/// # }
/// let gates = [server("gate-1"), server("gate-2"), server("gate-3")];
/// let home = rendezvous("bob", &gates).expect("there are three");
/// assert_eq!(home.id.as_str(), "gate-3");
/// assert_eq!(rendezvous("bob", &[]), None);
/// ```
pub fn rendezvous<'c>(key: &str, candidates: &'c [Arc<ServerInfo>]) -> Option<&'c Arc<ServerInfo>> {
    // The id decides between equal weights, which otherwise the order of the candidates would.
    candidates.iter().max_by_key(|candidate| (weight(&candidate.id, key), &candidate.id))
}

/// What a server bids for a key. It is part of what servers agree on: it may never change, nor
/// differ between machines.
fn weight(id: &ServerId, key: &str) -> u64 {
    // No id has a `/`, so no two pairs of id and key give the same bytes.
    let bytes = id.as_str().bytes().chain([b'/']).chain(key.bytes());
    mix(fnv_1a(bytes))
}

/// FNV-1a with 64 bits, of Fowler, Noll and Vo; the constants are those of RFC 9923.
fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// The end of MurmurHash3 (`fmix64`, by Austin Appleby, who gave it to the public domain). In FNV
/// the last bytes hardly reach the high bits, which decide who bids most.
const fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::members::tests::server;

    fn gates(numbers: impl IntoIterator<Item = u16>) -> Vec<Arc<ServerInfo>> {
        let gate = |number: u16| Arc::new(server("gate", &format!("gate-{number}"), 1));
        numbers.into_iter().map(gate).collect()
    }

    fn home<'c>(key: &str, candidates: &'c [Arc<ServerInfo>]) -> &'c ServerId {
        &rendezvous(key, candidates).unwrap().id
    }

    #[test]
    fn the_hash_is_that_of_the_authors() {
        // From their own test vectors.
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv_1a(text.bytes()), hash, "{text:?}");
        }
    }

    #[test]
    fn a_weight_is_the_same_on_every_machine_and_in_every_version() {
        for (id, key, expected) in [
            ("a", "", 0x785e_fbd9_95e9_db5e),
            ("gate-1", "ann", 0x583c_9512_ef1f_8634),
            ("gate-2", "ann", 0xe04d_97d1_4a2a_6f40),
            ("gate-1", "ann/1", 0x46b1_e3c8_3487_68ce),
            ("gate-1", "gr\u{fc}\u{df}e", 0x7f75_bbdb_1a62_7bb7),
        ] {
            assert_eq!(weight(&ServerId::new(id).unwrap(), key), expected, "{id} {key}");
        }
        let gates = gates(1..=5);
        let homes = ["ann", "bob", "eve", "", "42"].map(|key| home(key, &gates).as_str());
        assert_eq!(homes, ["gate-2", "gate-3", "gate-5", "gate-1", "gate-3"]);
    }

    #[test]
    fn every_server_has_its_share() {
        let gates = gates(1..=8);
        let homes: Vec<_> = (0..8_000).map(|key| home(&key.to_string(), &gates)).collect();
        for gate in &gates {
            let keys = homes.iter().filter(|home| ***home == gate.id).count();
            // Five standard deviations around a thousand.
            assert!((850..1150).contains(&keys), "{} has {keys}", gate.id);
        }
    }

    #[test]
    fn a_restarted_server_keeps_its_keys() {
        let [first, second] = [1, 2].map(|life| Arc::new(server("gate", "gate-1", life)));
        let others = gates(2..6);
        for key in (0..100).map(|key| key.to_string()) {
            let before = home(&key, &[&[Arc::clone(&first)], &*others].concat()).clone();
            assert_eq!(*home(&key, &[&[Arc::clone(&second)], &*others].concat()), before);
        }
    }

    proptest! {
        #[test]
        fn only_the_keys_of_a_server_that_left_move(
            numbers in prop::collection::btree_set(any::<u16>(), 2..20),
            leaves in any::<prop::sample::Index>(),
            keys in prop::collection::vec(".{0,20}", 1..50),
        ) {
            let mut all = gates(numbers);
            let before: Vec<_> = keys.iter().map(|key| home(key, &all).clone()).collect();
            let left = all.remove(leaves.index(all.len()));
            for (key, before) in keys.iter().zip(before) {
                let after = home(key, &all);
                prop_assert!(*after == before || before == left.id, "{} moved", key);
            }
        }

        #[test]
        fn the_order_of_the_candidates_does_not_matter(
            shuffled in Just((0..20).collect::<Vec<_>>()).prop_shuffle(), key in ".{0,20}",
        ) {
            let (sorted, shuffled) = (gates(0..20), gates(shuffled));
            prop_assert_eq!(home(&key, &sorted), home(&key, &shuffled));
        }
    }
}
