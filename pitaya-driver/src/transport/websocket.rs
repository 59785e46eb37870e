//! A WebSocket after its upgrade: tungstenite, driven over memory instead of a socket.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

/// One end of a WebSocket: bytes of the socket go in and come out, messages come out and go in.
#[derive(Debug)]
pub struct WebSocket {
    context: WebSocketContext,
    /// Bytes that came of a message that is not whole.
    begun_bytes: usize,
    /// The head of a ping of the peer.
    control_head_bytes: usize,
    ended: bool,
}

impl WebSocket {
    /// The server's end. A message of the client has at most `message_bytes_max` bytes, over all
    /// its fragments.
    pub fn server(message_bytes_max: usize) -> Self {
        Self::new(Role::Server, MASKED_HEAD_BYTES, message_bytes_max)
    }

    /// The client's end. A message of the server has at most `message_bytes_max` bytes, over all
    /// its fragments.
    pub fn client(message_bytes_max: usize) -> Self {
        Self::new(Role::Client, HEAD_BYTES, message_bytes_max)
    }

    fn new(role: Role, control_head_bytes: usize, message_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_frame_size(Some(message_bytes_max))
            .max_message_size(Some(message_bytes_max));
        let context = WebSocketContext::new(role, Some(config));
        Self { context, begun_bytes: 0, control_head_bytes, ended: false }
    }

    /// The next message that is whole, taken off the front of `wire`. What has to be answered at
    /// once, such as a ping, is answered into `out`.
    ///
    /// # Errors
    ///
    /// Bytes that are no WebSocket, or a message that is too long. The peer is told in `out`, and
    /// nothing can be read any more.
    pub fn read(&mut self, wire: &mut &[u8], out: &mut BytesMut) -> io::Result<Option<Message>> {
        if self.ended {
            *wire = &[];
            return Ok(None);
        }
        let before = wire.len();
        let read = self.context.read(&mut Memory { wire, out });
        self.begun_bytes += before - wire.len();
        match read {
            Ok(Message::Close(frame)) => {
                self.end(wire, out);
                Ok(Some(Message::Close(frame)))
            }
            Ok(message) => {
                self.note_whole(&message);
                Ok(Some(message))
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.flush(out);
                Ok(None)
            }
            Err(error) => {
                let code = close_code(&error);
                let told = CloseFrame { code, reason: error.to_string().into() };
                // The peer may be deaf to it; that changes nothing.
                let _ = self.context.close(&mut Memory { wire: &mut &[][..], out }, Some(told));
                self.end(wire, out);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Sends one message, unfragmented.
    ///
    /// # Errors
    ///
    /// The WebSocket is closed.
    pub fn send(&mut self, message: Message, out: &mut BytesMut) -> io::Result<()> {
        let sent = self.context.write(&mut Memory { wire: &mut &[][..], out }, message);
        sent.map_err(io::Error::other)
    }

    /// Sends one binary message; see [`flush`](Self::flush).
    pub(super) fn send_binary(&mut self, message: &[u8], out: &mut BytesMut) -> io::Result<()> {
        self.send(Message::Binary(Bytes::copy_from_slice(message)), out)
    }

    /// Moves all that was sent into `out`.
    pub fn flush(&mut self, out: &mut BytesMut) {
        // Memory takes everything, so only a closed WebSocket fails; it has nothing to say.
        let _ = self.context.flush(&mut Memory { wire: &mut &[][..], out });
    }

    /// Says that nothing follows.
    pub fn close(&mut self, out: &mut BytesMut) {
        if self.context.can_write() {
            let told = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            // As in `flush`.
            let _ = self.context.close(&mut Memory { wire: &mut &[][..], out }, Some(told));
        }
    }

    /// Whether a message began that is not whole.
    pub(super) fn has_begun(&self) -> bool {
        self.begun_bytes > 0
    }

    /// Whether the peer has said that nothing follows.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// A ping may come in the middle of a message, and does not bring it on.
    fn note_whole(&mut self, message: &Message) {
        self.begun_bytes = if message.is_ping() || message.is_pong() {
            self.begun_bytes.saturating_sub(self.control_head_bytes + message.len())
        } else {
            0
        };
    }

    fn end(&mut self, wire: &mut &[u8], out: &mut BytesMut) {
        self.flush(out);
        (*wire, self.ended) = (&[], true);
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the errors that have a code of their own")]
fn close_code(error: &Error) -> CloseCode {
    match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        _ => CloseCode::Protocol,
    }
}

/// A socket that is none: what there is to read, and what was written.
struct Memory<'m, 'w> {
    wire: &'m mut &'w [u8],
    out: &'m mut BytesMut,
}

impl Read for Memory<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.wire.is_empty() {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            self.wire.read(buffer)
        }
    }
}

impl Write for Memory<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite reads and writes at a time. Its own default of 128 KiB is per connection.
const BUFFER_BYTES: usize = 4 << 10;
/// What comes before the payload of a short frame, from a server and from a client.
const HEAD_BYTES: usize = 2;
const MASKED_HEAD_BYTES: usize = HEAD_BYTES + 4;
