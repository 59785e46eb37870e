//! Messages, the bodies of data packets: a flag byte, an id, a route and a body.

use thiserror::Error;

use crate::packet::{self, BODY_BYTES_MAX, PacketKind, TooLarge};
use crate::zlib::{InflateError, Scratch};

/// One message, borrowed from the packet it came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message<'a> {
    /// From a client, without an answer.
    Notify {
        /// The handler meant.
        route: Route<'a>,
        /// Its argument.
        body: Body<'a>,
    },
    /// From a server, unasked.
    Push {
        /// The subscription meant.
        route: Route<'a>,
        /// What is told.
        body: Body<'a>,
    },
    /// From a client, to be answered by a response with the same id.
    Request {
        /// Chosen by the client. Zero can be sent but never answered.
        id: u64,
        /// The handler meant.
        route: Route<'a>,
        /// Its argument.
        body: Body<'a>,
    },
    /// From a server, the answer to a request.
    Response {
        /// The id of the request.
        id: u64,
        /// Whether the body is an error instead of a reply.
        error: bool,
        /// The reply or the error.
        body: Body<'a>,
    },
}

/// A route as the wire carries it; only the route table says whether it exists.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Route<'a> {
    /// A code of the dictionary.
    Code(u16),
    /// At most [`ROUTE_BYTES_MAX`] bytes, of any value.
    Name(&'a [u8]),
}

/// A body as the wire carries it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Body<'a> {
    /// The body itself.
    Plain(&'a [u8]),
    /// A zlib stream of it, not yet looked at.
    Zlib(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Reads the body of a data packet.
    ///
    /// Bits of the flag byte that mean nothing for the kind are ignored, as in Go.
    ///
    /// # Errors
    ///
    /// Whatever Go refuses, and ids that Go would misread; the connection is to be closed.
    #[inline(always)]
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MessageError> {
        if bytes.len() < MESSAGE_BYTES_MIN {
            return Err(MessageError::Short);
        }
        let Some((&flag, rest)) = bytes.split_first() else { return Err(MessageError::Short) };
        match flag & KIND {
            REQUEST => {
                let (id, rest) = decode_id(rest)?;
                let (route, rest) = Route::decode(flag, rest)?;
                Ok(Message::Request { id, route, body: Body::decode(flag, rest) })
            }
            NOTIFY => {
                let (route, rest) = Route::decode(flag, rest)?;
                Ok(Message::Notify { route, body: Body::decode(flag, rest) })
            }
            RESPONSE => {
                let (id, rest) = decode_id(rest)?;
                let error = flag & ERROR != 0;
                Ok(Message::Response { id, error, body: Body::decode(flag, rest) })
            }
            PUSH => {
                let (route, rest) = Route::decode(flag, rest)?;
                Ok(Message::Push { route, body: Body::decode(flag, rest) })
            }
            kind => Err(MessageError::Kind(kind >> 1)),
        }
    }

    /// Appends the message to `out`, without a packet around it.
    ///
    /// # Errors
    ///
    /// What the wire cannot carry; `out` is left as it was.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let (flag, id, route, body) = match *self {
            Message::Notify { route, body } => (NOTIFY, None, Some(route), body),
            Message::Push { route, body } => (PUSH, None, Some(route), body),
            Message::Request { id, route, body } => (REQUEST, Some(id), Some(route), body),
            Message::Response { id: 0, .. } => return Err(EncodeError::ResponseToNothing),
            Message::Response { id, error: false, body } => (RESPONSE, Some(id), None, body),
            Message::Response { id, error: true, body } => (RESPONSE | ERROR, Some(id), None, body),
        };
        let (code, length, name) = match &route {
            None => (0, None, &[][..]),
            Some(Route::Code(code)) => (CODE, None, &code.to_be_bytes()[..]),
            Some(Route::Name(name)) => {
                let too_long = |_| EncodeError::RouteTooLong(name.len());
                (0, Some(u8::try_from(name.len()).map_err(too_long)?), *name)
            }
        };
        let zlib = if matches!(body, Body::Zlib(_)) { ZLIB } else { 0 };
        out.reserve(HEAD_BYTES_MAX + name.len() + body.bytes().len());
        out.push(flag | code | zlib);
        if let Some(id) = id {
            encode_id(id, out);
        }
        out.extend(length);
        out.extend_from_slice(name);
        out.extend_from_slice(body.bytes());
        Ok(())
    }

    /// Appends the data packet that holds this message.
    ///
    /// # Errors
    ///
    /// What the wire cannot carry; `out` is left as it was.
    #[inline]
    pub fn encode_packet(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        packet::encode_with(PacketKind::Data, out, |out| self.encode(out))
    }
}

