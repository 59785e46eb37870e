//! The servers that the bench can run: the limits, Pitaya on each runtime, Pitaya for Go, and who
//! answers the calls of other servers.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use clap::ValueEnum;
use pitaya_core::{App, Error, Group, Payload, Session, State};
use pitaya_driver::{Native, Runtime, Server, Tls};
use pitaya_tokio::Tokio;

use crate::bare_tokio;
use crate::calls;
use crate::cluster::{self, Carrier};
use crate::fan_out::{self, Tell};
use crate::frames::{self, Frame, Msg, Route};
use crate::go;
use crate::limit;
use crate::same_work::SameWork;
use crate::two_tasks;

/// A server that the bench can run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Target {
    /// Echoes bytes as read, in a task of tokio for each connection
    BareTokioEcho,
    /// The same work as Pitaya in such tasks
    BareTokioSameWork,
    /// The same work as Pitaya in an epoll loop: codec, route lookup, handler
    EpollSameWork,
    /// Pitaya for Go without compression
    Go,
    /// A NATS server, in the program in Go
    GoBroker,
    /// Pitaya for Go as it comes: it tries to compress whatever it sends
    GoCompressing,
    /// Two servers of Pitaya for Go: a frontend without compression that forwards
    GoGate,
    /// The server that answers what is forwarded by Pitaya for Go, through the broker
    GoRoom,
    /// gRPC by tonic
    Grpc,
    /// Frames of a link over TCP, with bare bodies
    Mux,
    /// The same over our QUIC
    MuxOverQuic,
    /// The limit of calls between servers: the same with all that a call of ours has to have
    MuxSameWork,
    /// A client of NATS that answers others
    Nats,
    /// Two servers of ours: a frontend on tokio that forwards
    PitayaGate,
    /// Pitaya on tokio without compression
    PitayaPlain,
    /// The server that answers what ours forwards, and their remote
    PitayaRoom,
    /// The same over plain TCP
    PitayaRoomOverPlain,
    /// Pitaya on smol
    PitayaSmol,
    /// Pitaya on tokio, over TLS
    PitayaTls,
    /// Pitaya on tokio, current thread
    PitayaTokio,
    /// Pitaya on tokio, over WebSocket
    PitayaWeb,
    /// A stream of QUIC for each call
    QuicStreams,
    /// The limit: an epoll loop that echoes bytes as read
    RawEcho,
    /// The limit of pushes: a loop that sends bytes to all
    RawFanOut,
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
    /// The same as Pitaya in frames of a WebSocket.
    Web,
}

impl Target {
    pub(crate) fn speech(self) -> Speech {
        match self {
            Self::BareTokioEcho | Self::RawEcho | Self::RawFanOut => Speech::Raw,
            Self::PitayaWeb => Speech::Web,
            // To these no client speaks.
            Self::GoBroker
            | Self::GoRoom
            | Self::Grpc
            | Self::Mux
            | Self::MuxOverQuic
            | Self::MuxSameWork
            | Self::Nats
            | Self::PitayaRoom
            | Self::PitayaRoomOverPlain
            | Self::QuicStreams => Speech::Raw,
            Self::BareTokioSameWork
            | Self::EpollSameWork
            | Self::Go
            | Self::GoCompressing
            | Self::GoGate
            | Self::PitayaGate
            | Self::PitayaPlain
            | Self::PitayaTls
            | Self::PitayaTokio
            | Self::PitayaSmol
            | Self::TwoTasks => Speech::Pitaya,
        }
    }

    /// How many times fewer requests tell as much, so that a slow server does not take all the
    /// time there is.
    pub(crate) fn slowness(self) -> u64 {
        match self {
            Self::GoCompressing => 100,
            Self::GoGate => 20,
            Self::Go | Self::Grpc | Self::Nats => 10,
            Self::QuicStreams => 4,
            Self::BareTokioEcho
            | Self::BareTokioSameWork
            | Self::EpollSameWork
            | Self::GoBroker
            | Self::GoRoom
            | Self::Mux
            | Self::MuxOverQuic
            | Self::MuxSameWork
            | Self::PitayaGate
            | Self::PitayaPlain
            | Self::PitayaRoom
            | Self::PitayaRoomOverPlain
            | Self::PitayaSmol
            | Self::PitayaTls
            | Self::PitayaTokio
            | Self::PitayaWeb
            | Self::RawEcho
            | Self::RawFanOut
            | Self::TwoTasks => 1,
        }
    }

