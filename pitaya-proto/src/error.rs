//! Errors as clients see them: a code, a text and metadata.

mod go;
mod table;

pub use go::duration;
pub use table::*;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prost::Message as _;
use serde::Serialize;
use serde_json::Value;

use crate::message::EncodeError;
use crate::protos;

/// An error that a handler returns, or the framework in its place.
///
/// ```
/// use pitaya_proto::error::Error;
///
/// let error = Error::new("SHOP-7", "too expensive").with_metadata("price", "300");
/// let json = br#"{"code":"SHOP-7","msg":"too expensive","metadata":{"price":"300"}}"#;
/// assert_eq!(error.to_json(), json);
/// ```
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Error {
    /// What programs look at; the framework's own begin with `PIT-`.
    pub code: Cow<'static, str>,
    /// What people look at.
    pub msg: Cow<'static, str>,
    /// Details for programs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Error {
    /// Without metadata.
    pub fn new(code: impl Into<Cow<'static, str>>, msg: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), msg: msg.into(), metadata: BTreeMap::new() }
    }

    /// With one detail more, or another value for one it had.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// PIT-000: an error that has only a text.
    pub fn unknown(msg: impl Into<Cow<'static, str>>) -> Self {
        Self::new(UNKNOWN, msg)
    }

    /// PIT-400: the argument or the route means nothing.
    pub fn bad_request(msg: impl Into<Cow<'static, str>>) -> Self {
        Self::new(BAD_REQUEST, msg)
    }

    /// PIT-404: `route` is the full one, the kind of server included.
    pub fn handler_not_found(route: &str) -> Self {
        Self::new(NOT_FOUND, format!("pitaya/handler: {route} not found"))
    }

    /// PIT-408: the handler of `route` took longer than it may.
    pub fn request_timeout(route: &str, timeout: Duration) -> Self {
        Self::from(REQUEST_TIMEOUT)
            .with_metadata("route", route)
            .with_metadata("timeout", duration(timeout))
    }

    /// Go's JSON, except that `code` and `msg` are there even when empty: Unity fails
    /// without them.
    pub fn to_json(&self) -> Vec<u8> {
        go::json(self)
    }

    /// Reads the body of an error response; one that is no error object becomes the text of an
    /// unknown error, and values that are no text become their JSON.
    pub fn from_json(body: &[u8]) -> Self {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
            return Self::unreadable(body);
        };
        let mut text = |key| fields.remove(key).map(into_text).unwrap_or_default();
        let (code, msg) = (text("code"), text("msg"));
        let metadata = fields.remove("metadata").unwrap_or_default();
        let metadata = metadata.as_object().cloned().unwrap_or_default().into_iter();
        let metadata = metadata.map(|(key, value)| (key, into_text(value)));
        Self::received(code, msg, metadata.collect())
    }

    /// The bytes of `protos.Error`.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let Self { code, msg, metadata } = self.clone();
        protos::Error { code: code.into(), msg: msg.into(), metadata }.encode_to_vec()
    }

    /// Reads the body of an error response; one that is no `protos.Error` becomes the text of an
    /// unknown error.
    pub fn from_protobuf(body: &[u8]) -> Self {
        match protos::Error::decode(body) {
            Ok(error) => Self::received(error.code, error.msg, error.metadata),
            Err(_) => Self::unreadable(body),
        }
    }

    fn received(code: String, msg: String, metadata: BTreeMap<String, String>) -> Self {
        let code = if code.is_empty() { Cow::Borrowed(UNKNOWN) } else { Cow::Owned(code) };
        Self { code, msg: msg.into(), metadata }
    }

    fn unreadable(body: &[u8]) -> Self {
        Self::unknown(String::from_utf8_lossy(body).into_owned())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.msg)
    }
}

impl std::error::Error for Error {}

impl From<Entry> for Error {
    fn from(entry: Entry) -> Self {
        Self::new(entry.code, entry.text)
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::RouteTooLong(_) | EncodeError::ResponseToNothing => {
                Self::bad_request(error.to_string())
            }
            EncodeError::TooLarge(error) => Self::new(TOO_LARGE, error.to_string()),
        }
    }
}

fn into_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(error: &Error) -> String {
        String::from_utf8(error.to_json()).unwrap()
    }

    #[test]
    fn json_has_both_keys_and_sorted_metadata() {
        assert_eq!(json(&Error::new("", "")), r#"{"code":"","msg":""}"#);
        let error = Error::new("PIT-433", "<test>").with_metadata("b", "&").with_metadata("a", "");
        let expected =
            r#"{"code":"PIT-433","msg":"\u003ctest\u003e","metadata":{"a":"","b":"\u0026"}}"#;
        assert_eq!(json(&error), expected);
    }

    #[test]
    fn errors_come_out_as_they_went_in() {
        let error = Error::request_timeout("room.join", Duration::from_millis(1500));
        assert_eq!(error.to_string(), "PIT-408: request timeout");
        assert_eq!(error.metadata["timeout"], "1.5s");
        assert_eq!(error.metadata["route"], "room.join");
        assert_eq!(Error::from_json(json(&error).as_bytes()), error);
        assert_eq!(Error::from_protobuf(&error.to_protobuf()), error);
    }

    #[test]
    fn whatever_an_error_response_holds_is_an_error() {
        for (body, expected) in [
            ("", "PIT-000: "),
            ("oops", "PIT-000: oops"),
            ("{}", "PIT-000: "),
            ("[1]", "PIT-000: [1]"),
            (r#"{"code":"X-1"}"#, "X-1: "),
            (r#"{"code":null,"msg":{"a":1},"metadata":[]}"#, r#"PIT-000: {"a":1}"#),
        ] {
            assert_eq!(Error::from_json(body.as_bytes()).to_string(), expected);
        }
        let error = Error::from_json(br#"{"code":"X-1","msg":"m","metadata":{"a":1}}"#);
        assert_eq!(error, Error::new("X-1", "m").with_metadata("a", "1"));
        assert_eq!(Error::from_json(b"\xff").msg, "\u{fffd}");
        assert_eq!(Error::from_protobuf(b"oops").to_string(), "PIT-000: oops");
        assert_eq!(Error::from_protobuf(b""), Error::unknown(""));
    }

    #[test]
    fn a_handler_is_missed_by_its_full_route() {
        let error = Error::handler_not_found("connector.testsvc.nonexistenthandler");
        let text = "pitaya/handler: connector.testsvc.nonexistenthandler not found";
        assert_eq!(error, Error::new("PIT-404", text));
    }
}
