//! Packets: however a stream is cut, the same packets come out, and nothing is held for a claim.

use pitaya_proto::packet::{self, BODY_BYTES_MAX, HEADER_BYTES, PacketError, PacketKind};

use crate::held_at_most;

/// The input is a byte that chooses the limit, one that chooses how the stream is cut, the stream.
pub fn packet(data: &[u8]) {
    let [limit, cut, stream @ ..] = data else { return };
    let limit = LIMITS[usize::from(*limit) % LIMITS.len()];
    let whole = Reader::read(stream, usize::MAX, limit);
    for piece in [1, usize::from(*cut) + 1] {
        assert_eq!(Reader::read(stream, piece, limit), whole, "in pieces of {piece}");
    }
    whole.says_again_what_it_read(stream);
    whole.is_judged_by_its_header(stream, limit);
}

/// A reader as a driver is one: it keeps what was not taken and offers it again with more.
#[derive(Debug, Default, Eq, PartialEq)]
struct Reader {
    packets: Vec<(PacketKind, Vec<u8>)>,
    failed: Option<PacketError>,
    taken: usize,
    held: Vec<u8>,
}

impl Reader {
    fn read(stream: &[u8], piece: usize, limit: usize) -> Self {
        let mut reader = Self::default();
        for piece in stream.chunks(piece) {
            reader.held.extend_from_slice(piece);
            reader.take_packets(limit);
        }
        reader
    }

    fn take_packets(&mut self, limit: usize) {
        let (held, already_failed) = (std::mem::take(&mut self.held), self.failed);
        let mut input = &held[..];
        loop {
            let before = input;
            let (decoded, allocated) = held_at_most(|| packet::decode(&mut input, limit));
            assert_eq!(allocated, 0, "decoding a packet allocates");
            match decoded {
                Ok(Some(packet)) => {
                    assert_eq!(already_failed, None, "a packet after a failure");
                    assert_eq!(before.len() - input.len(), HEADER_BYTES + packet.body.len());
                    assert!(packet.body.len() <= limit);
                    self.packets.push((packet.kind, packet.body.to_vec()));
                    self.taken += HEADER_BYTES + packet.body.len();
                    continue;
                }
                Ok(None) => {
                    assert_eq!(already_failed, None, "hope after a failure");
                    assert!(input.len() < HEADER_BYTES + limit, "{} bytes held", input.len());
                }
                Err(error) => {
                    assert!(already_failed.is_none_or(|failed| failed == error));
                    self.failed = Some(error);
                }
            }
            assert_eq!(input, before, "what is no packet is left where it is");
            break;
        }
        self.held = input.to_vec();
    }

    fn says_again_what_it_read(&self, stream: &[u8]) {
        let mut again = Vec::new();
        for (kind, body) in &self.packets {
            packet::encode(*kind, body, &mut again).expect("it came in a packet");
        }
        assert_eq!(again.len(), self.taken);
        assert_eq!([again, self.held.clone()].concat(), stream);
    }

    /// Four bytes are enough to refuse, and a claim within the limit is none.
    fn is_judged_by_its_header(&self, stream: &[u8], limit: usize) {
        let rest = &stream[self.taken..];
        let mut header = &rest[..rest.len().min(HEADER_BYTES)];
        let judged = packet::decode(&mut header, limit);
        assert_eq!(judged.err(), self.failed, "by the header and by all");
        if let [1..=5, high, middle, low, ..] = *rest {
            let claim = u32::from_be_bytes([0, high, middle, low]) as usize;
            assert_eq!(self.failed.is_some(), claim > limit, "{claim} bytes of {limit}");
        }
    }
}

const LIMITS: [usize; 5] = [0, 3, 64, 4096, BODY_BYTES_MAX];
