//! Deflate and inflate through memory that the caller keeps.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

use crate::limits;

/// A compressor, a decompressor and their output, made on first use and reused.
///
/// Together they hold some 300 KB, so keep one per thread rather than one per connection.
#[derive(Debug)]
pub struct Scratch {
    level: Compression,
    compress: Option<Compress>,
    decompress: Option<Decompress>,
    /// Kept initialised at its full length, so that no use has to clear it.
    out: Vec<u8>,
}

impl Scratch {
    /// With the default level, [`limits::DEFLATE_LEVEL`].
    pub fn new() -> Self {
        Self::with_level(limits::DEFLATE_LEVEL)
    }

    /// With a level from 0, which never shrinks anything, to 9; higher ones count as 9.
    pub fn with_level(level: u32) -> Self {
        let level = Compression::new(level.min(9));
        Self { level, compress: None, decompress: None, out: Vec::new() }
    }

    /// The zlib stream of `plain`, or `None` unless that is strictly shorter.
    pub fn deflate(&mut self, plain: &[u8]) -> Option<&[u8]> {
        let bytes_max = plain.len().checked_sub(1)?;
        let compress = self.compress.get_or_insert_with(|| Compress::new(self.level, true));
        compress.reset();
        grow(&mut self.out, bytes_max);
        // What does not fit is not shorter, so a bounded output decides.
        let out = self.out.get_mut(..bytes_max)?;
        match compress.compress(plain, out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => self.out.get(..compress.total_out() as usize),
            Ok(Status::Ok | Status::BufError) | Err(_) => None,
        }
    }

