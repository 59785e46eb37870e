//! What a handler holds of a session: values to read, and commands to send.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pitaya_proto::error::{self, Error};
use pitaya_proto::handshake::HandshakeRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thin_vec::ThinVec;

use crate::app::codec::{Encode, Json, encode_push};
use crate::cluster::ClusterHost;
use crate::session::data::json;
use crate::session::group::Joined;
use crate::{CloseReason, Command, ConnConfig, Counter, Instant, SessionData, SessionId};

/// What sessions and contexts ask of whoever runs handlers. Drivers implement it, applications do
/// not.
pub trait Host: Send + Sync {
    /// Binds the session, the application's hooks included.
    fn bind(&self, session: SessionHandle, uid: &str) -> HostFuture<Result<Arc<str>, Error>>;

    /// Carries a command to the session's connection; `false` if the session is closed. Never
    /// waits.
    fn send(&self, command: Command) -> bool;

    /// Whether the session is open.
    fn is_open(&self) -> bool;

    /// What the client said of itself; nothing on a server that it is not connected to.
    fn handshake(&self) -> HandshakeRequest;

    /// The other servers; nothing if there can be none.
    fn cluster(&self) -> Option<&dyn ClusterHost>;

    /// Tells the server that the client is connected to what was changed of the session's data
    /// here: a JSON object, in which what was removed is `null`.
    fn push_to_front(&self, changes: Vec<u8>) -> HostFuture<Result<(), Error>>;

    /// The settings of the server, with its limits and counters.
    fn config(&self) -> &ConnConfig;

    /// The time.
    fn now(&self) -> Instant;

    /// Ends at `until`.
    fn sleep(&self, until: Instant) -> HostFuture<()>;
}

/// What a host does for a handler in its own time.
pub type HostFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The session of the client that called, wherever it is connected, in an application that speaks
/// `C`.
///
/// Cheap to clone. Reading gives what was known when the call began, and what was set since; every
/// change is a command that never waits for the client.
pub struct Session<C = Json>(pub(super) Arc<Shared>, pub(super) PhantomData<fn() -> C>);

/// A session without the codec of its application.
pub type SessionHandle = Session<()>;

pub(super) struct Shared {
    data: Mutex<SessionData>,
    pub(super) host: Arc<dyn Host>,
    id: SessionId,
    pub(super) joined: Mutex<Joined>,
    remote: Option<SocketAddr>,
    pub(super) uid: OnceLock<Arc<str>>,
}

impl<C> Session<C> {
    /// Names the session on the server it is connected to.
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// The same session in an application that speaks `D`.
    pub fn speaking<D>(&self) -> Session<D> {
        Session(Arc::clone(&self.0), PhantomData)
    }

    /// The user id, once the session is bound.
    pub fn uid(&self) -> Option<&str> {
        self.0.uid.get().map(|uid| &**uid)
    }

    /// What the client said of itself, as long as it is connected to this server; nothing
    /// elsewhere. It is put together anew by every call.
    pub fn handshake(&self) -> HandshakeRequest {
        self.0.host.handshake()
    }

