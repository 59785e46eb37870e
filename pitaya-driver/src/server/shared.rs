//! What all connections of one server share.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;

use futures_io::{AsyncRead, AsyncWrite};
use pitaya_core::app::Handlers;
use pitaya_core::planted::mutant;
use pitaya_core::{CloseReason, Command, ConnConfig, Counter, Error, Instant, SessionTable};
use pitaya_proto::error;
use slab::Slab;

use crate::cluster::Peers;
use crate::drive::DriveConfig;
use crate::mailbox::Mailbox;
use crate::runtime::{Listener, Runtime};
use crate::server::accept::accept_all;
use crate::server::acceptor::Door;
use crate::server::log::Log;
use crate::server::outbound::Outbound;
use crate::server::sources::{Crowd, Sources};
use crate::server::waiting::Waiting;
use crate::timers::{Sleep, Timers};
use crate::transport::turns::Turns;

/// The server itself. Calls to local routes do not lock anything of it.
#[derive(Debug)]
pub(crate) struct Shared<R> {
    /// The same server, for what outlives a borrow of it.
    me: Weak<Self>,
    pub(crate) config: Arc<ConnConfig>,
    pub(crate) handlers: Handlers,
    /// The other servers, if this one is not alone.
    pub(crate) peers: Option<Arc<Peers>>,
    pub(crate) runtime: R,
    pub(crate) timers: Arc<Timers>,
    pub(crate) drives: Arc<DriveConfig<R>>,
    pub(super) tls_turns: Arc<Turns>,
    pub(super) log: Log,
    sessions: Mutex<SessionTable<Address>>,
    open: Mutex<Slab<Address>>,
    /// Connections that are not ready to work.
    shaking: Mutex<BTreeMap<usize, Shaking>>,
    outbound: Mutex<Outbound<Address>>,
    sources: Mutex<Sources>,
    crowd: Mutex<Crowd>,
    acceptors: AtomicUsize,
    /// Sessions that are over, but not all their hooks have ended.
    closings: AtomicUsize,
    stops: AtomicBool,
    /// Tasks that wait for room, or for the end.
    waiting: Waiting,
}

/// A connection that is not ready to work, and when it was last heard of.
#[derive(Debug)]
struct Shaking {
    address: Address,
    heard: Instant,
}

/// Where a session and its connection are reached.
pub(crate) type Address = Arc<Mailbox<Command>>;

