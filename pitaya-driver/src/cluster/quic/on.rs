//! A runtime as quinn wants it.

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use pitaya_core::session::HostFuture;
use quinn::{AsyncTimer, AsyncUdpSocket};

use crate::one_thread::OneThread;
use crate::runtime::Runtime;

/// Sockets and timers of a runtime, whose own executor runs the tasks, on one thread. Whatever
/// quinn has holds it, so the thread is there for as long as it is needed.
pub(super) struct On<R> {
    thread: OneThread<R>,
    sockets: Arc<dyn quinn::Runtime>,
}

impl<R: Runtime> On<R> {
    /// On that runtime, or beside it if it has several threads.
    pub(super) async fn new(runtime: &R) -> io::Result<Self> {
        let thread = runtime.one_thread(THREAD).await?;
        let sockets = thread.runtime().quic().ok_or_else(without_datagrams)?;
        Ok(Self { thread, sockets })
    }
}

impl<R: Runtime> quinn::Runtime for On<R> {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        self.sockets.new_timer(at)
    }

    fn spawn(&self, task: HostFuture<()>) {
        self.thread.runtime().spawn(task);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.sockets.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        self.sockets.now()
    }
}

impl<R> fmt::Debug for On<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sockets.fmt(f)
    }
}

fn without_datagrams() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this runtime has no datagrams, which QUIC needs")
}

/// The name of the thread, where there is one.
const THREAD: &str = "pitaya-quic";
