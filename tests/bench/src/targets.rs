//! The servers that the bench can run: the limits, and Pitaya on each runtime.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};

use clap::ValueEnum;

use crate::frames::{Frame, Route};
use crate::limit;
use crate::same_work::SameWork;

/// A server that the bench can run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Target {
    /// The same work as Pitaya in an epoll loop: codec, route lookup, handler
    EpollSameWork,
    /// Pitaya on smol
    PitayaSmol,
    /// Pitaya on tokio, current thread
    PitayaTokio,
    /// The limit: an epoll loop that echoes bytes as read
    RawEcho,
}

/// What a server wants to hear.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Speech {
    /// The handshake, then requests.
    Pitaya,
    /// Any bytes: they come back.
    Raw,
}

impl Target {
    pub(crate) fn speech(self) -> Speech {
        match self {
            Self::RawEcho => Speech::Raw,
            Self::EpollSameWork | Self::PitayaTokio | Self::PitayaSmol => Speech::Pitaya,
        }
    }

    /// Runs the server in this process, after printing its address as a line of its own.
    pub(crate) fn serve(self) -> io::Result<()> {
        match self {
            Self::EpollSameWork => limit::serve(&listener()?, SameWork::new()),
            Self::PitayaSmol => Err(io::Error::other("not built yet")),
            Self::PitayaTokio => Err(io::Error::other("not built yet")),
            Self::RawEcho => limit::serve(&listener()?, limit::RawEcho),
        }
    }
}

impl Speech {
    /// What comes back for a request.
    pub(crate) fn reply(self, route: Route) -> Frame {
        match self {
            Self::Pitaya => Frame::reply(),
            Self::Raw => Frame::request(route),
        }
    }
}

fn listener() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    announce(listener.local_addr()?)?;
    Ok(listener)
}

fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{address}")?;
    stdout.flush()
}
