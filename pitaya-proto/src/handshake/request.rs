//! What a client says about itself.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use thiserror::Error;

/// The handshake of a client; what it left out is empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HandshakeRequest {
    /// `sys.platform`: where the client runs.
    pub platform: String,
    /// `sys.libVersion`: the library that speaks, from those that are Pitaya's own.
    pub lib_version: String,
    /// `sys.clientBuildNumber` of the game.
    pub client_build_number: String,
    /// `sys.clientVersion` of the game.
    pub client_version: String,
    /// `sys.type`: the library that speaks, from JavaScript.
    pub kind: String,
    /// `sys.version` of a JavaScript library.
    pub version: String,
    /// `user`: whatever the application wants to be told.
    pub user: Option<Map<String, Value>>,
}

/// How much JSON a stranger may send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HandshakeLimits {
    /// Bytes of JSON.
    pub bytes_max: usize,
    /// Objects and arrays inside each other.
    pub depth_max: usize,
    /// Keys in all objects and elements in all arrays together: each of them takes more memory than
    /// bytes on the wire.
    pub keys_max: usize,
}

impl HandshakeRequest {
    /// Reads the body of a client's handshake packet, in time linear in its length.
    ///
    /// What Go takes is taken, with one difference: a key that is given twice, or in another case
    /// than the known one, is refused instead of one of them winning.
    ///
    /// # Errors
    ///
    /// The client is to be answered with code 400.
    pub fn parse(json: &[u8], limits: &HandshakeLimits) -> Result<Self, HandshakeError> {
        limits.check(json)?;
        let top: Option<Fields<'_>> = serde_json::from_slice(json).map_err(|error| {
            let wrong_type = HandshakeError::WrongType("handshake");
            if error.is_data() { wrong_type } else { HandshakeError::Malformed }
        })?;
        let top = top.unwrap_or_default();
        let (sys, user) = (top.value("sys")?, top.value("user")?);
        if let Some(user) = &user {
            limits.check_parsed(user)?;
        }
        let sys: Fields<'_> = sys.unwrap_or_default();
        Ok(Self {
            platform: sys.value("platform")?.unwrap_or_default(),
            lib_version: sys.value("libVersion")?.unwrap_or_default(),
            client_build_number: sys.value("clientBuildNumber")?.unwrap_or_default(),
            client_version: sys.value("clientVersion")?.unwrap_or_default(),
            kind: sys.any("type")?,
            version: sys.any("version")?,
            user,
        })
    }

    /// Appends the body of a handshake packet; keys without a value are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let sys = [
            ("platform", &self.platform),
            ("libVersion", &self.lib_version),
            ("clientBuildNumber", &self.client_build_number),
            ("clientVersion", &self.client_version),
            ("type", &self.kind),
            ("version", &self.version),
        ];
        let sys = sys.into_iter().filter(|(_, text)| !text.is_empty());
        let sys: Map<_, _> = sys.map(|(key, text)| (key.to_owned(), json!(text))).collect();
        let mut top = Map::from_iter([("sys".to_owned(), Value::Object(sys))]);
        if let Some(user) = &self.user {
            top.insert("user".to_owned(), json!(user));
        }
        serde_json::to_writer(out, &top).expect("maps of text always serialise into memory");
    }

    /// Whether the client can take zlib bodies: of all known libraries, those that name their
    /// version can.
    pub fn inflates(&self) -> bool {
        !self.lib_version.is_empty()
    }

    /// Whether the client is known to read route codes.
    ///
    /// Towards a stranger this is `false`: the C library crashes on them.
    pub fn reads_route_codes(&self) -> bool {
        self.lib_version == LIB_VERSION_GO
            || self.lib_version.ends_with(LIB_VERSION_SUFFIX)
            || self.kind == KIND_JAVASCRIPT
    }
}

impl HandshakeLimits {
    /// Counts outside of strings what the parser would have to remember, before it runs.
    fn check(&self, json: &[u8]) -> Result<(), HandshakeError> {
        if json.len() > self.bytes_max {
            return Err(HandshakeError::TooLarge);
        }
        let (mut depth, mut keys) = (0_usize, 0_usize);
        let (mut in_text, mut escaped, mut begins) = (false, false, false);
        for byte in json {
            // Of what an object or an array has, only the first comes without a comma.
            if begins && !byte.is_ascii_whitespace() {
                keys += usize::from(!matches!(byte, b'}' | b']'));
                begins = false;
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = in_text,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'{' | b'[' => (depth, begins) = (depth + 1, true),
                b'}' | b']' => depth = depth.saturating_sub(1),
                b',' => keys += 1,
                _ => {}
            }
            if depth > self.depth_max {
                return Err(HandshakeError::TooDeep);
            }
            if keys > self.keys_max {
                return Err(HandshakeError::TooManyKeys);
            }
        }
        Ok(())
    }

