//! Framing by the clock: `cargo bench -p pitaya-proto --bench framing`.
//!
//! Times are per 64 KiB of packets, so items per second count packets.

#[path = "framing/stream.rs"]
mod stream;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

#[divan::bench(args = PACKET_BYTES)]
fn walk(bencher: Bencher<'_, '_>, packet_bytes: usize) {
    let input = stream::stream(packet_bytes);
    counted(bencher, packet_bytes).bench(|| stream::walk(divan::black_box(&input)));
}

#[divan::bench(args = PACKET_BYTES)]
fn decode(bencher: Bencher<'_, '_>, packet_bytes: usize) {
    let input = stream::stream(packet_bytes);
    counted(bencher, packet_bytes).bench(|| stream::decode(divan::black_box(&input)));
}

#[divan::bench(args = PACKET_BYTES)]
fn encode(bencher: Bencher<'_, '_>, packet_bytes: usize) {
    let (body, mut out) = (stream::body(packet_bytes), Vec::new());
    counted(bencher, packet_bytes)
        .bench_local(|| stream::encode(packet_bytes, divan::black_box(&body), &mut out));
}

fn counted<'a, 'b>(bencher: Bencher<'a, 'b>, packet_bytes: usize) -> Bencher<'a, 'b> {
    let packets = stream::packets(packet_bytes);
    bencher.counter(ItemsCount::new(packets)).counter(BytesCount::new(packets * packet_bytes))
}

const PACKET_BYTES: [usize; 3] = [32, 64, 100];
