//! The frontend's half of the directory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pitaya_proto::error::{self, Error};

use crate::SessionId;
use crate::planted::mutant;

use super::{Answer, Ask, Epoch, Life, Login};

/// Which sessions of this server have which user ids, or are about to.
///
/// Whoever calls takes out all [events](Self::poll_event) after each call. It needs no time: what
/// was asked is answered, or the home is [forgotten](Self::forget_server) and the next one asked.
#[derive(Debug, Default)]
pub struct Claims {
    claims: BTreeMap<SessionId, Claim>,
    highest: Epoch,
    events: VecDeque<ClaimEvent>,
}

/// What has to be done for the sessions of this server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClaimEvent {
    /// The session is bound; once for each [`Claims::begin`] at most.
    Bound(SessionId),
    /// The session lost its user id to a newer login: it must be kicked.
    Close(SessionId),
    /// The bind is refused; a new one may succeed after the wait.
    Refused(SessionId, Duration),
    /// This must be said to that server, which may be this one.
    Tell(Life, Ask),
}

#[derive(Debug)]
struct Claim {
    uid: Arc<str>,
    home: Option<Life>,
    stage: Stage,
    /// The servers that may have it: the home, and those that were it.
    told: BTreeSet<Life>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Announced(Epoch),
    /// An epoch that is not above this one was granted before, and may have been released since.
    Asking(Epoch),
    Bound(Epoch),
}

impl Claims {
    /// Nobody has a user id.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to bind a session to a user id with that home; without any it waits for one.
    ///
    /// # Errors
    ///
    /// The session is bound or being bound.
    pub fn begin(
        &mut self, session: SessionId, uid: Arc<str>, home: Option<Life>,
    ) -> Result<(), Error> {
        if self.claims.contains_key(&session) {
            return Err(error::SESSION_ALREADY_BOUND.into());
        }
        let (stage, told) = (Stage::Asking(self.highest), BTreeSet::new());
        let mut claim = Claim { uid, home: None, stage, told };
        let ask = claim.move_to(session, home, self.highest);
        self.claims.insert(session, claim);
        self.events.extend(ask);
        Ok(())
    }

    /// The session closed, or gives up its bind: whoever was told that it has a user id is told
    /// that it has not.
    pub fn end(&mut self, session: SessionId) {
        let Some(claim) = self.claims.remove(&session) else { return };
        let Some(login) = claim.login(session) else { return };
        let release = |server| ClaimEvent::Tell(server, Ask::Release(login.clone()));
        self.events.extend(claim.told.into_iter().map(release));
    }

    /// Takes what a home says. About a login that has ended since, or an older one of the same
    /// session, it changes nothing; whoever keeps such a login is told to release it.
    pub fn handle_answer(&mut self, from: &Life, answer: Answer) {
        match answer {
            Answer::Dropped(login) => self.handle_dropped(from, &login),
            Answer::Granted(login) => self.handle_granted(&login),
            Answer::Held(login) => self.handle_held(from, login),
            Answer::Lost(login) => self.handle_lost(&login),
            Answer::Refused { session, uid, wait } => self.handle_refused(session, &uid, wait),
        }
    }

    /// Learns the homes of all user ids after some may have changed: the new ones are asked, and
    /// told what there is.
    pub fn rehome(&mut self, home_of: impl Fn(&str) -> Option<Life>) {
        for (session, claim) in &mut self.claims {
            let home = home_of(&claim.uid);
            if claim.home != home && !mutant("a new home is told nothing") {
                self.events.extend(claim.move_to(*session, home, self.highest));
            }
        }
    }

    /// A server is gone, or could not be reached for a while and has forgotten what it was told.
    /// [`rehome`](Self::rehome) comes next, even if it is back already.
    pub fn forget_server(&mut self, server: &Life) {
        for claim in self.claims.values_mut() {
            claim.told.remove(server);
            claim.home.take_if(|home| home == server);
        }
    }