    /// Counts again: text under a key that `serde_json` keeps for itself was parsed as more JSON.
    fn check_parsed(&self, user: &Map<String, Value>) -> Result<(), HandshakeError> {
        let json = serde_json::to_vec(user).expect("maps of text always serialise into memory");
        // Written, its keys are sorted: one of those would come first, and be another value then.
        if json.windows(JSON_PRIVATE.len()).any(|bytes| bytes == JSON_PRIVATE) {
            return Err(HandshakeError::Malformed);
        }
        // Numbers may take more bytes than they did, and those that came were counted.
        Self { bytes_max: usize::MAX, ..*self }.check(&json)
    }
}

/// Why a handshake is not taken.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum HandshakeError {
    /// A key of the handshake or of `sys` is there twice, or differs from another in case alone.
    #[error("handshake with a duplicate key")]
    DuplicateKey,
    /// A known key in another case.
    #[error("handshake key {0} in another case")]
    KeyCase(&'static str),
    /// Not JSON.
    #[error("handshake is not json")]
    Malformed,
    /// Objects and arrays deeper inside each other than allowed.
    #[error("handshake is nested too deep")]
    TooDeep,
    /// More bytes than allowed.
    #[error("handshake is too long")]
    TooLarge,
    /// More keys and elements of arrays than allowed.
    #[error("handshake has too many keys or elements")]
    TooManyKeys,
    /// A known key with a value of another type.
    #[error("handshake key {0} has a value of the wrong type")]
    WrongType(&'static str),
}

/// What the libraries of this project end their `libVersion` with.
pub const LIB_VERSION_SUFFIX: &str = "-pitaya-rust";

/// How the keys begin that `serde_json` keeps for itself.
const JSON_PRIVATE: &[u8] = b"\"$serde_json::private::";
const LIB_VERSION_GO: &str = "0.3.5-release";
const KIND_JAVASCRIPT: &str = "js-websocket";

/// The values of one object, by their keys in lower case; they stay text until asked for.
#[derive(Default)]
struct Fields<'a> {
    by_key: BTreeMap<String, (String, &'a RawValue)>,
    /// Two keys differed in case at most.
    has_twins: bool,
}

impl<'a> Fields<'a> {
    /// What is there under a key; nothing if it is `null`.
    fn value<T: Deserialize<'a>>(&self, key: &'static str) -> Result<Option<T>, HandshakeError> {
        if self.has_twins {
            return Err(HandshakeError::DuplicateKey);
        }
        match self.by_key.get(&key.to_ascii_lowercase()) {
            None => Ok(None),
            Some((found, _)) if found != key => Err(HandshakeError::KeyCase(key)),
            Some((_, value)) => {
                serde_json::from_str(value.get()).map_err(|_| HandshakeError::WrongType(key))
            }
        }
    }

    /// The text under a key that Go does not know, so that it takes it with any type.
    fn any(&self, key: &'static str) -> Result<String, HandshakeError> {
        let value: Option<Value> = self.value(key)?;
        Ok(value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned())
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some((key, value)) = map.next_entry::<String, _>()? {
                    let twin = fields.by_key.insert(key.to_ascii_lowercase(), (key, value));
                    fields.has_twins |= twin.is_some();
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits;

    const LIMITS: HandshakeLimits = HandshakeLimits {
        bytes_max: limits::HANDSHAKE_BYTES_MAX,
        depth_max: limits::HANDSHAKE_DEPTH_MAX,
        keys_max: limits::HANDSHAKE_KEYS_MAX,
    };

    /// What a case expects: inflates, reads route codes; or the refusal.
    type Verdict = Result<(bool, bool), HandshakeError>;

    const CLIENTS: [(&str, &str, Verdict); 9] = [
        (
            "go",
            concat!(
                r#"{"sys":{"platform":"mac","libVersion":"0.3.5-release","#,
                r#""clientBuildNumber":"20","clientVersion":"2.1"},"user":{"age":30}}"#
            ),
            Ok((true, true)),
        ),
        (
            "repl",
            concat!(
                r#"{"sys":{"platform":"repl","libVersion":"0.3.5-release","#,
                r#""clientBuildNumber":"20","clientVersion":"1.0.0"},"user":{"client":"repl"}}"#
            ),
            Ok((true, true)),
        ),
        (
            "pitaya-cli",
            concat!(
                r#"{"sys":{"platform":"mac","libVersion":"0.3.5-release","#,
                r#""clientBuildNumber":"20","clientVersion":"1.0.0"},"user":{"age":30}}"#
            ),
            Ok((true, true)),
        ),
        (
            "libpitaya",
            concat!(
                r#"{"sys":{"platform":"desktop","libVersion":"4.6.2-","#,
                r#""clientBuildNumber":"1","clientVersion":"0.1"}}"#
            ),
            Ok((true, false)),
        ),
        (
            "unity",
            concat!(
                r#"{"sys":{"platform":"android","libVersion":"4.6.2-","#,
                r#""clientBuildNumber":"77","clientVersion":"1.4"},"user":{"opts":[1,2]}}"#
            ),
            Ok((true, false)),
        ),
        (
            "starx",
            r#"{"sys":{"type":"js-websocket","version":"0.0.1","rsa":{}}}"#,
            Ok((false, true)),
        ),
        (
            "starx with a user",
            r#"{"sys":{"type":"js-websocket","version":"0.0.1","rsa":{}},"user":{}}"#,
            Ok((false, true)),
        ),
        (
            "cocos",
            r#"{"sys":{"type":"pitaya_cocos","version":"1.0.0","rsa":{}},"user":{}}"#,
            Ok((false, false)),
        ),
        (
            "ours",
            r#"{"sys":{"platform":"linux","libVersion":"0.1.0-pitaya-rust"},"user":null}"#,
            Ok((true, true)),
        ),
    ];

    const OTHERS: [(&str, &str, Verdict); 16] = [
        ("null", "null", Ok((false, false))),
        ("nothing", " {} ", Ok((false, false))),
        ("nulls", r#"{"sys":{"platform":null},"user":null}"#, Ok((false, false))),
        ("unknown keys", r#"{"v":[{"a":1}],"sys":{"x":1},"":0}"#, Ok((false, false))),
        ("a type of another type", r#"{"sys":{"type":7,"version":[]}}"#, Ok((false, false))),
        ("no bytes", "", Err(HandshakeError::Malformed)),
        ("half", r#"{"sys":{"#, Err(HandshakeError::Malformed)),
        ("bytes behind", "{} {}", Err(HandshakeError::Malformed)),
        ("an array", "[]", Err(HandshakeError::WrongType("handshake"))),
        ("a text as sys", r#"{"sys":"x"}"#, Err(HandshakeError::WrongType("sys"))),
        (
            "a number as version",
            r#"{"sys":{"clientVersion":1}}"#,
            Err(HandshakeError::WrongType("clientVersion")),
        ),
        ("an array as user", r#"{"user":[]}"#, Err(HandshakeError::WrongType("user"))),
        ("sys twice", r#"{"sys":{},"sys":{}}"#, Err(HandshakeError::DuplicateKey)),
        ("a key of sys twice", r#"{"sys":{"x":1,"X":2}}"#, Err(HandshakeError::DuplicateKey)),
        ("another case of sys", r#"{"Sys":{}}"#, Err(HandshakeError::KeyCase("sys"))),
        (
            "another case in sys",
            r#"{"sys":{"libversion":"1"}}"#,
            Err(HandshakeError::KeyCase("libVersion")),
        ),
    ];

    #[test]
    fn every_known_client_is_taken_and_every_odd_one_judged() {
        for (name, json, verdict) in CLIENTS.into_iter().chain(OTHERS) {
            let parsed = parse(json);
            let found = parsed.map(|client| (client.inflates(), client.reads_route_codes()));
            assert_eq!(found, verdict, "{name}");
        }
    }

    #[test]
    fn every_value_has_its_place() {
        let client = parse(CLIENTS[0].1).unwrap();
        assert_eq!(client.platform, "mac");
        assert_eq!(client.lib_version, "0.3.5-release");
        assert_eq!(client.client_build_number, "20");
        assert_eq!(client.client_version, "2.1");
        assert_eq!(client.user.unwrap()["age"], 30);
        let client = parse(CLIENTS[5].1).unwrap();
        assert_eq!((&*client.kind, &*client.version), ("js-websocket", "0.0.1"));
        assert_eq!(client.user, None);
    }

    #[test]
    fn what_was_taken_is_taken_again_after_encoding() {
        for (name, json, verdict) in CLIENTS.into_iter().chain(OTHERS) {
            if verdict.is_ok() {
                let client = parse(json).unwrap();
                let mut out = Vec::new();
                client.encode(&mut out);
                assert_eq!(parse(str::from_utf8(&out).unwrap()), Ok(client), "{name}");
            }
        }
    }

    #[test]
    fn more_than_a_stranger_may_send_is_refused() {
        let nested = |depth| format!(r#"{{"user":{}}}"#, "[".repeat(depth) + &"]".repeat(depth));
        assert_eq!(parse(&nested(64)), Err(HandshakeError::TooDeep));
        assert_eq!(parse(&nested(63)), Err(HandshakeError::WrongType("user")));
        assert_eq!(parse(&"[".repeat(4096)), Err(HandshakeError::TooDeep));
        assert_eq!(parse(&" ".repeat(4097)), Err(HandshakeError::TooLarge));
        let keys = |count| {
            let keys: Vec<_> = (1..count).map(|key| format!(r#""{key}":0"#)).collect();
            format!(r#"{{"user":{{{}}}}}"#, keys.join(","))
        };
        assert_eq!(parse(&keys(65)), Err(HandshakeError::TooManyKeys));
        assert_eq!(parse(&keys(64)).unwrap().user.unwrap().len(), 63);
        let elements = |count| format!(r#"{{"user":{{"a":[ {}]}}}}"#, vec!["{ }"; count].join(","));
        assert_eq!(parse(&elements(1000)), Err(HandshakeError::TooManyKeys));
        assert_eq!(parse(&elements(63)), Err(HandshakeError::TooManyKeys));
        assert!(parse(&elements(62)).is_ok());
        let text = r#"{"user":{"a":"[[,,\",,[[\\"}}"#;
        let limits = HandshakeLimits { depth_max: 2, keys_max: 2, ..LIMITS };
        assert!(HandshakeRequest::parse(text.as_bytes(), &limits).is_ok());
    }

    #[test]
    fn json_that_hides_in_a_text_is_counted() {
        let hidden = |json: &str| {
            let text = json!({ "a": { "$serde_json::private::RawValue": json } });
            parse(&json!({ "user": text }).to_string())
        };
        assert_eq!(hidden("[1]").unwrap().user.unwrap()["a"], json!([1]));
        let deep = "[".repeat(64) + &"]".repeat(64);
        assert_eq!(hidden(&deep), Err(HandshakeError::TooDeep));
        let keys: Vec<_> = (0..64).map(|key| format!(r#""{key}":0"#)).collect();
        assert_eq!(hidden(&format!("{{{}}}", keys.join(","))), Err(HandshakeError::TooManyKeys));
    }

    fn parse(json: &str) -> Result<HandshakeRequest, HandshakeError> {
        HandshakeRequest::parse(json.as_bytes(), &LIMITS)
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<f64>().prop_map(|number| json!(number)),
            any::<i64>().prop_map(|number| json!(number)),
            any::<String>().prop_map(|text| json!([text, { "a": null }])),
        ]
    }

    proptest! {
        #[test]
        fn whatever_a_client_says_comes_out_as_it_went_in(
            texts in prop::array::uniform6(any::<String>()),
            user in prop::option::of(prop::collection::btree_map(any::<String>(), values(), 0..5)),
        ) {
            let user = user.map(Map::from_iter);
            let [platform, lib_version, client_build_number, client_version, kind, version] = texts;
            let client = HandshakeRequest {
                platform, lib_version, client_build_number, client_version, kind, version, user,
            };
            let mut out = Vec::new();
            client.encode(&mut out);
            let limits = HandshakeLimits { bytes_max: out.len(), ..LIMITS };
            prop_assert_eq!(HandshakeRequest::parse(&out, &limits), Ok(client));
        }

        #[test]
        fn bytes_from_outside_are_judged_without_a_panic(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..30),
        ) {
            let json = pieces.concat();
            if let Ok(client) = parse(&json) {
                let mut out = Vec::new();
                client.encode(&mut out);
                prop_assert_eq!(parse(str::from_utf8(&out).unwrap()), Ok(client));
            }
        }
    }

    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\"sys\"",
        "\"user\"",
        "\"type\"",
        "\"platform\"",
        "\"x\"",
        "null",
        "1.5",
        "\\",
        "\\ud800",
        "{}",
        "\"sys\":{",
        "\"user\":{",
        "true",
    ];

    /// `serde_json` looks for its own keys where an object begins, and objects are written sorted.
    #[test]
    fn what_would_be_another_handshake_once_it_is_written_is_refused() {
        for text in ["nope", r#"{\"admin\":true}"#] {
            let json = format!(
                r#"{{"user":{{"a":{{"b":1,"\u0024serde_json::private::RawValue":"{text}"}}}}}}"#
            );
            let taken = HandshakeRequest::parse(json.as_bytes(), &LIMITS);
            assert_eq!(taken, Err(HandshakeError::Malformed), "{json}");
        }
    }
}
