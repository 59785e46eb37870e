//! Values and time to decisions: all of a Pitaya server that needs neither a socket nor a clock.
//!
//! A [`Machine`] is one end of a byte stream. It takes bytes, [commands](Command) and the
//! [time](Instant), and gives [events](Event) and bytes. [`Player`] is the server's end and
//! [`ClientConn`] the client's; whoever moves the bytes calls them, in whatever loop.
//!
//! A player is a [`ServerConn`], which knows phases and deadlines, and a [`CallQueue`], which gives
//! calls their turn. A [`RouteTable`] says what a route means, a [`SessionTable`] who is there, and
//! [`Limits`] how much of everything may be. An [`App`] has the handlers, which whoever owns the
//! players runs. [`Node`] puts all of it behind one set of methods, for a loop without async:
//!
//! ```
//! use pitaya_core::{
//!     ConnConfig, Event, Instant, Json, Limits, Next, Node, Reply, RouteEntry, RouteTable,
//! };
//!
//! # use pitaya_core::Codec as _;
//! # fn bytes_of_a_client() -> Vec<u8> {
//! #     use pitaya_proto::{message::{Body, Message, Route}, packet::{self, PacketKind}};
//! #     let mut out = Vec::new();
//! #     packet::encode(PacketKind::Handshake, b"{\"sys\":{}}", &mut out).unwrap();
//! #     packet::encode(PacketKind::HandshakeAck, b"", &mut out).unwrap();
//! #     let (route, body) = (Route::Name(b"hall.wave"), Body::Plain(b"\"ada\""));
//! #     Message::Request { id: 1, route, body }.encode_packet(&mut out).unwrap();
//! #     out
//! # }
//! let config = ConnConfig::new(Json::NAME, Default::default(), Limits::default())?;
//! let entries = vec![RouteEntry::request("hall.wave")];
//! let mut node = Node::new(config, RouteTable::new("gate", entries, Json::encode_error)?);
//!
//! let now = Instant::ZERO; // whatever your clock says
//! let conn = node.accept(now).expect("there is room");
//! let (bytes, mut waved) = (bytes_of_a_client(), 0);
//! let mut input = &bytes[..];
//! while let Next::Event((session, event)) = node.next(now, conn, &mut input) {
//!     if let Event::Call(call) = event {
//!         waved += 1;
//!         node.reply(now, session, call.key, Reply::encode::<Json>(Ok("hello")));
//!     }
//! }
//! let mut stream = Vec::new(); // or a socket
//! node.write(now, conn, &mut stream);
//! assert_eq!(waved, 1);
//! assert!(stream.ends_with(b"\"hello\""));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod app;
mod broadcast;
mod call;
mod calls;
pub mod cluster;
mod conn;
mod counters;
mod limits;
mod machine;
mod node;
mod outbox;
#[doc(hidden)]
pub mod planted;
mod player;
mod queue;
mod rng;
mod routes;
pub mod session;
mod time;

pub use app::codec::{Codec, Decode, Encode, Json, Protobuf};
pub use app::{App, Ctx, FromCall, FromRef, Lifecycle, Payload, State};
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

debug_as_name! { ConnConfig Ctx app::Scope<'_> app::Handlers app::Hooks app::Running }
