//! The thread that owns all that the daemon knows of us, since no other may touch it.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use zeroconf::prelude::*;
use zeroconf::{
    BrowserEvent, EventLoop, MdnsBrowser, MdnsService, NetworkInterface, ServiceDiscovery,
    ServiceRegistration, ServiceType, TxtRecord,
};

use crate::cluster::discovery::Search;
use crate::cluster::discovery::instances::Instances;
use crate::cluster::discovery::record::{Ignored, Record};

/// What the thread works with.
pub(super) struct Owner {
    instances: Instances,
    interface: Option<String>,
    own: Record,
    port: Option<u16>,
    stopped: Arc<AtomicBool>,
}

type Said<T> = Result<T, zeroconf::error::Error>;

/// What came from the daemon.
enum Event {
    Browser(Said<BrowserEvent>),
    Service(Said<ServiceRegistration>),
}

impl Owner {
    pub(super) fn new(
        own: Record, interface: Option<String>, search: Search, stopped: Arc<AtomicBool>,
    ) -> Self {
        let port = search.me().addresses.first().map(SocketAddr::port);
        Self { instances: Instances::new(search), interface, own, port, stopped }
    }

    /// Until it is stopped. Whatever fails, all is dropped and made anew, after a wait that grows
    /// while that does not help.
    pub(super) fn run(mut self) {
        let mut wait = WAIT_MIN;
        while !self.is_stopped() {
            let began = Instant::now();
            if let Err(error) = attempt(|| self.serve()) {
                tracing::warn!(%error, "the daemon of the local network");
            }
            wait = if began.elapsed() > WAIT_MAX { WAIT_MIN } else { wait };
            self.pause(wait);
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    /// Until it is stopped, or something fails.
    fn serve(&mut self) -> Said<()> {
        let interface = self.interface()?;
        let (events, coming) = channel();
        let browser = Browser::open(interface, events.clone())?;
        let mut names = Names::new(self.own.instance());
        let mut service = self.announce(&mut names, interface, &events)?;
        self.instances.clear();
        while !self.is_stopped() {
            hears_safely()?;
            service.iter().try_for_each(|service| service.turns.poll(Duration::ZERO))?;
            browser.turns.poll(TURN)?;
            if self.heed(&coming)? == Heeded::NameTaken {
                // First the one that has no name.
                drop(service.take());
                service = self.announce(&mut names, interface, &events)?;
            }
        }
        Ok(())
    }

    /// Says all that came. There is little at a time: what one turn of each event loop brings.
    fn heed(&mut self, coming: &Receiver<Event>) -> Said<Heeded> {
        let mut heeded = Heeded::All;
        for event in coming.try_iter() {
            match event {
                Event::Browser(Ok(BrowserEvent::Add(found))) => self.found(&found),
                Event::Browser(Ok(BrowserEvent::Remove(gone))) => {
                    self.instances.is_gone(gone.name());
                }
                Event::Browser(Err(error)) if is_about_one(&error) => {
                    tracing::debug!(%error, "ignored");
                }
                Event::Service(Ok(service)) => {
                    tracing::debug!(name = service.name(), "the local network knows us");
                }
                Event::Service(Err(error)) if is_collision(&error) => {
                    heeded = Heeded::NameTaken;
                }
                Event::Browser(Err(error)) | Event::Service(Err(error)) => return Err(error),
            }
        }
        Ok(heeded)
    }

    fn found(&mut self, found: &ServiceDiscovery) {
        match judge(found, &self.own) {
            Ok(address) => drop(self.instances.is_also_at(found.name(), address)),
            Err(Ignored::Own) => {}
            Err(why) => tracing::debug!(name = %found.name().escape_debug(), %why, "ignored"),
        }
    }

    fn announce(
        &self, names: &mut Names, interface: NetworkInterface, events: &Sender<Event>,
    ) -> Said<Option<Service>> {
        let Some(port) = self.port else { return Ok(None) };
        let mut txt = TxtRecord::new();
        self.own.properties().iter().try_for_each(|(key, value)| txt.insert(key, value))?;
        let mut service = MdnsService::new(service_type()?, port);
        service.set_name(&names.next());
        service.set_network_interface(interface);
        service.set_txt_record(txt);
        let events = events.clone();
        // Whoever listened may be gone.
        let tell = move |said, _| drop(events.send(Event::Service(said)));
        service.set_registered_callback(Box::new(tell));
        let turns = service.register()?;
        Ok(Some(Service { _service: service, turns }))
    }

    fn interface(&self) -> Said<NetworkInterface> {
        let Some(name) = &self.interface else { return Ok(NetworkInterface::Unspec) };
        let index = nix::net::if_::if_nametoindex(&**name);
        index.map(NetworkInterface::AtIndex).map_err(|error| format!("{name}: {error}").into())
    }

    fn pause(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while !self.is_stopped() && Instant::now() < until {
            thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

#[derive(Eq, PartialEq)]
enum Heeded {
    All,
    /// Another server of this machine has the name of ours.
    NameTaken,
}

/// Who is there. It goes before its event loop.
struct Browser {
    _browser: MdnsBrowser,
    turns: EventLoop,
}

impl Browser {
    fn open(interface: NetworkInterface, events: Sender<Event>) -> Said<Self> {
        let mut browser = MdnsBrowser::new(service_type()?);
        browser.set_network_interface(interface);
        // Whoever listened may be gone.
        let tell = move |said, _| drop(events.send(Event::Browser(said)));
        browser.set_service_callback(Box::new(tell));
        let turns = browser.browse_services()?;
        Ok(Self { _browser: browser, turns })
    }
}

/// What is told of us. It goes before its event loop.
struct Service {
    _service: MdnsService,
    turns: EventLoop,
}

/// Names of an instance, each for when the one before is taken.
struct Names {
    name: String,
    tried: usize,
}

impl Names {
    fn new(name: String) -> Self {
        Self { name, tried: 0 }
    }

    fn next(&mut self) -> String {
        self.tried += 1;
        match self.tried {
            1 => self.name.clone(),
            number => format!("{} ({number})", self.name),
        }
    }
}

/// Where it is, if it is for us to dial.
fn judge(found: &ServiceDiscovery, own: &Record) -> Result<SocketAddr, Ignored> {
    let txt = found.txt().as_ref().ok_or(Ignored::Malformed)?;
    // Text that is not UTF-8 makes the iterator panic.
    let properties = catch_unwind(AssertUnwindSafe(|| txt.iter().collect::<Vec<_>>()));
    let properties = properties.map_err(|_| Ignored::Malformed)?;
    let bytes = properties.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes()));
    Record::read(bytes)?.is_for(own)?;
    let ip = found.address().parse().map_err(|_| Ignored::Malformed)?;
    Ok(SocketAddr::new(ip, *found.port()))
}

/// What panics is begun anew like what fails.
fn attempt(serve: impl FnOnce() -> Said<()>) -> Said<()> {
    let served = catch_unwind(AssertUnwindSafe(serve));
    served.unwrap_or_else(|_| Err("the thread of the local network panicked".into()))
}

/// Whether no record can end the process. The crate logs each at level DEBUG, and text that is not
/// UTF-8 panics there, between functions of C, where nobody can catch it. Each turn asks, since a
/// level may change at any time.
fn hears_safely() -> Said<()> {
    if log::log_enabled!(target: RESOLVES, log::Level::Debug) {
        return Err(format!("nothing is heard while `{RESOLVES}` logs at level DEBUG").into());
    }
    Ok(())
}

fn service_type() -> Said<ServiceType> {
    ServiceType::new("pitaya", "udp")
}

/// Whether it is an error about one instance only, which anybody in the network can cause. The text
/// is all that there is to tell by.
fn is_about_one(error: &zeroconf::error::Error) -> bool {
    let text = error.to_string();
    text.starts_with("failed to resolve service") || text.contains("AvahiServiceResolver")
}

fn is_collision(error: &zeroconf::error::Error) -> bool {
    error.to_string().contains("collision")
}

/// The part of the crate that logs records.
const RESOLVES: &str = "zeroconf::avahi::browser";
/// How long the thread waits for the daemon each time, and so how late it sees that it is stopped.
const TURN: Duration = Duration::from_millis(100);
/// How long it waits before it begins anew: a daemon that is restarted is there in a second.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_another() {
        let mut names = Names::new("a".to_owned());
        assert_eq!([(); 3].map(|()| names.next()), ["a", "a (2)", "a (3)"]);
    }

    #[test]
    fn what_panics_is_begun_anew_like_what_fails() {
        assert_eq!(attempt(|| Ok(())), Ok(()));
        assert!(attempt(|| panic!("text of a stranger")).is_err());
    }

    #[test]
    fn what_one_instance_causes_is_no_reason_to_begin_anew() {
        let about_one = |text: &str| is_about_one(&text.into());
        assert!(about_one("failed to resolve service `a` of type `b` in domain `c`"));
        assert!(about_one("could not initialize AvahiServiceResolver"));
        assert!(!about_one("Daemon connection failed"));
        assert!(is_collision(&"could not register service: `Local name collision`".into()));
    }
}
