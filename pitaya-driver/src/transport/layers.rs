//! TLS and WebSocket, one inside the other, between the bytes of a socket and those of a machine.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use pitaya_core::{Counter, Counters, Instant, Limits, Outbox};
use rustls::Connection;

use crate::transport::Room;
use crate::transport::turns::Ticket;
use crate::transport::upgrade::Upgrade;
use crate::transport::websocket::WebSocket;

/// The layers of one connection, and what they have to write.
#[derive(Debug)]
pub(super) struct Layers {
    tls: Option<Connection>,
    /// Until its handshake is over.
    ticket: Option<Ticket>,
    web: Option<WebLayer>,
    out: BytesMut,
    /// What `out` holds of the outbox, which forgets it once all of it is written.
    taken: usize,
    due: Option<Due>,
    upgrade_timeout: Option<Duration>,
    message_timeout: Option<Duration>,
    counters: Arc<Counters>,
    closed: bool,
    ended: bool,
}

/// What the peer has to have done by when.
#[derive(Debug)]
struct Due {
    by: Instant,
    counter: Counter,
}

impl Due {
    /// Nothing if the peer has all the time there is.
    fn after(now: Instant, timeout: Option<Duration>, counter: Counter) -> Option<Self> {
        timeout.map(|timeout| Self { by: now + timeout, counter })
    }
}

#[derive(Debug)]
enum WebLayer {
    Open(Box<WebSocket>),
    Opening(Box<Upgrade>),
}

/// How long the peer may take for each layer.
#[derive(Debug, Default)]
pub(super) struct Timeouts {
    tls: Option<Duration>,
    upgrade: Option<Duration>,
    message: Option<Duration>,
}

impl Timeouts {
    /// Those of a client for its server: it has `connect_timeout` for all of them together, a large
    /// message may take long, and silence is noticed otherwise.
    pub(super) const NONE: Self = Self { tls: None, upgrade: None, message: None };

    /// Those of a server for its clients.
    pub(super) fn of_clients(limits: &Limits) -> Self {
        Self {
            tls: Some(limits.tls_timeout),
            upgrade: Some(limits.upgrade_timeout),
            message: Some(limits.packet_timeout),
        }
    }
}

impl Layers {
    pub(super) fn new(
        tls: Option<Connection>, upgrade: Option<Upgrade>, now: Instant, timeouts: &Timeouts,
        counters: &Arc<Counters>,
    ) -> Self {
        let mut out = BytesMut::new();
        let web = upgrade.map(|mut upgrade| {
            if tls.is_none() {
                upgrade.begin(&mut out);
            }
            WebLayer::Opening(Box::new(upgrade))
        });
        let due = match tls {
            Some(_) => Due::after(now, timeouts.tls, Counter::TlsRefused),
            None => Due::after(now, timeouts.upgrade, Counter::UpgradesRefused),
        };
        let mut layers = Self {
            tls,
            ticket: None,
            web,
            out,
            taken: 0,
            due,
            upgrade_timeout: timeouts.upgrade,
            message_timeout: timeouts.message,
            counters: Arc::clone(counters),
            closed: false,
            ended: false,
        };
        // A client speaks first.
        layers.write_tls();
        layers
    }

