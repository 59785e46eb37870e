//! What was heard in a local network: the addresses of each instance, by its name.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::cluster::discovery::{HINTS_MAX, Search};

/// Instances and their addresses. An address is a hint as long as one of them has it, so whoever
/// says that it is not there any more takes nothing from another.
pub(super) struct Instances {
    addresses: BTreeMap<SocketAddr, usize>,
    instances: BTreeMap<String, Instance>,
    search: Search,
}

/// One of them, which may be heard of on several interfaces.
#[derive(Default)]
struct Instance {
    addresses: Vec<SocketAddr>,
    heard: usize,
}

impl Instances {
    pub(super) fn new(search: Search) -> Self {
        Self { addresses: BTreeMap::new(), instances: BTreeMap::new(), search }
    }

    /// These are all addresses of it. Whether there was room.
    #[cfg(feature = "mdns")]
    pub(super) fn is_at(&mut self, name: &str, addresses: &[SocketAddr]) -> bool {
        let Some(instance) = self.room_for(name) else { return false };
        instance.heard = 1;
        let before = std::mem::take(&mut instance.addresses);
        addresses.iter().for_each(|address| self.add(name, *address));
        before.into_iter().for_each(|address| self.release(address));
        true
    }

    /// It was heard of once more, at that address. Whether there was room.
    #[cfg(feature = "zeroconf")]
    pub(super) fn is_also_at(&mut self, name: &str, address: SocketAddr) -> bool {
        let Some(instance) = self.room_for(name) else { return false };
        instance.heard += 1;
        self.add(name, address);
        true
    }

    /// It is gone from where it was heard of once.
    pub(super) fn is_gone(&mut self, name: &str) {
        let Some(instance) = self.instances.get_mut(name) else { return };
        instance.heard -= 1;
        if instance.heard == 0 {
            self.forget(name);
        }
    }

    /// All are.
    pub(super) fn clear(&mut self) {
        let names: Vec<_> = self.instances.keys().cloned().collect();
        names.iter().for_each(|name| self.forget(name));
    }

    fn room_for(&mut self, name: &str) -> Option<&mut Instance> {
        if self.instances.len() >= HINTS_MAX && !self.instances.contains_key(name) {
            return None;
        }
        Some(self.instances.entry(name.to_owned()).or_default())
    }

    fn add(&mut self, name: &str, address: SocketAddr) {
        let Some(instance) = self.instances.get_mut(name) else { return };
        let is_full = instance.addresses.len() >= ADDRESSES_MAX;
        if is_full || instance.addresses.contains(&address) || !can_be_dialled(address) {
            return;
        }
        instance.addresses.push(address);
        let count = self.addresses.entry(address).or_default();
        *count += 1;
        if *count == 1 {
            self.search.found(address);
        }
    }

    fn forget(&mut self, name: &str) {
        let gone = self.instances.remove(name).unwrap_or_default();
        gone.addresses.into_iter().for_each(|address| self.release(address));
    }

    fn release(&mut self, address: SocketAddr) {
        let Some(count) = self.addresses.get_mut(&address) else { return };
        *count -= 1;
        if *count == 0 {
            self.addresses.remove(&address);
            self.search.lost(address);
        }
    }
}

fn can_be_dialled(address: SocketAddr) -> bool {
    let ip = address.ip();
    let is_broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

/// Addresses of an instance that are kept: both families on a few interfaces.
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use pitaya_core::cluster::{Incarnation, ServerId, ServerInfo};
    use pitaya_core::session::HostFuture;

    use super::*;
    use crate::cluster::discovery::{Hints, SearchHost};

    struct Nowhere;

    impl SearchHost for Nowhere {
        fn resolve(&self, _: &str, _: u16) -> HostFuture<io::Result<Vec<SocketAddr>>> {
            Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
        }

        fn sleep(&self, _: Duration) -> HostFuture<()> {
            Box::pin(std::future::pending())
        }
    }

    fn heard() -> (Instances, Hints) {
        let me = ServerInfo {
            addresses: vec![address(1)],
            frontend: false,
            hostname: String::new(),
            id: ServerId::new("me").unwrap(),
            incarnation: Incarnation::new(1),
            kind: "room".into(),
            metadata: BTreeMap::new(),
        };
        let hints = Hints::default();
        let search = Search::new(Arc::new(me), hints.clone(), Arc::new(Nowhere));
        (Instances::new(search), hints)
    }

    fn address(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    #[cfg(feature = "mdns")]
    #[test]
    fn a_goodbye_takes_no_address_that_another_has() {
        let (mut instances, hints) = heard();
        assert!(instances.is_at("a", &[address(2), address(3)]));
        assert!(instances.is_at("forged", &[address(2)]));
        instances.is_gone("forged");
        assert_eq!(hints.addresses(), [address(2), address(3)]);
        assert!(instances.is_at("a", &[address(3), address(4)]), "it moved");
        assert_eq!(hints.addresses(), [address(3), address(4)]);
        instances.is_gone("a");
        instances.is_gone("a");
        assert_eq!(hints.addresses(), []);
    }

    #[cfg(feature = "mdns")]
    #[test]
    fn only_so_many_are_kept_and_only_what_can_be_dialled() {
        let (mut instances, hints) = heard();
        let mut kept = |name: u32| instances.is_at(&name.to_string(), &[address(name as u16)]);
        assert_eq!((1..2000).filter(|name| kept(*name)).count(), HINTS_MAX);
        instances.clear();
        assert_eq!(hints.addresses(), []);
        let (zero, all) = (([0; 4], 5).into(), ([255; 4], 5).into());
        let group = ([224, 0, 0, 1], 5).into();
        instances.is_at("a", &[zero, all, group, address(0), address(1)]);
        assert_eq!(hints.addresses(), [], "the last is our own");
        instances.is_at("a", &[2; 100].map(address));
        let many: Vec<_> = (1..100).map(address).collect();
        instances.is_at("a", &many);
        assert_eq!(hints.addresses().len(), ADDRESSES_MAX - 1, "and ours");
    }

    #[cfg(feature = "zeroconf")]
    #[test]
    fn one_that_was_heard_of_twice_is_gone_once_it_was_said_twice() {
        let (mut instances, hints) = heard();
        let other = (std::net::Ipv6Addr::LOCALHOST, 2).into();
        assert!(instances.is_also_at("a", address(2)) && instances.is_also_at("a", other));
        instances.is_gone("a");
        assert_eq!(hints.addresses(), [address(2), other]);
        instances.is_gone("a");
        assert_eq!(hints.addresses(), []);
    }
}
