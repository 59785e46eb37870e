//! The time to decode a packet and its message, against a walk over the headers alone, and against
//! a codec that only cuts the bytes into packets.

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use pitaya_proto::limits::PACKET_BODY_BYTES_MAX;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet;
use tokio_codec::codec::{Decoder, LengthDelimitedCodec};

use crate::frames::{self, HEADER_BYTES};
use crate::spread::Spread;
use crate::table::Figures;

/// Nanoseconds per packet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decoding {
    codec_ns: Vec<f64>,
    ours_ns: Vec<f64>,
    walk_ns: Vec<f64>,
}

impl Decoding {
    /// Measures all three in turns, `rounds` times.
    pub(crate) fn measure(rounds: usize) -> Self {
        let (bytes, packets) = stream();
        let per_packet = |pass_ns: f64| pass_ns / packets as f64;
        let mut decoding = Self::default();
        for _ in 0..rounds {
            let [walk, ours, codec] = best_ns(&bytes).map(per_packet);
            decoding.walk_ns.push(walk);
            decoding.ours_ns.push(ours);
            decoding.codec_ns.push(codec);
        }
        decoding
    }

    /// Ours over the walk over headers.
    pub(crate) fn over_walk(&self) -> Figures {
        figures(&self.walk_ns, &self.ours_ns, |walk, ours| ours / walk)
    }

    /// The codec over ours.
    pub(crate) fn under_codec(&self) -> Figures {
        figures(&self.codec_ns, &self.ours_ns, |codec, ours| codec / ours)
    }
}

fn figures(limit_ns: &[f64], ours_ns: &[f64], ratio: impl Fn(f64, f64) -> f64) -> Figures {
    let median = |values: &[f64]| format!("{:.2} ns", Spread::of(values.to_vec()).median);
    let pairs = limit_ns.iter().zip(ours_ns);
    let ratio = Spread::of(pairs.map(|(limit, ours)| ratio(*limit, *ours)).collect());
    Figures {
        limit: median(limit_ns),
        ours: median(ours_ns),
        shown: ratio.to_string(),
        value: ratio.median,
    }
}

/// What each takes for all the bytes, in turns: the best hundredth of many passes, since what other
/// processes and other machines on the same core take from a pass is not the decoder's.
fn best_ns(bytes: &[u8]) -> [f64; 3] {
    let mut passes = [(); 3].map(|()| Vec::with_capacity(PASSES));
    for _ in 0..PASSES {
        passes[0].push(pass_ns(bytes, walk));
        passes[1].push(pass_ns(bytes, decode));
        passes[2].push(pass_ns(BytesMut::from(bytes), cut));
    }
    passes.map(|mut passes| {
        passes.sort_by(f64::total_cmp);
        passes[PASSES / 100]
    })
}

fn pass_ns<I>(input: I, pass: fn(I) -> usize) -> f64 {
    let input = black_box(input);
    let start = Instant::now();
    black_box(pass(input));
    start.elapsed().as_nanos() as f64
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

/// What a project takes that does not write its framing itself: a buffer of its own per packet.
#[inline(never)]
fn cut(mut bytes: BytesMut) -> usize {
    let mut codec = LengthDelimitedCodec::builder()
        .length_field_offset(1)
        .length_field_length(HEADER_BYTES - 1)
        .num_skip(0)
        .length_adjustment(HEADER_BYTES as isize)
        .new_codec();
    let mut packets = 0;
    while let Ok(Some(packet)) = codec.decode(&mut bytes) {
        black_box((packet[0], &packet[HEADER_BYTES..]));
        packets += 1;
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

const PASSES: usize = 10_000;
const STREAM_BYTES: usize = 64 * 1024;
/// What makes the message 100 bytes long.
const BODY_BYTES: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_sees_every_packet_of_100_bytes_and_a_header() {
        let (bytes, packets) = stream();
        assert_eq!(bytes.len(), packets * 104);
        assert_eq!(walk(&bytes), packets);
        assert_eq!(decode(&bytes), packets);
        assert_eq!(cut(BytesMut::from(&bytes[..])), packets);
    }
}
