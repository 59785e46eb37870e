//! Which servers are there, learned one event at a time.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::mem::replace;
use std::sync::Arc;

use super::members::Member;
use super::{Incarnation, Members, ServerId, ServerInfo};

/// The set of live servers, as one of them knows it; that one is always in it.
///
/// Whoever owns the links says what became of them; [`poll_event`](Self::poll_event) then says what
/// that changed, and [`snapshot`](Self::snapshot) gives the set. What is said of one life of a
/// server never touches another.
///
/// ```
/// use pitaya_core::cluster::{Incarnation, MemberEvent, Membership, ServerId};
///
/// # use pitaya_core::cluster::ServerInfo;
/// # fn server(kind: &str, id: &str, start: u64) -> ServerInfo {
/// #     ServerInfo {
/// #         addresses: vec![], frontend: false, hostname: "".into(), kind: kind.into(),
/// #         id: ServerId::new(id).unwrap(), incarnation: Incarnation::new(start),
/// #         metadata: Default::default(),
/// #     }
/// # }
/// let mut membership = Membership::new(server("gate", "gate-1", 1), 512);
/// membership.handle_joined(server("room", "room-1", 7))?;
/// let event = membership.poll_event().expect("somebody came");
/// assert!(matches!(event, MemberEvent::Joined(_)) && event.to_string() == "room-1 joined");
///
/// let room = ServerId::new("room-1").expect("a legal name");
/// membership.handle_suspected(&room, Incarnation::new(7));
/// assert_eq!(membership.snapshot().of_kind("room").len(), 1);
/// assert_eq!(membership.snapshot().candidates("room"), []);
/// # Ok::<(), pitaya_core::cluster::JoinError>(())
/// ```
#[derive(Debug)]
pub struct Membership {
    me: Arc<ServerInfo>,
    members: BTreeMap<ServerId, Member>,
    members_max: usize,
    events: VecDeque<MemberEvent>,
    snapshot: Option<Arc<Members>>,
}

/// What changed in the set of live servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MemberEvent {
    /// It says something else about itself than before.
    Changed(Arc<ServerInfo>),
    /// It is about to leave: it finishes what it has, and gets no new calls.
    Drains(Arc<ServerInfo>),
    /// It is there.
    Joined(Arc<ServerInfo>),
    /// That life of it is over, or out of reach: whatever waits for it waits in vain.
    Left(Arc<ServerInfo>),
    /// It answers again.
    Restored(Arc<ServerInfo>),
    /// It has been silent for too long: it gets no new calls.
    Suspected(Arc<ServerInfo>),
}

/// Why a server is no member though a link to it is up; that link is of no use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JoinError {
    /// There is no room for another.
    #[error("there are as many servers as there may be")]
    Full,
    /// It has the name of the server that it joins: it is that very server, or one too many.
    #[error("a server does not join itself")]
    Myself,
    /// A later life of that server is there already.
    #[error("a later life of this server is there already")]
    Outlived,
}

impl MemberEvent {
    /// The server that it is about.
    pub const fn server(&self) -> &Arc<ServerInfo> {
        match self {
            Self::Changed(server)
            | Self::Drains(server)
            | Self::Joined(server)
            | Self::Left(server)
            | Self::Restored(server)
            | Self::Suspected(server) => server,
        }
    }
}

/// For the log, or for people: who, and what of it.
impl fmt::Display for MemberEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Changed(_) => "says something else of itself",
            Self::Drains(_) => "is about to leave",
            Self::Joined(_) => "joined",
            Self::Left(_) => "left",
            Self::Restored(_) => "answers again",
            Self::Suspected(_) => "is silent, and gets no calls",
        };
        write!(f, "{} {what}", self.server().id)
    }
}

impl Membership {
    /// Nobody but this server itself, and room for `members_max` servers, itself included.
    pub fn new(me: ServerInfo, members_max: usize) -> Self {
        let me = Arc::new(me);
        let members = BTreeMap::from([(me.id.clone(), Member::new(Arc::clone(&me)))]);
        Self { me, members, members_max, events: VecDeque::new(), snapshot: None }
    }

    /// A link to a server is up, and it has proven who it is.
    ///
    /// A later life replaces an earlier one, which has left then. The same life once more answers,
    /// so it is not suspect any more, and may say something new about itself.
    ///
    /// # Errors
    ///
    /// It is no member by this; nothing has changed.
    pub fn handle_joined(&mut self, info: ServerInfo) -> Result<(), JoinError> {
        if info.id == self.me.id {
            return Err(JoinError::Myself);
        }
        match self.members.get(&info.id).map(|known| Arc::clone(&known.info)) {
            None if self.members.len() >= self.members_max => return Err(JoinError::Full),
            None => self.join(info),
            Some(known) => match info.incarnation.cmp(&known.incarnation) {
                Ordering::Less => return Err(JoinError::Outlived),
                Ordering::Equal => self.renew(info),
                Ordering::Greater => {
                    self.tell(MemberEvent::Left(known));
                    self.join(info);
                }
            },
        }
        Ok(())
    }

