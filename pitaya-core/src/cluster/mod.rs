//! Several servers as one: who is there, where a call goes, where a user is.
//!
//! All of it is values: whoever moves bytes between servers tells what came, and is told what to
//! do.

mod directory;
mod forwards;
mod guests;
mod host;
mod hub;
mod link;
mod members;
mod membership;
mod peer;
mod remote;
mod rendezvous;
mod router;
mod server;

pub(crate) use directory::Pace;
pub use directory::{
    Announced, Answer, Ask, ClaimEvent, Claims, Directory, Epoch, Holder, Holding, Life, Login,
    Said,
};
pub use forwards::Forward;
pub(crate) use forwards::Forwards;
pub use guests::{Full, Guests};
pub use host::{ClusterHost, RemoteCall};
pub use hub::{Hub, HubEvent, Unwanted};
pub use link::{Dial, Lane, Link, LinkCommand, LinkConfig, LinkEnd, LinkEvent};
pub use members::Members;
pub use membership::{JoinError, MemberEvent, Membership};
pub use peer::{GuestCall, Peer, PeerCommand, PeerEvent, Snapshot, refusal};
pub use remote::Users;
pub use rendezvous::rendezvous;
pub use router::{Custom, Kept, Routed, Router, Rule};
pub use server::{Incarnation, Proven, ServerId, ServerInfo};
