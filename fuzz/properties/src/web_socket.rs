//! WebSockets: the same messages however the wire is cut, none longer than allowed.

use bytes::BytesMut;
use pitaya_driver::WebSocket;

use crate::held_at_most;

/// The input is a byte that chooses the end and its limit, one that chooses how the wire is cut,
/// and the wire.
pub fn web_socket(data: &[u8]) {
    let [choice, cut, wire @ ..] = data else { return };
    let end = if choice & 1 == 0 { WebSocket::server } else { WebSocket::client };
    let limit = LIMITS[usize::from(choice >> 1) % LIMITS.len()];
    let (whole, held) = held_at_most(|| Heard::read(end(limit), wire, usize::MAX));
    // What was said is kept once by the reader and once by us; answers are no longer than pings.
    let held_max = 4 * wire.len() + 2 * limit + BUFFERS_BYTES_MAX;
    assert!(held as usize <= held_max, "{held} bytes for {} on the wire", wire.len());
    assert!(whole.messages.iter().all(|(_, bytes)| bytes.len() <= limit.max(CONTROL_BYTES_MAX)));
    assert!(whole.answered <= 4 * wire.len() + CONTROL_BYTES_MAX + 8, "{} bytes", whole.answered);
    for piece in [1, usize::from(*cut) + 1] {
        assert_eq!(Heard::read(end(limit), wire, piece), whole, "in pieces of {piece}");
    }
}

/// All that came of a wire.
#[derive(Debug, Default, Eq, PartialEq)]
struct Heard {
    messages: Vec<(bool, Vec<u8>)>,
    /// How many bytes; those of a client are masked by chance.
    answered: usize,
    failed: bool,
    ended: bool,
}

impl Heard {
    fn read(mut web: WebSocket, wire: &[u8], piece: usize) -> Self {
        let (mut heard, mut out) = (Self::default(), BytesMut::new());
        for mut piece in wire.chunks(piece) {
            loop {
                match web.read(&mut piece, &mut out) {
                    Ok(Some(message)) => {
                        assert!(!heard.failed && !heard.ended, "{message:?} after the end");
                        heard.ended = web.is_ended();
                        let is_text = message.is_text();
                        heard.messages.push((is_text, message.into_data().to_vec()));
                    }
                    Ok(None) => break,
                    Err(_) => heard.failed = true,
                }
            }
            assert!(piece.is_empty(), "{} bytes are left", piece.len());
        }
        heard.answered = out.len();
        heard
    }
}

const LIMITS: [usize; 4] = [0, 100, 1000, 65_540];
const CONTROL_BYTES_MAX: usize = 125;
/// What a WebSocket owns, and what a growing buffer has to spare.
const BUFFERS_BYTES_MAX: usize = 32 << 10;
