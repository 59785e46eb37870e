//! The socket of a stream and the layers before it: reading, writing, and closing well.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use futures_io::{AsyncRead, AsyncWrite};
use pitaya_core::{CloseReason, Instant, Machine};

use crate::drive::Turn;
use crate::transport::{Room, Transport};

/// The socket and what stands before it.
#[derive(Debug)]
pub(super) struct Socket<I> {
    /// Nothing once the stream is closed, though handlers may still run.
    io: Option<I>,
    pub(super) transport: Transport,
    pub(super) peer: Peer,
    /// What the layers said behind what the machine was given last.
    end: Option<End>,
    /// Closed for writing, or about to be.
    lingers: Option<Box<Linger>>,
}

/// What may come of a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Peer {
    /// It has said its last.
    Gone,
    /// It has said its last in the layers, or what they do not know: nobody takes what comes.
    Ignored,
    Speaks,
}

/// How long a peer may take to notice that a stream closes.
#[derive(Debug)]
struct Linger {
    until: Instant,
    /// As long as it goes on to take what is written.
    at_most: Instant,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Written {
    /// The stream is over, which the machine has to tell.
    Failed,
    Nothing,
    Some,
}

/// How a stream ended.
#[derive(Debug)]
pub(super) enum End {
    Eof,
    Failure(io::Error),
}

impl<I: AsyncRead + AsyncWrite + Unpin> Socket<I> {
    pub(super) fn new(io: I, transport: Transport) -> Self {
        Self { io: Some(io), transport, peer: Peer::Speaks, end: None, lingers: None }
    }

    /// Reads once: what came for the machine, or the end. The end comes alone, so that the machine
    /// hears of it once it has taken all that came before.
    pub(super) fn read<'b, C>(
        &mut self, turn: &mut Turn<'_, '_, C>, buffer: &'b mut [u8], room: &'b mut Room,
    ) -> Poll<(&'b [u8], Option<End>)> {
        let Some(io) = self.io.as_mut().filter(|_| self.peer != Peer::Gone) else {
            return Poll::Pending;
        };
        if let Some(end) = self.end.take() {
            return Poll::Ready((&[], Some(end)));
        }
        let buffer = &mut buffer[..turn.bytes_left];
        let end = match ready!(Pin::new(io).poll_read(turn.cx, buffer)) {
            Ok(0) => End::Eof,
            Ok(count) => {
                turn.bytes_left -= count;
                return Poll::Ready(self.decode(turn.now, &buffer[..count], room));
            }
            Err(error) => End::Failure(error),
        };
        self.peer = Peer::Gone;
        Poll::Ready((&[], Some(end)))
    }

    /// What `wire` means to the machine, or the end.
    fn decode<'b>(
        &mut self, now: Instant, wire: &'b [u8], room: &'b mut Room,
    ) -> (&'b [u8], Option<End>) {
        if self.peer == Peer::Ignored {
            return (&[], None);
        }
        let (input, decoded) = self.transport.decode(now, wire, room);
        let end = match decoded {
            Ok(()) => self.transport.is_ended().then_some(End::Eof),
            Err(error) => {
                tracing::debug!(%error, "a connection broke the rules of its transport");
                Some(End::Failure(error))
            }
        };
        if end.is_some() {
            self.peer = Peer::Ignored;
        }
        if !input.is_empty() {
            self.end = end;
            return (input, None);
        }
        (input, end)
    }

    /// Whether to read. What nobody takes is read all the same: a socket that is closed with bytes
    /// of the peer unread loses what was written last.
    pub(super) fn wants_bytes(&self) -> bool {
        self.peer == Peer::Ignored || self.transport.wants_bytes()
    }

    /// Writes as much as the socket takes.
    pub(super) fn write<M: Machine>(
        &mut self, turn: &mut Turn<'_, '_, M::Command>, machine: &mut M,
    ) -> Written {
        let mut written = 0;
        // What a finished machine still holds is for the next connection of its session.
        while let Some(io) = self.io.as_mut().filter(|_| !machine.is_finished()) {
            let mut wire = self.transport.encode(machine.outbox());
            if !wire.has_remaining() {
                break;
            }
            match write_some(io, turn.cx, &mut wire) {
                Poll::Pending => break,
                Poll::Ready(Ok(count)) => written += count,
                Poll::Ready(Err(failure)) => {
                    self.peer = Peer::Gone;
                    machine.handle_end(turn.now, CloseReason::Io(failure));
                    return Written::Failed;
                }
            }
        }
        machine.handle_written(turn.now, written);
        if written > 0 { Written::Some } else { Written::Nothing }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let lingers = self.lingers.as_ref().map(|linger| linger.until);
        if lingers.is_some() || self.io.is_none() { lingers } else { self.layers_timeout() }
    }

    /// Until when the peer must have done what a layer waits for.
    pub(super) fn layers_timeout(&self) -> Option<Instant> {
        self.transport.poll_timeout().filter(|_| self.peer == Peer::Speaks)
    }

    /// Lets the layers say their last, closes for writing, lets the peer notice, then closes for
    /// good. Whether it is closed.
    ///
    /// A socket that is closed while bytes of the peer are unread loses what was written last, so
    /// turns go on to read until the peer ends too.
    pub(super) fn poll_close(
        &mut self, now: Instant, cx: &mut Context<'_>, linger_timeout: Duration,
    ) -> bool {
        let Some(io) = &mut self.io else { return true };
        let linger = self.lingers.get_or_insert_with(|| {
            let at_most = now + linger_timeout.saturating_mul(LINGERS_MAX);
            Box::new(Linger { until: now + linger_timeout, at_most })
        });
        while let Some(last) = self.transport.close().filter(|last| !last.is_empty()) {
            match write_some(io, cx, last) {
                Poll::Pending if linger.until > now => return false,
                // A long page takes as long as its reader goes on to take it, within reason.
                Poll::Ready(Ok(_)) => {
                    linger.until = linger.at_most.min(now + linger_timeout);
                }
                Poll::Pending | Poll::Ready(Err(_)) => {
                    self.peer = Peer::Gone;
                    break;
                }
            }
        }
        if Pin::new(&mut *io).poll_close(cx).is_pending() && linger.until > now {
            return false;
        }
        let ended = self.peer == Peer::Gone || linger.until <= now;
        if ended {
            (self.io, self.lingers) = (None, None);
        }
        ended
    }
}

/// Writes once.
fn write_some(
    io: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>, wire: &mut impl Buf,
) -> Poll<Result<usize, io::ErrorKind>> {
    match ready!(Pin::new(io).poll_write(cx, wire.chunk())) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero)),
        Ok(count) => {
            wire.advance(count);
            Poll::Ready(Ok(count))
        }
        Err(error) => Poll::Ready(Err(error.kind())),
    }
}

/// How many times `linger_timeout` a peer has at most to take what is written last.
const LINGERS_MAX: u32 = 30;
