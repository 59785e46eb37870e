//! Which server gets a call that this one has no handler for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pitaya_proto::route::RouteName;

use super::members::find;
use super::{ServerId, ServerInfo, rendezvous};
use crate::{Rng, SessionId};

/// The rules by which calls find a server, one for each kind of server.
///
/// It does not change once the server runs, so that all who route share it without a lock.
///
/// ```
/// use pitaya_core::cluster::{Routed, Router, Rule, ServerId};
/// use pitaya_core::Rng;
///
/// # use std::sync::Arc;
/// # use pitaya_core::cluster::{Incarnation, ServerInfo};
/// # use pitaya_proto::route::RouteName;
/// # fn server(id: &str) -> Arc<ServerInfo> {
/// #     Arc::new(ServerInfo {
/// #         addresses: vec![], frontend: false, hostname: "".into(), kind: "room".into(),
/// #         id: ServerId::new(id).unwrap(), incarnation: Incarnation::new(1),
/// #         metadata: Default::default(),
/// #     })
/// # }
/// // The payload begins with the number of a room, and each room has a server.
/// let by_room = |call: &Routed<'_>| ServerId::new(&format!("room-{}", call.payload.first()?));
/// let router = Router::default().rule("hall", Rule::ByUid).rule("room", Rule::custom(by_room));
///
/// let call = Routed {
///     candidates: &[server("room-1"), server("room-2")], // of the members
///     load: &|_| 0,
///     payload: &[2],
///     route: RouteName::parse(b"room.chat.send")?,
///     session: None,
///     uid: None,
/// };
/// let server = router.decide_alone(&call, &mut Rng::new(1)).expect("there is a room 2");
/// assert_eq!(server.id.as_str(), "room-2");
/// # Ok::<(), pitaya_core::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Router {
    rules: BTreeMap<Arc<str>, Ruled>,
}

/// How one of the candidates for a call is chosen.
#[derive(Default)]
pub enum Rule {
    /// The one that the user id belongs to by [`rendezvous`], so that it is the same whichever
    /// server routes; as `Sticky` while the session has none.
    ByUid,
    /// The one that a function names. If that is nobody, or no candidate, the call goes nowhere.
    Custom(Box<Custom>),
    /// The one with the fewest calls of this server in flight, any of them if there are several.
    LeastLoaded,
    /// Any of them, each time anew: calls of one session may overtake each other.
    Random,
    /// One after another, whoever calls.
    RoundRobin,
    /// Any of them at first, and the same for each later call of the session for as long as that
    /// life of it is a candidate.
    #[default]
    Sticky,
}

/// Names a server for a call.
pub type Custom = dyn Fn(&Routed<'_>) -> Option<ServerId> + Send + Sync;

/// A call that needs a server, with all that a rule may ask about.
#[derive(Clone, Copy)]
pub struct Routed<'a> {
    /// Who may get it: servers of one kind, sorted by id, as
    /// [`Members::candidates`](super::Members::candidates) gives them.
    pub candidates: &'a [Arc<ServerInfo>],
    /// How many calls of this server are in flight to another.
    pub load: &'a dyn Fn(&ServerId) -> usize,
    /// The body of the call.
    pub payload: &'a [u8],
    /// Its route.
    pub route: RouteName<'a>,
    /// The session that calls; none if this server calls by itself.
    pub session: Option<SessionId>,
    /// The user id of the session, once it is bound.
    pub uid: Option<&'a str>,
}

/// The servers that one session was given and keeps, at most one of each kind; cheap to hold.
///
/// It belongs to the session, and is over with it.
#[derive(Clone, Debug, Default)]
pub struct Kept(Vec<Arc<ServerInfo>>);

impl Router {
    /// Calls to servers of that kind follow `rule`. Those of a kind without any follow
    /// [`Rule::Sticky`].
    #[must_use]
    pub fn rule(mut self, kind: &str, rule: Rule) -> Self {
        self.rules.insert(kind.into(), Ruled { rule, turns: AtomicUsize::new(0) });
        self
    }

    /// The server that gets the call of a session; nobody if there is no candidate, or a custom
    /// rule says so.
    ///
    /// The call is for that life of the server: if it is over before the call is sent, that needs a
    /// new decision.
    pub fn decide(
        &self, routed: &Routed<'_>, kept: &mut Kept, rng: &mut Rng,
    ) -> Option<Arc<ServerInfo>> {
        self.decide_by(routed, rng, |rng| kept.stick(routed.candidates, rng))
    }

