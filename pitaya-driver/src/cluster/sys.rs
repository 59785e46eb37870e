//! What every server does for every other one.

use std::sync::Arc;

use bytes::Bytes;
use pitaya_core::cluster::{Incarnation, Life, ServerId};
use pitaya_core::session::{HostFuture, SessionHandle};
use pitaya_core::{Broadcast, CloseReason, Command, Counter, Error, SessionId};
use pitaya_proto::error;
use pitaya_proto::link::{FindUsers, FoundUser, FoundUsers, Kick, Push};
use pitaya_proto::protos::{KickAnswer, KickMsg, Response, Session};
use prost::Message;

use crate::mailbox::Sent;
use crate::runtime::Runtime;
use crate::server::{Address, Shared, seldom};

/// Binds a session of this server.
pub(super) const BIND: &str = "sys.bindsession";
/// Says where the users are whose home this server is.
pub(super) const FIND: &str = "sys.findusers";
/// Kicks a user of this server.
pub(super) const KICK: &str = "sys.kick";
/// Takes what was changed of the data of a session of this server.
pub(super) const PUSH_SESSION: &str = "sys.pushsession";

/// Does what another server asks; `None` if there is no such thing.
pub(super) fn call<R: Runtime>(
    shared: &Arc<Shared<R>>, from: &ServerId, route: &str, argument: &[u8],
) -> Option<HostFuture<Result<Bytes, Error>>> {
    Some(match route {
        BIND => bind(shared, from, argument),
        FIND => now(find(shared, argument)),
        KICK => now(kick_user(shared, argument)),
        PUSH_SESSION => now(push_session(shared, from, argument)),
        _ => return None,
    })
}

fn now(result: Result<Bytes, Error>) -> HostFuture<Result<Bytes, Error>> {
    Box::pin(async { result })
}

fn bind<R: Runtime>(
    shared: &Arc<Shared<R>>, from: &ServerId, argument: &[u8],
) -> HostFuture<Result<Bytes, Error>> {
    let found = decode::<Session>(argument).and_then(|asked| {
        let session = lent(shared, from, SessionId::new(asked.id as u64));
        Ok((session.ok_or(error::SESSION_NOT_FOUND)?, asked.uid))
    });
    Box::pin(async move {
        let (session, uid) = found?;
        session.bind(&uid).await?;
        Ok(ack())
    })
}

fn push_session<R: Runtime>(
    shared: &Shared<R>, from: &ServerId, argument: &[u8],
) -> Result<Bytes, Error> {
    let asked = decode::<Session>(argument)?;
    let session = lent(shared, from, SessionId::new(asked.id as u64));
    session.ok_or(error::SESSION_NOT_FOUND)?.merge(&asked.data)?;
    Ok(ack())
}

fn kick_user<R: Runtime>(shared: &Shared<R>, argument: &[u8]) -> Result<Bytes, Error> {
    let asked = decode::<KickMsg>(argument)?;
    shared.kick(&asked.user_id, "")?;
    Ok(KickAnswer { kicked: true }.encode_to_vec().into())
}

fn find<R: Runtime>(shared: &Shared<R>, argument: &[u8]) -> Result<Bytes, Error> {
    let asked = decode::<FindUsers>(argument)?;
    let peers = shared.peers.as_ref().ok_or(error::SERVER_NOT_FOUND)?;
    let found = asked.uids.iter().map(|uid| {
        let Some((life, session)) = peers.find(uid) else { return FoundUser::default() };
        FoundUser {
            server: life.id.to_string(),
            incarnation: life.incarnation.number(),
            session: session.number(),
        }
    });
    Ok(FoundUsers { users: found.collect() }.encode_to_vec().into())
}

/// Where a user is, as its home says.
pub(super) fn holder(found: FoundUser) -> Option<(Life, SessionId)> {
    let (id, incarnation) = (ServerId::new(&found.server)?, Incarnation::new(found.incarnation));
    Some((Life { id, incarnation }, SessionId::new(found.session)))
}

/// A session of this server that has called that one, which may act for it from then on. Others
/// have no more right to it than strangers.
fn lent<R: Runtime>(
    shared: &Shared<R>, to: &ServerId, session: SessionId,
) -> Option<SessionHandle> {
    let (session, is_lent) = shared.peers.as_ref().and_then(|peers| peers.lent(session, to))?;
    if !is_lent {
        shared.config.counters.add(Counter::LinkFramesForbidden);
        seldom!(shared, warn, "a server acts for a session that has not called it", %to);
    }
    is_lent.then_some(session)
}

/// Tells users and sessions of this server something; encoded once if there are several. Another
/// server may do so to users, and to sessions that have called it.
pub(super) fn push<R: Runtime>(shared: &Shared<R>, from: Option<&ServerId>, push: &Push) {
    let broadcast = Arc::new(Broadcast::new(&*push.route, push.body.clone()));
    for address in addresses(shared, from, &push.sessions, &push.uids) {
        let command = Command::Broadcast(Arc::clone(&broadcast));
        if address.send(command, push.body.len()) == Sent::Full {
            shared.config.counters.add(Counter::PushesRefused);
            // Closed already is as good.
            let _ = address.send_last(Command::Close(CloseReason::OutboxFull));
        }
    }
}

/// Kicks users and sessions of this server.
pub(super) fn kick<R: Runtime>(shared: &Shared<R>, from: Option<&ServerId>, kick: &Kick) {
    let text = Some(kick.reason.clone()).filter(|text| !text.is_empty());
    for address in addresses(shared, from, &kick.sessions, &kick.uids) {
        let command = if kick.plain {
            Command::Close(CloseReason::Closed)
        } else {
            Command::Kick(text.clone(), CloseReason::Kicked(text.clone()))
        };
        // A session that closes at this moment needs no kick.
        let _ = address.send_last(command);
    }
}

/// Those of them that are here.
fn addresses<R: Runtime>(
    shared: &Shared<R>, from: Option<&ServerId>, ids: &[u64], uids: &[String],
) -> Vec<Address> {
    let may = |id: &SessionId| from.is_none_or(|from| lent(shared, from, *id).is_some());
    let ids: Vec<_> = ids.iter().map(|id| SessionId::new(*id)).filter(may).collect();
    let sessions = shared.sessions();
    let by_uid = uids.iter().filter_map(|uid| sessions.by_uid(uid));
    let ids = ids.into_iter().chain(by_uid);
    ids.filter_map(|id| sessions.address(id).cloned()).collect()
}

fn decode<T: Message + Default>(argument: &[u8]) -> Result<T, Error> {
    T::decode(argument).map_err(|why| Error::bad_request(why.to_string()))
}

/// What Pitaya answers where there is nothing to say.
fn ack() -> Bytes {
    Response { data: Bytes::from_static(b"ack"), error: None }.encode_to_vec().into()
}
