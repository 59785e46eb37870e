//! One other server at work: what it says is done, and handlers of its sessions' calls run here, in
//! the task of the link.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{AbortHandle, abortable};
use futures::stream::{FuturesUnordered, Stream};
use pitaya_core::app::{Running, Scope};
use pitaya_core::cluster::{
    GuestCall, Lane, Life, LinkCommand, LinkEnd, LinkEvent, Peer, PeerCommand, PeerEvent, ServerId,
    ServerInfo, Snapshot, refusal,
};
use pitaya_core::planted::mutant;
use pitaya_core::session::{Host, HostFuture, SessionHandle};
use pitaya_core::{CallKey, Counter, Error, Instant, Reply, RouteId, SessionId};
use pitaya_proto::link::Known;
use pitaya_proto::request;

use crate::cluster::guest::GuestHost;
use crate::cluster::peers::Peers;
use crate::cluster::remotes::{Answer, Remotes};
use crate::cluster::sys;
use crate::cluster::way::{Waiter, Way};
use crate::drive::{Commands, Serve};
use crate::runtime::Runtime;
use crate::server::{Shared, Watch, seldom};

/// This server's side of one link.
pub(super) struct ServePeer<R: Runtime> {
    shared: Arc<Shared<R>>,
    peers: Arc<Peers>,
    way: Way,
    remote: SocketAddr,
    /// This server has dialled.
    dialled: bool,
    /// The peer, once its link is in use.
    peer: Option<Arc<ServerInfo>>,
    guests: BTreeMap<SessionId, Visitor<R>>,
    remotes: Remotes<R>,
    running: FuturesUnordered<HostFuture<Done>>,
    /// To drop the handlers of sessions' calls.
    aborts: BTreeMap<(SessionId, CallKey), AbortHandle>,
    watch: Watch,
}

/// A session of the peer that has called here.
struct Visitor<R: Runtime> {
    handle: SessionHandle,
    host: Arc<GuestHost<R>>,
    /// What the peer said of it last.
    snapshot: Snapshot,
}

/// What came of a handler.
enum Done {
    /// It was dropped.
    Aborted,
    /// It answers a session's call.
    Guest(SessionId, CallKey, Result<Bytes, Error>),
    /// It answers another server; nothing if that wants no answer.
    Remote(Option<u32>, Result<Bytes, Error>),
}

/// What is decided about a peer.
type Decided = Commands<PeerCommand<Waiter>>;

impl<R: Runtime> ServePeer<R> {
    pub(super) fn new(
        shared: Arc<Shared<R>>, peers: Arc<Peers>, way: Way, remote: SocketAddr, dialled: bool,
    ) -> Self {
        peers.links.fetch_add(1, Ordering::Relaxed);
        let remotes = Remotes::new(Arc::clone(&shared));
        Self {
            shared,
            peers,
            way,
            remote,
            dialled,
            peer: None,
            guests: BTreeMap::new(),
            remotes,
            running: FuturesUnordered::new(),
            aborts: BTreeMap::new(),
            watch: Watch::default(),
        }
    }

    fn handle_link(&mut self, event: LinkEvent<'_, Waiter>, commands: &mut Decided) {
        match event {
            LinkEvent::Call { .. } => unreachable!("the machine has judged it"),
            LinkEvent::Closed(end) => self.close(&end),
            LinkEvent::Drains => {
                self.change(|hub, now, life, _| hub.handle_drains(now, life));
            }
            LinkEvent::Kick(kick) => sys::kick(&self.shared, self.id(), &kick),
            LinkEvent::Known(known) => {
                let addresses = known.addresses.iter().filter_map(|it| it.parse().ok());
                for address in addresses {
                    self.peers.heard.found(address);
                }
            }
            LinkEvent::Opened(info, dial) => {
                let way = self.way.clone();
                if self.dialled {
                    self.peers.note_address(self.remote, Life::from(&*info));
                }
                let opened = self
                    .peers
                    .change(&self.shared, |hub, now| hub.handle_opened(now, &info, dial, way));
                match opened {
                    Ok(()) => self.welcome(info, commands),
                    Err(why) => {
                        self.shared.config.counters.add(Counter::LinksRefused);
                        tracing::debug!(id = %info.id, %why, "a link is of no use");
                        let end = LinkEnd::Unwanted("the link is of no use");
                        commands.push(PeerCommand::Link(LinkCommand::Close(end)));
                    }
                }
            }
            LinkEvent::Push(push) => sys::push(&self.shared, self.id(), &push),
            LinkEvent::Reply { waiter, result } => {
                waiter.tell(result.as_deref().map_err(Clone::clone))
            }
            LinkEvent::Restored => {
                self.change(|hub, now, life, way| hub.handle_silence(now, life, way, false));
            }
            LinkEvent::Said(said) if self.has_users() => {
                self.change(|hub, now, life, _| hub.handle_said(now, life, said));
            }
            LinkEvent::Said(_) => {
                self.shared.config.counters.add(Counter::LinkFramesForbidden);
                let (shared, from) = (&self.shared, self.id());
                seldom!(shared, warn, "a server without users here speaks of user ids", ?from);
            }
            LinkEvent::SessionClosed(session) => self.end_guest(SessionId::new(session)),
            LinkEvent::Suspected => {
                self.change(|hub, now, life, way| hub.handle_silence(now, life, way, true));
            }
        }
    }

