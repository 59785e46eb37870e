//! Pitaya's wire: bytes to values and back, without state, time or input and output.
//!
//! A connection carries [packets](packet); a data packet carries one [message]; a message carries
//! a [route] and a body, which may be [compressed](zlib). The first packet of either side is a
//! [handshake].
//!
//! Decoding borrows from the bytes it is given. Encoding appends to a buffer of the caller, but a
//! [request] makes one of its length, and refuses what the wire cannot carry. Nothing here panics
//! on bytes from outside or allocates what they merely claim; every bound is a parameter, with its
//! default in [limits].
//!
//! ```
//! use pitaya_proto::message::{Body, Message, Route};
//! use pitaya_proto::packet::{self, PacketKind};
//!
//! let route = Route::Name(b"room.chat.send");
//! let request = Message::Request { id: 1, route, body: Body::Plain(b"{}") };
//! let mut out = Vec::new();
//! request.encode_packet(&mut out)?;
//!
//! let packet = packet::decode(&mut &out[..], 64 * 1024)?.expect("all of it is there");
//! assert_eq!(packet.kind, PacketKind::Data);
//! assert_eq!(Message::decode(packet.body)?, request);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(clippy::indexing_slicing)]

pub mod dictionary;
pub mod error;
pub mod handshake;
pub mod kick;
pub mod limits;
pub mod link;
pub mod message;
pub mod packet;
#[rustfmt::skip]
pub mod protos;
pub mod request;
pub mod route;
pub mod zlib;
