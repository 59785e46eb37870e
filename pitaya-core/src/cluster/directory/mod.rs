//! The uid directory: which server has the session of a user.
//!
//! Every user id has one server as its *home*; whoever calls says which, from what it knows of the
//! others. The home's half is the [`Directory`], the half of whoever has sessions is [`Claims`],
//! and a server has both. What they say to each other are [`Ask`]s and [`Answer`]s:
//!
//! 1. a login asks its home for an [`Epoch`] ([`Ask::Claim`], [`Answer::Granted`]);
//! 2. its frontend takes the epoch, if the session still wants it, and announces it
//!    ([`Ask::Announce`], [`Answer::Held`]): only then is the session bound;
//! 3. of two logins with one user id the higher [`Holding`] stays, and the other's frontend is told
//!    to close its session ([`Answer::Lost`]);
//! 4. a login that ended is taken out everywhere it was announced ([`Ask::Release`]).
//!
//! A grant is only a number, which nobody loses a session for, and a login has one of them for
//! life. If granting replaced the older login at once, a claim that is repeated to the next home,
//! or delivered twice, would give one session two epochs; another login between the two would
//! outrank the first, be outranked by the second, and both sessions would be told to close.
//!
//! # What is promised
//!
//! Of messages: they may come in any order, twice, and late; they may be lost if afterwards both
//! sides [forget](Claims::forget_server) each other.
//!
//! *Always*, also while servers do not agree on who is a home:
//!
//! - Holdings are in one order, by epoch and then by holder, which is the same on every server. A
//!   session is told to close only for a higher holding that a frontend took: two sessions never
//!   close each other, and the highest is never told to.
//! - A notice concerns exactly the holding that it names. Neither the release nor the loss of an
//!   epoch changes anything of another one.
//! - A home grants a higher epoch than any that it granted or heard of, for whatever user id, and
//!   none below its own time, nor below what the frontend that claims has heard of.
//!
//! *Only once it is quiet*, that is when every server knows the same others and has read what they
//! wrote:
//!
//! - A user id has at most one session. It has exactly one if the session of the highest holding
//!   did not end by itself, namely that one.
//! - Its home has that holding and no other, and none for a user id without a session.
//!
//! *Not promised while a home changes*: that the home knows a session, and that the newest login is
//! the one that stays. Epochs alone decide, and a home that has not yet heard of a login can
//! outrank it only by its time. So the newest login stays if it came later, by the clocks of the
//! two homes, than the one before; if the clocks are further apart than the logins, the older one
//! may stay, and the newer is told to close like any other that lost. Once the home has heard,
//! clocks do not matter.
//!
//! Other servers are trusted to tell the truth. One that announced the highest number there is
//! would leave no room above it: the order of holders would decide from then on.

mod claims;
mod home;
mod pace;
mod said;

use std::sync::Arc;
use std::time::Duration;

use crate::SessionId;

use super::{Incarnation, ServerId, ServerInfo};

pub use claims::{ClaimEvent, Claims};
pub use home::{Announced, Directory};
pub(crate) use pace::Pace;
pub use said::Said;

/// What a frontend asks of the home of a user id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ask {
    /// The frontend has a session with this epoch: it did not know this home before, or just took
    /// the epoch.
    Announce(Login),
    /// A session wants the user id, with an epoch above all that its frontend has heard of.
    Claim {
        /// The highest epoch that the frontend has heard of.
        after: Epoch,
        /// Who asks.
        session: SessionId,
        /// The user id.
        uid: Arc<str>,
    },
    /// The login has ended.
    Release(Login),
}

/// What a home tells a frontend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The server does not keep the holding any more, because it is not the home as it sees it.
    Dropped(Login),
    /// The session may take the epoch.
    Granted(Login),
    /// The home has the holding: who asks it is sent to this session.
    Held(Login),
    /// There is a higher holding: the session has to close.
    Lost(Login),
    /// The user id was claimed too often.
    Refused {
        /// Who asked.
        session: SessionId,
        /// The user id.
        uid: Arc<str>,
        /// When a claim may succeed again.
        wait: Duration,
    },
}

/// That a session of the frontend it is said to, or by, has a user id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Login {
    /// Its rank among the logins with this user id.
    pub epoch: Epoch,
    /// The session.
    pub session: SessionId,
    /// The user id.
    pub uid: Arc<str>,
}

/// Ranks the logins with one user id: the later one is higher.
///
/// It counts microseconds like a clock, and runs ahead of it where more logins are told apart.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of that number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, as it travels between servers.
    pub const fn number(self) -> u64 {
        self.0
    }

    const fn plus(self, more: u64) -> Self {
        Self(self.0.saturating_add(more))
    }
}

/// Who has a user id, and since which epoch. The order is that in which they outrank each other.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Holding {
    /// Decides first.
    pub epoch: Epoch,
    /// Decides between equal epochs, which only different homes give.
    pub holder: Holder,
}

impl Holding {
    fn login(self, uid: Arc<str>) -> (Life, Login) {
        let Holder { server, session } = self.holder;
        (server, Login { epoch: self.epoch, session, uid })
    }
}

/// One session of all servers.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Holder {
    /// The server that has it.
    pub server: Life,
    /// Which of that server's it is.
    pub session: SessionId,
}

/// One life of one server.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Life {
    /// The server.
    pub id: ServerId,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

impl From<&ServerInfo> for Life {
    fn from(info: &ServerInfo) -> Self {
        Self { id: info.id.clone(), incarnation: info.incarnation }
    }
}

impl Login {
    fn holding(&self, server: Life) -> Holding {
        Holding { epoch: self.epoch, holder: Holder { server, session: self.session } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_holdings_is_by_epoch_and_then_by_holder() {
        let life = |id, incarnation| Life {
            id: ServerId::new(id).unwrap(),
            incarnation: Incarnation::new(incarnation),
        };
        let holding = |epoch, server, session| Holding {
            epoch: Epoch::new(epoch),
            holder: Holder { server, session: SessionId(session) },
        };
        let sorted = [
            holding(1, life("b", 9), 9),
            holding(2, life("a", 1), 2),
            holding(2, life("a", 2), 1),
            holding(2, life("a", 2), 2),
            holding(2, life("b", 1), 1),
        ];
        assert!(sorted.is_sorted());
    }
}
