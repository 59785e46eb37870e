//! Every limit in one table: name, default, unit, and the counter that shows it at work.

use std::time::Duration;

use pitaya_proto::limits as wire;

use crate::Counter;

macro_rules! limits {
    (@Duration $value:expr) => { $value.as_secs_f64().to_string() };
    (@usize $value:expr) => { $value.to_string() };
    ($(
        $(#[doc = $doc:literal])+
        $name:ident: $kind:ident = $default:expr, $unit:literal, $counter:ident;
    )+) => {
        /// The limits of one server or client. Each has a default that suits production.
        ///
        /// ```
        /// use std::time::Duration;
        /// let limits = pitaya_core::Limits::default();
        /// let limits = limits.calls_max(16).heartbeat(Duration::from_secs(10));
        /// assert_eq!(limits.calls_max, 16);
        /// ```
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $name: $kind,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Limits {
            $(
                $(#[doc = $doc])+
                #[must_use]
                pub fn $name(self, $name: $kind) -> Self {
                    Self { $name, ..self }
                }
            )+

            /// One row for each limit, as set here.
            pub fn table(&self) -> Vec<Limit> {
                vec![$(Limit {
                    name: stringify!($name),
                    value: limits!(@$kind self.$name),
                    unit: $unit,
                    counter: Counter::$counter,
                }),+]
            }
        }
    };
}

limits! {
    /// How long nobody is accepted after a connection could not be, as when the process has no
    /// descriptor left.
    accept_pause: Duration = Duration::from_millis(50), "seconds", AcceptsFailed;
    /// How long a handler may take to answer, counted from the arrival of the call; a route may set
    /// its own.
    call_deadline: Duration = Duration::from_secs(5), "seconds", CallsExpired;
    /// How long a handler may run before it is dropped, counted from its start; a route may set its
    /// own.
    call_hard_limit: Duration = Duration::from_secs(20), "seconds", CallsAbandoned;
    /// Requests and notifies of one session in a second; beyond it the session is not read until
    /// the second is over. Off unless set.
    call_rate_max: usize = usize::MAX, "calls in a second", CallsThrottled;
    /// Calls of one session that wait, run or are late, all together; at this number the session is
    /// not read.
    calls_max: usize = 64, "calls", Pauses;
    /// Bytes of waiting calls of one session; beyond it the session is not read.
    calls_waiting_bytes_max: usize = 256 << 10, "bytes", Pauses;
    /// Bodies of at least this size are compressed towards clients that can inflate.
    compression_bytes_min: usize = 256, "bytes", RepliesSent;
    /// How long a client takes at most from dialling until the server has accepted its handshake,
    /// TLS and WebSocket included, and again for what it does then, before anything else, in
    /// `on_connected`.
    connect_timeout: Duration = Duration::from_secs(5), "seconds", HandshakesExpired;
    /// Connections of one server, of all its acceptors together.
    connections_max: usize = 16_384, "connections", ConnectionsRefused;
    /// Times a user id may be bound in a `binds_window`, in the whole cluster: a player who changes
    /// networks logs in now and then, two programs that throw each other out do so without a pause.
    binds_max: usize = 5, "binds", UidsRefused;
    /// For how long a bind counts towards `binds_max`.
    binds_window: Duration = Duration::from_secs(10), "seconds", UidsRefused;
    /// Members of one group. A push tells all of them in one go, at half a microsecond each.
    group_members_max: usize = 10_000, "members", GroupJoinsRefused;
    /// Connections that are not yet ready to work; beyond it nothing is accepted, and those that
    /// are idle make room. A `Node` turns away whoever comes then, and counts it as
    /// `connections_refused`.
    handshaking_max: usize = 1024, "connections", ConnectionsShed;
    /// Keys in all objects and elements in all arrays of a handshake together.
    handshake_keys_max: usize = wire::HANDSHAKE_KEYS_MAX, "keys", ConnectionsFaulty;
    /// Nesting of a handshake's JSON.
    handshake_depth_max: usize = wire::HANDSHAKE_DEPTH_MAX, "levels", ConnectionsFaulty;
    /// Body of any packet before the handshake is done.
    handshake_bytes_max: usize = wire::HANDSHAKE_BYTES_MAX, "bytes", ConnectionsFaulty;
    /// How long a client may take to send the handshake once the layers are open, and again to
    /// acknowledge the answer.
    handshake_timeout: Duration = Duration::from_secs(5), "seconds", HandshakesExpired;
    /// Between two heartbeats, in whole seconds, at least one; a client silent for two and a half
    /// of them and one second is closed.
    heartbeat: Duration = Duration::from_secs(30), "seconds", ConnectionsSilent;
    /// How long a connection that is not ready to work may send nothing while new ones wait for its
    /// place.
    handshake_idle_max: Duration = Duration::from_secs(2), "seconds", ConnectionsShed;
    /// Requests of one client that wait for their reply.
    in_flight_max: usize = 64, "requests", RequestsRefused;
    /// Body of a message after inflating.
    inflated_bytes_max: usize = wire::INFLATED_BYTES_MAX, "bytes", BodiesTooLarge;
    /// How long a closed connection may take to notice, so that the last packet is not lost with
    /// it; thirty times that in all for one that goes on to take what is written.
    linger_timeout: Duration = Duration::from_secs(1), "seconds", ConnectionsClosed;
    /// How long one step of a part of the application may take as the server starts or ends.
    lifecycle_timeout: Duration = Duration::from_secs(30), "seconds", LifecyclesExpired;
    /// Calls to one other server that wait for their reply, and as many of it that are not
    /// answered.
    link_calls_max: usize = 4096, "calls", LinkCallsRefused;
    /// Commands that wait until the link to another server looks at them, and messages that a
    /// carrier of messages brings from one; of such that must not be lost as many again may wait.
    link_commands_max: usize = 16_384, "commands", LinkCallsRefused;
    /// Silence after which a link to another server is over, or time in which it takes nothing of
    /// what waits for it.
    link_dead_after: Duration = Duration::from_secs(10), "seconds", LinksClosed;
    /// Time between two attempts to reach a server that is known to be somewhere, at most; the
    /// first ones come sooner.
    link_dial_delay_max: Duration = Duration::from_secs(1), "seconds", LinkDialsFailed;
    /// Body of one frame between servers; at most 2^24-1.
    link_frame_bytes_max: usize = pitaya_proto::link::BODY_BYTES_MAX, "bytes", LinkFramesDropped;
    /// What is said at least to another server, so that it knows that this one is there.
    link_heartbeat: Duration = Duration::from_millis(500), "seconds", LinksSuspected;
    /// How long another server may take to say who it is.
    link_hello_timeout: Duration = Duration::from_secs(5), "seconds", LinksClosed;
    /// Long frames that are on their way to one other server at once; more of them wait.
    link_long_frames_max: usize = 8, "frames", LinksClosed;
    /// Bytes waiting to be written to one other server, beyond which nothing new is sent to it, but
    /// as many bytes again of what must not be lost.
    link_outbound_bytes_max: usize = 8 << 20, "bytes", LinkCallsRefused;
    /// Body of a frame that goes as one piece; a longer one is sent in parts, between which others
    /// go.
    link_part_bytes_max: usize = 64 << 10, "bytes", LinkFramesParted;
    /// Silence after which no new calls go to another server, and those in flight have failed.
    link_suspect_after: Duration = Duration::from_secs(2), "seconds", LinksSuspected;
    /// Events handled for one other server before others get a turn: it speaks for many clients.
    link_turn_events_max: usize = 1024, "events", TurnsCut;
    /// Lines of one kind that clients make a server log in a second.
    log_lines_max: usize = 10, "lines in a second", LogLinesSuppressed;
    /// Servers of one cluster, this one included.
    members_max: usize = 512, "servers", LinksRefused;
    /// Bytes waiting to be written to one client; a single larger packet is taken when nothing
    /// waits.
    outbound_bytes_max: usize = 1 << 20, "bytes", PushesRefused;
    /// Packets waiting to be written to one client, and pushes to it between two `.await`s of a
    /// handler.
    outbound_packets_max: usize = 256, "packets", PushesRefused;
    /// Body of a packet once the handshake is done; the wire carries at most 2^24-1.
    packet_bytes_max: usize = wire::PACKET_BODY_BYTES_MAX, "bytes", ConnectionsFaulty;
    /// How long a packet that began may take to finish.
    packet_timeout: Duration = Duration::from_secs(10), "seconds", PacketsUnfinished;
    /// A poll of a handler that takes longer is counted and logged.
    poll_slow: Duration = Duration::from_millis(10), "seconds", CallsSlow;
    /// Bytes waiting to be written to all clients of one server; beyond it who holds most is
    /// closed. Pushes that the connections have not looked at yet are not among them.
    process_outbound_bytes_max: usize = 512 << 20, "bytes", OutboundShed;
    /// How long a proxy may take to say for whom it connects.
    proxy_timeout: Duration = Duration::from_secs(1), "seconds", ProxiesRefused;
    /// Body of a packet that a client takes from its server, also after inflating: by default all
    /// that the wire carries, since a server is chosen by its client and a dictionary may be long.
    received_bytes_max: usize = pitaya_proto::packet::BODY_BYTES_MAX, "bytes", ConnectionsFaulty;
    /// How often in a row a client tries to connect again before it gives up; zero: not at all. A
    /// connection that lasts for `reconnect_delay_max` ends the row.
    reconnect_attempts_max: usize = 100, "attempts", ReconnectsGivenUp;
    /// How long a client waits at most before it connects again.
    reconnect_delay_max: Duration = Duration::from_secs(30), "seconds", Reconnects;
    /// How long a client waits at least before it connects again. The first wait is at most twice
    /// as long, and each one after it may be twice as long as the one before.
    reconnect_delay_min: Duration = Duration::from_millis(500), "seconds", Reconnects;
    /// How long a client waits for a reply; a request may set its own.
    request_deadline: Duration = Duration::from_secs(5), "seconds", RequestsExpired;
    /// How long a session waits for its client to connect again; zero: not at all.
    resume_window: Duration = Duration::ZERO, "seconds", SessionsClosed;
    /// A session's own data, encoded as JSON.
    session_data_bytes_max: usize = 16 << 10, "bytes", SessionDataRefused;
    /// How long a shutdown may take before what is left is cut.
    shutdown_timeout: Duration = Duration::from_secs(25), "seconds", ShutdownsCut;
    /// New connections of one source, an IPv4 address or an IPv6 /64, in a second; off unless set.
    source_accepts_max: usize = usize::MAX, "connections", SourcesRefused;
    /// Open connections of one source, an IPv4 address or an IPv6 /64; off unless set.
    source_connections_max: usize = usize::MAX, "connections", SourcesRefused;
    /// Pushes that wait in one subscription of a client; then the oldest is dropped.
    subscription_pushes_max: usize = 256, "pushes", PushesDropped;
    /// Bytes of a user id.
    uid_bytes_max: usize = 128, "bytes", UidsRefused;
    /// Handshakes of TLS in progress on one server; who comes then waits, within `tls_timeout`. One
    /// that takes longer than a second does not count any more.
    tls_handshakes_max: usize = 64, "handshakes", TlsDelayed;
    /// How long a client may take for the handshake of TLS.
    tls_timeout: Duration = Duration::from_secs(5), "seconds", TlsRefused;
    /// Events handled for one connection before others get a turn.
    turn_events_max: usize = 64, "events", TurnsCut;
    /// Bytes of the HTTP request that opens a WebSocket.
    upgrade_head_bytes_max: usize = 8 << 10, "bytes", UpgradesRefused;
    /// Header lines of the HTTP request that opens a WebSocket.
    upgrade_head_lines_max: usize = 64, "lines", UpgradesRefused;
    /// How long a client may take to open a WebSocket, after TLS if there is any.
    upgrade_timeout: Duration = Duration::from_secs(5), "seconds", UpgradesRefused;
    /// How long a client may take nothing of what waits for it.
    write_timeout: Duration = Duration::from_secs(5), "seconds", ConnectionsSlow;
}

/// One limit as it is set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limit {
    /// Grows when the limit is reached.
    pub counter: Counter,
    /// The name of the field of [`Limits`].
    pub name: &'static str,
    /// What the value counts.
    pub unit: &'static str,
    /// The value, in `unit`.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_was_set() {
        let table = Limits::default().calls_max(3).poll_slow(Duration::from_millis(5)).table();
        let value = |name| table.iter().find(|row| row.name == name).map(|row| row.value.clone());
        assert_eq!(value("calls_max").as_deref(), Some("3"));
        assert_eq!(value("poll_slow").as_deref(), Some("0.005"));
    }
}
