//! Somebody in the network who says whatever he likes.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::thread;

use mdns_sd::{Error, IfKind, ServiceDaemon, ServiceInfo};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, sendto, setsockopt, socket,
    sockopt,
};
use pitaya_driver::cluster::discovery::record::SERVICE;

/// Says what it is told to, until it is dropped.
pub(crate) struct Forger(ServiceDaemon);

impl Forger {
    pub(crate) fn new() -> Self {
        let daemon = ServiceDaemon::new().unwrap();
        daemon.disable_interface(IfKind::All).unwrap();
        daemon.enable_interface("lo").unwrap();
        Self(daemon)
    }

    pub(crate) fn announce(&self, name: &str, port: u16, properties: &[(&str, &[u8])]) {
        let host = format!("{name}.local.");
        let properties: Vec<_> = properties.iter().map(|property| (*property).into()).collect();
        let info = ServiceInfo::new(SERVICE, name, &host, "127.0.0.1", port, properties);
        let mut info = info.unwrap();
        info.set_requires_probe(false);
        while let Err(error) = self.0.register(info.clone()) {
            assert!(matches!(error, Error::Again), "{error}");
            thread::yield_now();
        }
    }
}

/// Says once, in the bytes of a packet, that a service is there for so many seconds: that its name
/// or its host is text, nobody makes sure.
pub(crate) fn say(name: &[u8], host: &[u8], seconds: u32, txt: &[u8]) {
    let service = names(&[b"_pitaya", b"_udp", b"local"]);
    let instance = [names(&[name]), service.clone()].concat();
    let host = names(&[host, b"local"]);
    let port_at_host = [&[0, 0, 0, 0, 0x1a, 0x04], &*end(&host)].concat();
    let records = [
        record(&service, 12, 1, seconds, &end(&instance)),
        record(&instance, 33, 0x8001, seconds, &port_at_host),
        record(&instance, 16, 0x8001, seconds, txt),
        record(&host, 1, 0x8001, seconds, &[127, 0, 0, 1]),
    ];
    let head = [0, 0, 0x84, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    send(&[&head[..], &records.concat()].concat());
}

fn names(labels: &[&[u8]]) -> Vec<u8> {
    labels.iter().flat_map(|label| [&[label.len() as u8], *label].concat()).collect()
}

fn end(name: &[u8]) -> Vec<u8> {
    [name, &[0]].concat()
}

fn record(name: &[u8], kind: u16, class: u16, seconds: u32, data: &[u8]) -> Vec<u8> {
    let (kind, class, seconds) = (kind.to_be_bytes(), class.to_be_bytes(), seconds.to_be_bytes());
    let length = (data.len() as u16).to_be_bytes();
    [&*end(name), &kind, &class, &seconds, &length, data].concat()
}

/// From the port of multicast DNS, since nobody listens to others.
fn send(packet: &[u8]) {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    setsockopt(&socket, sockopt::ReusePort, &true).unwrap();
    let at = |ip| SockaddrIn::from(SocketAddrV4::new(ip, 5353));
    bind(socket.as_raw_fd(), &at(Ipv4Addr::LOCALHOST)).unwrap();
    let group = at(Ipv4Addr::new(224, 0, 0, 251));
    let sent = sendto(socket.as_raw_fd(), packet, &group, MsgFlags::empty()).unwrap();
    assert_eq!(sent, packet.len());
}

impl Drop for Forger {
    fn drop(&mut self) {
        // Until there is room for the command: else it would go on for ever, and be heard by all.
        while matches!(self.0.shutdown(), Err(Error::Again)) {
            thread::yield_now();
        }
    }
}

/// What a server of the cluster `red` would say.
pub(crate) fn forged(id: &str) -> [(&str, &[u8]); 4] {
    [("v", b"1"), ("cluster", b"red"), ("id", id.as_bytes()), ("kind", b"room")]
}
