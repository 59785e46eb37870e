//! The home's half of the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::Instant;
use crate::planted::mutant;

use super::pace::Pace;
use super::{Answer, Ask, Epoch, Holding, Life, Login};

/// Which session has which user id, of those that this server is the home of.
///
/// It does not judge whether it is the home: it grants and keeps whatever it is asked to, until
/// [`surrender`](Self::surrender). Its size is that of the sessions that servers announced.
#[derive(Debug)]
pub struct Directory {
    me: Life,
    holdings: BTreeMap<Arc<str>, Holding>,
    others: BTreeSet<Life>,
    pace: Pace,
    origin: Epoch,
    /// Of all user ids, so that nothing is kept of those that nobody has any more.
    highest: Epoch,
}

/// What the announcement of a holding did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Announced {
    /// It is the highest, and kept; if it replaced another, that one's session must close.
    Held(Option<Holding>),
    /// There is a higher one: the session must close.
    Outranked,
    /// It is of a server that is not there, and not kept.
    Stranger,
}

impl Directory {
    /// An empty directory on the server `me`, which grants a user id at most `binds_max` times in
    /// any `binds_window`.
    ///
    /// `origin` is what the clocks of all servers showed at [`Instant::ZERO`] of this one, such as
    /// microseconds since 1970. Where they are wrong only the order of logins is, and only while
    /// homes change.
    pub fn new(me: Life, origin: Epoch, binds_max: usize, binds_window: Duration) -> Self {
        Self {
            me,
            holdings: BTreeMap::new(),
            others: BTreeSet::new(),
            pace: Pace::new(binds_max, binds_window),
            origin,
            highest: Epoch::default(),
        }
    }

    /// Does what a frontend asks; gives what is to be told to whom.
    pub fn handle_ask(&mut self, now: Instant, from: &Life, ask: Ask) -> Vec<(Life, Answer)> {
        match ask {
            Ask::Announce(login) => self.handle_announce(from, login),
            Ask::Claim { after, session, uid } => {
                let answer = match self.claim(now, &uid, after) {
                    Ok(epoch) => Answer::Granted(Login { epoch, session, uid }),
                    Err(wait) => Answer::Refused { session, uid, wait },
                };
                vec![(from.clone(), answer)]
            }
            Ask::Release(login) => {
                self.release(&login.uid, &login.holding(from.clone()));
                Vec::new()
            }
        }
    }

    /// An epoch for a new login, higher than `after` and than all that were given or heard of.
    /// Nothing else changes: it counts once it is announced.
    ///
    /// # Errors
    ///
    /// The user id was claimed too often; how long to wait.
    pub fn claim(&mut self, now: Instant, uid: &Arc<str>, after: Epoch) -> Result<Epoch, Duration> {
        self.pace.allow(now, uid)?;
        let clock = self.origin.plus(now.micros());
        self.highest = self.highest.max(after).plus(1).max(clock);
        Ok(self.highest)
    }

    /// Learns that a session has a user id. The higher holding stays, and that is the same one on
    /// every server, whichever it hears of first.
    pub fn announce(&mut self, uid: &Arc<str>, holding: Holding) -> Announced {
        let server = &holding.holder.server;
        if *server != self.me && !self.others.contains(server) {
            return Announced::Stranger;
        }
        self.highest = self.highest.max(holding.epoch);
        let Some(held) = self.holdings.get_mut(uid) else {
            self.holdings.insert(Arc::clone(uid), holding);
            return Announced::Held(None);
        };
        if holding < *held {
            return Announced::Outranked;
        }
        let lower = std::mem::replace(held, holding);
        Announced::Held((lower != *held).then_some(lower))
    }

    /// Takes a holding out; nothing changes if the user id has another one. Whether it was there.
    pub fn release(&mut self, uid: &str, holding: &Holding) -> bool {
        let is_held =
            self.holdings.get(uid) == Some(holding) || mutant("the older login frees the id");
        if is_held {
            self.holdings.remove(uid);
        }
        is_held
    }

    /// Who has a user id.
    pub fn find(&self, uid: &str) -> Option<&Holding> {
        self.holdings.get(uid)
    }

    /// A server is there, and may announce.
    pub fn welcome_server(&mut self, server: Life) {
        self.others.insert(server);
    }

    /// A server is gone with all its sessions, or cannot be reached. If it comes back it must
    /// announce anew, and so must this server to it: [`Claims::forget_server`] of both.
    ///
    /// [`Claims::forget_server`]: super::Claims::forget_server
    pub fn forget_server(&mut self, server: &Life) {
        self.others.remove(server);
        self.holdings.retain(|_, holding| holding.holder.server != *server);
    }

    /// Drops the user ids that this server is no longer the home of. Their frontends have to be
    /// told what it gives: one that sees no change of home must announce again.
    pub fn surrender(&mut self, is_mine: impl Fn(&str) -> bool) -> Vec<(Life, Answer)> {
        let others = self.holdings.extract_if(.., |uid, _| !is_mine(uid));
        let dropped = |(uid, holding): (_, Holding)| {
            let (server, login) = holding.login(uid);
            (server, Answer::Dropped(login))
        };
        others.map(dropped).collect()
    }

    /// How many user ids somebody has.
    pub fn count(&self) -> usize {
        self.holdings.len()
    }

