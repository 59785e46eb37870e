//! What waits to be written to one stream, with the places where packets end.

use std::collections::VecDeque;

use bytes::Buf;

use crate::Limits;

/// Bytes to write, packet by packet.
///
/// All that waits is one run of bytes, read through [`Buf`], so that partial writes need no code.
/// Packets that were not wholly written can be had again whole, for the next connection of the same
/// session.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The bytes of `packets`, in order, behind those of packets that are done with.
    bytes: Vec<u8>,
    /// Where the first packet begins.
    start: usize,
    /// How long each packet is.
    packets: VecDeque<usize>,
    /// How much of the first packet is written.
    front_written: usize,
    /// How much of the rest is on its way, for all that is known here.
    taken: usize,
    /// Packets that are done with: also the number of the first in `packets`.
    done: u64,
}

impl Outbox {
    /// Appends one packet that `write` puts at the end of the buffer it is given.
    ///
    /// # Errors
    ///
    /// Whatever `write` gives; nothing is appended then.
    pub fn append<E>(
        &mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.bytes.len();
        let written = write(&mut self.bytes);
        match written {
            Ok(()) => self.packets.push_back(self.bytes.len() - before),
            Err(_) => self.bytes.truncate(before),
        }
        written
    }

    /// Lets the memory of an outbox go in which nothing waits: that of an idle connection.
    pub fn rest(&mut self) {
        if self.packets.is_empty() {
            self.clear();
        }
    }

    /// Packets that are not wholly written.
    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    /// The packets themselves, for those who carry each of them in a frame. One that was partly
    /// written is among them as a whole.
    pub fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[self.start..];
        self.packets.iter().filter_map(move |packet| rest.split_off(..*packet))
    }

    /// Whether `bytes` more may wait. What is longer than the limit may wait alone.
    pub(crate) fn has_room(&self, bytes: usize, limits: &Limits) -> bool {
        !self.has_remaining()
            || (self.packets.len() < limits.outbound_packets_max
                && self.remaining() + bytes <= limits.outbound_bytes_max)
    }

    /// Forgets everything, as when nobody is left to write to.
    pub fn clear(&mut self) {
        *self = Self { done: self.appended(), ..Self::default() };
    }

    /// How many packets were ever appended: the number of the next one.
    pub(crate) fn appended(&self) -> u64 {
        self.done + self.packets.len() as u64
    }

    /// The next `bytes` are on their way, but count as written only once they are advanced over.
    pub fn handle_taken(&mut self, bytes: usize) {
        self.taken = bytes;
    }

    /// The number of the first packet that the peer surely has not got whole.
    pub(crate) fn first_unsent(&self) -> u64 {
        let mut sent = self.front_written + self.taken;
        let whole = self.packets.iter().map_while(|packet| {
            sent = sent.checked_sub(*packet)?;
            Some(())
        });
        self.done + whole.count() as u64
    }

    /// Moves everything of `other` behind what waits here; of a packet that was partly written all
    /// of it, as the stream it was written to is gone.
    pub fn append_all(&mut self, mut other: Self) {
        self.bytes.extend_from_slice(&other.bytes[other.start..]);
        self.packets.append(&mut other.packets);
    }

    /// A backlog that never empties must not keep what was written long ago.
    fn compact(&mut self) {
        if self.start >= COMPACT_BYTES_MIN && self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// A busy connection keeps its buffer, unless it is a large one.
    fn release(&mut self) {
        self.start = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.start - self.front_written
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes[self.start + self.front_written..]
    }

    /// # Panics
    ///
    /// If `count` is more than [`remaining`](Buf::remaining).
    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "advanced past the end of the outbox");
        self.front_written += count;
        self.taken = self.taken.saturating_sub(count);
        while let Some(&packet) = self.packets.front() {
            if self.front_written < packet {
                return self.compact();
            }
            self.front_written -= packet;
            self.start += packet;
            self.packets.pop_front();
            self.done += 1;
        }
        self.release();
    }
}

/// What an empty outbox may keep until it rests.
const KEPT_BYTES_MAX: usize = 8 << 10;
/// Below this, moving what is left costs more than the room it takes.
const COMPACT_BYTES_MIN: usize = 4096;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn outbox(packets: &[&[u8]]) -> Outbox {
        let mut outbox = Outbox::default();
        for packet in packets {
            let Ok(()) = outbox.append(|out| {
                out.extend_from_slice(packet);
                Ok::<(), Infallible>(())
            });
        }
        outbox
    }

    fn drain(mut outbox: Outbox, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while outbox.has_remaining() {
            let chunk = outbox.chunk();
            let step = step.min(chunk.len());
            all.extend_from_slice(&chunk[..step]);
            outbox.advance(step);
        }
        all
    }

    #[test]
    fn packets_leave_in_one_write() {
        assert_eq!(outbox(&[b"ab", b"cd"]).chunk(), b"abcd");
    }

    #[test]
    fn bytes_leave_in_order_however_little_is_written_at_a_time() {
        for step in 1..=12 {
            let outbox = outbox(&[b"ab", b"cdEFG", b"h", b"iJ"]);
            assert_eq!(drain(outbox, step), b"abcdEFGhiJ", "{step} bytes at a time");
        }
    }

    #[test]
    fn a_packet_that_was_partly_written_comes_again_whole() {
        let mut old = outbox(&[b"ab", b"cdEF", b"g"]);
        old.advance(5);
        let mut new = outbox(&[b"first"]);
        new.append_all(old);
        assert_eq!(drain(new, 3), b"firstcdEFg");
    }

    #[test]
    fn packets_can_be_had_one_by_one() {
        let mut outbox = outbox(&[b"ab", b"cdEF", b"g"]);
        outbox.advance(2);
        assert_eq!(outbox.waiting().collect::<Vec<_>>(), [&b"cdEF"[..], b"g"]);
    }

    #[test]
    fn a_packet_that_cannot_be_written_leaves_nothing_behind() {
        let mut outbox = outbox(&[b"ab"]);
        let refused = outbox.append(|out| {
            out.extend_from_slice(b"half");
            Err("refused")
        });
        assert_eq!(refused, Err("refused"));
        assert_eq!((outbox.packets(), drain(outbox, 9)), (1, b"ab".to_vec()));
    }

    #[test]
    fn a_backlog_that_never_empties_does_not_grow() {
        let mut outbox = outbox(&[&[1; 1000]]);
        for _ in 0..100 {
            let Ok(()) = outbox.append(|out| {
                out.extend_from_slice(&[1; 1000]);
                Ok::<(), Infallible>(())
            });
            outbox.advance(1000);
        }
        assert_eq!(outbox.remaining(), 1000);
        assert!(outbox.bytes.len() < 10_000);
    }

    #[test]
    fn an_outbox_at_rest_keeps_no_memory() {
        let mut outbox = outbox(&[&[7; 4096]]);
        outbox.advance(4096);
        outbox.rest();
        assert_eq!(outbox.bytes.capacity(), 0);
    }
}
