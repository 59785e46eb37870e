//! What servers ask each other: remotes, which other servers call, and what handlers hold to call
//! them, and to reach users wherever they are.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use pitaya_proto::error::{self, Error};

use super::{ClusterHost, Members, RemoteCall, ServerId};
use crate::app::codec::{Codec, Decode, Encode, Json, Protobuf, encode_push};
use crate::app::{App, Ctx, FromCall, Handler, IntoReply, Scope};
use crate::session::Host;
use crate::{Call, Context, RouteEntry, Visibility};

impl<S: Send + Sync + 'static, C: Codec> App<S, C> {
    /// Adds a remote: other servers call it, and no client does. It speaks Protobuf, whatever the
    /// application speaks with its clients, and has no session; its calls run beside each other.
    ///
    /// ```
    /// use pitaya_core::{App, Error, Payload};
    ///
    /// #[derive(Clone, PartialEq, prost::Message)]
    /// struct Score {
    ///     #[prost(int64, tag = "1")]
    ///     points: i64,
    /// }
    ///
    /// async fn double(Payload(score): Payload<Score>) -> Result<Score, Error> {
    ///     Ok(Score { points: score.points * 2 })
    /// }
    ///
    /// let app = App::new(()).remote("scores.double", double);
    /// ```
    #[track_caller]
    pub fn remote<Args, H>(self, route: &str, handler: H) -> Self
    where
        Args: FromCall<S, Protobuf>,
        H: Handler<Args, Future: Send, Output: IntoReply<Protobuf>>,
    {
        let entry = RouteEntry::request(self.name(route));
        let entry = RouteEntry { visibility: Visibility::Internal, ..entry };
        self.add::<Protobuf, _, _>(entry, handler, |output| {
            IntoReply::<Protobuf>::into_reply(output)
        })
    }
}

impl Ctx {
    /// Calls a remote of another server, such as `score.scores.add`: of any server of the kind
    /// `score`, as the routing rule of that kind says. What travels with this call travels with
    /// that one, which has as much time as this one has left.
    ///
    /// # Errors
    ///
    /// What the remote answers; PIT-408 if it did not in time, PIT-500 if there is no server of the
    /// kind, PIT-503 if it is lost or has too much to do. In the last case it may have run.
    pub async fn rpc<A, T>(&self, route: &str, argument: &A) -> Result<T, Error>
    where
        A: prost::Message,
        T: prost::Message + Default,
    {
        self.call(None, route, argument).await
    }

    /// Calls a remote of that server.
    ///
    /// # Errors
    ///
    /// As [`rpc`](Self::rpc), or there is no such server.
    pub async fn rpc_to<A, T>(&self, to: &ServerId, route: &str, argument: &A) -> Result<T, Error>
    where
        A: prost::Message,
        T: prost::Message + Default,
    {
        self.call(Some(to), route, argument).await
    }

    /// The live servers; nothing on a server that is alone.
    pub fn servers(&self) -> Option<Arc<Members>> {
        self.host.cluster()?.members()
    }

    async fn call<A, T>(&self, to: Option<&ServerId>, route: &str, arg: &A) -> Result<T, Error>
    where
        A: prost::Message,
        T: prost::Message + Default,
    {
        let called = {
            let (argument, context) = (&*arg.encode_to_vec(), &self.context);
            let call = RemoteCall { argument, context, deadline: self.deadline, route };
            cluster(&*self.host)?.call(to, call)
        };
        Protobuf::decode(&called.await?)
    }
}

/// The users of the cluster, wherever they are connected, in an application that speaks `C`: what a
/// handler asks for as an argument.
///
/// ```
/// use pitaya_core::{Error, Payload, cluster::Users};
///
/// async fn shout(users: Users, Payload(text): Payload<String>) -> Result<(), Error> {
///     let missing = users.push("gate", ["ann", "bob"], "onShout", &text).await?;
///     println!("{missing:?} are not there");
///     Ok(())
/// }
/// ```
pub struct Users<C = Json>(Arc<dyn Host>, PhantomData<fn() -> C>);

impl<C> Users<C> {
    /// Sends a push to users who are connected to frontends of a kind; gives those who are nowhere.
    /// The value is encoded once, and each frontend gets one frame.
    ///
    /// Pushes that one sender waits for arrive in their order, as long as a user stays where it is.
    ///
    /// # Errors
    ///
    /// A value that does not encode, a push that no packet can hold, or a server that has to be
    /// asked and is out of reach; some may have got it then.
    pub async fn push<T: 'static, U: Into<String>>(
        &self, kind: &str, uids: impl IntoIterator<Item = U>, route: &str, value: &T,
    ) -> Result<Vec<String>, Error>
    where
        C: Encode<T>,
    {
        let body: Bytes = encode_push::<C, T>(route, value)?.into();
        let uids = uids.into_iter().map(Into::into).collect();
        let pushed = cluster(&*self.0)?.push(kind, uids, route.into(), body);
        pushed.await
    }

    /// Kicks users who are connected to frontends of a kind; gives those who are nowhere.
    ///
    /// # Errors
    ///
    /// A server that has to be asked is out of reach; some may be kicked then.
    pub async fn kick<U: Into<String>>(
        &self, kind: &str, uids: impl IntoIterator<Item = U>, reason: &str,
    ) -> Result<Vec<String>, Error> {
        let uids = uids.into_iter().map(Into::into).collect();
        let kicked = cluster(&*self.0)?.kick(kind, uids, reason.to_owned());
        kicked.await
    }
}

impl<S, C> FromCall<S, C> for Users<C> {
    fn from_call(_: &Call<'_>, scope: &Scope<'_>, _: &S) -> Result<Self, Error> {
        Ok(Self(Arc::clone(scope.host), PhantomData))
    }
}

impl<C> fmt::Debug for Users<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Users")
    }
}

impl Context {
    /// Reads what [`encode`](Self::encode) wrote. What is no JSON object is no context.
    pub fn decode(bytes: &[u8]) -> Self {
        let any = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self(any.and_then(|bytes| serde_json::from_slice(bytes).ok()).map(Arc::new))
    }

    /// The JSON object that travels between servers; nothing at all if there are no values.
    pub fn encode(&self) -> Vec<u8> {
        let encoded = self.0.as_ref().map(|values| serde_json::to_vec(&**values));
        encoded.map(|json| json.expect("JSON values are JSON")).unwrap_or_default()
    }
}

fn cluster(host: &dyn Host) -> Result<&dyn ClusterHost, Error> {
    Ok(host.cluster().ok_or(error::SERVER_NOT_FOUND)?)
}
