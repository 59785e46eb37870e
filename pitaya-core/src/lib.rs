//! Values and time to decisions.

mod call;
mod conn;
mod counters;
mod limits;
mod machine;
mod outbox;
mod player;
mod queue;
mod rng;
mod routes;
mod start;
mod time;

pub use call::{Call, CallKey, Context, Options, Origin, Reply, RouteId};
pub use conn::{ClientCall, CloseReason, ConnConfig, ConnEvent, Fault, ServerConn, Validator};
pub use counters::{Counter, Counters};
pub use limits::{Limit, Limits};
pub use machine::{Machine, Next};
pub use outbox::Outbox;
pub use player::{Command, Event, Player};
pub use queue::{CallQueue, Ended, Expired, Start, Ticket};
pub use rng::Rng;
pub use routes::{Destination, RouteEntry, RouteKind, RouteTable, Visibility};
pub use start::StartError;
pub use time::{Instant, earlier};
