//! The network that the tests may speak in, and the daemon that does so in it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{env, fs, thread};

use crate::server::LONG;

/// A network that reaches nobody else, for one test at a time.
pub(crate) struct Network {
    _turn: MutexGuard<'static, ()>,
}

impl Network {
    /// Nothing where there are other interfaces than a loopback: nothing may be sent there.
    pub(crate) fn enter() -> Option<Self> {
        let interfaces = interfaces();
        if interfaces != ["lo"] {
            let why = format!("{interfaces:?} are not only a loopback: run `.ci/run discovery`");
            assert_ne!(env::var("CI").as_deref(), Ok("true"), "{why}");
            println!("SKIPPED: {why}");
            return None;
        }
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        wait_for_silence();
        Some(Self { _turn: turn })
    }
}

/// Waits until nobody of the test before can speak: whom it dropped may still say a thousand
/// forged records, and say goodbye with the names that this test has.
fn wait_for_silence() {
    let begin = Instant::now();
    while somebody_speaks() {
        assert!(begin.elapsed() < LONG, "somebody of the test before never left");
        thread::yield_now();
    }
}

fn somebody_speaks() -> bool {
    // A system without IPv6 has only the first.
    let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"];
    let mut sockets = tables.map(|table| fs::read_to_string(table).unwrap_or_default()).into_iter();
    sockets.any(|table| table.contains(MDNS_PORT))
}

/// Those of the network that this process is in.
fn interfaces() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let name = |line: &str| line.split_once(':').map(|(name, _)| name.trim().to_owned());
    table.lines().skip(2).filter_map(name).collect()
}

/// A daemon of Avahi, until it is dropped, which kills it.
pub(crate) struct Avahi(Child);

impl Avahi {
    pub(crate) fn start() -> Self {
        let settings = format!("{}/avahi.conf", env!("CARGO_TARGET_TMPDIR"));
        fs::write(&settings, SETTINGS).unwrap();
        let mut command = Command::new("avahi-daemon");
        command.args(["-f", &settings, "--no-drop-root", "--no-chroot", "--no-rlimits"]);
        let mut daemon = command.stderr(Stdio::piped()).spawn().expect("avahi-daemon is installed");
        let mut said = BufReader::new(daemon.stderr.take().unwrap()).lines();
        let is_ready = said.any(|line| line.unwrap().contains("startup complete"));
        assert!(is_ready, "the daemon ended as it began");
        // It goes on to speak, and would end if nobody listened.
        thread::spawn(move || said.for_each(drop));
        Self(daemon)
    }
}

impl Drop for Avahi {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The port 5353 of any address, as the system writes it.
const MDNS_PORT: &str = ":14E9 ";

const SETTINGS: &str = "\
[server]
host-name=host
use-ipv4=yes
use-ipv6=no
allow-interfaces=lo
[wide-area]
enable-wide-area=no
[publish]
publish-aaaa-on-ipv4=no
publish-hinfo=no
publish-workstation=no
";
