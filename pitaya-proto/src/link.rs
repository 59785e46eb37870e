//! Frames between two servers: one byte of kind, three bytes of body length, the body.
//!
//! Calls and replies carry the messages of [`protos`](crate::protos) untouched, behind what joins
//! the two and how long the caller still waits; so they mean the same over other ways between
//! servers.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use prost::bytes::Bytes;
use thiserror::Error;

/// One frame, borrowed from the bytes it was read from.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame<'a> {
    /// A server calls; the body is a [`Request`](crate::protos::Request).
    Call {
        /// Joins the call and its reply; zero if no reply is wanted.
        id: u32,
        /// How long the caller still waits: never a moment, since clocks differ.
        remaining: Duration,
        /// The request.
        request: &'a [u8],
    },
    /// The session of that number is over on the server that says so.
    Closed(u64),
    /// The server takes no new calls, and will be gone.
    Drain,
    /// The server has heard that, and sends no new calls.
    Drained,
    /// The server is there, and says no more.
    Heartbeat,
    /// Who speaks: the first frame of either side.
    Hello(Hello),
    /// Users or sessions are to be kicked.
    Kick(Kick),
    /// Where the server knows others.
    Known(Known),
    /// A part of a long frame, between whose parts others go.
    Part {
        /// Which long frame: no two that are on their way have the same.
        id: u32,
        /// Whether the frame is whole with it.
        last: bool,
        /// What follows the parts before it.
        bytes: &'a [u8],
    },
    /// Users or sessions are told something.
    Push(Push),
    /// The answer to a call; the body is a [`Response`](crate::protos::Response).
    Reply {
        /// That of the call.
        id: u32,
        /// The response.
        response: &'a [u8],
    },
    /// Who has a user id, or wants it.
    Seat(Seat),
}

/// What a server says of itself.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Its name.
    #[prost(string, tag = "2")]
    pub id: String,
    /// What it does.
    #[prost(string, tag = "3")]
    pub kind: String,
    /// Which of its lives this is.
    #[prost(uint64, tag = "4")]
    pub incarnation: u64,
    /// Whether clients connect to it.
    #[prost(bool, tag = "5")]
    pub frontend: bool,
    /// The name of its machine.
    #[prost(string, tag = "6")]
    pub hostname: String,
    /// Where it is reached, each such as `10.0.0.5:4500`.
    #[prost(string, repeated, tag = "7")]
    pub addresses: Vec<String>,
    /// What its application wants others to know.
    #[prost(btree_map = "string, string", tag = "8")]
    pub metadata: BTreeMap<String, String>,
    /// Which of its dials this is, counted from one; zero from whoever was dialled. It tells which
    /// of two links between the same servers stays.
    #[prost(uint64, tag = "9")]
    pub dial: u64,
}

/// A push to any number of users and sessions of one server, encoded once.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Push {
    /// What it is called.
    #[prost(string, tag = "1")]
    pub route: String,
    /// What is told.
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
    /// The users.
    #[prost(string, repeated, tag = "3")]
    pub uids: Vec<String>,
    /// The sessions, by their numbers.
    #[prost(uint64, repeated, tag = "4")]
    pub sessions: Vec<u64>,
}

/// A kick of any number of users and sessions of one server.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Kick {
    /// Why, for the clients; nothing if empty.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// The users.
    #[prost(string, repeated, tag = "2")]
    pub uids: Vec<String>,
    /// The sessions, by their numbers.
    #[prost(uint64, repeated, tag = "3")]
    pub sessions: Vec<u64>,
    /// The clients are not told, so that they may come back.
    #[prost(bool, tag = "4")]
    pub plain: bool,
}

/// Where servers are that somebody is linked with.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Known {
    /// Each such as `10.0.0.5:4500`.
    #[prost(string, repeated, tag = "1")]
    pub addresses: Vec<String>,
}

/// Asks the home of user ids where they are.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FindUsers {
    /// The user ids.
    #[prost(string, repeated, tag = "1")]
    pub uids: Vec<String>,
}

