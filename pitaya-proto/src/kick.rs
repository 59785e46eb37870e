//! The body of a kick: nothing, or why.

use serde::{Deserialize, Serialize};

/// Appends `{"reason":".."}`. Go and C clients ignore it; JavaScript ones fail without it.
pub fn encode(reason: &str, out: &mut Vec<u8>) {
    let body = Body { reason: reason.to_owned() };
    serde_json::to_writer(out, &body).expect("text always serialises into memory");
}

/// The reason, if the body gives one and is no longer than `bytes_max`.
pub fn parse(body: &[u8], bytes_max: usize) -> Option<String> {
    let body = body.get(..).filter(|body| body.len() <= bytes_max)?;
    serde_json::from_slice(body).ok().map(|Body { reason }| reason)
}

#[derive(Deserialize, Serialize)]
struct Body {
    reason: String,
}
