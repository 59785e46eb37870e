//! The body of a kick: nothing, or why.

use serde_json::{Value, json};

/// Appends `{"reason":".."}`. Go and C clients ignore it; JavaScript ones fail without it.
pub fn encode(reason: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &json!({ "reason": reason }))
        .expect("text always serialises into memory");
}

/// The reason, if the body gives one and is no longer than `bytes_max`.
pub fn parse(body: &[u8], bytes_max: usize) -> Option<String> {
    if body.len() > bytes_max {
        return None;
    }
    let body: Value = serde_json::from_slice(body).ok()?;
    body.get("reason")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::KICK_BYTES_MAX;

    #[test]
    fn a_reason_comes_out_as_it_went_in() {
        let mut out = Vec::new();
        encode("signed in \"elsewhere\"", &mut out);
        assert_eq!(out, br#"{"reason":"signed in \"elsewhere\""}"#);
        assert_eq!(parse(&out, KICK_BYTES_MAX).as_deref(), Some("signed in \"elsewhere\""));
        assert_eq!(parse(&out, out.len() - 1), None);
    }

    #[test]
    fn a_kick_of_another_server_may_give_no_reason() {
        for body in [&b""[..], b"{}", b"null", b"[1]", b"{\"reason\":1}", b"\xff", b"{\"reason\""] {
            assert_eq!(parse(body, KICK_BYTES_MAX), None, "{body:?}");
        }
        let more = br#"{"code":1,"reason":"bye"}"#;
        assert_eq!(parse(more, KICK_BYTES_MAX).as_deref(), Some("bye"));
    }
}
