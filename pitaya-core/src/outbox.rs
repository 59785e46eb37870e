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
    queue: Option<Box<Queue>>,
    /// Packets that are done with: also the number of the first that is not.
    done: u64,
}

#[derive(Debug, Default)]
struct Queue {
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
        let Queue { bytes, packets, .. } = &mut **self.queue.get_or_insert_default();
        let before = bytes.len();
        let written = write(bytes);
        match written {
            Ok(()) => packets.push_back(bytes.len() - before),
            Err(_) => bytes.truncate(before),
        }
        written
    }

    /// Lets the memory of an outbox go in which nothing waits: that of an idle connection.
    pub fn rest(&mut self) {
        if self.packets() == 0 {
            self.clear();
        }
    }

    /// Lends the memory of this outbox, in which nothing waits, to one that has none.
    pub fn lend(&mut self, other: &mut Self) {
        if other.queue.is_none() {
            other.queue = self.queue.take();
        }
    }

    /// Takes the memory of an outbox in which nothing waits.
    pub fn take_back(&mut self, other: &mut Self) {
        if other.queue.is_some() && other.packets() == 0 {
            self.queue = other.queue.take();
        }
    }

    /// Packets that are not wholly written.
    pub fn packets(&self) -> usize {
        self.queue().packets.len()
    }

    /// The packets themselves, for those who carry each of them in a frame. One that was partly
    /// written is among them as a whole.
    pub fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.queue().bytes[self.queue().start..];
        self.queue().packets.iter().filter_map(move |packet| rest.split_off(..*packet))
    }

    /// Whether `bytes` more may wait. What is longer than the limit may wait alone.
    pub(crate) fn has_room(&self, bytes: usize, limits: &Limits) -> bool {
        !self.has_remaining()
            || (self.packets() < limits.outbound_packets_max
                && self.remaining() + bytes <= limits.outbound_bytes_max)
    }

    /// Forgets everything, as when nobody is left to write to.
    pub fn clear(&mut self) {
        (self.done, self.queue) = (self.appended(), None);
    }

    /// How many packets were ever appended: the number of the next one.
    pub(crate) fn appended(&self) -> u64 {
        self.done + self.packets() as u64
    }

    /// The next `bytes` are on their way, but count as written only once they are advanced over.
    pub fn handle_taken(&mut self, bytes: usize) {
        self.queue.iter_mut().for_each(|queue| queue.taken = bytes);
    }

    /// The number of the first packet that the peer surely has not got whole.
    pub(crate) fn first_unsent(&self) -> u64 {
        let mut sent = self.queue().front_written + self.queue().taken;
        let whole = self.queue().packets.iter().map_while(|packet| {
            sent = sent.checked_sub(*packet)?;
            Some(())
        });
        self.done + whole.count() as u64
    }

    /// Moves everything of `other` behind what waits here; of a packet that was partly written all
    /// of it, as the stream it was written to is gone.
    pub fn append_all(&mut self, other: Self) {
        if let Some(mut other) = other.queue {
            let queue = self.queue.get_or_insert_default();
            queue.bytes.extend_from_slice(&other.bytes[other.start..]);
            queue.packets.append(&mut other.packets);
        }
    }

    fn queue(&self) -> &Queue {
        self.queue.as_deref().unwrap_or(&NOTHING)
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        let Queue { bytes, start, front_written, .. } = self.queue();
        &bytes[start + front_written..]
    }

    /// # Panics
    ///
    /// If `count` is more than [`remaining`](Buf::remaining).
    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "advanced past the end of the outbox");
        let Some(queue) = &mut self.queue else { return };
        queue.front_written += count;
        queue.taken = queue.taken.saturating_sub(count);
        while let Some(&packet) = queue.packets.front() {
            if queue.front_written < packet {
                return queue.compact();
            }
            queue.front_written -= packet;
            queue.start += packet;
            queue.packets.pop_front();
            self.done += 1;
        }
        queue.release();
    }
}

impl Queue {
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

/// What waits in an outbox without memory.
static NOTHING: Queue =
    Queue { bytes: Vec::new(), start: 0, packets: VecDeque::new(), front_written: 0, taken: 0 };
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
        assert!(outbox.queue.as_ref().unwrap().bytes.len() < 10_000);
    }

    #[test]
    fn an_outbox_at_rest_keeps_no_memory() {
        let mut outbox = outbox(&[&[7; 4096]]);
        outbox.rest();
        assert_eq!(outbox.remaining(), 4096);
        outbox.advance(4096);
        outbox.rest();
        assert!(outbox.queue.is_none());
    }

    #[test]
    fn memory_is_lent_to_who_has_none_and_taken_back_from_who_has_nothing_to_write() {
        let (mut lender, mut busy, mut idle) =
            (outbox(&[b"a"]), outbox(&[b"b"]), Outbox::default());
        lender.advance(1);
        lender.lend(&mut busy);
        lender.take_back(&mut busy);
        assert_eq!((busy.chunk(), lender.queue.is_some()), (&b"b"[..], true));
        lender.lend(&mut idle);
        assert!(idle.queue.is_some() && lender.queue.is_none());
        lender.take_back(&mut idle);
        assert!(idle.queue.is_none() && lender.queue.is_some());
    }
}
