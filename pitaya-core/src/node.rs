//! The pieces of a server behind one set of methods, for a loop of your own without async.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use pitaya_proto::error::{self, Error};
use pitaya_proto::zlib::Scratch;

use crate::cluster::Forward;
use crate::{
    Call, CallKey, CloseReason, Command, ConnConfig, Counter, Counters, Event, Instant, Machine,
    Next, Player, Reply, RouteTable, SessionId, SessionTable, earlier,
};

/// All clients of one server.
///
/// In every frame, or whenever something happened:
///
/// 1. a client connects: [`accept`](Self::accept) says whether there is room for it;
/// 2. [`read`](Self::read) from every client: that gives what it did;
/// 3. the rest of what happened comes from [`handle_timeout`](Self::handle_timeout);
/// 4. [`write`](Self::write) to every client, and drop its stream once
///    [`is_finished`](Self::is_finished).
///
/// Every call is answered with [`reply`](Self::reply), in this frame or a later one. So is a
/// notify: its reply goes nowhere, but lets the next call of the session run. After
/// [`Event::Closed`] the calls of a session need no answer any more. Connections and sessions that
/// are gone are ignored. The example `embed` is a whole server.
///
/// Instead of [`read`](Self::read), [`next`](Self::next) takes bytes that came in another way, and
/// copies none of them.
#[derive(Debug)]
pub struct Node {
    config: Arc<ConnConfig>,
    routes: Arc<RouteTable>,
    scratch: Scratch,
    clients: BTreeMap<ConnId, Client>,
    sessions: SessionTable<ConnId>,
    accepted: u64,
    drains: bool,
    /// Something was decided whose consequences are not told yet.
    stirred: bool,
}

/// Names one connection of a [`Node`]; never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnId(u64);

/// One connection, and the session it is attached to.
#[derive(Debug)]
struct Client {
    player: Player,
    /// Nothing before it opens, and nothing once its end is told.
    session: Option<SessionId>,
    /// The end of the connection is told.
    parted: bool,
    /// What was read and not taken: the beginning of a packet, or more while paused.
    held: Vec<u8>,
    paused: bool,
}

impl Node {
    /// A server without clients.
    pub fn new(config: ConnConfig, routes: RouteTable) -> Self {
        Self {
            sessions: SessionTable::new(&config.limits),
            config: Arc::new(config),
            routes: Arc::new(routes),
            scratch: Scratch::new(),
            clients: BTreeMap::new(),
            accepted: 0,
            drains: false,
            stirred: false,
        }
    }

    /// A client has connected. `None` if there is no room for it by the limits `connections_max`,
    /// which counts sessions that wait for their client too, and `handshaking_max`: drop its
    /// stream.
    pub fn accept(&mut self, now: Instant) -> Option<ConnId> {
        let limits = &self.config.limits;
        let handshaking = self.clients.values().filter(|client| client.is_handshaking());
        if self.drains
            || self.clients.len() >= limits.connections_max
            || handshaking.count() >= limits.handshaking_max
        {
            self.config.counters.add(Counter::ConnectionsRefused);
            return None;
        }
        self.config.counters.add(Counter::ConnectionsAccepted);
        self.accepted += 1;
        let player = Player::new(Arc::clone(&self.config), Arc::clone(&self.routes), now);
        let (session, parted, held, paused) = (None, false, Vec::new(), false);
        let client = Client { player, session, parted, held, paused };
        self.clients.insert(ConnId(self.accepted), client);
        Some(ConnId(self.accepted))
    }

    /// Reads what came from a client, as far as `stream` has it without waiting, but only while the
    /// client may send more. Gives what it did; the end of the stream is an event of
    /// [`handle_timeout`](Self::handle_timeout).
    #[must_use = "these events come from nowhere else"]
    pub fn read(
        &mut self, now: Instant, conn: ConnId, stream: &mut impl io::Read,
    ) -> Vec<(SessionId, Event<'static>)> {
        let Some(client) = self.clients.get_mut(&conn) else { return Vec::new() };
        let mut held = std::mem::take(&mut client.held);
        let mut part = stream.take(if client.paused { 0 } else { READ_BYTES_MAX });
        let read = part.read_to_end(&mut held);
        let more = part.limit() == 0;

        let (mut input, mut events) = (&held[..], Vec::new());
        let paused = loop {
            match self.next(now, conn, &mut input) {
                Next::Event((session, event)) => events.push((session, owned(event))),
                Next::NeedBytes => break false,
                Next::Paused => break true,
            }
        };
        let left = input.len();
        match read {
            // An end is there again with the next read, once all is taken that came before it.
            Ok(_) if more || paused => {}
            Ok(_) => self.handle_end(now, conn, CloseReason::end(left)),
            Err(error) if WAITS.contains(&error.kind()) => {}
            Err(error) => self.handle_end(now, conn, CloseReason::Io(error.kind())),
        }
        held.drain(..held.len() - left);
        let client = self.clients.get_mut(&conn).expect("only `handle_timeout` forgets it");
        (client.held, client.paused) = (held, paused);
        events
    }