    /// What has to be there before, and is told of on the command line.
    pub(crate) fn behind(self) -> Option<Self> {
        match self {
            Self::GoGate => Some(Self::GoRoom),
            Self::GoRoom | Self::Nats => Some(Self::GoBroker),
            Self::PitayaGate => Some(Self::PitayaRoom),
            Self::BareTokioEcho
            | Self::BareTokioSameWork
            | Self::EpollSameWork
            | Self::Go
            | Self::GoBroker
            | Self::GoCompressing
            | Self::Grpc
            | Self::Mux
            | Self::MuxOverQuic
            | Self::MuxSameWork
            | Self::PitayaPlain
            | Self::PitayaRoom
            | Self::PitayaRoomOverPlain
            | Self::PitayaSmol
            | Self::PitayaTls
            | Self::PitayaTokio
            | Self::PitayaWeb
            | Self::QuicStreams
            | Self::RawEcho
            | Self::RawFanOut
            | Self::TwoTasks => None,
        }
    }

    /// Runs the server in this process, after printing its address as a line of its own; what is
    /// only reached through another server prints the address of that.
    pub(crate) fn serve(self, behind: Option<SocketAddr>) -> io::Result<()> {
        let behind = || behind.ok_or_else(|| io::Error::other("nothing is behind"));
        match self {
            Self::BareTokioEcho => bare_tokio::serve(listener()?, limit::RawEcho),
            Self::BareTokioSameWork => bare_tokio::serve(listener()?, SameWork::new()),
            Self::EpollSameWork => limit::serve(&listener()?, SameWork::new()),
            Self::Go => Err(go::become_server("off")),
            Self::GoBroker => Err(go::become_broker()),
            Self::GoCompressing => Err(go::become_server("on")),
            Self::GoGate => Err(go::become_one_of_two("gate", behind()?)),
            Self::GoRoom => Err(go::become_one_of_two("room", behind()?)),
            Self::Grpc => calls::grpc::answer(listener()?),
            Self::Mux => calls::mux::answer(listener()?),
            Self::MuxOverQuic => calls::mux::answer_over_quic(),
            Self::MuxSameWork => calls::same_work::answer(listener()?),
            Self::Nats => calls::nats::answer(behind()?),
            Self::PitayaGate => cluster::serve_gate(behind()?),
            Self::PitayaRoom => cluster::serve_room(Carrier::Quic),
            Self::PitayaRoomOverPlain => cluster::serve_room(Carrier::Plain),
            Self::QuicStreams => calls::streams::answer(),
            Self::PitayaPlain => run(pitaya::<Tokio>().tcp(ANYWHERE).compression(false)),
            Self::PitayaSmol => run(pitaya::<pitaya_smol::Smol>().tcp(ANYWHERE)),
            Self::PitayaTls => run(pitaya::<Tokio>().tls(ANYWHERE, certificate()?)),
            Self::PitayaTokio => run(pitaya::<Tokio>().tcp(ANYWHERE)),
            Self::PitayaWeb => run(pitaya::<Tokio>().ws(ANYWHERE)),
            Self::RawEcho => limit::serve(&listener()?, limit::RawEcho),
            Self::RawFanOut => fan_out::serve(&listener()?),
            Self::TwoTasks => two_tasks::serve(listener()?, SameWork::new()),
        }
    }
}

impl Speech {
    /// What comes back for a request.
    pub(crate) fn reply(self, route: Route) -> Frame {
        match self {
            Self::Pitaya | Self::Web => Frame::reply(),
            Self::Raw => Frame::request(route),
        }
    }
}

/// Pitaya with its default limits, sessions and counters, on a runtime of one thread.
fn pitaya<R: Runtime>() -> Server<R> {
    Server::new("gate", app())
}

/// What the load asks for.
pub(crate) fn app() -> App<Group> {
    App::new(Group::default())
        .route(Route::Echo.name(), echo)
        .route(Route::Json.name(), json)
        .route(Route::Bind.name(), bind)
        .route(frames::JOIN, join)
        .route(frames::TELL, tell)
}

fn run<R: Native>(server: Server<R>) -> io::Result<()> {
    server
        .on_ready(|addresses| announce(addresses[0]).expect("the parent reads the address"))
        .run()
        .map_err(|why| io::Error::other(why.to_string()))
}

fn certificate() -> io::Result<Tls> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let made = made.map_err(io::Error::other)?;
    Tls::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).map_err(io::Error::other)
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

async fn join(session: Session, State(group): State<Group>) -> Result<bool, Error> {
    Ok(group.join(&session))
}

async fn tell(State(group): State<Group>, Payload(tell): Payload<Tell>) -> Result<u32, Error> {
    for n in tell.first..tell.first + tell.count {
        group.push(frames::TOLD, &Msg::told(n, tell.long))?;
    }
    Ok(tell.count)
}

fn listener() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    announce(listener.local_addr()?)?;
    Ok(listener)
}

/// Tells the parent where the server is.
pub(crate) fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{address}")?;
    stdout.flush()
}

pub(crate) const ANYWHERE: &str = "127.0.0.1:0";
