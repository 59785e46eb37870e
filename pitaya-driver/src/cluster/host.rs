//! What handlers of this server ask of the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use pitaya_core::cluster::{
    ClusterHost, Lane, Life, LinkCommand, Members, RemoteCall, Routed, ServerId, rendezvous,
};
use pitaya_core::session::HostFuture;
use pitaya_core::{Context, Error, SessionId, SessionTable};
use pitaya_proto::error;
use pitaya_proto::link::{FindUsers, FoundUsers, Kick, Push};
use pitaya_proto::protos::{MsgType, RpcType};
use pitaya_proto::request::RequestRef;
use pitaya_proto::route::RouteName;
use prost::Message as _;

use crate::cluster::peers::Peers;
use crate::cluster::sys;
use crate::cluster::way::{To, Way};
use crate::runtime::Runtime;
use crate::server::{Address, Shared};

/// Calls a remote over that link.
pub(super) fn remote<R: Runtime>(
    shared: &Shared<R>, way: &Way, call: &RemoteCall<'_>,
) -> HostFuture<Result<Bytes, Error>> {
    let me = shared.peers.as_ref().map(|peers| &peers.config.me);
    let request = RequestRef {
        rpc_type: RpcType::User,
        session: None,
        id: 0,
        route: call.route,
        data: call.argument,
        msg_type: MsgType::MsgRequest,
        frontend_id: me.filter(|me| me.frontend).map(|me| me.id.as_str()).unwrap_or_default(),
        metadata: &call.context.encode(),
    };
    let (teller, told) = oneshot::channel();
    let waiter = way.waiter(To::Caller(teller));
    let (request, counters) = (request.encode_to_vec().into(), &shared.config.counters);
    way.call(call.deadline, Lane::Alone, request, waiter, counters);
    Box::pin(async move { told.await.unwrap_or_else(|_| Err(error::SERVER_LOST.into())) })
}

