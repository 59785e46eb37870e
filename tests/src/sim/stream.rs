//! Sockets of the simulated network.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};
use pitaya_driver::Listener;

use crate::sim::Sim;
use crate::sim::net::{LinkId, Side};

/// One end of a connection.
///
/// Dropping it closes it as TCP does: plainly, but with a reset if bytes were left unread.
#[derive(Debug)]
pub struct SimStream {
    link: LinkId,
    resets: bool,
    side: Side,
    sim: Sim,
}

impl SimStream {
    pub(super) fn new(sim: Sim, link: LinkId, side: Side) -> Self {
        Self { link, resets: false, side, sim }
    }

    /// Drops it with a reset: the peer loses what it has not read.
    pub fn reset(mut self) {
        self.resets = true;
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.sim.state();
        let inbound = state.net.inbound(self.link, self.side).expect("this end is open");
        inbound.poll_read(cx, buffer)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (mut state, mut arrivals) = (self.sim.state(), Vec::new());
        let now = state.now;
        let outbound = state.net.outbound(self.link, self.side).expect("this end is open");
        let written = outbound.poll_write(now, cx, bytes, |at| arrivals.push(at));
        if let Poll::Ready(Ok(taken)) = written {
            state.tap(self.link, self.side, &bytes[..taken]);
        }
        arrivals.into_iter().for_each(|at| state.plan_arrival(at, self.link, self.side));
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sim.state().send_end(self.link, self.side, false);
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.sim.state().hang_up(self.link, self.side, self.resets);
    }
}

/// A socket that listens; once it is dropped nobody can connect.
#[derive(Debug)]
pub struct SimListener {
    address: SocketAddr,
    number: u64,
    sim: Sim,
}

impl SimListener {
    pub(super) fn new(sim: Sim, address: SocketAddr, number: u64) -> Self {
        Self { address, number, sim }
    }

    fn poll_accept(&self, cx: &Context<'_>) -> Poll<(SimStream, SocketAddr)> {
        let mut state = self.sim.state();
        let Some(backlog) = state.net.backlog(self.address, self.number) else {
            return Poll::Pending;
        };
        match backlog.waiting.pop_front() {
            Some((link, remote)) => {
                Poll::Ready((SimStream::new(self.sim.clone(), link, Side::Acceptor), remote))
            }
            None => {
                backlog.acceptor = Some(Waker::clone(cx.waker()));
                Poll::Pending
            }
        }
    }
}

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&self) -> io::Result<(SimStream, SocketAddr)> {
        Ok(poll_fn(|cx| self.poll_accept(cx)).await)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut state = self.sim.state();
        if state.net.backlog(self.address, self.number).is_some() {
            state.deafen(self.address);
        }
    }
}
