//! What a runtime has to supply: a clock, an executor, a timer and sockets.

use std::future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_io::{AsyncRead, AsyncWrite};
use pitaya_core::Instant;

use crate::clock;
use crate::one_thread::OneThread;

/// A runtime: tokio, smol, or the simulator of the tests.
///
/// Nothing here assumes one core or many. A value of it is a handle, cheap to clone.
pub trait Runtime: Clone + Send + Sync + Unpin + 'static {
    /// A socket that accepts connections.
    type Listener: Listener<Stream = Self::Stream>;
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// Something that wakes its task at a chosen time.
    type Timer: Timer;

    /// The time, by default that of the machine. It never goes back.
    fn now(&self) -> Instant {
        clock::now()
    }

    /// The time as of some milliseconds ago at most, and never later than it is: for whoever asks
    /// so often that the price of the exact one counts.
    fn rough_now(&self) -> Instant {
        self.now()
    }

    /// A timer that is not set.
    fn timer(&self) -> Self::Timer;

    /// Runs a future beside the others until it ends.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// A socket that listens on `address`; port 0 lets the system choose.
    fn bind(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// A connection to `address`.
    fn connect(&self, address: SocketAddr)
    -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// The addresses of a host name.
    fn resolve(
        &self, host: &str, port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Ends when the process is asked to stop: SIGINT or SIGTERM.
    fn stop_signal(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// The time since 1970, by which servers tell their lives apart.
    fn unix_time(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// A runtime that runs all tasks on one thread: this one, if it does so, or else another, on a
    /// thread of that name. By default it is this one.
    fn one_thread(&self, _name: &str) -> impl Future<Output = io::Result<OneThread<Self>>> + Send {
        future::ready(Ok(OneThread::of(self.clone())))
    }

    /// What QUIC needs besides: datagrams, of this runtime wherever they are asked for. Nothing
    /// where there are none, as in the simulator.
    fn quic(&self) -> Option<Arc<dyn quinn::Runtime>> {
        None
    }

    /// A seed that differs from run to run, unless the runtime is a simulated one.
    fn seed(&self) -> u64 {
        RandomState::new().hash_one(self.now())
    }
}

/// A socket that accepts connections.
pub trait Listener: Send + Sync + 'static {
    /// One connection.
    type Stream;

    /// The next connection and where it comes from.
    ///
    /// The future may be dropped and made anew without losing a connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Something that wakes its task at a chosen time.
pub trait Timer: Send + Unpin + 'static {
    /// Ready once `deadline` has come; until then the task of `cx` will be woken at it. A later
    /// call may set another deadline.
    fn poll_at(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()>;
}

/// A runtime that the process has, unlike a simulated one.
pub trait Native: Runtime {
    /// The runtime that the caller runs on.
    ///
    /// # Errors
    ///
    /// There is none.
    fn current() -> io::Result<Self>;

    /// Starts a runtime of its own and blocks the thread until `main` ends on it.
    ///
    /// # Errors
    ///
    /// The system refuses what a runtime needs.
    fn block_on<T>(main: impl Future<Output = T>) -> io::Result<T>;
}
