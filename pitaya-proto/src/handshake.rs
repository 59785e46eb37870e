//! The first packet of either side: who a client is, and what a server expects of it.

mod request;
mod response;

pub use request::{HandshakeError, HandshakeLimits, HandshakeRequest, LIB_VERSION_SUFFIX};
pub use response::{HandshakeResponse, HandshakeResponseError};
