//! The bytes of the load: one request, and the one reply that is right for it.

use serde::{Deserialize, Serialize};

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// The handler binds the session to the body's number and echoes.
    Bind,
    /// The handler returns the body as it came.
    Echo,
    /// The handler parses the body and serialises it again.
    Json,
    /// The same on another server.
    RoomJson,
}

impl Route {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bind => BIND,
            Self::Echo => ECHO,
            Self::Json => JSON,
            Self::RoomJson => ROOM_JSON,
        }
    }
}

/// The body of every request.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Msg {
    pub(crate) seq: u64,
    pub(crate) name: String,
    x: i32,
    y: i32,
    text: String,
}

impl Msg {
    /// What the `n`th push says, in a few words or in many.
    pub(crate) fn told(n: u32, long: bool) -> Self {
        let words = if long { LONG_TEXT } else { "hello" };
        let (name, text) = ("player-42".to_owned(), words.to_owned());
        Self { seq: u64::from(n) + SEQ_MIN, name, x: 1024, y: -768, text }
    }
}

/// A frame whose id, and the copy of it in the body, is written in place.
///
/// The copy makes the body of a reply to another request differ from the expected one.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    id_at: usize,
    seq_at: usize,
}

impl Frame {
    pub(crate) fn request(route: Route) -> Self {
        let route = route.name().as_bytes();
        let mut message = vec![REQUEST, 0, 0, 0, route.len() as u8];
        message.extend_from_slice(route);
        Self::new(message)
    }

    pub(crate) fn reply() -> Self {
        Self::new(vec![RESPONSE, 0, 0, 0])
    }

    /// The bytes of the `n`th frame of a connection.
    pub(crate) fn stamped(&mut self, n: u32) -> &[u8] {
        let id = ID_MIN + n % (ID_END - ID_MIN);
        let varint = [id as u8 | 0x80, (id >> 7) as u8 | 0x80, (id >> 14) as u8];
        self.bytes[self.id_at..self.id_at + varint.len()].copy_from_slice(&varint);
        let mut rest = id;
        for digit in self.bytes[self.seq_at..self.seq_at + SEQ_DIGITS].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        // A number in JSON does not begin with a zero.
        self.bytes[self.seq_at] = b'1';
        &self.bytes
    }

    /// The body of the `n`th frame.
    pub(crate) fn body(&mut self, n: u32) -> &[u8] {
        let bytes = self.stamped(n);
        &bytes[bytes.len() - BODY.len()..]
    }

    /// Which frame of a connection `bytes` is, by its id.
    pub(crate) fn number(&self, bytes: &[u8]) -> Option<u32> {
        let id = bytes.get(self.id_at..self.id_at + ID_BYTES)?;
        let id = id.iter().rev().fold(0, |id, byte| id << 7 | u32::from(byte & 0x7f));
        id.checked_sub(ID_MIN)
    }

    fn new(message: Vec<u8>) -> Self {
        let seq_at = HEADER_BYTES + message.len() + BODY_SEQ_AT;
        let mut bytes = packet(DATA, &message);
        bytes.extend_from_slice(BODY);
        let length = (message.len() + BODY.len()) as u32;
        bytes[1..HEADER_BYTES].copy_from_slice(&length.to_be_bytes()[1..]);
        Self { bytes, id_at: HEADER_BYTES + 1, seq_at }
    }
}

/// The packet at the start of `input`: its kind and all its bytes, once they are there.
pub(crate) fn first_packet(input: &[u8]) -> Option<(u8, &[u8])> {
    let [kind, a, b, c, ..] = *input else { return None };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    Some((kind, input.get(..HEADER_BYTES + length)?))
}

pub(crate) fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) const BIND: &str = "benchmarks.bind";
pub(crate) const ECHO: &str = "benchmarks.echo";
pub(crate) const JOIN: &str = "benchmarks.join";
pub(crate) const JSON: &str = "benchmarks.json";
pub(crate) const ROOM_JSON: &str = "room.benchmarks.json";
pub(crate) const TELL: &str = "benchmarks.tell";
/// The route of pushes.
pub(crate) const TOLD: &str = "onTold";

