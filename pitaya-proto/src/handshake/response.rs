//! What a server expects of a client.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::dictionary::Dictionary;
use crate::packet::{self, HEADER_BYTES, PacketKind, TooLarge};
use crate::zlib::{InflateError, Scratch};

/// The handshake of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HandshakeResponse {
    /// [`ACCEPTED`](Self::ACCEPTED) or [`REFUSED`](Self::REFUSED).
    pub code: u16,
    /// How often either side shows that it lives; zero asks for no heartbeats.
    pub heartbeat: Duration,
    /// `json`, `protobuf`, or the name of the application's own.
    pub serializer: String,
    /// Routes that may be sent as codes.
    pub dictionary: Dictionary,
}

impl HandshakeResponse {
    /// The client may go on.
    pub const ACCEPTED: u16 = 200;
    /// The client is about to be closed.
    pub const REFUSED: u16 = 400;

    /// The `heartbeat` that clients are told: some of them read whole seconds alone and stop at
    /// zero, so it is rounded up to seconds, and to at least one.
    pub fn heartbeat_seconds(&self) -> u64 {
        let part = u64::from(self.heartbeat.subsec_nanos() > 0);
        self.heartbeat.as_secs().saturating_add(part).max(1)
    }

    /// Appends the handshake packet: JSON with its keys in Go's order, never compressed, and padded
    /// for Go clients.
    ///
    /// # Errors
    ///
    /// A dictionary too large for a packet; `out` is left as it was.
    pub fn encode_packet(&self, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let heartbeat = self.heartbeat_seconds();
        let dict: Map<_, _> =
            self.dictionary.iter().map(|(route, code)| (route.to_owned(), code.into())).collect();
        let sys = json!({ "dict": dict, "heartbeat": heartbeat, "serializer": self.serializer });
        let mut body = json!({ "code": self.code, "sys": sys }).to_string().into_bytes();
        pad_for_go(&mut body);
        packet::encode(PacketKind::Handshake, &body, out)
    }

    /// Reads the body of a server's handshake packet, compressed or not.
    ///
    /// # Errors
    ///
    /// JSON that is none, or longer than `bytes_max` when inflated, or a value out of its range.
    pub fn parse(
        body: &[u8], scratch: &mut Scratch, bytes_max: usize,
    ) -> Result<Self, HandshakeResponseError> {
        let json = if is_zlib(body) { scratch.inflate(body, bytes_max)? } else { body };
        if json.len() > bytes_max {
            return Err(InflateError::TooLarge.into());
        }
        let Wire { code, sys } =
            serde_json::from_slice(json).map_err(|_| HandshakeResponseError::Malformed)?;
        let heartbeat = Duration::try_from_secs_f64(sys.heartbeat.unwrap_or_default())
            .map_err(|_| HandshakeResponseError::Malformed)?;
        let dictionary = Dictionary::new(sys.dict.unwrap_or_default())
            .map_err(|_| HandshakeResponseError::Malformed)?;
        let serializer = sys.serializer.as_str().unwrap_or("json").to_owned();
        Ok(Self { code, heartbeat, serializer, dictionary })
    }
}

/// Why a server's handshake cannot be used.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum HandshakeResponseError {
    /// It looks compressed but does not inflate, or is too long.
    #[error(transparent)]
    Inflate(#[from] InflateError),
    /// Not JSON, or a value that means nothing.
    #[error("malformed handshake response")]
    Malformed,
}

/// Go's client reads in pieces of 1,024 bytes until one comes up short, so a packet that fills its
/// last piece would leave it waiting. A trailing space is nothing to JSON.
fn pad_for_go(body: &mut Vec<u8>) {
    if (HEADER_BYTES + body.len()).is_multiple_of(GO_READ_BYTES) {
        body.push(b' ');
    }
}

/// Nothing marks a compressed handshake, so clients look for what can begin no JSON.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [0x78, 0x9c | 0x01 | 0xda | 0x5e, _, ..])
}

#[derive(Deserialize)]
struct Wire {
    code: u16,
    #[serde(default)]
    sys: Sys,
}

#[derive(Default, Deserialize)]
struct Sys {
    dict: Option<std::collections::BTreeMap<String, u16>>,
    heartbeat: Option<f64>,
    #[serde(default)]
    serializer: Value,
}

