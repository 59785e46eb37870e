//! Pitaya on smol.
//!
//! ```no_run
//! use pitaya_smol::{App, Error, Payload, Server, StartError};
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
//! [`Server::run`] has an executor of its own on the thread that calls it. A program that uses smol
//! already calls [`Server::start`], which spawns on smol's global executor.

mod stream;

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Weak};
use std::task::{self, Poll};

use async_io::Async;
use async_signal::{Signal, Signals};
use pitaya_driver::{Native, OneThread, Runtime, Timer, clock};
use smol::Executor;
use smol::stream::StreamExt as _;

pub use stream::Stream;

pitaya_driver::names!(Smol, "smol");

/// An executor of smol.
///
/// Either one that [`Server::run`] runs on its thread, or smol's global one.
#[derive(Clone, Debug)]
pub struct Smol(Option<Weak<Executor<'static>>>);

thread_local! {
    /// The executor of [`Server::run`], while it runs.
    static CURRENT: RefCell<Option<Arc<Executor<'static>>>> = const { RefCell::new(None) };
}

impl Runtime for Smol {
    type Listener = ListeningSocket;
    type Stream = Stream;
    type Timer = Alarm;

    fn rough_now(&self) -> Instant {
        clock::rough_now()
    }

    fn timer(&self) -> Alarm {
        Alarm(async_io::Timer::never())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self.0.as_ref().map(Weak::upgrade) {
            Some(Some(executor)) => executor.spawn(task).detach(),
            // `block_on` has ended, and with it all that ran on it.
            Some(None) => {}
            None => smol::spawn(task).detach(),
        }
    }

    async fn bind(&self, address: SocketAddr) -> io::Result<ListeningSocket> {
        Async::<TcpListener>::bind(address).map(ListeningSocket)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Stream> {
        Stream::new(Async::<TcpStream>::connect(address).await?)
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        smol::net::resolve((host, port)).await
    }

    async fn stop_signal(&self) -> io::Result<()> {
        let mut signals = Signals::new([Signal::Int, Signal::Term])?;
        signals.next().await.transpose().map(|_| ())
    }

    async fn one_thread(&self, name: &str) -> io::Result<OneThread<Self>> {
        if self.0.is_some() || !global_has_several_threads() {
            return Ok(OneThread::of(self.clone()));
        }
        OneThread::start(name).await
    }

    fn quic(&self) -> Option<Arc<dyn quinn::Runtime>> {
        Some(Arc::new(quinn::SmolRuntime))
    }
}

impl Native for Smol {
    fn current() -> io::Result<Self> {
        Ok(Self(CURRENT.with_borrow(|executor| executor.as_ref().map(Arc::downgrade))))
    }

    fn block_on<T>(main: impl Future<Output = T>) -> io::Result<T> {
        let executor = Arc::new(Executor::new());
        let outer = CURRENT.replace(Some(Arc::clone(&executor)));
        let result = smol::block_on(executor.run(main));
        CURRENT.set(outer);
        Ok(result)
    }
}

/// As smol itself finds it out: its global executor has one thread unless a variable says more.
fn global_has_several_threads() -> bool {
    let threads = std::env::var("SMOL_THREADS").ok().and_then(|threads| threads.parse().ok());
    threads.is_some_and(|threads: usize| threads > 1)
}

/// A listening socket on smol.
#[derive(Debug)]
pub struct ListeningSocket(Async<TcpListener>);

impl Listener for ListeningSocket {
    type Stream = Stream;

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        self.0.accept().await.and_then(Stream::accepted)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }
}

/// A timer on smol.
#[derive(Debug)]
pub struct Alarm(async_io::Timer);

impl Timer for Alarm {
    fn poll_at(&mut self, cx: &mut task::Context<'_>, deadline: Instant) -> Poll<()> {
        self.0.set_after(deadline.since(clock::now()));
        std::pin::Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_still_runs_when_block_on_ends_is_dropped() {
        let held = Arc::new(());
        let (kept, late) = (Arc::clone(&held), Arc::clone(&held));
        let runtime = block_on(async move {
            let runtime = Smol::current().unwrap();
            let own = runtime.clone();
            runtime.spawn(async move {
                let _held = (kept, own);
                std::future::pending().await
            });
            runtime
        });
        assert_eq!(Arc::strong_count(&held), 2, "one is in `late`");
        runtime.unwrap().spawn(async move { drop(late) });
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
