//! A call between servers as it is sent, without copying its parts first.

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

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
    use crate::protos::{Msg, Request};

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..300)
    }

    fn any_session() -> impl Strategy<Value = Option<Session>> {
        let session = (any::<i64>(), ".{0,3}", any_bytes());
        let session = session.prop_map(|(id, uid, data)| Session { id, uid, data: data.into() });
        prop::option::of(session)
    }

    proptest! {
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
            prop_assert_eq!(bytes.capacity(), bytes.len());
            let (r#type, route) = (msg_type.into(), route.clone());
            let msg = Msg { id, route, data: data.clone().into(), reply: String::new(), r#type };
            let owned = Request {
                r#type: rpc_type.into(), session: session.clone(), msg: Some(msg),
                frontend_id: frontend_id.clone(), metadata: metadata.clone().into(),
            };
            prop_assert_eq!(bytes, owned.encode_to_vec());
        }
    }
}
