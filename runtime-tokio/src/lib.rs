//! Pitaya on tokio.
//!
//! ```no_run
//! use pitaya_tokio::{App, Error, Payload, Server, StartError};
//!
//! async fn greet(Payload(name): Payload<String>) -> Result<String, Error> {
//!     Ok(format!("hello {name}"))
//! }
//!
//! fn main() -> Result<(), StartError> {
//!     let app = App::new(()).route("hall.greet", greet);
//!     Server::new("gate", app).tcp("127.0.0.1:3250").run()
//! }
//! ```
//!
//! [`Server::run`] has a current-thread runtime of its own. A program that has a runtime already,
//! whether current-thread or multi-threaded, calls [`Server::start`] on it instead.

mod quic;
mod stream;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use pitaya_driver::{Native, OneThread, Runtime, Timer, clock};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::signal::unix::{SignalKind, signal};

pub use stream::Stream;

pitaya_driver::names!(Tokio, "tokio");

/// A tokio runtime.
#[derive(Clone, Debug)]
pub struct Tokio(Handle);

impl Runtime for Tokio {
    type Listener = ListeningSocket;
    type Stream = Stream;
    type Timer = Alarm;

    fn timer(&self) -> Alarm {
        let _entered = self.0.enter();
        Alarm {
            clock: self.clone(),
            sleep: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The task ends by itself; nobody waits for it.
        drop(self.0.spawn(task));
    }

    async fn bind(&self, address: SocketAddr) -> io::Result<ListeningSocket> {
        TcpListener::bind(address).await.map(ListeningSocket)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Stream> {
        Stream::new(TcpStream::connect(address).await?)
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }

    async fn stop_signal(&self) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        poll_fn(|cx| match interrupt.poll_recv(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => terminate.poll_recv(cx).map(|_| ()),
        })
        .await;
        Ok(())
    }

    async fn one_thread(&self, name: &str) -> io::Result<OneThread<Self>> {
        if self.0.runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Ok(OneThread::of(self.clone()));
        }
        OneThread::start(name).await
    }

    fn quic(&self) -> Option<Arc<dyn quinn::Runtime>> {
        Some(Arc::new(quic::Sockets(self.0.clone())))
    }

    fn rough_now(&self) -> Instant {
        clock::rough_now()
    }
}

impl Native for Tokio {
    fn current() -> io::Result<Self> {
        Handle::try_current().map(Self).map_err(io::Error::other)
    }

    fn block_on<T>(main: impl Future<Output = T>) -> io::Result<T> {
        Ok(Builder::new_current_thread().enable_all().build()?.block_on(main))
    }
}

/// A listening socket on tokio.
#[derive(Debug)]
pub struct ListeningSocket(TcpListener);

impl Listener for ListeningSocket {
    type Stream = Stream;

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        self.0.accept().await.and_then(Stream::accepted)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A timer on tokio.
#[derive(Debug)]
pub struct Alarm {
    clock: Tokio,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Timer for Alarm {
    fn poll_at(&mut self, cx: &mut task::Context<'_>, deadline: Instant) -> Poll<()> {
        let left = deadline.since(self.clock.now());
        if left.is_zero() {
            // A sleep of tokio that is reset to now ends in a later tick, and so it would each
            // time.
            return Poll::Ready(());
        }
        self.sleep.as_mut().reset(tokio::time::Instant::now() + left);
        self.sleep.as_mut().poll(cx)
    }
}