/// Where users are: one for each that was asked for, in that order.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FoundUsers {
    /// The users.
    #[prost(message, repeated, tag = "1")]
    pub users: Vec<FoundUser>,
}

/// Where one user is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FoundUser {
    /// The id of its server; empty if it is nowhere.
    #[prost(string, tag = "1")]
    pub server: String,
    /// Which life of that.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// The session there.
    #[prost(uint64, tag = "3")]
    pub session: u64,
}

/// One step of giving a user id to a session.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Seat {
    /// Which step.
    #[prost(enumeration = "SeatStep", tag = "1")]
    pub step: i32,
    /// The user id.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// The session, on the frontend that asks or is told.
    #[prost(uint64, tag = "3")]
    pub session: u64,
    /// The rank of the login; of a claim, the highest that its frontend has heard of.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// How long to wait before another claim, after one that was refused; in microseconds.
    #[prost(uint64, tag = "5")]
    pub wait_micros: u64,
}

/// What a [`Seat`] says: the first three are said to the home of a user id, the others by it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub enum SeatStep {
    /// The session has the epoch.
    Announce = 0,
    /// The session wants an epoch.
    Claim = 1,
    /// The login has ended.
    Release = 2,
    /// The server is not the home any more.
    Dropped = 3,
    /// The session may take the epoch.
    Granted = 4,
    /// The home has the login.
    Held = 5,
    /// There is a higher one.
    Lost = 6,
    /// Too many claims.
    Refused = 7,
}

/// Takes the next frame from the front of `input`.
///
/// `Ok(None)` means that more bytes are needed, and `input` is left as it was. A kind is judged
/// from the first byte and a size from the first four.
///
/// # Errors
///
/// The stream is lost: no later frame can be found in it.
///
/// ```
/// use pitaya_proto::link::{self, Frame};
///
/// let mut out = Vec::new();
/// link::encode(&Frame::Heartbeat, &mut out)?;
/// let mut input = &out[..];
/// assert_eq!(link::decode(&mut input, 1024)?, Some(Frame::Heartbeat));
/// assert_eq!(link::decode(&mut input, 1024)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn decode<'a>(
    input: &mut &'a [u8], body_bytes_max: usize,
) -> Result<Option<Frame<'a>>, FrameError> {
    let Some(&kind) = input.first() else { return Ok(None) };
    if !KINDS.contains(&kind) {
        return Err(FrameError::Kind(kind));
    }
    let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let body_bytes = u32::from_be_bytes(*header) as usize & BODY_BYTES_MAX;
    if body_bytes > body_bytes_max {
        return Err(FrameError::TooLarge { body_bytes, body_bytes_max });
    }
    let Some((body, rest)) = rest.split_at_checked(body_bytes) else { return Ok(None) };
    let frame = Frame::read(kind, body).ok_or(FrameError::Body(kind))?;
    *input = rest;
    Ok(Some(frame))
}

/// Appends one frame to `out`.
///
/// # Errors
///
/// A body of more than [`BODY_BYTES_MAX`]; `out` is left as it was.
pub fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<(), FrameTooLarge> {
    let start = out.len();
    out.extend_from_slice(&[frame.kind(), 0, 0, 0]);
    frame.write(out);
    let written = out.get_mut(start..).and_then(|frame| frame.split_first_chunk_mut());
    let (header, body) = written.expect("its header was appended just above");
    let body_bytes = body.len();
    if body_bytes > BODY_BYTES_MAX {
        out.truncate(start);
        return Err(FrameTooLarge(body_bytes));
    }
    *header = (u32::from(frame.kind()) << 24 | body_bytes as u32).to_be_bytes();
    Ok(())
}

