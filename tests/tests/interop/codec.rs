//! Codecs of Pomelo that others wrote, asked about our bytes and we about theirs.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use pitaya_core::Rng;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, PacketKind};
use serde_json::{Value, json};

use crate::packages;
use crate::table;

#[test]
fn packets_mean_the_same_to_every_codec() {
    each_codec("packets", |codec| {
        let mut random = Rng::new(1);
        for turn in 0..TURNS {
            let body = some_bytes(&mut random, if turn % 50 == 0 { 70_000 } else { 300 });
            let kind = pick(&mut random, &KINDS);
            let mut ours = Vec::new();
            packet::encode(kind.0, &body, &mut ours).unwrap();
            let packet = json!({ "type": kind.1, "body": hex(&body) });
            let twice = hex(&[&ours[..], &ours].concat());
            let read = codec.ask(json!({ "ask": "readPackets", "hex": twice }));
            assert_eq!(read, Ok(json!([packet, packet])));
            let theirs = codec
                .ask(json!({ "ask": "writePacket", "type": kind.1, "body": hex(&body) }))
                .unwrap();
            assert_eq!(theirs, hex(&ours));
        }
    });
}

#[test]
fn messages_mean_the_same_to_every_codec() {
    each_codec("messages", |codec| {
        let mut random = Rng::new(2);
        for _ in 0..TURNS {
            let (name, body) = (some_name(&mut random), some_bytes(&mut random, 300));
            let id = random.next_u64() >> (33 + random.next_u64() % 31);
            let route = if random.next_u64().is_multiple_of(2) {
                Route::Code(random.next_u64() as u16)
            } else {
                Route::Name(name.as_bytes())
            };
            let zlib = random.next_u64().is_multiple_of(2);
            let body = if zlib { Body::Zlib(&body) } else { Body::Plain(&body) };
            let message = match random.next_u64() % 4 {
                0 => Message::Request { id, route, body },
                1 => Message::Notify { route, body },
                2 => Message::Response { id: id.max(1), error: false, body },
                _ => Message::Push { route, body },
            };
            codec.agrees_on(message);
        }
    });
}

/// What their users have to know, and why this server treats them as it does.
#[test]
fn where_the_codecs_differ_from_pitaya_is_known() {
    each_codec("differences", |codec| {
        let read = |codec: &mut Codec, message: Message<'_>| {
            codec.ask(json!({ "ask": "readMessage", "hex": hex(&encoded(message)) })).unwrap()
        };
        // An error looks like a reply, so a body has to tell.
        let body = Body::Plain(b"{}");
        let error = read(codec, Message::Response { id: 1, error: true, body });
        assert_eq!(error, read(codec, Message::Response { id: 1, error: false, body }));
        // What is compressed is told, and left to others.
        let zlib = read(codec, Message::Response { id: 1, error: false, body: Body::Zlib(b"z") });
        assert_eq!((&zlib["compressGzip"], &zlib["body"]), (&json!(1), &json!("7a")));
        // Ids have 31 bits.
        for (id, theirs) in [(0x7fff_ffff, 0x7fff_ffff), (0x8000_0000, -0x8000_0000_i64)] {
            let response = read(codec, Message::Response { id, error: false, body });
            assert_eq!(response["id"], theirs);
        }
        // A packet that has not come whole is no reason to wait.
        let half = codec.ask(json!({ "ask": "readPackets", "hex": "04000003aa" })).unwrap();
        assert_eq!(half.as_array().unwrap().len(), 1);
        // A route that is too long is refused by all.
        let long = "r".repeat(256);
        let refused = codec
            .ask(json!({ "ask": "writeMessage", "id": 1, "type": 0, "route": long, "body": "" }));
        assert_eq!(refused, Err("route maxlength is overflow".to_owned()));
    });
}

#[test]
fn strings_mean_the_same_to_every_codec_but_in_a_page_beyond_the_basic_plane() {
    each_codec("strings", |codec| {
        let mut random = Rng::new(3);
        for _ in 0..TURNS {
            let text = some_name(&mut random);
            codec.agrees_on_text(&text);
        }
        let joystick = "\u{1f3ae}";
        if codec.name == "pomelo-in-a-page" {
            // Each half of a surrogate pair on its own, which is no UTF-8; and four bytes are
            // taken for three and one.
            let written = codec.ask(json!({ "ask": "writeString", "string": joystick }));
            assert_eq!(written, Ok(json!("eda0bcedbeae")));
            let read = codec.ask(json!({ "ask": "readString", "hex": hex(joystick.as_bytes()) }));
            assert_ne!(read, Ok(json!(joystick)));
        } else {
            codec.agrees_on_text(joystick);
        }
    });
}

