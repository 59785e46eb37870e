//! Who listens, who is connected, and what arrives where.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::Waker;

use crate::sim::hosts::HostId;
use crate::sim::pipe::{Parcel, Pipe, Wire};
use crate::sim::state::{Coming, State};
use crate::sim::trace::Record;

/// The network of a world.
#[derive(Debug, Default)]
pub(super) struct Net {
    pub(super) listeners: BTreeMap<SocketAddr, Backlog>,
    pub(super) names: BTreeMap<String, Vec<IpAddr>>,
    pub(super) links: BTreeMap<LinkId, Link>,
    /// Arrivals that wait until the way is open again.
    pub(super) stuck: Vec<(LinkId, Side)>,
    ports: u16,
    listened: u64,
    dialled: u64,
}

/// Names a connection.
pub(super) type LinkId = u64;

/// One end of a connection; it reads from the pipe of its own number and writes to the other.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Side {
    Dialler,
    Acceptor,
}

/// Connections that nobody has accepted yet.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) host: HostId,
    number: u64,
    pub(super) waiting: VecDeque<(LinkId, SocketAddr)>,
    pub(super) acceptor: Option<Waker>,
}

/// A connection, as long as one of its ends is there.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) hosts: [HostId; 2],
    pub(super) pipes: [Pipe; 2],
    pub(super) open: [bool; 2],
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Acceptor => Self::Dialler,
            Self::Dialler => Self::Acceptor,
        }
    }
}

impl Net {
    /// The pipe that `side` reads from.
    pub(super) fn inbound(&mut self, link: LinkId, side: Side) -> Option<&mut Pipe> {
        self.links.get_mut(&link).map(|link| &mut link.pipes[side as usize])
    }

    /// Who waits at an address, if the listener of that number is still there.
    pub(super) fn backlog(&mut self, address: SocketAddr, number: u64) -> Option<&mut Backlog> {
        self.listeners.get_mut(&address).filter(|backlog| backlog.number == number)
    }

    /// The pipe that `side` writes to.
    pub(super) fn outbound(&mut self, link: LinkId, side: Side) -> Option<&mut Pipe> {
        self.inbound(link, side.other())
    }
}

impl State {
    /// Listens; port 0 means one that is free. Gives where, and the number of the listener.
    pub(super) fn listen(
        &mut self, host: HostId, mut address: SocketAddr,
    ) -> io::Result<(SocketAddr, u64)> {
        if address.port() == 0 {
            self.net.ports += 1;
            address.set_port(PORT_MIN + self.net.ports);
        }
        if self.net.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.net.listened += 1;
        let number = self.net.listened;
        let backlog = Backlog { host, number, waiting: VecDeque::new(), acceptor: None };
        self.net.listeners.insert(address, backlog);
        self.hosts.note_address(address, host);
        Ok((address, number))
    }

    /// Connects to whoever listens.
    pub(super) fn dial(
        &mut self, host: HostId, address: SocketAddr, wire: &Wire,
    ) -> io::Result<LinkId> {
        let Some(backlog) = self.net.listeners.get_mut(&address) else {
            self.record(Record::Refused(address));
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let link = self.net.dialled;
        self.net.dialled += 1;
        let pipe = |side| Pipe::new(wire.clone(), self.seed, link * 2 + side, self.now);
        let (hosts, pipes) = ([host, backlog.host], [pipe(0), pipe(1)]);
        self.net.links.insert(link, Link { hosts, pipes, open: [true; 2] });
        backlog.waiting.push_back((link, remote(link)));
        backlog.acceptor.take().into_iter().for_each(Waker::wake);
        self.hosts.begin_tap(link, hosts);
        self.record(Record::Dialled(link, address));
        Ok(link)
    }

    /// One end is gone. What it has not read, or what still comes to it, makes the peer lose what
    /// it has not read: so TCP does.
    pub(super) fn hang_up(&mut self, link: LinkId, side: Side, resets: bool) {
        self.record(Record::Dropped(link, side));
        if let Some(unread) = self.leave(link, side) {
            self.send_end(link, side, unread || resets);
            self.forget(link);
        }
    }

    /// One end is gone without a word.
    pub(super) fn vanish(&mut self, link: LinkId, side: Side) {
        self.leave(link, side);
        self.forget(link);
    }

    /// Nobody is at that end any more. Whether it left bytes unread; nothing if it was gone before.
    fn leave(&mut self, link: LinkId, side: Side) -> Option<bool> {
        let entry = self.net.links.get_mut(&link)?;
        let was_open = std::mem::replace(&mut entry.open[side as usize], false);
        was_open.then(|| entry.pipes[side as usize].deafen())
    }

    fn forget(&mut self, link: LinkId) {
        if self.net.links.get(&link).is_some_and(|link| link.open == [false; 2]) {
            self.net.links.remove(&link);
        }
    }

    /// Nobody listens there any more.
    pub(super) fn deafen(&mut self, address: SocketAddr) {
        let waiting = self.net.listeners.remove(&address).map(|backlog| backlog.waiting);
        for (link, _) in waiting.into_iter().flatten() {
            self.hang_up(link, Side::Acceptor, true);
        }
    }

    /// Says the last word of one end.
    pub(super) fn send_end(&mut self, link: LinkId, side: Side, resets: bool) {
        let now = self.now;
        let Some(outbound) = self.net.outbound(link, side) else { return };
        let sent = if resets { Some(outbound.send_reset(now)) } else { outbound.send_end(now) };
        sent.into_iter().for_each(|at| self.plan_arrival(at, link, side));
    }

    /// What `side` sent arrives at `at`.
    pub(super) fn plan_arrival(&mut self, at: pitaya_core::Instant, link: LinkId, side: Side) {
        self.plan(at, Coming::Arrival(link, side.other()));
    }

    pub(super) fn arrive(&mut self, link: LinkId, side: Side) {
        let now = self.now;
        let Some(entry) = self.net.links.get(&link) else { return };
        let (from, to) = (entry.hosts[side.other() as usize], entry.hosts[side as usize]);
        if self.hosts.is_cut(from, to) {
            return self.net.stuck.push((link, side));
        }
        let is_dark = self.hosts.is_dark(to);
        let Some(inbound) = self.net.inbound(link, side) else { return };
        let Some(parcel) = inbound.arrive(now) else { return };
        let bounces = inbound.is_deaf() && !is_dark && matches!(parcel, Parcel::Bytes(_));
        let outbound = self.net.outbound(link, side).expect("a link has two pipes");
        if matches!(parcel, Parcel::Reset) {
            outbound.reset();
        }
        if bounces {
            self.send_end(link, side, true);
        }
        self.record(Record::Arrived(link, side, parcel));
    }
}

/// Where the dialler of a link seems to be.
fn remote(link: LinkId) -> SocketAddr {
    let [.., high, middle, low] = link.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, high, middle, low)), PORT_MIN)
}

const PORT_MIN: u16 = 1024;
