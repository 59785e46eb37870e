//! Why a connection ended, and whose fault it was.

use std::fmt;

use pitaya_proto::error::{self, Error};
use pitaya_proto::handshake::{HandshakeError, HandshakeResponseError};
use pitaya_proto::message::MessageError;
use pitaya_proto::packet::{PacketError, PacketKind};
use pitaya_proto::zlib::InflateError;

use crate::Counter;

macro_rules! reasons {
    ($(
        $(#[doc = $doc:literal])+
        [$($text:tt)+] $fault:ident $(($counter:ident))? => $name:ident $(($inner:ty))?;
    )+) => {
        /// Why a connection ended. Its text is for logs.
        #[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
        pub enum CloseReason {
            $($(#[doc = $doc])+ #[error($($text)+)] $name $(($inner))?,)+
        }

        impl CloseReason {
            fn facts(&self) -> (Fault, Option<Counter>) {
                match self {
                    $(Self::$name { .. } => {
                        (Fault::$fault, None$(.or(Some(Counter::$counter)))?)
                    })+
                }
            }
        }
    };
}

/// Who would have to change for a connection not to end this way. It is never this library: an
/// error of ours is logged as one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The application or the operator, which may well be what was wanted.
    Caller,
    /// The way to the other side, or nobody: it is gone, and may come back.
    Network,
    /// The other side, which did what the protocol does not allow.
    Peer,
}

// Each with its text, whose fault it is, and what counts it beside the ends of all connections.
reasons! {
    /// The handshake is not one.
    ["bad handshake: {0}"] Peer(ConnectionsFaulty) => BadHandshake(HandshakeError);
    /// The answer of a server to the handshake is none.
    ["bad handshake response: {0}"] Peer(ConnectionsFaulty) =>
        BadHandshakeResponse(HandshakeResponseError);
    /// A compressed body does not inflate within its limit.
    ["bad compressed body: {0}"] Peer(ConnectionsFaulty) => BadInflate(InflateError);
    /// A message does not decode.
    ["bad message: {0}"] Peer(ConnectionsFaulty) => BadMessage(MessageError);
    /// The bytes are no packet, as when the peer speaks another protocol.
    ["bad packet: {0}"] Peer(ConnectionsFaulty) => BadPacket(PacketError);
    /// The application or the owner of the connection closed it.
    ["closed by the application"] Caller => Closed;
    /// A request came with the id of one that is not answered yet.
    ["request {0} is already in flight"] Peer(ConnectionsFaulty) => DuplicateRequest(u64);
    /// The stream ended inside a packet.
    ["the stream ended inside a packet"] Network => EndInsidePacket;
    /// A validator or the server said no.
    ["handshake refused: {0}"] Caller(HandshakesRefused) => HandshakeRefused(String);
    /// The handshake was not done in time.
    ["the handshake took too long"] Peer(HandshakesExpired) => HandshakeTimeout;
    /// The socket failed.
    ["the socket failed: {0}"] Network => Io(std::io::ErrorKind);
    /// The application kicked the client, or the server kicked us; the text is the reason, if any.
    [fmt = kicked] Caller => Kicked(Option<String>);
    /// More waited to be written than the limit allows.
    ["the client reads too slowly for what is pushed to it"] Caller(ConnectionsSlow) => OutboxFull;
    /// A handler held its executor past the hard limit, when nothing could drop it.
    ["a handler held its executor past its hard limit"] Caller => Overrun;
    /// A packet that began did not finish in time.
    ["a packet did not finish in time"] Network(PacketsUnfinished) => PacketTimeout;
    /// The peer closed the stream between packets.
    ["closed by the peer"] Network => PeerClosed;
    /// What a client does first on every connection was answered with an error.
    ["refused by the server: {0}"] Caller => LoginRefused(Box<Error>);
    /// A newer login of the same user took its place.
    ["replaced by a newer login"] Caller => Replaced;
    /// The server stops.
    ["the server shuts down"] Caller => Shutdown;
    /// Nothing came for too long.
    ["nothing was heard for too long"] Network(ConnectionsSilent) => Silent;
    /// Nothing of what waits was taken for too long.
    ["nothing was read by the peer for too long"] Network(ConnectionsSlow) => SlowReader;
    /// A packet that does not belong into this phase or direction.
    ["unexpected {0:?} packet"] Peer(ConnectionsFaulty) => Unexpected(PacketKind);
    /// A response or a push from a client, or a request or a notify from a server.
    ["a message that only the other side sends"] Peer(ConnectionsFaulty) => UnexpectedMessage;
    /// A route code that the dictionary does not have.
    ["route code {0} is not in the dictionary"] Peer(ConnectionsFaulty) => UnknownRouteCode(u16);
}

impl CloseReason {
    /// The end of a stream with `rest` bytes of a packet that never came whole.
    pub fn end(rest: usize) -> Self {
        if rest == 0 { Self::PeerClosed } else { Self::EndInsidePacket }
    }

    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        self.facts().0
    }

    /// Whether the peer or the way to it was lost, so that it may come back; see `resume_window`.
    pub fn is_loss(&self) -> bool {
        self.fault() == Fault::Network
    }

    /// What a client's request is answered with when its connection ends first: PIT-499 with the
    /// reason.
    pub fn no_reply(&self) -> Error {
        Error::from(error::PIPE_BROKEN).with_metadata("reason", self.to_string())
    }

    /// What counts connections that end this way, beside those that end at all.
    pub(crate) fn counter(&self) -> Option<Counter> {
        if *self == Self::BadInflate(InflateError::TooLarge) {
            return Some(Counter::BodiesTooLarge);
        }
        self.facts().1
    }
}

fn kicked(reason: &Option<String>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "kicked: {}", reason.as_deref().unwrap_or("no reason given"))
}