pub(crate) const HANDSHAKE: u8 = 1;
pub(crate) const HANDSHAKE_ACK: u8 = 2;
pub(crate) const HEARTBEAT: u8 = 3;
pub(crate) const DATA: u8 = 4;
pub(crate) const HEADER_BYTES: usize = 4;

/// What Pitaya's own client says of itself.
pub(crate) const HELLO: &str = concat!(
    r#"{"sys":{"platform":"mac","libVersion":"0.3.5-release","#,
    r#""clientBuildNumber":"20","clientVersion":"2.1"},"user":{}}"#
);

const REQUEST: u8 = 0;
const RESPONSE: u8 = 4;
const BODY: &[u8] = br#"{"seq":10000000,"name":"player-42","x":1024,"y":-768,"text":"hello"}"#;
const SEQ_MIN: u64 = 10_000_000;
/// What people write when they write much.
const LONG_TEXT: &str = "has anybody seen the key to the north gate? I had it yesterday when we \
    came back from the harbour, and I think I gave it to whoever was on watch. If you find it, \
    please leave it with the smith: the caravan comes at noon, and last time it had to wait \
    outside for an hour. Whoever brings it back gets a barrel of the good cider, as \
    always. And before I forget it, tonight we meet at the well, not at the inn.";
const BODY_SEQ_AT: usize = 7;
const SEQ_DIGITS: usize = 8;

/// So many bytes an id has on the wire, so that every frame has the same length.
const ID_BYTES: usize = 3;
const ID_MIN: u32 = 1 << 14;
const ID_END: u32 = 1 << 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_packet_of_92_bytes_with_a_body_of_68() {
        for route in [Route::Bind, Route::Echo, Route::Json] {
            let mut request = Frame::request(route);
            for n in [0, 1, ID_END - ID_MIN - 1, u32::MAX] {
                let bytes = request.stamped(n);
                assert_eq!(bytes.len(), 92);
                assert_eq!(first_packet(bytes), Some((DATA, bytes)));
            }
        }
        assert_eq!(BODY.len(), 68);
    }

    #[test]
    fn a_body_survives_parsing_and_serialising_byte_for_byte() {
        for n in [0, 9, 123_456, u32::MAX] {
            let frame = Frame::reply().stamped(n).to_vec();
            let body = &frame[frame.len() - BODY.len()..];
            let msg: Msg = serde_json::from_slice(body).unwrap();
            assert_eq!(serde_json::to_vec(&msg).unwrap(), body);
        }
    }

    #[test]
    fn a_push_is_as_long_as_other_frames_and_a_long_one_is_worth_compressing() {
        let bytes = |long| serde_json::to_vec(&Msg::told(7, long)).unwrap().len();
        assert_eq!(bytes(false), BODY.len());
        assert!(bytes(true) > 400);
    }

    #[test]
    fn a_frame_tells_its_number() {
        for mut frame in [Frame::request(Route::Json), Frame::reply()] {
            for n in [0, 1, 127, 128, 1 << 14, ID_END - ID_MIN - 1] {
                let bytes = frame.stamped(n).to_vec();
                assert_eq!(frame.number(&bytes), Some(n));
            }
            assert_eq!(frame.number(&[0; 6]), None);
        }
    }

    #[test]
    fn neighbouring_frames_differ_in_id_and_in_body() {
        let mut frame = Frame::reply();
        let (one, two) = (frame.stamped(1).to_vec(), frame.stamped(2).to_vec());
        assert_ne!(one[..8], two[..8]);
        assert_ne!(one[8..], two[8..]);
    }

    #[test]
    fn a_packet_is_taken_only_when_it_is_whole() {
        let bytes = packet(HANDSHAKE, b"{}");
        for length in 0..bytes.len() {
            assert_eq!(first_packet(&bytes[..length]), None);
        }
        let longer = [&bytes[..], &[4, 0]].concat();
        assert_eq!(first_packet(&longer), Some((HANDSHAKE, &bytes[..])));
    }
}
