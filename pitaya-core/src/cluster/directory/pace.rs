//! How often a user id may be claimed, or bound.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use thin_vec::ThinVec;

use crate::Instant;

/// At most so many claims of one user id in any window of time. It keeps no more than the claims
/// that it allowed within one window.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The oldest first.
    recent: VecDeque<(Instant, Arc<str>)>,
    by_uid: BTreeMap<Arc<str>, Claims>,
    claims_max: usize,
    window: Duration,
}

/// Those of one user id, which most often are one.
#[derive(Debug)]
struct Claims {
    oldest: Instant,
    later: ThinVec<Instant>,
}

impl Pace {
    pub(crate) fn new(claims_max: usize, window: Duration) -> Self {
        Self { recent: VecDeque::new(), by_uid: BTreeMap::new(), claims_max, window }
    }

    /// Counts one claim, unless there were too many: then how long to wait.
    pub(super) fn allow(&mut self, now: Instant, uid: &Arc<str>) -> Result<(), Duration> {
        self.check(now, uid)?;
        self.note(now, uid);
        Ok(())
    }

    /// Whether one claim more may be counted, or how long to wait.
    pub(crate) fn check(&mut self, now: Instant, uid: &str) -> Result<(), Duration> {
        self.forget_old(now);
        let (oldest, count) = match self.by_uid.get(uid) {
            Some(claims) => (claims.oldest, 1 + claims.later.len()),
            None => (now, 0),
        };
        if count < self.claims_max { Ok(()) } else { Err((oldest + self.window).since(now)) }
    }

    /// Counts one claim, as of `now` or of the last one before it, if that was later.
    pub(crate) fn note(&mut self, now: Instant, uid: &Arc<str>) {
        let now = self.recent.back().map_or(now, |(last, _)| now.max(*last));
        match self.by_uid.entry(Arc::clone(uid)) {
            Entry::Occupied(claims) => claims.into_mut().later.push(now),
            Entry::Vacant(place) => {
                place.insert(Claims { oldest: now, later: ThinVec::new() });
            }
        }
        self.recent.push_back((now, Arc::clone(uid)));
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((_, uid)) = self.recent.pop_front_if(|(at, _)| *at + self.window <= now) {
            let Some(claims) = self.by_uid.get_mut(&uid) else { continue };
            if claims.later.is_empty() {
                self.by_uid.remove(&uid);
            } else {
                claims.oldest = claims.later.remove(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_waits_for_the_oldest_to_be_out_of_the_window() {
        let mut pace = Pace::new(2, Duration::from_micros(10));
        let (ann, bob) = ("ann".into(), "bob".into());
        let mut allow = |micros, uid| pace.allow(Instant::from_micros(micros), uid);
        assert_eq!((allow(0, &ann), allow(4, &ann)), (Ok(()), Ok(())));
        assert_eq!(allow(7, &ann), Err(Duration::from_micros(3)));
        assert_eq!(allow(7, &bob), Ok(()));
        assert_eq!((allow(10, &ann), allow(10, &ann)), (Ok(()), Err(Duration::from_micros(4))));
    }

    #[test]
    fn nothing_older_than_the_window_is_kept() {
        let mut pace = Pace::new(2, Duration::from_micros(10));
        for micros in 0..100 {
            let uid = format!("{micros}").into();
            pace.allow(Instant::from_micros(micros), &uid).unwrap();
        }
        assert_eq!((pace.recent.len(), pace.by_uid.len()), (10, 10));
    }

    #[test]
    fn claims_that_are_noted_out_of_order_are_all_forgotten_in_the_end() {
        let mut pace = Pace::new(1, Duration::from_micros(10));
        for micros in [5, 3] {
            pace.note(Instant::from_micros(micros), &"ann".into());
        }
        assert!(pace.check(Instant::from_micros(14), "ann").is_err());
        assert_eq!(pace.check(Instant::from_micros(15), "ann"), Ok(()));
        assert_eq!((pace.recent.len(), pace.by_uid.len()), (0, 0));
    }

    #[test]
    fn a_pace_of_none_refuses_all() {
        let mut pace = Pace::new(0, Duration::from_micros(10));
        let wait = pace.allow(Instant::ZERO, &"ann".into());
        assert_eq!(wait, Err(Duration::from_micros(10)));
    }
}
