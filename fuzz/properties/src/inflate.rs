//! Zlib: what comes out is what comes out of the library without a cap, or nothing.

use flate2::{Decompress, FlushDecompress, Status};
use pitaya_proto::zlib::{InflateError, Scratch};

use crate::held_at_most;

/// The input is two bytes of cap and the compressed bytes.
pub fn inflate(data: &[u8]) {
    let Some((cap, zlib)) = data.split_first_chunk() else { return };
    let cap = usize::from(u16::from_be_bytes(*cap));
    let mut scratch = Scratch::new();
    let (inflated, held) = held_at_most(|| scratch.inflate(zlib, cap).map(<[u8]>::to_vec));
    let copy = inflated.as_ref().map_or(0, Vec::len);
    assert!(held as usize <= 2 * cap + copy + STATE_BYTES_MAX, "{held} bytes for {cap}");
    match unbounded(zlib) {
        Some((plain, taken)) if plain.len() <= cap => {
            assert_eq!(inflated.as_deref(), Ok(&plain[..]));
            let cut = scratch.inflate(&zlib[..taken - 1], cap);
            assert_eq!(cut, Err(InflateError::Truncated));
            let longer = [&zlib[..taken], b"whatever"].concat();
            assert_eq!(scratch.inflate(&longer, cap), Ok(&plain[..]));
            comes_back(&plain);
        }
        Some(_) => assert_eq!(inflated, Err(InflateError::TooLarge)),
        None => assert!(inflated.is_err()),
    }
    assert_eq!(scratch.inflate(zlib, cap).map(<[u8]>::to_vec), inflated, "a second time");
}

fn comes_back(plain: &[u8]) {
    let mut scratch = Scratch::new();
    if let Some(zlib) = scratch.deflate(plain).map(<[u8]>::to_vec) {
        assert!(zlib.len() < plain.len());
        assert_eq!(scratch.inflate(&zlib, plain.len()), Ok(plain));
    }
}

/// The whole stream and how much of the input it took, however large it is.
fn unbounded(zlib: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut decompress, mut plain) = (Decompress::new(true), Vec::new());
    loop {
        plain.reserve(CHUNK_BYTES);
        let taken = decompress.total_in() as usize;
        let room = plain.capacity();
        let status =
            decompress.decompress_vec(&zlib[taken..], &mut plain, FlushDecompress::None).ok()?;
        match status {
            Status::StreamEnd => return Some((plain, decompress.total_in() as usize)),
            Status::Ok | Status::BufError if plain.len() < room => return None,
            Status::Ok | Status::BufError => {}
        }
    }
}

/// What the library itself holds, its window of 32 KiB included.
const STATE_BYTES_MAX: usize = 64 << 10;
const CHUNK_BYTES: usize = 16 << 10;