impl<R: Runtime> ClusterHost for Shared<R> {
    fn call(
        &self, to: Option<&ServerId>, call: RemoteCall<'_>,
    ) -> HostFuture<Result<Bytes, Error>> {
        let alone = || error::SERVER_NOT_FOUND.into();
        match self.peers.as_ref().ok_or_else(alone).and_then(|peers| choose(peers, to, &call)) {
            Ok(way) => remote(self, &way, &call),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn push(
        &self, kind: &str, uids: Vec<String>, route: Arc<str>, body: Bytes,
    ) -> HostFuture<Result<Vec<String>, Error>> {
        self.tell(kind, uids, move |uids| {
            let (route, body) = (route.to_string(), body.clone());
            Told::Push(Push { route, body, uids, ..Push::default() })
        })
    }

    fn kick(
        &self, kind: &str, uids: Vec<String>, reason: String,
    ) -> HostFuture<Result<Vec<String>, Error>> {
        self.tell(kind, uids, move |uids| {
            Told::Kick(Kick { reason: reason.clone(), uids, ..Kick::default() })
        })
    }

    fn members(&self) -> Option<Arc<Members>> {
        self.peers.as_ref().map(|peers| peers.members())
    }
}

/// What is told to users.
enum Told {
    Kick(Kick),
    Push(Push),
}

/// Where users are: on this server, or on which life of which other one.
#[derive(Default)]
struct Found {
    here: Vec<String>,
    elsewhere: BTreeMap<Life, Vec<String>>,
    missing: Vec<String>,
}

impl<R: Runtime> Shared<R> {
    /// Tells users something wherever they are, one frame for each of their servers; gives those
    /// who are nowhere.
    fn tell(
        &self, kind: &str, uids: Vec<String>, told: impl Fn(Vec<String>) -> Told + Send + 'static,
    ) -> HostFuture<Result<Vec<String>, Error>> {
        let (found, shared) = (self.find(kind, uids), self.me());
        Box::pin(async move {
            let Found { here, elsewhere, missing } = found.await?;
            if !here.is_empty() {
                match told(here) {
                    Told::Kick(kick) => sys::kick(&shared, None, &kick),
                    Told::Push(push) => sys::push(&shared, None, &push),
                }
            }
            for (life, uids) in elsewhere {
                let way = shared.peers.as_ref().and_then(|peers| peers.way(&life));
                let way = way.ok_or(error::SERVER_LOST)?;
                match told(uids) {
                    Told::Kick(kick) => way.send(LinkCommand::Kick(kick), 0)?,
                    Told::Push(push) => {
                        let bytes = push.body.len();
                        way.send(LinkCommand::Push(push), bytes)?;
                    }
                }
            }
            Ok(missing)
        })
    }

    /// Asks the homes of user ids, all at once, where they are.
    fn find(&self, kind: &str, uids: Vec<String>) -> HostFuture<Result<Found, Error>> {
        let mut found = Found::default();
        let Some(peers) = &self.peers else {
            let sessions = self.sessions();
            uids.into_iter().for_each(|uid| found.note_here(uid, &sessions));
            return Box::pin(async { Ok(found) });
        };
        let members = peers.members();
        let me = Life::from(&*peers.config.me);
        let mut asked = BTreeMap::<_, Vec<String>>::new();
        for uid in uids {
            match rendezvous(&uid, members.of_kind(kind)).map(|home| Life::from(&**home)) {
                Some(home) if home == me => {
                    let holder = peers.find(&uid);
                    found.note(&me, uid, holder);
                }
                Some(home) => asked.entry(home).or_default().push(uid),
                None => found.missing.push(uid),
            }
        }
        let ask = |(home, uids): (Life, Vec<String>)| {
            let call = RemoteCall {
                argument: &FindUsers { uids: uids.clone() }.encode_to_vec(),
                context: &Context::default(),
                deadline: self.runtime.now() + self.config.limits.call_deadline,
                route: sys::FIND,
            };
            (uids, peers.way(&home).map(|way| remote(self, &way, &call)))
        };
        let asked: Vec<_> = asked.into_iter().map(ask).collect();
        Box::pin(async move {
            for (uids, answer) in asked {
                let answer = answer.ok_or(error::SERVER_LOST)?.await?;
                let answer = FoundUsers::decode(&*answer);
                let answer = answer.map_err(|_| Error::unknown("malformed answer"))?;
                let mut holders = answer.users.into_iter().map(sys::holder);
                for uid in uids {
                    found.note(&me, uid, holders.next().flatten());
                }
            }
            Ok(found)
        })
    }
}

/// The server that gets a call.
fn choose(peers: &Peers, to: Option<&ServerId>, call: &RemoteCall<'_>) -> Result<Way, Error> {
    let (members, me) = (peers.members(), &peers.config.me);
    let server = match to {
        Some(id) if *id == me.id => return Err(error::CALL_TO_SELF.into()),
        Some(id) => members.by_id(id).cloned().ok_or(error::SERVER_NOT_FOUND)?,
        None => {
            let route = RouteName::of(call.route)?;
            let kind = route.kind.ok_or(error::SERVER_TYPE_MISSING)?;
            if *kind == *me.kind {
                return Err(error::CALL_TO_SELF.into());
            }
            let routed = Routed {
                candidates: members.candidates(kind),
                load: &|id| peers.load(id),
                payload: call.argument,
                route,
                session: None,
                uid: None,
            };
            let server = peers.router.decide_alone(&routed, &mut peers.rng());
            server.ok_or(error::NO_SERVERS)?
        }
    };
    Ok(peers.way(&Life::from(&*server)).ok_or(error::SERVER_LOST)?)
}

impl Found {
    fn note(&mut self, me: &Life, uid: String, holder: Option<(Life, SessionId)>) {
        match holder {
            Some((life, _)) if life == *me => self.here.push(uid),
            Some((life, _)) => self.elsewhere.entry(life).or_default().push(uid),
            None => self.missing.push(uid),
        }
    }

    /// On a server that is alone.
    fn note_here(&mut self, uid: String, sessions: &SessionTable<Address>) {
        let found = sessions.by_uid(&uid).map_or(&mut self.missing, |_| &mut self.here);
        found.push(uid);
    }
}
