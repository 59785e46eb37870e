//! What will happen in a world: all of it is drawn from the seed before anything runs.

use std::time::Duration;

use pitaya_core::Rng;

/// What clients do and what befalls hosts, each in the order of time.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) ops: Vec<Vec<Op>>,
    pub(crate) faults: Vec<Fault>,
}

/// Something that one client does.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) at: Duration,
    /// The kind of server that is asked.
    pub(crate) place: &'static str,
    pub(crate) what: What,
    /// How often, or for how many milliseconds.
    pub(crate) times: u64,
    pub(crate) uid: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum What {
    Echo,
    Fail,
    Hang,
    Kick,
    Login,
    Note,
    Push,
    Quick,
    Rpc,
    Shout,
    Sleep,
}

/// Something that befalls one host, or two.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) kind: Kind,
    pub(crate) one: String,
    pub(crate) other: String,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    Cut,
    CutOneWay,
    Drained,
    Killed,
    Paused,
    Powerless,
    Reset,
    Slow,
}

impl What {
    /// The last part of its route.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Fail => "fail",
            Self::Hang => "hang",
            Self::Kick => "kick",
            Self::Login => "login",
            Self::Note => "note",
            Self::Push => "push",
            Self::Quick => "quick",
            Self::Rpc => "rpc",
            Self::Shout => "shout",
            Self::Sleep => "sleep",
        }
    }
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x706c_616e);
        let ops = (0..CLIENTS).map(|_| ops(&mut rng)).collect();
        Self { ops, faults: faults(&mut rng) }
    }
}

/// The hosts of servers.
pub(crate) fn servers() -> impl Iterator<Item = String> {
    let of_kind = |kind, count| (0..count).map(move |at| format!("{kind}-{at}"));
    of_kind("gate", GATES).chain(of_kind("room", ROOMS))
}

fn ops(rng: &mut Rng) -> Vec<Op> {
    let mut at = 0;
    let mut ops = Vec::new();
    while at < CALM_MS {
        // Some come together.
        at += if rng.below(4) == 0 { 0 } else { rng.below(2 * CALM_MS / OPS) };
        let what = WHATS[rng.below(WHATS.len() as u64) as usize];
        let place = if rng.below(3) == 0 { "gate" } else { "room" };
        let times = match what {
            What::Sleep => 10 + rng.below(2500),
            _ => 1 + rng.below(4),
        };
        let uid = format!("user-{}", rng.below(UIDS));
        ops.push(Op { at: Duration::from_millis(at), place, what, times, uid });
    }
    ops
}

/// A few faults of a few kinds: which ones is drawn first.
fn faults(rng: &mut Rng) -> Vec<Fault> {
    let mut kinds: Vec<_> = KINDS.into_iter().filter(|_| rng.below(2) == 0).collect();
    if kinds.is_empty() {
        kinds.push(KINDS[rng.below(KINDS.len() as u64) as usize]);
    }
    let servers: Vec<_> = servers().collect();
    let count = 2 + rng.below(FAULTS_MAX - 1);
    let mut faults: Vec<_> = (0..count)
        .map(|_| {
            let kind = kinds[rng.below(kinds.len() as u64) as usize];
            let one = servers[rng.below(servers.len() as u64) as usize].clone();
            let mut other = servers[rng.below(servers.len() as u64) as usize].clone();
            if other == one || rng.below(4) == 0 {
                other = format!("client-{}", rng.below(CLIENTS as u64));
            }
            let at = Duration::from_millis(500 + rng.below(CALM_MS - 500));
            let lasts_max = LASTS_MS[rng.below(3) as usize];
            let lasts = Duration::from_millis(100 + rng.below(lasts_max));
            Fault { at, lasts, kind, one, other }
        })
        .collect();
    faults.sort_by_key(|fault| fault.at);
    faults
}

pub(crate) const CLIENTS: usize = 20;
pub(crate) const GATES: usize = 3;
pub(crate) const ROOMS: usize = 3;
pub(crate) const UIDS: u64 = 12;
/// When no more is begun.
pub(crate) const CALM_MS: u64 = 20_000;
const OPS: u64 = 30;
const FAULTS_MAX: u64 = 12;
const LASTS_MS: [u64; 3] = [1_000, 4_000, 14_000];
const KINDS: [Kind; 8] = [
    Kind::Cut,
    Kind::CutOneWay,
    Kind::Drained,
    Kind::Killed,
    Kind::Paused,
    Kind::Powerless,
    Kind::Reset,
    Kind::Slow,
];
const WHATS: [What; 18] = [
    What::Echo,
    What::Echo,
    What::Echo,
    What::Fail,
    What::Hang,
    What::Kick,
    What::Login,
    What::Login,
    What::Note,
    What::Push,
    What::Push,
    What::Quick,
    What::Rpc,
    What::Shout,
    What::Shout,
    What::Shout,
    What::Sleep,
    What::Sleep,
];
