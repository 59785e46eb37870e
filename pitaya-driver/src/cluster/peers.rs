//! The other servers, as all of this one work with them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use futures_channel::oneshot;
use pitaya_core::cluster::{
    Epoch, Hub, HubEvent, Life, LinkCommand, LinkConfig, LinkEnd, MemberEvent, Members, Router,
    ServerId, ServerInfo,
};
use pitaya_core::planted::mutant;
use pitaya_core::session::SessionHandle;
use pitaya_core::{CloseReason, Command, ConnConfig, Error, Instant, Rng, SessionId};
use pitaya_proto::error;

use crate::cluster::OnMember;
use crate::cluster::discovery::Hints;
use crate::cluster::network::Network;
use crate::cluster::way::Way;
use crate::runtime::Runtime;
use crate::server::Shared;

/// What is shared by all links of one server.
pub(crate) struct Peers {
    pub(super) config: Arc<LinkConfig>,
    pub(super) hints: Hints,
    /// What other servers say.
    pub(super) heard: Hints,
    pub(super) network: Arc<dyn Network>,
    pub(super) router: Router,
    /// The kinds of servers that clients may reach; all if there is no list.
    pub(super) forwards_to: Option<BTreeSet<String>>,
    rng: Mutex<Rng>,
    listeners: Vec<Box<OnMember>>,
    news: Mutex<News>,
    hub: Mutex<Hub<Way>>,
    members: ArcSwap<Members>,
    binds: Mutex<BTreeMap<SessionId, Bind>>,
    /// The sessions of this server, for what others have to say about them.
    sessions: Mutex<BTreeMap<SessionId, Lent>>,
    dialled: AtomicU64,
    /// Links that are open or opening.
    pub(super) links: AtomicUsize,
    /// Handlers that other servers wait for.
    pub(super) handlers: AtomicUsize,
    /// Which life of a server was found at an address that was dialled, this one included.
    found: Mutex<BTreeMap<SocketAddr, Life>>,
}

/// A session, and the servers that it has called.
type Lent = (SessionHandle, BTreeSet<ServerId>);

/// Somebody who waits until a session has its user id.
type Bind = oneshot::Sender<Result<(), Error>>;

impl Peers {
    /// A server without others. `seed` is what it draws from.
    pub(super) fn new(
        me: ServerInfo, network: Arc<dyn Network>,
        (router, forwards_to): (Router, Option<BTreeSet<String>>), listeners: Vec<Box<OnMember>>,
        conn: &Arc<ConnConfig>, origin: Epoch, seed: u64,
    ) -> Self {
        let mut hub = Hub::new(me.clone(), origin, &conn.limits);
        let members = ArcSwap::new(hub.members());
        let hints = Hints::default();
        Self {
            config: Arc::new(LinkConfig { conn: Arc::clone(conn), me: Arc::new(me) }),
            heard: hints.of_another_source(),
            hints,
            network,
            router,
            forwards_to,
            rng: Mutex::new(Rng::new(seed)),
            listeners,
            news: Mutex::default(),
            hub: Mutex::new(hub),
            members,
            binds: Mutex::default(),
            sessions: Mutex::default(),
            dialled: AtomicU64::new(0),
            links: AtomicUsize::new(0),
            handlers: AtomicUsize::new(0),
            found: Mutex::default(),
        }
    }

