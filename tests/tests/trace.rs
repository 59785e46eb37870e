//! One scenario gives one trace: on tokio, on smol, in a plain loop, and in the simulator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use pitaya_driver::Native;
use pitaya_smol::Smol;
use pitaya_tests::sim::{self, Wire, World};
use pitaya_tokio::Tokio;

use in_loop::InLoop;
use on_runtime::OnRuntime;
use scenario::{Element, Stage, play};

#[path = "trace/hall.rs"]
mod hall;
#[path = "trace/in_loop.rs"]
mod in_loop;
#[path = "trace/journal.rs"]
mod journal;
#[path = "trace/on_runtime.rs"]
mod on_runtime;
#[path = "trace/scenario.rs"]
mod scenario;

#[test]
fn on_tokio_the_trace_is_as_expected() {
    assert_eq!(on_sockets::<Tokio>(), EXPECTED);
}

#[test]
fn on_smol_the_trace_is_as_expected() {
    assert_eq!(on_sockets::<Smol>(), EXPECTED);
}

#[test]
fn in_a_plain_loop_the_trace_is_as_expected() {
    let trace = futures_lite::future::block_on(staged(InLoop::new(), None));
    assert_eq!(trace, EXPECTED);
}

#[test]
fn in_the_simulator_the_trace_is_as_expected_whatever_the_seed() {
    for seed in sim::seeds(50) {
        let (trace, digest) = simulated(&World::new(seed), None);
        assert_eq!(trace, EXPECTED);
        assert_eq!(simulated(&World::new(seed), None), (trace, digest));
    }
}

#[test]
fn the_trace_is_as_expected_however_the_network_cuts_what_is_sent() {
    for seed in sim::seeds(20) {
        for bytes in [1, 2, 3, 5, 10] {
            let wire = Wire::default().segment_bytes_max(bytes);
            assert_eq!(simulated(&World::new(seed).wire(wire), None).0, EXPECTED);
        }
    }
}

#[test]
fn whatever_is_left_out_is_missing_from_the_trace() {
    let mut hashes = BTreeSet::from([hash(EXPECTED)]);
    for element in Element::ALL {
        let (trace, _) = simulated(&World::new(1), Some(*element));
        assert!(hashes.insert(hash(&trace)), "without {element:?} the trace is another's");
    }
}

fn on_sockets<R: Native>() -> String {
    let play = async {
        let runtime = R::current().unwrap();
        on_runtime::in_time(&runtime, staged(OnRuntime::new(runtime.clone()).await, None)).await
    };
    R::block_on(play).unwrap()
}

/// The trace of the scenario, and a number for all that the world did meanwhile.
fn simulated(world: &World, without: Option<Element>) -> (String, u64) {
    world.run(|sim| async move {
        let trace = staged(OnRuntime::new(sim.clone()).await, without).await;
        (trace, sim.digest())
    })
}

async fn staged<S: Stage>(mut stage: S, without: Option<Element>) -> String {
    play(&mut stage, without).await;
    stage.stop().await
}

fn hash(trace: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    trace.hash(&mut hasher);
    hasher.finish()
}

/// What happens, read and found right by a person.
const EXPECTED: &str = include_str!("trace/expected.txt");
