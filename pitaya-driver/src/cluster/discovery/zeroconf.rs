//! Servers in the local network, by the daemon of the system: Avahi, or Bonjour.

mod owner;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

use futures_channel::oneshot;
use pitaya_core::session::HostFuture;

use crate::cluster::discovery::record::Record;
use crate::cluster::discovery::{Discovery, Search};
use owner::Owner;

/// Servers of a cluster that are in the same local network, for machines on which the daemon of the
/// system is to do the multicast. It finds those that `Mdns` announces, and is found by it.
///
/// It tells where this server is: the addresses of its machine, which the daemon knows, with the
/// port of the first address of the server. When the daemon ends, what it said stays; when it is
/// there again, all is told and asked again.
///
/// # Licence
///
/// The feature `zeroconf` links the crate `avahi-sys`, which is LGPL-3.0, statically, and the
/// libraries of Avahi. Whoever distributes a program with it has to keep to that licence.
///
/// # A forged record
///
/// The crate `zeroconf` panics at a TXT record with text that is not UTF-8; Avahi itself refuses
/// such a name of a server. Here that panic is caught and the record ignored, after the message of
/// the panic, and whatever else panics is begun anew as if the daemon had ended.
///
/// Where the crate logs at level DEBUG, or TRACE, nobody could catch it, and it would end the
/// process: there nothing is announced and nothing heard, and a warning says so, until
/// `zeroconf::avahi::browser` logs less. Nobody can either in a program that aborts when it panics:
/// it ends at such a record. There use `Mdns`, unless the network is trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zeroconf {
    cluster: String,
    interface: Option<String>,
}

impl Zeroconf {
    /// Finds the servers that name the same cluster, on all interfaces that the daemon uses.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), interface: None }
    }

    /// Uses no other interface than that of this name.
    #[must_use]
    pub fn on_interface(self, name: impl Into<String>) -> Self {
        Self { interface: Some(name.into()), ..self }
    }
}

impl Discovery for Zeroconf {
    fn run(self: Box<Self>, search: Search) -> HostFuture<()> {
        Box::pin(async move {
            let own = match Record::new(&self.cluster, search.me()) {
                Ok(own) => own,
                Err(error) => return tracing::error!(%error, "no record can be announced"),
            };
            let stopped = Arc::new(AtomicBool::new(false));
            let owner = Owner::new(own, self.interface, search, Arc::clone(&stopped));
            let (running, ended) = oneshot::channel::<()>();
            let thread = thread::Builder::new().name("pitaya-zeroconf".to_owned()).spawn(|| {
                let _running = running;
                owner.run();
            });
            match thread {
                Ok(thread) => {
                    let _stop = Stop { stopped, thread: thread.thread().clone() };
                    // Nothing is ever sent: this waits for the end, which comes once it is stopped.
                    let _ = ended.await;
                    tracing::error!("the thread for the local network has ended");
                }
                Err(error) => tracing::error!(%error, "no thread can be had"),
            }
        })
    }
}

/// Ends the thread, which then says goodbye, soon.
struct Stop {
    stopped: Arc<AtomicBool>,
    thread: Thread,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}
