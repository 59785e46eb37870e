//! What happens on a link, and what its owner decides.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use pitaya_proto::error::Error;
use pitaya_proto::link::{Kick, Known, Push};

use super::{Lane, LinkEnd};
use crate::Instant;
use crate::cluster::{Said, ServerInfo};

/// What a peer did, or what became of the link.
#[derive(Debug, PartialEq)]
pub enum LinkEvent<'e, W> {
    /// It calls; answer with [`LinkCommand::Reply`] unless no reply is wanted.
    Call {
        /// Names the call in its reply; nothing if none is wanted.
        id: Option<u32>,
        /// When the caller stops waiting, by the clock of this server.
        deadline: Instant,
        /// The bytes of a [`Request`](pitaya_proto::protos::Request).
        request: Cow<'e, [u8]>,
    },
    /// The link is over. Said exactly once, after every waiter was answered.
    Closed(LinkEnd),
    /// The peer takes no new calls, and will be gone.
    Drains,
    /// Users or sessions here are to be kicked.
    Kick(Kick),
    /// Where the peer knows other servers: hints, no more.
    Known(Known),
    /// The peer is there, and this is who it is.
    Opened(Arc<ServerInfo>, Dial),
    /// Users or sessions here are told something.
    Push(Push),
    /// A call is done.
    Reply {
        /// Whoever waits for it.
        waiter: W,
        /// The bytes of a [`Response`](pitaya_proto::protos::Response), or why there is none:
        /// PIT-408 at the deadline, PIT-503 if the peer is out of reach or has too much to do.
        result: Result<Cow<'e, [u8]>, Error>,
    },
    /// It was heard again.
    Restored,
    /// About who has a user id.
    Said(Said),
    /// The session of that number is over on the peer.
    SessionClosed(u64),
    /// It has been silent for too long to be given calls.
    Suspected,
}

impl<W> LinkEvent<'_, W> {
    /// The same, that borrows nothing.
    pub(super) fn into_owned<'o>(self) -> LinkEvent<'o, W> {
        match self {
            Self::Call { id, deadline, request } => {
                LinkEvent::Call { id, deadline, request: Cow::Owned(request.into_owned()) }
            }
            Self::Closed(end) => LinkEvent::Closed(end),
            Self::Drains => LinkEvent::Drains,
            Self::Kick(kick) => LinkEvent::Kick(kick),
            Self::Known(known) => LinkEvent::Known(known),
            Self::Opened(info, dial) => LinkEvent::Opened(info, dial),
            Self::Push(push) => LinkEvent::Push(push),
            Self::Reply { waiter, result } => {
                let result = result.map(|response| Cow::Owned(response.into_owned()));
                LinkEvent::Reply { waiter, result }
            }
            Self::Restored => LinkEvent::Restored,
            Self::Said(said) => LinkEvent::Said(said),
            Self::SessionClosed(session) => LinkEvent::SessionClosed(session),
            Self::Suspected => LinkEvent::Suspected,
        }
    }
}

/// What the owner of a link decided.
#[derive(Debug, PartialEq)]
pub enum LinkCommand<W> {
    /// Ask the peer something.
    Call {
        /// When to stop waiting.
        deadline: Instant,
        /// What it keeps its order with.
        lane: Lane,
        /// The bytes of a request.
        request: Bytes,
        /// Whoever waits.
        waiter: W,
    },
    /// End the link. What waits to be written still is.
    Close(LinkEnd),
    /// Say that this server takes no new calls; those that the peer has sent it still answers.
    Drain,
    /// Kick users or sessions of the peer.
    Kick(Kick),
    /// Tell the peer where other servers are.
    Known(Known),
    /// Ask the peer something that needs no reply.
    Notify {
        /// When it is of no use any more.
        deadline: Instant,
        /// What it keeps its order with.
        lane: Lane,
        /// The bytes of a request.
        request: Bytes,
    },
    /// Push to users or sessions of the peer.
    Push(Push),
    /// Answer a call.
    Reply {
        /// That of the call.
        id: u32,
        /// What it keeps its order with.
        lane: Lane,
        /// The bytes of a response.
        response: Bytes,
    },
    /// Say something about who has a user id. It is never dropped while the link lives.
    Say(Said),
    /// Say that a session of this server is over. It is never dropped while the link lives.
    SessionClosed(u64),
}

/// Which dial of whom made a link. Of two links between the same servers the lower one stays, and
/// both ends see the same.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Dial {
    /// Whether the server with the higher id has dialled.
    pub(super) by_higher: bool,
    /// How often that server had dialled by then.
    pub(super) number: u64,
}

#[cfg(test)]
impl Dial {
    pub(in crate::cluster) fn new(by_higher: bool, number: u64) -> Self {
        Self { by_higher, number }
    }

    pub(in crate::cluster) fn number(self) -> u64 {
        self.number
    }
}
