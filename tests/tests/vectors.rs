//! Bytes recorded from Pitaya's own code: what they mean, and that we write them the same way.

use pitaya_proto::handshake::HandshakeResponse;
use pitaya_proto::message::{Body, Message, MessageError, Route};
use pitaya_proto::packet::{self, PacketError, PacketKind};
use pitaya_proto::protos;
use pitaya_proto::zlib::{InflateError, Scratch};
use serde::Deserialize;
use serde_json::{Value, json};

#[test]
fn every_vector_means_what_it_means_to_go() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../data/vectors.json")).unwrap();
    let (mut expected, mut reencoded, mut protobuf, mut waiting) = (0, 0, 0, 0);
    for vector in &vectors {
        let bytes = bytes(&vector.hex);
        if WAITING.contains(&&*vector.name) {
            waiting += 1;
        } else if let Some(expect) = &vector.expect {
            let Found { value, written } = match &*vector.layer {
                "packet" => packets(&bytes),
                "message" => message(&bytes),
                layer => panic!("{}: nothing takes the layer {layer}", vector.name),
            };
            assert_eq!(value, *expect, "{}", vector.name);
            expected += 1;
            if vector.reencodes {
                assert_eq!(hex(&written), vector.hex, "{}", vector.name);
                reencoded += 1;
            }
        } else {
            assert!(vector.reencodes, "{}: nothing to compare", vector.name);
            assert_eq!(hex(&protobuf_again(&vector.layer, &bytes)), vector.hex, "{}", vector.name);
            protobuf += 1;
        }
    }
    println!("vectors: {} in all", vectors.len());
    println!("  {expected} by what they mean, {reencoded} of these also by their bytes");
    println!("  {protobuf} protobuf, by their bytes");
    println!("  {waiting} waiting: {WAITING:?}");
    assert_eq!((vectors.len(), expected, reencoded, protobuf), (71, 54, 30, 16));
    assert_eq!(waiting, WAITING.len());
}

