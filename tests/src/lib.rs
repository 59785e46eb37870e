//! The simulator, a third runtime, and the tests that use it and the real ones.

pub mod broker;
pub mod certificate;
pub mod crowd;
pub mod doors;
pub mod game;
pub mod lossy;
pub mod peers;
pub mod raw;
pub mod raw_server;
pub mod registry;
pub mod running;
pub mod sim;
pub mod web;

/// What the documents show compiles.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../docs/client.md")]
    mod client {}
    #[doc = include_str!("../../docs/cluster.md")]
    mod cluster {}
    #[doc = include_str!("../../docs/limits.md")]
    mod limits {}
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/server.md")]
    mod server {}
    #[doc = include_str!("../../docs/tls.md")]
    mod tls {}
    #[doc = include_str!("../../docs/transports.md")]
    mod transports {}
    #[doc = include_str!("../../docs/web-client.md")]
    mod web_client {}
}