    /// Takes at most one event off the front of `input`, and says whose it is; of a connection that
    /// ended, all of it. A connection that ends before its session begins is no event.
    ///
    /// Call it until it gives no more events, keep what it left, and offer that again with what
    /// comes next. While it says [`Next::Paused`], read no more.
    pub fn next<'i>(
        &mut self, now: Instant, conn: ConnId, input: &mut &'i [u8],
    ) -> Next<(SessionId, Event<'i>)> {
        while let Some(client) = self.clients.get_mut(&conn).filter(|client| !client.is_over()) {
            match client.player.next(now, input, &mut self.scratch) {
                Next::Event(event) => {
                    if let Some(session) = self.note(conn, &event) {
                        return Next::Event((session, event));
                    }
                }
                Next::NeedBytes => return Next::NeedBytes,
                Next::Paused => return Next::Paused,
            }
        }
        *input = &[];
        Next::NeedBytes
    }

    /// The stream is over: [`CloseReason::end`] with how many bytes [`next`](Self::next) left, or
    /// [`CloseReason::Io`].
    pub fn handle_end(&mut self, now: Instant, conn: ConnId, how: CloseReason) {
        if let Some(client) = self.clients.get_mut(&conn) {
            client.player.handle_end(now, how);
        }
    }

    /// Acts on every deadline that `now` has reached. Gives all that does not come from bytes: what
    /// time did, and what commands and the ends of streams led to.
    #[must_use = "these events come from nowhere else"]
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<(SessionId, Event<'static>)> {
        self.stirred = false;
        let mut events = Vec::new();
        let conns: Vec<_> = self.clients.keys().copied().collect();
        for conn in conns {
            if let Some(Client { player, .. }) = self.clients.get_mut(&conn) {
                player.handle_timeout(now, &mut self.scratch);
            }
            while let Next::Event(event) = self.next(now, conn, &mut &[][..]) {
                events.push(event);
            }
        }
        self.clients.retain(|_, client| !(client.is_over() && client.player.is_finished()));
        events
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, for loops without frames.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stirred = self.stirred.then_some(Instant::ZERO);
        self.clients.values().map(|client| client.player.poll_timeout()).fold(stirred, earlier)
    }

    /// Writes what waits for a client, as far as `stream` takes it without waiting.
    pub fn write(&mut self, now: Instant, conn: ConnId, stream: &mut impl io::Write) {
        let Some(Client { player, .. }) = self.clients.get_mut(&conn) else { return };
        // A finished one may have a session that keeps what waits for its next stream.
        while !player.is_finished() && player.outbox().has_remaining() {
            match stream.write(player.outbox().chunk()) {
                Ok(0) => player.handle_end(now, CloseReason::Io(io::ErrorKind::WriteZero)),
                Ok(bytes) => {
                    player.outbox().advance(bytes);
                    player.outbox().rest();
                    player.handle_written(now, bytes);
                }
                Err(error) if WAITS.contains(&error.kind()) => return,
                Err(error) => player.handle_end(now, CloseReason::Io(error.kind())),
            }
        }
    }

    /// Whether to drop the stream of a connection: its end is told, and everything is written.
    pub fn is_finished(&self, conn: ConnId) -> bool {
        let finished = |client: &Client| client.parted && client.player.is_finished();
        self.clients.get(&conn).is_none_or(finished)
    }

    /// Answers a call. Whether the session is open; a late answer goes nowhere.
    pub fn reply(&mut self, now: Instant, session: SessionId, key: CallKey, reply: Reply) -> bool {
        self.command(now, session, Command::Reply(key, reply))
    }

    /// Sends a push. Whether the session is open.
    pub fn push(&mut self, now: Instant, session: SessionId, route: &str, body: Bytes) -> bool {
        self.command(now, session, Command::Push(route.into(), body))
    }

    /// Carries out any other decision, such as to kick. Whether the session is open.
    pub fn command(&mut self, now: Instant, session: SessionId, command: Command) -> bool {
        let Some(conn) = self.open_at(session) else { return false };
        let client = self.clients.get_mut(&conn).expect("it is open");
        client.player.handle_command(now, command, &mut self.scratch);
        self.stirred = true;
        true
    }

    /// Binds a session to a user id. The session that had it is kicked: the newest login wins.
    ///
    /// # Errors
    ///
    /// An illegal user id, one that was bound too often (`RATE_EXCEEDED`, with the time to wait as
    /// `wait` in its metadata), or a session that is bound already or closed; nothing has changed
    /// then.
    pub fn bind(&mut self, now: Instant, session: SessionId, uid: &str) -> Result<(), Error> {
        let open = self.open_at(session).ok_or_else(|| error::SESSION_CLOSED.into());
        let begun = open.and_then(|_| self.sessions.begin_bind(now, session, uid));
        let binding = begun.inspect_err(|_| self.config.counters.add(Counter::UidsRefused))?;
        if let Some((older, _)) = self.sessions.finish_bind(binding)? {
            let reason = CloseReason::Replaced;
            self.command(now, older, Command::Kick(Some(reason.to_string()), reason));
        }
        Ok(())
    }

    /// The session `lost` goes on with the connection of `fresh`, which ends without a word: answer
    /// its calls before. Whether both were open. That they are one client is yours to know.
    pub fn attach(&mut self, now: Instant, lost: SessionId, fresh: SessionId) -> bool {
        let conns = self.open_at(lost).zip(self.open_at(fresh));
        let Some((old, new)) = conns.filter(|(old, new)| old != new) else { return false };
        let left = self.clients.remove(&old).expect("it is open");
        let client = self.clients.get_mut(&new).expect("it is open, and another");
        let newcomer = std::mem::replace(&mut client.player, left.player);
        client.player.attach(now, newcomer);
        client.session = Some(lost);
        self.sessions.attach(lost, new);
        self.sessions.close(fresh);
        self.config.counters.add(Counter::SessionsClosed);
        self.config.counters.add_many(Counter::ConnectionsClosed, (!left.parted).into());
        self.stirred = true;
        true
    }

    /// The sessions there are, whose they are, and which connection each is attached to.
    pub fn sessions(&self) -> &SessionTable<ConnId> {
        &self.sessions
    }

    /// The routes, for the name of the one that is called.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// Accepts nobody any more, and closes every session once its calls are answered. Go on until
    /// [`is_empty`](Self::is_empty); hard limits and write deadlines bound how long that takes.
    pub fn shutdown(&mut self, now: Instant) {
        (self.drains, self.stirred) = (true, true);
        for client in self.clients.values_mut() {
            client.player.handle_command(now, Command::Shutdown, &mut self.scratch);
        }
    }

    /// Whether there are neither connections nor sessions.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Keeps the table of sessions and the counters; whose event it is.
    fn note(&mut self, conn: ConnId, event: &Event<'_>) -> Option<SessionId> {
        let client = self.clients.get_mut(&conn).expect("the event is from it");
        let counters = &self.config.counters;
        match event {
            Event::Abandoned(_) | Event::Call(_) | Event::Forward(_) => {}
            Event::Closed(reason) => {
                client.part(counters);
                let Some(session) = client.session.take() else {
                    tracing::debug!(conn = conn.0, %reason, "closed before it opened");
                    return None;
                };
                counters.add(Counter::SessionsClosed);
                self.sessions.close(session);
                return Some(session);
            }
            Event::Detached(_) => client.part(counters),
            Event::Opened(_) => {
                counters.add(Counter::SessionsOpened);
                client.session = Some(self.sessions.open(conn));
            }
        }
        client.session
    }

    /// The connection of a session that is not about to close.
    fn open_at(&self, session: SessionId) -> Option<ConnId> {
        let conn = self.sessions.address(session)?;
        self.clients.get(conn).filter(|client| client.player.is_open()).map(|_| *conn)
    }
}