    fn handle_announce(&mut self, from: &Life, login: Login) -> Vec<(Life, Answer)> {
        let lost = match self.announce(&login.uid, login.holding(from.clone())) {
            Announced::Held(lost) => lost,
            Announced::Outranked => return vec![(from.clone(), Answer::Lost(login))],
            Announced::Stranger => return Vec::new(),
        };
        let lost = lost.map(|holding| {
            let (server, login) = holding.login(Arc::clone(&login.uid));
            (server, Answer::Lost(login))
        });
        lost.into_iter().chain([(from.clone(), Answer::Held(login))]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionId;
    use crate::cluster::{Holder, Incarnation, ServerId};

    fn life(id: &str) -> Life {
        Life { id: ServerId::new(id).unwrap(), incarnation: Incarnation::new(1) }
    }

    fn holding(epoch: u64, server: &str) -> Holding {
        let holder = Holder { server: life(server), session: SessionId(1) };
        Holding { epoch: Epoch::new(epoch), holder }
    }

    fn directory() -> Directory {
        let mut directory = Directory::new(life("a"), Epoch::new(100), 5, Duration::from_secs(10));
        directory.welcome_server(life("b"));
        directory
    }

    fn claim(directory: &mut Directory, micros: u64, after: u64) -> u64 {
        let now = Instant::from_micros(micros);
        directory.claim(now, &"ann".into(), Epoch::new(after)).unwrap().number()
    }

    #[test]
    fn a_claim_is_above_the_time_and_all_that_was_given_or_heard() {
        let mut directory = directory();
        assert_eq!(claim(&mut directory, 5, 0), 105);
        assert_eq!(claim(&mut directory, 5, 0), 106, "the time alone would give it again");
        assert_eq!(claim(&mut directory, 6, 300), 301);
        directory.announce(&"bob".into(), holding(400, "b"));
        directory.release("bob", &holding(400, "b"));
        assert_eq!(claim(&mut directory, 7, 0), 401, "what has ended was heard all the same");
        assert_eq!(claim(&mut directory, 900, 0), 1000);
    }

    #[test]
    fn too_many_claims_are_refused_and_it_is_said_for_how_long() {
        let mut directory = directory();
        for micros in 0..5 {
            claim(&mut directory, micros, 0);
        }
        let now = Instant::ZERO + Duration::from_secs(4);
        let uid = Arc::from("ann");
        let ask =
            Ask::Claim { after: Epoch::default(), session: SessionId(1), uid: Arc::clone(&uid) };
        let wait = Duration::from_secs(6);
        let refused = Answer::Refused { session: SessionId(1), uid, wait };
        assert_eq!(directory.handle_ask(now, &life("b"), ask), [(life("b"), refused)]);
    }

    #[test]
    fn the_higher_holding_stays_in_whatever_order_they_are_heard() {
        let all = [holding(1, "b"), holding(2, "a"), holding(2, "b")];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut directory = directory();
            for at in order {
                directory.announce(&"ann".into(), all[at].clone());
            }
            assert_eq!(directory.find("ann"), Some(&all[2]), "{order:?}");
        }
    }

    #[test]
    fn whoever_lost_is_named_and_told() {
        let mut directory = directory();
        let uid = Arc::from("ann");
        let announce = |directory: &mut Directory, epoch, server: &str| {
            let (from, login) = holding(epoch, server).login(Arc::clone(&uid));
            directory.handle_ask(Instant::ZERO, &from, Ask::Announce(login))
        };
        let login = |epoch| holding(epoch, "a").login(Arc::clone(&uid)).1;
        let held = |server, epoch| (life(server), Answer::Held(login(epoch)));
        let lost = |server, epoch| (life(server), Answer::Lost(login(epoch)));
        assert_eq!(announce(&mut directory, 1, "b"), [held("b", 1)]);
        assert_eq!(announce(&mut directory, 1, "b"), [held("b", 1)], "nobody loses to itself");
        assert_eq!(announce(&mut directory, 2, "a"), [lost("b", 1), held("a", 2)]);
        assert_eq!(announce(&mut directory, 1, "b"), [lost("b", 1)]);
        assert_eq!(announce(&mut directory, 9, "c"), [], "it is not there");
    }

    #[test]
    fn a_release_takes_out_only_what_it_names() {
        let mut directory = directory();
        directory.announce(&"ann".into(), holding(2, "b"));
        for other in [holding(1, "b"), holding(3, "b"), holding(2, "a")] {
            assert!(!directory.release("ann", &other), "{other:?}");
        }
        assert!(directory.release("ann", &holding(2, "b")));
        assert_eq!(directory.find("ann"), None);
    }

    #[test]
    fn a_server_that_is_gone_takes_its_own_sessions_with_it() {
        let mut directory = directory();
        directory.announce(&"ann".into(), holding(1, "a"));
        directory.announce(&"bob".into(), holding(2, "b"));
        directory.forget_server(&life("b"));
        assert_eq!((directory.find("ann"), directory.count()), (Some(&holding(1, "a")), 1));
        assert_eq!(directory.announce(&"bob".into(), holding(2, "b")), Announced::Stranger);
        directory.welcome_server(life("b"));
        assert_eq!(directory.announce(&"bob".into(), holding(2, "b")), Announced::Held(None));
    }

    #[test]
    fn what_is_surrendered_is_told_to_its_frontend() {
        let mut directory = directory();
        directory.announce(&"ann".into(), holding(1, "a"));
        directory.announce(&"bob".into(), holding(2, "b"));
        let (server, login) = holding(2, "b").login("bob".into());
        assert_eq!(directory.surrender(|uid| uid == "ann"), [(server, Answer::Dropped(login))]);
        assert_eq!((directory.find("bob"), directory.count()), (None, 1));
    }

    #[test]
    fn epochs_end_without_wrapping() {
        let mut directory = directory();
        assert_eq!(claim(&mut directory, 0, u64::MAX), u64::MAX);
        assert_eq!(claim(&mut directory, u64::MAX, 0), u64::MAX);
    }
}
