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
