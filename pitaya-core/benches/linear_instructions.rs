//! What hostile bytes cost, in instructions:
//! `cargo bench -p pitaya-core --bench linear_instructions`.
//!
//! Whatever reads what strangers send may take so many instructions for each byte, and no more for
//! each of four times as many bytes, up to the largest that are taken: time is linear in the input.
//! Inputs are what would be slow if anything were. Needs valgrind and a `gungraun-runner` of the
//! version of the library. Going over a limit fails the run.

#![allow(
    missing_docs,
    unused_qualifications,
    reason = "gungraun's macros make undocumented modules of the benchmarks"
)]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Buf;
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use pitaya_core::{
    ClientConfig, ClientConn, Codec, ConnConfig, Dictionary, Instant, Json, Limits, Machine, Next,
    Player, RouteTable,
};
use pitaya_proto::handshake::{HandshakeLimits, HandshakeRequest};
use pitaya_proto::limits::{HANDSHAKE_BYTES_MAX, INFLATED_BYTES_MAX, PACKET_BODY_BYTES_MAX};
use pitaya_proto::link::{self, Frame, Hello, Push};
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, PacketKind};
use pitaya_proto::route::RouteName;
use pitaya_proto::zlib::Scratch;

#[library_benchmark]
#[benches::short(
    args = ["digits", "escapes", "keys", "lists", "names", "spaces"],
    setup = short_json, config = at_most(HANDSHAKE_BYTES_MAX / 4, JSON_MAX)
)]
#[benches::long(
    args = ["digits", "escapes", "keys", "lists", "names", "spaces"],
    setup = long_json, config = at_most(HANDSHAKE_BYTES_MAX, JSON_MAX)
)]
fn handshake(json: Vec<u8>) {
    let limits = HandshakeLimits { bytes_max: usize::MAX, depth_max: 64, keys_max: usize::MAX };
    HandshakeRequest::parse(black_box(&json), &limits).expect("it is JSON");
}

#[library_benchmark]
#[benches::short(
    args = ["bomb", "stored", "tables"],
    setup = short_zlib, config = at_most(INFLATED_BYTES_MAX / 4, ZLIB_MAX)
)]
#[benches::long(
    args = ["bomb", "stored", "tables"],
    setup = long_zlib, config = at_most(INFLATED_BYTES_MAX, ZLIB_MAX)
)]
fn inflate((mut scratch, zlib): (Scratch, Vec<u8>)) {
    black_box(scratch.inflate(black_box(&zlib), INFLATED_BYTES_MAX).map_or(0, <[u8]>::len));
}

#[library_benchmark]
#[benches::short(
    args = ["dots", "letters", "spaces"],
    setup = short_route, config = at_most(60, ROUTE_MAX)
)]
#[benches::long(
    args = ["dots", "letters", "spaces"],
    setup = long_route, config = at_most(240, ROUTE_MAX)
)]
fn route(name: Vec<u8>) {
    black_box(RouteName::parse(black_box(&name)).is_ok());
}

#[library_benchmark]
#[benches::short(
    args = ["heartbeats", "metadata", "uids"],
    setup = short_frames, config = at_most(PACKET_BODY_BYTES_MAX / 4, FRAME_MAX)
)]
#[benches::long(
    args = ["heartbeats", "metadata", "uids"],
    setup = long_frames, config = at_most(PACKET_BODY_BYTES_MAX, FRAME_MAX)
)]
fn frames(bytes: Vec<u8>) {
    let mut input = black_box(&bytes[..]);
    while link::decode(&mut input, usize::MAX).expect("they are frames").is_some() {}
    assert!(input.is_empty());
}

#[library_benchmark]
#[benches::short(
    args = ["heartbeats", "ids", "notifies", "torn"],
    setup = short_player, config = at_most(PACKET_BODY_BYTES_MAX / 4, CONN_MAX)
)]
#[benches::long(
    args = ["heartbeats", "ids", "notifies", "torn"],
    setup = long_player, config = at_most(PACKET_BODY_BYTES_MAX, CONN_MAX)
)]
fn player(talk: Talk<Player>) -> Talk<Player> {
    talk.listen()
}

#[library_benchmark]
#[benches::short(
    args = ["heartbeats", "pushes", "torn"],
    setup = short_client, config = at_most(PACKET_BODY_BYTES_MAX / 4, CONN_MAX)
)]
#[benches::long(
    args = ["heartbeats", "pushes", "torn"],
    setup = long_client, config = at_most(PACKET_BODY_BYTES_MAX, CONN_MAX)
)]
fn client(talk: Talk<ClientConn<()>>) -> Talk<ClientConn<()>> {
    talk.listen()
}