impl Client {
    fn is_handshaking(&self) -> bool {
        self.session.is_none() && !self.parted
    }

    fn is_over(&self) -> bool {
        self.session.is_none() && self.parted
    }

    fn part(&mut self, counters: &Counters) {
        let again = std::mem::replace(&mut self.parted, true);
        counters.add_many(Counter::ConnectionsClosed, (!again).into());
    }
}

/// What is told of bytes that do not stay.
fn owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Abandoned(key) => Event::Abandoned(key),
        Event::Call(Call { body, context, deadline, key, origin, request, route }) => {
            let body = Cow::Owned(body.into_owned());
            Event::Call(Call { body, context, deadline, key, origin, request, route })
        }
        Event::Closed(reason) => Event::Closed(reason),
        Event::Detached(reason) => Event::Detached(reason),
        Event::Forward(Forward { body, deadline, key, request, route }) => {
            let body = Cow::Owned(body.into_owned());
            Event::Forward(Forward { body, deadline, key, request, route })
        }
        Event::Opened(handshake) => Event::Opened(handshake),
    }
}

/// Read of one client before others have their turn.
const READ_BYTES_MAX: u64 = 64 << 10;
/// How a stream says that it takes nothing at the moment.
const WAITS: [io::ErrorKind; 2] = [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock];