    /// The same for a call of this server by itself, for which nothing is kept.
    pub fn decide_alone(&self, routed: &Routed<'_>, rng: &mut Rng) -> Option<Arc<ServerInfo>> {
        self.decide_by(routed, rng, |rng| pick(routed.candidates, rng).cloned())
    }

    fn decide_by(
        &self, routed: &Routed<'_>, rng: &mut Rng,
        stick: impl FnOnce(&mut Rng) -> Option<Arc<ServerInfo>>,
    ) -> Option<Arc<ServerInfo>> {
        let candidates = routed.candidates;
        let Some(ruled) = self.rules.get(&candidates.first()?.kind) else { return stick(rng) };
        let server = match (&ruled.rule, routed.uid) {
            (Rule::Sticky, _) | (Rule::ByUid, None) => return stick(rng),
            (Rule::ByUid, Some(uid)) => rendezvous(uid, candidates),
            (Rule::Custom(name), _) => name(routed).and_then(|id| find(candidates, &id)),
            (Rule::LeastLoaded, _) => {
                candidates.iter().min_by_key(|it| ((routed.load)(&it.id), rng.next_u64()))
            }
            (Rule::Random, _) => pick(candidates, rng),
            (Rule::RoundRobin, _) => candidates.get(ruled.take_turn() % candidates.len()),
        };
        server.cloned()
    }
}

impl Rule {
    /// The server that `name` names. If that is nobody, or no candidate, the call goes nowhere.
    pub fn custom(name: impl Fn(&Routed<'_>) -> Option<ServerId> + Send + Sync + 'static) -> Self {
        Self::Custom(Box::new(name))
    }
}

impl Kept {
    /// The server of that kind that was kept; another one, kept from now on, if that life of it is
    /// no candidate.
    fn stick(&mut self, candidates: &[Arc<ServerInfo>], rng: &mut Rng) -> Option<Arc<ServerInfo>> {
        let kind = &candidates.first()?.kind;
        let same_life = |kept: &Arc<ServerInfo>| {
            find(candidates, &kept.id).filter(|it| it.incarnation == kept.incarnation)
        };
        if let Some(kept) = self.0.iter().find(|kept| kept.kind == *kind).and_then(same_life) {
            return Some(Arc::clone(kept));
        }
        let chosen = pick(candidates, rng)?;
        self.0.retain(|kept| kept.kind != chosen.kind);
        self.0.push(Arc::clone(chosen));
        Some(Arc::clone(chosen))
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByUid => "ByUid",
            Self::Custom(_) => "Custom",
            Self::LeastLoaded => "LeastLoaded",
            Self::Random => "Random",
            Self::RoundRobin => "RoundRobin",
            Self::Sticky => "Sticky",
        })
    }
}

#[derive(Debug)]
struct Ruled {
    rule: Rule,
    turns: AtomicUsize,
}

impl Ruled {
    fn take_turn(&self) -> usize {
        // Nothing else is read by it, so no order with anything else is needed.
        self.turns.fetch_add(1, Ordering::Relaxed)
    }
}

