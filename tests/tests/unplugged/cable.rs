//! Two networks and the cable between them, where both reach nobody else.

use std::fs::{self, File};
use std::process::Command;

use nix::sched::{CloneFlags, setns};

/// A cable from the network of this process to one of its own, until it is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Cable {
    number: u8,
}

/// One end of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// In the network of this process.
    Near,
    /// In the other one.
    Far,
}

impl Cable {
    /// Nothing where other interfaces are than a loopback and such cables: there a network of this
    /// process is that of a machine.
    pub(crate) fn lay(number: u8) -> Option<Self> {
        let (near, far) = (format!("near-{number}"), format!("far-{number}"));
        let interfaces = interfaces();
        if interfaces.iter().any(|name| name != "lo" && !name.starts_with("near-")) {
            let why = format!("{interfaces:?} are not only a loopback: run `.ci/run discovery`");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
            println!("SKIPPED: {why}");
            return None;
        }
        ip(&["netns", "add", &far]);
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &far]);
        let cable = Self { number };
        for end in [End::Near, End::Far] {
            let address = format!("{}/24", cable.address(end));
            ip(&cable.at(end, &["address", "add", &address, "dev", cable.name(end).as_str()]));
            cable.plug(end);
        }
        Some(cable)
    }

    pub(crate) fn address(&self, end: End) -> String {
        let host = if end == End::Near { 1 } else { 2 };
        format!("10.77.{}.{host}", self.number)
    }

    pub(crate) fn plug(&self, end: End) {
        ip(&self.at(end, &["link", "set", &self.name(end), "up"]));
    }

    pub(crate) fn pull(&self, end: End) {
        ip(&self.at(end, &["link", "set", &self.name(end), "down"]));
    }

    /// From now on the sockets of this thread are in the other network.
    pub(crate) fn enter_far(&self) {
        let network = File::open(format!("/run/netns/{}", self.name(End::Far))).unwrap();
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
    }

    fn name(&self, end: End) -> String {
        let end = if end == End::Near { "near" } else { "far" };
        format!("{end}-{}", self.number)
    }

    /// The arguments of `ip` that do this where that end is.
    fn at(&self, end: End, arguments: &[&str]) -> Vec<String> {
        let network = match end {
            End::Near => Vec::new(),
            End::Far => vec!["-n".to_owned(), self.name(End::Far)],
        };
        network.into_iter().chain(arguments.iter().map(|it| (*it).to_owned())).collect()
    }
}

/// Those of the network that this process is in.
fn interfaces() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let name = |line: &str| line.split_once(':').map(|(name, _)| name.trim().to_owned());
    table.lines().skip(2).filter_map(name).collect()
}

fn ip<S: AsRef<std::ffi::OsStr> + std::fmt::Debug>(arguments: &[S]) {
    let done = Command::new("ip").args(arguments).status().expect("`ip` is installed");
    assert!(done.success(), "ip {arguments:?}");
}
