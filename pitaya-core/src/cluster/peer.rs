//! Another server as this one keeps it: a link, and the calls that it sends for its sessions.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use pitaya_proto::error::{self, Error};
use pitaya_proto::protos::{self, MsgType, Request, Response, RpcType};
use pitaya_proto::request::{self, Asked};
use pitaya_proto::zlib::Scratch;
use prost::Message as _;

use super::{Full, Guests, Lane, Link, LinkCommand, LinkConfig, LinkEnd, LinkEvent, Proven};
use crate::planted::mutant;
use crate::queue::{Ended, Expired, Start, Ticket};
use crate::{
    Call, CallKey, CloseReason, Context, Counter, Destination, Instant, Machine, Next, Options,
    Origin, Outbox, RouteKind, RouteTable, SessionId, earlier,
};

/// The machine of one other server, as [`Player`](crate::Player) is that of a client: it routes
/// what the peer's sessions call, gives their calls their turn, and answers what cannot run.
#[derive(Debug)]
pub struct Peer<W> {
    link: Link<W>,
    guests: Guests<Guest>,
    config: Arc<LinkConfig>,
    routes: Arc<RouteTable>,
    /// Calls whose handlers must be dropped, not yet told.
    abandoned: VecDeque<(SessionId, CallKey)>,
    /// The link ends when it is idle.
    leaves: bool,
}

/// What another server did, or what became of it.
#[derive(Debug, PartialEq)]
pub enum PeerEvent<'e, W> {
    /// The handler of this call must be dropped.
    Abandoned(SessionId, CallKey),
    /// A session of the peer calls; answer with [`PeerCommand::Reply`], also if it is a notify.
    Call(GuestCall),
    /// Anything that is not about calls to this server.
    Link(LinkEvent<'e, W>),
    /// The server itself calls.
    Remote {
        /// Names the call in [`LinkCommand::Reply`]; nothing if no reply is wanted.
        id: Option<u32>,
        /// When the caller stops waiting.
        deadline: Instant,
        /// What it asks: a `Request`, to be read by [`Asked`](pitaya_proto::request::Asked).
        request: Cow<'e, [u8]>,
    },
}

/// What the owner decided.
#[derive(Debug, PartialEq)]
pub enum PeerCommand<W> {
    /// End the link once no call is in flight either way; both servers have to know that none will
    /// come, by [`LinkCommand::Drain`].
    Leave,
    /// Anything that is not about calls of the peer's sessions.
    Link(LinkCommand<W>),
    /// The handler of a session's call has ended.
    Reply(SessionId, CallKey, Result<Bytes, Error>),
}

/// A call of a session that is connected to another server.
#[derive(Clone, Debug, PartialEq)]
pub struct GuestCall {
    /// The call.
    pub call: Call<'static>,
    /// Which session of the peer.
    pub session: SessionId,
    /// What the peer knew of the session as it sent the call.
    pub snapshot: Snapshot,
}

/// What a server knows of a session at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// The session's data, a JSON object.
    pub data: Bytes,
    /// The user id; empty if it has none.
    pub uid: String,
}

/// What a call carries while it waits for its turn.
#[derive(Debug)]
struct Guest {
    body: Bytes,
    context: Context,
    snapshot: Snapshot,
}

impl<W> Peer<W> {
    /// One end of a stream that was opened at `now`; see [`Link::new`].
    pub fn new(
        config: Arc<LinkConfig>, routes: Arc<RouteTable>, now: Instant, proven: Option<Proven>,
        dialled: u64,
    ) -> Self {
        Self {
            link: Link::new(Arc::clone(&config), now, proven, dialled),
            guests: Guests::new(Arc::clone(&config.conn)),
            config,
            routes,
            abandoned: VecDeque::new(),
            leaves: false,
        }
    }

    /// Ends a link that is left once no call is in flight; whether it did.
    fn update(&mut self, now: Instant, scratch: &mut Scratch) -> bool {
        let is_idle = || self.link.is_settled() && self.guests.sessions().next().is_none();
        let ends = self.leaves && (is_idle() || mutant("a server that leaves does not wait"));
        if ends {
            self.leaves = false;
            let end = LinkCommand::Close(LinkEnd::Closed);
            self.link.handle_command(now, end, scratch);
        }
        ends
    }

