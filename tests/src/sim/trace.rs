//! What happened in a world: a digest of all of it, and the last of it in words.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use pitaya_core::Instant;

use crate::sim::hosts::HostId;
use crate::sim::net::{LinkId, Side};
use crate::sim::pipe::Parcel;
use crate::sim::tasks::TaskId;

/// Everything that happened, in order.
#[derive(Debug, Default)]
pub(super) struct Trace {
    digest: Digest,
    last: VecDeque<(Instant, Record)>,
    records: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, Hash)]
pub(super) enum Record {
    Arrived(LinkId, Side, Parcel),
    Dialled(LinkId, SocketAddr),
    Dropped(LinkId, Side),
    Fault(&'static str, HostId, HostId),
    Ran(TaskId),
    Refused(SocketAddr),
    Told(String),
}

impl Trace {
    pub(super) fn add(&mut self, now: Instant, record: Record) {
        (now, &record).hash(&mut self.digest);
        self.records += 1;
        if self.last.len() == LAST_MAX {
            self.last.pop_front();
        }
        self.last.push_back((now, record));
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "events={} digest={:#x}, the last of them:", self.records, self.digest())?;
        self.last.iter().try_for_each(|(at, record)| writeln!(f, "  {at} {record:?}"))
    }
}

/// FNV-1a: the same number for the same bytes, whatever the version of Rust.
#[derive(Debug)]
pub(super) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

const LAST_MAX: usize = 40;
