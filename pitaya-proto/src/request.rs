//! Calls between servers as they are sent and read, without copying their parts.
//!
//! What `prost` generates owns all parts of a message, which costs as much as the rest of a call.
//! Its `encoding` is for generated code and may change: a test compares each message with it.

use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint,
    encoded_len_varint, key_len, skip_field,
};
use prost::{DecodeError, Message as _};

use crate::protos::{MsgType, RpcType, Session};

/// A [`Request`](crate::protos::Request) whose parts belong to others.
///
/// ```
/// use pitaya_proto::protos::{MsgType, Request, RpcType};
/// use pitaya_proto::request::RequestRef;
/// use prost::Message;
///
/// let request = RequestRef {
///     rpc_type: RpcType::User,
///     session: None,
///     id: 0,
///     route: "score.scores.add",
///     data: b"7",
///     msg_type: MsgType::MsgRequest,
///     frontend_id: "gate-1",
///     metadata: b"",
/// };
/// let decoded = Request::decode(&*request.encode_to_vec())?;
/// assert_eq!(decoded.frontend_id, "gate-1");
/// # Ok::<(), prost::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RequestRef<'a> {
    /// Who it comes from.
    pub rpc_type: RpcType,
    /// The session of the client; absent in calls between servers alone.
    pub session: Option<&'a Session>,
    /// The client's id of the request; zero for a notify.
    pub id: u64,
    /// The handler or remote meant.
    pub route: &'a str,
    /// Its argument, serialised.
    pub data: &'a [u8],
    /// What the message is.
    pub msg_type: MsgType,
    /// The server that holds the client.
    pub frontend_id: &'a str,
    /// A JSON object, or nothing.
    pub metadata: &'a [u8],
}

impl RequestRef<'_> {
    /// The bytes of the `Request`.
    pub fn encode_to_vec(&self) -> Vec<u8> {
        let session = self.session.map(Session::encoded_len);
        let msg = self.msg_len();
        let parts = session.map_or(0, |bytes| part_len(SESSION, bytes)) + part_len(MSG, msg);
        let ends = bytes_len(FRONTEND_ID, self.frontend_id.as_bytes())
            + bytes_len(METADATA, self.metadata);
        let rpc_type = self.rpc_type as u64;
        let mut out = Vec::with_capacity(number_len(RPC_TYPE, rpc_type) + parts + ends);
        put_number(RPC_TYPE, rpc_type, &mut out);
        if let (Some(session), Some(bytes)) = (self.session, session) {
            put_head(SESSION, bytes, &mut out);
            session.encode_raw(&mut out);
        }
        put_head(MSG, msg, &mut out);
        put_number(ID, self.id, &mut out);
        put_bytes(ROUTE, self.route.as_bytes(), &mut out);
        put_bytes(DATA, self.data, &mut out);
        put_number(MSG_TYPE, self.msg_type as u64, &mut out);
        put_bytes(FRONTEND_ID, self.frontend_id.as_bytes(), &mut out);
        put_bytes(METADATA, self.metadata, &mut out);
        out
    }

    fn msg_len(&self) -> usize {
        number_len(ID, self.id)
            + bytes_len(ROUTE, self.route.as_bytes())
            + bytes_len(DATA, self.data)
            + number_len(MSG_TYPE, self.msg_type as u64)
    }
}

/// What a server asks of another for itself, as far as the other has to know, in the bytes of a
/// [`Request`](crate::protos::Request).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Asked<'a> {
    /// Who it comes from, as a number of [`RpcType`].
    pub rpc_type: i32,
    /// The remote meant; nothing if there is no message.
    pub route: Option<&'a str>,
    /// Its argument, serialised.
    pub data: &'a [u8],
    /// A JSON object, or nothing.
    pub metadata: &'a [u8],
}

