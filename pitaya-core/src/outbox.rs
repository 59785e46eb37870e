//! What waits to be written to one stream, with the places where packets end.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Bytes to write, packet by packet.
///
/// Small packets are copied into one buffer and leave in one write; a large body is kept by
/// reference. Reading it through [`Buf`] makes partial writes need no code. Packets that were not
/// wholly written can be had again whole, for the next connection of the same session.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The copied bytes of `packets`, in order, `start` of them done with.
    copied: Vec<u8>,
    start: usize,
    packets: VecDeque<Waiting>,
    /// How much of the first packet is written.
    front_written: usize,
    bytes: usize,
    shared: usize,
}

#[derive(Debug)]
struct Waiting {
    copied: usize,
    /// Comes after the copied bytes; empty for most packets.
    shared: Bytes,
}

impl Waiting {
    fn len(&self) -> usize {
        self.copied + self.shared.len()
    }
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
        self.append_shared(Bytes::new(), write)
    }

    /// Appends one packet whose last bytes are `shared`, by reference; `write` puts what comes
    /// before.
    ///
    /// # Errors
    ///
    /// Whatever `write` gives; nothing is appended then.
    pub fn append_shared<E>(
        &mut self, shared: Bytes, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.copied.len();
        if let Err(error) = write(&mut self.copied) {
            self.copied.truncate(before);
            return Err(error);
        }
        let packet = Waiting { copied: self.copied.len() - before, shared };
        self.bytes += packet.len();
        self.shared += usize::from(!packet.shared.is_empty());
        self.packets.push_back(packet);
        Ok(())
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

    /// Forgets everything, as when nobody is left to write to.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Moves everything of `other` behind what waits here; of a packet that was partly written all of
    /// it, as the stream it was written to is gone.
    pub fn append_all(&mut self, mut other: Self) {
        self.copied.extend_from_slice(&other.copied[other.start..]);
        self.bytes += other.bytes + other.front_written;
        self.shared += other.shared;
        self.packets.append(&mut other.packets);
    }

    /// The copied bytes that can leave before the next shared body.
    fn copied_run(&self, skip: usize) -> usize {
        if self.shared == 0 {
            return self.copied.len() - self.start;
        }
        let mut run = 0;
        for packet in self.packets.iter().skip(skip) {
            run += packet.copied;
            if !packet.shared.is_empty() {
                break;
            }
        }
        run
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        match self.packets.front() {
            None => &[],
            Some(packet) if self.front_written < packet.copied => {
                let end = self.start + self.copied_run(0);
                &self.copied[self.start + self.front_written..end]
            }
            Some(packet) => &packet.shared[self.front_written - packet.copied..],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let (mut at, mut written) = (self.start, self.front_written);
        let mut from = at + written.min(self.packets.front().map_or(0, |packet| packet.copied));
        for packet in &self.packets {
            at += packet.copied;
            if packet.shared.is_empty() {
                written = 0;
                continue;
            }
            let shared = &packet.shared[written.saturating_sub(packet.copied)..];
            written = 0;
            for part in [&self.copied[from..at], shared] {
                if filled == slices.len() {
                    return filled;
                }
                if !part.is_empty() {
                    slices[filled] = IoSlice::new(part);
                    filled += 1;
                }
            }
            from = at;
        }
        if filled < slices.len() && from < at {
            slices[filled] = IoSlice::new(&self.copied[from..at]);
            filled += 1;
        }
        filled
    }

    /// # Panics
    ///
    /// If `count` is more than [`remaining`](Buf::remaining).
    fn advance(&mut self, count: usize) {
        assert!(count <= self.bytes, "advanced past the end of the outbox");
        self.bytes -= count;
        self.front_written += count;
        while let Some(packet) = self.packets.front() {
            if self.front_written < packet.len() {
                return self.compact();
            }
            self.front_written -= packet.len();
            self.start += packet.copied;
            self.shared -= usize::from(!packet.shared.is_empty());
            self.packets.pop_front();
        }
        self.release();
    }
}

impl Outbox {
    /// A backlog that never empties must not keep what was written long ago.
    fn compact(&mut self) {
        if self.start >= COMPACT_BYTES_MIN && self.start * 2 >= self.copied.len() {
            self.copied.drain(..self.start);
            self.start = 0;
        }
    }

    /// A busy connection keeps its buffer, unless it is a large one.
    fn release(&mut self) {
        self.start = 0;
        self.copied.clear();
        if self.copied.capacity() > KEPT_BYTES_MAX {
            self.copied = Vec::new();
        }
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

    fn outbox(packets: &[(&[u8], &'static [u8])]) -> Outbox {
        let mut outbox = Outbox::default();
        for (copied, shared) in packets {
            let Ok(()) = outbox.append_shared(Bytes::from_static(shared), |out| {
                out.extend_from_slice(copied);
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
    fn small_packets_leave_in_one_write() {
        assert_eq!(outbox(&[(b"ab", b""), (b"cd", b"")]).chunk(), b"abcd");
    }

    #[test]
    fn bytes_leave_in_order_however_little_is_written_at_a_time() {
        for step in 1..=12 {
            let outbox = outbox(&[(b"ab", b""), (b"cd", b"EFG"), (b"h", b""), (b"i", b"J")]);
            assert_eq!(drain(outbox, step), b"abcdEFGhiJ", "{step} bytes at a time");
        }
    }

    #[test]
    fn vectored_writes_show_the_same_bytes_at_every_point() {
        let all = b"abcdEFGhiJk";
        for written in 0..all.len() {
            let mut outbox =
                outbox(&[(b"ab", b""), (b"cd", b"EFG"), (b"h", b""), (b"i", b"J"), (b"k", b"")]);
            outbox.advance(written);
            let mut slices = [IoSlice::new(&[]); 8];
            let filled = outbox.chunks_vectored(&mut slices);
            let shown: Vec<&[u8]> = slices[..filled].iter().map(|slice| &**slice).collect();
            assert_eq!(shown.concat(), all[written..], "after {written} bytes");
        }
    }

    #[test]
    fn a_packet_that_was_partly_written_comes_again_whole() {
        let mut old = outbox(&[(b"ab", b""), (b"cd", b"EF"), (b"g", b"")]);
        old.advance(5);
        let mut new = outbox(&[(b"first", b"")]);
        new.append_all(old);
        assert_eq!(drain(new, 3), b"firstcdEFg");
    }

    #[test]
    fn a_packet_that_cannot_be_written_leaves_nothing_behind() {
        let mut outbox = outbox(&[(b"ab", b"")]);
        let refused = outbox.append(|out| {
            out.extend_from_slice(b"half");
            Err("refused")
        });
        assert_eq!(refused, Err("refused"));
        assert_eq!((outbox.packets(), drain(outbox, 9)), (1, b"ab".to_vec()));
    }

    #[test]
    fn a_backlog_that_never_empties_does_not_grow() {
        let mut outbox = outbox(&[(&[1; 1000], b"")]);
        for _ in 0..100 {
            let Ok(()) = outbox.append(|out| {
                out.extend_from_slice(&[1; 1000]);
                Ok::<(), Infallible>(())
            });
            outbox.advance(1000);
        }
        assert_eq!(outbox.remaining(), 1000);
        assert!(outbox.copied.len() < 10_000);
    }

    #[test]
    fn an_outbox_at_rest_keeps_no_memory() {
        let mut outbox = outbox(&[(&[7; 4096], b"")]);
        outbox.advance(4096);
        outbox.rest();
        assert_eq!(outbox.copied.capacity(), 0);
    }
}
