//! Packet framing: one byte of kind, three bytes of body length, the body.

use thiserror::Error;

/// One packet, borrowed from the bytes it was read from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet<'a> {
    /// What the body is.
    pub kind: PacketKind,
    /// Everything after the header.
    pub body: &'a [u8],
}

/// What a packet is for; the value is its first byte on the wire.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum PacketKind {
    /// The first packet of either side.
    Handshake = 1,
    /// The client took the handshake response; its body means nothing.
    HandshakeAck = 2,
    /// A sign of life; its body means nothing.
    Heartbeat = 3,
    /// One message.
    Data = 4,
    /// The server wants the client gone; the body may hold a reason.
    Kick = 5,
}

/// Takes the next packet from the front of `input`.
///
/// `Ok(None)` means that more bytes are needed, and `input` is left as it was. A kind is judged
/// from the first byte and a size from the first four, so a peer that speaks something else, or
/// claims too much, is found out before anything is held for it.
///
/// # Errors
///
/// The stream is lost: no later packet can be found in it.
///
/// ```
/// use pitaya_proto::packet::{self, PacketKind};
///
/// let mut input = &[3, 0, 0, 0, 4, 0, 0, 2, 6][..];
/// let heartbeat = packet::decode(&mut input, 1024)?.expect("the first packet is whole");
/// assert_eq!(heartbeat.kind, PacketKind::Heartbeat);
/// assert_eq!(packet::decode(&mut input, 1024)?, None);
/// assert_eq!(input, [4, 0, 0, 2, 6]);
/// # Ok::<(), packet::PacketError>(())
/// ```
#[inline]
pub fn decode<'a>(
    input: &mut &'a [u8], body_bytes_max: usize,
) -> Result<Option<Packet<'a>>, PacketError> {
    let Some(&first) = input.first() else { return Ok(None) };
    let kind = PacketKind::decode(first)?;
    let Some((header, rest)) = input.split_first_chunk() else { return Ok(None) };
    let body_bytes = u32::from_be_bytes(*header) as usize & BODY_BYTES_MAX;
    if body_bytes > body_bytes_max {
        return Err(PacketError::TooLarge { body_bytes, body_bytes_max });
    }
    let Some((body, rest)) = rest.split_at_checked(body_bytes) else { return Ok(None) };
    *input = rest;
    Ok(Some(Packet { kind, body }))
}

/// Appends one packet to `out`.
///
/// # Errors
///
/// A body over [`BODY_BYTES_MAX`]; `out` is left as it was.
pub fn encode(kind: PacketKind, body: &[u8], out: &mut Vec<u8>) -> Result<(), TooLarge> {
    encode_with(kind, out, |out| {
        out.extend_from_slice(body);
        Ok(())
    })
}

