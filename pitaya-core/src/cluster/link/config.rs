//! What all links of one server have in common, and why one ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pitaya_proto::link::{self, FrameError, Hello};

use crate::cluster::{Incarnation, ServerId, ServerInfo};
use crate::{Counters, Instant};

/// The settings of the links of one server.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// What was counted so far, over all links.
    pub counters: Arc<Counters>,
    /// The limits in force.
    pub limits: LinkLimits,
    /// Who this is.
    pub me: Arc<ServerInfo>,
}

/// The limits of a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkLimits {
    /// Calls to one peer that wait for their reply, and as many of it that are not answered; 4,096.
    pub calls_max: usize,
    /// Silence after which a link is over, or time in which nothing is taken of what waits; 10 s.
    pub dead_after: Duration,
    /// Body of one frame; 1 MiB.
    pub frame_bytes_max: usize,
    /// How long a peer may take to say who it is; 5 s.
    pub hello_timeout: Duration,
    /// What is said at least, so that the peer knows who is there; every 0.5 s.
    pub heartbeat: Duration,
    /// Bytes waiting to be written to one peer, beyond which nothing new is sent to it; 8 MiB.
    pub outbound_bytes_max: usize,
    /// Silence after which no new calls go to a peer; 2 s.
    pub suspect_after: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            calls_max: 4096,
            dead_after: Duration::from_secs(10),
            frame_bytes_max: 1 << 20,
            hello_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_millis(500),
            outbound_bytes_max: 8 << 20,
            suspect_after: Duration::from_secs(2),
        }
    }
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
    /// The peer speaks another version.
    #[error("the peer speaks version {0} and not {version}", version = link::VERSION)]
    Version(u32),
}

impl ServerInfo {
    /// What this server says first on a link.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            version: link::VERSION,
            id: self.id.to_string(),
            kind: self.kind.to_string(),
            incarnation: self.incarnation.number(),
            frontend: self.frontend,
            hostname: self.hostname.clone(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            metadata: self.metadata.clone(),
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