impl<'a> Frame<'a> {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => HELLO,
            Self::Heartbeat => HEARTBEAT,
            Self::Call { .. } => CALL,
            Self::Reply { .. } => REPLY,
            Self::Push(_) => PUSH,
            Self::Kick(_) => KICK,
            Self::Closed(_) => CLOSED,
            Self::Drain => DRAIN,
            Self::Drained => DRAINED,
            Self::Known(_) => KNOWN,
            Self::Seat(_) => SEAT,
            Self::Part { last: false, .. } => PART,
            Self::Part { last: true, .. } => LAST_PART,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Drain | Self::Drained | Self::Heartbeat => {}
            Self::Call { id, remaining, request } => {
                let millis = u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX);
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&millis.to_be_bytes());
                out.extend_from_slice(request);
            }
            Self::Reply { id, response } => {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(response);
            }
            Self::Part { id, bytes, .. } => {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Closed(session) => out.extend_from_slice(&session.to_be_bytes()),
            Self::Hello(hello) => hello.encode_raw(out),
            Self::Kick(kick) => kick.encode_raw(out),
            Self::Known(known) => known.encode_raw(out),
            Self::Push(push) => push.encode_raw(out),
            Self::Seat(seat) => seat.encode_raw(out),
        }
    }

    fn read(kind: u8, body: &'a [u8]) -> Option<Self> {
        let empty = |frame| body.is_empty().then_some(frame);
        match kind {
            CALL => {
                let (id, rest) = body.split_first_chunk()?;
                let (millis, request) = rest.split_first_chunk()?;
                let remaining = Duration::from_millis(u32::from_be_bytes(*millis).into());
                Some(Self::Call { id: u32::from_be_bytes(*id), remaining, request })
            }
            REPLY => {
                let (id, response) = body.split_first_chunk()?;
                Some(Self::Reply { id: u32::from_be_bytes(*id), response })
            }
            PART | LAST_PART => {
                let (id, bytes) = body.split_first_chunk()?;
                let id = u32::from_be_bytes(*id);
                Some(Self::Part { id, last: kind == LAST_PART, bytes })
            }
            CLOSED => body.try_into().ok().map(|session| Self::Closed(u64::from_be_bytes(session))),
            HELLO => Hello::decode(body).ok().map(Self::Hello),
            KICK => Kick::decode(body).ok().map(Self::Kick),
            PUSH => Push::decode(body).ok().map(Self::Push),
            KNOWN => Known::decode(body).ok().map(Self::Known),
            SEAT => Seat::decode(body).ok().map(Self::Seat),
            HEARTBEAT => empty(Self::Heartbeat),
            DRAIN => empty(Self::Drain),
            DRAINED => empty(Self::Drained),
            _ => None,
        }
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum FrameError {
    /// The body is not one of this kind.
    #[error("malformed frame of kind {0:#04x}")]
    Body(u8),
    /// The first byte names no kind.
    #[error("wrong frame kind {0:#04x}")]
    Kind(u8),
    /// The header claims a longer body than may be sent.
    #[error("frame body of {body_bytes} bytes, at most {body_bytes_max} allowed")]
    TooLarge {
        /// What the header claims.
        body_bytes: usize,
        /// What the caller allows.
        body_bytes_max: usize,
    },
}

/// A body that three bytes of length cannot describe, and how long it was.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("frame body of {0} bytes, at most {BODY_BYTES_MAX} fit a frame")]
pub struct FrameTooLarge(pub usize);

/// What servers of this version say in their [`Hello`]; others are refused.
pub const VERSION: u32 = 1;
/// The longest body of a frame.
pub const BODY_BYTES_MAX: usize = (1 << 24) - 1;
/// Bytes in front of every body.
pub const HEADER_BYTES: usize = 4;

const KINDS: std::ops::RangeInclusive<u8> = HELLO..=LAST_PART;
const HELLO: u8 = 1;
const HEARTBEAT: u8 = 2;
const CALL: u8 = 3;
const REPLY: u8 = 4;
const PUSH: u8 = 5;
const KICK: u8 = 6;
const CLOSED: u8 = 7;
const DRAIN: u8 = 8;
const KNOWN: u8 = 9;
const SEAT: u8 = 10;
const DRAINED: u8 = 11;
const PART: u8 = 12;
const LAST_PART: u8 = 13;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> Vec<Frame<'static>> {
        let hello = Hello { version: VERSION, id: "room-1".into(), ..Hello::default() };
        let push = Push { route: "onHit".into(), uids: vec!["ann".into()], ..Push::default() };
        vec![
            Frame::Hello(hello),
            Frame::Heartbeat,
            Frame::Call { id: 7, remaining: Duration::from_millis(4_999), request: b"request" },
            Frame::Reply { id: u32::MAX, response: b"" },
            Frame::Push(push),
            Frame::Kick(Kick { sessions: vec![1, u64::MAX], ..Kick::default() }),
            Frame::Closed(1 << 40),
            Frame::Drain,
            Frame::Drained,
            Frame::Part { id: 3, last: false, bytes: b"the fi" },
            Frame::Part { id: 3, last: true, bytes: b"rst" },
            Frame::Known(Known { addresses: vec!["10.0.0.5:4500".into()] }),
            Frame::Seat(Seat { step: SeatStep::Held.into(), epoch: u64::MAX, ..Seat::default() }),
        ]
    }

    fn encoded(frame: &Frame<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(frame, &mut out).unwrap();
        out
    }

    #[test]
    fn every_frame_comes_back_as_it_was_however_the_stream_is_cut() {
        let stream: Vec<u8> = frames().iter().flat_map(encoded).collect();
        for piece in [1, 3, stream.len()] {
            let (mut held, mut came) = (Vec::new(), Vec::new());
            for piece in stream.chunks(piece) {
                held.extend_from_slice(piece);
                let mut input = &held[..];
                while let Some(frame) = decode(&mut input, 1024).unwrap() {
                    came.push(encoded(&frame));
                }
                held = input.to_vec();
            }
            assert!(held.is_empty());
            assert_eq!(came.concat(), stream, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_frame_is_judged_by_its_first_bytes() {
        for kind in [0, 14, b'G', 255] {
            assert_eq!(decode(&mut &[kind][..], 9), Err(FrameError::Kind(kind)));
        }
        let too_large = FrameError::TooLarge { body_bytes: 10, body_bytes_max: 9 };
        assert_eq!(decode(&mut &[CALL, 0, 0, 10][..], 9), Err(too_large));
        assert_eq!(decode(&mut &[CALL, 0, 0, 9][..], 9), Ok(None));
    }

    #[test]
    fn a_body_that_is_cut_short_or_too_long_is_malformed() {
        for (kind, body) in [
            (CALL, &b"1234567"[..]),
            (REPLY, b"123"),
            (PART, b"123"),
            (CLOSED, b"1234567"),
            (CLOSED, b"123456789"),
            (HEARTBEAT, b"x"),
            (DRAIN, b"x"),
            (HELLO, b"\xff"),
            (PUSH, b"\x0a\x05ab"),
        ] {
            let frame = [&[kind, 0, 0, body.len() as u8][..], body].concat();
            assert_eq!(decode(&mut &frame[..], 99), Err(FrameError::Body(kind)), "{frame:?}");
        }
    }

    #[test]
    fn what_no_frame_can_hold_leaves_nothing_behind() {
        let mut out = b"before".to_vec();
        let response = vec![0; BODY_BYTES_MAX - 3];
        let frame = Frame::Reply { id: 1, response: &response };
        assert_eq!(encode(&frame, &mut out), Err(FrameTooLarge(BODY_BYTES_MAX + 1)));
        assert_eq!(out, b"before");
    }

    #[test]
    fn a_wait_without_end_is_one_of_seven_weeks() {
        let frame = Frame::Call { id: 1, remaining: Duration::MAX, request: b"" };
        let Ok(Some(Frame::Call { remaining, .. })) = decode(&mut &encoded(&frame)[..], 99) else {
            panic!("it is a call");
        };
        assert_eq!(remaining, Duration::from_millis(u32::MAX.into()));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_taken_as_a_whole_or_not_at_all(bytes: Vec<u8>) {
            let mut input = &bytes[..];
            match decode(&mut input, 64) {
                Ok(Some(_)) => prop_assert!(input.len() + HEADER_BYTES <= bytes.len()),
                Ok(None) | Err(_) => prop_assert_eq!(input, &bytes[..]),
            }
        }
    }
}
