//! The close hooks of one session, run one after another once it is over.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pitaya_core::app::OnClose;
use pitaya_core::session::{HostFuture, SessionHandle};
use pitaya_core::{CloseReason, Counter};

use crate::runtime::Runtime;
use crate::server::log::seldom;
use crate::server::shared::Shared;
use crate::timers::Sleep;

/// Ends when every hook has ended, or all their time is over: they have as long as a handler has.
pub(super) struct Closing<R: Runtime> {
    hooks: VecDeque<HostFuture<()>>,
    shared: Arc<Shared<R>>,
    until: Sleep<R>,
}

impl<R: Runtime> Closing<R> {
    /// Ends the session, unless it is over already, and tells every hook; `None` if there is
    /// nothing to wait for. A hook that panics is passed over.
    pub(super) fn begin(
        shared: &Arc<Shared<R>>, session: &SessionHandle, reason: &CloseReason,
    ) -> Option<Self> {
        if !shared.sessions().close(session.id()) {
            return None;
        }
        session.leave_all();
        shared.peers.iter().for_each(|peers| peers.close(shared, session.id()));
        shared.config.counters.add(Counter::SessionsClosed);
        tracing::debug!(session = session.id().number(), %reason, "closed");
        let tell = |hook: &OnClose| {
            let told = catch_unwind(AssertUnwindSafe(|| hook(session.clone(), reason.clone())));
            told.inspect_err(|_| seldom!(shared, error, "a close hook panicked")).ok()
        };
        let hooks = &shared.handlers.hooks.close;
        let hooks: VecDeque<_> = hooks.iter().filter_map(|hook| tell(hook)).collect();
        if hooks.is_empty() {
            return None;
        }
        let (runtime, limit) = (shared.runtime.clone(), shared.config.limits.call_hard_limit);
        let until = Sleep::lasting(&shared.timers, runtime, limit);
        shared.begin_closing();
        Some(Self { hooks, shared: Arc::clone(shared), until })
    }
}

impl<R: Runtime> Drop for Closing<R> {
    fn drop(&mut self) {
        self.shared.end_closing();
    }
}

impl<R: Runtime> Future for Closing<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Pin::new(&mut self.until).poll(cx).is_ready() {
            self.shared.config.counters.add(Counter::CallsAbandoned);
            seldom!(self.shared, error, "a close hook reached the hard limit and is dropped");
            return Poll::Ready(());
        }
        while let Some(hook) = self.hooks.front_mut() {
            match catch_unwind(AssertUnwindSafe(|| hook.as_mut().poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => {}
                Err(_) => seldom!(self.shared, error, "a close hook panicked"),
            }
            self.hooks.pop_front();
        }
        Poll::Ready(())
    }
}
