//! Calls between servers with the least there can be: frames of a link, joined by their ids, and
//! nothing else.
//!
//! What is called in one turn shares a write, and so do the answers to what was read at once. The
//! bodies are bare, where ours have the messages of Pitaya around them. The same over our QUIC
//! shows what that costs, without all else that ours does.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use pitaya_core::cluster::ServerId;
use pitaya_core::{Counters, Limits};
use pitaya_driver::Native;
use pitaya_driver::cluster::{Identity, Network, Quic};
use pitaya_proto::link::{self, Frame};
use pitaya_tokio::{Tokio, block_on};
use slab::Slab;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_codec::compat::TokioAsyncReadCompatExt;

use super::Order;
use super::load::{self, BODY_BYTES, Caller};
use crate::cluster::SECRET;
use crate::load::Outcome;
use crate::targets::announce;

/// Answers the first who connects to `listener`, until it is gone.
pub(crate) fn answer(listener: TcpListener) -> io::Result<()> {
    answer_by(listener, repeat)
}

/// The same with what `work` appends for the body of a call.
pub(super) fn answer_by(
    listener: TcpListener, work: impl FnMut(&[u8], &mut Vec<u8>),
) -> io::Result<()> {
    block_on(async {
        listener.set_nonblocking(true)?;
        let (stream, _) = tokio::net::TcpListener::from_std(listener)?.accept().await?;
        stream.set_nodelay(true)?;
        answer_all(stream.compat(), work).await;
        Ok(())
    })?
}

/// The same over our QUIC.
pub(crate) fn answer_over_quic() -> io::Result<()> {
    block_on(async {
        let network = quic("room").await?;
        announce(network.address()?)?;
        answer_all(network.accept().await?.await?.io, repeat).await;
        Ok(())
    })?
}

pub(super) fn call(order: &Order) -> io::Result<Outcome> {
    block_on(async { load::run(order, &Mux::connect(order.address).await?).await })?
}

pub(super) fn call_over_quic(order: &Order) -> io::Result<Outcome> {
    block_on(async {
        let network = quic("gate").await?;
        let stream = network.dial(order.address).await?;
        load::run(order, &Mux::start(stream.io)).await
    })?
}

/// The network of a server of that kind.
async fn quic(kind: &str) -> io::Result<Quic> {
    let id = ServerId::new(kind).ok_or_else(|| io::Error::other("no name of a server"))?;
    let identity = Identity::from_secret(SECRET, kind, &id).map_err(io::Error::other)?;
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let (runtime, limits) = (Tokio::current()?, Limits::default());
    Quic::bind(runtime, address, &identity, &limits, Arc::new(Counters::default())).await
}

/// Whoever calls over one stream; clones share it.
#[derive(Clone)]
pub(super) struct Mux(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    /// Frames that no write has taken.
    output: Vec<u8>,
    waiting: Slab<oneshot::Sender<Vec<u8>>>,
    /// The task of the stream, if it waits for frames.
    writer: Option<Waker>,
}

impl Mux {
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::start(stream.compat()))
    }

    /// What comes back for `request`.
    pub(super) async fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let (teller, told) = oneshot::channel();
        {
            let mut shared = self.lock();
            let id = shared.waiting.insert(teller) as u32;
            let call = Frame::Call { id, remaining: REMAINING, request };
            link::encode(&call, &mut shared.output).map_err(io::Error::other)?;
            if let Some(writer) = shared.writer.take() {
                writer.wake();
            }
        }
        told.await.map_err(io::Error::other)
    }

    fn start(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let mux = Self(Arc::default());
        tokio::spawn(mux.clone().carry(stream));
        mux
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is called and reads what is answered, until the stream ends.
    async fn carry(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let (mut input, mut output) = (Input::new(), Output::default());
        let ended = poll_fn(|cx| -> Poll<io::Result<()>> {
            let take = |frame: Frame<'_>| self.take(&frame);
            while input.poll(&mut stream, cx, take)?.is_ready() {}
            while self.refill(cx, &mut output) {
                ready!(output.poll(&mut stream, cx))?;
            }
            Poll::Pending
        })
        .await;
        if ended.is_err() {
            // Those who wait are told by being dropped.
            self.lock().waiting.clear();
        }
    }

    /// Whether there is something to write; if not, the task is woken when there is.
    fn refill(&self, cx: &Context<'_>, output: &mut Output) -> bool {
        if !output.bytes.is_empty() {
            return true;
        }
        let mut shared = self.lock();
        std::mem::swap(&mut output.bytes, &mut shared.output);
        let is_idle = output.bytes.is_empty();
        shared.writer = is_idle.then(|| cx.waker().clone());
        !is_idle
    }

    fn take(&self, frame: &Frame<'_>) {
        let Frame::Reply { id, response } = frame else { return };
        if let Some(waiting) = self.lock().waiting.try_remove(*id as usize) {
            // Nobody gives up but with all the others.
            let _ = waiting.send(response.to_vec());
        }
    }
}

impl Caller for Mux {
    type Reply = Vec<u8>;

    async fn call(&mut self, body: [u8; BODY_BYTES]) -> io::Result<Vec<u8>> {
        self.ask(&body).await
    }
}

/// Answers every call with what `work` makes of it, until the caller is gone.
async fn answer_all(
    mut stream: impl AsyncRead + AsyncWrite + Unpin, mut work: impl FnMut(&[u8], &mut Vec<u8>),
) {
    let (mut input, mut output) = (Input::new(), Output::default());
    let mut response = Vec::new();
    let gone = poll_fn(|cx| -> Poll<io::Result<()>> {
        loop {
            // Nothing is read from a peer that does not read.
            ready!(output.poll(&mut stream, cx))?;
            let bytes = &mut output.bytes;
            ready!(input.poll(&mut stream, cx, |frame| {
                if let Frame::Call { id, request, .. } = frame {
                    response.clear();
                    work(request, &mut response);
                    let reply = Frame::Reply { id, response: &response };
                    link::encode(&reply, bytes).expect("it is as short as the call");
                }
            }))?;
        }
    });
    // Had it been too early, the caller would say so.
    let _ = gone.await;
}

/// Bare bodies are their own answers.
fn repeat(request: &[u8], response: &mut Vec<u8>) {
    response.extend_from_slice(request);
}

/// What was read and not yet taken.
struct Input {
    bytes: Vec<u8>,
    held: usize,
}

impl Input {
    fn new() -> Self {
        Self { bytes: vec![0; INPUT_BYTES], held: 0 }
    }

    /// Reads once and gives all whole frames to `take`.
    fn poll(
        &mut self, stream: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>,
        mut take: impl FnMut(Frame<'_>),
    ) -> Poll<io::Result<()>> {
        let room = &mut self.bytes[self.held..];
        let read = ready!(Pin::new(stream).poll_read(cx, room))?;
        if read == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let held = self.held + read;
        let mut rest = &self.bytes[..held];
        while let Some(frame) = link::decode(&mut rest, BODY_BYTES * 2).map_err(io::Error::other)? {
            take(frame);
        }
        self.held = rest.len();
        self.bytes.copy_within(held - self.held..held, 0);
        Poll::Ready(Ok(()))
    }
}

/// What the peer has not taken yet.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    fn poll(
        &mut self, stream: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            let rest = &self.bytes[self.sent..];
            self.sent += ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
        }
        self.bytes.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

const INPUT_BYTES: usize = 64 * 1024;
const REMAINING: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{Way, expect_own_answers};

    #[test]
    fn every_call_has_its_own_body_for_an_answer() {
        expect_own_answers(answer, (Way::Mux, call), 300, 10_000);
    }
}