    /// Whether the peer shares the user ids of this server: a frontend of the same kind.
    fn has_users(&self) -> bool {
        let me = &self.peers.config.me;
        self.peer.as_ref().is_some_and(|peer| peer.frontend && peer.kind == me.kind)
    }

    fn id(&self) -> Option<&ServerId> {
        self.peer.as_ref().map(|peer| &peer.id)
    }

    /// Changes what is known of the peer, if it is one.
    fn change(
        &self, change: impl FnOnce(&mut pitaya_core::cluster::Hub<Way>, Instant, &Life, &Way),
    ) {
        let Some(life) = self.peer.as_ref().map(|peer| Life::from(&**peer)) else { return };
        self.peers.change(&self.shared, |hub, now| change(hub, now, &life, &self.way));
    }

    /// The link is in use: the peer hears where others are.
    fn welcome(&mut self, info: Arc<ServerInfo>, commands: &mut Decided) {
        self.shared.config.counters.add(Counter::LinksOpened);
        let members = self.peers.members();
        let others = members.all().iter().filter(|other| other.id != info.id);
        let addresses = others.flat_map(|other| &other.addresses).map(ToString::to_string);
        let known = Known { addresses: addresses.collect() };
        commands.push(PeerCommand::Link(LinkCommand::Known(known)));
        if self.shared.stops() {
            commands.push(PeerCommand::Link(LinkCommand::Drain));
            commands.push(PeerCommand::Leave);
        }
        self.peer = Some(info);
    }

    fn close(&mut self, end: &LinkEnd) {
        self.shared.config.counters.add(Counter::LinksClosed);
        if self.dialled && *end == LinkEnd::Myself {
            self.peers.note_address(self.remote, Life::from(&*self.peers.config.me));
        }
        match self.id() {
            Some(id) => tracing::info!(%id, remote = %self.remote, %end, "a link has ended"),
            // Whoever cannot be linked with is tried again every second.
            None => tracing::debug!(remote = %self.remote, %end, "a link was of no use"),
        }
        self.leave();
    }

    /// Nothing goes to the peer any more, and its sessions are over here.
    fn leave(&mut self) {
        self.way.mailbox().close();
        // Whoever waits for what was not sent is told by being dropped.
        self.way.mailbox().take(&mut Decided::new());
        self.change(|hub, now, life, way| hub.handle_closed(now, life, way));
        self.peer = None;
        let guests: Vec<_> = self.guests.keys().copied().collect();
        guests.into_iter().for_each(|session| self.end_guest(session));
    }

    fn end_guest(&mut self, session: SessionId) {
        if let Some(guest) = self.guests.remove(&session) {
            guest.host.open.store(false, Ordering::Release);
            guest.handle.leave_all();
        }
    }

    /// Starts the handler of a session's call.
    fn start(&mut self, cx: &mut Context<'_>, call: GuestCall, commands: &mut Decided) {
        let GuestCall { call, session, snapshot } = call;
        let handle = self.guest(session, snapshot);
        let shared = Arc::clone(&self.shared);
        let (key, route) = (call.key, call.route);
        let name = shared.handlers.routes.name(route);
        let scope = Scope { host: handle.host(), route: name, session: Some(&handle) };
        match shared.handlers.invoke(&call, &scope) {
            Ok(mut running) => match self.watch.poll(&shared, cx, route, &mut running) {
                Poll::Ready(reply) => {
                    let done = Done::Guest(session, key, self.read(reply));
                    self.answer(done, commands);
                }
                Poll::Pending => self.keep(session, key, route, running),
            },
            Err(reply) => {
                let done = Done::Guest(session, key, self.read(reply));
                self.answer(done, commands);
            }
        }
    }

    /// The session as handlers here have it.
    fn guest(&mut self, session: SessionId, snapshot: Snapshot) -> SessionHandle {
        let (shared, way) = (&self.shared, &self.way);
        let visitor = self.guests.entry(session).or_insert_with(|| {
            let host = Arc::new(GuestHost {
                shared: Arc::clone(shared),
                way: way.clone(),
                session,
                open: AtomicBool::new(true),
            });
            let handle = SessionHandle::afar(session, Arc::clone(&host) as Arc<dyn Host>);
            Visitor { handle, host, snapshot: Snapshot::default() }
        });
        if visitor.snapshot != snapshot {
            visitor.handle.refresh(&snapshot);
            visitor.snapshot = snapshot;
        }
        visitor.handle.clone()
    }