    /// Judges a call that came in: the event, if the owner has something to do at once.
    fn admit<'e>(
        &mut self, now: Instant, id: Option<u32>, deadline: Instant, request: Cow<'e, [u8]>,
        scratch: &mut Scratch,
    ) -> Option<PeerEvent<'e, W>> {
        self.judge(now, id, deadline, request).unwrap_or_else(|why| {
            self.refuse(now, id, &why, scratch);
            None
        })
    }

    fn judge<'e>(
        &mut self, now: Instant, id: Option<u32>, deadline: Instant, request: Cow<'e, [u8]>,
    ) -> Result<Option<PeerEvent<'e, W>>, Error> {
        let malformed = || Error::bad_request("malformed request");
        let rpc_type = Asked::rpc_type_of(&request).map_err(|_| malformed())?;
        match RpcType::try_from(rpc_type) {
            Ok(RpcType::User) => Ok(Some(PeerEvent::Remote { id, deadline, request })),
            Ok(RpcType::Sys) => {
                let request = Request::decode(&*request).map_err(|_| malformed())?;
                self.arrive(now, id, deadline, request)
            }
            Err(_) => Err(Error::bad_request("invalid rpc type")),
        }
    }

    /// A session of the peer calls.
    fn arrive<'e>(
        &mut self, now: Instant, id: Option<u32>, deadline: Instant, request: Request,
    ) -> Result<Option<PeerEvent<'e, W>>, Error> {
        let (Some(session), Some(msg)) = (request.session, request.msg) else {
            return Err(Error::bad_request("a call without session or message"));
        };
        if !self.link.peer().is_some_and(|peer| peer.frontend) {
            return Err(error::ROUTE_NOT_PUBLIC.into());
        }
        let is_notify = msg.r#type() == MsgType::MsgNotify;
        let kind = if is_notify { RouteKind::Notify } else { RouteKind::Request };
        let Destination::Here(route) = self.routes.find(msg.route.as_bytes(), kind)? else {
            return Err(Error::handler_not_found(&msg.route));
        };
        let options = self.routes.entry(route).options;
        let own = options.deadline.unwrap_or(self.config.conn.limits.call_deadline);
        let options = Options { deadline: Some(own.min(deadline.since(now))), ..options };
        let request_id = id.and_then(|id| NonZeroU64::new(id.into()));
        let ticket = Ticket { bytes: msg.data.len(), options, request: request_id, route };
        let guest = Guest {
            body: msg.data,
            context: Context::decode(&request.metadata),
            snapshot: Snapshot { data: session.data, uid: session.uid },
        };
        let session = SessionId(session.id as u64);
        let mut kept = Some(guest);
        let keep = || kept.take().expect("it is kept once");
        let started = self.guests.arrive(now, session, ticket, keep);
        let start = started.map_err(|Full| {
            self.config.conn.counters.add(Counter::LinkCallsRefused);
            Error::from(error::SERVER_BUSY)
        })?;
        Ok(start.zip(kept).map(|(start, guest)| self.call(session, start, guest)))
    }

    fn call<'e>(&self, session: SessionId, start: Start, guest: Guest) -> PeerEvent<'e, W> {
        self.config.conn.counters.add(Counter::CallsStarted);
        let call = Call {
            body: Cow::Owned(guest.body.into()),
            context: guest.context,
            deadline: start.deadline,
            key: start.key,
            origin: Origin::Client,
            request: start.ticket.request,
            route: start.ticket.route,
        };
        PeerEvent::Call(GuestCall { call, session, snapshot: guest.snapshot })
    }

    fn handle_reply(
        &mut self, now: Instant, session: SessionId, key: CallKey, reply: Result<Bytes, Error>,
        scratch: &mut Scratch,
    ) {
        match self.guests.handle_ended(session, key) {
            Ended::Answers(request) => {
                let id = id_of(request);
                match reply {
                    Ok(data) => {
                        let response = request::encode_reply(&data).into();
                        let lane = Lane::Session(session.number());
                        let reply = LinkCommand::Reply { id, lane, response };
                        self.link.handle_command(now, reply, scratch);
                    }
                    Err(why) => self.refuse(now, Some(id), &why, scratch),
                }
            }
            Ended::Late => self.config.conn.counters.add(Counter::RepliesLate),
            Ended::Notified(_) if reply.is_err() => {
                self.config.conn.counters.add(Counter::NotifiesFailed);
            }
            Ended::Nothing | Ended::Notified(_) => {}
        }
    }

    /// Tells a caller no. One that wants no reply has nobody to tell.
    fn refuse(&mut self, now: Instant, id: Option<u32>, why: &Error, scratch: &mut Scratch) {
        let Some(id) = id else {
            return tracing::debug!(error = ?why.msg, "a call of another server was refused");
        };
        let (lane, response) = (Lane::Alone, refusal(why));
        self.link.handle_command(now, LinkCommand::Reply { id, lane, response }, scratch);
    }

    fn handle_expired(
        &mut self, now: Instant, session: SessionId, expired: Expired, scratch: &mut Scratch,
    ) {
        match expired {
            Expired::TimedOut(ticket, timeout) => {
                self.config.conn.counters.add(Counter::CallsExpired);
                let error = Error::request_timeout(self.routes.name(ticket.route), timeout);
                self.refuse(now, ticket.request.map(id_of), &error, scratch);
            }
            Expired::Abandoned(key, ticket) => {
                self.config.conn.counters.add(Counter::CallsAbandoned);
                let route = self.routes.name(ticket.route);
                tracing::debug!(%route, "a handler reached its hard limit and is dropped");
                self.abandoned.push_back((session, key));
            }
        }
    }

    /// A session of the peer is over: its calls that wait never run. All that are not answered are
    /// now, since both ends count them until they are.
    fn close(&mut self, now: Instant, session: SessionId, scratch: &mut Scratch) {
        for request in self.guests.unanswered(session) {
            let why = error::SESSION_CLOSED.into();
            self.refuse(now, Some(id_of(request)), &why, scratch);
        }
        let abandoned = &mut self.abandoned;
        let dropped = self.guests.close(session, |key| abandoned.push_back((session, key)));
        self.config.conn.counters.add_many(Counter::CallsDropped, dropped as u64);
    }

    /// What has to be known before the owner hears of it.
    fn note(&mut self, now: Instant, event: &LinkEvent<'_, W>, scratch: &mut Scratch) {
        if let LinkEvent::SessionClosed(session) = event {
            self.close(now, SessionId(*session), scratch);
        } else if let LinkEvent::Closed(_) = event {
            let sessions: Vec<_> = self.guests.sessions().collect();
            sessions.into_iter().for_each(|session| self.close(now, session, scratch));
        }
    }
}

