//! One direction of a connection: bytes that were written, fly, arrive, and are read in that order.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pitaya_core::Instant;

use crate::sim::state::draw;

/// What the way between two ends is like.
#[derive(Clone, Debug)]
pub struct Wire {
    delay: RangeInclusive<Duration>,
    segment_bytes_max: usize,
    window_bytes: usize,
}

impl Default for Wire {
    /// Up to 2 ms, with segments as on an Ethernet and a window of 64 KiB.
    fn default() -> Self {
        let delay = Duration::from_micros(100)..=Duration::from_millis(2);
        Self { delay, segment_bytes_max: 1460, window_bytes: 64 << 10 }
    }
}

impl Wire {
    /// How long a segment is on its way.
    #[must_use]
    pub fn delay(self, delay: RangeInclusive<Duration>) -> Self {
        Self { delay, ..self }
    }

    /// Bytes of a segment at most; how many they are is chance. With 1 every byte arrives alone.
    #[must_use]
    pub fn segment_bytes_max(self, segment_bytes_max: usize) -> Self {
        Self { segment_bytes_max, ..self }
    }

    /// Bytes on their way or unread at most; then the writer waits.
    #[must_use]
    pub fn window_bytes(self, window_bytes: usize) -> Self {
        Self { window_bytes, ..self }
    }

    /// How long one trip takes, by a number of chance.
    pub(super) fn trip(&self, chance: u64) -> Duration {
        let (min, max) = (self.delay.start(), self.delay.end());
        let spread = max.saturating_sub(*min).as_micros() as u64 + 1;
        *min + Duration::from_micros(chance % spread)
    }
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    wire: Wire,
    seed: u64,
    /// The source of chance of this direction, and how often it was asked.
    source: u64,
    drawn: u64,
    flying: VecDeque<(Instant, Parcel)>,
    /// When the last parcel arrives; none may overtake it.
    last_at: Instant,
    arrived: VecDeque<u8>,
    /// Bytes that fly or have arrived.
    unread: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// All that was written has arrived.
    ended: bool,
    /// The reader is gone: what arrives comes back as a reset.
    deaf: bool,
    /// The writer has said that it is done.
    mute: bool,
    reset: bool,
}

/// What travels.
#[derive(Clone, Debug, Hash)]
pub(super) enum Parcel {
    Bytes(Vec<u8>),
    End,
    Reset,
}

impl Pipe {
    pub(super) fn new(wire: Wire, seed: u64, source: u64, now: Instant) -> Self {
        Self {
            wire,
            seed,
            source,
            drawn: 0,
            flying: VecDeque::new(),
            last_at: now,
            arrived: VecDeque::new(),
            unread: 0,
            reader: None,
            writer: None,
            ended: false,
            deaf: false,
            mute: false,
            reset: false,
        }
    }

    /// Takes what the window has room for, now and then less. `sent` is told when each segment
    /// arrives.
    pub(super) fn poll_write(
        &mut self, now: Instant, cx: &Context<'_>, bytes: &[u8], mut sent: impl FnMut(Instant),
    ) -> Poll<io::Result<usize>> {
        if self.reset || self.mute {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = self.wire.window_bytes.saturating_sub(self.unread).min(bytes.len());
        if room == 0 && !bytes.is_empty() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = self.some_of(room);
        let mut rest = &bytes[..taken];
        while !rest.is_empty() {
            let longest = self.wire.segment_bytes_max.clamp(1, rest.len());
            let (segment, later) = rest.split_at(self.draw() as usize % longest + 1);
            rest = later;
            self.unread += segment.len();
            sent(self.send(now, Parcel::Bytes(segment.to_vec())));
        }
        Poll::Ready(Ok(taken))
    }

    /// The writer is done; nothing if it was before.
    pub(super) fn send_end(&mut self, now: Instant) -> Option<Instant> {
        if self.reset || std::mem::replace(&mut self.mute, true) {
            return None;
        }
        Some(self.send(now, Parcel::End))
    }

    /// The writer is gone, and what the reader has not read by then is lost.
    pub(super) fn send_reset(&mut self, now: Instant) -> Instant {
        self.mute = true;
        self.send(now, Parcel::Reset)
    }

    /// Reads what has arrived, now and then less.
    pub(super) fn poll_read(
        &mut self, cx: &Context<'_>, buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let most = self.arrived.len().min(buffer.len());
        if most == 0 {
            if self.ended || buffer.is_empty() {
                return Poll::Ready(Ok(0));
            }
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = self.some_of(most);
        for (to, from) in buffer.iter_mut().zip(self.arrived.drain(..count)) {
            *to = from;
        }
        self.unread -= count;
        wake(&mut self.writer);
        Poll::Ready(Ok(count))
    }

    /// Takes in the parcel that is due.
    pub(super) fn arrive(&mut self, now: Instant) -> Option<Parcel> {
        let (_, parcel) = self.flying.pop_front_if(|(at, _)| *at <= now)?;
        match &parcel {
            Parcel::Bytes(_) if self.deaf || self.reset => {}
            Parcel::Bytes(bytes) => self.arrived.extend(bytes),
            Parcel::End => self.ended = true,
            Parcel::Reset => self.reset(),
        }
        wake(&mut self.reader);
        Some(parcel)
    }

    /// The reader is gone. Whether it left bytes unread.
    pub(super) fn deafen(&mut self) -> bool {
        self.deaf = true;
        !std::mem::take(&mut self.arrived).is_empty()
    }

    /// The connection is dead, in this direction too.
    pub(super) fn reset(&mut self) {
        self.reset = true;
        self.arrived.clear();
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Parcels arrive one after another, so each can be seen alone.
    fn send(&mut self, now: Instant, parcel: Parcel) -> Instant {
        let trip = self.draw();
        let at = (now + self.wire.trip(trip)).max(self.last_at + GAP);
        self.last_at = at;
        self.flying.push_back((at, parcel));
        at
    }

    /// All that can be, most of the time: a socket may always take or give less.
    fn some_of(&mut self, most: usize) -> usize {
        let chance = self.draw();
        if most > 0 && chance.is_multiple_of(4) { (chance / 4) as usize % most + 1 } else { most }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        draw(self.seed, self.source, self.drawn)
    }
}

fn wake(waker: &mut Option<Waker>) {
    waker.take().into_iter().for_each(Waker::wake);
}

const GAP: Duration = Duration::from_micros(1);
