//! Several servers as one: who is there, where a call goes, where a user is.
//!
//! All of it is values: whoever moves bytes between servers tells what came, and is told what to
//! do.

mod directory;
mod link;
mod members;
mod membership;
mod rendezvous;
mod router;
mod server;

pub use directory::{
    Announced, Answer, Ask, BINDS_MAX, BINDS_WINDOW, ClaimEvent, Claims, Directory, Epoch, Holder,
    Holding, Life, Login,
};
pub use link::{Link, LinkCommand, LinkConfig, LinkEnd, LinkEvent, LinkLimits};
pub use members::Members;
pub use membership::{JoinError, MEMBERS_MAX, MemberEvent, Membership};
pub use rendezvous::rendezvous;
pub use router::{Custom, Kept, Routed, Router, Rule};
pub use server::{Incarnation, ServerId, ServerInfo};
