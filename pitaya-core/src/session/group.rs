//! Groups: sessions of this server that are pushed to together.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, Weak};

use pitaya_proto::error::Error;
use slab::Slab;
use thin_vec::ThinVec;

use crate::app::codec::{Encode, Json, encode_push};
use crate::session::handle::{Host, Session, SessionHandle, Shared, lock};
use crate::{Broadcast, Command, Counter};

/// Sessions that are pushed to together, in an application that speaks `C`: a room, a guild, a
/// game. `Group::default()` has no members; clones share theirs.
///
/// A session that closes leaves its groups at once. A group keeps no session alive, and no session
/// a group.
///
/// ```
/// use pitaya_core::{Error, Group, Payload, Session, State};
///
/// async fn join(
///     session: Session, State(hall): State<Group>, Payload(name): Payload<String>,
/// ) -> Result<usize, Error> {
///     hall.join(&session);
///     hall.push("onJoin", &name)?;
///     Ok(hall.len())
/// }
/// ```
pub struct Group<C = Json>(Arc<Members>, PhantomData<fn() -> C>);

/// A list rather than a set, so that members come in the same order in every run.
#[derive(Default)]
pub(super) struct Members(Mutex<Slab<Member>>);

struct Member {
    /// Reached without asking whether the session is still there: it knows by itself.
    host: Arc<dyn Host>,
    session: Weak<Shared>,
}

/// The groups of one session and its place in each; nothing once it is closed.
pub(super) type Joined = Option<ThinVec<(Weak<Members>, usize)>>;

impl<C> Group<C> {
    /// Makes a session a member. Whether it is one now, as it may have been before: a closed
    /// session is not, nor one more than the limit `group_members_max`.
    pub fn join<D>(&self, session: &Session<D>) -> bool {
        let mut joined = lock(&session.0.joined);
        if self.place(&joined).is_some() {
            return true;
        }
        let Some(groups) = joined.as_mut() else { return false };
        let mut members = lock(&self.0.0);
        let config = session.0.host.config();
        if members.len() >= config.limits.group_members_max {
            config.counters.add(Counter::GroupJoinsRefused);
            return false;
        }
        groups.retain(|(group, _)| group.strong_count() > 0);
        let (host, member) = (Arc::clone(&session.0.host), Arc::downgrade(&session.0));
        let place = members.insert(Member { host, session: member });
        groups.push((Arc::downgrade(&self.0), place));
        true
    }

    /// Ends the membership of a session. Whether it was a member.
    pub fn leave<D>(&self, session: &Session<D>) -> bool {
        let mut joined = lock(&session.0.joined);
        let Some(at) = self.place(&joined) else { return false };
        let left = joined.as_mut().map(|groups| groups.swap_remove(at));
        left.is_some_and(|(_, place)| lock(&self.0.0).try_remove(place).is_some())
    }

    /// Whether a session is a member.
    pub fn contains<D>(&self, session: &Session<D>) -> bool {
        self.place(&lock(&session.0.joined)).is_some()
    }

    /// The members, whose ids and user ids they know.
    pub fn members(&self) -> Vec<Session<C>> {
        let alive = |(_, member): (usize, &Member)| member.session.upgrade();
        let members: Vec<_> = lock(&self.0.0).iter().filter_map(alive).collect();
        members.into_iter().map(|member| Session(member, PhantomData)).collect()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        lock(&self.0.0).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends a push to every member; how many took it. It waits for nobody: a member that does not
    /// keep up is closed, as with [`Session::push`], and it comes after all that the sender sent to
    /// a member before.
    ///
    /// The value is encoded once, and the packet once for each kind of client. To each member goes
    /// one command, and who is not at work is woken: half a microsecond for each of them, in which
    /// nobody else has the executor.
    ///
    /// # Errors
    ///
    /// A value that does not encode, or a push that no packet can hold; nobody gets it then.
    pub fn push<T: 'static>(&self, route: &str, value: &T) -> Result<usize, Error>
    where
        C: Encode<T>,
    {
        let push = Arc::new(Broadcast::new(route, encode_push::<C, T>(route, value)?));
        let send = |member: &Member| member.host.send(Command::Broadcast(Arc::clone(&push)));
        Ok(lock(&self.0.0).iter().filter(|(_, member)| send(member)).count())
    }

    fn place(&self, joined: &Joined) -> Option<usize> {
        let mut groups = joined.iter().flatten();
        groups.position(|(group, _)| std::ptr::eq(group.as_ptr(), Arc::as_ptr(&self.0)))
    }
}

impl SessionHandle {
    /// The session is over: it leaves its groups and joins no more. Whoever opened it has to say
    /// this.
    pub fn leave_all(&self) {
        let joined = lock(&self.0.joined).take();
        for (group, place) in joined.into_iter().flatten() {
            if let Some(group) = group.upgrade() {
                lock(&group.0).try_remove(place);
            }
        }
    }
}

impl<C> Default for Group<C> {
    fn default() -> Self {
        Self(Arc::default(), PhantomData)
    }
}

impl<C> Clone for Group<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), PhantomData)
    }
}

