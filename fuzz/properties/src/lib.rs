//! What must hold whatever bytes come: one function for each fuzz target.
//!
//! A function takes the bytes of one input and panics when its property does not hold. Inputs are
//! either the bytes of the wire themselves or, for machines, a script of what happens to them.
//! The properties of all: no panic, and bounded work and memory for an input of bounded length.

mod call_queue;
mod client_conn;
mod directory;
mod frame;
mod handshake;
mod inflate;
mod json;
mod ledger;
mod line;
mod link;
mod message;
mod packet;
mod pipe;
mod player;
mod proxy;
mod record;
mod repl;
mod script;
mod server_conn;
mod speech;
mod transcript;
mod transport;
mod web_socket;

pub use call_queue::call_queue;
pub use client_conn::client_conn;
pub use directory::directory;
pub use frame::frame;
pub use handshake::handshake;
pub use inflate::inflate;
pub use link::link;
pub use message::{message_decode, message_round_trip};
pub use packet::packet;
pub use pipe::pipe;
pub use player::player;
pub use proxy::proxy;
pub use record::record;
pub use repl::{repl_command, repl_script};
pub use server_conn::server_conn;
pub use transport::transport;
pub use web_socket::web_socket;

/// Takes the bytes of one input and panics if they break it.
pub type Property = fn(&[u8]);

/// Every property with the name of its target.
pub const TARGETS: [(&str, Property); 19] = [
    ("call_queue", call_queue),
    ("client_conn", client_conn),
    ("directory", directory),
    ("frame", frame),
    ("handshake", handshake),
    ("inflate", inflate),
    ("link", link),
    ("message_decode", message_decode),
    ("message_round_trip", message_round_trip),
    ("packet", packet),
    ("pipe", pipe),
    ("player", player),
    ("proxy", proxy),
    ("record", record),
    ("repl_command", repl_command),
    ("repl_script", repl_script),
    ("server_conn", server_conn),
    ("transport", transport),
    ("web_socket", web_socket),
];

/// The most bytes that `run` held at a time, beside those it was given, and what it returned.
fn held_at_most<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let mut returned = None;
    let allocated = allocation_counter::measure(|| returned = Some(run()));
    (returned.expect("it ran"), allocated.bytes_max)
}