    /// Where the client connects from; nothing on a server that it is not connected to.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.0.remote
    }

    /// Binds the session to a user id. A session of that id anywhere else is kicked: the newest
    /// login wins.
    ///
    /// # Errors
    ///
    /// An illegal user id, one that was bound too often (`RATE_EXCEEDED`, with the time to wait as
    /// `wait` in its metadata), a session that is bound already or closed, or what a bind hook
    /// says; nothing has changed then. On a server that the client is not connected to also PIT-503
    /// if its frontend is out of reach, and PIT-408 if that answers late: then it may be bound all
    /// the same.
    pub async fn bind(&self, uid: &str) -> Result<(), Error> {
        let uid = self.0.host.bind(self.speaking(), uid).await?;
        // It is set already if a hook asked for it again; both are the same.
        let _ = self.0.uid.set(uid);
        Ok(())
    }

    /// Sends a push to the client, after all that this handler sent before.
    ///
    /// Nothing is written before the handler waits or ends: more than `outbound_packets_max` pushes
    /// between two `.await`s find no room, and close the session as if its client did not read.
    ///
    /// # Errors
    ///
    /// A value that does not encode, a push that no packet can hold, or a closed session.
    pub fn push<T: 'static>(&self, route: &str, value: &T) -> Result<(), Error>
    where
        C: Encode<T>,
    {
        self.send(Command::Push(route.into(), encode_push::<C, T>(route, value)?.into()))
    }

    /// Kicks the client, which tells it not to come back, and closes the session.
    ///
    /// # Errors
    ///
    /// A closed session.
    pub fn kick(&self, reason: &str) -> Result<(), Error> {
        let text = Some(reason.to_owned()).filter(|text| !text.is_empty());
        self.send(Command::Kick(text.clone(), CloseReason::Kicked(text)))
    }

    /// Closes the session without a kick: the client may come back.
    ///
    /// # Errors
    ///
    /// A closed session.
    pub fn close(&self) -> Result<(), Error> {
        self.send(Command::Close(CloseReason::Closed))
    }

    /// A value that was kept with the session, if it is there and is a `T`.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.data().value(name)
    }

    /// Keeps a value with the session. On a server that the client is not connected to others see
    /// it after [`push_to_front`](Self::push_to_front).
    ///
    /// # Errors
    ///
    /// A value that is no JSON, too much data, or a closed session; nothing has changed then.
    pub fn set(&self, name: &str, value: impl Serialize) -> Result<(), Error> {
        if !self.0.host.is_open() {
            return Err(error::SESSION_CLOSED.into());
        }
        let config = self.0.host.config();
        let value = json(value)?;
        let set = self.data().put(name, &value, config.limits.session_data_bytes_max);
        set.inspect_err(|_| config.counters.add(Counter::SessionDataRefused))
    }

    /// Removes a value. Whether it was there.
    pub fn remove(&self, name: &str) -> bool {
        self.data().remove(name)
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        if self.0.host.send(command) { Ok(()) } else { Err(error::SESSION_CLOSED.into()) }
    }

    pub(super) fn data(&self) -> MutexGuard<'_, SessionData> {
        lock(&self.0.data)
    }
}

impl SessionHandle {
    /// The handle of a session that has just begun. It knows the client's kind of address as
    /// `ipversion`, as every Pitaya session does.
    pub fn new(id: SessionId, remote: SocketAddr, host: Arc<dyn Host>) -> Self {
        let mut data = SessionData::default();
        // A socket for both kinds tells of the old kind inside the new.
        let version = if remote.ip().to_canonical().is_ipv6() { "ipv6" } else { "ipv4" };
        data.set("ipversion", version, usize::MAX).expect("a word is JSON");
        Self::with(id, Some(remote), host, data)
    }

    pub(super) fn with(
        id: SessionId, remote: Option<SocketAddr>, host: Arc<dyn Host>, data: SessionData,
    ) -> Self {
        let (data, joined) = (Mutex::new(data), Mutex::new(Some(ThinVec::new())));
        let shared = Shared { data, host, id, joined, remote, uid: OnceLock::new() };
        Self(Arc::new(shared), PhantomData)
    }

    /// Who runs the handlers of the session.
    pub fn host(&self) -> &Arc<dyn Host> {
        &self.0.host
    }
}

impl<C> Clone for Session<C> {
    fn clone(&self) -> Self {
        self.speaking()
    }
}

impl<C> fmt::Debug for Session<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.0.id).field(&self.0.uid.get()).finish()
    }
}

/// What a panicking handler was changing is whole: every change is one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use crate::session::group::tests::session_with;

    #[test]
    fn too_much_session_data_is_counted_from_wherever_it_comes_and_nothing_else() {
        let limits = Limits::default().session_data_bytes_max(64);
        let session = session_with("ann", &Arc::default(), limits);
        let refused = || session.host().config().counters.count(Counter::SessionDataRefused);
        session.merge(b"[1]").unwrap_err();
        session.set("a", std::collections::BTreeMap::from([((1, 2), 3)])).unwrap_err();
        assert_eq!(refused(), 0, "no JSON");
        session.set("a", "b".repeat(64)).unwrap_err();
        assert_eq!(refused(), 1);
        session.merge(format!(r#"{{"a":{:?}}}"#, "b".repeat(64)).as_bytes()).unwrap_err();
        assert_eq!(refused(), 2);
        assert_eq!(session.get::<String>("a"), None);
    }
}