/// Whether a push of that route, by name, and with a body of so many bytes fits a packet.
///
/// # Errors
///
/// What the wire cannot carry.
pub fn check_push(route: &str, body_bytes: usize) -> Result<(), EncodeError> {
    let bytes = PUSH_HEAD_BYTES + route.len() + body_bytes;
    match route.len() {
        ..=ROUTE_BYTES_MAX if bytes <= BODY_BYTES_MAX => Ok(()),
        ..=ROUTE_BYTES_MAX => Err(TooLarge(bytes).into()),
        long => Err(EncodeError::RouteTooLong(long)),
    }
}

impl<'a> Route<'a> {
    #[inline]
    fn decode(flag: u8, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), MessageError> {
        let cut_short = if bytes.is_empty() { MessageError::NoRoute } else { MessageError::Route };
        if flag & CODE != 0 {
            let (code, rest) = bytes.split_first_chunk().ok_or(cut_short)?;
            return Ok((Route::Code(u16::from_be_bytes(*code)), rest));
        }
        let (&route_bytes, rest) = bytes.split_first().ok_or(cut_short)?;
        let (name, rest) = rest.split_at_checked(usize::from(route_bytes)).ok_or(cut_short)?;
        Ok((Route::Name(name), rest))
    }
}

impl<'a> Body<'a> {
    /// The shorter form of `plain`; trying costs a pass of the compressor.
    pub fn deflate(plain: &'a [u8], scratch: &'a mut Scratch) -> Self {
        scratch.deflate(plain).map_or(Body::Plain(plain), Body::Zlib)
    }

    /// The body itself. A plain one is returned as it is, whatever its length.
    ///
    /// # Errors
    ///
    /// Bytes that are not a whole zlib stream of at most `bytes_max` bytes.
    pub fn inflate<'b>(
        self, scratch: &'b mut Scratch, bytes_max: usize,
    ) -> Result<&'b [u8], InflateError>
    where
        'a: 'b,
    {
        match self {
            Body::Plain(bytes) => Ok(bytes),
            Body::Zlib(bytes) => scratch.inflate(bytes, bytes_max),
        }
    }

    /// The bytes on the wire, in whichever form.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Body::Plain(bytes) | Body::Zlib(bytes) => bytes,
        }
    }

    #[inline]
    fn decode(flag: u8, bytes: &'a [u8]) -> Self {
        if flag & ZLIB == 0 { Body::Plain(bytes) } else { Body::Zlib(bytes) }
    }
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum MessageError {
    /// The id does not end, or is longer than 64 bits.
    #[error("invalid message: id without end")]
    Id,
    /// One of the four kinds that nobody uses.
    #[error("wrong message type {0}")]
    Kind(u8),
    /// A request that ends behind its id.
    #[error("invalid message: no route")]
    NoRoute,
    /// The route ends behind the message.
    #[error("invalid message: route cut short")]
    Route,
    /// Fewer than two bytes.
    #[error("invalid message: fewer than two bytes")]
    Short,
}

/// A message that the wire cannot carry.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum EncodeError {
    /// Clients take a response with id 0 for a push without a route.
    #[error("a response needs the id of a request")]
    ResponseToNothing,
    /// One byte tells the length of a route.
    #[error("route of {0} bytes, at most {ROUTE_BYTES_MAX} fit a message")]
    RouteTooLong(usize),
    /// The packet around the message would not hold it.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// The longest name of a route.
