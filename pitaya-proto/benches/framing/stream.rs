//! What both benchmarks of framing read: 64 KiB of requests of one length.

use std::hint::black_box;

use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, HEADER_BYTES};

/// As many whole packets of `packet_bytes` as a read buffer holds.
pub(crate) fn stream(packet_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    encode(packet_bytes, &body(packet_bytes), &mut out);
    assert_eq!(out.len(), packets(packet_bytes) * packet_bytes);
    out
}

/// How many packets [`stream`] makes.
pub(crate) fn packets(packet_bytes: usize) -> usize {
    STREAM_BYTES / packet_bytes
}

/// The least that any decoder does: find every body.
#[inline(never)]
pub(crate) fn walk(mut input: &[u8]) -> usize {
    let mut bytes = 0;
    while let Some((header, rest)) = input.split_first_chunk() {
        let body_bytes = u32::from_be_bytes(*header) as usize & packet::BODY_BYTES_MAX;
        let Some((body, rest)) = rest.split_at_checked(body_bytes) else { break };
        bytes += black_box(body).len();
        input = rest;
    }
    bytes
}

/// Every packet and the message in it.
#[inline(never)]
pub(crate) fn decode(mut input: &[u8]) -> usize {
    let mut bytes = 0;
    while let Ok(Some(packet)) = packet::decode(&mut input, 64 * 1024) {
        let Ok(Message::Request { id, route: Route::Name(name), body: Body::Plain(body) }) =
            Message::decode(packet.body)
        else {
            break;
        };
        black_box((id, name));
        bytes += black_box(body).len();
    }
    bytes
}

/// The stream once more, into memory that is there.
#[inline(never)]
pub(crate) fn encode(packet_bytes: usize, body: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for id in ids(packet_bytes) {
        let encoded = request(id, body).encode_packet(out);
        debug_assert!(encoded.is_ok(), "a short body fits");
    }
}

/// The body that fills a packet of `packet_bytes`.
pub(crate) fn body(packet_bytes: usize) -> Vec<u8> {
    vec![b'x'; packet_bytes - HEAD_BYTES]
}

fn request(id: u64, body: &[u8]) -> Message<'_> {
    Message::Request { id, route: Route::Name(ROUTE), body: Body::Plain(body) }
}

/// Ids of two bytes each, as of a client that has been there for a while.
fn ids(packet_bytes: usize) -> impl Iterator<Item = u64> {
    (0..packets(packet_bytes) as u64).map(|index| 128 + index)
}

const STREAM_BYTES: usize = 64 * 1024;
const ROUTE: &[u8] = b"room.chat.send";
const HEAD_BYTES: usize = HEADER_BYTES + 1 + 2 + 1 + ROUTE.len();