fn pick<'c>(candidates: &'c [Arc<ServerInfo>], rng: &mut Rng) -> Option<&'c Arc<ServerInfo>> {
    candidates.get(rng.below(candidates.len() as u64) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    // The prelude of proptest has another.
    use crate::Rng;
    use crate::cluster::members::tests::server;

    const ROOMS: [(&str, u64); 3] = [("a", 1), ("b", 1), ("c", 1)];

    fn lives(kind: &str, lives: &[(&str, u64)]) -> Vec<Arc<ServerInfo>> {
        lives.iter().map(|(id, incarnation)| Arc::new(server(kind, id, *incarnation))).collect()
    }

    fn routed(candidates: &[Arc<ServerInfo>]) -> Routed<'_> {
        let route = RouteName::parse(b"room.chat.send").unwrap();
        Routed { candidates, load: &|_| 0, payload: b"", route, session: None, uid: None }
    }

    /// A router with one session and its luck.
    struct Trial {
        kept: Kept,
        rng: Rng,
        router: Router,
    }

    impl Trial {
        fn of(rule: Rule) -> Self {
            Self::seeded(1, rule)
        }

        fn seeded(seed: u64, rule: Rule) -> Self {
            let router = Router::default().rule("room", rule);
            Self { kept: Kept::default(), rng: Rng::new(seed), router }
        }

        fn decide(&mut self, routed: &Routed<'_>) -> Option<Arc<ServerInfo>> {
            self.router.decide(routed, &mut self.kept, &mut self.rng)
        }

        fn name(&mut self, routed: &Routed<'_>) -> Option<String> {
            self.decide(routed).map(|server| server.id.as_str().to_owned())
        }

        /// How often each of `ROOMS` gets one of so many calls.
        fn shares(&mut self, calls: usize, load: &dyn Fn(&ServerId) -> usize) -> [usize; 3] {
            let rooms = lives("room", &ROOMS);
            let call = Routed { load, ..routed(&rooms) };
            let names: Vec<_> = (0..calls).map(|_| self.name(&call).unwrap()).collect();
            ROOMS.map(|(id, _)| names.iter().filter(|name| *name == id).count())
        }
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        (0..6).prop_map(|rule| match rule {
            0 => Rule::ByUid,
            1 => Rule::custom(|call| Some(call.candidates.last()?.id.clone())),
            2 => Rule::LeastLoaded,
            3 => Rule::Random,
            4 => Rule::RoundRobin,
            _ => Rule::Sticky,
        })
    }

    fn any_lives() -> impl Strategy<Value = Vec<(&'static str, u64)>> {
        let ids = prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4);
        (ids, prop::collection::vec(1..3_u64, 4))
            .prop_map(|(ids, incarnations)| ids.into_iter().zip(incarnations).collect())
    }

    proptest! {
        #[test]
        fn a_session_stays_with_one_life_of_a_server_for_as_long_as_that_may_get_calls(
            sets in prop::collection::vec(any_lives(), 1..30), seed in any::<u64>(),
        ) {
            let mut trial = Trial::seeded(seed, Rule::Sticky);
            let mut last = None;
            for set in sets {
                let rooms = lives("room", &set);
                let decided = trial.decide(&routed(&rooms));
                match (&last, &decided) {
                    (Some(last), Some(decided)) if rooms.contains(last) => {
                        prop_assert_eq!(last, decided);
                    }
                    (_, decided) => prop_assert_eq!(decided.is_none(), rooms.is_empty()),
                }
                last = decided.or(last);
            }
        }

        #[test]
        fn whatever_the_rule_a_call_goes_to_a_candidate_and_nowhere_if_there_is_none(
            rule in any_rule(), sets in prop::collection::vec(any_lives(), 1..30),
            uid in prop::option::of("[a-z]{1,4}"),
        ) {
            let mut trial = Trial::of(rule);
            for set in sets {
                let rooms = lives("room", &set);
                let decided = trial.decide(&Routed { uid: uid.as_deref(), ..routed(&rooms) });
                let is_one = |it: Arc<ServerInfo>| rooms.iter().any(|room| Arc::ptr_eq(room, &it));
                prop_assert_eq!(decided.map(is_one), rooms.first().map(|_| true));
            }
        }
    }

    #[test]
    fn a_later_life_of_the_server_that_was_kept_is_a_stranger() {
        let after_restart = |seed| {
            let mut trial = Trial::seeded(seed, Rule::Sticky);
            assert_eq!(trial.name(&routed(&lives("room", &[("a", 1)]))).unwrap(), "a");
            trial.name(&routed(&lives("room", &[("a", 2), ("b", 1)]))).unwrap()
        };
        let to_it = (0..1000).filter(|seed| after_restart(*seed) == "a").count();
        assert!((400..600).contains(&to_it), "{to_it} of 1000 were not decided anew");
    }

    #[test]
    fn a_session_comes_back_to_the_only_server_there_is() {
        let mut trial = Trial::of(Rule::Sticky);
        let rooms = lives("room", &ROOMS);
        let kept = trial.decide(&routed(&rooms)).unwrap();
        assert_eq!(trial.decide(&routed(&[])), None);
        assert_eq!(trial.decide(&routed(&rooms)), Some(kept));
    }

    #[test]
    fn what_a_kept_server_says_of_itself_may_change() {
        let mut trial = Trial::of(Rule::Sticky);
        trial.decide(&routed(&lives("room", &ROOMS[..1])));
        let now = Arc::new(ServerInfo { frontend: true, ..server("room", "a", 1) });
        let candidates = [Arc::clone(&now), Arc::new(server("room", "b", 1))];
        assert_eq!(trial.decide(&routed(&candidates)), Some(now));
    }

    #[test]
    fn kinds_without_a_rule_are_sticky_and_each_is_kept_by_itself() {
        let mut trial = Trial::of(Rule::Random);
        let kinds = ["hall", "shop"].map(|kind| lives(kind, &ROOMS));
        let first = [0, 1].map(|at| trial.decide(&routed(&kinds[at])));
        for _ in 0..20 {
            assert_eq!([0, 1].map(|at| trial.decide(&routed(&kinds[at]))), first);
        }
        assert_eq!(trial.kept.0.len(), 2);
    }

    #[test]
    fn sessions_spread_over_the_servers() {
        let first = |seed| Trial::seeded(seed, Rule::Sticky).shares(1, &|_| 0);
        let shares: Vec<_> = (0..3000).map(first).collect();
        for at in 0..3 {
            let sessions: usize = shares.iter().map(|share| share[at]).sum();
            assert!((850..1150).contains(&sessions), "{sessions}");
        }
    }

    #[test]
    fn calls_of_a_server_by_itself_spread_over_the_servers() {
        let (rooms, mut trial) = (lives("room", &ROOMS), Trial::of(Rule::Sticky));
        let mut decide = || trial.router.decide_alone(&routed(&rooms), &mut trial.rng).unwrap();
        let decided: Vec<_> = (0..300).map(|_| decide()).collect();
        for room in &rooms {
            let calls = decided.iter().filter(|it| Arc::ptr_eq(it, room)).count();
            assert!((70..130).contains(&calls), "{calls} of 300");
        }
    }

    #[test]
    fn random_calls_spread_over_the_servers() {
        let shares = Trial::of(Rule::Random).shares(3000, &|_| 0);
        assert!(shares.iter().all(|share| (850..1150).contains(share)), "{shares:?}");
    }

    #[test]
    fn round_robin_is_fair_whoever_calls() {
        let mut trial = Trial::of(Rule::RoundRobin);
        for _ in 0..10 {
            assert_eq!(trial.shares(3, &|_| 0), [1, 1, 1]);
            trial.kept = Kept::default();
        }
        assert_eq!(trial.shares(301, &|_| 0), [101, 100, 100]);
    }

    #[test]
    fn round_robin_counts_each_kind_by_itself() {
        let router = Router::default().rule("hall", Rule::RoundRobin);
        let mut trial =
            Trial { router: router.rule("room", Rule::RoundRobin), ..Trial::of(Rule::Sticky) };
        let (halls, rooms) = (lives("hall", &ROOMS[..2]), lives("room", &ROOMS[..2]));
        for expected in ["a", "b", "a"] {
            assert_eq!(trial.name(&routed(&halls)).unwrap(), expected);
            assert_eq!(trial.name(&routed(&rooms)).unwrap(), expected);
        }
    }

    #[test]
    fn the_least_loaded_gets_the_call_and_any_of_them_if_there_are_several() {
        let load = |busy: &'static str| move |id: &ServerId| usize::from(id.as_str() == busy);
        let [a, b, c] = Trial::of(Rule::LeastLoaded).shares(1000, &load("b"));
        assert!(b == 0 && (400..600).contains(&a) && a + c == 1000, "{a} {b} {c}");
        let only_b_is_idle = |id: &ServerId| usize::from(id.as_str() != "b");
        assert_eq!(Trial::of(Rule::LeastLoaded).shares(9, &only_b_is_idle), [0, 9, 0]);
    }

    #[test]
    fn a_user_id_belongs_to_one_server_whichever_session_and_router_asks() {
        let rooms = lives("room", &ROOMS);
        for uid in ["ann", "bob", "eve"] {
            let call = Routed { uid: Some(uid), ..routed(&rooms) };
            let home = rendezvous(uid, &rooms).cloned();
            for seed in 0..20 {
                assert_eq!(Trial::seeded(seed, Rule::ByUid).decide(&call), home);
            }
        }
    }

    #[test]
    fn a_session_without_a_user_id_keeps_a_server_meanwhile() {
        let (mut trial, rooms) = (Trial::of(Rule::ByUid), lives("room", &ROOMS));
        let first = trial.decide(&routed(&rooms));
        assert!((0..20).all(|_| trial.decide(&routed(&rooms)) == first));
    }

    #[test]
    fn a_custom_rule_that_names_nobody_or_no_candidate_sends_the_call_nowhere() {
        let by_payload = |call: &Routed<'_>| ServerId::new(str::from_utf8(call.payload).ok()?);
        let (mut trial, rooms) = (Trial::of(Rule::custom(by_payload)), lives("room", &ROOMS));
        for (payload, expected) in [("b", Some("b")), ("d", None), ("", None), ("c", Some("c"))] {
            let call = Routed { payload: payload.as_bytes(), ..routed(&rooms) };
            assert_eq!(trial.name(&call).as_deref(), expected, "{payload}");
        }
        assert!(trial.kept.0.is_empty());
    }
}
