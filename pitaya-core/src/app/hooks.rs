//! What an application wants to be asked and told about its sessions.

use std::sync::Arc;

use pitaya_proto::error::Error;

use crate::CloseReason;
use crate::app::lifecycle::Part;
use crate::session::{HostFuture, SessionHandle};

/// The hooks of an application, in the order of their addition.
#[derive(Default)]
pub struct Hooks {
    /// Asked before a session is bound, one after another; the first error refuses the bind.
    pub bind: Vec<Box<OnBind>>,
    /// Told that a session is over, one after another.
    pub close: Vec<Box<OnClose>>,
    /// What begins and ends with the handlers.
    pub components: Vec<Part>,
    /// What the server has beside its application: it begins last, and ends first.
    pub modules: Vec<Part>,
    /// What begins after the components, and ends after them, with the remotes.
    pub remotes: Vec<Part>,
}

/// Asked whether a session may be bound to a user id.
pub type OnBind = dyn Fn(SessionHandle, Arc<str>) -> HostFuture<Result<(), Error>> + Send + Sync;

/// Told why a session is over.
pub type OnClose = dyn Fn(SessionHandle, CloseReason) -> HostFuture<()> + Send + Sync;