    /// The next thing to be done.
    pub fn poll_event(&mut self) -> Option<ClaimEvent> {
        self.events.pop_front()
    }

    /// What a session has, from when its epoch is taken, and before it is bound.
    pub fn login(&self, session: SessionId) -> Option<Login> {
        self.claims.get(&session)?.login(session)
    }

    /// Whether a session is bound.
    pub fn is_bound(&self, session: SessionId) -> bool {
        self.claims.get(&session).is_some_and(|claim| match claim.stage {
            Stage::Bound(_) => true,
            Stage::Announced(_) | Stage::Asking(_) => false,
        })
    }

    /// Sessions that are bound or being bound.
    pub fn count(&self) -> usize {
        self.claims.len()
    }

    fn handle_granted(&mut self, login: &Login) {
        self.highest = self.highest.max(login.epoch);
        let Some(claim) = self.claims.get_mut(&login.session) else { return };
        match claim.stage {
            Stage::Asking(after) if after < login.epoch && claim.uid == login.uid => {
                claim.stage = Stage::Announced(login.epoch);
                self.events.extend(claim.tell_home(login.session, self.highest));
            }
            Stage::Announced(_) | Stage::Asking(_) | Stage::Bound(_) => {}
        }
    }

    fn handle_held(&mut self, from: &Life, login: Login) {
        let Some(claim) = self.current(&login) else {
            self.events.push_back(ClaimEvent::Tell(from.clone(), Ask::Release(login)));
            return;
        };
        // Even if it is no home: it has the login, so it must hear of its end.
        claim.told.insert(from.clone());
        let is_home = claim.home.as_ref() == Some(from);
        match claim.stage {
            Stage::Announced(epoch) if is_home => {
                claim.stage = Stage::Bound(epoch);
                self.events.push_back(ClaimEvent::Bound(login.session));
            }
            Stage::Announced(_) | Stage::Asking(_) | Stage::Bound(_) => {}
        }
    }

    fn handle_lost(&mut self, login: &Login) {
        if self.current(login).is_some() {
            self.events.push_back(ClaimEvent::Close(login.session));
            self.end(login.session);
        }
    }

    fn handle_dropped(&mut self, from: &Life, login: &Login) {
        let highest = self.highest;
        let Some(claim) = self.current(login) else { return };
        if claim.home.as_ref() == Some(from) {
            let again = claim.tell_home(login.session, highest);
            self.events.extend(again);
        }
    }

    fn handle_refused(&mut self, session: SessionId, uid: &str, wait: Duration) {
        let is_asking = |claim: &Claim| match claim.stage {
            Stage::Asking(_) => *claim.uid == *uid,
            Stage::Announced(_) | Stage::Bound(_) => false,
        };
        if self.claims.get(&session).is_some_and(is_asking) {
            self.claims.remove(&session);
            self.events.push_back(ClaimEvent::Refused(session, wait));
        }
    }

    /// The claim that has exactly this login.
    fn current(&mut self, login: &Login) -> Option<&mut Claim> {
        self.highest = self.highest.max(login.epoch);
        let claim = self.claims.get_mut(&login.session)?;
        (claim.login(login.session).as_ref() == Some(login)).then_some(claim)
    }
}

impl Claim {
    fn login(&self, session: SessionId) -> Option<Login> {
        match self.stage {
            Stage::Announced(epoch) | Stage::Bound(epoch) => {
                Some(Login { epoch, session, uid: Arc::clone(&self.uid) })
            }
            Stage::Asking(_) => None,
        }
    }

    fn move_to(
        &mut self, session: SessionId, home: Option<Life>, highest: Epoch,
    ) -> Option<ClaimEvent> {
        self.home = home;
        self.tell_home(session, highest)
    }

