//! Somebody in the network who says whatever he likes.

use std::thread;

use mdns_sd::{Error, IfKind, ServiceDaemon, ServiceInfo};
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

impl Drop for Forger {
    fn drop(&mut self) {
        // Whether it says goodbye is no matter.
        let _ = self.0.shutdown();
    }
}

/// What a server of the cluster `red` would say.
pub(crate) fn forged(id: &str) -> [(&str, &[u8]); 4] {
    [("v", b"1"), ("cluster", b"red"), ("id", id.as_bytes()), ("kind", b"room")]
}