impl<R: Runtime> Shared<R> {
    pub(super) fn new(
        runtime: R, config: Arc<ConnConfig>, handlers: Handlers, peers: Option<Arc<Peers>>,
    ) -> Arc<Self> {
        let timers = Timers::start(&runtime);
        let sessions = Mutex::new(SessionTable::new(&config.limits));
        let tls_turns = Turns::new(config.limits.tls_handshakes_max);
        let drives = DriveConfig::new(runtime.clone(), &timers, &config.limits, &config.counters);
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            config,
            handlers,
            peers,
            runtime,
            timers,
            drives,
            tls_turns,
            log: Log::default(),
            sessions,
            open: Mutex::default(),
            shaking: Mutex::default(),
            outbound: Mutex::default(),
            sources: Mutex::default(),
            crowd: Mutex::default(),
            acceptors: AtomicUsize::new(0),
            closings: AtomicUsize::new(0),
            stops: AtomicBool::new(false),
            waiting: Waiting::default(),
        })
    }

    /// The same server.
    pub(crate) fn me(&self) -> Arc<Self> {
        self.me.upgrade().expect("whoever asks it holds it")
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, SessionTable<Address>> {
        lock(&self.sessions)
    }

    pub(super) fn connections(&self) -> usize {
        lock(&self.open).len()
    }

    /// A place for one connection; `None` if there are too many.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place<R>> {
        let limits = &self.config.limits;
        let counters = &self.config.counters;
        let mut open = lock(&self.open);
        if open.len() >= limits.connections_max || self.stops() {
            counters.add(Counter::ConnectionsRefused);
            return None;
        }
        counters.add(Counter::ConnectionsAccepted);
        let mailbox = Mailbox::new(limits.outbound_packets_max, limits.outbound_bytes_max);
        let mailbox = Arc::new(mailbox);
        let id = open.insert(Arc::clone(&mailbox));
        let shaking = Shaking { address: Arc::clone(&mailbox), heard: self.runtime.now() };
        lock(&self.shaking).insert(id, shaking);
        let shared = Arc::clone(self);
        Some(Place { id, mailbox, shaking: true, waiting: 0, shared, source: None })
    }

    /// Whether a line that clients cause may be said once more.
    pub(crate) fn may_log(&self, line: &'static str) -> bool {
        self.log.pass(self.runtime.now(), line, &self.config)
    }

    /// Notes where a session was opened from, unless that is limited, and says so if most come from
    /// there.
    pub(super) fn note_session(&self, ip: IpAddr) {
        if Sources::are_limited(&self.config.limits) {
            return;
        }
        let sessions = self.sessions().count();
        if let Some(source) = lock(&self.crowd).enter(ip, sessions) {
            tracing::info!(
                %source,
                "most sessions come from one address: name it in `trusted_proxies` if it is a \
                 proxy of yours, or else think of `source_connections_max`"
            );
        }
    }

    /// Waits until a connection may be accepted.
    pub(super) async fn room(&self) {
        let mut waiter = self.waiting.waiter();
        poll_fn(|cx| waiter.poll(cx, || self.stops() || !self.is_crowded())).await;
    }

    /// Makes room among the connections that are not ready to work, if there is none. When to look
    /// again, if there still is no room.
    pub(super) fn shed(&self) -> Option<Instant> {
        (self.is_crowded() && !self.stops()).then(|| self.shed_idle())
    }

    /// Closes the connections that are not ready to work and have been idle for long. When the next
    /// one will have been.
    pub(super) fn shed_idle(&self) -> Instant {
        let (now, idle_max) = (self.runtime.now(), self.config.limits.handshake_idle_max);
        let mut next = now + idle_max;
        for Shaking { address, heard } in lock(&self.shaking).values() {
            if *heard + idle_max > now {
                next = next.min(*heard + idle_max);
            } else if address.is_open() {
                self.config.counters.add(Counter::ConnectionsShed);
                address.cut();
            }
        }
        next
    }

    fn is_crowded(&self) -> bool {
        lock(&self.shaking).len() >= self.config.limits.handshaking_max
    }

    /// What `work` gives; nothing if the server stops first.
    pub(crate) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut waiter) = (pin!(work), self.waiting.waiter());
        poll_fn(|cx| match waiter.poll(cx, || self.stops()) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => work.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Accepts connections until the server stops.
    pub(super) fn accept<L>(self: &Arc<Self>, door: Door, listener: L)
    where
        L: Listener<Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static>,
    {
        self.acceptors.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            accept_all(&shared, &Arc::new(door), listener).await;
            // Only now is the address free.
            shared.acceptors.fetch_sub(1, Ordering::Release);
            shared.wake_all();
        });
    }

    pub(crate) fn kick(&self, uid: &str, reason: &str) -> Result<(), Error> {
        let sessions = self.sessions();
        let address = sessions.by_uid(uid).and_then(|id| sessions.address(id));
        let address = address.ok_or(error::SESSION_NOT_FOUND)?;
        let text = Some(reason.to_owned()).filter(|text| !text.is_empty());
        // A session that closes at this moment needs no kick.
        let _ = address.send_last(Command::Kick(text.clone(), CloseReason::Kicked(text)));
        Ok(())
    }

    pub(super) fn begin_shutdown(&self) {
        let open = lock(&self.open);
        self.stops.store(true, Ordering::Release);
        // Once, as a server stops only once.
        open.iter().for_each(|(_, mailbox)| mailbox.send_urgent(Command::Shutdown));
        drop(open);
        self.wake_all();
        self.peers.iter().for_each(|peers| peers.drain(self));
    }

    /// Drops every connection where it stands.
    pub(super) fn cut(&self) {
        self.config.counters.add(Counter::ShutdownsCut);
        self.peers.iter().for_each(|peers| peers.cut());
        lock(&self.open).iter().for_each(|(_, mailbox)| mailbox.cut());
    }

    /// The close hooks of one session begin.
    pub(super) fn begin_closing(&self) {
        self.closings.fetch_add(1, Ordering::Relaxed);
    }

    /// They have ended, or are dropped.
    pub(super) fn end_closing(&self) {
        if self.closings.fetch_sub(1, Ordering::AcqRel) == 1 && self.stops() {
            self.wake_all();
        }
    }

    /// Waits until nobody accepts, no connection is open and no hook is at work; `false` if the
    /// time ran out first.
    pub(super) async fn wait_until_empty(&self, timeout: &mut Sleep<R>) -> bool {
        let works = |count: &AtomicUsize| count.load(Ordering::Acquire) > 0;
        let empty = || !works(&self.acceptors) && self.connections() == 0 && !works(&self.closings);
        self.wait_until(empty, timeout).await
    }

    /// Waits until no handler runs for another server; `false` if the time ran out first.
    pub(super) async fn wait_until_idle(&self, timeout: &mut Sleep<R>) -> bool {
        let idle = || {
            let waits = !mutant("a server that leaves does not wait");
            self.peers.as_ref().is_none_or(|peers| peers.handlers() == 0 || !waits)
        };
        self.wait_until(idle, timeout).await
    }

    /// Waits until there is no link to another server; `false` if the time ran out first.
    pub(super) async fn wait_until_alone(&self, timeout: &mut Sleep<R>) -> bool {
        let alone = || self.peers.as_ref().is_none_or(|peers| peers.links() == 0);
        self.wait_until(alone, timeout).await
    }

    async fn wait_until(&self, done: impl Fn() -> bool, timeout: &mut Sleep<R>) -> bool {
        let mut waiter = self.waiting.waiter();
        poll_fn(|cx| {
            if waiter.poll(cx, &done).is_ready() {
                return Poll::Ready(true);
            }
            Pin::new(&mut *timeout).poll(cx).map(|()| false)
        })
        .await
    }

    pub(crate) fn stops(&self) -> bool {
        self.stops.load(Ordering::Acquire)
    }

    pub(crate) fn wake_all(&self) {
        self.waiting.wake_all();
    }
}