impl<'a> Asked<'a> {
    /// Reads a `Request`, and leaves unread what only matters if a session asks.
    ///
    /// # Errors
    ///
    /// Bytes that are no such message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut asked = Self::default();
        read(bytes, |tag, value| {
            match (tag, value) {
                (RPC_TYPE, Value::Number(number)) => asked.rpc_type = number as i32,
                (MSG, Value::Bytes(msg)) => asked.read_msg(msg)?,
                (METADATA, Value::Bytes(metadata)) => asked.metadata = metadata,
                (RPC_TYPE | MSG | METADATA, _) => return Err(Malformed),
                _ => {}
            }
            Ok(())
        })?;
        Ok(asked)
    }

    /// Only who a `Request` comes from, as a number of [`RpcType`].
    ///
    /// # Errors
    ///
    /// Bytes that are no message.
    pub fn rpc_type_of(bytes: &[u8]) -> Result<i32, Malformed> {
        let mut rpc_type = 0;
        read(bytes, |tag, value| {
            match (tag, value) {
                (RPC_TYPE, Value::Number(number)) => rpc_type = number as i32,
                (RPC_TYPE, _) => return Err(Malformed),
                _ => {}
            }
            Ok(())
        })?;
        Ok(rpc_type)
    }

    fn read_msg(&mut self, msg: &'a [u8]) -> Result<(), Malformed> {
        let route = self.route.get_or_insert_default();
        read(msg, |tag, value| {
            match (tag, value) {
                (ROUTE, Value::Bytes(name)) => *route = str::from_utf8(name)?,
                (DATA, Value::Bytes(data)) => self.data = data,
                (ROUTE | DATA, _) => return Err(Malformed),
                _ => {}
            }
            Ok(())
        })
    }
}

/// The bytes of a [`Response`](crate::protos::Response) with `data` and no error.
pub fn encode_reply(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes_len(REPLY_DATA, data));
    put_bytes(REPLY_DATA, data, &mut out);
    out
}

/// The data of a `Response`; nothing if it is an error, which needs all of it to be read.
///
/// # Errors
///
/// Bytes that are no message.
pub fn decode_reply(bytes: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let (mut reply, mut is_error) = (&[][..], false);
    read(bytes, |tag, value| {
        match (tag, value) {
            (REPLY_DATA, Value::Bytes(data)) => reply = data,
            (REPLY_DATA, _) => return Err(Malformed),
            (REPLY_ERROR, _) => is_error = true,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Some(reply).filter(|_| !is_error))
}

/// Bytes that are no such message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("malformed message")]
pub struct Malformed;

impl From<DecodeError> for Malformed {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

impl From<std::str::Utf8Error> for Malformed {
    fn from(_: std::str::Utf8Error) -> Self {
        Self
    }
}

/// A field of a message.
enum Value<'a> {
    Bytes(&'a [u8]),
    Number(u64),
    /// No field of ours has such a one.
    Other,
}

/// Goes through the fields of a message.
fn read<'a>(
    mut bytes: &'a [u8], mut take: impl FnMut(u32, Value<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        let value = match wire_type {
            WireType::Varint => Value::Number(decode_varint(&mut bytes)?),
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut bytes)?).map_err(|_| Malformed)?;
                Value::Bytes(bytes.split_off(..len).ok_or(Malformed)?)
            }
            WireType::EndGroup
            | WireType::SixtyFourBit
            | WireType::StartGroup
            | WireType::ThirtyTwoBit => {
                skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
                Value::Other
            }
        };
        take(tag, value)?;
    }
    Ok(())
}

// The tags of `Request`.
const RPC_TYPE: u32 = 1;
const SESSION: u32 = 2;
const MSG: u32 = 3;
const FRONTEND_ID: u32 = 4;
const METADATA: u32 = 5;

// Those of `Msg`.
const ID: u32 = 1;
const ROUTE: u32 = 2;
const DATA: u32 = 3;
const MSG_TYPE: u32 = 5;

// Those of `Response`.
const REPLY_DATA: u32 = 1;
const REPLY_ERROR: u32 = 2;

fn part_len(tag: u32, bytes: usize) -> usize {
    key_len(tag) + encoded_len_varint(bytes as u64) + bytes
}

// What has its default is left out, as everywhere in proto3.

fn bytes_len(tag: u32, bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { part_len(tag, bytes.len()) }
}

