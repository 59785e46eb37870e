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
    frames: Frames,
    ended: bool,
}

impl WebSocket {
    /// The server's end. A message of the client has at most `message_bytes_max` bytes, over all
    /// its fragments.
    pub fn server(message_bytes_max: usize) -> Self {
        Self::new(Role::Server, message_bytes_max)
    }

    /// The client's end. A message of the server has at most `message_bytes_max` bytes, over all
    /// its fragments.
    pub fn client(message_bytes_max: usize) -> Self {
        Self::new(Role::Client, message_bytes_max)
    }

    fn new(role: Role, message_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_frame_size(Some(message_bytes_max))
            .max_message_size(Some(message_bytes_max));
        let context = WebSocketContext::new(role, Some(config));
        Self { context, frames: Frames::default(), ended: false }
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
        let before = *wire;
        let read = self.context.read(&mut Memory { wire, out });
        self.frames.pass(&before[..before.len() - wire.len()]);
        match read {
            Ok(Message::Close(frame)) => {
                self.end(wire, out);
                Ok(Some(Message::Close(frame)))
            }
            Ok(message) => Ok(Some(message)),
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
        self.frames.have_begun()
    }

    /// Whether the peer has said that nothing follows.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    fn end(&mut self, wire: &mut &[u8], out: &mut BytesMut) {
        self.flush(out);
        (*wire, self.ended) = (&[], true);
    }
}

/// Where a stream is among its frames: what was read into tungstenite cannot be asked for.
#[derive(Debug, Default)]
struct Frames {
    /// The head of a frame, as far as it came.
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    /// What is missing of the payload of a frame.
    payload_bytes: u64,
    /// Another frame goes on with the message.
    goes_on: bool,
}

impl Frames {
    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload_bytes == 0 {
                self.pass_head(*first);
                bytes = rest;
            } else {
                let passed = (bytes.len() as u64).min(self.payload_bytes);
                self.payload_bytes -= passed;
                bytes = &bytes[passed as usize..];
            }
        }
    }

    fn pass_head(&mut self, byte: u8) {
        self.head[self.head_bytes] = byte;
        self.head_bytes += 1;
        let [kind, length, long @ ..] = self.head;
        let (extended, length) = match length & !MASKED {
            126 => (2, u64::from_be_bytes([0, 0, 0, 0, 0, 0, long[0], long[1]])),
            127 => (8, u64::from_be_bytes(*long.first_chunk().expect("there are twelve"))),
            short => (0, u64::from(short)),
        };
        let mask = if self.head[1] & MASKED == 0 { 0 } else { 4 };
        if self.head_bytes < 2 + extended + mask {
            return;
        }
        *self = Self { payload_bytes: length, goes_on: self.goes_on, ..Self::default() };
        // A ping may come in the middle of a message, and does not bring it on.
        if kind & CONTROL == 0 {
            self.goes_on = kind & LAST == 0;
        }
    }

    /// Whether a message or a frame began that is not whole.
    fn have_begun(&self) -> bool {
        self.head_bytes > 0 || self.payload_bytes > 0 || self.goes_on
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
/// The longest head of a frame: its kind, its length in nine bytes, and a mask.
const HEAD_BYTES_MAX: usize = 14;
/// Bits of the first two bytes of a head.
const LAST: u8 = 0x80;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
