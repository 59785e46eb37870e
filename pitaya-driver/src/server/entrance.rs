//! What a connection owes before its layers begin: the header of its proxy, and the first byte of
//! TLS, after which it waits for its turn. The connection has a task for it, so that nobody else is
//! held up.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use futures_io::AsyncRead;
use ipnet::IpNet;
use pitaya_core::{Counter, Instant};

use crate::drive::Commands;
use crate::runtime::Runtime;
use crate::server::acceptor::Door;
use crate::server::log::seldom;
use crate::server::proxy;
use crate::server::shared::{Place, Shared};
use crate::timers::{Sleep, before};
use crate::transport::turns::Ticket;
use crate::transport::{Room, Transport};

/// Lets a connection pass that has done its part: where it comes from, and its layers. `None` if it
/// is of no use, or the server has told it to end.
pub(super) async fn pass<R: Runtime>(
    place: &mut Place<R>, door: &Door, stream: &mut (impl AsyncRead + Unpin), remote: SocketAddr,
) -> Option<(SocketAddr, Transport)> {
    let remote = match &door.proxies {
        Some(networks) => read_source(place, networks, stream, remote).await?,
        None => remote,
    };
    if !place.admit(remote.ip()) {
        return None;
    }
    let began = place.shared.runtime.now();
    let Some(_) = &door.tls else { return Some((remote, transport(&place.shared, door, began)?)) };
    let (first, ticket) = begin_tls(place, stream, began, remote).await?;
    let mut transport = transport(&place.shared, door, began)?;
    transport.hold(ticket);
    let (_, begun) = transport.decode(began, &[first], &mut Room::default());
    begun.inspect_err(|why| tracing::debug!(%remote, %why, "refused as it began")).ok()?;
    Some((remote, transport))
}

/// The layers of a connection that begin at `now`; `None` if they cannot be had.
pub(super) fn transport<R: Runtime>(
    shared: &Shared<R>, door: &Door, now: Instant,
) -> Option<Transport> {
    let (limits, counters) = (&shared.config.limits, &shared.config.counters);
    let transport = Transport::accept(door.tls.as_ref(), door.web.as_ref(), now, limits, counters);
    transport.inspect_err(|error| seldom!(shared, error, "cannot speak TLS", %error)).ok()
}

/// Where a connection comes from that came through a proxy.
async fn read_source<R: Runtime>(
    place: &Place<R>, networks: &[IpNet], stream: &mut (impl AsyncRead + Unpin), proxy: SocketAddr,
) -> Option<SocketAddr> {
    let (shared, ip) = (&place.shared, proxy.ip().to_canonical());
    let refuse = |why: &str| {
        shared.config.counters.add(Counter::ProxiesRefused);
        tracing::debug!(%proxy, why, "refused behind a proxy");
        None
    };
    if !networks.iter().any(|network| network.contains(&ip)) {
        return refuse("this proxy is not trusted");
    }
    let (runtime, limits) = (shared.runtime.clone(), &shared.config.limits);
    let until = Sleep::lasting(&shared.timers, runtime, limits.proxy_timeout);
    match before(told(place), before(until, proxy::read_source(stream))).await? {
        None => refuse("no PROXY header in time"),
        Some(Err(error)) => refuse(&error.to_string()),
        Some(Ok(source)) => Some(source.unwrap_or(proxy)),
    }
}

/// The first byte of TLS, and the turn to go on.
async fn begin_tls<R: Runtime>(
    place: &Place<R>, stream: &mut (impl AsyncRead + Unpin), began: Instant, remote: SocketAddr,
) -> Option<(u8, Ticket)> {
    let shared = &place.shared;
    let deadline = began + shared.config.limits.tls_timeout;
    let begins = async {
        let until = Sleep::until(&shared.timers, shared.runtime.clone(), deadline);
        let first = before(until, read_byte(stream)).await.transpose()?;
        let ticket = wait_for_turn(place, deadline).await;
        Ok::<_, io::Error>(first.zip(ticket))
    };
    let begun = before(told(place), begins).await?;
    let begun = begun.inspect_err(|why| tracing::debug!(%remote, %why, "gone before TLS began"));
    let begun = begun.ok()?;
    if begun.is_none() {
        shared.config.counters.add(Counter::TlsRefused);
        tracing::debug!(%remote, "TLS did not begin in time");
    }
    begun
}

async fn read_byte(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u8> {
    let mut byte = [0];
    match poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut byte)).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(byte[0]),
    }
}

/// Nothing once the time is over, also if it would be this one's turn then.
async fn wait_for_turn<R: Runtime>(place: &Place<R>, deadline: Instant) -> Option<Ticket> {
    let shared = &place.shared;
    let ticket = shared.tls_turns.ticket();
    let mut delayed = false;
    loop {
        let now = shared.runtime.now();
        if now >= deadline {
            return None;
        }
        // It is not idle: we are.
        place.handle_bytes(now);
        let Some(until) = poll_fn(|cx| Poll::Ready(ticket.begin(now, cx.waker()))).await else {
            return Some(ticket);
        };
        if !std::mem::replace(&mut delayed, true) {
            shared.config.counters.add(Counter::TlsDelayed);
        }
        let until = until.min(deadline);
        let until = Sleep::until(&shared.timers, shared.runtime.clone(), until);
        before(until, ticket.called()).await;
    }
}

/// Ends when a connection is told something, which before it works can only be to end.
async fn told<R: Runtime>(place: &Place<R>) {
    let mut commands = Commands::new();
    poll_fn(|cx| {
        let is_cut = place.mailbox.poll(cx, &mut commands).is_ready();
        if is_cut || !commands.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
