//! A way between two servers on which datagrams take their time and some get lost: a relay on the
//! loopback interface.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures_channel::oneshot;

/// A relay, until it is dropped. One server dials it, and reaches another one by it.
#[derive(Debug)]
pub struct LossyWay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is lost.
    Lost,
    /// It goes on.
    Passed,
}

#[derive(Debug)]
struct Shared {
    /// The way of each datagram, one way.
    delay: Duration,
    /// Who dials, and who is dialled, as far as they are known.
    ends: Mutex<[Option<SocketAddr>; 2]>,
    awaited: Mutex<Option<Awaited>>,
    dice: Mutex<u64>,
    lost_per_mille: AtomicU32,
    lost: AtomicU64,
    passed: AtomicU64,
    ended: AtomicBool,
}

/// Somebody waits for a datagram of that size to the server that is dialled.
#[derive(Debug)]
struct Awaited {
    bytes: Range<usize>,
    fate: Fate,
    tell: oneshot::Sender<()>,
}

impl LossyWay {
    /// A way on which nothing is lost yet, and that leads nowhere.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn new(delay: Duration, seed: u64) -> io::Result<Self> {
        let [near, far] = [bound()?, bound()?];
        let address = near.local_addr()?;
        let shared = Arc::new(Shared {
            delay,
            ends: Mutex::default(),
            awaited: Mutex::default(),
            dice: Mutex::new(seed),
            lost_per_mille: AtomicU32::new(0),
            lost: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let (there, back) = ((near.try_clone()?, far.try_clone()?), (far, near));
        for (way, (takes, gives)) in [there, back].into_iter().enumerate() {
            let (late, due) = mpsc::channel();
            let (hears, says) = (Arc::clone(&shared), Arc::clone(&shared));
            thread::spawn(move || hears.take(way, &takes, &late));
            thread::spawn(move || says.give(way, &gives, &due));
        }
        Ok(Self { address, shared })
    }

    /// Where one server has to dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which server it then reaches.
    pub fn lead_to(&self, server: SocketAddr) {
        self.shared.ends()[DIALLED] = Some(server);
    }

    /// From now on so many of a thousand datagrams are lost, both ways.
    pub fn lose(&self, per_mille: u32) {
        self.shared.lost_per_mille.store(per_mille, Ordering::Relaxed);
    }

    /// What becomes of the next datagram of that size to the server that is dialled, and when it
    /// came.
    pub fn next(&self, bytes: Range<usize>, fate: Fate) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        *self.shared.awaited() = Some(Awaited { bytes, fate, tell });
        told
    }

    /// How many datagrams were lost, and how many were not.
    pub fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.shared.lost), count(&self.shared.passed))
    }
}

impl Drop for LossyWay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn ends(&self) -> MutexGuard<'_, [Option<SocketAddr>; 2]> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaited(&self) -> MutexGuard<'_, Option<Awaited>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what comes at one end, until nobody wants it any more.
    fn take(&self, way: usize, socket: &UdpSocket, late: &mpsc::Sender<(Instant, Vec<u8>)>) {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        while !self.ended.load(Ordering::Relaxed) {
            // Nothing has come for a while, or somebody is gone, which is no matter to a way.
            let Ok((bytes, from)) = socket.recv_from(&mut datagram) else { continue };
            if way == DIALS {
                self.ends()[DIALS] = Some(from);
            }
            if self.fate(way, bytes) == Fate::Lost {
                self.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.passed.fetch_add(1, Ordering::Relaxed);
            if late.send((Instant::now() + self.delay, datagram[..bytes].to_vec())).is_err() {
                return;
            }
        }
    }

    /// Gives each datagram to the other end when it is due.
    fn give(&self, way: usize, socket: &UdpSocket, due: &mpsc::Receiver<(Instant, Vec<u8>)>) {
        while let Ok((at, datagram)) = due.recv() {
            while let Some(left) = at.checked_duration_since(Instant::now()) {
                thread::park_timeout(left);
            }
            let end = self.ends()[1 - way];
            if let Some(end) = end {
                // A way does not know whether somebody is there.
                let _ = socket.send_to(&datagram, end);
            }
        }
    }

    fn fate(&self, way: usize, bytes: usize) -> Fate {
        let mut awaited = self.awaited();
        let is_awaited = |awaited: &mut Awaited| way == DIALS && awaited.bytes.contains(&bytes);
        if let Some(awaited) = awaited.take_if(is_awaited) {
            // Who no longer waits for it is no matter.
            let _ = awaited.tell.send(());
            return awaited.fate;
        }
        let lost = u64::from(self.lost_per_mille.load(Ordering::Relaxed));
        if self.roll() % 1000 < lost { Fate::Lost } else { Fate::Passed }
    }

    /// A number that the seed and those before decide, as `SplitMix64` does.
    fn roll(&self) -> u64 {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        *dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*dice ^ (*dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn bound() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(LOOK_EVERY))?;
    Ok(socket)
}

const DIALS: usize = 0;
const DIALLED: usize = 1;

/// No datagram is larger.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// How soon the way ends when nobody uses it any more.
const LOOK_EVERY: Duration = Duration::from_millis(100);
