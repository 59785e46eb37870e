//! A runtime of one thread, for what is woken so often that it must not change threads.

use std::convert::Infallible;
use std::io;
use std::thread;

use futures_channel::oneshot;

use crate::runtime::{Native, Runtime};

/// A runtime that runs all tasks on one thread: that of the caller, if it has no more, or else one
/// on a thread of its own. That thread ends when this is dropped, and with it what still runs
/// there; nobody waits for it, so this may be dropped anywhere.
#[derive(Debug)]
pub struct OneThread<R> {
    runtime: R,
    /// The thread ends without it.
    _lease: Option<oneshot::Sender<Infallible>>,
}

impl<R: Runtime> OneThread<R> {
    /// A runtime that has one thread anyway.
    pub fn of(runtime: R) -> Self {
        Self { runtime, _lease: None }
    }

    /// The runtime, whose tasks run for as long as this is there.
    pub fn runtime(&self) -> &R {
        &self.runtime
    }
}

impl<R: Native> OneThread<R> {
    /// Starts a thread of that name, with a runtime of its own.
    ///
    /// # Errors
    ///
    /// The system refuses a thread, or what a runtime needs.
    pub async fn start(name: &str) -> io::Result<Self> {
        let ((teller, told), (lease, ended)) = (oneshot::channel(), oneshot::channel());
        let thread = thread::Builder::new().name(name.to_owned());
        drop(thread.spawn(move || run(teller, ended))?);
        let died = |_| Err(io::Error::other("the thread ended before it began"));
        let runtime = told.await.unwrap_or_else(died)?;
        Ok(Self { runtime, _lease: Some(lease) })
    }
}

/// Runs a runtime until the lease ends. The runtime ends on this thread, where that may block.
fn run<R: Native>(teller: oneshot::Sender<io::Result<R>>, ended: oneshot::Receiver<Infallible>) {
    let mut teller = Some(teller);
    let ran = R::block_on(async {
        if let Some(teller) = teller.take() {
            // If nobody waits for it any more, the lease has ended as well.
            let _ = teller.send(R::current());
        }
        let _ended: Result<Infallible, _> = ended.await;
    });
    if let (Err(error), Some(teller)) = (ran, teller) {
        // Nobody is left who wants to know.
        let _ = teller.send(Err(error));
    }
}