const GO_READ_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_byte_for_byte_that_of_go() {
        let expected = r#"{"code":200,"sys":{"dict":{},"heartbeat":30,"serializer":"json"}}"#;
        assert_eq!(json(&response()), expected);
        let entries = [("room.join", 3), ("a\"b", 1)];
        let dictionary = Dictionary::new(entries).unwrap();
        let refused = HandshakeResponse { code: 400, dictionary, ..response() };
        let expected = concat!(
            r#"{"code":400,"sys":{"dict":{"a\"b":1,"room.join":3},"#,
            r#""heartbeat":30,"serializer":"json"}}"#
        );
        assert_eq!(json(&refused), expected);
    }

    #[test]
    fn a_heartbeat_is_whole_seconds_and_at_least_one() {
        for (millis, written) in [(0, ":1,"), (1, ":1,"), (1000, ":1,"), (1500, ":2,")] {
            let heartbeat = Duration::from_millis(millis);
            assert!(json(&HandshakeResponse { heartbeat, ..response() }).contains(written));
        }
    }

    #[test]
    fn no_packet_fills_the_last_read_of_a_go_client() {
        let mut padded = 0;
        for name_bytes in 900..3200 {
            let response = HandshakeResponse { serializer: "s".repeat(name_bytes), ..response() };
            let mut out = vec![0; 7];
            response.encode_packet(&mut out).unwrap();
            let packet = packet::decode(&mut &out[7..], 4096).unwrap().unwrap();
            assert_ne!((HEADER_BYTES + packet.body.len()) % 1024, 0);
            assert_eq!(parse(packet.body), Ok(response));
            padded += usize::from(packet.body.ends_with(b" "));
        }
        assert_eq!(padded, 3);
    }

    #[test]
    fn a_dictionary_that_fits_no_packet_is_refused() {
        let routes = (0..=u16::MAX).map(|code| (format!("{code:0>255}"), code));
        let dictionary = Dictionary::new(routes).unwrap();
        let mut out = vec![7];
        let refused = HandshakeResponse { dictionary, ..response() }.encode_packet(&mut out);
        assert!(refused.is_err());
        assert_eq!(out, [7]);
    }

    #[test]
    fn a_compressed_response_is_recognised() {
        let entries = (0..40).map(|code| (format!("connector.room.method{code}"), code));
        let response =
            HandshakeResponse { dictionary: Dictionary::new(entries).unwrap(), ..response() };
        for level in [1, 5, 6, 9] {
            let json = json(&response);
            let zlib = Scratch::with_level(level).deflate(json.as_bytes()).unwrap().to_vec();
            assert!(is_zlib(&zlib));
            assert_eq!(parse(&zlib).as_ref(), Ok(&response));
            let parsed = HandshakeResponse::parse(&zlib, &mut Scratch::new(), json.len() - 1);
            assert_eq!(parsed, Err(HandshakeResponseError::Inflate(InflateError::TooLarge)));
            let parsed =
                HandshakeResponse::parse(json.as_bytes(), &mut Scratch::new(), json.len() - 1);
            assert_eq!(parsed, Err(HandshakeResponseError::Inflate(InflateError::TooLarge)));
        }
    }

    #[test]
    fn what_other_servers_say_is_understood() {
        let half = br#"{"code":200,"sys":{"heartbeat":1.5,"protos":{},"useDict":true},"user":1}"#;
        let parsed = parse(half).unwrap();
        assert_eq!(parsed.heartbeat, Duration::from_millis(1500));
        assert_eq!(parsed.serializer, "json");
        assert_eq!(parsed.dictionary, Dictionary::default());
        let parsed = parse(br#"{"code":400,"sys":{"dict":null,"serializer":7}}"#).unwrap();
        assert_eq!((parsed.code, parsed.heartbeat), (400, Duration::ZERO));
        assert_eq!(parse(br#"{"code":200}"#).unwrap().serializer, "json");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for json in [
            "",
            "null",
            "{}",
            r#"{"code":-1}"#,
            r#"{"code":200,"sys":{"heartbeat":-1}}"#,
            r#"{"code":200,"sys":{"heartbeat":1e300}}"#,
            r#"{"code":200,"sys":{"heartbeat":"30"}}"#,
            r#"{"code":200,"sys":{"dict":{"a":65536}}}"#,
            r#"{"code":200,"sys":{"dict":{"a":1,"b":1}}}"#,
        ] {
            assert_eq!(parse(json.as_bytes()), Err(HandshakeResponseError::Malformed), "{json}");
        }
        let parsed = parse(b"\x78\x9c\x00");
        assert!(matches!(parsed, Err(HandshakeResponseError::Inflate(_))));
    }

    fn response() -> HandshakeResponse {
        HandshakeResponse {
            code: HandshakeResponse::ACCEPTED,
            heartbeat: Duration::from_secs(30),
            serializer: "json".to_owned(),
            dictionary: Dictionary::default(),
        }
    }

    fn json(response: &HandshakeResponse) -> String {
        let mut out = Vec::new();
        response.encode_packet(&mut out).unwrap();
        String::from_utf8(out.split_off(HEADER_BYTES)).unwrap()
    }

    fn parse(body: &[u8]) -> Result<HandshakeResponse, HandshakeResponseError> {
        HandshakeResponse::parse(body, &mut Scratch::new(), 1 << 20)
    }
}
