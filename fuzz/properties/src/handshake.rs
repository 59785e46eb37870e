//! Handshakes: within the limits, read the same way by a second reader, and the same when said
//! again.

use std::time::Duration;

use pitaya_proto::handshake::{
    HandshakeError, HandshakeLimits, HandshakeRequest, HandshakeResponse, HandshakeResponseError,
};
use pitaya_proto::limits;
use pitaya_proto::packet::{self, PacketKind};
use pitaya_proto::zlib::Scratch;
use serde_json::Value;

use crate::held_at_most;
use crate::json::Json;

/// The input is a byte that chooses the side and the limits, and the body of the packet.
pub fn handshake(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    match choice {
        0..0x80 => request(*choice, body),
        0x80.. => response(*choice, body),
    }
}

fn request(choice: u8, body: &[u8]) {
    let limits = match choice % 4 {
        0 => LIMITS,
        1 => HandshakeLimits { keys_max: 5, ..LIMITS },
        2 => HandshakeLimits { depth_max: 3, ..LIMITS },
        _ => HandshakeLimits { bytes_max: 40, ..LIMITS },
    };
    let (parsed, held) = held_at_most(|| HandshakeRequest::parse(body, &limits));
    assert!(held <= HELD_BYTES_MAX, "{held} bytes for {}", body.len());
    let json = Json::parse(body).filter(|json| !json.hides_json());
    match parsed {
        Err(error) => is_justified(error, body, &limits, json.as_ref()),
        Ok(request) => {
            assert!(body.len() <= limits.bytes_max);
            if let Some(json) = json {
                assert!(json.depth() <= limits.depth_max && json.keys() <= limits.keys_max);
                says_what_it_read(&request, &json);
            }
            if let Some(user) = request.user.clone().map(|user| Json::from(Value::Object(user))) {
                assert!(user.depth() <= limits.depth_max && user.keys() <= limits.keys_max);
            }
            let mut again = Vec::new();
            request.encode(&mut again);
            let roomy = HandshakeLimits { bytes_max: again.len(), depth_max: 99, keys_max: 999 };
            assert_eq!(HandshakeRequest::parse(&again, &roomy), Ok(request));
        }
    }
}

/// Those of a server by default.
const LIMITS: HandshakeLimits = HandshakeLimits {
    bytes_max: limits::HANDSHAKE_BYTES_MAX,
    depth_max: limits::HANDSHAKE_DEPTH_MAX,
    keys_max: limits::HANDSHAKE_KEYS_MAX,
};

fn is_justified(error: HandshakeError, body: &[u8], limits: &HandshakeLimits, json: Option<&Json>) {
    let is_json =
        |check: fn(&Json, &HandshakeLimits) -> bool| json.is_none_or(|json| check(json, limits));
    let justified = match error {
        HandshakeError::TooLarge => body.len() > limits.bytes_max,
        HandshakeError::TooDeep => is_json(|json, limits| json.depth() > limits.depth_max),
        HandshakeError::TooManyKeys => is_json(|json, limits| json.keys() > limits.keys_max),
        HandshakeError::Malformed => json.is_none(),
        HandshakeError::DuplicateKey => {
            is_json(|json, _| has_twins(json) || json.value("sys").is_some_and(has_twins))
        }
        HandshakeError::KeyCase(key) => json.is_none_or(|json| {
            let sys = json.value("sys").map_or(&[][..], Json::entries);
            let mut others = json.entries().iter().chain(sys);
            others.any(|(other, _)| other != key && other.eq_ignore_ascii_case(key))
        }),
        HandshakeError::WrongType(_) => true,
    };
    assert!(justified, "{error} for {}", String::from_utf8_lossy(body));
}

/// Keys that differ in case at most.
fn has_twins(object: &Json) -> bool {
    let mut keys: Vec<_> =
        object.entries().iter().map(|(key, _)| key.to_ascii_lowercase()).collect();
    keys.sort();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

fn says_what_it_read(request: &HandshakeRequest, json: &Json) {
    assert!(!has_twins(json));
    let null = Json::Other(Value::Null);
    let sys = json.value("sys").unwrap_or(&null);
    assert!(!has_twins(sys));
    for (key, text) in [
        ("platform", &request.platform),
        ("libVersion", &request.lib_version),
        ("clientBuildNumber", &request.client_build_number),
        ("clientVersion", &request.client_version),
    ] {
        let absent = text.is_empty() && sys.value(key).is_none_or(|value| *value == null);
        assert!(absent || sys.value(key) == Some(&Json::Other(text.as_str().into())), "{key}");
    }
    let user = request.user.clone().map_or(Value::Null, Value::Object);
    let read = json.value("user").cloned().unwrap_or(null);
    assert_eq!(Json::from(user), read.sorted());
}

fn response(choice: u8, body: &[u8]) {
    let bytes_max = if choice.is_multiple_of(2) { 1 << 16 } else { 50 };
    let mut scratch = Scratch::new();
    let (parsed, held) = held_at_most(|| HandshakeResponse::parse(body, &mut scratch, bytes_max));
    assert!(held <= HELD_BYTES_MAX + 60 * bytes_max as u64, "{held} bytes for {bytes_max}");
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(HandshakeResponseError::Inflate(_) | HandshakeResponseError::Malformed) => return,
    };
    // Whole seconds are what is sent, and up to here an `f64` counts them one by one.
    if parsed.heartbeat < Duration::from_secs(1 << 53) {
        let whole = parsed.heartbeat.as_secs() + u64::from(parsed.heartbeat.subsec_nanos() > 0);
        let heartbeat = Duration::from_secs(whole.max(1));
        let mut out = Vec::new();
        parsed.encode_packet(&mut out).expect("it is smaller than a packet may be");
        let packet = packet::decode(&mut &out[..], usize::MAX).expect("ours").expect("whole");
        assert_eq!(packet.kind, PacketKind::Handshake);
        let again = HandshakeResponse::parse(packet.body, &mut scratch, usize::MAX);
        assert_eq!(again, Ok(HandshakeResponse { heartbeat, ..parsed }));
    }
}

/// For a handshake of at most 4 KiB: room for keys, values and the state of the decompressor.
const HELD_BYTES_MAX: u64 = 256 << 10;