library_benchmark_group!(
    name = linear,
    benchmarks = [handshake, inflate, route, frames, player, client]
);
main!(library_benchmark_groups = linear);

/// A machine that works, and what is said to it.
struct Talk<M> {
    machine: M,
    bytes: Vec<u8>,
    /// How much of it comes at a time.
    step: usize,
    scratch: Scratch,
}

impl<M: Machine> Talk<M> {
    fn new(machine: M, hello: &[u8], (bytes, step): (Vec<u8>, usize)) -> Self {
        let (hello, whole) = (hello.to_vec(), usize::MAX);
        let talk = Self { machine, bytes: hello, step: whole, scratch: Scratch::new() };
        Self { bytes, step, ..talk.listen() }
    }

    /// Everything comes, and what is left is offered again with more.
    fn listen(mut self) -> Self {
        let (mut taken, mut came) = (0, 0);
        while came < self.bytes.len() {
            came = self.bytes.len().min(came.saturating_add(self.step));
            let mut input = black_box(&self.bytes[taken..came]);
            loop {
                match self.machine.next(Instant::ZERO, &mut input, &mut self.scratch) {
                    Next::Event(event) => _ = black_box(event),
                    Next::NeedBytes => break,
                    Next::Paused => write(&mut self.machine),
                }
            }
            taken = came - input.len();
        }
        write(&mut self.machine);
        assert!(taken + PACKET_BODY_BYTES_MAX > came && !self.machine.is_finished());
        self
    }
}

/// The peer reads, which is all that a pause waits for.
fn write(machine: &mut impl Machine) {
    let written = machine.outbox().remaining();
    machine.outbox().advance(written);
    machine.handle_written(Instant::ZERO, written);
}

fn short_json(shape: &str) -> Vec<u8> {
    json(shape, HANDSHAKE_BYTES_MAX / 4)
}

fn long_json(shape: &str) -> Vec<u8> {
    json(shape, HANDSHAKE_BYTES_MAX)
}

