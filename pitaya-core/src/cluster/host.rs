//! What handlers ask of the other servers.

use std::sync::Arc;

use bytes::Bytes;
use pitaya_proto::error::Error;

use super::{Members, ServerId};
use crate::session::HostFuture;
use crate::{Context, Instant};

/// The other servers, as handlers use them. Drivers implement it, applications do not.
pub trait ClusterHost: Send + Sync {
    /// Calls a remote of another server: of that one, or of any of the kind that the route names.
    fn call(&self, to: Option<&ServerId>, call: RemoteCall<'_>)
    -> HostFuture<Result<Bytes, Error>>;

    /// Sends a push to users of frontends of a kind, wherever they are connected; gives those who
    /// are nowhere.
    fn push(
        &self, kind: &str, uids: Vec<String>, route: Arc<str>, body: Bytes,
    ) -> HostFuture<Result<Vec<String>, Error>>;

    /// Kicks users of frontends of a kind, wherever they are connected; gives those who are
    /// nowhere.
    fn kick(
        &self, kind: &str, uids: Vec<String>, reason: String,
    ) -> HostFuture<Result<Vec<String>, Error>>;

    /// The live servers; nothing on a server that is alone.
    fn members(&self) -> Option<Arc<Members>>;
}

/// A call between servers.
#[derive(Clone, Copy, Debug)]
pub struct RemoteCall<'a> {
    /// The argument, encoded.
    pub argument: &'a [u8],
    /// What travels with it.
    pub context: &'a Context,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// `kind.service.method`.
    pub route: &'a str,
}
