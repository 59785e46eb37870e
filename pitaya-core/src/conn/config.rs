//! What all client connections of one server share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use pitaya_proto::dictionary::Dictionary;
use pitaya_proto::handshake::{HandshakeLimits, HandshakeRequest, HandshakeResponse};
use pitaya_proto::packet::TooLarge;

use crate::{CloseReason, Counters, Limits};

/// Judges a handshake: `Err` says why it is refused, in words for the log.
pub type Validator = dyn Fn(&HandshakeRequest) -> Result<(), String> + Send + Sync;

/// The settings of a server's connections, and the bytes that are the same for all of them.
pub struct ConnConfig {
    /// Whether to compress towards clients that can inflate; on by default.
    pub compression: bool,
    /// What was counted so far, over all connections.
    pub counters: Arc<Counters>,
    /// Whether calls for servers of other kinds are forwarded, as [`Event::Forward`]; off by
    /// default, as long as there are no others.
    ///
    /// [`Event::Forward`]: crate::Event::Forward
    pub forwards: bool,
    /// The limits in force.
    pub limits: Limits,
    /// Asked in this order, each with its name; the first error refuses the client.
    pub validators: Vec<(String, Box<Validator>)>,
    pub(crate) dictionary: Dictionary,
    pub(crate) accepted: Vec<u8>,
    pub(crate) refused: Vec<u8>,
}

impl ConnConfig {
    /// Settings with the name of the serializer, which the handshake tells to clients.
    ///
    /// # Errors
    ///
    /// A dictionary that does not fit a handshake.
    pub fn new(serializer: &str, dictionary: Dictionary, limits: Limits) -> Result<Self, TooLarge> {
        let mut response = HandshakeResponse {
            code: HandshakeResponse::ACCEPTED,
            heartbeat: limits.heartbeat,
            serializer: serializer.to_owned(),
            dictionary,
        };
        let limits = limits.heartbeat(Duration::from_secs(response.heartbeat_seconds()));
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        response.encode_packet(&mut accepted)?;
        response.code = HandshakeResponse::REFUSED;
        response.encode_packet(&mut refused)?;
        let (counters, validators) = (Arc::default(), Vec::new());
        let dictionary = response.dictionary;
        Ok(Self {
            compression: true,
            counters,
            forwards: false,
            limits,
            validators,
            dictionary,
            accepted,
            refused,
        })
    }

    /// Reads the handshake of a client and asks the validators.
    pub(crate) fn judge(&self, body: &[u8]) -> Result<HandshakeRequest, CloseReason> {
        let limits = HandshakeLimits {
            bytes_max: self.limits.handshake_bytes_max,
            depth_max: self.limits.handshake_depth_max,
            keys_max: self.limits.handshake_keys_max,
        };
        let request = HandshakeRequest::parse(body, &limits).map_err(CloseReason::BadHandshake)?;
        for (name, validator) in &self.validators {
            let judged = catch_unwind(AssertUnwindSafe(|| validator(&request)));
            judged.unwrap_or_else(|_| Err("it panicked".to_owned())).map_err(|why| {
                CloseReason::HandshakeRefused(format!("failed to run '{name}' validator: {why}"))
            })?;
        }
        Ok(request)
    }
}
