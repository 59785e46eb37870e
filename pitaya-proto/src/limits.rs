//! The defaults of every limit in this crate; each is a parameter where it is used.

/// Body of one packet once the connection works.
pub const PACKET_BODY_BYTES_MAX: usize = 64 * 1024;

/// Output of one inflated body.
pub const INFLATED_BYTES_MAX: usize = PACKET_BODY_BYTES_MAX;

/// JSON of one handshake request, and body of any packet before the handshake is done.
pub const HANDSHAKE_BYTES_MAX: usize = 4 * 1024;

/// Nesting of objects and arrays in a handshake request.
pub const HANDSHAKE_DEPTH_MAX: usize = 64;

/// Keys in all objects and elements in all arrays of a handshake request together.
pub const HANDSHAKE_KEYS_MAX: usize = 64;

/// Body of a kick that is still searched for a reason.
pub const KICK_BYTES_MAX: usize = 4 * 1024;

/// Effort of the compressor, from 0 to 9: level 6 costs two to five times as much as 1.
pub const DEFLATE_LEVEL: u32 = 1;