/// The place of one connection among those of the server; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place<R: Runtime> {
    pub(super) mailbox: Address,
    pub(super) shared: Arc<Shared<R>>,
    /// Its own as long as it is open.
    id: usize,
    shaking: bool,
    /// Bytes that waited to be written after its last turn.
    waiting: usize,
    /// Where it comes from, if that is counted.
    source: Option<Box<IpAddr>>,
}

impl<R: Runtime> Place<R> {
    /// Whether one more connection from `ip` is allowed.
    pub(super) fn admit(&mut self, ip: IpAddr) -> bool {
        let (shared, limits) = (&self.shared, &self.shared.config.limits);
        if !Sources::are_limited(limits) {
            return true;
        }
        self.source = lock(&shared.sources).enter(shared.runtime.now(), ip, limits).map(Box::new);
        if self.source.is_none() {
            shared.config.counters.add(Counter::SourcesRefused);
            tracing::debug!(%ip, "turned away: too many connections from there");
        }
        self.source.is_some()
    }

    /// Notes that the connection is not idle, as long as it may be shed for that.
    pub(super) fn handle_bytes(&self, now: Instant) {
        if self.shaking
            && let Some(shaking) = lock(&self.shared.shaking).get_mut(&self.id)
        {
            shaking.heard = now;
        }
    }

    /// Notes what waits to be written; too much for all of them costs those their connections that
    /// hold most, at once and with all that they hold.
    pub(super) fn handle_waiting(&mut self, bytes: usize) {
        if bytes == self.waiting {
            return;
        }
        let before = std::mem::replace(&mut self.waiting, bytes);
        let config = &self.shared.config;
        let mut outbound = lock(&self.shared.outbound);
        outbound.change(self.id, before, bytes, || Arc::clone(&self.mailbox));
        let bytes_max = config.limits.process_outbound_bytes_max;
        let shed: Vec<_> = std::iter::from_fn(|| outbound.shed(bytes_max)).collect();
        drop(outbound);
        for worst in shed {
            config.counters.add(Counter::OutboundShed);
            tracing::debug!("too much waits for all clients, so who holds most is closed");
            // One that is closing already is done within its `write_timeout`.
            let _ = worst.send_last(Command::Close(CloseReason::OutboxFull));
        }
    }

    /// The connection is ready to work, or will never be.
    pub(super) fn end_handshake(&mut self) {
        if std::mem::take(&mut self.shaking) {
            // Under one lock: whoever is let in between the two would take the last room, and its
            // acceptor wait although there is some again.
            let mut shaking = lock(&self.shared.shaking);
            let crowded = shaking.len() >= self.shared.config.limits.handshaking_max;
            shaking.remove(&self.id);
            drop(shaking);
            if crowded {
                self.shared.wake_all();
            }
        }
    }
}

impl<R: Runtime> Drop for Place<R> {
    fn drop(&mut self) {
        self.end_handshake();
        self.handle_waiting(0);
        self.mailbox.close();
        if let Some(source) = &self.source {
            lock(&self.shared.sources).leave(**source);
        }
        self.shared.config.counters.add(Counter::ConnectionsClosed);
        let mut open = lock(&self.shared.open);
        open.remove(self.id);
        let empty = open.is_empty();
        drop(open);
        if empty {
            self.shared.wake_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing of an application runs under these locks, so what they guard is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
