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

use crate::cluster::Desk;

/// Carries calls and messages between servers, and knows who they are.
///
/// For a carrier of streams implement [`Network`](crate::cluster::Network) instead: it costs less
/// for each message, and finds out by itself whether a server is still there, and which one it is.
///
/// What one server says to another, calls, answers and all else, has to arrive in the order in
/// which it was said: the order of a session's calls and pushes is only as good. What waits to be
/// sent is the carrier's to bound. It may drop an [`Answer`], which tells its caller, and
/// [`Told::Kick`], [`Told::Notify`] and [`Told::Push`]; the servers at whose ends anything else is
/// lost have [left](Desk::left) each other, and may [join](Desk::joined) anew. What it brings waits
/// here within bounds, and a server of which more comes is [lost](Self::lost).
pub trait Rpc: Send + Sync + 'static {
    /// Calls a server: `request` is that of a [`Request`](pitaya_proto::protos::Request). Nobody
    /// waits for longer than `remaining`. It must not block.
    fn call(&self, to: &Life, remaining: Duration, request: Bytes, answer: Answer);

    /// Tells a server what needs no answer. It must not block.
    fn tell(&self, to: &Life, told: Told);

    /// The link to that server has ended here though neither of the two leaves: more came from it
    /// than there was room for, or what makes no sense. The other one has to hear that this server
    /// has [left](Desk::left) it; then both may [join](Desk::joined) anew, after a wait if that
    /// happens again and again. It must not block.
    fn lost(&self, to: &Life);

    /// Says at `desk` who is there and what they say, and tells them of [`Desk::me`]. Once this
    /// server has nothing more to say it is dropped, by which this server is gone for the others.
    ///
    /// The desk holds the carrier, which must not hold the desk for longer than this runs.
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
    /// The one who says it has heard that the other drains, and calls it no more. The other waits
    /// for that before it goes; on behalf of a server that does not know the word a carrier says
    /// it, once no more calls can be on their way.
    Drained,
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
