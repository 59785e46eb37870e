//! Links come to be: those that this server dials, and those that others do.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use pitaya_core::cluster::Peer;
use pitaya_core::{Counter, Rng};

use crate::cluster::network::LinkStream;
use crate::cluster::peers::{Peers, lock};
use crate::cluster::serve::ServePeer;
use crate::cluster::way::Way;
use crate::drive::Drive;
use crate::runtime::Runtime;
use crate::server::Shared;
use crate::timers::{Sleep, before};
use crate::transport::Transport;

/// Takes whoever dials, until the server stops.
pub(super) async fn accept_all<R: Runtime>(shared: Arc<Shared<R>>, peers: Arc<Peers>) {
    while let Some(accepted) = shared.unless_stopped(peers.network.accept()).await {
        let incoming = match accepted {
            Ok(incoming) => incoming,
            Err(error) => {
                return tracing::error!(%error, "no other server can reach this one any more");
            }
        };
        let (shared, peers) = (Arc::clone(&shared), Arc::clone(&peers));
        shared.runtime.clone().spawn(async move {
            let limit = shared.config.limits.link_hello_timeout;
            let until = Sleep::lasting(&shared.timers, shared.runtime.clone(), limit);
            match before(until, incoming).await {
                Some(Ok(stream)) => link(&shared, &peers, stream, 0).await,
                Some(Err(error)) => tracing::debug!(%error, "a server was refused"),
                None => tracing::debug!("a server took too long to say who it is"),
            }
        });
    }
}

/// Dials whoever is hinted at and not linked, until the server stops.
pub(super) async fn dial_all<R: Runtime>(shared: Arc<Shared<R>>, peers: Arc<Peers>) {
    let at_work = Arc::new(Mutex::new(BTreeSet::<SocketAddr>::new()));
    let mut rng = Rng::new(shared.runtime.seed());
    loop {
        let changed = poll_fn(|cx| peers.hints.poll_changed(cx));
        if shared.unless_stopped(changed).await.is_none() {
            return;
        }
        for address in peers.hints.addresses() {
            if !lock(&at_work).insert(address) {
                continue;
            }
            let (shared, peers) = (Arc::clone(&shared), Arc::clone(&peers));
            let (at_work, seed) = (Arc::clone(&at_work), rng.next_u64());
            shared.runtime.clone().spawn(async move {
                let mut rng = Rng::new(seed);
                loop {
                    keep(&shared, &peers, address, &mut rng).await;
                    let mut at_work = lock(&at_work);
                    // Found again meanwhile, it is nobody else who dials it.
                    if shared.stops() || !peers.hints.contains(address) {
                        at_work.remove(&address);
                        return;
                    }
                }
            });
        }
    }
}

/// Keeps a link to whoever is at an address, as long as it is hinted at.
async fn keep<R: Runtime>(
    shared: &Arc<Shared<R>>, peers: &Arc<Peers>, address: SocketAddr, rng: &mut Rng,
) {
    let delay_max = shared.config.limits.link_dial_delay_max;
    let (mut delay, mut heard) = (DELAY_MIN, shared.runtime.now());
    while !shared.stops() && peers.hints.contains(address) {
        if peers.knows(address) {
            heard = shared.runtime.now();
        } else {
            let limit = shared.config.limits.link_hello_timeout;
            let until = Sleep::lasting(&shared.timers, shared.runtime.clone(), limit);
            match before(until, peers.network.dial(address)).await {
                Some(Ok(stream)) => {
                    let began = shared.runtime.now();
                    link(shared, peers, stream, peers.next_dial()).await;
                    heard = shared.runtime.now();
                    // Whoever ends each link at once is not to be asked all the time.
                    if heard.since(began) >= delay_max {
                        delay = DELAY_MIN;
                    }
                }
                Some(Err(error)) => note_failure(shared, address, &error.to_string()),
                None => note_failure(shared, address, "no answer in time"),
            }
        }
        if shared.runtime.now().since(heard) >= GIVE_UP_AFTER {
            peers.heard.lost(address);
        }
        let micros = delay.as_micros() as u64;
        let delayed = Duration::from_micros(micros / 2 + rng.below(micros / 2 + 1));
        let pause = Sleep::lasting(&shared.timers, shared.runtime.clone(), delayed);
        shared.unless_stopped(pause).await;
        delay = (delay * 2).min(delay_max);
    }
}

fn note_failure<R: Runtime>(shared: &Shared<R>, address: SocketAddr, why: &str) {
    shared.config.counters.add(Counter::LinkDialsFailed);
    tracing::debug!(%address, why, "a server cannot be reached");
}

/// Drives a link to its end.
async fn link<R: Runtime>(
    shared: &Arc<Shared<R>>, peers: &Arc<Peers>, stream: LinkStream, dialled: u64,
) {
    let LinkStream { io, proven, remote } = stream;
    let (way, now) = (Way::new(&shared.config.limits), shared.runtime.now());
    let routes = Arc::clone(&shared.handlers.routes);
    let machine = Peer::new(Arc::clone(&peers.config), routes, now, proven, dialled);
    let mailbox = Arc::clone(way.mailbox());
    let (own, all) = (Arc::clone(shared), Arc::clone(peers));
    let serve = ServePeer::new(own, all, way, remote, dialled > 0);
    let drives = shared.drives.of_links(&shared.config.limits);
    let drive = Drive::new(drives, (io, Transport::TCP), (machine, serve), mailbox);
    // Some executors would end with a task that panics.
    if AssertUnwindSafe(drive).catch_unwind().await.is_err() {
        tracing::error!(%remote, "the task of a link panicked; it is closed");
    }
}

/// For how long nobody is there at an address that another server named, before it is forgotten: as
/// long as a machine may take to start anew.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);

/// The first pause before a server is dialled again.
const DELAY_MIN: Duration = Duration::from_millis(50);
