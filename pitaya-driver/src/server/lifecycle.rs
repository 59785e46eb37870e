//! The parts of an application begin one after another, and end the other way round.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use pitaya_core::app::{Part, Step};
use pitaya_core::{Counter, Error};

use crate::runtime::Runtime;
use crate::server::shared::Shared;
use crate::server::start::StartError;
use crate::timers::{Sleep, before};

impl<R: Runtime> Shared<R> {
    /// All parts begin: components, then what belongs to remotes, then modules.
    pub(super) async fn begin_parts(&self) -> Result<(), StartError> {
        let hooks = &self.handlers.hooks;
        self.begin(&[&hooks.components, &hooks.remotes, &hooks.modules]).await
    }

    /// All parts end: modules first.
    pub(super) async fn end_parts(&self) {
        let hooks = &self.handlers.hooks;
        self.end(&[&hooks.modules, &hooks.components, &hooks.remotes]).await;
    }

    /// Begins groups of parts, one group after another: all of a group begin, and then each learns
    /// that all have. If one fails, those that have begun end.
    async fn begin(&self, groups: &[&[Part]]) -> Result<(), StartError> {
        for (at, group) in groups.iter().enumerate() {
            if let Err((begun, error)) = self.begin_group(group).await {
                self.end(&[&group[..begun]]).await;
                let before: Vec<_> = groups[..at].iter().rev().copied().collect();
                self.end(&before).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends groups of parts, one group after another, each in the reverse order of its parts.
    async fn end(&self, groups: &[&[Part]]) {
        for group in groups {
            self.end_group(group).await;
        }
    }

    /// If a part fails: how many have begun all the same, and why.
    async fn begin_group(&self, group: &[Part]) -> Result<(), (usize, StartError)> {
        for step in [Step::Init, Step::AfterInit] {
            for (at, part) in group.iter().enumerate() {
                if let Err(error) = self.take(part, step).await {
                    let begun = if step == Step::Init { at } else { group.len() };
                    let (part, why) = (part.name.clone(), error.to_string());
                    return Err((begun, StartError::Part { part, why }));
                }
            }
        }
        Ok(())
    }

    async fn end_group(&self, group: &[Part]) {
        for step in [Step::BeforeShutdown, Step::Shutdown] {
            for part in group.iter().rev() {
                if let Err(error) = self.take(part, step).await {
                    tracing::error!(part = part.name, ?step, %error, "a part does not end well");
                }
            }
        }
    }

    /// Takes one step, which neither panics nor takes for ever.
    async fn take(&self, part: &Part, step: Step) -> Result<(), Error> {
        tracing::debug!(part = part.name, ?step, "takes a step");
        let timeout = self.config.limits.lifecycle_timeout;
        let until = Sleep::lasting(&self.timers, self.runtime.clone(), timeout);
        match before(until, AssertUnwindSafe(part.take(step)).catch_unwind()).await {
            None => {
                self.config.counters.add(Counter::LifecyclesExpired);
                Err(Error::unknown("it took too long"))
            }
            Some(Err(_)) => Err(Error::unknown("it panicked")),
            Some(Ok(taken)) => taken,
        }
    }
}
