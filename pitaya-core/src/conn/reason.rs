//! Why a connection ended, and whose fault it was.

use pitaya_proto::error::{self, Error};
use pitaya_proto::handshake::{HandshakeError, HandshakeResponseError};
use pitaya_proto::message::MessageError;
use pitaya_proto::packet::{PacketError, PacketKind};
use pitaya_proto::zlib::InflateError;

use crate::Counter;

/// Why a connection ended. Its text is for logs.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CloseReason {
    /// The handshake is not one.
    #[error("bad handshake: {0}")]
    BadHandshake(HandshakeError),
    /// The answer of a server to the handshake is none.
    #[error("bad handshake response: {0}")]
    BadHandshakeResponse(HandshakeResponseError),
    /// A compressed body does not inflate within its limit.
    #[error("bad compressed body: {0}")]
    BadInflate(InflateError),
    /// A message does not decode.
    #[error("bad message: {0}")]
    BadMessage(MessageError),
    /// The bytes are no packet, as when the peer speaks another protocol.
    #[error("bad packet: {0}")]
    BadPacket(PacketError),
    /// The application or the owner of the connection closed it.
    #[error("closed by the application")]
    Closed,
    /// A request came with the id of one that is not answered yet.
    #[error("request {0} is already in flight")]
    DuplicateRequest(u64),
    /// The stream ended inside a packet.
    #[error("the stream ended inside a packet")]
    EndInsidePacket,
    /// A validator or the server said no.
    #[error("handshake refused: {0}")]
    HandshakeRefused(String),
    /// The handshake was not done in time.
    #[error("the handshake took too long")]
    HandshakeTimeout,
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(std::io::ErrorKind),
    /// The application kicked the client, or the server kicked us; the text is the reason, if any.
    #[error("kicked: {}", .0.as_deref().unwrap_or("no reason given"))]
    Kicked(Option<String>),
    /// More waited to be written than the limit allows.
    #[error("the client reads too slowly for what is pushed to it")]
    OutboxFull,
    /// A packet that began did not finish in time.
    #[error("a packet did not finish in time")]
    PacketTimeout,
    /// The peer closed the stream between packets.
    #[error("closed by the peer")]
    PeerClosed,
    /// A newer login of the same user took its place.
    #[error("replaced by a newer login")]
    Replaced,
    /// The server stops.
    #[error("the server shuts down")]
    Shutdown,
    /// Nothing came for too long.
    #[error("nothing was heard for too long")]
    Silent,
    /// Nothing of what waits was taken for too long.
    #[error("nothing was read by the peer for too long")]
    SlowReader,
    /// A packet that does not belong into this phase or direction.
    #[error("unexpected {0:?} packet")]
    Unexpected(PacketKind),
    /// A response or a push from a client, or a request or a notify from a server.
    #[error("a message that only the other side sends")]
    UnexpectedMessage,
    /// A route code that the dictionary does not have.
    #[error("route code {0} is not in the dictionary")]
    UnknownRouteCode(u16),
}

/// Who would have to change for a connection not to end this way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The application or the operator, which may well be what was wanted.
    Caller,
    /// The other side, or the network to it.
    Peer,
    /// This library.
    Us,
}

impl CloseReason {
    /// Whose fault it was.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::BadHandshake(_)
            | Self::BadHandshakeResponse(_)
            | Self::BadInflate(_)
            | Self::BadMessage(_)
            | Self::BadPacket(_)
            | Self::DuplicateRequest(_)
            | Self::EndInsidePacket
            | Self::HandshakeTimeout
            | Self::Io(_)
            | Self::PacketTimeout
            | Self::PeerClosed
            | Self::Silent
            | Self::SlowReader
            | Self::Unexpected(_)
            | Self::UnexpectedMessage
            | Self::UnknownRouteCode(_) => Fault::Peer,
            Self::Closed
            | Self::HandshakeRefused(_)
            | Self::Kicked(_)
            | Self::OutboxFull
            | Self::Replaced
            | Self::Shutdown => Fault::Caller,
        }
    }

    /// Whether the peer or the way to it was lost, so that it may come back; see `resume_window`.
    pub const fn is_loss(&self) -> bool {
        match self {
            Self::EndInsidePacket
            | Self::Io(_)
            | Self::PacketTimeout
            | Self::PeerClosed
            | Self::Silent
            | Self::SlowReader => true,
            Self::BadHandshake(_)
            | Self::BadHandshakeResponse(_)
            | Self::BadInflate(_)
            | Self::BadMessage(_)
            | Self::BadPacket(_)
            | Self::Closed
            | Self::DuplicateRequest(_)
            | Self::HandshakeRefused(_)
            | Self::HandshakeTimeout
            | Self::Kicked(_)
            | Self::OutboxFull
            | Self::Replaced
            | Self::Shutdown
            | Self::Unexpected(_)
            | Self::UnexpectedMessage
            | Self::UnknownRouteCode(_) => false,
        }
    }

    /// What a client's request is answered with when its connection ends first: PIT-499, and the reason.
    pub fn no_reply(&self) -> Error {
        Error::from(error::PIPE_BROKEN).with_metadata("reason", self.to_string())
    }

    /// What counts connections that end this way, beside those that end at all.
    pub(crate) const fn counter(&self) -> Option<Counter> {
        match self {
            Self::BadInflate(InflateError::TooLarge) => Some(Counter::BodiesTooLarge),
            Self::BadHandshake(_)
            | Self::BadHandshakeResponse(_)
            | Self::BadInflate(InflateError::Malformed | InflateError::Truncated)
            | Self::BadMessage(_)
            | Self::BadPacket(_)
            | Self::DuplicateRequest(_)
            | Self::EndInsidePacket
            | Self::Unexpected(_)
            | Self::UnexpectedMessage
            | Self::UnknownRouteCode(_) => Some(Counter::ConnectionsFaulty),
            Self::HandshakeRefused(_) => Some(Counter::HandshakesRefused),
            Self::HandshakeTimeout => Some(Counter::HandshakesExpired),
            Self::OutboxFull | Self::SlowReader => Some(Counter::ConnectionsSlow),
            Self::PacketTimeout => Some(Counter::PacketsUnfinished),
            Self::Silent => Some(Counter::ConnectionsSilent),
            Self::Closed
            | Self::Io(_)
            | Self::Kicked(_)
            | Self::PeerClosed
            | Self::Replaced
            | Self::Shutdown => None,
        }
    }
}