    /// What the home has to hear now, if there is one.
    fn tell_home(&mut self, session: SessionId, highest: Epoch) -> Option<ClaimEvent> {
        let home = self.home.clone()?;
        let ask = match self.login(session) {
            None => {
                self.stage = Stage::Asking(highest);
                Ask::Claim { after: highest, session, uid: Arc::clone(&self.uid) }
            }
            Some(login) => {
                self.told.insert(home.clone());
                Ask::Announce(login)
            }
        };
        Some(ClaimEvent::Tell(home, ask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Incarnation, ServerId};

    const SESSION: SessionId = SessionId(1);

    fn life(id: &str) -> Life {
        Life { id: ServerId::new(id).unwrap(), incarnation: Incarnation::new(1) }
    }

    fn login(epoch: u64) -> Login {
        Login { epoch: Epoch::new(epoch), session: SESSION, uid: "ann".into() }
    }

    fn claim(after: u64) -> Ask {
        Ask::Claim { after: Epoch::new(after), session: SESSION, uid: "ann".into() }
    }

    fn tell(server: &str, ask: Ask) -> ClaimEvent {
        ClaimEvent::Tell(life(server), ask)
    }

    fn events(claims: &mut Claims) -> Vec<ClaimEvent> {
        std::iter::from_fn(|| claims.poll_event()).collect()
    }

    fn asking() -> Claims {
        let mut claims = Claims::new();
        claims.begin(SESSION, "ann".into(), Some(life("h"))).unwrap();
        assert_eq!(events(&mut claims), [tell("h", claim(0))]);
        claims
    }

    fn announced() -> Claims {
        let mut claims = asking();
        claims.handle_answer(&life("h"), Answer::Granted(login(5)));
        assert_eq!(events(&mut claims), [tell("h", Ask::Announce(login(5)))]);
        claims
    }

    fn bound() -> Claims {
        let mut claims = announced();
        claims.handle_answer(&life("h"), Answer::Held(login(5)));
        assert_eq!(events(&mut claims), [ClaimEvent::Bound(SESSION)]);
        claims
    }

    #[test]
    fn a_session_is_bound_when_its_home_has_it() {
        let mut claims = announced();
        assert!(!claims.is_bound(SESSION));
        claims.handle_answer(&life("h"), Answer::Held(login(5)));
        assert!(claims.is_bound(SESSION));
        assert_eq!(claims.login(SESSION), Some(login(5)));
        assert_eq!(events(&mut claims), [ClaimEvent::Bound(SESSION)]);
        claims.handle_answer(&life("h"), Answer::Held(login(5)));
        assert_eq!(events(&mut claims), [], "it is said once");
    }

    #[test]
    fn a_session_has_one_claim_at_a_time() {
        let mut claims = bound();
        let again = claims.begin(SESSION, "bob".into(), Some(life("h")));
        assert_eq!(again, Err(error::SESSION_ALREADY_BOUND.into()));
        assert_eq!(claims.login(SESSION), Some(login(5)));
    }

    #[test]
    fn a_session_keeps_the_first_epoch_that_it_takes() {
        let mut claims = announced();
        claims.handle_answer(&life("g"), Answer::Granted(login(7)));
        assert_eq!((claims.login(SESSION), events(&mut claims)), (Some(login(5)), vec![]));
    }

    #[test]
    fn a_grant_for_a_session_that_closed_takes_nothing() {
        let mut claims = asking();
        claims.end(SESSION);
        claims.handle_answer(&life("h"), Answer::Granted(login(5)));
        assert_eq!((claims.count(), events(&mut claims)), (0, vec![]));
    }

    #[test]
    fn a_home_that_holds_what_has_ended_is_told_to_release_it() {
        let mut claims = announced();
        claims.end(SESSION);
        assert_eq!(events(&mut claims), [tell("h", Ask::Release(login(5)))]);
        claims.handle_answer(&life("h"), Answer::Held(login(5)));
        assert_eq!(events(&mut claims), [tell("h", Ask::Release(login(5)))]);
    }

    #[test]
    fn an_epoch_that_was_given_up_is_not_taken_again() {
        let mut claims = announced();
        claims.end(SESSION);
        events(&mut claims);
        claims.begin(SESSION, "ann".into(), Some(life("h"))).unwrap();
        assert_eq!(events(&mut claims), [tell("h", claim(5))]);
        claims.handle_answer(&life("h"), Answer::Granted(login(5)));
        assert_eq!((claims.login(SESSION), events(&mut claims)), (None, vec![]));
    }

    #[test]
    fn only_the_loss_of_the_current_epoch_closes_the_session() {
        let mut claims = bound();
        for other in [login(4), login(6), Login { uid: "bob".into(), ..login(5) }] {
            claims.handle_answer(&life("h"), Answer::Lost(other));
        }
        assert_eq!((claims.is_bound(SESSION), events(&mut claims)), (true, vec![]));
        claims.handle_answer(&life("h"), Answer::Lost(login(5)));
        let closes = [ClaimEvent::Close(SESSION), tell("h", Ask::Release(login(5)))];
        assert_eq!(events(&mut claims), closes);
        claims.handle_answer(&life("h"), Answer::Lost(login(5)));
        assert_eq!((claims.count(), events(&mut claims)), (0, vec![]));
    }

    #[test]
    fn a_refusal_ends_the_bind_that_asked() {
        let wait = Duration::from_secs(1);
        let refused = |uid: &str| Answer::Refused { session: SESSION, uid: uid.into(), wait };
        let mut claims = asking();
        claims.handle_answer(&life("h"), refused("bob"));
        assert_eq!((claims.count(), events(&mut claims)), (1, vec![]));
        claims.handle_answer(&life("h"), refused("ann"));
        assert_eq!(events(&mut claims), [ClaimEvent::Refused(SESSION, wait)]);
        let mut claims = bound();
        claims.handle_answer(&life("h"), refused("ann"));
        assert!(claims.is_bound(SESSION), "it asked twice, and was granted the first");
    }

    #[test]
    fn a_new_home_is_asked_or_told_and_the_old_one_hears_of_the_end() {
        let mut claims = asking();
        claims.rehome(|_| Some(life("g")));
        assert_eq!(events(&mut claims), [tell("g", claim(0))]);
        claims.rehome(|_| None);
        assert_eq!(events(&mut claims), []);

        let mut claims = bound();
        claims.rehome(|_| Some(life("h")));
        assert_eq!(events(&mut claims), [], "nothing changed");
        claims.rehome(|_| Some(life("g")));
        assert_eq!(events(&mut claims), [tell("g", Ask::Announce(login(5)))]);
        claims.end(SESSION);
        let released = ["g", "h"].map(|server| tell(server, Ask::Release(login(5))));
        assert_eq!(events(&mut claims), released);
    }

    #[test]
    fn a_bind_waits_for_the_home_of_now() {
        let mut claims = announced();
        claims.rehome(|_| Some(life("g")));
        events(&mut claims);
        claims.handle_answer(&life("h"), Answer::Held(login(5)));
        assert!(!claims.is_bound(SESSION));
        claims.handle_answer(&life("g"), Answer::Held(login(5)));
        assert!(claims.is_bound(SESSION));
    }

    #[test]
    fn a_home_that_was_away_is_told_again() {
        let mut claims = bound();
        claims.forget_server(&life("h"));
        claims.rehome(|_| Some(life("h")));
        assert_eq!(events(&mut claims), [tell("h", Ask::Announce(login(5)))]);
    }

    #[test]
    fn a_home_that_dropped_it_is_told_again_and_one_that_is_none_is_not() {
        let mut claims = bound();
        claims.handle_answer(&life("g"), Answer::Dropped(login(5)));
        claims.handle_answer(&life("h"), Answer::Dropped(login(4)));
        assert_eq!(events(&mut claims), []);
        claims.handle_answer(&life("h"), Answer::Dropped(login(5)));
        assert_eq!(events(&mut claims), [tell("h", Ask::Announce(login(5)))]);
    }
}
