//! What stands between a socket and a machine, without either: plain TCP is the identity.

use std::io;

use bytes::Buf;
use pitaya_core::Outbox;

/// Turns the bytes of a socket into the bytes of a machine and back.
///
/// It has no socket, so every transport works on every runtime and in the simulator, and they nest.
pub trait Transport: Send + Unpin + 'static {
    /// What is written to the socket.
    type Wire: Buf;

    /// The machine's bytes of what the socket gave.
    ///
    /// # Errors
    ///
    /// Bytes that the transport does not know; the connection ends.
    fn decode<'b>(&'b mut self, wire: &'b [u8]) -> io::Result<&'b [u8]>;

    /// The socket's bytes of what the machine wants to say.
    fn encode<'b>(&'b mut self, outbox: &'b mut Outbox) -> &'b mut Self::Wire;
}

/// The identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Transport for Plain {
    type Wire = Outbox;

    fn decode<'b>(&'b mut self, wire: &'b [u8]) -> io::Result<&'b [u8]> {
        Ok(wire)
    }

    fn encode<'b>(&'b mut self, outbox: &'b mut Outbox) -> &'b mut Outbox {
        outbox
    }
}
