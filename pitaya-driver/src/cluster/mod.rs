//! Several servers as one: how they find, reach and know each other, and what they ask.

pub mod discovery;
mod network;

pub use network::{Duplex, Incoming, LinkStream, Network, Proven};
