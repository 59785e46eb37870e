//! Every code and every fixed text that a client can be shown.

/// A code and the text that goes with it.
///
/// `Error::from(entry)` makes the error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// For programs.
    pub code: &'static str,
    /// For people; the e2e suites of Pitaya compare it.
    pub text: &'static str,
}

/// An error without a code of its own.
pub const UNKNOWN: &str = "PIT-000";
/// The route or the argument means nothing.
pub const BAD_REQUEST: &str = "PIT-400";
/// The caller may not call that.
pub const FORBIDDEN: &str = "PIT-403";
/// There is no such handler.
pub const NOT_FOUND: &str = "PIT-404";
/// The handler took too long.
pub const TIMEOUT: &str = "PIT-408";
/// The argument is too long.
pub const TOO_LARGE: &str = "PIT-413";
/// The caller calls too often.
pub const TOO_MANY_REQUESTS: &str = "PIT-429";
/// A write to the client failed.
pub const CLOSED_REQUEST: &str = "PIT-498";
/// The client is gone.
pub const CLIENT_CLOSED_REQUEST: &str = "PIT-499";
/// The framework failed.
pub const INTERNAL: &str = "PIT-500";
/// The server has no room for another call.
pub const UNAVAILABLE: &str = "PIT-503";
/// A client waited long enough; it never crosses the wire.
pub const CLIENT_TIMEOUT: &str = "PIT-504";

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = $code:ident, $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Entry = Entry { code: $code, text: $text };)*

        /// All entries, sorted by code.
        pub const TABLE: &[Entry] = &[$($name),*];
    };
}

table! {
    /// A handler answered with nothing.
    REPLY_NULL = UNKNOWN, "reply must not be null";
    /// A session is bound once.
    SESSION_ALREADY_BOUND = UNKNOWN, "session is already bound to an uid";
    /// A uid is not empty.
    UID_ILLEGAL = UNKNOWN, "illegal uid";
    /// Only a bound session can be pushed to from afar.
    SESSION_NOT_BOUND = UNKNOWN, "you have to bind an UID to the session to do that";
    /// The session is gone, or was never there.
    SESSION_NOT_FOUND = UNKNOWN, "session not found";
    /// A session is closed once.
    SESSION_CLOSED = UNKNOWN, "close closed session";
    /// A request with id zero has no reply.
    SESSION_ON_NOTIFY = UNKNOWN, "current session working on notify mode";
    /// The client reads too slowly.
    SESSION_BUFFER_EXCEEDED = UNKNOWN, "session send buffer exceed";
    /// A frontend has nobody to push session data to.
    SESSION_ON_FRONTEND = UNKNOWN, "frontend session can't push to front";
    /// Only the frontend knows when a session closes.
    ON_CLOSE_ON_BACKEND = UNKNOWN, "onclose callbacks are not allowed on backend servers";
    /// Some users were not pushed to.
    PUSH_FAILED = UNKNOWN, "failed to push message to users, check array with failed uids";
    /// Some users were not kicked.
    KICK_FAILED = UNKNOWN, "failed to kick users, check array with failed uids";
    /// A push from a backend must say where the users are.
    FRONTEND_TYPE_MISSING = UNKNOWN,
        "for using SendPushToUsers from a backend server you have to specify a valid frontendType";
    /// A call between servers must say which kind is meant.
    SERVER_TYPE_MISSING = UNKNOWN, "no server type chosen for sending RPC, send a full route in \
        the format server.service.component";
    /// No server has that id.
    SERVER_ID_UNKNOWN = UNKNOWN, "can't find any server with the provided ID";
    /// No server fits.
    SERVER_NOT_FOUND = UNKNOWN, "server not found";
    /// A call between servers that could have been a function call.
    CALL_TO_SELF = UNKNOWN, "you are making a rpc that may be processed locally, either specify a \
        different server type or specify a server id";
    /// A call to the own kind that has to be another.
    CALL_TO_OWN_TYPE = UNKNOWN, "RPC must be to a different server type";
    /// The other server does not do that.
    NOT_IMPLEMENTED = UNKNOWN, "method not implemented";
    /// Routing was asked for before it was set up.
    ROUTER_MISSING = UNKNOWN, "router is not initialized";
    /// A request was sent as a notify.
    REQUEST_AS_NOTIFY = UNKNOWN, "tried to notify a request route";
    /// The value is no Protobuf message.
    PROTOBUF_WRONG_TYPE = UNKNOWN, "protobuf: convert on wrong type value";
    /// A part of the route is empty.
    ROUTE_EMPTY = BAD_REQUEST, "route field can not be empty";
    /// The route has too few parts, or too many.
    ROUTE_INVALID = BAD_REQUEST, "invalid route";
    /// The route is no text.
    ROUTE_NOT_UTF8 = BAD_REQUEST, "route is not utf-8";
    /// A notify was sent as a request.
    NOTIFY_AS_REQUEST = BAD_REQUEST, "tried to request a notify route";
    /// JSON without a byte of JSON.
    JSON_EMPTY = BAD_REQUEST, "unexpected end of JSON input";
    /// The route is for other servers only.
    ROUTE_NOT_PUBLIC = FORBIDDEN, "route is not public";
    /// No remote has that name.
    ROUTE_NOT_FOUND = NOT_FOUND, "route not found";
    /// The handler took longer than it may.
    REQUEST_TIMEOUT = TIMEOUT, "request timeout";
    /// The other server took longer than it may.
    CALL_TIMEOUT = TIMEOUT, "rpc client: request timeout";
    /// The argument is longer than the route takes.
    BODY_TOO_LARGE = TOO_LARGE, "body is too large";
    /// The session calls more often than it may.
    RATE_EXCEEDED = TOO_MANY_REQUESTS, "rate limit exceeded";
    /// A write to the client failed.
    WRITE_FAILED = CLOSED_REQUEST, "client connection closed";
    /// The client is gone.
    PIPE_BROKEN = CLIENT_CLOSED_REQUEST, "broken low-level pipe";
    /// Also what a server on its own says of every other kind.
    NO_SERVERS = INTERNAL, "no servers available of this type";
    /// Every place is taken.
    SERVER_BUSY = UNAVAILABLE, "server is busy";
    /// The server that was asked does not answer, or the way to it is lost.
    SERVER_LOST = UNAVAILABLE, "server is out of reach";
    /// A client waited long enough.
    CLIENT_REQUEST_TIMEOUT = CLIENT_TIMEOUT, "request timeout";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_by_code_and_says_nothing_twice() {
        assert!(TABLE.is_sorted_by_key(|entry| entry.code));
        for (index, entry) in TABLE.iter().enumerate() {
            assert!(!TABLE[..index].contains(entry), "{entry:?}");
            assert!(!entry.text.contains("  "), "{entry:?}");
        }
    }
}
