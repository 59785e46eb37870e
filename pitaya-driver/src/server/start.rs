//! Why a server does not start.

use std::fmt;

use pitaya_core::RouteError;

/// Why a server does not start, and what to do about it.
///
/// Its `Debug` is its text too, so that `fn main() -> Result<(), StartError>` prints what a person
/// needs.
#[derive(Clone, Eq, PartialEq, thiserror::Error)]
pub enum StartError {
    /// An acceptor that nobody could use.
    #[error("the acceptor on {address}: {why}")]
    Acceptor {
        /// Where it was to listen.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The socket cannot be had.
    #[error("{server} cannot bind {address}: {why}\n  {hint}")]
    Bind {
        /// The server's kind.
        server: String,
        /// The address it was to listen on.
        address: String,
        /// What the system says.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The cluster cannot be joined as it is described.
    #[error("the cluster: {0}")]
    Cluster(String),
    /// The route dictionary contradicts itself or is too large.
    #[error("bad route dictionary: {0}")]
    Dictionary(String),
    /// A module that is there twice, or is to be next to one that is not there.
    #[error("module with name {0}")]
    Module(String),
    /// A part of the application does not begin. Those that had begun have ended.
    #[error("{part} does not begin: {why}")]
    Part {
        /// Its name.
        part: String,
        /// What it says.
        why: String,
    },
    /// A route that cannot be one, or is there twice.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The runtime itself cannot start.
    #[error("the runtime cannot start: {0}")]
    Runtime(String),
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
