//! Connections with clients, from both sides, over one table of phases.

mod client;
mod config;
mod heartbeat;
mod line;
mod phase;
mod reason;
mod server;

pub use client::{
    ClientCommand, ClientConfig, ClientConn, ClientEvent, ClientRequest, RequestError,
};
pub use config::{ConnConfig, Validator};
pub use reason::{CloseReason, Fault};
pub use server::{ClientCall, ConnEvent, ServerConn};
