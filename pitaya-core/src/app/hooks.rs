//! What an application wants to be asked and told about its sessions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pitaya_proto::error::Error;

use crate::CloseReason;
use crate::session::{HostFuture, SessionHandle};

/// The hooks of an application, in the order of their addition.
#[derive(Default)]
pub struct Hooks {
    pub(crate) bind: Vec<Box<OnBind>>,
    pub(crate) close: Vec<Box<OnClose>>,
}

type OnBind = dyn Fn(SessionHandle, Arc<str>) -> HostFuture<Result<(), Error>> + Send + Sync;
type OnClose = dyn Fn(SessionHandle, CloseReason) -> HostFuture<()> + Send + Sync;

impl Hooks {
    /// Asks every bind hook, one after another.
    ///
    /// # Errors
    ///
    /// What the first of them says that refuses.
    pub async fn bind(&self, session: &SessionHandle, uid: &Arc<str>) -> Result<(), Error> {
        for hook in &self.bind {
            hook(session.clone(), Arc::clone(uid)).await?;
        }
        Ok(())
    }

    /// Tells every close hook; the futures are theirs, to be run one after another. A hook that
    /// panics is passed over.
    pub fn closed(&self, session: &SessionHandle, reason: &CloseReason) -> Vec<HostFuture<()>> {
        let tell = |hook: &OnClose| {
            let told = catch_unwind(AssertUnwindSafe(|| hook(session.clone(), reason.clone())));
            told.inspect_err(|_| tracing::error!("a close hook panicked")).ok()
        };
        self.close.iter().filter_map(|hook| tell(hook)).collect()
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}
