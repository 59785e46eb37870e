//! All sessions of one server, and which of them is whose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pitaya_proto::error::{self, Error};

use crate::cluster::Pace;
use crate::{Instant, Limits, SessionId};

/// The sessions of one server, apart from their connections, with the index of user ids.
///
/// `A` is the address of a session: whatever the owner needs to reach it. A user id belongs to the
/// session that bound it last: the newest login wins.
#[derive(Debug)]
pub struct SessionTable<A> {
    sessions: BTreeMap<SessionId, Entry<A>>,
    by_uid: BTreeMap<Arc<str>, SessionId>,
    opened: u64,
    /// Apart from who has a user id: it must not forget what sessions did that have closed.
    pace: Pace,
    uid_bytes_max: usize,
}

#[derive(Debug)]
struct Entry<A> {
    address: A,
    login: Login,
}

#[derive(Debug)]
enum Login {
    Binding,
    Bound(Arc<str>),
    Unbound,
}

/// A bind that has begun and must be finished or cancelled.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "a bind that is neither finished nor cancelled keeps its session from being bound"]
pub struct Binding {
    began: Instant,
    session: SessionId,
    uid: Arc<str>,
}

impl Binding {
    /// The user id to be bound.
    pub fn uid(&self) -> &Arc<str> {
        &self.uid
    }
}

impl<A: Clone> SessionTable<A> {
    /// No sessions yet.
    pub fn new(limits: &Limits) -> Self {
        let (sessions, by_uid) = (BTreeMap::new(), BTreeMap::new());
        let pace = Pace::new(limits.binds_max, limits.binds_window);
        Self { sessions, by_uid, opened: 0, pace, uid_bytes_max: limits.uid_bytes_max }
    }

    /// Begins a session that is reached at `address`.
    pub fn open(&mut self, address: A) -> SessionId {
        self.opened += 1;
        let id = SessionId(self.opened);
        self.sessions.insert(id, Entry { address, login: Login::Unbound });
        id
    }

    /// Where a session is reached.
    pub fn address(&self, id: SessionId) -> Option<&A> {
        self.sessions.get(&id).map(|entry| &entry.address)
    }

    /// The session is reached elsewhere from now on. Whether there is such a session.
    pub fn attach(&mut self, id: SessionId, address: A) -> bool {
        self.sessions.get_mut(&id).map(|entry| entry.address = address).is_some()
    }

    /// The user id of a session.
    pub fn uid(&self, id: SessionId) -> Option<&Arc<str>> {
        match &self.sessions.get(&id)?.login {
            Login::Bound(uid) => Some(uid),
            Login::Binding | Login::Unbound => None,
        }
    }

    /// The session of a user id.
    pub fn by_uid(&self, uid: &str) -> Option<SessionId> {
        self.by_uid.get(uid).copied()
    }

    /// Begins to bind a session to a user id; what the application has to say comes between this
    /// and [`finish_bind`](Self::finish_bind).
    ///
    /// # Errors
    ///
    /// A user id that is empty, too long or has control characters, or that was bound too often,
    /// with the time to wait as `wait` in its metadata; a session that is bound, or is being bound,
    /// or is gone.
    pub fn begin_bind(
        &mut self, now: Instant, session: SessionId, uid: &str,
    ) -> Result<Binding, Error> {
        if uid.is_empty() || uid.len() > self.uid_bytes_max || uid.contains(char::is_control) {
            return Err(error::UID_ILLEGAL.into());
        }
        self.pace.check(now, uid).map_err(too_often)?;
        let entry = self.sessions.get_mut(&session).ok_or(error::SESSION_CLOSED)?;
        match entry.login {
            Login::Unbound => entry.login = Login::Binding,
            Login::Binding | Login::Bound(_) => return Err(error::SESSION_ALREADY_BOUND.into()),
        }
        Ok(Binding { began: now, session, uid: uid.into() })
    }

    /// Binds the session; gives the one that had the user id before, which has to be kicked.
    ///
    /// # Errors
    ///
    /// The session closed meanwhile; nothing has changed then.
    pub fn finish_bind(&mut self, binding: Binding) -> Result<Option<(SessionId, A)>, Error> {
        let Binding { began, session, uid } = binding;
        let entry = self.sessions.get_mut(&session).ok_or(error::SESSION_CLOSED)?;
        entry.login = Login::Bound(Arc::clone(&uid));
        self.pace.note(began, &uid);
        let replaced = self.by_uid.insert(uid, session);
        Ok(replaced.and_then(|id| Some((id, self.address(id)?.clone()))))
    }

    /// Gives up a bind that the application refused.
    pub fn cancel_bind(&mut self, binding: Binding) {
        if let Some(entry) = self.sessions.get_mut(&binding.session) {
            entry.login = Login::Unbound;
        }
    }

    /// Ends a session. Whether it was there: the first caller may say that it closed, no other.
    pub fn close(&mut self, id: SessionId) -> bool {
        let Some(entry) = self.sessions.remove(&id) else { return false };
        // A newer login may have the user id already; closing the older one must not take it away.
        if let Login::Bound(uid) = entry.login
            && self.by_uid(&uid) == Some(id)
        {
            self.by_uid.remove(&uid);
        }
        true
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }
}

