//! The servers that the bench can run: the limits, Pitaya on each runtime, and Pitaya for Go.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use clap::ValueEnum;
use pitaya_core::{App, Error, Payload, Session};
use pitaya_driver::{Native, Server};

use crate::frames::{Frame, Msg, Route};
use crate::go;
use crate::limit;
use crate::same_work::SameWork;
use crate::two_tasks;

/// A server that the bench can run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Target {
    /// The same work as Pitaya in an epoll loop: codec, route lookup, handler
    EpollSameWork,
    /// Pitaya for Go without compression
    Go,
    /// Pitaya for Go as it comes: it tries to compress whatever it sends
    GoCompressing,
    /// Pitaya on smol
    PitayaSmol,
    /// Pitaya on tokio, current thread
    PitayaTokio,
    /// The limit: an epoll loop that echoes bytes as read
    RawEcho,
    /// Two tasks and a buffer per connection, on tokio, without sessions
    TwoTasks,
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
            Self::EpollSameWork
            | Self::Go
            | Self::GoCompressing
            | Self::PitayaTokio
            | Self::PitayaSmol
            | Self::TwoTasks => Speech::Pitaya,
        }
    }

    /// How many times fewer requests tell as much, so that a slow server does not take all the
    /// time there is.
    pub(crate) fn slowness(self) -> u64 {
        match self {
            Self::EpollSameWork
            | Self::PitayaSmol
            | Self::PitayaTokio
            | Self::RawEcho
            | Self::TwoTasks => 1,
            Self::Go => 10,
            Self::GoCompressing => 100,
        }
    }

    /// Runs the server in this process, after printing its address as a line of its own.
    pub(crate) fn serve(self) -> io::Result<()> {
        match self {
            Self::EpollSameWork => limit::serve(&listener()?, SameWork::new()),
            Self::Go => Err(go::become_server("off")),
            Self::GoCompressing => Err(go::become_server("on")),
            Self::PitayaSmol => serve_pitaya::<pitaya_smol::Smol>(),
            Self::PitayaTokio => serve_pitaya::<pitaya_tokio::Tokio>(),
            Self::RawEcho => limit::serve(&listener()?, limit::RawEcho),
            Self::TwoTasks => two_tasks::serve(listener()?, SameWork::new()),
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

/// Pitaya with its default limits, sessions and counters, on a runtime of one thread.
fn serve_pitaya<R: Native>() -> io::Result<()> {
    let app = App::new(())
        .route(Route::Echo.name(), echo)
        .route(Route::Json.name(), json)
        .route(Route::Bind.name(), bind);
    Server::<R>::new("gate", app)
        .tcp("127.0.0.1:0")
        .on_ready(|addresses| announce(addresses[0]).expect("the parent reads the address"))
        .run()
        .map_err(|why| io::Error::other(why.to_string()))
}

async fn echo(body: Bytes) -> Result<Bytes, Error> {
    Ok(body)
}

async fn json(Payload(msg): Payload<Msg>) -> Result<Msg, Error> {
    Ok(msg)
}

async fn bind(session: Session, Payload(msg): Payload<Msg>) -> Result<Msg, Error> {
    session.bind(&format!("player-{}", msg.seq)).await?;
    session.set("level", msg.seq % 100)?;
    session.set("name", &msg.name)?;
    Ok(msg)
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
