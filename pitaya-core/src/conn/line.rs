//! What both ends of a connection do alike: write, beat, keep deadlines, and end once.

use std::convert::Infallible;

use bytes::Buf;
use pitaya_proto::message::Body;
use pitaya_proto::packet::{self, PacketKind};
use pitaya_proto::zlib::Scratch;

use crate::conn::CloseReason;
use crate::conn::heartbeat::Heartbeat;
use crate::conn::phase::Phase;
use crate::{Counters, Instant, Limits, Outbox, earlier};

/// One end of a connection: how far it has come, and what waits to be written.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) phase: Phase,
    pub(crate) outbox: Outbox,
    /// When the peer must have done its part of the handshake.
    pub(crate) shaken_by: Option<Instant>,
    /// When a packet that began must be whole.
    pub(crate) packet_by: Option<Instant>,
    /// Absent until the connection works, and for good if no heartbeats are asked for.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// Nothing is read, so silence is not held against the peer.
    pub(crate) paused: bool,
    /// The peer inflates, so what is long may be compressed.
    pub(crate) inflates: bool,
    /// Why, which most connections never hold.
    pub(crate) closed: Option<Box<CloseReason>>,
    pub(crate) told: bool,
    written_at: Instant,
}

impl Line {
    pub(crate) fn new(now: Instant, shaken_by: Instant) -> Self {
        Self {
            phase: Phase::AwaitHandshake,
            outbox: Outbox::default(),
            shaken_by: Some(shaken_by),
            packet_by: None,
            heartbeat: None,
            paused: false,
            inflates: false,
            closed: None,
            told: false,
            written_at: now,
        }
    }

    /// From now on messages flow.
    pub(crate) fn open(&mut self, heartbeat: Option<Heartbeat>) {
        self.phase = Phase::Working;
        (self.heartbeat, self.shaken_by) = (heartbeat, None);
    }

    /// Ends the connection, whatever ended it before.
    pub(crate) fn close(&mut self, reason: CloseReason, counters: &Counters) {
        reason.counter().into_iter().for_each(|counter| counters.add(counter));
        self.phase = Phase::Closed;
        (self.heartbeat, self.shaken_by, self.packet_by) = (None, None, None);
        (self.closed, self.told) = (Some(Box::new(reason)), false);
    }

    /// The end, if there is one that is not told.
    pub(crate) fn poll_closed(&mut self) -> Option<CloseReason> {
        let reason = self.closed.as_ref().filter(|_| !self.told)?;
        self.told = true;
        Some((**reason).clone())
    }

    /// A body as it is to be sent: compressed, if that may be and makes it shorter.
    pub(crate) fn body<'m>(
        &self, body: &'m [u8], scratch: &'m mut Scratch, limits: &Limits,
    ) -> Body<'m> {
        let worth_it = self.deflates(body.len(), limits);
        if worth_it { Body::deflate(body, scratch) } else { Body::Plain(body) }
    }

    /// Whether to try and compress a body of `bytes`.
    pub(crate) fn deflates(&self, bytes: usize, limits: &Limits) -> bool {
        self.inflates && bytes >= limits.compression_bytes_min
    }

    /// Queues one packet.
    pub(crate) fn write<E>(
        &mut self, now: Instant, packet: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.begin_to_wait(now);
        self.outbox.append(packet)
    }

    /// Queues one packet that is encoded already.
    pub(crate) fn write_packet(&mut self, now: Instant, packet: &[u8]) {
        let Ok(()) = self.write(now, |out| {
            out.extend_from_slice(packet);
            Ok::<(), Infallible>(())
        });
    }

    /// Queues a packet that says nothing but its kind.
    pub(crate) fn write_empty(&mut self, now: Instant, kind: PacketKind) {
        let written = self.write(now, |out| packet::encode(kind, &[], out));
        written.expect("an empty body fits every packet");
    }

    /// Queues the packets of another outbox.
    pub(crate) fn write_all(&mut self, now: Instant, packets: Outbox) {
        self.begin_to_wait(now);
        self.outbox.append_all(packets);
    }

    pub(crate) fn handle_written(&mut self, now: Instant, bytes: usize) {
        if bytes > 0 {
            self.written_at = now;
        }
    }

    #[inline]
    pub(crate) fn handle_heard(&mut self, now: Instant) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.last_heard = now;
        }
    }

    /// Sends a heartbeat if one is due; or gives the end, if a deadline has brought it.
    pub(crate) fn handle_timeout(&mut self, now: Instant, limits: &Limits) -> Option<CloseReason> {
        let mut deadlines = self.deadlines(limits).into_iter().zip(ENDS);
        let over = deadlines.find(|(deadline, _)| deadline.is_some_and(|by| by <= now));
        if let Some((_, reason)) = over {
            return Some(reason);
        }
        if self.heartbeat.as_mut().is_some_and(|heartbeat| heartbeat.handle_timeout(now)) {
            self.write_empty(now, PacketKind::Heartbeat);
        }
        None
    }

    pub(crate) fn poll_timeout(&self, limits: &Limits) -> Option<Instant> {
        let next_beat = self.heartbeat.as_ref().map(|heartbeat| heartbeat.next_beat);
        self.deadlines(limits).into_iter().fold(next_beat, earlier)
    }

    /// Until when the peer must have done what; see [`ENDS`].
    fn deadlines(&self, limits: &Limits) -> [Option<Instant>; 4] {
        // Before the handshake is done, that has a deadline of its own: layers may hold it up.
        let waits = self.shaken_by.is_none() && self.outbox.has_remaining();
        let written_by = waits.then(|| self.written_at + limits.write_timeout);
        let listens = self.heartbeat.as_ref().filter(|_| !self.paused);
        [self.shaken_by, self.packet_by, written_by, listens.map(Heartbeat::dead_at)]
    }

    /// What waited when nothing else did has all its time before it.
    fn begin_to_wait(&mut self, now: Instant) {
        if !self.outbox.has_remaining() {
            self.written_at = now;
        }
    }
}

/// What ends a connection at each of its deadlines.
const ENDS: [CloseReason; 4] = [
    CloseReason::HandshakeTimeout,
    CloseReason::PacketTimeout,
    CloseReason::SlowReader,
    CloseReason::Silent,
];