    /// Nothing was heard of a server for too long, though its link is still up. A server never
    /// suspects itself.
    pub fn handle_suspected(&mut self, id: &ServerId, incarnation: Incarnation) {
        if *id != self.me.id {
            let suspect = |member: &mut Member| !replace(&mut member.suspect, true);
            self.change(id, incarnation, suspect, MemberEvent::Suspected);
        }
    }

    /// A suspect answered.
    pub fn handle_restored(&mut self, id: &ServerId, incarnation: Incarnation) {
        let restore = |member: &mut Member| replace(&mut member.suspect, false);
        self.change(id, incarnation, restore, MemberEvent::Restored);
    }

    /// A server, or this one, said that it is about to leave. There is no way back from that but to
    /// leave.
    pub fn handle_drains(&mut self, id: &ServerId, incarnation: Incarnation) {
        let drain = |member: &mut Member| !replace(&mut member.drains, true);
        self.change(id, incarnation, drain, MemberEvent::Drains);
    }

    /// The link to a server is gone. A server never leaves itself.
    pub fn handle_left(&mut self, id: &ServerId, incarnation: Incarnation) {
        if *id == self.me.id || self.life(id, incarnation).is_none() {
            return;
        }
        if let Some(member) = self.members.remove(id) {
            self.tell(MemberEvent::Left(member.info));
        }
    }

    /// The oldest change that was not given yet.
    ///
    /// What comes in makes at most two, and none is left out or made one with another: ask until
    /// there is none each time, so that none pile up.
    pub fn poll_event(&mut self) -> Option<MemberEvent> {
        self.events.pop_front()
    }

    /// The set as it is now: the same value as before if no event happened since.
    pub fn snapshot(&mut self) -> Arc<Members> {
        let make = || Arc::new(Members::new(&self.me, &self.members));
        Arc::clone(self.snapshot.get_or_insert_with(make))
    }

    fn join(&mut self, info: ServerInfo) {
        let info = Arc::new(info);
        self.members.insert(info.id.clone(), Member::new(Arc::clone(&info)));
        self.tell(MemberEvent::Joined(info));
    }

    /// Another link to the life that is known, as when both sides dialled.
    fn renew(&mut self, info: ServerInfo) {
        let (id, incarnation) = (info.id.clone(), info.incarnation);
        let renew = |member: &mut Member| {
            let is_new = *member.info != info;
            if is_new {
                member.info = Arc::new(info);
            }
            is_new
        };
        self.change(&id, incarnation, renew, MemberEvent::Changed);
        self.handle_restored(&id, incarnation);
    }

    /// Changes that life of a server, and tells of it if `change` says that it made a difference.
    fn change(
        &mut self, id: &ServerId, incarnation: Incarnation,
        change: impl FnOnce(&mut Member) -> bool, event: fn(Arc<ServerInfo>) -> MemberEvent,
    ) {
        let Some(member) = self.life(id, incarnation) else { return };
        if change(member) {
            let info = Arc::clone(&member.info);
            self.tell(event(info));
        }
    }

    fn life(&mut self, id: &ServerId, incarnation: Incarnation) -> Option<&mut Member> {
        self.members.get_mut(id).filter(|member| member.info.incarnation == incarnation)
    }