impl<W> Machine for Peer<W> {
    type Event<'e> = PeerEvent<'e, W>;
    type Command = PeerCommand<W>;

    fn next<'i: 'e, 'e>(
        &mut self, now: Instant, input: &mut &'i [u8], scratch: &'e mut Scratch,
    ) -> Next<PeerEvent<'e, W>> {
        loop {
            if let Some((session, key)) = self.abandoned.pop_front() {
                return Next::Event(PeerEvent::Abandoned(session, key));
            }
            if let Some((session, start, guest)) = self.guests.poll_start(now) {
                return Next::Event(self.call(session, start, guest));
            }
            let event = match self.link.poll(now, input) {
                // What was read may have been all that was waited for.
                Next::NeedBytes if self.update(now, scratch) => continue,
                Next::NeedBytes => return Next::NeedBytes,
                Next::Paused => return Next::Paused,
                Next::Event(LinkEvent::Call { id, deadline, request }) => {
                    let Some(event) = self.admit(now, id, deadline, request, scratch) else {
                        continue;
                    };
                    event
                }
                Next::Event(event) => {
                    self.note(now, &event, scratch);
                    self.update(now, scratch);
                    PeerEvent::Link(event)
                }
            };
            return Next::Event(event);
        }
    }

    fn handle_command(&mut self, now: Instant, command: PeerCommand<W>, scratch: &mut Scratch) {
        match command {
            PeerCommand::Leave => self.leaves = true,
            PeerCommand::Link(command) => self.link.handle_command(now, command, scratch),
            PeerCommand::Reply(session, key, reply) => {
                self.handle_reply(now, session, key, reply, scratch);
            }
        }
        self.update(now, scratch);
    }

    fn handle_written(&mut self, now: Instant, bytes: usize) {
        self.link.handle_written(now, bytes);
    }

    fn handle_end(&mut self, now: Instant, how: CloseReason) {
        self.link.handle_end(now, how);
    }

    fn handle_timeout(&mut self, now: Instant, scratch: &mut Scratch) {
        self.link.handle_timeout(now, scratch);
        while let Some((session, expired)) = self.guests.poll_expired(now) {
            self.handle_expired(now, session, expired, scratch);
        }
        self.update(now, scratch);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.link.poll_timeout(), self.guests.poll_timeout())
    }

    fn outbox(&mut self) -> &mut Outbox {
        self.link.outbox()
    }

    fn is_finished(&self) -> bool {
        self.link.is_finished() && self.abandoned.is_empty()
    }
}

/// How the link names a request of a session.
fn id_of(request: NonZeroU64) -> u32 {
    u32::try_from(request.get()).expect("it came from a frame")
}

/// The bytes of a response that says no.
pub fn refusal(error: &Error) -> Bytes {
    let Error { code, msg, metadata } = error.clone();
    let error = protos::Error { code: code.into(), msg: msg.into(), metadata };
    Response { error: Some(error), ..Response::default() }.encode_to_vec().into()
}
