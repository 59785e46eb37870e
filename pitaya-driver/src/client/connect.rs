//! From an address to a connection that works, or to the reason why not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_channel::oneshot;
use pitaya_core::{ClientConfig, ClientConn, CloseReason};
use pitaya_proto::handshake::HandshakeResponse;

use crate::client::line::Line;
use crate::drive::Drive;
use crate::runtime::Runtime;
use crate::timers::{Sleep, Timers, before};
use crate::transport::Transport;

/// Why there is no connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConnectError {
    /// Not the address of a server.
    #[error("`{0}` is not an address: give a host and a port, such as 127.0.0.1:3250")]
    Address(String),
    /// The server, or whoever listens there, closed the connection before it could be used.
    #[error("{address} closed the connection: {reason}")]
    Closed {
        /// The address as it was given.
        address: String,
        /// Why.
        reason: CloseReason,
    },
    /// The address cannot be found or reached.
    #[error("cannot connect to {address}: {kind}")]
    Io {
        /// The address as it was given.
        address: String,
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// The server writes values in another way.
    #[error("{address} speaks {server}, this client {client}")]
    Serializer {
        /// The address as it was given.
        address: String,
        /// The name of the client's codec.
        client: &'static str,
        /// The name that the server gave in its handshake.
        server: String,
    },
    /// It took longer than `connect_timeout`.
    #[error("{address} did not answer in time")]
    Timeout {
        /// The address as it was given.
        address: String,
    },
}

impl ConnectError {
    pub(super) fn io(address: &str, error: &io::Error) -> Self {
        Self::Io { address: address.to_owned(), kind: error.kind() }
    }

    fn closed(address: &str, reason: CloseReason) -> Self {
        let address = address.to_owned();
        if reason == CloseReason::HandshakeTimeout {
            return Self::Timeout { address };
        }
        Self::Closed { address, reason }
    }
}

/// Dials, starts the task of the connection, and waits until the server has accepted the handshake.
pub(super) async fn connect<R: Runtime + Unpin>(
    runtime: &R, address: &str, config: &Arc<ClientConfig>,
) -> Result<(Line, Arc<HandshakeResponse>), ConnectError> {
    let began = runtime.now();
    let running = Running(Timers::start(runtime));
    let until = Sleep::until(&running.0, runtime.clone(), began + config.limits.connect_timeout);
    let timeout = || ConnectError::Timeout { address: address.to_owned() };
    let io = before(until, dial(runtime, address)).await.ok_or_else(timeout)??;
    let (opening, opened) = oneshot::channel();
    let (line, serving) = Line::new(config, opening);
    let drive = Drive::new(
        runtime.clone(),
        &running.0,
        (io, Transport::TCP),
        (ClientConn::new(Arc::clone(config), began), serving),
        line.mailbox(),
        (&config.limits, &config.counters),
    );
    runtime.spawn(async move {
        let _running = running;
        drive.await;
    });
    let outcome = opened.await.unwrap_or(Err(CloseReason::Closed));
    let server = outcome.map_err(|reason| ConnectError::closed(address, reason))?;
    Ok((line, server))
}

/// The timers of one client; their task ends with it.
struct Running(Arc<Timers>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
    }
}

async fn dial<R: Runtime>(runtime: &R, address: &str) -> Result<R::Stream, ConnectError> {
    let mut failure = io::ErrorKind::NotFound.into();
    for found in resolve(runtime, address).await? {
        match runtime.connect(found).await {
            Ok(io) => return Ok(io),
            Err(error) => failure = error,
        }
    }
    Err(ConnectError::io(address, &failure))
}

async fn resolve<R: Runtime>(runtime: &R, address: &str) -> Result<Vec<SocketAddr>, ConnectError> {
    let bare = address.strip_prefix("tcp://").unwrap_or(address);
    if let Ok(found) = bare.parse() {
        return Ok(vec![found]);
    }
    let host_and_port = bare.rsplit_once(':').filter(|(host, _)| !host.contains([':', '/']));
    match host_and_port.map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) if !host.is_empty() => {
            let found = runtime.resolve(host, port).await;
            found.map_err(|error| ConnectError::io(address, &error))
        }
        Some(_) | None => Err(ConnectError::Address(address.to_owned())),
    }
}