    /// Every change is told of, so the snapshot is as old as the last one.
    fn tell(&mut self, event: MemberEvent) {
        self.events.push_back(event);
        self.snapshot = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::members::tests::server;

    const FEW: usize = 4;

    fn membership() -> Membership {
        Membership::new(server("gate", "gate", 1), FEW)
    }

    fn room(id: &str, incarnation: u64) -> ServerInfo {
        server("room", id, incarnation)
    }

    fn id(id: &str) -> ServerId {
        ServerId::new(id).unwrap()
    }

    fn events(membership: &mut Membership) -> Vec<MemberEvent> {
        std::iter::from_fn(|| membership.poll_event()).collect()
    }

    fn candidates(membership: &mut Membership) -> Vec<u64> {
        let members = membership.snapshot();
        members.candidates("room").iter().map(|room| room.incarnation.number()).collect()
    }

    const LIFE: [Incarnation; 4] =
        [Incarnation::new(0), Incarnation::new(1), Incarnation::new(2), Incarnation::new(3)];

    #[test]
    fn a_later_life_replaces_an_earlier_one_with_a_clean_slate() {
        let mut membership = membership();
        membership.handle_joined(room("a", 1)).unwrap();
        membership.handle_suspected(&id("a"), LIFE[1]);
        membership.handle_drains(&id("a"), LIFE[1]);
        events(&mut membership);
        membership.handle_joined(room("a", 2)).unwrap();
        let (old, new) = (Arc::new(room("a", 1)), Arc::new(room("a", 2)));
        assert_eq!(events(&mut membership), [MemberEvent::Left(old), MemberEvent::Joined(new)]);
        assert_eq!(candidates(&mut membership), [2]);
    }

    #[test]
    fn an_earlier_life_does_not_replace_a_later_one() {
        let mut membership = membership();
        membership.handle_joined(room("a", 2)).unwrap();
        assert_eq!(membership.handle_joined(room("a", 1)), Err(JoinError::Outlived));
        assert_eq!((events(&mut membership).len(), candidates(&mut membership)), (1, vec![2]));
    }

    #[test]
    fn what_is_said_of_another_life_changes_nothing() {
        let mut membership = membership();
        membership.handle_joined(room("a", 2)).unwrap();
        let (joined, before) = (events(&mut membership), membership.snapshot());
        for other in [LIFE[1], LIFE[3]] {
            membership.handle_suspected(&id("a"), other);
            membership.handle_drains(&id("a"), other);
            membership.handle_left(&id("a"), other);
        }
        assert_eq!((joined.len(), events(&mut membership)), (1, vec![]));
        assert!(Arc::ptr_eq(&before, &membership.snapshot()));
    }

    #[test]
    fn a_second_link_to_a_suspect_shows_that_it_lives() {
        let mut membership = membership();
        membership.handle_joined(room("a", 1)).unwrap();
        membership.handle_suspected(&id("a"), LIFE[1]);
        events(&mut membership);
        let says_more = ServerInfo { frontend: true, ..room("a", 1) };
        membership.handle_joined(says_more.clone()).unwrap();
        let now = Arc::new(says_more);
        let expected = [MemberEvent::Changed(Arc::clone(&now)), MemberEvent::Restored(now)];
        assert_eq!(events(&mut membership), expected);
        assert_eq!(candidates(&mut membership), [1]);
    }

    #[test]
    fn a_suspect_that_drains_gets_no_calls_when_it_answers_again() {
        let mut membership = membership();
        membership.handle_joined(room("a", 1)).unwrap();
        membership.handle_suspected(&id("a"), LIFE[1]);
        membership.handle_drains(&id("a"), LIFE[1]);
        membership.handle_restored(&id("a"), LIFE[1]);
        assert!(candidates(&mut membership).is_empty());
        assert_eq!(membership.snapshot().of_kind("room").len(), 1);
    }

    #[test]
    fn one_too_many_is_refused_and_a_later_life_is_not_one_more() {
        let mut membership = membership();
        for name in ["a", "b", "c"] {
            membership.handle_joined(room(name, 1)).unwrap();
        }
        assert_eq!(membership.handle_joined(room("d", 1)), Err(JoinError::Full));
        assert_eq!(membership.handle_joined(room("c", 2)), Ok(()));
        membership.handle_left(&id("c"), LIFE[2]);
        assert_eq!(membership.handle_joined(room("d", 1)), Ok(()));
    }

    #[test]
    fn a_server_drains_itself_but_neither_suspects_nor_joins_nor_leaves_itself() {
        let mut membership = membership();
        membership.handle_suspected(&id("gate"), LIFE[1]);
        membership.handle_left(&id("gate"), LIFE[1]);
        let another = server("gate", "gate", 2);
        assert_eq!(membership.handle_joined(another), Err(JoinError::Myself));
        let members = membership.snapshot();
        assert_eq!(members.candidates("gate"), [Arc::clone(members.me())]);
        membership.handle_drains(&id("gate"), LIFE[1]);
        assert!(membership.snapshot().candidates("gate").is_empty());
        assert_eq!(events(&mut membership), [MemberEvent::Drains(Arc::clone(members.me()))]);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_the_events_tell_all_of_what_the_snapshot_shows(
            inputs in prop::collection::vec(any_input(), 0..80),
        ) {
            let mut membership = membership();
            let mut told = Told::by(&membership.me);
            for (input, info) in inputs {
                let before = membership.snapshot();
                let joined = input.tell(&mut membership, &info);
                let events = events(&mut membership);
                prop_assert!(events.len() <= 2);
                prop_assert!(events.iter().all(|event| input.explains(event, &info)));
                let after = membership.snapshot();
                prop_assert_eq!(events.is_empty(), Arc::ptr_eq(&before, &after));
                events.into_iter().for_each(|event| told.hear(event));
                prop_assert_eq!(told.all(), after.all());
                prop_assert_eq!(told.candidates("room"), after.candidates("room"));
                prop_assert_eq!(told.candidates("gate"), after.candidates("gate"));
                prop_assert!(told.shows(input, &info, joined), "{:?} of {:?}", input, info);
            }
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Input {
        Drains,
        Joined,
        Left,
        Restored,
        Suspected,
    }

    fn any_input() -> impl Strategy<Value = (Input, ServerInfo)> {
        use Input::{Drains, Joined, Left, Restored, Suspected};
        let input = prop::sample::select(vec![Drains, Joined, Joined, Left, Restored, Suspected]);
        let id = prop::sample::select(vec!["a", "b", "c", "d", "gate"]);
        let info = (id, 0..4_u64, any::<bool>()).prop_map(|(id, incarnation, frontend)| {
            ServerInfo { frontend, ..room(id, incarnation) }
        });
        (input, info)
    }

    impl Input {
        fn tell(self, membership: &mut Membership, info: &ServerInfo) -> Result<(), JoinError> {
            let (id, incarnation) = (&info.id, info.incarnation);
            match self {
                Self::Drains => membership.handle_drains(id, incarnation),
                Self::Joined => membership.handle_joined(info.clone())?,
                Self::Left => membership.handle_left(id, incarnation),
                Self::Restored => membership.handle_restored(id, incarnation),
                Self::Suspected => membership.handle_suspected(id, incarnation),
            }
            Ok(())
        }

        /// Whether an event is about the life that the input was about, or one that it replaced.
        fn explains(self, event: &MemberEvent, info: &ServerInfo) -> bool {
            let server = event.server();
            let replaced = matches!((self, event), (Self::Joined, MemberEvent::Left(_)));
            let earlier = server.incarnation < info.incarnation;
            let same = server.incarnation == info.incarnation;
            server.id == info.id && if replaced { earlier } else { same }
        }
    }

    /// The set as somebody knows it who only hears of events, and is surprised by wrong ones.
    struct Told(BTreeMap<ServerId, Member>);

    impl Told {
        fn by(me: &Arc<ServerInfo>) -> Self {
            Self(BTreeMap::from([(me.id.clone(), Member::new(Arc::clone(me)))]))
        }

        fn hear(&mut self, event: MemberEvent) {
            let id = event.server().id.clone();
            match event {
                MemberEvent::Changed(server) => {
                    let member = self.life(&server).unwrap();
                    assert_ne!(replace(&mut member.info, Arc::clone(&server)), server);
                }
                MemberEvent::Drains(server) => {
                    assert!(!replace(&mut self.life(&server).unwrap().drains, true));
                }
                MemberEvent::Joined(server) => {
                    assert!(self.0.insert(id, Member::new(server)).is_none());
                }
                MemberEvent::Left(server) => assert_eq!(self.0.remove(&id).unwrap().info, server),
                MemberEvent::Restored(server) => {
                    assert!(replace(&mut self.life(&server).unwrap().suspect, false));
                }
                MemberEvent::Suspected(server) => {
                    assert!(!replace(&mut self.life(&server).unwrap().suspect, true));
                }
            }
        }

        fn all(&self) -> Vec<Arc<ServerInfo>> {
            self.0.values().map(|member| Arc::clone(&member.info)).collect()
        }

        fn candidates(&self, kind: &str) -> Vec<Arc<ServerInfo>> {
            let able = self.0.values().filter(|member| !member.suspect && !member.drains);
            let infos = able.map(|member| Arc::clone(&member.info));
            infos.filter(|info| &*info.kind == kind).collect()
        }

        /// Whether the last input has done what it should.
        fn shows(
            &mut self, input: Input, info: &ServerInfo, joined: Result<(), JoinError>,
        ) -> bool {
            let is_full = self.0.len() == FEW;
            let known = self.0.get(&info.id).map(|member| member.info.incarnation);
            let life = self.life(info);
            match (input, joined) {
                (_, Err(JoinError::Full)) => known.is_none() && is_full,
                (_, Err(JoinError::Myself)) => info.id.as_str() == "gate",
                (_, Err(JoinError::Outlived)) => known > Some(info.incarnation),
                (Input::Joined, Ok(())) => life.is_some_and(|it| *it.info == *info && !it.suspect),
                (Input::Left, Ok(())) => life.is_none_or(|it| it.info.id.as_str() == "gate"),
                (Input::Drains, Ok(())) => life.is_none_or(|it| it.drains),
                (Input::Restored, Ok(())) => life.is_none_or(|it| !it.suspect),
                (Input::Suspected, Ok(())) => {
                    life.is_none_or(|it| it.suspect != (it.info.id.as_str() == "gate"))
                }
            }
        }

        fn life(&mut self, info: &ServerInfo) -> Option<&mut Member> {
            let member = self.0.get_mut(&info.id)?;
            (member.info.incarnation == info.incarnation).then_some(member)
        }
    }
}
