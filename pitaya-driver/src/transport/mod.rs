//! What stands between a socket and a machine, without either: TLS and WebSocket are values here,
//! fed with bytes, so each of them works on every runtime and in the simulator.

mod layers;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
pub(crate) mod turns;
mod upgrade;
mod websocket;

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use pitaya_core::{Counters, Instant, Limits, Outbox};

use layers::{Layers, Timeouts};
use tls::{Tls, TlsClient};
use turns::Ticket;
use upgrade::Upgrade;
pub use upgrade::{Page, Web};
pub use websocket::WebSocket;

/// The layers of one connection: none for TCP, TLS, WebSocket, or WebSocket over TLS.
///
/// It turns the bytes of a socket into the bytes of a machine and back.
#[derive(Debug, Default)]
pub struct Transport(Option<Box<Layers>>);

impl Transport {
    /// No layer at all: TCP as it is.
    pub const TCP: Self = Self(None);

    /// The layers of a connection that a server accepted at `now`.
    ///
    /// # Errors
    ///
    /// A TLS configuration that is of no use.
    pub fn accept(
        tls: Option<&Tls>, web: Option<&Arc<Web>>, now: Instant, limits: &Limits,
        counters: &Arc<Counters>,
    ) -> io::Result<Self> {
        if tls.is_none() && web.is_none() {
            return Ok(Self::TCP);
        }
        let tls = tls.map(Tls::accept).transpose()?;
        let web = web.map(|web| Upgrade::accept(Arc::clone(web), limits));
        let timeouts = Timeouts::of_clients(limits);
        Ok(Self(Some(Box::new(Layers::new(tls, web, now, &timeouts, counters)))))
    }

    /// The layers of a connection that a client makes at `now`: with TLS to the host of that name,
    /// with a WebSocket at that authority (the host, and the port if it is not the usual one) and
    /// path. They have no deadline of their own: whoever connects has one for all of it.
    ///
    /// # Errors
    ///
    /// A host, authority or path that cannot be asked for.
    pub fn connect(
        tls: Option<(&TlsClient, &str)>, web: Option<(&str, &str)>, now: Instant, limits: &Limits,
        counters: &Arc<Counters>,
    ) -> io::Result<Self> {
        if tls.is_none() && web.is_none() {
            return Ok(Self::TCP);
        }
        let tls = tls.map(|(tls, host)| tls.connect(host)).transpose()?;
        let ask = |(authority, path)| Upgrade::connect(authority, path, limits);
        let web = web.map(ask).transpose()?;
        Ok(Self(Some(Box::new(Layers::new(tls, web, now, &Timeouts::NONE, counters)))))
    }

    /// Keeps the turn of a connection until it has shaken hands of TLS.
    pub(crate) fn hold(&mut self, ticket: Ticket) {
        if let Some(layers) = &mut self.0 {
            layers.hold(ticket);
        }
    }

    /// The machine's bytes of what the socket gave; what came before a failure is still said.
    /// `room` is lent for the call.
    ///
    /// # Errors
    ///
    /// Bytes that the layers do not know; the connection ends.
    pub fn decode<'b>(
        &mut self, now: Instant, wire: &'b [u8], room: &'b mut Room,
    ) -> (&'b [u8], io::Result<()>) {
        match &mut self.0 {
            None => (wire, Ok(())),
            Some(layers) => {
                let decoded = layers.decode(now, wire, room);
                (&room.plain, decoded)
            }
        }
    }

    /// The socket's bytes of what the machine wants to say. Packets leave the outbox once they are
    /// wholly written to the socket.
    pub fn encode<'w>(&'w mut self, outbox: &'w mut Outbox) -> Wire<'w> {
        match &mut self.0 {
            None => Wire::Packets(outbox),
            Some(layers) => Wire::Bytes(layers.encode(outbox)),
        }
    }

    /// What the layers themselves still have to say: all of it, once nothing of the machine's
    /// follows.
    pub fn close(&mut self) -> Option<&mut BytesMut> {
        self.0.as_mut().map(|layers| layers.close())
    }

    /// Nothing is read for now, so an unfinished message is not held against the peer.
    pub fn handle_pause(&mut self) {
        self.0.iter_mut().for_each(|layers| layers.handle_pause());
    }

    /// Something is read again: an unfinished message has its time from `now` on.
    pub fn handle_resume(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|layers| layers.handle_resume(now));
    }

    /// Whether bytes of the machine can be carried.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|layers| layers.is_open())
    }

    /// Whether the peer has said that nothing follows, in the words of a layer.
    pub fn is_ended(&self) -> bool {
        self.0.as_ref().is_some_and(|layers| layers.is_ended())
    }

    /// Whether more may be read: what the layers answer by themselves has to leave first.
    pub fn wants_bytes(&self) -> bool {
        self.0.as_ref().is_none_or(|layers| layers.wants_bytes())
    }

    /// Until when the peer must have done what a layer waits for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.0.as_ref()?.poll_timeout()
    }

    /// Counts what the peer did not do in time.
    pub fn handle_timeout(&self) {
        self.0.iter().for_each(|layers| layers.handle_timeout());
    }
}

/// What is written to a socket.
#[derive(Debug)]
pub enum Wire<'w> {
    /// What the layers made of packets.
    Bytes(&'w mut BytesMut),
    /// The packets as they are.
    Packets(&'w mut Outbox),
}

impl Buf for Wire<'_> {
    #[inline]
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Packets(outbox) => outbox.remaining(),
        }
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Packets(outbox) => outbox.chunk(),
        }
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::Packets(outbox) => outbox.advance(count),
        }
    }
}

/// Room for the bytes of one read on their way through the layers; a thread has one.
#[derive(Debug, Default)]
pub struct Room {
    /// What TLS gave and a WebSocket is to take.
    clear: Vec<u8>,
    /// What the machine is to take.
    plain: Vec<u8>,
}
