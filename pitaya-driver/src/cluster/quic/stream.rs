//! The stream of one link, and the connection that it is all of.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use quinn::{
    AsyncTimer, Connection, ConnectionError, ReadError, RecvStream, SendStream, StoppedError,
    VarInt, WriteError,
};

use super::refusal::lost;

/// Both directions of a link. Closing waits for the peer to have all of it, but not for ever.
pub(super) struct Stream {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    /// The peer has said its last, and all of it was read.
    ended: bool,
    closing: Closing,
    runtime: Arc<dyn quinn::Runtime>,
}

enum Closing {
    Not,
    /// The peer does not have all of it yet.
    Waits(Pin<Box<Acknowledged>>, Pin<Box<dyn AsyncTimer>>),
    Done,
}

type Acknowledged = dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync;

impl Stream {
    pub(super) fn new(
        connection: Connection, (send, receive): (SendStream, RecvStream),
        runtime: Arc<dyn quinn::Runtime>,
    ) -> Self {
        Self { connection, send, receive, ended: false, closing: Closing::Not, runtime }
    }

    fn begin_to_close(&mut self) {
        // It is finished already, or the peer takes no more: waiting shows which.
        let _ = self.send.finish();
        let timer = self.runtime.new_timer(self.runtime.now() + CLOSED_WITHIN);
        self.closing = Closing::Waits(Box::pin(self.send.stopped()), timer);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(self.receive.poll_read(cx, buffer)).map_err(read_error)?;
        self.ended |= read == 0 && !buffer.is_empty();
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, bytes).map_err(write_error)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut written = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match self.as_mut().poll_write(cx, slice) {
                Poll::Ready(Ok(count)) => written += count,
                // Whatever it is, it is there the next time too.
                Poll::Ready(Err(_)) | Poll::Pending if written > 0 => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let closed = match &mut self.closing {
                Closing::Not => {
                    self.begin_to_close();
                    continue;
                }
                Closing::Waits(acknowledged, timer) => match acknowledged.as_mut().poll(cx) {
                    Poll::Ready(closed) => close_result(closed),
                    Poll::Pending => {
                        ready!(timer.as_mut().poll(cx));
                        Err(io::Error::new(io::ErrorKind::TimedOut, "the peer did not take it all"))
                    }
                },
                Closing::Done => Ok(()),
            };
            self.closing = Closing::Done;
            return Poll::Ready(closed);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let is_done = self.ended && matches!(self.closing, Closing::Done);
        self.connection.close(if is_done { DONE } else { DROPPED }, b"");
    }
}

fn close_result(closed: Result<Option<VarInt>, StoppedError>) -> io::Result<()> {
    match closed {
        Ok(None) => Ok(()),
        // It has read to the end before, so nothing is missing.
        Err(StoppedError::ConnectionLost(ConnectionError::ApplicationClosed(close)))
            if close.error_code == DONE =>
        {
            Ok(())
        }
        Ok(Some(_)) => Err(unwanted()),
        Err(StoppedError::ConnectionLost(error)) => Err(lost(&error)),
        Err(error @ StoppedError::ZeroRttRejected) => Err(error.into()),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn read_error(error: ReadError) -> io::Error {
    match error {
        ReadError::ConnectionLost(error) => lost(&error),
        ReadError::Reset(_) => unwanted(),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            error.into()
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn write_error(error: WriteError) -> io::Error {
    match error {
        WriteError::ConnectionLost(error) => lost(&error),
        WriteError::Stopped(_) => unwanted(),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => error.into(),
    }
}

fn unwanted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the peer gave up the stream")
}

/// Both sides have said their last, and had all of the other's.
const DONE: VarInt = VarInt::from_u32(0);

/// Something may be lost.
pub(super) const DROPPED: VarInt = VarInt::from_u32(1);

/// How long the peer may take to have what was written last.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