fn json(shape: &str, bytes: usize) -> Vec<u8> {
    let keys = |digits: usize| {
        let keys: Vec<_> =
            (0..bytes / (digits + 5)).map(|key| format!("\"{key:0digits$}\":0")).collect();
        keys.join(",")
    };
    let json = match shape {
        "digits" => format!(r#"{{"user":{{"a":0.{}}}}}"#, "7".repeat(bytes)),
        "escapes" => format!(r#"{{"user":{{"a":"{}"}}}}"#, r"\u00e9".repeat(bytes / 6)),
        "keys" => format!(r#"{{"user":{{{}}}}}"#, keys(4)),
        "lists" => format!(r#"{{"user":{{"a":[{}[]]}}}}"#, "[],".repeat(bytes / 3)),
        "names" => format!("{{{}}}", keys(4)),
        _ => format!(r#"{{"user":{{"a":{}0}}}}"#, " ".repeat(bytes)),
    };
    json.into_bytes()
}

fn short_zlib(shape: &str) -> (Scratch, Vec<u8>) {
    zlib(shape, INFLATED_BYTES_MAX / 4)
}

fn long_zlib(shape: &str) -> (Scratch, Vec<u8>) {
    zlib(shape, INFLATED_BYTES_MAX)
}

/// What inflates to so many bytes, or takes as many to inflate to nothing.
fn zlib(shape: &str, bytes: usize) -> (Scratch, Vec<u8>) {
    let mut scratch = Scratch::new();
    let zlib = match shape {
        "bomb" => scratch.deflate(&vec![0; bytes]).expect("it gets shorter").to_vec(),
        "stored" => [&ZLIB_HEADER[..], &[0, 0, 0, 0xff, 0xff].repeat(bytes / 5)].concat(),
        _ => [&ZLIB_HEADER[..], &tables(bytes)].concat(),
    };
    // Memory that was used before.
    black_box(scratch.inflate(&zlib, INFLATED_BYTES_MAX).is_ok());
    (scratch, zlib)
}

/// Blocks that hold nothing but the tables of their codes, each in as few bits as can be.
fn tables(bytes: usize) -> Vec<u8> {
    // Not the last block, of its own codes, 257 and 1 of them, whose lengths have 18 lengths.
    let mut block = vec![(0, 1), (2, 2), (0, 5), (0, 5), (14, 4)];
    // In the order of deflate: that of 18, a run of zeros, is 1, and so is that of 1.
    block.extend((0..18).map(|at| (u32::from(at == 2 || at == 17), 3)));
    // 138 and 118 zeros, then a code for the end and one for a distance; and the end.
    block.extend([(1, 1), (127, 7), (1, 1), (107, 7), (0, 1), (0, 1), (0, 1)]);
    let bits = block.iter().flat_map(|(value, bits)| (0..*bits).map(move |bit| value >> bit & 1));
    let bits: Vec<_> = bits.collect();
    let all: Vec<_> = bits.iter().cycle().take(bytes * 8).collect();
    let byte = |bits: &[&u32]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | **bit as u8);
    all.chunks(8).map(byte).collect()
}

fn short_route(shape: &str) -> Vec<u8> {
    long_route(shape)[..60].to_vec()
}

fn long_route(shape: &str) -> Vec<u8> {
    let part = match shape {
        "dots" => "a.",
        "letters" => "\u{e9}",
        _ => "\u{2003}a",
    };
    part.repeat(240 / part.len()).into_bytes()
}

fn short_frames(shape: &str) -> Vec<u8> {
    frames_of(shape, PACKET_BODY_BYTES_MAX / 4)
}

fn long_frames(shape: &str) -> Vec<u8> {
    frames_of(shape, PACKET_BODY_BYTES_MAX)
}

fn frames_of(shape: &str, bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let frame = match shape {
        "heartbeats" => Frame::Heartbeat,
        "metadata" => {
            let keys = (0..bytes / 9).rev().map(|key| (format!("{key:05}"), String::new()));
            Frame::Hello(Hello { metadata: keys.collect(), ..Hello::default() })
        }
        _ => Frame::Push(Push { uids: vec![String::new(); bytes / 2], ..Push::default() }),
    };
    link::encode(&frame, &mut out).expect("it is not too long");
    if shape == "heartbeats" { out.repeat(bytes / out.len()) } else { out }
}

fn short_player(shape: &str) -> Talk<Player> {
    player_of(shape, PACKET_BODY_BYTES_MAX / 4)
}

fn long_player(shape: &str) -> Talk<Player> {
    player_of(shape, PACKET_BODY_BYTES_MAX)
}

fn player_of(shape: &str, bytes: usize) -> Talk<Player> {
    let config = ConnConfig::new(Json::NAME, Dictionary::default(), Limits::default());
    let routes = RouteTable::new("gate", Vec::new(), Json::encode_error);
    let (config, routes) = (config.expect("no codes"), routes.expect("no routes"));
    let player = Player::new(Arc::new(config), Arc::new(routes), Instant::ZERO);
    let hello =
        [packet(PacketKind::Handshake, br#"{"sys":{}}"#), packet(PacketKind::HandshakeAck, b"")];
    Talk::new(player, &hello.concat(), said(shape, bytes))
}

fn short_client(shape: &str) -> Talk<ClientConn<()>> {
    client_of(shape, PACKET_BODY_BYTES_MAX / 4)
}

fn long_client(shape: &str) -> Talk<ClientConn<()>> {
    client_of(shape, PACKET_BODY_BYTES_MAX)
}

fn client_of(shape: &str, bytes: usize) -> Talk<ClientConn<()>> {
    let client = ClientConn::new(Arc::new(ClientConfig::default()), Instant::ZERO);
    let hello = br#"{"code":200,"sys":{"heartbeat":30,"serializer":"json"}}"#;
    Talk::new(client, &packet(PacketKind::Handshake, hello), said(shape, bytes))
}

/// So many bytes of packets, and how many of them come at a time.
fn said(shape: &str, bytes: usize) -> (Vec<u8>, usize) {
    let name = Route::Name(b"");
    let message = match shape {
        "torn" => {
            return (packet(PacketKind::Data, &vec![0x80; bytes - 4])[..bytes - 1].to_vec(), 1);
        }
        "heartbeats" => return (packet(PacketKind::Heartbeat, b"").repeat(bytes / 4), usize::MAX),
        "ids" => Message::Request { id: u64::MAX, route: name, body: Body::Plain(b"") },
        "notifies" => Message::Notify { route: name, body: Body::Plain(b"") },
        _ => Message::Push { route: name, body: Body::Plain(b"") },
    };
    let mut out = Vec::new();
    message.encode_packet(&mut out).expect("it is short");
    (out.repeat(bytes / out.len()), usize::MAX)
}

fn packet(kind: PacketKind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    packet::encode(kind, body, &mut out).expect("it is short");
    out
}

fn at_most(bytes: usize, per_byte: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, bytes as u64 * per_byte)]));
    config
}

const ZLIB_HEADER: [u8; 2] = [0x78, 1];
/// Instructions for each byte.
const JSON_MAX: u64 = 330;
const ZLIB_MAX: u64 = 530;
const ROUTE_MAX: u64 = 100;
const FRAME_MAX: u64 = 285;
const CONN_MAX: u64 = 335;
