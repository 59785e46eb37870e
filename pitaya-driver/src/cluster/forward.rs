//! From a client's call to the server that answers it.

use std::sync::Arc;

use bytes::Bytes;
use pitaya_core::cluster::{Forward, Kept, Lane, Life, LinkCommand, Routed, Snapshot};
use pitaya_core::session::SessionHandle;
use pitaya_core::{Counter, Error, SessionId};
use pitaya_proto::error;
use pitaya_proto::protos::{MsgType, RpcType, Session};
use pitaya_proto::request::RequestRef;
use pitaya_proto::route::RouteName;

use crate::cluster::peers::Peers;
use crate::cluster::way::{To, Way};
use crate::runtime::Runtime;
use crate::server::{Address, Shared};

/// What the calls of one session to other servers have in common.
#[derive(Default)]
pub(crate) struct Forwarding {
    kept: Kept,
    /// The servers that know of the session, and must hear of its end.
    ways: Vec<(Life, Way)>,
    snapshot: Session,
    /// Which version of the session the snapshot is of, and whether it had a user id.
    taken: Option<(u64, bool)>,
}

impl Forwarding {
    /// Sends a call to the server that is to answer it; its reply goes to `address`.
    pub(crate) fn forward<R: Runtime>(
        &mut self, shared: &Shared<R>, peers: &Peers, session: &SessionHandle, address: &Address,
        call: &Forward<'_>,
    ) -> Result<(), Error> {
        let route = RouteName::of(&call.route)?;
        let kind = route.kind.ok_or(error::SERVER_TYPE_MISSING)?;
        if peers.forwards_to.as_ref().is_some_and(|kinds| !kinds.contains(kind)) {
            return Err(error::ROUTE_NOT_PUBLIC.into());
        }
        let members = peers.members();
        let routed = Routed {
            candidates: members.candidates(kind),
            load: &|id| peers.load(id),
            payload: &call.body,
            route,
            session: Some(session.id()),
            uid: session.uid(),
        };
        let server = peers.router.decide(&routed, &mut self.kept, &mut peers.rng());
        let life = Life::from(&*server.ok_or(error::NO_SERVERS)?);
        let way = self.way(peers, session.id(), life)?;
        let request = Bytes::from(self.request(peers, session, call));
        let (bytes, deadline) = (request.len(), call.deadline);
        let (lane, counters) = (Lane::Session(session.id().number()), &shared.config.counters);
        let is_taken = if let Some(key) = call.key {
            let routes = Arc::clone(&shared.handlers.routes);
            let waiter = way.waiter(To::Player(Arc::clone(address), key, routes));
            way.call(deadline, lane, request, waiter, counters)
        } else {
            way.send(LinkCommand::Notify { deadline, lane, request }, bytes)?;
            true
        };
        counters.add_many(Counter::CallsForwarded, is_taken.into());
        Ok(())
    }

    /// The session is over.
    pub(crate) fn close(&self, session: u64) {
        for (_, way) in &self.ways {
            way.insist(LinkCommand::SessionClosed(session));
        }
    }

    /// The way to that life of a server.
    fn way(&mut self, peers: &Peers, session: SessionId, life: Life) -> Result<Way, Error> {
        self.ways.retain(|(_, way)| way.is_open());
        if let Some((_, way)) = self.ways.iter().find(|(known, _)| *known == life) {
            return Ok(way.clone());
        }
        let way = peers.way(&life).ok_or(error::SERVER_LOST)?;
        peers.lend(session, &life.id);
        self.ways.push((life, way.clone()));
        Ok(way)
    }

    fn request(&mut self, peers: &Peers, session: &SessionHandle, call: &Forward<'_>) -> Vec<u8> {
        let now = (session.version(), session.uid().is_some());
        if self.taken != Some(now) {
            let Snapshot { data, uid } = session.snapshot().0;
            self.snapshot = Session { id: session.id().number() as i64, uid, data };
            self.taken = Some(now);
        }
        let request = RequestRef {
            rpc_type: RpcType::Sys,
            session: Some(&self.snapshot),
            id: call.request.map_or(0, |request| request.get()),
            route: &call.route,
            data: &call.body,
            msg_type: call.request.map_or(MsgType::MsgNotify, |_| MsgType::MsgRequest),
            frontend_id: peers.config.me.id.as_str(),
            metadata: &[],
        };
        request.encode_to_vec()
    }
}
