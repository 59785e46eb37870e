//! How servers reach each other: streams between two of them, whatever carries them.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use futures_io::{AsyncRead, AsyncWrite};
pub use pitaya_core::cluster::Proven;
use pitaya_core::session::HostFuture;

/// What carries the links of one server: QUIC, or the network of a test.
///
/// One stream is one link, and it is open for as long as both servers are there. Futures may be
/// dropped at any time; one that dials then dials no more.
pub trait Network: Send + Sync + 'static {
    /// Where others reach this server.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn address(&self) -> io::Result<SocketAddr>;

    /// A stream to whoever is there, once either side has proven what it can.
    fn dial(&self, address: SocketAddr) -> HostFuture<io::Result<LinkStream>>;

    /// The next one who dials. What it has to prove is not a matter for the others who come: that
    /// is a future of its own. An error means that nobody comes any more.
    fn accept(&self) -> HostFuture<io::Result<Incoming>>;

    /// Takes back the address, once every link is closed or given up, and ends when others have
    /// been told: a process that is gone before leaves them to find out by themselves.
    fn close(&self) -> HostFuture<()>;
}

/// Somebody who dialled and still has to prove who it is.
pub type Incoming = HostFuture<io::Result<LinkStream>>;

/// A stream to another server.
pub struct LinkStream {
    /// The bytes, both ways.
    pub io: Box<dyn Duplex>,
    /// Who the peer has proven to be, if it can.
    pub proven: Option<Proven>,
    /// Where it is.
    pub remote: SocketAddr,
}

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl fmt::Debug for LinkStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkStream")
            .field("proven", &self.proven)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
