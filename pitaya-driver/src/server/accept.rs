//! From a listening socket to one task for each connection.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use pitaya_core::{Counter, Player};

use crate::drive::Drive;
use crate::pace::Pace;
use crate::runtime::{Listener, Runtime};
use crate::server::acceptor::Door;
use crate::server::entrance::{pass, transport};
use crate::server::log::seldom;
use crate::server::serve::ServePlayer;
use crate::server::shared::{Place, Shared};
use crate::server::start::StartError;
use crate::timers::{Sleep, before};
use crate::transport::Transport;

/// A socket that listens on `address`, a host and a port.
pub(super) async fn bind<R: Runtime>(
    runtime: &R, kind: &str, address: &str,
) -> Result<R::Listener, StartError> {
    let failed = |error: &io::Error| bind_error(kind, address, error);
    let mut last = io::ErrorKind::NotFound.into();
    for resolved in resolve(runtime, address).await.map_err(|error| failed(&error))? {
        match runtime.bind(resolved).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(&last))
}

/// The addresses that a host and a port stand for.
pub(crate) async fn resolve<R: Runtime>(runtime: &R, address: &str) -> io::Result<Vec<SocketAddr>> {
    let (host, port) = parse(address)?;
    runtime.resolve(host, port).await
}

/// That a server of that kind cannot listen there.
pub(crate) fn bind_error(kind: &str, address: &str, error: &io::Error) -> StartError {
    StartError::Bind {
        server: kind.to_owned(),
        address: address.to_owned(),
        why: error.to_string(),
        hint: hint(error.kind()),
    }
}

/// Accepts until the server stops.
pub(super) async fn accept_all<R, L>(shared: &Arc<Shared<R>>, door: &Arc<Door>, listener: L)
where
    R: Runtime,
    L: Listener<Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static>,
{
    let mut pace = Pace::new(1, FAILURE_LOG_PAUSE);
    while let Some(accepted) = accept(shared, &listener).await {
        match accepted {
            Ok((stream, remote)) => start(shared, door, stream, remote),
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                // Most often the process has no descriptor left; trying at once again would only
                // spin.
                shared.config.counters.add(Counter::AcceptsFailed);
                if let Some(untold) = pace.pass(shared.runtime.now()) {
                    tracing::warn!(%error, untold, "connections cannot be accepted");
                }
                shared.shed_idle();
                let (runtime, pause) = (shared.runtime.clone(), shared.config.limits.accept_pause);
                let pause = Sleep::lasting(&shared.timers, runtime, pause);
                shared.unless_stopped(pause).await;
            }
        }
    }
}

/// The next connection, once there is room for it; `None` if the server stops.
async fn accept<R: Runtime, L: Listener>(
    shared: &Arc<Shared<R>>, listener: &L,
) -> Option<io::Result<(L::Stream, SocketAddr)>> {
    while let Some(until) = shared.shed() {
        let until = Sleep::until(&shared.timers, shared.runtime.clone(), until);
        before(until, shared.room()).await;
    }
    shared.unless_stopped(listener.accept()).await
}

fn start<R, I>(shared: &Arc<Shared<R>>, door: &Arc<Door>, stream: I, remote: SocketAddr)
where
    R: Runtime,
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Some(mut place) = shared.enter() else { return };
    if door.proxies.is_none() && door.tls.is_none() {
        if place.admit(remote.ip())
            && let Some(transport) = transport(shared, door, shared.runtime.now())
        {
            drive(place, door, (stream, transport), remote);
        }
        return;
    }
    let door = Arc::clone(door);
    shared.runtime.spawn(async move {
        let mut stream = stream;
        let passed = pass(&mut place, &door, &mut stream, remote).await;
        if let Some((remote, transport)) = passed {
            // In a task of its own: this one would hold it twice.
            drive(place, &door, (stream, transport), remote);
        }
    });
}

/// Starts the task of a connection.
fn drive<R, I>(
    place: Place<R>, door: &Door, (stream, transport): (I, Transport), remote: SocketAddr,
) where
    R: Runtime,
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shared = Arc::clone(&place.shared);
    let (config, now) = (&shared.config, shared.runtime.now());
    let limits = &config.limits;
    // The layers have deadlines of their own. Once they are open the client has its time to begin,
    // and until then no less than it would have if they took all of theirs.
    let tls = door.tls.as_ref().map(|_| limits.tls_timeout).unwrap_or_default();
    let begins = now + tls + door.web.as_ref().map(|_| limits.upgrade_timeout).unwrap_or_default();
    let mailbox = Arc::clone(&place.mailbox);
    let routes = Arc::clone(&shared.handlers.routes);
    let drive = Drive::new(
        Arc::clone(&shared.drives),
        (stream, transport),
        (Player::new(Arc::clone(config), routes, begins), ServePlayer::new(place, remote)),
        mailbox,
    );
    shared.runtime.spawn(Alone { drive: Some(drive), shared: Arc::clone(&shared) });
}

/// Drives a connection. A panic in it costs no other: some executors would end with it.
///
/// A type of its own, since an async function would hold the connection twice.
struct Alone<R, D> {
    drive: Option<D>,
    shared: Arc<Shared<R>>,
}

impl<R: Runtime, D: Future<Output = ()> + Unpin> Future for Alone<R, D> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(drive) = &mut self.drive else { return Poll::Ready(()) };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(drive).poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(_) => {
                seldom!(self.shared, error, "the task of a connection panicked; it is closed")
            }
        }
        if catch_unwind(AssertUnwindSafe(|| self.drive = None)).is_err() {
            seldom!(self.shared, error, "what a handler held panicked as it was dropped");
        }
        Poll::Ready(())
    }
}

/// Whether the next connection may well be accepted all the same.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    let kinds = [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted];
    kinds.contains(&error.kind())
}

fn parse(address: &str) -> io::Result<(&str, u16)> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not of the form host:port");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((host, port.parse().map_err(|_| wrong())?))
}

fn hint(kind: io::ErrorKind) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds that have advice of their own")]
    match kind {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it, or let the system choose with port 0"
        }
        io::ErrorKind::PermissionDenied => {
            "choose a port above 1023, or give the process the right"
        }
        io::ErrorKind::InvalidInput => "write an address such as \"127.0.0.1:3250\"",
        _ => "choose an address of this machine",
    }
}

/// How often failures to accept are logged at most: they last, and are all alike.
const FAILURE_LOG_PAUSE: Duration = Duration::from_secs(5);
