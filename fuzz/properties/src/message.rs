//! Messages: what decodes is encoded the same way again, and what was encoded decodes.

use arbitrary::{Arbitrary, Unstructured};
use pitaya_proto::dictionary::Dictionary;
use pitaya_proto::message::{Body, EncodeError, Message, ROUTE_BYTES_MAX, Route};
use pitaya_proto::packet::{self, PacketKind};
use pitaya_proto::zlib::Scratch;

use crate::held_at_most;

/// The input is the body of a data packet.
pub fn message_decode(data: &[u8]) {
    let (decoded, allocated) = held_at_most(|| Message::decode(data));
    assert_eq!(allocated, 0, "decoding a message allocates");
    let Ok(message) = decoded else { return };
    let mut out = vec![7];
    let encoded = message.encode(&mut out);
    if matches!(message, Message::Response { id: 0, .. }) {
        assert_eq!((encoded, out), (Err(EncodeError::ResponseToNothing), vec![7]));
        return;
    }
    assert_eq!(encoded, Ok(()));
    let again = &out[1..];
    assert_eq!(Message::decode(again), Ok(message));
    assert_eq!(again == data, is_canonical(data, &message), "{again:02x?} from {data:02x?}");
}

/// The input is read as a message to be sent.
pub fn message_round_trip(data: &[u8]) {
    let Ok(script) = Script::arbitrary(&mut Unstructured::new(data)) else { return };
    let dictionary = Dictionary::new(script.dictionary.iter().copied()).unwrap_or_default();
    for (route, code) in dictionary.iter() {
        assert_eq!((dictionary.code(route), dictionary.route(code)), (Some(code), Some(route)));
    }
    let mut scratch = Scratch::new();
    let code = str::from_utf8(script.route).ok().and_then(|route| dictionary.code(route));
    let route = code.map_or(Route::Name(script.route), Route::Code);
    let mut body = Body::Plain(script.body);
    if script.compresses {
        body = Body::deflate(script.body, &mut scratch);
        assert!(body.bytes().len() <= script.body.len());
    }
    let message = script.message(route, body);
    let mut out = script.before.to_vec();
    let encoded = message.encode_packet(&mut out);
    assert!(out.starts_with(script.before));
    if encoded.is_err() {
        assert!(!script.can_be_carried(route));
        assert_eq!(out, script.before);
        return;
    }
    assert!(script.can_be_carried(route));
    let mut input = &out[script.before.len()..];
    let packet = packet::decode(&mut input, usize::MAX).expect("ours").expect("whole");
    assert_eq!((packet.kind, input), (PacketKind::Data, &[][..]));
    let decoded = Message::decode(packet.body);
    assert_eq!(decoded, Ok(message));
    let received = body_of(decoded.expect("just compared")).bytes().to_vec();
    let received = match body {
        Body::Plain(_) => Body::Plain(&received),
        Body::Zlib(_) => Body::Zlib(&received),
    };
    assert_eq!(received.inflate(&mut Scratch::new(), script.body.len()), Ok(script.body));
}

#[derive(Arbitrary, Debug)]
struct Script<'a> {
    kind: Kind,
    id: u64,
    error: bool,
    compresses: bool,
    before: &'a [u8],
    dictionary: Vec<(&'a str, u16)>,
    route: &'a [u8],
    body: &'a [u8],
}

#[derive(Arbitrary, Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Notify,
    Push,
    Request,
    Response,
}

impl Script<'_> {
    fn message<'m>(&self, route: Route<'m>, body: Body<'m>) -> Message<'m> {
        let (id, error) = (self.id, self.error);
        match self.kind {
            Kind::Notify => Message::Notify { route, body },
            Kind::Push => Message::Push { route, body },
            Kind::Request => Message::Request { id, route, body },
            Kind::Response => Message::Response { id, error, body },
        }
    }

    fn can_be_carried(&self, route: Route<'_>) -> bool {
        match (self.kind, route) {
            (Kind::Response, _) => self.id != 0,
            (_, Route::Code(_)) => true,
            (_, Route::Name(name)) => name.len() <= ROUTE_BYTES_MAX,
        }
    }
}

/// Whether the bytes are the shortest that mean the message, without a flag that means nothing.
fn is_canonical(bytes: &[u8], message: &Message<'_>) -> bool {
    let (meaningless, id) = match *message {
        Message::Notify { .. } | Message::Push { .. } => (0xe0, None),
        Message::Request { id, .. } => (0xe0, Some(id)),
        Message::Response { id, .. } => (0xc1, Some(id)),
    };
    let id_is_shortest = id.is_none_or(|id| {
        let bits = u64::BITS - id.leading_zeros();
        let shortest = bits.div_ceil(7).max(1) as usize;
        bytes.iter().skip(1).position(|byte| *byte < 0x80).is_some_and(|at| at + 1 == shortest)
    });
    bytes[0] & meaningless == 0 && id_is_shortest
}

fn body_of(message: Message<'_>) -> Body<'_> {
    match message {
        Message::Notify { body, .. }
        | Message::Push { body, .. }
        | Message::Request { body, .. }
        | Message::Response { body, .. } => body,
    }
}
