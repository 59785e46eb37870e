//! How often things happened: one number for each limit and each decision worth seeing.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)+) => {
        /// Something that is counted; [`Counter::name`] is its name in a report.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// Every counter, in the order of their names.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in a report: lower case, words joined by `_`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

counters! {
    /// Connections that could not be accepted.
    AcceptsFailed = "accepts_failed";
    /// A body above the limit after inflating.
    BodiesTooLarge = "bodies_too_large";
    /// Calls that ran until the hard limit: they are dropped, or cost their session.
    CallsAbandoned = "calls_abandoned";
    /// Calls of a closed session that were dropped before they ran.
    CallsDropped = "calls_dropped";
    /// Calls answered with a timeout, waiting or running.
    CallsExpired = "calls_expired";
    /// Calls of clients that were sent to servers of other kinds.
    CallsForwarded = "calls_forwarded";
    /// Handlers that panicked.
    CallsPanicked = "calls_panicked";
    /// Handler polls that held the executor longer than the limit.
    CallsSlow = "calls_slow";
    /// Calls that a handler began.
    CallsStarted = "calls_started";
    /// Times a session was not read because it called too often.
    CallsThrottled = "calls_throttled";
    /// Connections that were accepted.
    ConnectionsAccepted = "connections_accepted";
    /// Connections that ended, for whatever reason.
    ConnectionsClosed = "connections_closed";
    /// Connections closed because what they sent broke the protocol.
    ConnectionsFaulty = "connections_faulty";
    /// Connections turned away because too many were open.
    ConnectionsRefused = "connections_refused";
    /// Connections closed before they were ready to work, to make room for others.
    ConnectionsShed = "connections_shed";
    /// Connections closed because nothing came from them.
    ConnectionsSilent = "connections_silent";
    /// Connections closed because they did not take what was written.
    ConnectionsSlow = "connections_slow";
    /// Sessions that a group had no place for.
    GroupJoinsRefused = "group_joins_refused";
    /// Connections closed because they did not become ready to work in time.
    HandshakesExpired = "handshakes_expired";
    /// Handshakes that were refused.
    HandshakesRefused = "handshakes_refused";
    /// Kicks that were sent.
    KicksSent = "kicks_sent";
    /// Steps of parts of the application, at the start or the end, that took too long.
    LifecyclesExpired = "lifecycles_expired";
    /// Calls between servers that were refused, or their answers: too many, or too much waits.
    LinkCallsRefused = "link_calls_refused";
    /// Attempts to reach another server that failed.
    LinkDialsFailed = "link_dials_failed";
    /// Frames for another server that nobody waits for, and that could not be sent.
    LinkFramesDropped = "link_frames_dropped";
    /// Frames and calls of another server that it has no right to.
    LinkFramesForbidden = "link_frames_forbidden";
    /// Frames for another server that are sent in parts.
    LinkFramesParted = "link_frames_parted";
    /// Links to other servers that ended, for whatever reason.
    LinksClosed = "links_closed";
    /// Links to other servers that were opened.
    LinksOpened = "links_opened";
    /// Links refused: what was said of the server is not true or proven, or there is no place.
    LinksRefused = "links_refused";
    /// Times another server was silent for too long to be given calls.
    LinksSuspected = "links_suspected";
    /// Lines that were not logged, as too many like them were.
    LogLinesSuppressed = "log_lines_suppressed";
    /// Notifies of a client that could not be sent.
    NotifiesDropped = "notifies_dropped";
    /// Notifies whose handler failed, or whose argument was none.
    NotifiesFailed = "notifies_failed";
    /// Connections closed because of all they held the most, when too much waited for all of them.
    OutboundShed = "outbound_shed";
    /// Packets that did not finish in time.
    PacketsUnfinished = "packets_unfinished";
    /// Times a session was not read because a bound was reached.
    Pauses = "pauses";
    /// Connections without the header that their proxy owes, or from no proxy that is trusted.
    ProxiesRefused = "proxies_refused";
    /// Pushes that came to a client where nobody takes them, or nobody took them in time.
    PushesDropped = "pushes_dropped";
    /// Pushes that found no room; the session is closed.
    PushesRefused = "pushes_refused";
    /// Pushes that were taken for a session.
    PushesTaken = "pushes_taken";
    /// Attempts of clients to connect again.
    Reconnects = "reconnects";
    /// Clients that gave up to connect again.
    ReconnectsGivenUp = "reconnects_given_up";
    /// Replies that came after their deadline, after the session closed, or to nobody.
    RepliesLate = "replies_late";
    /// Replies handed to a connection.
    RepliesSent = "replies_sent";
    /// Requests of a client that had no reply in time.
    RequestsExpired = "requests_expired";
    /// Requests of a client that were not sent.
    RequestsRefused = "requests_refused";
    /// Session values refused because they were too large.
    SessionDataRefused = "session_data_refused";
    /// Sessions that ended.
    SessionsClosed = "sessions_closed";
    /// Sessions that began.
    SessionsOpened = "sessions_opened";
    /// Shutdowns that ran out of time with connections left.
    ShutdownsCut = "shutdowns_cut";
    /// Connections of sources that have too many already.
    SourcesRefused = "sources_refused";
    /// Handshakes of TLS that waited for others.
    TlsDelayed = "tls_delayed";
    /// Handshakes of TLS that failed.
    TlsRefused = "tls_refused";
    /// Turns that ended because they had done enough for once.
    TurnsCut = "turns_cut";
    /// User ids refused as illegal or taken.
    UidsRefused = "uids_refused";
    /// Requests for a WebSocket that were refused.
    UpgradesRefused = "upgrades_refused";
}

/// All counters of one server or client. They only grow.
#[derive(Debug)]
pub struct Counters([AtomicU64; Counter::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// Counts one.
    #[inline]
    pub fn add(&self, counter: Counter) {
        self.add_many(counter, 1);
    }

    /// Counts several at once.
    #[inline]
    pub fn add_many(&self, counter: Counter, count: u64) {
        self.0[counter as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// How often it happened so far.
    pub fn count(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_listed_in_the_order_of_their_names() {
        assert!(Counter::ALL.windows(2).all(|pair| pair[0].name() < pair[1].name()));
    }

    #[test]
    fn each_counter_counts_alone() {
        let counters = Counters::default();
        counters.add_many(Counter::CallsStarted, 2);
        assert_eq!(counters.count(Counter::CallsStarted), 2);
        assert_eq!(counters.count(Counter::CallsSlow), 0);
    }
}
