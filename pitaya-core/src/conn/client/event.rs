//! What a client connection tells its owner, and is told.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use pitaya_proto::error::Error;
use pitaya_proto::handshake::HandshakeResponse;

use crate::Instant;
use crate::conn::CloseReason;

/// What a server did, or what became of a request.
#[derive(Debug, Eq, PartialEq)]
pub enum ClientEvent<'e, W> {
    /// The connection is over. Said exactly once, after every waiter was answered.
    Closed(CloseReason),
    /// The server accepted the handshake.
    Opened(Arc<HandshakeResponse>),
    /// The server tells something unasked.
    Push {
        /// What it is called; bytes that are no UTF-8 are replaced.
        route: Cow<'e, str>,
        /// What is told.
        body: &'e [u8],
    },
    /// A request is done.
    Reply {
        /// Whoever waits for it.
        waiter: W,
        /// The reply, or why there is none.
        result: Result<&'e [u8], RequestError>,
    },
}

/// Why a request has no reply, and with it what became of the request.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// The server answered, with this error or with what cannot be read.
    #[error("{0}")]
    Answered(Error),
    /// The server has not got the request and will not get it, so it may be made again: PIT-499
    /// when there is no connection, PIT-504 when there was none in time, PIT-429 when too much
    /// waits, and what the wire cannot carry.
    #[error("{0}")]
    Unsent(Error),
    /// Nothing says whether the server got the request and what it did: PIT-504 when it did not
    /// answer in time, PIT-499 when the connection ended first.
    #[error("{0}")]
    Unknown(Error),
}

impl RequestError {
    /// The error alone.
    pub fn error(&self) -> &Error {
        match self {
            Self::Answered(error) | Self::Unsent(error) | Self::Unknown(error) => error,
        }
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        error.error().clone()
    }
}

/// What the owner of a client decided.
#[derive(Debug, Eq, PartialEq)]
pub enum ClientCommand<W> {
    /// End the connection. What waits to be written still is; no request is answered any more.
    Close(CloseReason),
    /// Tell the server something. It is dropped and counted if it cannot be sent.
    Notify {
        /// The handler meant.
        route: Arc<str>,
        /// Its argument.
        body: Bytes,
    },
    /// Ask the server something.
    Request(ClientRequest<W>),
}

/// What a client asks of its server.
#[derive(Debug, Eq, PartialEq)]
pub struct ClientRequest<W> {
    /// The handler meant.
    pub route: Arc<str>,
    /// Its argument.
    pub body: Bytes,
    /// When to stop waiting.
    pub deadline: Instant,
    /// Whoever waits.
    pub waiter: W,
}