pub const ROUTE_BYTES_MAX: usize = u8::MAX as usize;

/// Few connections live for more than two million requests, so three bytes are the common case.
#[inline]
fn decode_id(bytes: &[u8]) -> Result<(u64, &[u8]), MessageError> {
    match bytes {
        [byte @ ..0x80, rest @ ..] => Ok((u64::from(*byte), rest)),
        [low, high @ ..0x80, rest @ ..] => {
            Ok((u64::from(low & 0x7f) | u64::from(*high) << 7, rest))
        }
        [low, middle, high @ ..0x80, rest @ ..] => {
            let low = u64::from(low & 0x7f) | u64::from(middle & 0x7f) << 7;
            Ok((low | u64::from(*high) << 14, rest))
        }
        _ => decode_long_id(bytes),
    }
}

fn decode_long_id(mut bytes: &[u8]) -> Result<(u64, &[u8]), MessageError> {
    let (mut id, mut shift) = (0, 0);
    while let Some((&byte, rest)) = bytes.split_first() {
        // Nine groups make 63 bits, so the tenth has one left.
        if shift == ID_LAST_SHIFT && byte > 1 {
            return Err(MessageError::Id);
        }
        id |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((id, rest));
        }
        (shift, bytes) = (shift + 7, rest);
    }
    Err(MessageError::Id)
}

fn encode_id(mut id: u64, out: &mut Vec<u8>) {
    while id >= 0x80 {
        out.push(id as u8 | 0x80);
        id >>= 7;
    }
    out.push(id as u8);
}

/// The flag, and at least one byte of an id or a route.
const MESSAGE_BYTES_MIN: usize = 2;
const CODE: u8 = 0x01;
const KIND: u8 = 0x0e;
const ZLIB: u8 = 0x10;
const ERROR: u8 = 0x20;

const REQUEST: u8 = 0 << 1;
const NOTIFY: u8 = 1 << 1;
const RESPONSE: u8 = 2 << 1;
const PUSH: u8 = 3 << 1;

