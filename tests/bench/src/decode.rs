//! The time to decode a packet and its message, against a walk over the headers alone.

use std::hint::black_box;
use std::time::Instant;

use pitaya_proto::limits::PACKET_BODY_BYTES_MAX;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet;

use crate::frames;
use crate::spread::Spread;

/// Nanoseconds per packet, and ours over the walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoding {
    pub(crate) walk_ns: f64,
    pub(crate) ours_ns: f64,
    pub(crate) ratio: Spread,
}

/// Measures both in turns, `rounds` times.
pub(crate) fn measure(rounds: usize) -> Decoding {
    let (bytes, packets) = stream();
    let per_packet = |pass: fn(&[u8]) -> usize| best_decile_ns(pass, &bytes) / packets as f64;
    let samples: Vec<(f64, f64)> =
        (0..rounds).map(|_| (per_packet(walk), per_packet(decode))).collect();
    Decoding {
        walk_ns: Spread::of(samples.iter().map(|(walk, _)| *walk).collect()).median,
        ours_ns: Spread::of(samples.iter().map(|(_, ours)| *ours).collect()).median,
        ratio: Spread::of(samples.iter().map(|(walk, ours)| ours / walk).collect()),
    }
}

/// Best decile, since what other processes take from a pass is not the decoder's.
fn best_decile_ns(pass: fn(&[u8]) -> usize, bytes: &[u8]) -> f64 {
    let mut passes: Vec<f64> = (0..PASSES)
        .map(|_| {
            let start = Instant::now();
            black_box(pass(black_box(bytes)));
            start.elapsed().as_nanos() as f64
        })
        .collect();
    passes.sort_by(f64::total_cmp);
    passes[PASSES / 10]
}

/// Finds the bodies of packets, looking at nothing but lengths.
#[inline(never)]
fn walk(bytes: &[u8]) -> usize {
    let (mut rest, mut packets) = (bytes, 0);
    while let [kind, high, middle, low, after @ ..] = rest {
        let body_bytes = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let Some((body, next)) = after.split_at_checked(body_bytes) else { break };
        black_box((*kind, body));
        rest = next;
        packets += 1;
    }
    packets
}

#[inline(never)]
fn decode(bytes: &[u8]) -> usize {
    let (mut rest, mut packets) = (bytes, 0);
    while let Ok(Some(packet)) = packet::decode(&mut rest, PACKET_BODY_BYTES_MAX) {
        if let Ok(Message::Request { id, route: Route::Name(name), body: Body::Plain(body) }) =
            Message::decode(packet.body)
        {
            black_box((packet.kind, id, name, body));
            packets += 1;
        }
    }
    packets
}

/// One packet with a message of 100 bytes, as often as it fits, and how often that is.
fn stream() -> (Vec<u8>, usize) {
    let route = Route::Name(frames::ECHO.as_bytes());
    let request = Message::Request { id: 1 << 14, route, body: Body::Plain(&[b'x'; BODY_BYTES]) };
    let mut packet = Vec::new();
    request.encode_packet(&mut packet).expect("it is far below every limit");
    let packets = STREAM_BYTES / packet.len();
    (packet.repeat(packets), packets)
}

const PASSES: usize = 400;
const STREAM_BYTES: usize = 64 * 1024;
/// What makes the message 100 bytes long.
const BODY_BYTES: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_passes_see_every_packet_of_100_bytes_and_a_header() {
        let (bytes, packets) = stream();
        assert_eq!(bytes.len(), packets * 104);
        assert_eq!(walk(&bytes), packets);
        assert_eq!(decode(&bytes), packets);
    }
}
