//! How many connections come from where, if that is limited.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use pitaya_core::{Instant, Limits};

/// The connections of each source: an IPv4 address, or an IPv6 /64, which is what one household
/// has.
#[derive(Debug, Default)]
pub(super) struct Sources {
    by_source: BTreeMap<IpAddr, Source>,
    /// When those without a connection were forgotten last.
    swept: Instant,
}

#[derive(Debug, Default)]
struct Source {
    open: usize,
    /// Accepted since `since`.
    accepted: usize,
    since: Instant,
}

impl Sources {
    /// Whether anything is limited at all.
    pub(super) fn are_limited(limits: &Limits) -> bool {
        limits.source_connections_max != usize::MAX || limits.source_accepts_max != usize::MAX
    }

    /// Counts one more connection from `ip`, unless that are too many; under which name it has to
    /// [`leave`](Self::leave).
    pub(super) fn enter(&mut self, now: Instant, ip: IpAddr, limits: &Limits) -> Option<IpAddr> {
        self.sweep(now);
        let name = source(ip);
        let source = self.by_source.entry(name).or_default();
        if now.since(source.since) >= WINDOW {
            (source.accepted, source.since) = (0, now);
        }
        let allowed = source.open < limits.source_connections_max
            && source.accepted < limits.source_accepts_max;
        if allowed {
            source.open += 1;
            source.accepted += 1;
        }
        allowed.then_some(name)
    }

    /// A connection is gone.
    pub(super) fn leave(&mut self, name: IpAddr) {
        if let Some(source) = self.by_source.get_mut(&name) {
            source.open -= 1;
        }
    }

    /// Forgets, once in a while, whom there is nothing to know about.
    fn sweep(&mut self, now: Instant) {
        if now.since(self.swept) >= WINDOW {
            self.swept = now;
            self.by_source.retain(|_, source| source.open > 0 || now.since(source.since) < WINDOW);
        }
    }
}

/// Notices that most sessions come from one source: a proxy that nobody named, or somebody with a
/// great many of them.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// Where the last sessions came from.
    lately: Vec<IpAddr>,
    noticed: bool,
}

impl Crowd {
    /// One of `sessions` sessions was opened from `ip`; the source of most of them, once.
    pub(super) fn enter(&mut self, ip: IpAddr, sessions: usize) -> Option<IpAddr> {
        if self.noticed {
            return None;
        }
        self.lately.push(source(ip));
        if self.lately.len() < CROWD {
            return None;
        }
        let mut lately = std::mem::take(&mut self.lately);
        lately.sort_unstable();
        // What there is more than half of is in the middle.
        let most = lately[CROWD / 2];
        let count = lately.iter().filter(|source| **source == most).count();
        self.noticed = sessions >= CROWD && count > CROWD / 2;
        self.noticed.then_some(most)
    }
}

fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & NETWORK).into(),
    }
}

/// The first 64 bits.
const NETWORK: u128 = !(u64::MAX as u128);
/// So few sessions may well be of one household or office.
const CROWD: usize = 100;
/// What `source_accepts_max` counts in.
const WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_only_so_many_connections_open() {
        let limits = Limits::default().source_connections_max(2);
        let (mut sources, now) = (Sources::default(), Instant::ZERO);
        let first = sources.enter(now, ip("10.0.0.1"), &limits);
        assert!(first.is_some() && sources.enter(now, ip("10.0.0.1"), &limits).is_some());
        assert_eq!(sources.enter(now, ip("10.0.0.1"), &limits), None);
        assert!(sources.enter(now, ip("10.0.0.2"), &limits).is_some());
        sources.leave(first.unwrap());
        assert!(sources.enter(now, ip("10.0.0.1"), &limits).is_some());
    }

    #[test]
    fn a_source_is_accepted_only_so_often_in_a_second() {
        let limits = Limits::default().source_accepts_max(2);
        let (mut sources, mut now) = (Sources::default(), Instant::ZERO);
        for second in 0..3 {
            for _ in 0..2 {
                let name = sources.enter(now, ip("10.0.0.1"), &limits);
                sources.leave(name.expect("within the limit"));
            }
            assert_eq!(sources.enter(now, ip("10.0.0.1"), &limits), None, "second {second}");
            now = now + WINDOW;
        }
    }

    #[test]
    fn all_addresses_of_a_network_of_version_6_are_one_source() {
        let limits = Limits::default().source_connections_max(1);
        let (mut sources, now) = (Sources::default(), Instant::ZERO);
        assert!(sources.enter(now, ip("2001:db8::1"), &limits).is_some());
        assert_eq!(sources.enter(now, ip("2001:db8::2"), &limits), None);
        assert!(sources.enter(now, ip("2001:db8:0:1::1"), &limits).is_some());
        assert!(sources.enter(now, ip("10.0.0.1"), &limits).is_some());
        assert_eq!(sources.enter(now, ip("::ffff:10.0.0.1"), &limits), None);
    }

    #[test]
    fn a_crowd_is_noticed_once_and_only_if_it_is_more_than_half_of_those_who_are_here() {
        let noticed = |of_one: usize, sessions: usize| {
            let (mut crowd, mut noticed) = (Crowd::default(), Vec::new());
            for at in 0..300 {
                let of_one = at * 37 % 100 < of_one;
                let other = IpAddr::from([10, 0, (at / 100) as u8, (at % 100) as u8]);
                let from = if of_one { ip("2001:db8::1") } else { other };
                noticed.extend(crowd.enter(from, sessions));
            }
            noticed
        };
        assert_eq!(noticed(51, 100), [ip("2001:db8::")]);
        assert_eq!(noticed(100, 1000), [ip("2001:db8::")]);
        assert_eq!((noticed(50, 100), noticed(100, 99)), (vec![], vec![]));
    }

    #[test]
    fn sources_that_are_gone_are_forgotten() {
        let limits = Limits::default().source_connections_max(9);
        let mut sources = Sources::default();
        for last in 0..100 {
            let name = sources.enter(Instant::ZERO, IpAddr::from([10, 0, 0, last]), &limits);
            sources.leave(name.unwrap());
        }
        let later = Instant::ZERO + WINDOW;
        let _ = sources.enter(later, ip("10.0.1.1"), &limits);
        assert_eq!(sources.by_source.len(), 1);
    }
}
