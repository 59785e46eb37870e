//! Servers in the local network, by multicast, without a daemon of the system.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use mdns_sd::{
    DaemonEvent, IfKind, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent,
    ServiceInfo,
};
use pitaya_core::session::HostFuture;

use crate::cluster::discovery::instances::Instances;
use crate::cluster::discovery::record::{Ignored, Record, SERVICE};
use crate::cluster::discovery::{Discovery, Search};
use crate::timers::before;

/// Servers of a cluster that are in the same local network: for development, and for networks whose
/// hosts are trusted not to flood it. What is heard is only a hint; who a server is its link shows.
///
/// It tells where this server is: its addresses that have the port of the first one. One thread
/// does the work. When the discovery is dropped it says goodbye, for which it waits a little.
///
/// Even one that is restricted to some interfaces joins the multicast group on all of them as it
/// starts, before it leaves those that it is not to use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mdns {
    cluster: String,
    interfaces: Vec<String>,
}

impl Mdns {
    /// Finds the servers that name the same cluster, on all interfaces.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), interfaces: Vec::new() }
    }

    /// Uses the interface of that name, and no other but those that are named so too.
    #[must_use]
    pub fn on_interface(mut self, name: impl Into<String>) -> Self {
        self.interfaces.push(name.into());
        self
    }
}

impl Discovery for Mdns {
    fn run(self: Box<Self>, search: Search) -> HostFuture<()> {
        Box::pin(async move {
            let own = match Record::new(&self.cluster, search.me()) {
                Ok(own) => own,
                Err(error) => return tracing::error!(%error, "no record can be announced"),
            };
            let mut instances = Instances::new(search.clone());
            loop {
                let daemon = Daemon::start(&self.interfaces, &own, &search.me().addresses);
                let error = match daemon {
                    Ok(daemon) => daemon.listen(&own, &search, &mut instances).await,
                    Err(error) => error,
                };
                tracing::warn!(%error, "the local network is not searched");
                search.sleep(PAUSE).await;
            }
        })
    }
}

/// The thread that speaks with the network.
struct Daemon {
    daemon: ServiceDaemon,
    troubles: Receiver<DaemonEvent>,
}

impl Daemon {
    fn start(
        interfaces: &[String], own: &Record, addresses: &[SocketAddr],
    ) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        let started = announce(&daemon, interfaces, own, addresses);
        let troubles = started.inspect_err(|_| say_goodbye(&daemon))?;
        Ok(Self { daemon, troubles })
    }

    /// Searches, and begins the search anew whenever it has to, until the thread is gone.
    async fn listen(
        self, own: &Record, search: &Search, instances: &mut Instances,
    ) -> mdns_sd::Error {
        loop {
            if let Err(error) = self.search(own, search, instances).await {
                return error;
            }
            search.sleep(PAUSE).await;
        }
    }

    /// Ends when more came than was read, or so much that was not kept that the cache of the
    /// thread, which has no bound, is to be emptied.
    async fn search(
        &self, own: &Record, search: &Search, instances: &mut Instances,
    ) -> Result<(), mdns_sd::Error> {
        let events = self.daemon.browse(SERVICE)?;
        instances.clear();
        let mut ignored = 0;
        while ignored < IGNORED_MAX {
            match before(search.sleep(LOOK), events.recv_async()).await {
                Some(Ok(event)) => ignored += usize::from(!heed(event, own, instances)),
                Some(Err(_)) => break,
                None => {}
            }
            self.troubles.try_iter().for_each(log);
        }
        tracing::warn!(ignored, "more is said in the local network than is kept: searching anew");
        self.daemon.stop_browse(SERVICE)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        say_goodbye(&self.daemon);
    }
}

fn announce(
    daemon: &ServiceDaemon, interfaces: &[String], own: &Record, addresses: &[SocketAddr],
) -> Result<Receiver<DaemonEvent>, mdns_sd::Error> {
    let troubles = daemon.monitor()?;
    if !interfaces.is_empty() {
        daemon.disable_interface(IfKind::All)?;
        let named: Vec<_> = interfaces.iter().cloned().map(IfKind::Name).collect();
        daemon.enable_interface(named)?;
    }
    if let Some(info) = announcement(own, addresses)? {
        daemon.register(info)?;
    }
    Ok(troubles)
}

