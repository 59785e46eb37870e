//! What the heartbeats of many idle sessions cost, without the sockets that no process has so many
//! of.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::id;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use pitaya_core::{App, Instant, Limits};
use pitaya_driver::{Listener, Native, Runtime, Server, Timer};
use pitaya_tokio::Tokio;

use crate::frames;
use crate::machine::cpu_time;

/// The share of a core that a server of `sessions` spends on their heartbeats, one in 30 s each.
///
/// It is the whole server on tokio, with sockets that are silent and swallow what is written.
pub(crate) fn core_share(sessions: u64, window: Duration) -> io::Result<f64> {
    Tokio::block_on(async {
        let tokio = Tokio::current()?;
        let crowd = Crowd { sessions, began: tokio.now(), ..Crowd::default() };
        let runtime = Quiet { tokio, crowd: Arc::new(crowd) };
        let limits = Limits::default().connections_max(usize::MAX).handshaking_max(1);
        let server = Server::<Quiet>::new("gate", App::new(())).tcp("127.0.0.1:1").limits(limits);
        let server = server.start_on(runtime.clone()).await.map_err(io::Error::other)?;
        while (server.sessions() as u64) < sessions {
            tokio::task::yield_now().await;
        }
        // The clock was set forward; now it goes by itself.
        tokio::time::sleep(LOOKS_AGAIN * 2).await;
        let beats = || runtime.crowd.beats.load(Ordering::Relaxed);
        let (cpu, before) = (cpu_time(id())?, beats());
        tokio::time::sleep(window).await;
        let (used, beaten) = (cpu_time(id())? - cpu, beats() - before);
        let expected = sessions as f64 * window.as_secs_f64() / PERIOD.as_secs_f64();
        if (beaten as f64 / expected - 1.0).abs() > 0.05 {
            return Err(io::Error::other(format!("{beaten} heartbeats instead of {expected}")));
        }
        Ok(used.as_secs_f64() / window.as_secs_f64())
    })?
}

/// Tokio with a clock that sessions set forward as they begin, as if they had begun all through one
/// period, however long that takes; and with the sessions for which nobody has to dial.
#[derive(Clone)]
struct Quiet {
    tokio: Tokio,
    crowd: Arc<Crowd>,
}

#[derive(Default)]
struct Crowd {
    sessions: u64,
    began: Instant,
    accepted: AtomicU64,
    /// When the last session began.
    done: OnceLock<Instant>,
    beats: AtomicU64,
}

impl Crowd {
    fn time(&self, now: Instant) -> Instant {
        let accepted = self.accepted.load(Ordering::Relaxed);
        let since = self.done.get().map_or(Duration::ZERO, |done| now.since(*done));
        self.began + PERIOD.mul_f64(accepted as f64 / self.sessions as f64) + since
    }
}

impl Runtime for Quiet {
    type Listener = Self;
    type Stream = Mute;
    type Timer = Clock;

    fn now(&self) -> Instant {
        self.crowd.time(self.tokio.now())
    }

    fn timer(&self) -> Clock {
        Clock { alarm: self.tokio.timer(), runtime: self.clone() }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tokio.spawn(task);
    }

    async fn bind(&self, _: SocketAddr) -> io::Result<Self> {
        Ok(self.clone())
    }

    async fn connect(&self, _: SocketAddr) -> io::Result<Mute> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![SOMEWHERE])
    }

    async fn stop_signal(&self) -> io::Result<()> {
        std::future::pending().await
    }

    fn seed(&self) -> u64 {
        self.tokio.seed()
    }
}

impl Listener for Quiet {
    type Stream = Mute;

    async fn accept(&self) -> io::Result<(Mute, SocketAddr)> {
        if self.crowd.accepted.load(Ordering::Relaxed) == self.crowd.sessions {
            std::future::pending::<()>().await;
        }
        if self.crowd.accepted.fetch_add(1, Ordering::Relaxed) + 1 == self.crowd.sessions {
            self.crowd.done.get_or_init(|| self.tokio.now());
        }
        Ok((Mute { crowd: Arc::clone(&self.crowd), said: false }, SOMEWHERE))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SOMEWHERE)
    }
}

/// The alarm of tokio by the clock that was set forward.
struct Clock {
    alarm: pitaya_tokio::Alarm,
    runtime: Quiet,
}

impl Timer for Clock {
    fn poll_at(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let left = deadline.since(self.runtime.now());
        // Not longer than this, in case the clock is set forward meanwhile.
        let deadline = self.runtime.tokio.now() + left.min(LOOKS_AGAIN);
        self.alarm.poll_at(cx, deadline)
    }
}

/// A client that shakes hands and then says nothing.
struct Mute {
    crowd: Arc<Crowd>,
    said: bool,
}

impl AsyncRead for Mute {
    fn poll_read(
        mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if std::mem::replace(&mut self.said, true) {
            return Poll::Pending;
        }
        // A server reads into more room than this takes.
        let hello = frames::packet(frames::HANDSHAKE, frames::HELLO.as_bytes());
        let hello = [hello, frames::packet(frames::HANDSHAKE_ACK, b"")].concat();
        buffer[..hello.len()].copy_from_slice(&hello);
        Poll::Ready(Ok(hello.len()))
    }
}

impl AsyncWrite for Mute {
    fn poll_write(
        self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let beats = bytes == [frames::HEARTBEAT, 0, 0, 0];
        self.crowd.beats.fetch_add(beats.into(), Ordering::Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const PERIOD: Duration = Duration::from_secs(30);
const LOOKS_AGAIN: Duration = Duration::from_secs(1);
const SOMEWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
