//! The boundary where a carrier of messages plugs in, such as a broker: calls and what is told,
//! whole, instead of streams.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pitaya_core::Error;
use pitaya_core::cluster::Life;
use pitaya_core::session::HostFuture;
use pitaya_proto::error;
use pitaya_proto::link::{Kick, Push, Seat};

use crate::cluster::bridge::Desk;

/// Carries calls and messages between servers, and knows who they are.
///
/// For a carrier of streams implement [`Network`](crate::cluster::Network) instead: it costs less
/// for each message, and finds out by itself whether a server is still there.
///
/// What one server says to another, calls, answers and all else, has to arrive in the order in
/// which it was said, or not at all: the order of a session's calls and pushes is only as good.
pub trait Rpc: Send + Sync + 'static {
    /// Calls a server: `request` is that of a [`Request`](pitaya_proto::protos::Request). It is on
    /// its way when this returns. Nobody waits for longer than `remaining`.
    fn call(&self, to: &Life, remaining: Duration, request: Bytes, answer: Answer);

    /// Tells a server what needs no answer. What cannot be sent is lost.
    fn tell(&self, to: &Life, told: Told);

    /// Says at `desk` who is there and what they say, and tells them of [`Desk::me`], until it is
    /// dropped: then this server is gone for the others.
    fn run(self: Arc<Self>, desk: Desk) -> HostFuture<()>;
}

/// Whoever waits for an answer; told that the server is lost if this is dropped.
pub struct Answer(Option<Box<Give>>);

type Give = dyn FnOnce(Result<Bytes, Error>) + Send;

impl Answer {
    /// Somebody who takes the bytes of a [`Response`](pitaya_proto::protos::Response), or why there
    /// is none. It must not block.
    pub fn new(take: impl FnOnce(Result<Bytes, Error>) + Send + 'static) -> Self {
        Self(Some(Box::new(take)))
    }

    /// Gives the answer.
    pub fn give(mut self, result: Result<Bytes, Error>) {
        self.finish(result);
    }

    fn finish(&mut self, result: Result<Bytes, Error>) {
        if let Some(give) = self.0.take() {
            give(result);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.finish(Err(error::SERVER_LOST.into()));
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

/// What a server says that needs no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A session of the one who says it is over.
    Closed(u64),
    /// The one who says it takes no new calls, and will be gone.
    Drains,
    /// Users or sessions of the other are to be kicked.
    Kick(Kick),
    /// A call that wants no answer.
    Notify {
        /// For how long it is of use.
        remaining: Duration,
        /// The bytes of a [`Request`](pitaya_proto::protos::Request).
        request: Bytes,
    },
    /// Users or sessions of the other are told something.
    Push(Push),
    /// About who has a user id.
    Seat(Seat),
}