#[test]
fn handshake_responses_are_written_as_go_writes_them() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../data/vectors.json")).unwrap();
    let named = |name| bytes(&vectors.iter().find(|vector| vector.name == name).unwrap().hex);
    let parsed = |packet: &[u8]| {
        HandshakeResponse::parse(&packet[packet::HEADER_BYTES..], &mut Scratch::new(), 4096)
    };
    for name in ["packet_handshake_resp_200_protobuf", "packet_handshake_resp_200_dict_plain"] {
        let mut out = Vec::new();
        parsed(&named(name)).unwrap().encode_packet(&mut out).unwrap();
        assert_eq!(hex(&out), hex(&named(name)));
    }
    let plain = parsed(&named("packet_handshake_resp_200_dict_plain"));
    assert_eq!(parsed(&named("packet_handshake_resp_200_dict_zlib")), plain);
    let mut out = Vec::new();
    let fraction = parsed(&named("handshake_resp_heartbeat_fraction_bad")).unwrap();
    fraction.encode_packet(&mut out).unwrap();
    assert!(str::from_utf8(&out[packet::HEADER_BYTES..]).unwrap().contains(r#""heartbeat":30,"#));
}

/// Vectors of parts that are not written yet.
const WAITING: [&str; 1] = ["etcd_server_value"];

#[derive(Deserialize)]
struct Vector {
    name: String,
    layer: String,
    hex: String,
    expect: Option<Value>,
    #[serde(default)]
    reencodes: bool,
}

/// What bytes mean, in the words of the vectors, and the same written again.
struct Found {
    value: Value,
    written: Vec<u8>,
}

impl Found {
    fn refused(why: &str) -> Self {
        Self { value: json!({ "refused": why }), written: Vec::new() }
    }
}

fn packets(bytes: &[u8]) -> Found {
    let (mut input, mut packets, mut written) = (bytes, Vec::new(), Vec::new());
    loop {
        let packet = match packet::decode(&mut input, packet::BODY_BYTES_MAX) {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(PacketError::Kind(_)) => return Found::refused("packet type"),
            Err(PacketError::TooLarge { .. }) => return Found::refused("packet size"),
        };
        let kind = match packet.kind {
            PacketKind::Handshake => "handshake",
            PacketKind::HandshakeAck => "handshake_ack",
            PacketKind::Heartbeat => "heartbeat",
            PacketKind::Data => {
                let Found { value, written: body } = message(packet.body);
                packets.push(json!({ "type": "data", "message": value }));
                packet::encode(packet.kind, &body, &mut written).expect("it came in a packet");
                continue;
            }
            PacketKind::Kick => "kick",
        };
        packets.push(json!({ "type": kind, "body_hex": hex(packet.body) }));
        packet::encode(packet.kind, packet.body, &mut written).expect("it came in a packet");
    }
    let mut value = json!({ "packets": packets });
    if !input.is_empty() {
        value["unfinished_bytes"] = json!(input.len());
    }
    Found { value, written }
}

fn message(bytes: &[u8]) -> Found {
    let message = match Message::decode(bytes) {
        Ok(message) => message,
        Err(MessageError::Id) => return Found::refused("varint"),
        Err(MessageError::Kind(_)) => return Found::refused("type"),
        Err(MessageError::NoRoute) => return Found::refused("no route"),
        Err(MessageError::Route) => return Found::refused("route length"),
        Err(MessageError::Short) => return Found::refused("short"),
    };
    let (mut value, body) = match message {
        Message::Notify { route, body } => (routed("notify", route), body),
        Message::Push { route, body } => (routed("push", route), body),
        Message::Request { id, route, body } => {
            let mut value = routed("request", route);
            value["id"] = json!(id);
            (value, body)
        }
        Message::Response { id, error, body } => {
            (json!({ "type": "response", "id": id, "error": error }), body)
        }
    };
    let mut scratch = Scratch::new();
    let plain = match body.inflate(&mut scratch, 4096) {
        Ok(plain) => plain,
        Err(InflateError::Malformed) => return Found::refused("zlib"),
        Err(InflateError::TooLarge) => return Found::refused("zlib size"),
        Err(InflateError::Truncated) => return Found::refused("zlib end"),
    };
    value["body_hex"] = json!(hex(plain));
    value["zlib"] = json!(matches!(body, Body::Zlib(_)));
    let mut written = Vec::new();
    // A refusal leaves nothing written, which is no vector that is to be written again.
    let _ = message.encode(&mut written);
    Found { value, written }
}

fn routed(kind: &str, route: Route<'_>) -> Value {
    match route {
        Route::Code(code) => json!({ "type": kind, "error": false, "route_code": code }),
        Route::Name(name) => {
            let name = str::from_utf8(name).expect("a name is text");
            json!({ "type": kind, "error": false, "route": name })
        }
    }
}

fn protobuf_again(layer: &str, bytes: &[u8]) -> Vec<u8> {
    fn again<M: prost::Message + Default>(bytes: &[u8]) -> Vec<u8> {
        M::decode(bytes).expect("a recorded message decodes").encode_to_vec()
    }
    match layer {
        "protos.Doc" => again::<protos::Doc>(bytes),
        "protos.DocMsg" => again::<protos::DocMsg>(bytes),
        "protos.Error" => again::<protos::Error>(bytes),
        "protos.KickAnswer" => again::<protos::KickAnswer>(bytes),
        "protos.KickMsg" => again::<protos::KickMsg>(bytes),
        "protos.Msg" => again::<protos::Msg>(bytes),
        "protos.ProtoDescriptors" => again::<protos::ProtoDescriptors>(bytes),
        "protos.ProtoNames" => again::<protos::ProtoNames>(bytes),
        "protos.Push" => again::<protos::Push>(bytes),
        "protos.Request" => again::<protos::Request>(bytes),
        "protos.Response" => again::<protos::Response>(bytes),
        layer => panic!("nothing takes the layer {layer}"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("vectors are written in hex") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
