//! One client as the server keeps it, in virtual time: what it is promised, whatever it sends.

mod calls;
mod handshake;
mod heartbeat;
mod limits;
mod messages;
mod resume;
mod rig;