fn number_len(tag: u32, number: u64) -> usize {
    if number == 0 { 0 } else { key_len(tag) + encoded_len_varint(number) }
}

fn put_head(tag: u32, bytes: usize, out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes as u64, out);
}

fn put_bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        put_head(tag, bytes.len(), out);
        out.extend_from_slice(bytes);
    }
}

fn put_number(tag: u32, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(number, out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protos::{Msg, Request, Response};

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..300)
    }

    fn any_session() -> impl Strategy<Value = Option<Session>> {
        let session = (any::<i64>(), ".{0,3}", any_bytes());
        let session = session.prop_map(|(id, uid, data)| Session { id, uid, data: data.into() });
        prop::option::of(session)
    }

    /// Bytes that are almost messages.
    fn any_fields() -> impl Strategy<Value = Vec<u8>> {
        let field = (0..7_u8, 0..6_u8, prop::collection::vec(any::<u8>(), 0..6));
        let field = field.prop_map(|(tag, wire_type, value)| {
            let mut field = vec![tag << 3 | wire_type];
            if wire_type == 2 {
                field.push(value.len() as u8);
            }
            field.extend(value);
            field
        });
        prop::collection::vec(field, 0..5).prop_map(|fields| fields.concat())
    }

    fn asked(request: &Request) -> Asked<'_> {
        let msg = request.msg.as_ref();
        Asked {
            rpc_type: request.r#type,
            route: msg.map(|msg| &*msg.route),
            data: msg.map(|msg| &*msg.data).unwrap_or_default(),
            metadata: &request.metadata,
        }
    }

    proptest! {
        #[test]
        fn whatever_the_message_is_read_as_is_asked(
            bytes in prop_oneof![any_bytes(), any_fields()], msg in any_fields(),
        ) {
            let mut bytes = bytes;
            put_bytes(MSG, &msg, &mut bytes);
            if let Ok(request) = Request::decode(&*bytes) {
                prop_assert_eq!(Asked::decode(&bytes), Ok(asked(&request)));
                prop_assert_eq!(Asked::rpc_type_of(&bytes), Ok(request.r#type));
            }
        }

        #[test]
        fn a_reply_is_read_as_what_it_is_written_as(
            data in any_bytes(), bytes in prop_oneof![any_bytes(), any_fields()],
        ) {
            let response = Response { data: data.clone().into(), error: None };
            let reply = encode_reply(&data);
            prop_assert_eq!(decode_reply(&reply), Ok(Some(&*data)));
            prop_assert_eq!(reply, response.encode_to_vec());
            if let Ok(response) = Response::decode(&*bytes) {
                let reply = response.error.is_none().then_some(&*response.data);
                prop_assert_eq!(decode_reply(&bytes), Ok(reply));
            }
        }

        #[test]
        fn its_bytes_are_those_of_the_message(
            (is_user, is_notify) in any::<(bool, bool)>(), session in any_session(),
            id in prop_oneof![Just(0), any::<u64>()], texts in (".{0,200}", ".{0,3}"),
            (data, metadata) in (any_bytes(), any_bytes()),
        ) {
            let (route, frontend_id) = texts;
            let rpc_type = if is_user { RpcType::User } else { RpcType::Sys };
            let msg_type = if is_notify { MsgType::MsgNotify } else { MsgType::MsgRequest };
            let borrowed = RequestRef {
                rpc_type, session: session.as_ref(), id, route: &route, data: &data, msg_type,
                frontend_id: &frontend_id, metadata: &metadata,
            };
            let bytes = borrowed.encode_to_vec();
            let (r#type, route) = (msg_type.into(), route.clone());
            let msg = Msg { id, route, data: data.clone().into(), reply: String::new(), r#type };
            let owned = Request {
                r#type: rpc_type.into(), session: session.clone(), msg: Some(msg),
                frontend_id: frontend_id.clone(), metadata: metadata.clone().into(),
            };
            prop_assert_eq!(Asked::decode(&bytes), Ok(asked(&owned)));
            prop_assert_eq!(bytes, owned.encode_to_vec());
        }
    }
}
