//! Values and time to decisions.

pub mod app;
mod broadcast;
mod call;
mod calls;
mod conn;
mod counters;
mod limits;
mod machine;
mod node;
mod outbox;
mod player;
mod queue;
mod rng;
mod routes;
pub mod session;
mod time;

pub use app::codec::{Codec, Decode, Encode, Json, Protobuf};
pub use app::{App, Ctx, FromCall, FromRef, Payload, State};
pub use broadcast::Broadcast;
pub use bytes::Bytes;
pub use call::{Call, CallKey, Context, Options, Origin, Reply, RouteId};
pub use calls::{Calls, RequestId};
pub use conn::{
    ClientCall, ClientCommand, ClientConfig, ClientConn, ClientEvent, ClientRequest, CloseReason,
    ConnConfig, ConnEvent, Fault, RequestError, ServerConn, Validator,
};
pub use counters::{Counter, Counters};
pub use limits::{Limit, Limits};
pub use machine::{Machine, Next};
pub use node::{ConnId, Node};
pub use outbox::Outbox;
pub use pitaya_proto::{dictionary::Dictionary, error::Error};
pub use player::{Command, Event, Player};
pub use queue::{CallQueue, Ended, Expired, Start, Ticket};
pub use rng::Rng;
pub use routes::{Destination, RouteEntry, RouteError, RouteKind, RouteTable, Visibility};
pub use session::{Group, Session, SessionData, SessionId, SessionTable};
pub use time::{Instant, earlier};

/// `Debug` for what holds closures or whole servers: its name has to do.
macro_rules! debug_as_name {
    ($($name:ty)+) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(std::any::type_name::<Self>())
            }
        }
    )+};
}

debug_as_name! { ConnConfig Ctx app::Handlers app::Hooks app::Running }
