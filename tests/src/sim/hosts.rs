//! The hosts of a world: which of them are there, reach each other, and are watched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::sim::faults::Tap;
use crate::sim::net::{LinkId, Side};
use crate::sim::pipe::Wire;
use crate::sim::state::{Coming, State};
use crate::sim::trace::Record;

/// Names a host; the default is the one without a name.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct HostId(u32);

/// What is known of all hosts.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    names: BTreeMap<String, HostId>,
    /// Without power: what comes there is lost.
    dark: BTreeSet<HostId>,
    /// From the one to the other nothing comes.
    cut: BTreeSet<(HostId, HostId)>,
    wires: BTreeMap<(HostId, HostId), Wire>,
    /// Who listened last at each address.
    addresses: BTreeMap<SocketAddr, HostId>,
    pub(super) faults: BTreeMap<&'static str, u64>,
    /// Hosts whose connections are written down, and what was.
    watched: BTreeSet<HostId>,
    pub(super) taps: BTreeMap<LinkId, Tap>,
}

impl Hosts {
    pub(super) fn of_name(&mut self, name: &str) -> HostId {
        let next = HostId(self.names.len() as u32 + 1);
        *self.names.entry(name.to_owned()).or_insert(next)
    }

    pub(super) fn note_address(&mut self, address: SocketAddr, host: HostId) {
        self.addresses.insert(address, host);
    }

    pub(super) fn is_cut(&self, from: HostId, to: HostId) -> bool {
        self.cut.contains(&(from, to))
    }

    pub(super) fn is_dark(&self, host: HostId) -> bool {
        self.dark.contains(&host)
    }

    /// Whether whoever has the address hears of a dial and can answer.
    pub(super) fn is_reachable(&self, from: HostId, address: SocketAddr) -> bool {
        self.addresses.get(&address).is_none_or(|to| {
            !self.is_dark(*to) && !self.is_cut(from, *to) && !self.is_cut(*to, from)
        })
    }

    /// What connections to an address are like, if that was said.
    pub(super) fn wire(&self, from: HostId, address: SocketAddr) -> Option<Wire> {
        let to = self.addresses.get(&address)?;
        self.wires.get(&(from, *to)).cloned()
    }

    pub(super) fn set_wire(&mut self, one: HostId, other: HostId, wire: Wire) {
        self.wires.insert((one, other), wire.clone());
        self.wires.insert((other, one), wire);
    }

    /// A host that does something has power.
    pub(super) fn light(&mut self, host: HostId) {
        self.dark.remove(&host);
    }

    pub(super) fn watch(&mut self, host: HostId) {
        self.watched.insert(host);
    }

    pub(super) fn begin_tap(&mut self, link: LinkId, [dialler, acceptor]: [HostId; 2]) {
        if self.watched.contains(&dialler) {
            let name = |id| self.names.iter().find(|(_, it)| **it == id).map(|(name, _)| &**name);
            let (dialler, acceptor) = (name(dialler), name(acceptor));
            let [dialler, acceptor] = [dialler, acceptor].map(|it| it.unwrap_or("").to_owned());
            self.taps.insert(link, Tap { dialler, acceptor, said: [Vec::new(), Vec::new()] });
        }
    }
}

impl State {
    /// Counts and tells what happens to hosts.
    pub(super) fn note_fault(&mut self, kind: &'static str, one: HostId, other: HostId) {
        *self.hosts.faults.entry(kind).or_default() += 1;
        self.record(Record::Fault(kind, one, other));
    }

    /// The sockets of a host are gone, with a word of its system or without.
    pub(super) fn drop_sockets(&mut self, host: HostId, resets: bool) {
        let ends = self.ends(|hosts, side| hosts[side as usize] == host);
        if !resets {
            self.hosts.dark.insert(host);
        }
        for (link, side) in ends {
            if resets { self.hang_up(link, side, true) } else { self.vanish(link, side) }
        }
        let of_host = self.net.listeners.iter().filter(|(_, backlog)| backlog.host == host);
        let addresses: Vec<_> = of_host.map(|(address, _)| *address).collect();
        addresses.into_iter().for_each(|address| self.deafen(address));
    }

    /// Nothing comes from the one to the other from now on.
    pub(super) fn cut(&mut self, from: HostId, to: HostId) {
        self.hosts.cut.insert((from, to));
    }

    /// What was held up arrives, in its order.
    pub(super) fn heal(&mut self, from: HostId, to: HostId) {
        self.hosts.cut.remove(&(from, to));
        for (link, side) in std::mem::take(&mut self.net.stuck) {
            self.plan(self.now, Coming::Arrival(link, side));
        }
    }

    /// The connections between two hosts are dead at both ends.
    pub(super) fn reset_all(&mut self, one: HostId, other: HostId) {
        for (link, _) in self.ends(|hosts, _| *hosts == [one, other] || *hosts == [other, one]) {
            let link = self.net.links.get_mut(&link);
            link.into_iter().for_each(|link| link.pipes.iter_mut().for_each(|pipe| pipe.reset()));
        }
    }

    /// How many connections two hosts have, each open at both ends.
    pub(super) fn connections(&self, one: HostId, other: HostId) -> usize {
        let links = self.net.links.values().filter(|link| link.open == [true; 2]);
        links.filter(|link| link.hosts == [one, other] || link.hosts == [other, one]).count()
    }

    /// Writes down what an end says, if somebody wants to know.
    pub(super) fn tap(&mut self, link: LinkId, side: Side, bytes: &[u8]) {
        if let Some(tap) = self.hosts.taps.get_mut(&link) {
            tap.said[side as usize].extend_from_slice(bytes);
        }
    }

    fn ends(&self, which: impl Fn(&[HostId; 2], Side) -> bool) -> Vec<(LinkId, Side)> {
        let both = |(id, link)| [Side::Dialler, Side::Acceptor].map(|side| (id, link, side));
        let ends = self.net.links.iter().flat_map(both);
        let ends = ends.filter(|(_, link, side)| which(&link.hosts, *side));
        ends.map(|(id, _, side)| (*id, side)).collect()
    }
}
