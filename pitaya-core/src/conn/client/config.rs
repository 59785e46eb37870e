//! What a client says of itself, and how it behaves.

use std::sync::Arc;

use pitaya_proto::handshake::{HandshakeRequest, LIB_VERSION_SUFFIX};
use serde_json::{Map, Value};

use crate::{Counters, Limits};

/// The settings of a client.
///
/// ```
/// use pitaya_core::{ClientConfig, Limits};
///
/// let config = ClientConfig::default()
///     .client_version("1.4.2")
///     .limits(Limits::default().in_flight_max(8));
/// ```
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What was counted so far, over all connections with these settings and their clones.
    pub counters: Arc<Counters>,
    /// The limits in force.
    pub limits: Limits,
    pub(crate) compression: bool,
    pub(crate) handshake: HandshakeRequest,
}

impl ClientConfig {
    /// Where the client runs, as the server is told; the name of the operating system if not set.
    #[must_use]
    pub fn platform(mut self, platform: impl Into<String>) -> Self {
        self.handshake.platform = platform.into();
        self
    }

    /// The build number of the game, as the server is told.
    #[must_use]
    pub fn client_build_number(mut self, number: impl Into<String>) -> Self {
        self.handshake.client_build_number = number.into();
        self
    }

    /// The version of the game, as the server is told.
    #[must_use]
    pub fn client_version(mut self, version: impl Into<String>) -> Self {
        self.handshake.client_version = version.into();
        self
    }

    /// Whatever else the server's validators and handlers want to be told.
    #[must_use]
    pub fn user(mut self, user: Map<String, Value>) -> Self {
        self.handshake.user = Some(user);
        self
    }

    /// Whether to compress bodies that are long enough and get shorter; off by default.
    #[must_use]
    pub fn compression(mut self, compression: bool) -> Self {
        self.compression = compression;
        self
    }

    /// Other limits than the default ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
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