fn too_often(wait: Duration) -> Error {
    Error::from(error::RATE_EXCEEDED).with_metadata("wait", error::duration(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(table: &mut SessionTable<u8>, id: SessionId, uid: &str) -> Option<(SessionId, u8)> {
        let binding = table.begin_bind(Instant::ZERO, id, uid).unwrap();
        table.finish_bind(binding).unwrap()
    }

    #[test]
    fn the_newest_login_has_the_user_id_and_the_older_one_is_named() {
        let mut table = SessionTable::new(&Limits::default());
        let (old, new) = (table.open(1), table.open(2));
        assert_eq!(bind(&mut table, old, "ann"), None);
        assert_eq!(bind(&mut table, new, "ann"), Some((old, 1)));
        assert_eq!(table.by_uid("ann"), Some(new));
    }

    #[test]
    fn closing_the_older_session_leaves_the_user_id_with_the_newer() {
        let mut table = SessionTable::new(&Limits::default());
        let (old, new) = (table.open(1), table.open(2));
        bind(&mut table, old, "ann");
        bind(&mut table, new, "ann");
        assert!(table.close(old));
        assert_eq!(table.by_uid("ann"), Some(new));
        assert!(table.close(new));
        assert_eq!((table.by_uid("ann"), table.by_uid.len()), (None, 0));
    }

    #[test]
    fn a_session_closes_once() {
        let mut table = SessionTable::new(&Limits::default());
        let id = table.open(1);
        assert_eq!((table.close(id), table.close(id)), (true, false));
    }

    #[test]
    fn a_session_is_bound_once_and_not_twice_at_a_time() {
        let mut table = SessionTable::new(&Limits::default());
        let id = table.open(1);
        let first = table.begin_bind(Instant::ZERO, id, "ann").unwrap();
        let refused = Err(Error::from(error::SESSION_ALREADY_BOUND));
        assert_eq!(table.begin_bind(Instant::ZERO, id, "bob"), refused);
        table.cancel_bind(first);
        bind(&mut table, id, "bob");
        assert_eq!(table.begin_bind(Instant::ZERO, id, "bob"), refused);
        assert_eq!(table.uid(id).map(|uid| &**uid), Some("bob"));
    }

    #[test]
    fn a_bind_that_outlives_its_session_changes_nothing() {
        let mut table = SessionTable::new(&Limits::default());
        let id = table.open(1);
        let binding = table.begin_bind(Instant::ZERO, id, "ann").unwrap();
        table.close(id);
        assert_eq!(table.finish_bind(binding), Err(error::SESSION_CLOSED.into()));
        assert_eq!((table.by_uid("ann"), table.count()), (None, 0));
    }

    #[test]
    fn sessions_that_take_a_user_id_from_each_other_have_to_wait_after_five_binds() {
        let mut table = SessionTable::new(&Limits::default());
        for _ in 0..5 {
            let id = table.open(1);
            bind(&mut table, id, "ann");
        }
        let id = table.open(1);
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        let refused = table.begin_bind(at(9), id, "ann");
        assert_eq!(refused, Err(too_often(Duration::from_secs(1))));
        assert!(table.begin_bind(at(10), id, "ann").is_ok());
    }

    #[test]
    fn a_user_id_that_is_bound_again_and_again_has_to_wait_also_when_its_sessions_have_closed() {
        let mut table = SessionTable::new(&Limits::default());
        for _ in 0..5 {
            let id = table.open(1);
            bind(&mut table, id, "ann");
            table.close(id);
        }
        let (ann, bob) = (table.open(1), table.open(2));
        let refused = table.begin_bind(Instant::from_micros(9_500_000), ann, "ann");
        assert_eq!(refused, Err(too_often(Duration::from_millis(500))));
        bind(&mut table, bob, "bob");
        assert!(table.begin_bind(Instant::from_micros(10_000_000), ann, "ann").is_ok());
    }

    #[test]
    fn a_window_of_less_than_a_second_is_one() {
        let limits = Limits::default().binds_max(1).binds_window(Duration::from_millis(500));
        let mut table = SessionTable::new(&limits);
        let (old, new) = (table.open(1), table.open(2));
        bind(&mut table, old, "ann");
        assert!(table.begin_bind(Instant::from_micros(499_999), new, "ann").is_err());
        assert!(table.begin_bind(Instant::from_micros(500_000), new, "ann").is_ok());
    }

    #[test]
    fn illegal_user_ids_are_refused() {
        let mut table = SessionTable::new(&Limits::default().uid_bytes_max(4));
        let id = table.open(1);
        for uid in ["", "12345", "a\n"] {
            assert_eq!(
                table.begin_bind(Instant::ZERO, id, uid),
                Err(error::UID_ILLEGAL.into()),
                "{uid:?}"
            );
        }
    }
}
