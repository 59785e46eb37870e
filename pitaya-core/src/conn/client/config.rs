//! What a client says of itself, and how it behaves.

use std::sync::Arc;

use pitaya_proto::handshake::{HandshakeRequest, LIB_VERSION_SUFFIX};

use crate::{Counters, Limits};

/// The settings of a client.
///
/// ```
/// use pitaya_core::{ClientConfig, Limits};
///
/// let limits = Limits::default().in_flight_max(8);
/// let mut config = ClientConfig { limits, ..ClientConfig::default() };
/// config.handshake.client_version = "1.4.2".to_owned();
/// ```
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Whether to compress bodies that are long enough and get shorter; off by default.
    pub compression: bool,
    /// What was counted so far, over all connections with these settings and their clones.
    pub counters: Arc<Counters>,
    /// What the server, its validators and its handlers are told; by default the name of the
    /// operating system and the version of this library.
    pub handshake: HandshakeRequest,
    /// The limits in force.
    pub limits: Limits,
}

impl Default for ClientConfig {
    fn default() -> Self {
        let handshake = HandshakeRequest {
            platform: std::env::consts::OS.to_owned(),
            lib_version: format!("{}{LIB_VERSION_SUFFIX}", env!("CARGO_PKG_VERSION")),
            client_build_number: "1".to_owned(),
            client_version: "0.1".to_owned(),
            ..HandshakeRequest::default()
        };
        Self { counters: Arc::default(), limits: Limits::default(), compression: false, handshake }
    }
}
