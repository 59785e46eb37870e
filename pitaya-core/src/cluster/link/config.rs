//! What all links of one server have in common, and why one ends.

use std::io;
use std::sync::Arc;

use pitaya_proto::link::{self, FrameError, Hello};

use crate::cluster::{Incarnation, ServerId, ServerInfo};
use crate::{ConnConfig, Instant};

/// The settings of the links of one server.
#[derive(Debug)]
pub struct LinkConfig {
    /// The settings of the server, with its limits and counters.
    pub conn: Arc<ConnConfig>,
    /// Who this is.
    pub me: Arc<ServerInfo>,
}

/// Why a link ended. Its text is for logs.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LinkEnd {
    /// The bytes are no frame.
    #[error("bad frame: {0}")]
    BadFrame(#[from] FrameError),
    /// The owner closed it.
    #[error("closed by this server")]
    Closed,
    /// What the peer says of itself is not what it has proven, or makes no sense.
    #[error("the peer says that it is {0:?}, which it is not")]
    Impostor(String),
    /// The stream failed.
    #[error("the stream failed: {0}")]
    Io(io::ErrorKind),
    /// The peer is this very server.
    #[error("the peer is this server itself")]
    Myself,
    /// The peer did not say in time who it is.
    #[error("the peer did not say who it is")]
    NoHello,
    /// The peer closed the stream.
    #[error("closed by the peer")]
    PeerClosed,
    /// Nothing was heard for too long.
    #[error("nothing was heard for too long")]
    Silent,
    /// Nothing of what waits was taken for too long.
    #[error("nothing was read by the peer for too long")]
    SlowReader,
    /// A frame that does not belong here: a hello that is not the first frame or is missing there,
    /// or a call with the id of one that is not answered.
    #[error("a frame that does not belong here")]
    Unexpected,
    /// Another link to the same server stays, or it is no member.
    #[error("{0}")]
    Unwanted(&'static str),
    /// The peer speaks another version.
    #[error("the peer speaks version {0} and not {version}", version = link::VERSION)]
    Version(u32),
}

impl ServerInfo {
    /// What this server says first on a link, the one of that dial.
    pub fn hello(&self, dial: u64) -> Hello {
        Hello {
            version: link::VERSION,
            id: self.id.to_string(),
            kind: self.kind.to_string(),
            incarnation: self.incarnation.number(),
            frontend: self.frontend,
            hostname: self.hostname.clone(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            metadata: self.metadata.clone(),
            dial,
        }
    }

    /// What a server said; `None` if it makes no sense.
    pub(super) fn of_hello(hello: Hello) -> Option<Self> {
        let addresses: Result<_, _> =
            hello.addresses.iter().map(|address| address.parse()).collect();
        let legal = |text: &str| !text.is_empty() && !text.contains(['.', '/']);
        Some(Self {
            addresses: addresses.ok()?,
            frontend: hello.frontend,
            hostname: hello.hostname,
            id: ServerId::new(&hello.id)?,
            incarnation: Incarnation::new(hello.incarnation),
            kind: Some(hello.kind).filter(|kind| legal(kind))?.into(),
            metadata: hello.metadata,
        })
    }
}

/// The earliest of the deadlines that there are.
pub(super) fn earliest<const N: usize>(deadlines: [Option<Instant>; N]) -> Option<Instant> {
    deadlines.into_iter().flatten().min()
}
