//! Acceptors: from a listening socket to one task for each connection.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pitaya_core::{Player, StartError};

use crate::drive::Drive;
use crate::runtime::{Listener, Runtime};
use crate::server::serve::ServePlayer;
use crate::server::shared::Shared;
use crate::timers::Sleep;
use crate::transport::Plain;

/// A socket that listens on `address`, a host and a port.
pub(super) async fn bind<R: Runtime>(
    runtime: &R, kind: &str, address: &str,
) -> Result<R::Listener, StartError> {
    let failed = |error: &io::Error| StartError::Bind {
        server: kind.to_owned(),
        address: address.to_owned(),
        why: error.to_string(),
        hint: hint(error.kind()),
    };
    let resolved = match parse(address) {
        Ok((host, port)) => runtime.resolve(host, port).await,
        Err(error) => Err(error),
    };
    let mut last = io::ErrorKind::NotFound.into();
    for resolved in resolved.map_err(|error| failed(&error))? {
        match runtime.bind(resolved).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(&last))
}

/// Accepts until the server stops.
pub(super) async fn accept_all<R: Runtime>(shared: &Arc<Shared<R>>, listener: R::Listener) {
    while let Some(accepted) = accept(shared, &listener).await {
        match accepted {
            Ok((stream, remote)) => start(shared, stream, remote),
            Err(error) => {
                // Most often the process has no descriptor left; trying at once again would only
                // spin.
                tracing::warn!(%error, "a connection could not be accepted");
                let runtime = shared.runtime.clone();
                let pause = Sleep::lasting(&shared.timers, runtime, ACCEPT_PAUSE);
                shared.unless_stopped(pause).await;
            }
        }
    }
}

/// The next connection, once there is room for it; `None` if the server stops.
async fn accept<R: Runtime>(
    shared: &Shared<R>, listener: &R::Listener,
) -> Option<io::Result<(R::Stream, SocketAddr)>> {
    poll_fn(|cx| shared.poll_room(cx)).await;
    shared.unless_stopped(listener.accept()).await
}

fn start<R: Runtime>(shared: &Arc<Shared<R>>, stream: R::Stream, remote: SocketAddr) {
    let Some(place) = shared.enter() else { return };
    let config = &shared.config;
    let mailbox = Arc::clone(&place.mailbox);
    let routes = Arc::clone(&shared.handlers.routes);
    let player = Player::new(Arc::clone(config), routes, shared.runtime.now());
    let drive = Drive::new(
        shared.runtime.clone(),
        &shared.timers,
        (stream, Plain),
        (player, ServePlayer::new(place, remote)),
        mailbox,
        (config.limits(), config.counters()),
    );
    shared.runtime.spawn(alone(drive));
}

/// Drives a connection. A panic in it costs no other: some executors would end with it.
async fn alone(drive: impl Future<Output = ()>) {
    let mut drive = Box::pin(drive);
    let panicked = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| drive.as_mut().poll(cx)));
        polled.map_or(Poll::Ready(true), |polled| polled.map(|()| false))
    })
    .await;
    if panicked {
        tracing::error!("the task of a connection panicked; it is closed");
    }
    if catch_unwind(AssertUnwindSafe(|| drop(drive))).is_err() {
        tracing::error!("what a handler held panicked as it was dropped");
    }
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

/// How long no connection is accepted after one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
