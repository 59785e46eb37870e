//! From an address to a connection that works, or to the reason why not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_channel::oneshot;
use pitaya_core::{ClientConfig, ClientConn, CloseReason, Counter, Instant, RequestError};

use crate::client::line::Line;
use crate::client::pushes::Pushes;
use crate::client::url::{Url, UrlError};
use crate::drive::{Drive, DriveConfig};
use crate::runtime::Runtime;
use crate::timers::{Sleep, Timers, before};
use crate::transport::Transport;
use crate::transport::tls::{TlsClient, TlsError};

/// Why there is no connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConnectError {
    /// Not the address of a server.
    #[error("`{address}` is not the address of a server: {why}")]
    Address {
        /// The address as it was given.
        address: String,
        /// What is wrong with it.
        why: UrlError,
    },
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
    /// What is done first on every connection did not succeed.
    #[error("{address} let nobody in: {error}")]
    Login {
        /// The address as it was given.
        address: String,
        /// What `on_connected` gave.
        error: RequestError,
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
    /// The authorities to trust cannot be had.
    #[error("cannot connect to {address}: {why}")]
    Tls {
        /// The address as it was given.
        address: String,
        /// Why.
        why: TlsError,
    },
    /// It took longer than `connect_timeout`.
    #[error("{address} did not answer in time")]
    Timeout {
        /// The address as it was given.
        address: String,
    },
    /// TLS or the WebSocket did not come about: a certificate that is not trusted, a server that
    /// speaks something else.
    #[error("cannot talk to {address}: {why}")]
    Transport {
        /// The address as it was given.
        address: String,
        /// Why.
        why: String,
    },
}

impl ConnectError {
    pub(super) fn io(address: &str, error: &io::Error) -> Self {
        Self::Io { address: address.to_owned(), kind: error.kind() }
    }

    fn closed(address: &str, line: &Line, reason: CloseReason) -> Self {
        let address = address.to_owned();
        match (reason, line.failure()) {
            (CloseReason::HandshakeTimeout | CloseReason::Io(io::ErrorKind::TimedOut), _) => {
                Self::Timeout { address }
            }
            (CloseReason::Io(io::ErrorKind::InvalidData), Some(why)) => {
                Self::Transport { address, why }
            }
            (reason, _) => Self::Closed { address, reason },
        }
    }

    /// The same as the end of a connection.
    pub(super) fn into_reason(self) -> CloseReason {
        match self {
            Self::Closed { reason, .. } => reason,
            Self::Io { kind, .. } => CloseReason::Io(kind),
            Self::Login { error: RequestError::Answered(error), .. } => {
                CloseReason::LoginRefused(Box::new(error))
            }
            Self::Login { .. } | Self::Timeout { .. } => CloseReason::HandshakeTimeout,
            Self::Transport { .. } => CloseReason::Io(io::ErrorKind::InvalidData),
            Self::Address { .. } | Self::Serializer { .. } | Self::Tls { .. } => {
                CloseReason::HandshakeRefused(self.to_string())
            }
        }
    }
}

/// Where a client connects to, and with what.
pub(super) struct Dialler<R: Runtime> {
    pub(super) runtime: R,
    /// The address as it was given.
    pub(super) address: String,
    pub(super) url: Url,
    /// Whom to trust, if that is asked.
    pub(super) tls: Option<TlsClient>,
    pub(super) config: Arc<ClientConfig>,
    pub(super) running: Arc<Running>,
}

impl<R: Runtime> Dialler<R> {
    /// Dials, starts the task of the connection, and waits until the server has accepted the
    /// handshake.
    pub(super) async fn connect(&self, pushes: &Arc<Pushes>) -> Result<Line, ConnectError> {
        let began = self.runtime.now();
        let io = self.in_time(began, self.dial(began)).await?;
        let transport = self.transport()?;
        let (opening, opened) = oneshot::channel();
        let (line, serving) = Line::new(&self.config, Arc::clone(pushes), opening);
        let (runtime, ClientConfig { limits, counters, .. }) =
            (self.runtime.clone(), &*self.config);
        let drive = Drive::new(
            DriveConfig::new(runtime, &self.running.0, limits, counters),
            (io, transport),
            (ClientConn::new(Arc::clone(&self.config), began), serving),
            line.mailbox(),
        );
        let running = Arc::clone(&self.running);
        self.runtime.spawn(async move {
            let _running = running;
            drive.await;
        });
        let outcome = opened.await.unwrap_or(Err(CloseReason::Closed));
        outcome.map_err(|reason| ConnectError::closed(&self.address, &line, reason))?;
        Ok(line)
    }

    /// The result of `work`, unless it takes longer than `connect_timeout` from `began` on.
    pub(super) async fn in_time<T>(
        &self, began: Instant, work: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        match before(self.until(began + self.config.limits.connect_timeout), work).await {
            Some(outcome) => outcome,
            None => {
                self.config.counters.add(Counter::HandshakesExpired);
                Err(ConnectError::Timeout { address: self.address.clone() })
            }
        }
    }

    pub(super) fn until(&self, deadline: Instant) -> Sleep<R> {
        Sleep::until(&self.running.0, self.runtime.clone(), deadline)
    }

    /// What stands between the socket and the connection.
    fn transport(&self) -> Result<Transport, ConnectError> {
        let Self { url, config, .. } = self;
        let authority = url.authority();
        let tls = self.tls.as_ref().map(|tls| (tls, url.host()));
        let web = url.scheme().is_web().then(|| (&*authority, url.path()));
        let now = self.runtime.now();
        Transport::connect(tls, web, now, &config.limits, &config.counters).map_err(|error| {
            ConnectError::Transport { address: self.address.clone(), why: error.to_string() }
        })
    }

    /// Tries the addresses one after another. None may take the time of those behind it.
    async fn dial(&self, began: Instant) -> Result<R::Stream, ConnectError> {
        let mut failure = io::ErrorKind::NotFound.into();
        let deadline = began + self.config.limits.connect_timeout;
        let found =
            self.resolve().await.map_err(|error| ConnectError::io(&self.address, &error))?;
        for (at, address) in found.iter().enumerate() {
            let (now, left) = (self.runtime.now(), found.len() - at);
            let share = deadline.since(now) / u32::try_from(left).unwrap_or(u32::MAX);
            let connect = self.runtime.connect(*address);
            let connected = match left {
                1 => Some(connect.await),
                _ => before(self.until(now + share), connect).await,
            };
            match connected {
                Some(Ok(io)) => return Ok(io),
                Some(Err(error)) => failure = error,
                None => failure = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(ConnectError::io(&self.address, &failure))
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self.url.socket_addr() {
            Some(address) => Ok(vec![address]),
            None => self.runtime.resolve(self.url.host(), self.url.port()).await,
        }
    }
}

/// The timers of one client; their task ends with it.
pub(super) struct Running(pub(super) Arc<Timers>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
    }
}