const ID_LAST_SHIFT: u32 = 63;
/// Flag, length of the route.
const PUSH_HEAD_BYTES: usize = 2;
/// Flag, longest id, length of the route.
const HEAD_BYTES_MAX: usize = 1 + 10 + 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unused_flag_bits_are_ignored() {
        let notify = Message::Notify { route: Route::Name(b"a"), body: Body::Plain(b"") };
        assert_eq!(Message::decode(&[0xc2, 1, b'a']), Ok(notify));
        assert_eq!(Message::decode(&[0x22, 1, b'a']), Ok(notify));
        let response = Message::Response { id: 1, error: false, body: Body::Plain(b"") };
        assert_eq!(Message::decode(&[0x05, 1]), Ok(response));
    }

    #[test]
    fn each_refusal_names_its_reason() {
        for (bytes, refused) in [
            (&b""[..], MessageError::Short),
            (b"\x00", MessageError::Short),
            (b"\x0e", MessageError::Short),
            (b"\x0e\x01", MessageError::Kind(7)),
            (b"\x08\x01", MessageError::Kind(4)),
            (b"\x00\x01", MessageError::NoRoute),
            (b"\x01\x01", MessageError::NoRoute),
            (b"\x01\x01\x00", MessageError::Route),
            (b"\x03\x00", MessageError::Route),
            (b"\x02\x05a", MessageError::Route),
            (b"\x00\xff\xff", MessageError::Id),
            (b"\x04\x80", MessageError::Id),
            (b"\x04\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", MessageError::Id),
            (b"\x04\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", MessageError::Id),
        ] {
            assert_eq!(Message::decode(bytes), Err(refused), "{bytes:02x?}");
        }
    }

    #[test]
    fn the_largest_id_takes_ten_bytes() {
        let response = Message::Response { id: u64::MAX, error: true, body: Body::Plain(b"x") };
        let mut out = Vec::new();
        response.encode(&mut out).unwrap();
        assert_eq!(out, b"\x24\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x");
        assert_eq!(Message::decode(&out), Ok(response));
    }

    #[test]
    fn what_the_wire_cannot_carry_is_refused_and_leaves_no_trace() {
        let mut out = vec![9];
        let name = [b'r'; 256];
        let push = Message::Push { route: Route::Name(&name), body: Body::Plain(b"") };
        let refused = Err(EncodeError::RouteTooLong(256));
        assert_eq!(push.encode(&mut out), refused);
        assert_eq!(push.encode_packet(&mut out), refused);
        let response = Message::Response { id: 0, error: false, body: Body::Plain(b"") };
        assert_eq!(response.encode(&mut out), Err(EncodeError::ResponseToNothing));
        let body = vec![0; BODY_BYTES_MAX];
        let response = Message::Response { id: 1, error: false, body: Body::Plain(&body) };
        let refused = TooLarge(BODY_BYTES_MAX + 2);
        assert_eq!(response.encode_packet(&mut out), Err(EncodeError::TooLarge(refused)));
        assert_eq!(out, [9]);
    }

    #[test]
    fn a_body_is_deflated_only_when_that_makes_it_shorter() {
        let mut scratch = Scratch::new();
        assert_eq!(Body::deflate(b"short", &mut scratch), Body::Plain(b"short"));
        let long = [b'a'; 300];
        let Body::Zlib(bytes) = Body::deflate(&long, &mut scratch) else { panic!("not shorter") };
        let bytes = bytes.to_vec();
        assert_eq!(Body::Zlib(&bytes).inflate(&mut scratch, 300), Ok(&long[..]));
        assert_eq!(Body::Zlib(&bytes).inflate(&mut scratch, 299), Err(InflateError::TooLarge));
        assert_eq!(Body::Plain(&long).inflate(&mut scratch, 299), Ok(&long[..]));
    }

    /// Whether the bytes are what [`Message::encode`] would write for what they mean.
    fn is_canonical(bytes: &[u8], message: &Message<'_>) -> bool {
        let ignored = match message {
            Message::Notify { .. } | Message::Push { .. } | Message::Request { .. } => ERROR,
            Message::Response { .. } => CODE,
        };
        let id_bytes = match *message {
            Message::Request { id, .. } | Message::Response { id, .. } => {
                let shortest = (u64::BITS - (id | 1).leading_zeros()).div_ceil(7) as usize;
                let found = bytes[1..].iter().position(|byte| *byte < 0x80);
                found.is_some_and(|found| found + 1 == shortest)
            }
            Message::Notify { .. } | Message::Push { .. } => true,
        };
        bytes[0] & (0xc0 | ignored) == 0
            && id_bytes
            && !matches!(message, Message::Response { id: 0, .. })
    }

    /// Of every length, none of them zero.
    fn ids() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64_u32).prop_map(|(id, bits)| (id >> bits).max(1))
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            kind in 0..4,
            id in ids(),
            (code, zlib, error) in any::<(Option<u16>, bool, bool)>(),
            name in prop::collection::vec(any::<u8>(), 0..=255),
            body in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let route = code.map_or(Route::Name(&name), Route::Code);
            let body = if zlib { Body::Zlib(&body) } else { Body::Plain(&body) };
            let message = match kind {
                0 => Message::Request { id, route, body },
                1 => Message::Notify { route, body },
                2 => Message::Response { id, error, body },
                _ => Message::Push { route, body },
            };
            let mut out = Vec::new();
            message.encode(&mut out).unwrap();
            prop_assert_eq!(Message::decode(&out), Ok(message));
        }

        #[test]
        fn canonical_bytes_come_out_as_they_went_in(
            flag in 0..0x40_u8,
            rest in prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..14),
        ) {
            let bytes = [&[flag][..], &rest].concat();
            if let Ok(message) = Message::decode(&bytes) {
                let mut out = Vec::new();
                let encoded = message.encode(&mut out);
                if is_canonical(&bytes, &message) {
                    prop_assert_eq!(encoded, Ok(()));
                    prop_assert_eq!(out, bytes);
                } else {
                    prop_assert!(encoded.is_err() || out != bytes);
                }
            }
        }
    }
}