/// What the network is told, unless there is no address to tell.
fn announcement(
    own: &Record, addresses: &[SocketAddr],
) -> Result<Option<ServiceInfo>, mdns_sd::Error> {
    let Some(port) = addresses.first().map(SocketAddr::port) else { return Ok(None) };
    let at_port = addresses.iter().filter(|address| address.port() == port);
    let ips: Vec<IpAddr> = at_port.map(SocketAddr::ip).collect();
    let (instance, properties) = (own.instance(), own.properties());
    let host = host_of(own);
    let info = ServiceInfo::new(SERVICE, &instance, &host, &ips[..], port, &properties[..])?;
    Ok(Some(info))
}

/// A host of its own for each server, since two of a machine may have different addresses.
fn host_of(own: &Record) -> String {
    let mut hasher = DefaultHasher::new();
    (own.cluster(), own.id()).hash(&mut hasher);
    format!("pitaya-{:016x}.local.", hasher.finish())
}

/// Whether it was about a server that is kept.
fn heed(event: ServiceEvent, own: &Record, instances: &mut Instances) -> bool {
    match event {
        ServiceEvent::ServiceResolved(service) => match judge(&service, own) {
            Ok(()) => instances.is_at(&service.fullname, &addresses_of(&service)),
            Err(Ignored::Own) => true,
            Err(why) => {
                tracing::debug!(name = %service.fullname.escape_debug(), %why, "ignored");
                // What it was before it is no longer.
                instances.is_gone(&service.fullname);
                false
            }
        },
        ServiceEvent::ServiceRemoved(_, name) => {
            instances.is_gone(&name);
            true
        }
        ServiceEvent::SearchStarted(_) | ServiceEvent::SearchStopped(_) => true,
        // What is found and not resolved is in the cache too.
        ServiceEvent::ServiceFound(..) | _ => false,
    }
}

fn judge(service: &ResolvedService, own: &Record) -> Result<(), Ignored> {
    let properties = service.get_properties().iter();
    let properties = properties.filter_map(|property| Some((property.key(), property.val()?)));
    Record::read(properties.map(|(key, value)| (key.as_bytes(), value)))?.is_for(own)
}

fn addresses_of(service: &ResolvedService) -> Vec<SocketAddr> {
    service.addresses.iter().map(|ip| address_of(ip, service.port)).collect()
}

fn address_of(ip: &ScopedIp, port: u16) -> SocketAddr {
    // The same address of a link is another on each interface.
    if let ScopedIp::V6(ip) = ip
        && ip.addr().is_unicast_link_local()
    {
        return SocketAddrV6::new(*ip.addr(), port, 0, ip.scope_id().index).into();
    }
    SocketAddr::new(ip.to_ip_addr(), port)
}

fn log(event: DaemonEvent) {
    if let DaemonEvent::Error(error) = event {
        tracing::warn!(%error, "the local network");
    } else {
        tracing::debug!(?event, "the local network");
    }
}

/// The thread says goodbye and ends, which takes it no time worth mentioning.
fn say_goodbye(daemon: &ServiceDaemon) {
    match daemon.shutdown() {
        // It ends even if it is not waited for.
        Ok(ended) => drop(ended.recv_timeout(GOODBYE_TIME_MAX)),
        Err(error) => tracing::debug!(%error, "no goodbye was said"),
    }
}

/// Before a search begins anew, so that a flood is not listened to all the time.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked for troubles while nothing comes.
const LOOK: Duration = Duration::from_secs(5);
/// How long the task that drops a discovery is held up at most.
const GOODBYE_TIME_MAX: Duration = Duration::from_millis(200);
/// Records that are not kept before the cache is emptied: many times what a cluster has, and few
/// megabytes.
const IGNORED_MAX: usize = 8192;
