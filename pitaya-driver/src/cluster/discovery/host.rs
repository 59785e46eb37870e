//! What a discovery asks of the runtime, for every runtime.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pitaya_core::session::HostFuture;

use crate::cluster::discovery::SearchHost;
use crate::runtime::Runtime;
use crate::timers::{Sleep, Timers};

/// The resolver of a runtime, and the timers that a server has on it.
#[derive(Clone, Debug)]
pub struct RuntimeHost<R> {
    runtime: R,
    timers: Arc<Timers>,
}

impl<R: Runtime> RuntimeHost<R> {
    /// Asks `runtime`, and waits by `timers`, which run on it.
    pub fn new(runtime: R, timers: Arc<Timers>) -> Self {
        Self { runtime, timers }
    }
}

impl<R: Runtime> SearchHost for RuntimeHost<R> {
    fn resolve(&self, host: &str, port: u16) -> HostFuture<io::Result<Vec<SocketAddr>>> {
        let (runtime, host) = (self.runtime.clone(), host.to_owned());
        Box::pin(async move { runtime.resolve(&host, port).await })
    }

    fn sleep(&self, duration: Duration) -> HostFuture<()> {
        Box::pin(Sleep::lasting(&self.timers, self.runtime.clone(), duration))
    }
}