    /// Keeps a handler that did not end at once.
    fn keep(&mut self, session: SessionId, key: CallKey, route: RouteId, mut running: Running) {
        let shared = Arc::clone(&self.shared);
        let (work, abort) = abortable(async move {
            let mut watch = Watch::default();
            let polled = std::future::poll_fn(|cx| {
                watch.begin(shared.runtime.now());
                watch.poll(&shared, cx, route, &mut running)
            });
            read(&shared, polled.await)
        });
        self.aborts.insert((session, key), abort);
        self.run(Box::pin(async move {
            let done = work.await;
            done.map_or(Done::Aborted, |result| Done::Guest(session, key, result))
        }));
    }

    fn run(&mut self, work: HostFuture<Done>) {
        self.peers.handlers.fetch_add(1, Ordering::Relaxed);
        self.running.push(work);
    }

    /// So many handlers have ended, for which a server that stops may wait.
    fn note_ended(&self, handlers: usize) {
        self.peers.handlers.fetch_sub(handlers, Ordering::Release);
        if self.shared.stops() {
            self.shared.wake_all();
        }
    }

    fn read(&self, reply: Reply) -> Result<Bytes, Error> {
        read(&self.shared, reply)
    }

    /// What a handler sent before it ended comes before its reply.
    fn answer(&mut self, done: Done, commands: &mut Decided) {
        if !mutant("a reply overtakes what came before it") {
            self.way.mailbox().take(commands);
        }
        match done {
            Done::Aborted => {}
            Done::Guest(session, key, result) => {
                self.aborts.remove(&(session, key));
                commands.push(PeerCommand::Reply(session, key, result));
            }
            Done::Remote(None, _) => {}
            Done::Remote(Some(id), result) => {
                let response = result.map(|data| request::encode_reply(&data));
                let response = response.map_or_else(|error| refusal(&error), Bytes::from);
                let reply = LinkCommand::Reply { id, lane: Lane::Alone, response };
                commands.push(PeerCommand::Link(reply));
            }
        }
    }

    /// Starts what the peer itself asks.
    fn start_remote(
        &mut self, cx: &mut Context<'_>, id: Option<u32>, deadline: Instant, request: &[u8],
        commands: &mut Decided,
    ) {
        let from = &self.peer.as_ref().expect("calls come after the opening").id;
        match self.remotes.call(cx, from, deadline, request, &mut self.watch) {
            Answer::Is(result) => self.answer(Done::Remote(id, result), commands),
            Answer::Will(work) => {
                self.run(Box::pin(async move { Done::Remote(id, work.await) }));
                self.poll_running(cx, commands);
            }
        }
    }
}

impl<R: Runtime> Drop for ServePeer<R> {
    /// A link that is cut off, or whose task panicked, leaves nothing behind.
    fn drop(&mut self) {
        self.leave();
        self.note_ended(self.running.len());
        self.peers.links.fetch_sub(1, Ordering::Release);
        self.shared.wake_all();
    }
}

impl<R: Runtime> Serve<Peer<Waiter>> for ServePeer<R> {
    fn handle_bytes(&mut self, _now: Instant) {}

    fn handle_event(
        &mut self, now: Instant, cx: &mut Context<'_>, event: PeerEvent<'_, Waiter>,
        commands: &mut Decided,
    ) {
        self.watch.begin(now);
        match event {
            PeerEvent::Abandoned(session, key) => {
                let abort = self.aborts.remove(&(session, key));
                abort.into_iter().for_each(|abort| abort.abort());
                // Once its session is over, it may have asked for that.
                if self.guests.contains_key(&session) {
                    let shared = &self.shared;
                    seldom!(shared, error, "a handler reached its hard limit and is dropped");
                }
                // It is gone before the next call of its session begins.
                self.poll_running(cx, commands);
            }
            PeerEvent::Call(call) => self.start(cx, call, commands),
            PeerEvent::Link(event) => self.handle_link(event, commands),
            PeerEvent::Remote { id, deadline, request } => {
                self.start_remote(cx, id, deadline, &request, commands);
            }
        }
    }

    fn poll_commands(&mut self, _now: Instant, cx: &mut Context<'_>, commands: &mut Decided) {
        self.poll_running(cx, commands);
    }

    fn is_done(&self) -> bool {
        self.running.is_empty()
    }
}

impl<R: Runtime> ServePeer<R> {
    fn poll_running(&mut self, cx: &mut Context<'_>, commands: &mut Decided) {
        while let Poll::Ready(Some(done)) = Pin::new(&mut self.running).poll_next(cx) {
            self.note_ended(1);
            self.answer(done, commands);
        }
    }
}

/// A reply as it goes to another server.
fn read<R: Runtime>(shared: &Shared<R>, reply: Reply) -> Result<Bytes, Error> {
    let Reply { body, is_error } = reply;
    if is_error { Err((shared.handlers.decode_error)(&body)) } else { Ok(body.into()) }
}
