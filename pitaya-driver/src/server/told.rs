//! A handshake as a session keeps it: seldom asked for, so in little memory.

use pitaya_proto::handshake::HandshakeRequest;
use serde_json::{Deserializer, Value};

/// What a client said of itself, as JSON: an array of all texts, and then `user`. As values it
/// would take many times the bytes that a stranger sent.
pub(super) struct Told(Box<str>);

impl Told {
    pub(super) fn new(handshake: HandshakeRequest) -> Self {
        let HandshakeRequest { platform, lib_version, kind, version, user, .. } = handshake;
        let HandshakeRequest { client_build_number, client_version, .. } = handshake;
        let texts = [platform, lib_version, client_build_number, client_version, kind, version];
        let texts = serde_json::to_string(&texts).expect("text is JSON");
        let user = serde_json::to_string(&user).expect("it was JSON");
        Self((texts + &user).into())
    }

    /// All of it again.
    pub(super) fn handshake(&self) -> HandshakeRequest {
        let mut values = Deserializer::from_str(&self.0).into_iter::<Value>();
        let mut next = || values.next().and_then(Result::ok).expect("it was written above");
        let texts: [String; 6] = serde_json::from_value(next()).expect("so many are written");
        let [platform, lib_version, client_build_number, client_version, kind, version] = texts;
        let user = serde_json::from_value(next()).expect("nothing or an object is written");
        HandshakeRequest {
            platform,
            lib_version,
            client_build_number,
            client_version,
            kind,
            version,
            user,
        }
    }
}

#[cfg(test)]
mod tests {
    use pitaya_proto::handshake::HandshakeLimits;

    use super::*;

    #[test]
    fn a_handshake_comes_back_as_it_was() {
        for json in [
            r#"{}"#,
            r#"{"sys":{"platform":"a\"\\","libVersion":"b\n","clientBuildNumber":"c"}}"#,
            r#"{"sys":{"clientVersion":"d","type":"e","version":"f"},"user":{}}"#,
            r#"{"user":{"a":[2,{"b":null}],"c":1.5}}"#,
        ] {
            let limits = HandshakeLimits { bytes_max: 99, depth_max: 9, keys_max: 9 };
            let handshake = HandshakeRequest::parse(json.as_bytes(), &limits).unwrap();
            assert_eq!(Told::new(handshake.clone()).handshake(), handshake, "{json}");
        }
    }

    #[test]
    fn a_handshake_takes_no_more_memory_than_its_json() {
        let json = format!(r#"{{"user":{{"a":[{}0]}}}}"#, "0,".repeat(2000));
        let limits = HandshakeLimits { bytes_max: 5000, depth_max: 9, keys_max: 5000 };
        let handshake = HandshakeRequest::parse(json.as_bytes(), &limits).unwrap();
        let told = Told::new(handshake);
        assert!(size_of_val(&told) + size_of_val(&*told.0) < json.len() + 50);
    }
}
