//! How values become bytes: the codec belongs to the application and is named in the handshake.

use std::any::Any;

use bytes::Bytes;
use pitaya_proto::error::{self, Error};
use pitaya_proto::message;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A way to write values, by the name that clients are told.
///
/// An application brings its own by implementing this, [`Decode`] and [`Encode`].
pub trait Codec: Send + Sync + 'static {
    /// The name in the handshake.
    const NAME: &'static str;

    /// The body of an error reply. Clients of this codec have to understand it.
    fn encode_error(error: &Error) -> Vec<u8>;

    /// Reads what [`encode_error`](Self::encode_error) wrote, for a server that passes it on to
    /// another. By default it is read as JSON.
    fn decode_error(body: &[u8]) -> Error {
        Error::from_json(body)
    }
}

/// A codec that reads `T`.
#[diagnostic::on_unimplemented(
    message = "the codec `{Self}` cannot read a `{T}`",
    note = "for `Json` derive `serde::Deserialize`, for `Protobuf` derive `prost::Message`"
)]
pub trait Decode<T>: Codec {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// PIT-400 with a text for the caller.
    fn decode(body: &[u8]) -> Result<T, Error>;
}

/// A codec that writes `T`.
#[diagnostic::on_unimplemented(
    message = "the codec `{Self}` cannot write a `{T}`",
    note = "for `Json` derive `serde::Serialize`, for `Protobuf` derive `prost::Message`"
)]
pub trait Encode<T>: Codec {
    /// Writes a body.
    ///
    /// # Errors
    ///
    /// A value that cannot be written.
    fn encode(value: &T) -> Result<Vec<u8>, Error>;
}

/// JSON, as Pitaya's `json` serializer; the default.
#[derive(Clone, Copy, Debug)]
pub struct Json;

/// Protocol buffers, as Pitaya's `protobuf` serializer.
#[derive(Clone, Copy, Debug)]
pub struct Protobuf;

impl Codec for Json {
    const NAME: &'static str = "json";

    fn encode_error(error: &Error) -> Vec<u8> {
        error.to_json()
    }
}

impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(body: &[u8]) -> Result<T, Error> {
        if body.is_empty() {
            return Err(error::JSON_EMPTY.into());
        }
        // Text that is known to be text is read faster: its strings are not looked at one by one.
        let read = std::str::from_utf8(body).map(serde_json::from_str);
        read.unwrap_or_else(|_| serde_json::from_slice(body))
            .map_err(|why| Error::bad_request(why.to_string()))
    }
}

impl<T: Serialize> Encode<T> for Json {
    fn encode(value: &T) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(value).map_err(|why| Error::unknown(why.to_string()))
    }
}

impl Codec for Protobuf {
    const NAME: &'static str = "protobuf";

    fn encode_error(error: &Error) -> Vec<u8> {
        error.to_protobuf()
    }

    fn decode_error(body: &[u8]) -> Error {
        Error::from_protobuf(body)
    }
}

impl<T: prost::Message + Default> Decode<T> for Protobuf {
    fn decode(body: &[u8]) -> Result<T, Error> {
        T::decode(body).map_err(|why| Error::bad_request(why.to_string()))
    }
}

impl<T: prost::Message> Encode<T> for Protobuf {
    fn encode(value: &T) -> Result<Vec<u8>, Error> {
        Ok(value.encode_to_vec())
    }
}

/// Writes the body of a push with the codec, but for [`Bytes`], which are sent as they are.
pub(crate) fn encode_push<C: Encode<T>, T: 'static>(
    route: &str, value: &T,
) -> Result<Vec<u8>, Error> {
    let raw = (value as &dyn Any).downcast_ref::<Bytes>();
    let body = raw.map_or_else(|| C::encode(value), |raw| Ok(raw.to_vec()))?;
    message::check_push(route, body.len())?;
    Ok(body)
}

/// The same for a value that is not needed any more: bytes that nobody shares are not copied.
pub(crate) fn encode_owned<C: Encode<T>, T: 'static>(value: T) -> Result<Vec<u8>, Error> {
    let mut value = Some(value);
    let any: &mut dyn Any = &mut value;
    match any.downcast_mut::<Option<Bytes>>().and_then(Option::take) {
        Some(raw) => Ok(raw.into()),
        None => C::encode(&value.expect("only raw bytes are taken out")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_pass_every_codec_unchanged() {
        let raw = raw();
        assert_eq!(encode_push::<Json, _>("on", &raw), Ok(raw.to_vec()));
        assert_eq!(encode_owned::<Protobuf, _>(raw.clone()), Ok(raw.to_vec()));
    }

    #[test]
    fn a_push_that_no_packet_can_hold_is_refused() {
        let most = Bytes::from(vec![0; (1 << 24) - 1 - 2 - 255]);
        let (longest, too_long) = ("r".repeat(255), "r".repeat(256));
        assert!(encode_push::<Json, _>(&longest, &most).is_ok());
        let more = Bytes::from([&most[..], b"1"].concat());
        let code = |refused: Result<Vec<u8>, Error>| refused.unwrap_err().code;
        assert_eq!(code(encode_push::<Json, _>(&longest, &more)), "PIT-413");
        assert_eq!(code(encode_push::<Json, _>(&too_long, &raw())), "PIT-400");
    }

    fn raw() -> Bytes {
        Bytes::from_static(b"\x00raw")
    }

    #[test]
    fn an_argument_that_is_no_json_is_a_bad_request() {
        let empty: Result<u32, _> = Json::decode(b"");
        assert_eq!(empty, Err(Error::bad_request("unexpected end of JSON input")));
        let wrong: Result<u32, _> = Json::decode(b"{}");
        assert_eq!(wrong.unwrap_err().code, "PIT-400");
    }
}
