//! The server's side of clients in virtual time: what they are promised, whatever they send.

mod calls;
mod forward;
mod handshake;
mod heartbeat;
mod limits;
mod messages;
mod node;
mod resume;
mod rig;