    /// The live servers.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// The number of the next dial.
    pub(super) fn next_dial(&self) -> u64 {
        self.dialled.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What one decision draws from. It is not the one that all share, since a rule of the
    /// application runs with it.
    pub(super) fn rng(&self) -> Rng {
        Rng::new(lock(&self.rng).next_u64())
    }

    /// How a life of a server is reached.
    pub(super) fn way(&self, life: &Life) -> Option<Way> {
        lock(&self.hub).peer(life).cloned()
    }

    /// How many calls are in flight to a server.
    pub(super) fn load(&self, id: &ServerId) -> usize {
        let members = self.members.load();
        let life = members.by_id(id).map(|server| Life::from(&**server));
        life.and_then(|life| self.way(&life)).map_or(0, |way| way.load())
    }

    /// Whether a link leads to whoever is at an address, as far as that is known.
    pub(super) fn knows(&self, address: SocketAddr) -> bool {
        let found = lock(&self.found).get(&address).cloned();
        if found.is_some_and(|life| self.is_me(&life) || self.way(&life).is_some()) {
            return true;
        }
        self.members.load().all().iter().any(|server| server.addresses.contains(&address))
    }

    /// Whether that is this server.
    pub(super) fn is_me(&self, life: &Life) -> bool {
        let me = &self.config.me;
        life.id == me.id && life.incarnation == me.incarnation
    }

    /// That life of a server is at an address.
    pub(super) fn note_address(&self, address: SocketAddr, life: Life) {
        let mut found = lock(&self.found);
        found.retain(|address, _| self.hints.contains(*address));
        found.insert(address, life);
    }

    /// Tells all others that this server takes no new calls.
    pub(crate) fn drain<R: Runtime>(&self, shared: &Shared<R>) {
        let me = Life::from(&*self.config.me);
        self.change(shared, |hub, now| hub.handle_drains(now, &me));
        self.ways().iter().for_each(|way| way.insist(LinkCommand::Drain));
    }

    /// Ends every link once it is idle.
    pub(crate) fn leave(&self) {
        self.ways().iter().for_each(Way::leave);
    }

    /// Ends every link where it stands.
    pub(crate) fn cut(&self) {
        self.ways().iter().for_each(Way::cut);
    }

    /// Takes back the address where others reach this server.
    pub(crate) async fn close_network(&self) {
        self.network.close().await;
    }

    /// How many links there are, those included that are of no use.
    pub(crate) fn links(&self) -> usize {
        self.links.load(Ordering::Acquire)
    }

    /// How many handlers other servers wait for.
    pub(crate) fn handlers(&self) -> usize {
        self.handlers.load(Ordering::Acquire)
    }

    fn ways(&self) -> Vec<Way> {
        lock(&self.hub).peers().map(|(_, way)| way.clone()).collect()
    }

    /// Who has a user id that this server is the home of.
    pub(super) fn find(&self, uid: &str) -> Option<(Life, SessionId)> {
        lock(&self.hub).find(uid)
    }

    /// A session of this server has begun.
    pub(crate) fn open(&self, session: &SessionHandle) {
        lock(&self.sessions).insert(session.id(), (session.clone(), BTreeSet::new()));
    }

    /// A session of this server calls that one, which may act for it from now on.
    pub(super) fn lend(&self, session: SessionId, to: &ServerId) {
        if let Some((_, servers)) = lock(&self.sessions).get_mut(&session) {
            servers.insert(to.clone());
        }
    }

    /// A session of this server, and whether it has called that one.
    pub(super) fn lent(&self, session: SessionId, to: &ServerId) -> Option<(SessionHandle, bool)> {
        let sessions = lock(&self.sessions);
        let (session, servers) = sessions.get(&session)?;
        Some((session.clone(), servers.contains(to)))
    }

    /// Changes what is known of the others, and does what follows from it.
    pub(super) fn change<R: Runtime, T>(
        &self, shared: &Shared<R>, change: impl FnOnce(&mut Hub<Way>, Instant) -> T,
    ) -> T {
        let mut hub = lock(&self.hub);
        let changed = change(&mut hub, shared.runtime.now());
        let events: Vec<_> = std::iter::from_fn(|| hub.poll_event()).collect();
        if events.iter().any(|event| matches!(event, HubEvent::Members(_))) {
            self.members.store(hub.members());
            let news = events.iter().filter_map(|event| match event {
                HubEvent::Members(event) => Some(event.clone()),
                HubEvent::Bound(_)
                | HubEvent::Close(_)
                | HubEvent::Drop(_)
                | HubEvent::Refused(..)
                | HubEvent::Say(..) => None,
            });
            lock(&self.news).untold.extend(news);
        }
        drop(hub);
        events.into_iter().for_each(|event| self.act(shared, event));
        self.tell_news();
        changed
    }

    /// Tells the listeners what is new, in order: if somebody is at it, they go on with it.
    fn tell_news(&self) {
        let next = || lock(&self.news).next();
        while let Some(event) = next() {
            log(&event);
            for listener in &self.listeners {
                let told = catch_unwind(AssertUnwindSafe(|| listener(&event)));
                told.unwrap_or_else(|_| tracing::error!("a listener to members panicked"));
            }
            lock(&self.news).told = true;
        }
    }

    /// Gives a session its user id in the whole cluster; from then on no other session has it.
    pub(crate) async fn bind<R: Runtime>(
        &self, shared: &Shared<R>, session: SessionId, uid: Arc<str>,
    ) -> Result<(), Error> {
        let (teller, told) = oneshot::channel();
        lock(&self.binds).insert(session, teller);
        self.change(shared, |hub, now| hub.bind(now, session, uid))?;
        told.await.unwrap_or_else(|_| Err(error::SESSION_CLOSED.into()))
    }

    /// A session of this server is over, or gives up its bind.
    pub(crate) fn give_up<R: Runtime>(&self, shared: &Shared<R>, session: SessionId) {
        lock(&self.binds).remove(&session);
        self.change(shared, |hub, now| hub.end(now, session));
    }

    /// A session of this server is over.
    pub(crate) fn close<R: Runtime>(&self, shared: &Shared<R>, session: SessionId) {
        lock(&self.sessions).remove(&session);
        self.give_up(shared, session);
    }

    fn act<R: Runtime>(&self, shared: &Shared<R>, event: HubEvent<Way>) {
        match event {
            HubEvent::Bound(session) => self.tell_bound(session, Ok(())),
            HubEvent::Close(session) => {
                self.tell_bound(session, Err(error::SESSION_CLOSED.into()));
                let address = shared.sessions().address(session).cloned();
                let text = Some("replaced by a newer login".to_owned());
                let kick = Command::Kick(text, CloseReason::Replaced);
                if let Some(address) = address {
                    // A session that closes at this moment needs no kick.
                    let _ = address.send_last(kick);
                }
            }
            HubEvent::Drop(_) if mutant("a twin is not closed") => {}
            HubEvent::Drop(way) => way.end(LinkEnd::Unwanted("another link to the server stays")),
            HubEvent::Members(_) => {}
            HubEvent::Refused(session, wait) => {
                let error = Error::from(error::RATE_EXCEEDED);
                let wait = error::duration(wait);
                self.tell_bound(session, Err(error.with_metadata("wait", wait)));
            }
            HubEvent::Say(way, said) => way.insist(LinkCommand::Say(said)),
        }
    }

    fn tell_bound(&self, session: SessionId, result: Result<(), Error>) {
        let waits = lock(&self.binds).remove(&session);
        // Whoever does not wait any more has given up the bind.
        waits.into_iter().for_each(|waits| drop(waits.send(result.clone())));
    }
}

/// Changes of the set of servers that listeners have not been told.
struct News {
    untold: VecDeque<MemberEvent>,
    /// Nobody is telling one.
    told: bool,
}

impl News {
    /// The next one, for whoever may tell it.
    fn next(&mut self) -> Option<MemberEvent> {
        let event = self.untold.pop_front_if(|_| self.told)?;
        self.told = false;
        Some(event)
    }
}

impl Default for News {
    fn default() -> Self {
        Self { untold: VecDeque::new(), told: true }
    }
}

fn log(event: &MemberEvent) {
    let server = event.server();
    let (id, kind) = (&server.id, &server.kind);
    match event {
        MemberEvent::Changed(_) => tracing::info!(%id, %kind, "a server has changed"),
        MemberEvent::Drains(_) => tracing::info!(%id, %kind, "a server is about to leave"),
        MemberEvent::Joined(_) => tracing::info!(%id, %kind, "a server has joined"),
        MemberEvent::Left(_) => tracing::info!(%id, %kind, "a server has left"),
        MemberEvent::Restored(_) => tracing::info!(%id, %kind, "a server answers again"),
        MemberEvent::Suspected(_) => tracing::warn!(%id, %kind, "a server is silent"),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing of an application runs under these locks, so what they guard is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peers").field(&self.members.load()).finish()
    }
}
