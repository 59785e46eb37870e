//! A WebSocket as a client speaks it, written down byte by byte: so it can also be spoken badly.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};

/// A stream over a WebSocket: what is written at once is one message.
#[derive(Debug)]
pub struct WebStream<S> {
    io: S,
    /// Frames that came.
    frames: Vec<u8>,
    /// What was in them and is not read.
    payload: Vec<u8>,
    /// Frames that go.
    out: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebStream<S> {
    /// Asks for a WebSocket.
    ///
    /// # Errors
    ///
    /// The stream fails, or it is refused.
    pub async fn open(mut io: S) -> io::Result<Self> {
        open(&mut io).await?;
        Ok(Self { io, frames: Vec::new(), payload: Vec::new(), out: Vec::new() })
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))?;
            self.out.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Moves what is in the first frame to the payload; whether it is whole. A frame of another
    /// kind than data says nothing here.
    fn take_frame(&mut self) -> bool {
        let (head, length) = match self.frames[..] {
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            [_, length @ ..126, ..] => (2, usize::from(length)),
            _ => return false,
        };
        if self.frames.len() < head + length {
            return false;
        }
        if self.frames[0] & 0x0f == BINARY {
            self.payload.extend_from_slice(&self.frames[head..head + length]);
        }
        self.frames.drain(..head + length);
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while self.payload.is_empty() {
            if !self.take_frame() {
                let mut bytes = [0; 4096];
                match ready!(Pin::new(&mut self.io).poll_read(cx, &mut bytes))? {
                    0 => return Poll::Ready(Ok(0)),
                    count => self.frames.extend_from_slice(&bytes[..count]),
                }
            }
        }
        let count = self.payload.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.payload[..count]);
        self.payload.drain(..count);
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_out(cx))?;
        self.out = frame(BINARY, true, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// Asks for a WebSocket, and reads the answer and nothing after it.
///
/// # Errors
///
/// The stream fails, or it is refused.
pub async fn open(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    io.write_all(UPGRADE.as_bytes()).await?;
    io.flush().await?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        io.read_exact(&mut byte).await?;
        answer.extend(byte);
    }
    if answer.starts_with(b"HTTP/1.1 101 ") {
        Ok(())
    } else {
        Err(io::Error::other("no WebSocket"))
    }
}

/// A frame of a client; its mask changes nothing.
pub fn frame(code: u8, is_last: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(code, is_last, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame
}

/// What comes before the payload of a frame that is said to be so long.
pub fn head(code: u8, is_last: bool, length: u64) -> Vec<u8> {
    let mut head = vec![u8::from(is_last) << 7 | code];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => head.push(MASKED | length),
        (_, Ok(length)) => {
            head.push(MASKED | 126);
            head.extend_from_slice(&length.to_be_bytes());
        }
        (_, Err(_)) => {
            head.push(MASKED | 127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    head.extend_from_slice(&[0; 4]);
    head
}

/// A frame that goes on with a message.
pub const CONTINUATION: u8 = 0;
/// A frame that begins a message of bytes.
pub const BINARY: u8 = 2;
/// A frame that closes.
pub const CLOSE: u8 = 8;
/// A frame that asks whether somebody is there.
pub const PING: u8 = 9;
const MASKED: u8 = 0x80;
/// The request for a WebSocket.
pub const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
