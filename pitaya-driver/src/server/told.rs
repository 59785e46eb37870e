//! A handshake as a session keeps it: seldom asked for, so in little memory.

use pitaya_proto::handshake::HandshakeRequest;
use serde_json::{Map, Value};

/// What a client said of itself.
pub(super) struct Told {
    /// All texts, in an array of JSON.
    texts: Box<str>,
    user: Option<Box<Map<String, Value>>>,
}

impl Told {
    pub(super) fn new(handshake: HandshakeRequest) -> Self {
        let HandshakeRequest { platform, lib_version, kind, version, user, .. } = handshake;
        let HandshakeRequest { client_build_number, client_version, .. } = handshake;
        let texts = [platform, lib_version, client_build_number, client_version, kind, version];
        let texts = serde_json::to_string(&texts).expect("text is JSON").into();
        Self { texts, user: user.map(Box::new) }
    }

    /// All of it again.
    pub(super) fn handshake(&self) -> HandshakeRequest {
        let texts: [String; 6] = serde_json::from_str(&self.texts).expect("it was written above");
        let [platform, lib_version, client_build_number, client_version, kind, version] = texts;
        let user = self.user.as_deref().cloned();
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
}