/// Appends one packet whose body is written in place, and its length afterwards.
///
/// # Errors
///
/// Whatever `write_body` returns, or a body over [`BODY_BYTES_MAX`]; `out` is cut back to what it
/// was.
///
/// # Panics
///
/// When `write_body` shortens the buffer instead of appending to it.
pub fn encode_with<E: From<TooLarge>>(
    kind: PacketKind, out: &mut Vec<u8>, write_body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    let written = write_body(out).and_then(|()| {
        let packet = out.get_mut(start..).and_then(|packet| packet.split_first_chunk_mut());
        let (header, body) = packet.expect("write_body only appends");
        let body_bytes = body.len();
        if body_bytes > BODY_BYTES_MAX {
            return Err(TooLarge(body_bytes).into());
        }
        *header = (u32::from(kind as u8) << 24 | body_bytes as u32).to_be_bytes();
        Ok(())
    });
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PacketError {
    /// The first byte names no kind.
    #[error("wrong packet type {0:#04x}")]
    Kind(u8),
    /// The header claims a longer body than this connection may send.
    #[error("packet body of {body_bytes} bytes, at most {body_bytes_max} allowed")]
    TooLarge {
        /// What the header claims.
        body_bytes: usize,
        /// What the caller allows.
        body_bytes_max: usize,
    },
}

/// A body that three bytes of length cannot describe, and how long it was.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("packet body of {0} bytes, at most {BODY_BYTES_MAX} fit a packet")]
pub struct TooLarge(pub usize);

impl PacketKind {
    #[inline]
    fn decode(byte: u8) -> Result<Self, PacketError> {
        // In the order of their numbers this is no branch but one, and no table.
        Ok(match byte {
            1 => Self::Handshake,
            2 => Self::HandshakeAck,
            3 => Self::Heartbeat,
            4 => Self::Data,
            5 => Self::Kick,
            _ => return Err(PacketError::Kind(byte)),
        })
    }
}

/// Bytes in front of every body.
pub const HEADER_BYTES: usize = 4;

/// The longest body that three bytes of length can describe.
pub const BODY_BYTES_MAX: usize = 0xff_ffff;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_unknown_kind_is_refused_by_its_first_byte() {
        for byte in [0, 6, 0x16, b'G', 0xff] {
            assert_eq!(decode(&mut &[byte][..], 10), Err(PacketError::Kind(byte)));
        }
    }

    #[test]
    fn a_claimed_size_is_refused_by_the_header_alone() {
        let refused = PacketError::TooLarge { body_bytes: 0x01_0001, body_bytes_max: 0x01_0000 };
        assert_eq!(decode(&mut &[4, 1, 0, 1][..], 0x01_0000), Err(refused));
        assert_eq!(decode(&mut &[4, 1, 0, 0][..], 0x01_0000), Ok(None));
    }

    #[test]
    fn a_truncated_packet_waits_for_more_bytes() {
        let whole = [4, 0, 0, 3, 7, 8, 9];
        for end in 0..whole.len() {
            let mut input = &whole[..end];
            assert_eq!(decode(&mut input, 3), Ok(None));
            assert_eq!(input, &whole[..end]);
        }
        let mut input = &whole[..];
        let packet = Packet { kind: PacketKind::Data, body: &[7, 8, 9] };
        assert_eq!(decode(&mut input, 3), Ok(Some(packet)));
        assert!(input.is_empty());
    }

    #[test]
    fn a_body_of_sixteen_mebibytes_is_refused() {
        let mut out = vec![1];
        let body = vec![0; BODY_BYTES_MAX + 1];
        let refused = Err(TooLarge(BODY_BYTES_MAX + 1));
        assert_eq!(encode(PacketKind::Data, &body, &mut out), refused);
        let written = encode_with::<TooLarge>(PacketKind::Data, &mut out, |out| {
            out.extend_from_slice(&body);
            Ok(())
        });
        assert_eq!(written, refused);
        assert_eq!(out, [1]);
        assert_eq!(encode(PacketKind::Data, &body[1..], &mut out), Ok(()));
        assert_eq!(out[..5], [1, 4, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn a_body_that_cannot_be_written_leaves_no_trace() {
        let mut out = vec![1, 2];
        let written = encode_with(PacketKind::Kick, &mut out, |out| {
            out.push(3);
            Err(TooLarge(7))
        });
        assert_eq!(written, Err(TooLarge(7)));
        assert_eq!(out, [1, 2]);
    }

    #[test]
    #[should_panic(expected = "write_body only appends")]
    fn a_body_that_shortens_the_buffer_is_our_bug() {
        let mut out = vec![1, 2];
        let _ = encode_with::<TooLarge>(PacketKind::Kick, &mut out, |out| {
            out.clear();
            Ok(())
        });
    }

    type Packets = Vec<(PacketKind, Vec<u8>)>;

    fn kinds() -> impl Strategy<Value = PacketKind> {
        prop::sample::select(vec![
            PacketKind::Handshake,
            PacketKind::HandshakeAck,
            PacketKind::Heartbeat,
            PacketKind::Data,
            PacketKind::Kick,
        ])
    }

    fn packets() -> impl Strategy<Value = Packets> {
        prop::collection::vec((kinds(), prop::collection::vec(any::<u8>(), 0..40)), 0..6)
    }

    /// Packets, how they end and the bytes left, fed in pieces of the given lengths.
    fn fed(stream: &[u8], pieces: &[usize]) -> (Packets, Result<(), PacketError>, Vec<u8>) {
        let (mut held, mut found) = (Vec::new(), Vec::new());
        let (mut stream, mut pieces) = (stream, pieces.iter().cycle());
        loop {
            let mut input = &held[..];
            while let Some(packet) = match decode(&mut input, 32) {
                Ok(packet) => packet,
                Err(error) => return (found, Err(error), Vec::new()),
            } {
                found.push((packet.kind, packet.body.to_vec()));
            }
            held = input.to_vec();
            if stream.is_empty() {
                return (found, Ok(()), held);
            }
            let piece = pieces.next().map_or(stream.len(), |bytes| stream.len().min(*bytes));
            held.extend_from_slice(&stream[..piece]);
            stream = &stream[piece..];
        }
    }

    proptest! {
        #[test]
        fn packets_come_out_as_they_went_in(packets in packets()) {
            let (mut out, mut in_place) = (Vec::new(), Vec::new());
            for (kind, body) in &packets {
                encode(*kind, body, &mut out).unwrap();
                encode_with::<TooLarge>(*kind, &mut in_place, |out| {
                    out.extend_from_slice(body);
                    Ok(())
                }).unwrap();
            }
            prop_assert_eq!(&out, &in_place);
            let mut input = &out[..];
            for (kind, body) in &packets {
                let packet = Packet { kind: *kind, body };
                prop_assert_eq!(decode(&mut input, 40), Ok(Some(packet)));
            }
            prop_assert!(input.is_empty());
        }

        #[test]
        fn how_a_stream_is_cut_changes_nothing(
            packets in packets(),
            noise in prop::collection::vec(any::<u8>(), 0..8),
            pieces in prop::collection::vec(1..9_usize, 1..8),
        ) {
            let mut stream = Vec::new();
            for (kind, body) in &packets {
                encode(*kind, body, &mut stream).unwrap();
            }
            stream.extend(noise);
            prop_assert_eq!(fed(&stream, &[usize::MAX]), fed(&stream, &pieces));
            prop_assert_eq!(fed(&stream, &[usize::MAX]), fed(&stream, &[1]));
        }
    }
}
