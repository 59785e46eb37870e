//! Sessions: who is there, under which user id, with which data, whatever connection they use.

mod afar;
mod data;
mod group;
mod handle;
mod table;

pub use data::SessionData;
pub use group::Group;
pub use handle::{Host, HostFuture, Session, SessionHandle};
pub use table::{Binding, SessionTable};

/// Names one session of one server; ids begin at 1 and are never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub(crate) u64);

impl SessionId {
    /// The session of that number, as another server names it.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, as it travels between servers.
    pub const fn number(self) -> u64 {
        self.0
    }
}