    pub(super) fn hold(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    pub(super) fn decode(&mut self, now: Instant, wire: &[u8], room: &mut Room) -> io::Result<()> {
        room.plain.clear();
        if self.tls.is_none() {
            return self.decode_web(now, wire, &mut room.plain);
        }
        if self.web.is_none() {
            return self.decode_tls(now, wire, &mut room.plain);
        }
        room.clear.clear();
        // What came before a failure is still said.
        let decrypted = self.decode_tls(now, wire, &mut room.clear);
        self.decode_web(now, &room.clear, &mut room.plain)?;
        decrypted
    }

    pub(super) fn encode(&mut self, outbox: &mut Outbox) -> &mut BytesMut {
        if self.out.is_empty() {
            outbox.advance(std::mem::take(&mut self.taken).min(outbox.remaining()));
            // An idle connection owns no buffer.
            self.out = BytesMut::new();
            self.fill(outbox);
            outbox.handle_taken(self.taken);
        }
        &mut self.out
    }

    pub(super) fn close(&mut self) -> &mut BytesMut {
        if !std::mem::replace(&mut self.closed, true) {
            if let Some(WebLayer::Open(web)) = &mut self.web {
                let mut frame = BytesMut::new();
                web.close(if self.tls.is_some() { &mut frame } else { &mut self.out });
                self.encrypt(&frame);
            }
            if let Some(tls) = &mut self.tls {
                tls.send_close_notify();
            }
            self.write_tls();
        }
        &mut self.out
    }

    pub(super) fn handle_pause(&mut self) {
        if self.is_open() {
            self.due = None;
        }
    }

    pub(super) fn handle_resume(&mut self, now: Instant) {
        let Some(WebLayer::Open(web)) = &self.web else { return };
        if !web.has_begun() {
            self.due = None;
        } else if self.due.is_none() {
            self.due = Due::after(now, self.message_timeout, Counter::PacketsUnfinished);
        }
    }

    pub(super) fn wants_bytes(&self) -> bool {
        // What the machine says does not count: a peer may be as slow to take it, and wait for us.
        self.out.len() <= ANSWERS_BYTES_MAX + self.taken
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.as_ref().map(|due| due.by)
    }

    pub(super) fn handle_timeout(&self) {
        self.due.iter().for_each(|due| self.counters.add(due.counter));
    }

    /// Whether bytes of the machine can be carried.
    pub(super) fn is_open(&self) -> bool {
        let shaken = self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
        shaken && !matches!(self.web, Some(WebLayer::Opening(_)))
    }

    /// Carries some of what waits, but leaves it in the outbox until it is written.
    fn fill(&mut self, outbox: &Outbox) {
        if !self.is_open() || self.closed || !outbox.has_remaining() {
            return;
        }
        let Some(WebLayer::Open(web)) = &mut self.web else {
            let chunk = outbox.chunk();
            let chunk = &chunk[..chunk.len().min(FILL_BYTES)];
            self.taken = chunk.len();
            self.encrypt(chunk);
            return self.write_tls();
        };
        let mut frames = BytesMut::new();
        for packet in outbox.waiting() {
            if web.send_binary(packet, &mut frames).is_err() {
                break;
            }
            self.taken += packet.len();
            if self.taken >= FILL_BYTES {
                break;
            }
        }
        web.flush(&mut frames);
        if self.tls.is_none() {
            self.out = frames;
        } else {
            self.encrypt(&frames);
            self.write_tls();
        }
    }

    fn decode_tls(&mut self, now: Instant, mut wire: &[u8], clear: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let shaking = tls.is_handshaking();
        let decrypted = decrypt(tls, &mut wire, clear);
        let shaken = shaking && !tls.is_handshaking();
        self.write_tls();
        if shaken || decrypted.is_err() {
            self.ticket = None;
        }
        match decrypted {
            Ok(ended) => self.ended |= ended,
            Err(error) => {
                if shaking {
                    self.counters.add(Counter::TlsRefused);
                }
                return Err(error);
            }
        }
        if shaken {
            self.due = None;
            if let Some(WebLayer::Opening(upgrade)) = &mut self.web {
                self.due = Due::after(now, self.upgrade_timeout, Counter::UpgradesRefused);
                let mut head = BytesMut::new();
                upgrade.begin(&mut head);
                self.encrypt(&head);
                self.write_tls();
            }
        }
        Ok(())
    }

    fn decode_web(&mut self, now: Instant, mut wire: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        let mut out = BytesMut::new();
        let decoded = self.read_web(now, &mut wire, plain, &mut out);
        if self.tls.is_some() {
            self.encrypt(&out);
            self.write_tls();
        } else {
            self.out.unsplit(out);
        }
        decoded
    }

    fn read_web(
        &mut self, now: Instant, wire: &mut &[u8], plain: &mut Vec<u8>, out: &mut BytesMut,
    ) -> io::Result<()> {
        if let Some(WebLayer::Opening(upgrade)) = &mut self.web {
            match upgrade.read(wire, out) {
                Ok(Some(web)) => {
                    (self.web, self.due) = (Some(WebLayer::Open(Box::new(web))), None);
                }
                Ok(None) => {
                    self.ended |= upgrade.is_over();
                    return Ok(());
                }
                Err(error) => {
                    self.counters.add(Counter::UpgradesRefused);
                    return Err(error);
                }
            }
        }
        let Some(WebLayer::Open(web)) = &mut self.web else { return Ok(()) };
        while let Some(message) = web.read(wire, out)? {
            if message.is_binary() || message.is_text() {
                // Whatever has begun behind it has its own time.
                self.due = None;
                plain.extend_from_slice(whole_packets(&message.into_data())?);
            }
        }
        self.ended |= web.is_ended();
        self.handle_resume(now);
        Ok(())
    }

    fn encrypt(&mut self, bytes: &[u8]) {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes).expect("what is written is bounded before");
        }
    }

    /// Moves what TLS has to say into what is written to the socket.
    fn write_tls(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        while tls.wants_write() {
            tls.write_tls(&mut (&mut self.out).writer()).expect("memory takes everything");
        }
    }
}

/// Decrypts all of `wire`; whether the peer has said that nothing follows.
fn decrypt(tls: &mut Connection, wire: &mut &[u8], clear: &mut Vec<u8>) -> io::Result<bool> {
    let mut ended = false;
    while !wire.is_empty() && !ended {
        tls.read_tls(wire)?;
        let state = tls
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let before = clear.len();
        clear.resize(before + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut clear[before..])?;
        ended = state.peer_has_closed();
    }
    Ok(ended)
}

/// A message is whole packets: a packet that goes on in the next one would hold up no one but its
/// sender, yet no client needs it, and Pitaya refuses it.
fn whole_packets(message: &[u8]) -> io::Result<&[u8]> {
    let mut rest = message;
    while let Some((header, after)) = rest.split_first_chunk::<4>() {
        let [_, high, middle, low] = *header;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let Some(next) = after.get(length..) else { break };
        rest = next;
    }
    if rest.is_empty() && !message.is_empty() {
        return Ok(message);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a WebSocket message that is no whole packets"))
}

/// How much may wait to be written, of answers to pings for example, before nothing is read.
const ANSWERS_BYTES_MAX: usize = 64 << 10;
/// How much of an outbox is carried at a time: one full record of TLS.
const FILL_BYTES: usize = 16 << 10;
