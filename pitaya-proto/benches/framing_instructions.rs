//! Framing in instructions: `cargo bench -p pitaya-proto --bench framing_instructions`.
//!
//! Needs valgrind and a `gungraun-runner` of the version of the library; the path of the latter
//! may be given by `GUNGRAUN_RUNNER`. Counts are per 64 KiB of packets and do not depend on the
//! load of the machine, so going over a limit fails the run.

#![allow(
    missing_docs,
    unused_qualifications,
    reason = "gungraun's macros make undocumented modules of the benchmarks"
)]

#[path = "framing/stream.rs"]
mod stream;

use std::hint::black_box;

use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};

#[library_benchmark]
#[benches::packets(args = [32, 64, 100], setup = stream::stream)]
fn walk(input: Vec<u8>) -> usize {
    stream::walk(black_box(&input))
}

#[library_benchmark]
#[bench::packets_32(args = (32), setup = stream::stream, config = at_most(32, DECODE_MAX))]
#[bench::packets_64(args = (64), setup = stream::stream, config = at_most(64, DECODE_MAX))]
#[bench::packets_100(args = (100), setup = stream::stream, config = at_most(100, DECODE_MAX))]
fn decode(input: Vec<u8>) -> usize {
    stream::decode(black_box(&input))
}

#[library_benchmark]
#[bench::packets_32(args = (32), setup = output, config = at_most(32, ENCODE_MAX))]
#[bench::packets_64(args = (64), setup = output, config = at_most(64, ENCODE_MAX))]
#[bench::packets_100(args = (100), setup = output, config = at_most(100, ENCODE_MAX))]
fn encode((packet_bytes, body, mut out): (usize, Vec<u8>, Vec<u8>)) -> Vec<u8> {
    stream::encode(packet_bytes, black_box(&body), &mut out);
    out
}

library_benchmark_group!(name = framing, benchmarks = [walk, decode, encode]);
main!(library_benchmark_groups = framing);

/// Memory that was used before, as an outbox has it.
fn output(packet_bytes: usize) -> (usize, Vec<u8>, Vec<u8>) {
    (packet_bytes, stream::body(packet_bytes), stream::stream(packet_bytes))
}

fn at_most(packet_bytes: usize, per_packet: u64) -> LibraryBenchmarkConfig {
    let total = stream::packets(packet_bytes) as u64 * per_packet;
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, total)]));
    config
}

/// Instructions per packet and message; the design allows 90 and aims at 65.
const DECODE_MAX: u64 = 65;
const ENCODE_MAX: u64 = 150;