fn each_codec(what: &str, mut check: impl FnMut(&mut Codec)) {
    for name in ["pinus", "pomelo", "pomelo-in-a-page"] {
        let Some(mut codec) = Codec::start(name) else { return };
        check(&mut codec);
        table::add(&format!("codec {name}, {what}"), "-", "-", codec.asked, 0);
    }
}

/// A process that answers questions about one codec.
struct Codec {
    name: &'static str,
    process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    asked: usize,
}

impl Codec {
    fn start(name: &'static str) -> Option<Self> {
        let mut node = packages::node("codec.js")?;
        let mut process =
            node.arg(name).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let questions = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Some(Self { name, process, questions, answers, asked: 0 })
    }

    /// The answer, or why the codec refuses.
    fn ask(&mut self, question: Value) -> Result<Value, String> {
        self.asked += 1;
        writeln!(self.questions, "{question}").unwrap();
        let mut answer: Value =
            serde_json::from_str(&self.answers.next().unwrap().unwrap()).unwrap();
        match answer["refused"].as_str() {
            Some(why) => Err(why.to_owned()),
            None => Ok(answer["answer"].take()),
        }
    }

    fn agrees_on(&mut self, message: Message<'_>) {
        let (kind, id, route, body) = match message {
            Message::Request { id, route, body } => (0, id, Some(route), body),
            Message::Notify { route, body } => (1, 0, Some(route), body),
            Message::Response { id, error: _, body } => (2, id, None, body),
            Message::Push { route, body } => (3, 0, Some(route), body),
        };
        let coded = matches!(route, Some(Route::Code(_)));
        let route = route.map(|route| match route {
            Route::Code(code) => json!(code),
            Route::Name(name) => json!(str::from_utf8(name).unwrap()),
        });
        let (zlib, body) = (matches!(body, Body::Zlib(_)), hex(body.bytes()));
        let ours = hex(&encoded(message));
        let read = self.ask(json!({ "ask": "readMessage", "hex": ours }));
        let means = json!({
            "type": kind, "id": id, "route": route, "body": body,
            "compressRoute": u8::from(coded), "compressGzip": u8::from(zlib),
        });
        assert_eq!(read, Ok(means));
        let theirs = self.ask(json!({
            "ask": "writeMessage", "type": kind, "id": id, "route": route, "body": body,
            "zlib": zlib,
        }));
        assert_eq!(theirs, Ok(json!(ours)));
    }

    fn agrees_on_text(&mut self, text: &str) {
        let bytes = hex(text.as_bytes());
        assert_eq!(self.ask(json!({ "ask": "writeString", "string": text })), Ok(json!(bytes)));
        assert_eq!(self.ask(json!({ "ask": "readString", "hex": bytes })), Ok(json!(text)));
    }
}

impl Drop for Codec {
    fn drop(&mut self) {
        // It is ours, and there is nothing it could lose.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn encoded(message: Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out).unwrap();
    assert_eq!(Message::decode(&out), Ok(message));
    out
}

fn some_bytes(random: &mut Rng, bytes_max: u64) -> Vec<u8> {
    let length = random.next_u64() % bytes_max;
    (0..length).map(|_| random.next_u64() as u8).collect()
}

/// A text of the basic plane, of at most 255 bytes.
fn some_name(random: &mut Rng) -> String {
    let length = random.next_u64() % 86;
    let letters = ['a', '.', 'ç', '你', 'б', '\u{ffff}', '\n', '"'];
    (0..length).map(|_| pick(random, &letters)).collect()
}

fn pick<T: Copy>(random: &mut Rng, from: &[T]) -> T {
    from[random.next_u64() as usize % from.len()]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const KINDS: [(PacketKind, u8); 5] = [
    (PacketKind::Handshake, 1),
    (PacketKind::HandshakeAck, 2),
    (PacketKind::Heartbeat, 3),
    (PacketKind::Data, 4),
    (PacketKind::Kick, 5),
];
const TURNS: usize = 500;
