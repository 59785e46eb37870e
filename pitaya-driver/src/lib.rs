//! Futures that move bytes between sockets and decisions, written once for every runtime.

mod client;
pub mod clock;
pub mod cluster;
mod drive;
mod mailbox;
mod names;
mod one_thread;
mod pace;
mod runtime;
mod server;
mod timers;
mod transport;
mod wheel;

pub use client::{
    Client, ClientBuilder, ClientState, ConnectError, RawSubscription, Scheme, States,
    Subscription, Url, UrlError,
};
pub use cluster::Cluster;
pub use drive::{Commands, Drive, DriveConfig, Serve};
pub use mailbox::{Mailbox, Sent};
pub use one_thread::OneThread;
pub use runtime::{Listener, Native, Runtime, Timer};
pub use server::{Acceptor, Server, ServerHandle, StartError, proxy};
pub use timers::{Alarm, Sleep, Timers};
pub use transport::tls::{Tls, TlsClient, TlsError};
pub use transport::{Page, Room, Transport, Web, WebSocket, Wire};