    /// What the zlib stream at the front of `zlib` holds; bytes after its end are ignored, as in
    /// Go.
    ///
    /// The output grows with what is produced, up to one byte over the limit.
    ///
    /// # Errors
    ///
    /// Bytes that are not zlib, that end before the stream does, or that hold more than
    /// `bytes_max`.
    pub fn inflate(&mut self, zlib: &[u8], bytes_max: usize) -> Result<&[u8], InflateError> {
        let decompress = self.decompress.get_or_insert_with(|| Decompress::new(true));
        decompress.reset(true);
        let out_max = bytes_max.saturating_add(1);
        grow(&mut self.out, out_max.min(INFLATED_BYTES_GUESS));
        loop {
            let (taken, made) = (decompress.total_in() as usize, decompress.total_out() as usize);
            let room = self.out.len().min(out_max);
            let input = zlib.get(taken..).unwrap_or_default();
            let out = self.out.get_mut(made..room).unwrap_or_default();
            let status = decompress.decompress(input, out, FlushDecompress::None);
            let made = decompress.total_out() as usize;
            match status.map_err(|_| InflateError::Malformed)? {
                _ if made > bytes_max => return Err(InflateError::TooLarge),
                Status::StreamEnd => return Ok(self.out.get(..made).unwrap_or_default()),
                Status::Ok | Status::BufError if made < room => {
                    return Err(InflateError::Truncated);
                }
                Status::Ok | Status::BufError => grow_towards(&mut self.out, out_max),
            }
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Why bytes are not a zlib stream to be inflated.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum InflateError {
    /// Not zlib, or damaged.
    #[error("malformed zlib stream")]
    Malformed,
    /// More output than the caller allows.
    #[error("zlib stream inflates to more than allowed")]
    TooLarge,
    /// The bytes end before the stream does; also none at all.
    #[error("zlib stream without end")]
    Truncated,
}

fn grow(out: &mut Vec<u8>, bytes: usize) {
    if out.len() < bytes {
        out.reserve_exact(bytes - out.len());
        out.resize(bytes, 0);
    }
}

/// Doubles, but goes straight to the limit when the next doubling would pass it: so the old and
/// the new buffer together never take twice the limit.
fn grow_towards(out: &mut Vec<u8>, bytes_max: usize) {
    let bytes = if out.len() > bytes_max / 4 { bytes_max } else { out.len() * 2 };
    grow(out, bytes);
}

/// Room for a usual message without growing.
const INFLATED_BYTES_GUESS: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_backend_is_zlib_rs() {
        // Any dependency can switch the backend for all; the others shrink this one further.
        let mut out = [0; 2048];
        let config = zlib_rs::DeflateConfig { level: 6, ..zlib_rs::DeflateConfig::default() };
        let (expected, code) = zlib_rs::compress_slice(&mut out, &json(), config);
        assert_eq!(code, zlib_rs::ReturnCode::Ok);
        assert_eq!(Scratch::with_level(6).deflate(&json()), Some(&*expected));
    }

    #[test]
    fn only_what_gets_shorter_is_deflated() {
        let mut scratch = Scratch::new();
        assert_eq!(scratch.deflate(b""), None);
        assert_eq!(scratch.deflate(b"a"), None);
        assert_eq!(scratch.deflate(b"nothing here repeats"), None);
        let long = [b'a'; 1000];
        assert!(scratch.deflate(&long).is_some_and(|zlib| zlib.len() < 30));
        assert_eq!(Scratch::with_level(0).deflate(&long), None);
    }

    #[test]
    fn a_stream_of_exactly_the_limit_is_taken() {
        let mut scratch = Scratch::new();
        for bytes in [1, 100, 1023, 1024, 1025, 4096, 65_536] {
            let plain = vec![b'x'; bytes];
            let zlib = Scratch::deflated(&plain);
            assert_eq!(scratch.inflate(&zlib, bytes), Ok(&plain[..]));
            assert_eq!(scratch.inflate(&zlib, usize::MAX), Ok(&plain[..]));
            assert_eq!(scratch.inflate(&zlib, bytes - 1), Err(InflateError::TooLarge));
        }
    }

    #[test]
    fn a_bomb_never_holds_more_than_its_limit() {
        let bomb = Scratch::deflated(&vec![0; 16 << 20]);
        assert!(bomb.len() < 1 << 20);
        for bytes_max in [0, 1, 1000, 5000, 65_536, 100_000] {
            let mut scratch = Scratch::new();
            assert_eq!(scratch.inflate(&bomb, bytes_max), Err(InflateError::TooLarge));
            assert!(scratch.out.capacity() <= bytes_max + 1);
        }
    }

    #[test]
    fn growing_never_holds_twice_the_limit() {
        for bytes_max in (1024..20_000).step_by(7) {
            let mut out = vec![0; INFLATED_BYTES_GUESS];
            while out.len() < bytes_max {
                let before = out.len();
                grow_towards(&mut out, bytes_max);
                assert!(before < out.len() && before + out.len() <= 2 * bytes_max);
            }
        }
    }

    #[test]
    fn bytes_after_the_stream_are_ignored() {
        let zlib = [Scratch::deflated(b"hello"), vec![1, 2, 3]].concat();
        assert_eq!(Scratch::new().inflate(&zlib, 10), Ok(&b"hello"[..]));
    }

    #[test]
    fn what_is_no_whole_stream_is_refused() {
        let mut scratch = Scratch::new();
        let zlib = Scratch::deflated(b"hello");
        for end in 0..zlib.len() {
            assert_eq!(scratch.inflate(&zlib[..end], 10), Err(InflateError::Truncated));
        }
        let mut damaged = zlib.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
        let preset = b"\x78\xbb\0\0\0\x01\x03\0\0\0\0\x01";
        for bytes in [&damaged[..], &[1, 2, 3], gzip, preset] {
            assert_eq!(scratch.inflate(bytes, 10), Err(InflateError::Malformed));
        }
        assert_eq!(scratch.inflate(&zlib, 10), Ok(&b"hello"[..]));
    }

    impl Scratch {
        /// Deflated also when that is longer.
        fn deflated(plain: &[u8]) -> Vec<u8> {
            let mut out = Vec::with_capacity(plain.len() + 64);
            let mut compress = Compress::new(Compression::new(1), true);
            compress.compress_vec(plain, &mut out, FlushCompress::Finish).unwrap();
            out
        }
    }

    fn json() -> Vec<u8> {
        let players = (0..40).map(|player| {
            format!(
                r#"{{"id":{player},"x":{},"y":{}}}"#,
                player * 7919 % 997,
                player * 104_729 % 331
            )
        });
        players.collect::<String>().into_bytes()
    }

    proptest! {
        #[test]
        fn bodies_come_out_as_they_went_in(
            pieces in prop::collection::vec((any::<u8>(), 1..200_usize), 0..60),
        ) {
            let plain: Vec<u8> =
                pieces.iter().flat_map(|(byte, times)| vec![*byte; *times]).collect();
            let mut scratch = Scratch::new();
            if let Some(zlib) = scratch.deflate(&plain).map(<[u8]>::to_vec) {
                prop_assert!(zlib.len() < plain.len());
                prop_assert_eq!(scratch.inflate(&zlib, plain.len()), Ok(&plain[..]));
            }
        }

        #[test]
        fn bytes_from_outside_inflate_to_the_limit_at_most(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            bytes_max in 0..100_usize,
        ) {
            let zlib = [&[0x78, 0x9c][..], &bytes].concat();
            let mut scratch = Scratch::new();
            if let Ok(plain) = scratch.inflate(&zlib, bytes_max) {
                prop_assert!(plain.len() <= bytes_max);
            }
        }
    }
}