impl<C> fmt::Debug for Group<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("members", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pitaya_proto::dictionary::Dictionary;
    use pitaya_proto::handshake::HandshakeRequest;

    use super::*;
    use crate::session::HostFuture;
    use crate::{ConnConfig, Instant, Limits, SessionId};

    #[test]
    fn whoever_joins_is_a_member_once_until_it_leaves() {
        let (group, [ann, bob]) = (Group::<Json>::default(), ["ann", "bob"].map(session));
        assert!(group.join(&ann) && group.join(&ann) && group.join(&bob));
        assert_eq!((group.len(), group.contains(&ann)), (2, true));
        assert!(group.clone().leave(&ann));
        assert!(!group.leave(&ann) && !group.contains(&ann));
        let members = group.members();
        assert_eq!(members.iter().map(Session::id).collect::<Vec<_>>(), [bob.id()]);
    }

    #[test]
    fn a_session_that_is_over_leaves_all_its_groups_and_joins_no_more() {
        let (hall, guild, ann) = (Group::<Json>::default(), Group::<Json>::default(), session("a"));
        assert!(hall.join(&ann) && guild.join(&ann));
        ann.leave_all();
        assert!(hall.is_empty() && guild.is_empty());
        assert!(!hall.join(&ann) && hall.is_empty());
    }

    #[test]
    fn neither_side_keeps_the_other_alive() {
        let (group, ann) = (Group::<Json>::default(), session("ann"));
        let (members, handle) = (Arc::downgrade(&group.0), Arc::downgrade(&ann.0));
        group.join(&ann);
        drop(group);
        assert!(members.upgrade().is_none());
        assert!(Group::<Json>::default().join(&ann), "and the memory of that group is let go");
        assert_eq!(lock(&ann.0.joined).as_ref().map(|groups| groups.len()), Some(1));
        drop(ann);
        assert!(handle.upgrade().is_none());
    }

    #[test]
    fn a_push_goes_to_all_who_take_it_in_the_order_of_pushes() {
        let group = Group::<Json>::default();
        let sent = Arc::<Mutex<Vec<String>>>::default();
        let [ann, deaf, bob] = ["ann", "deaf", "bob"].map(|name| on(name, &sent, 3));
        for member in [&ann, &deaf, &bob] {
            assert!(group.join(member));
        }
        assert_eq!(group.push("onTick", &1), Ok(2));
        group.leave(&bob);
        assert_eq!(group.push("onTick", &2), Ok(1));
        assert_eq!(*sent.lock().unwrap(), ["ann: onTick 1", "bob: onTick 1", "ann: onTick 2"]);
        assert_eq!(Group::<Json>::default().push("onTick", &3), Ok(0));
    }

    #[test]
    fn a_push_costs_one_encoding_and_one_command_for_each_member() {
        #[derive(Default)]
        struct Counted(AtomicUsize);
        impl serde::Serialize for Counted {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_u64(self.0.fetch_add(1, Ordering::Relaxed) as u64)
            }
        }
        let (group, sent) = (Group::<Json>::default(), Arc::<Mutex<Vec<String>>>::default());
        let members: Vec<_> = (0..100).map(|_| on("ann", &sent, 100)).collect();
        assert!(members.iter().all(|member| group.join(member)));
        let counted = Counted::default();
        for pushes in 1..=3 {
            assert_eq!(group.push("onTick", &counted), Ok(100));
            assert_eq!(counted.0.load(Ordering::Relaxed), pushes);
            assert_eq!(sent.lock().unwrap().len(), pushes * 100);
        }
    }

    #[test]
    fn a_full_group_takes_nobody_more_and_counts_who_came() {
        let group = Group::<Json>::default();
        let sessions = ["a", "b", "c"].map(|name| on(name, &Arc::default(), 2));
        assert_eq!(sessions.each_ref().map(|session| group.join(session)), [true, true, false]);
        let refused = sessions[2].host().config().counters.count(Counter::GroupJoinsRefused);
        assert_eq!((refused, group.len()), (1, 2));
        group.leave(&sessions[0]);
        assert!(group.join(&sessions[2]));
    }

    fn session(name: &'static str) -> SessionHandle {
        on(name, &Arc::default(), 3)
    }

    fn on(
        name: &'static str, sent: &Arc<Mutex<Vec<String>>>, group_members_max: usize,
    ) -> SessionHandle {
        session_with(name, sent, Limits::default().group_members_max(group_members_max))
    }

    /// A session of that name, which is heard in `sent`.
    pub(in crate::session) fn session_with(
        name: &'static str, sent: &Arc<Mutex<Vec<String>>>, limits: Limits,
    ) -> SessionHandle {
        let config = ConnConfig::new("json", Dictionary::default(), limits).unwrap();
        let host = Ear { config, name, sent: Arc::clone(sent) };
        let remote = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let id = SessionId(name.len() as u64);
        SessionHandle::new(id, remote, Arc::new(host))
    }

    /// Takes what is sent, unless it is deaf.
    struct Ear {
        config: ConnConfig,
        name: &'static str,
        sent: Arc<Mutex<Vec<String>>>,
    }

    impl Host for Ear {
        fn cluster(&self) -> Option<&dyn crate::cluster::ClusterHost> {
            None
        }

        fn push_to_front(&self, _: Vec<u8>) -> HostFuture<Result<(), Error>> {
            unreachable!("nobody pushes data")
        }

        fn bind(&self, _: SessionHandle, _: &str) -> HostFuture<Result<Arc<str>, Error>> {
            unreachable!("nobody binds")
        }

        fn send(&self, command: Command) -> bool {
            let Command::Broadcast(push) = command else { panic!("{command:?}") };
            let body = String::from_utf8_lossy(&push.body).into_owned();
            let takes = self.name != "deaf";
            if takes {
                self.sent.lock().unwrap().push(format!("{}: {} {body}", self.name, push.route));
            }
            takes
        }

        fn is_open(&self) -> bool {
            true
        }

        fn handshake(&self) -> HandshakeRequest {
            HandshakeRequest::default()
        }

        fn config(&self) -> &ConnConfig {
            &self.config
        }

        fn now(&self) -> Instant {
            Instant::ZERO
        }

        fn sleep(&self, _: Instant) -> HostFuture<()> {
            unreachable!("nobody sleeps")
        }
    }
}
