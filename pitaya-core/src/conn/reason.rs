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
        [$($text:tt)+] $kind:ident $(($counter:ident))? => $name:ident $(($inner:ty))?;
    )+) => {
        /// Why a connection ended. Its text is for logs.
        #[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
        pub enum CloseReason {
            $($(#[doc = $doc])+ #[error($($text)+)] $name $(($inner))?,)+
        }

        impl CloseReason {
            fn facts(&self) -> (Kind, Option<Counter>) {
                match self {
                    $(Self::$name { .. } => {
                        (Kind::$kind, None$(.or(Some(Counter::$counter)))?)
                    })+
                }
            }
        }
    };
}

/// What an end is, and with it who would have to change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// The peer did what the protocol does not allow.
    Breach,
    /// We wanted it so.
    Choice,
    /// The peer or the way to it is gone.
    Loss,
}

// Each with its text, what it is, and what counts it beside the ends of all connections.
reasons! {
    /// The handshake is not one.
    ["bad handshake: {0}"] Breach(ConnectionsFaulty) => BadHandshake(HandshakeError);
    /// The answer of a server to the handshake is none.
    ["bad handshake response: {0}"] Breach(ConnectionsFaulty) =>
        BadHandshakeResponse(HandshakeResponseError);
    /// A compressed body does not inflate within its limit.
    ["bad compressed body: {0}"] Breach(ConnectionsFaulty) => BadInflate(InflateError);
    /// A message does not decode.
    ["bad message: {0}"] Breach(ConnectionsFaulty) => BadMessage(MessageError);
    /// The bytes are no packet, as when the peer speaks another protocol.
    ["bad packet: {0}"] Breach(ConnectionsFaulty) => BadPacket(PacketError);
    /// The application or the owner of the connection closed it.
    ["closed by the application"] Choice => Closed;
    /// A request came with the id of one that is not answered yet.
    ["request {0} is already in flight"] Breach(ConnectionsFaulty) => DuplicateRequest(u64);
    /// The stream ended inside a packet.
    ["the stream ended inside a packet"] Loss(ConnectionsFaulty) => EndInsidePacket;
    /// A validator or the server said no.
    ["handshake refused: {0}"] Choice(HandshakesRefused) => HandshakeRefused(String);
    /// The handshake was not done in time.
    ["the handshake took too long"] Breach(HandshakesExpired) => HandshakeTimeout;
    /// The socket failed.
    ["the socket failed: {0}"] Loss => Io(std::io::ErrorKind);
    /// The application kicked the client, or the server kicked us; the text is the reason, if any.
    [fmt = kicked] Choice => Kicked(Option<String>);
    /// More waited to be written than the limit allows.
    ["the client reads too slowly for what is pushed to it"] Choice(ConnectionsSlow) => OutboxFull;
    /// A packet that began did not finish in time.
    ["a packet did not finish in time"] Loss(PacketsUnfinished) => PacketTimeout;
    /// The peer closed the stream between packets.
    ["closed by the peer"] Loss => PeerClosed;
    /// A newer login of the same user took its place.
    ["replaced by a newer login"] Choice => Replaced;
    /// The server stops.
    ["the server shuts down"] Choice => Shutdown;
    /// Nothing came for too long.
    ["nothing was heard for too long"] Loss(ConnectionsSilent) => Silent;
    /// Nothing of what waits was taken for too long.
    ["nothing was read by the peer for too long"] Loss(ConnectionsSlow) => SlowReader;
    /// A packet that does not belong into this phase or direction.
    ["unexpected {0:?} packet"] Breach(ConnectionsFaulty) => Unexpected(PacketKind);
    /// A response or a push from a client, or a request or a notify from a server.
    ["a message that only the other side sends"] Breach(ConnectionsFaulty) => UnexpectedMessage;
    /// A route code that the dictionary does not have.
    ["route code {0} is not in the dictionary"] Breach(ConnectionsFaulty) => UnknownRouteCode(u16);
}

/// Who would have to change for a connection not to end this way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The application or the operator, which may well be what was wanted.
    Caller,
    /// The other side, or the network to it.
    Peer,
}

impl CloseReason {
    /// The end of a stream with `rest` bytes of a packet that never came whole.
    pub(crate) fn end(rest: usize) -> Self {
        if rest == 0 { Self::PeerClosed } else { Self::EndInsidePacket }
    }

    /// Whose fault it was. It is never this library's: an error of ours is logged as one.
    pub fn fault(&self) -> Fault {
        match self.facts().0 {
            Kind::Choice => Fault::Caller,
            Kind::Breach | Kind::Loss => Fault::Peer,
        }
    }

    /// Whether the peer or the way to it was lost, so that it may come back; see `resume_window`.
    pub fn is_loss(&self) -> bool {
        self.facts().0 == Kind::Loss
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
