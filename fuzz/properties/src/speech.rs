//! What clients and servers say, right or wrong, as bytes.

use std::cell::RefCell;

use arbitrary::Arbitrary;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, PacketKind};
use pitaya_proto::zlib::Scratch;

/// What a client says.
#[derive(Arbitrary, Debug)]
pub(crate) enum ClientSays<'a> {
    Ack,
    Call { notify: bool, id: u8, route: u8, bytes: u8, zlib: bool },
    Heartbeat,
    Kick,
    Message(&'a [u8]),
    Raw(&'a [u8]),
    Shake(u8),
}

impl ClientSays<'_> {
    /// Appends it. The serial number makes its body and, mostly, its id unlike any other.
    pub(crate) fn write(&self, serial: u32, out: &mut Vec<u8>) {
        match *self {
            Self::Ack => append(PacketKind::HandshakeAck, b"", out),
            Self::Call { notify, id, route, bytes, zlib } => {
                let id = if id < 0xc0 { u64::from(serial) } else { u64::from(id % 4) };
                let route = ROUTES[usize::from(route) % ROUTES.len()];
                append_message(&numbered(serial, bytes), zlib, out, |body| match notify {
                    true => Message::Notify { route, body },
                    false => Message::Request { id, route, body },
                });
            }
            Self::Heartbeat => append(PacketKind::Heartbeat, b"", out),
            Self::Kick => append(PacketKind::Kick, b"", out),
            Self::Message(body) => append(PacketKind::Data, body, out),
            Self::Raw(bytes) => out.extend_from_slice(bytes),
            Self::Shake(choice) => {
                let json = HANDSHAKES[usize::from(choice) % HANDSHAKES.len()];
                append(PacketKind::Handshake, json.as_bytes(), out);
            }
        }
    }
}

/// What a server says, but for answers, which need the id of a request.
#[derive(Arbitrary, Debug)]
pub(crate) enum ServerSays<'a> {
    Heartbeat,
    Kick(bool),
    Message(&'a [u8]),
    Push { code: bool, bytes: u8, zlib: bool },
    Raw(&'a [u8]),
    Shake { choice: u8, zlib: bool },
    StrayAnswer(u32),
}

impl ServerSays<'_> {
    /// Appends it. The serial number makes its body unlike any other.
    pub(crate) fn write(&self, serial: u32, out: &mut Vec<u8>) {
        match *self {
            Self::Heartbeat => append(PacketKind::Heartbeat, b"", out),
            Self::Kick(reason) => {
                let reason = if reason { &br#"{"reason":"why"}"#[..] } else { b"" };
                append(PacketKind::Kick, reason, out);
            }
            Self::Message(body) => append(PacketKind::Data, body, out),
            Self::Push { code, bytes, zlib } => {
                let route = if code { Route::Code(2) } else { Route::Name(b"on.news") };
                append_message(&numbered(serial, bytes), zlib, out, |body| Message::Push {
                    route,
                    body,
                });
            }
            Self::Raw(bytes) => out.extend_from_slice(bytes),
            Self::Shake { choice, zlib } => {
                let json = ANSWERS[usize::from(choice) % ANSWERS.len()].as_bytes();
                let zlib = Some(deflated(json)).filter(|_| zlib).flatten();
                append(PacketKind::Handshake, zlib.as_deref().unwrap_or(json), out);
            }
            // No script makes so many requests.
            Self::StrayAnswer(id) => append_message(b"", false, out, |body| {
                let id = u64::from(id).saturating_add(1 << 20);
                Message::Response { id, error: false, body }
            }),
        }
    }
}

/// A body that tells which one it is.
pub(crate) fn numbered(serial: u32, bytes: u8) -> Vec<u8> {
    let mut body = serial.to_be_bytes().to_vec();
    body.resize(body.len() + usize::from(bytes), b'.');
    body
}

/// The number of such a body.
pub(crate) fn number(body: &[u8]) -> Option<u32> {
    let (number, rest) = body.split_first_chunk()?;
    rest.iter().all(|byte| *byte == b'.').then_some(u32::from_be_bytes(*number))
}

pub(crate) fn append(kind: PacketKind, body: &[u8], out: &mut Vec<u8>) {
    packet::encode(kind, body, out).expect("a script is shorter than a packet may be");
}

pub(crate) fn append_message(
    plain: &[u8], zlib: bool, out: &mut Vec<u8>, message: impl FnOnce(Body<'_>) -> Message<'_>,
) {
    let zlib = if zlib { deflated(plain) } else { None };
    let body = zlib.as_deref().map_or(Body::Plain(plain), Body::Zlib);
    message(body).encode_packet(out).expect("the wire carries it");
}

/// What a body of ours holds.
pub(crate) fn plain(body: Body<'_>) -> Vec<u8> {
    inflated(body, usize::MAX).expect("it is ours")
}

pub(crate) fn inflated(body: Body<'_>, bytes_max: usize) -> Option<Vec<u8>> {
    SCRATCH.with_borrow_mut(|scratch| body.inflate(scratch, bytes_max).ok().map(<[u8]>::to_vec))
}

fn deflated(plain: &[u8]) -> Option<Vec<u8>> {
    SCRATCH.with_borrow_mut(|scratch| scratch.deflate(plain).map(<[u8]>::to_vec))
}

thread_local! {
    /// Of peers and judges: to make one for every message would take most of the time.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The handshake and its acknowledgement, as the Go client sends them.
pub(crate) fn opening() -> Vec<u8> {
    let mut out = Vec::new();
    append(PacketKind::Handshake, HANDSHAKES[0].as_bytes(), &mut out);
    append(PacketKind::HandshakeAck, b"", &mut out);
    out
}

pub(crate) const HANDSHAKES: [&str; 7] = [
    r#"{"sys":{"platform":"mac","libVersion":"0.3.5-release"},"user":{"age":30}}"#,
    r#"{"sys":{"type":"js-websocket","version":"0.0.1","rsa":{}}}"#,
    r#"{"sys":{"platform":"desktop","libVersion":"4.6.2-"}}"#,
    "{}",
    r#"{"sys":{"platform":"refused"}}"#,
    r#"{"Sys":{}}"#,
    "{",
];

/// What servers answer to a handshake.
const ANSWERS: [&str; 7] = [
    r#"{"code":200,"sys":{"dict":{},"heartbeat":30,"serializer":"json"}}"#,
    r#"{"code":200,"sys":{"dict":{"t.ask":1,"on.news":2},"heartbeat":1,"serializer":"json"}}"#,
    r#"{"code":200,"sys":{"heartbeat":0}}"#,
    r#"{"code":200,"sys":{"heartbeat":0.000001,"serializer":"protobuf"}}"#,
    r#"{"code":200,"sys":{"heartbeat":1e18}}"#,
    r#"{"code":400,"sys":{}}"#,
    "{",
];

/// Those of a server in a script, some by their code, and some that it does not have.
const ROUTES: [Route<'_>; 10] = [
    Route::Name(b"t.ask"),
    Route::Name(b"t.free"),
    Route::Name(b"t.quick"),
    Route::Name(b"t.brief"),
    Route::Name(b"t.torn"),
    Route::Name(b"gate.t.tell"),
    Route::Code(1),
    Route::Code(9),
    Route::Name(b"room.a.b"),
    Route::Name(b"t.\xff"),
];
