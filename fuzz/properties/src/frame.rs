//! Frames between servers: however a stream is cut, the same frames come out, and nothing is held
//! for a claim. What calls carry is read in place as it is as a whole.

use pitaya_proto::link::{self, BODY_BYTES_MAX, Frame, FrameError, HEADER_BYTES};
use pitaya_proto::protos::{Request, Response};
use pitaya_proto::request::{self, Asked};
use prost::Message as _;

use crate::held_at_most;

/// The input is a byte that chooses the limit, one that chooses how the stream is cut, the stream.
pub fn frame(data: &[u8]) {
    let [limit, cut, stream @ ..] = data else { return };
    let limit = LIMITS[usize::from(*limit) % LIMITS.len()];
    let whole = Reader::read(stream, usize::MAX, limit);
    for piece in [1, usize::from(*cut) + 1] {
        assert_eq!(Reader::read(stream, piece, limit), whole, "in pieces of {piece}");
    }
    for frame in &whole.frames {
        comes_back_as_it_was(frame);
    }
    reads_as_prost_does(stream);
}

/// What a server asks and answers, read in place and as a whole.
fn reads_as_prost_does(bytes: &[u8]) {
    let (asked, reply) = (Asked::decode(bytes), request::decode_reply(bytes));
    if let Ok(request) = Request::decode(bytes) {
        let asked = asked.expect("it is a request");
        assert_eq!(Asked::rpc_type_of(bytes), Ok(request.r#type));
        let msg = request.msg.unwrap_or_default();
        assert_eq!((asked.route.unwrap_or_default(), asked.data), (&*msg.route, &*msg.data));
        assert_eq!((asked.rpc_type, asked.metadata), (request.r#type, &*request.metadata));
    }
    if let Ok(response) = Response::decode(bytes) {
        let data = response.error.is_none().then_some(&*response.data);
        assert_eq!(reply, Ok(data));
    }
}

/// A reader as a driver is one: it keeps what was not taken and offers it again with more.
#[derive(Debug, Default, Eq, PartialEq)]
struct Reader {
    /// As bytes again.
    frames: Vec<Vec<u8>>,
    failed: Option<FrameError>,
    held: Vec<u8>,
}

impl Reader {
    fn read(stream: &[u8], piece: usize, limit: usize) -> Self {
        let mut reader = Self::default();
        for piece in stream.chunks(piece) {
            if reader.failed.is_some() {
                // The link is over, whatever else comes.
                break;
            }
            reader.held.extend_from_slice(piece);
            reader.take_frames(limit);
        }
        if reader.failed.is_some() {
            // How much more was there depends on how it was cut.
            reader.held.clear();
        }
        reader
    }

    fn take_frames(&mut self, limit: usize) {
        let held = std::mem::take(&mut self.held);
        let mut input = &held[..];
        loop {
            let before = input;
            let (decoded, allocated) = held_at_most(|| link::decode(&mut input, limit));
            // Texts and lists are copied; a list of single bytes takes more room than they did.
            let bytes = before.len().min(limit + HEADER_BYTES) as u64;
            assert!(allocated <= 64 * bytes + 1024, "{allocated} bytes held for {bytes}");
            match decoded {
                Ok(Some(frame)) => {
                    self.frames.push(encoded(&frame));
                    continue;
                }
                Ok(None) => assert!(input.len() < HEADER_BYTES + limit, "{} bytes", input.len()),
                Err(error) => self.failed = Some(error),
            }
            assert_eq!(input, before, "what is no frame is left where it is");
            break;
        }
        self.held = input.to_vec();
    }
}

/// What was decoded once is canonical: it decodes to the same, and is the same bytes again.
fn comes_back_as_it_was(bytes: &[u8]) {
    let mut input = bytes;
    let again = link::decode(&mut input, BODY_BYTES_MAX).expect("it was decoded once");
    let again = again.expect("it is whole");
    assert!(input.is_empty());
    assert_eq!(encoded(&again), bytes);
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    link::encode(frame, &mut out).expect("it came in a frame");
    out
}

const LIMITS: [usize; 4] = [0, 64, 4096, BODY_BYTES_MAX];
