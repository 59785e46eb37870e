//! The layers of a server's connection: whatever a peer says after or instead of the upgrade, the
//! machine is given what a plain reading of the rules gives it, however the wire is cut.

use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::{Buf as _, Bytes};
use pitaya_core::{Counters, Instant, Limits, Outbox};
use pitaya_driver::{Page, Room, Transport, Web};

use crate::held_at_most;
use crate::script::Script;
use model::Model;

mod model;

/// The input is a byte that chooses the limit, one that chooses how the wire is cut, and either a
/// wire as it is or a script of frames behind an upgrade.
pub fn transport(data: &[u8]) {
    let [choice, cut, rest @ ..] = data else { return };
    let packet_bytes_max = PACKET_BYTES_MAX[usize::from(choice >> 1) % PACKET_BYTES_MAX.len()];
    let limits = Limits::default().packet_bytes_max(packet_bytes_max);
    let (wire, model) = match choice & 1 {
        0 => (rest.to_vec(), None),
        _ => spoken(rest, packet_bytes_max + PACKET_HEADER_BYTES),
    };
    let (whole, held) = held_at_most(|| Heard::read(&wire, wire.len().max(1), &limits));
    let held_max = 6 * wire.len() + 2 * packet_bytes_max + BUFFERS_BYTES_MAX;
    assert!(held as usize <= held_max, "{held} bytes for {} on the wire", wire.len());
    for piece in [1, usize::from(*cut) + 1] {
        assert_eq!(Heard::read(&wire, piece, &limits), whole, "in pieces of {piece}");
    }
    if let Some(model) = model {
        assert_eq!((whole.plain, whole.end), (model.plain, model.end));
    }
}

/// What a peer says over its WebSocket.
#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Frame {
        first: u8,
        mask: u32,
        body: Body<'a>,
    },
    /// One message in fragments, with pings between them.
    Message {
        text: bool,
        parts: u8,
        mask: u32,
        body: Body<'a>,
    },
}

#[derive(Arbitrary, Debug)]
enum Body<'a> {
    Bytes(&'a [u8]),
    /// A packet so long.
    Long(u16),
    /// A packet of each length.
    Packets(&'a [u8]),
}

impl Body<'_> {
    fn bytes(&self) -> Vec<u8> {
        match *self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Long(length) => packet(usize::from(length) % LONG_BYTES_MAX),
            Self::Packets(lengths) => {
                lengths.iter().flat_map(|length| packet(usize::from(*length) % 64)).collect()
            }
        }
    }
}

/// An upgrade and the frames of a script, and what they mean.
fn spoken(script: &[u8], message_bytes_max: usize) -> (Vec<u8>, Option<Model>) {
    let (mut script, mut model) = (Script::new(script), Model::new(message_bytes_max));
    let mut wire = UPGRADE.to_vec();
    while wire.len() < WIRE_BYTES_MAX
        && let Some(step) = script.step()
    {
        match step {
            Step::Frame { first, mask, body } => {
                say(first, mask, &body.bytes(), &mut wire, &mut model)
            }
            Step::Message { text, parts, mask, body } => {
                let body = body.bytes();
                let part = body.len() / (usize::from(parts % 4) + 1) + 1;
                let last = body.len().saturating_sub(1) / part;
                for at in 0..=last {
                    let kind = if at > 0 { 0 } else { 2 - u8::from(text) };
                    let first = u8::from(at == last) << 7 | kind;
                    let end = body.len().min((at + 1) * part);
                    say(first, mask, &body[at * part..end], &mut wire, &mut model);
                    if at < last {
                        say(PING, mask, b"still there?", &mut wire, &mut model);
                    }
                }
            }
        }
    }
    (wire, Some(model))
}

fn say(first: u8, mask: u32, body: &[u8], wire: &mut Vec<u8>, model: &mut Model) {
    let masked = mask % 32 != 31;
    wire.push(first);
    let bit = u8::from(masked) << 7;
    match body.len() {
        short @ 0..=125 => wire.push(bit | short as u8),
        long @ 126..=0xffff => {
            wire.push(bit | 126);
            wire.extend_from_slice(&(long as u16).to_be_bytes());
        }
        longer => {
            wire.push(bit | 127);
            wire.extend_from_slice(&(longer as u64).to_be_bytes());
        }
    }
    let mask = if masked { mask.to_be_bytes() } else { [0; 4] };
    if masked {
        wire.extend_from_slice(&mask);
    }
    wire.extend(body.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    model.hear(first, masked, body);
}

fn packet(length: usize) -> Vec<u8> {
    let [.., high, middle, low] = length.to_be_bytes();
    [&[4, high, middle, low][..], &vec![b'a'; length]].concat()
}

/// All that came of a wire.
#[derive(Debug, Default, Eq, PartialEq)]
struct Heard {
    plain: Vec<u8>,
    answers: Vec<u8>,
    end: Ending,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Ending {
    /// The peer said that nothing follows.
    Ended,
    Failed,
    #[default]
    Open,
}

impl Heard {
    fn read(wire: &[u8], piece: usize, limits: &Limits) -> Self {
        let (counters, now) = (Arc::new(Counters::default()), Instant::ZERO);
        let accepted = Transport::accept(None, Some(&web()), now, limits, &counters);
        let mut transport = accepted.expect("there is no TLS to fail");
        let (mut room, mut outbox) = (Room::default(), Outbox::default());
        let mut heard = Self::default();
        for piece in wire.chunks(piece) {
            let (plain, decoded) = transport.decode(now, piece, &mut room);
            heard.plain.extend_from_slice(plain);
            let mut answers = transport.encode(&mut outbox);
            while answers.has_remaining() {
                heard.answers.extend_from_slice(answers.chunk());
                answers.advance(answers.chunk().len());
            }
            if decoded.is_err() {
                heard.end = Ending::Failed;
                break;
            }
            if transport.is_ended() {
                heard.end = Ending::Ended;
                break;
            }
        }
        heard
    }
}

fn web() -> Arc<Web> {
    let (path, content_type) = ("/".to_owned(), "text/plain".to_owned());
    let page = Page { path, content_type, body: Bytes::from_static(b"hello") };
    Arc::new(Web { pages: vec![page], ..Web::default() })
}

const UPGRADE: &[u8] = b"GET /play HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const PING: u8 = 0x89;
const PACKET_BYTES_MAX: [usize; 3] = [64, 1000, 4000];
const PACKET_HEADER_BYTES: usize = 4;
/// So that reading it byte by byte takes no time to speak of.
const WIRE_BYTES_MAX: usize = 8 << 10;
const LONG_BYTES_MAX: usize = 5000;
/// What the layers own, the head of an upgrade, and what growing buffers have to spare.
const BUFFERS_BYTES_MAX: usize = 64 << 10;
