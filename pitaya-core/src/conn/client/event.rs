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
        /// The reply; or the error that the server gave, or that kept it from giving any.
        result: Result<&'e [u8], Error>,
    },
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
