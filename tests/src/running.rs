//! Servers on threads and runtimes of their own, which are told to stop.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use futures_channel::oneshot;
use pitaya_driver::{Native, Server};

/// A server that runs.
pub struct Running {
    /// Where its clients connect, if any do.
    pub clients: Option<SocketAddr>,
    /// Where other servers reach it, if that is an address.
    pub cluster: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Starts a server that is one of several.
    ///
    /// # Panics
    ///
    /// It does not start.
    pub fn start<R: Native>(server: impl FnOnce() -> Server<R> + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (teller, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let ran = R::block_on(async move {
                let server = server().start().await.expect("it starts");
                let members = server.members().expect("it is one of several");
                let clients = server.addresses().first().copied();
                teller
                    .send((clients, members.me().addresses.first().copied()))
                    .expect("somebody waits for it");
                stopped.await.expect("it is told to stop");
                server.shutdown().await;
            });
            ran.expect("a runtime starts");
        });
        let (clients, cluster) = told.recv().expect("the server starts");
        Self { clients, cluster, stop, thread }
    }

    /// Shuts the server down, and waits for its end.
    ///
    /// # Panics
    ///
    /// The server did.
    pub fn stop(self) {
        self.stop.send(()).expect("it waits for that");
        self.thread.join().expect("it ends");
    }
}
