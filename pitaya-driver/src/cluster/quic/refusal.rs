//! Why there is no link with a peer, and whom to tell.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pitaya_core::{Counter, Counters};
use quinn::{ConnectionError, TransportErrorCode};
use rustls::AlertDescription;

/// Why there is no link.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{}", told(.0))]
    Connection(#[from] ConnectionError),
    #[error("too many others shake hands")]
    Crowd,
    #[error("it dialled, but did not finish in time")]
    Late,
    #[error("its certificate names no server of a cluster")]
    Nameless,
    #[error("nobody answers there")]
    Silent,
}

impl Refusal {
    /// Whether one side did not believe the other, or could not: not if it just went away.
    pub(super) fn is_worth_a_look(&self) -> bool {
        match self {
            Self::Connection(error) => is_disbelief(error),
            Self::Crowd | Self::Late | Self::Nameless => true,
            Self::Silent => false,
        }
    }
}

impl From<&Refusal> for io::Error {
    fn from(refusal: &Refusal) -> Self {
        let kind = match refusal {
            Refusal::Connection(error) => kind(error),
            Refusal::Crowd | Refusal::Nameless => io::ErrorKind::PermissionDenied,
            Refusal::Late | Refusal::Silent => io::ErrorKind::TimedOut,
        };
        Self::new(kind, refusal.to_string())
    }
}

/// Counts and logs refusals, of which a stranger can cause as many as it likes.
#[derive(Debug)]
pub(super) struct Refusals {
    counters: Arc<Counters>,
    /// Since when lines are counted, and how many there were.
    lines: Mutex<(Option<Instant>, u32)>,
}

impl Refusals {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, lines: Mutex::new((None, 0)) }
    }

    pub(super) fn refuse(&self, remote: SocketAddr, refusal: &Refusal) {
        self.counters.add(Counter::LinksRefused);
        if self.may_log(Instant::now()) {
            tracing::warn!(%remote, reason = %refusal, "no link with a server");
        }
    }

    fn may_log(&self, now: Instant) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.0.is_none_or(|since| now.saturating_duration_since(since) >= SECOND) {
            *lines = (Some(now), 0);
        }
        lines.1 += 1;
        lines.1 <= LINES_EACH_SECOND_MAX
    }
}

/// The error of a stream whose connection is lost.
pub(super) fn lost(error: &ConnectionError) -> io::Error {
    io::Error::new(kind(error), told(error))
}

fn is_disbelief(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ConnectionClosed(close) => alert(close.error_code.into()).is_some(),
        ConnectionError::ApplicationClosed(close) => close.error_code == super::NAMELESS,
        ConnectionError::TransportError(_) | ConnectionError::VersionMismatch => true,
        ConnectionError::CidsExhausted
        | ConnectionError::LocallyClosed
        | ConnectionError::Reset
        | ConnectionError::TimedOut => false,
    }
}

/// What happened, in words of ours: a stranger can write anything into its own.
fn told(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code.into()) {
            Some(alert) => format!("it does not believe this server: {alert:?}"),
            None if close.error_code == APPLICATION_ERROR => "it gave up".to_owned(),
            None => format!("it refuses: {}", close.error_code),
        },
        ConnectionError::ApplicationClosed(close) if close.error_code == super::NAMELESS => {
            "to it, this server's certificate names no server of a cluster".to_owned()
        }
        ConnectionError::ApplicationClosed(close) => {
            format!("closed by the peer, code {}", close.error_code)
        }
        ConnectionError::TransportError(error) => match alert(error.code.into()) {
            // It may quote the certificate.
            Some(_) => error.reason.chars().take(REASON_MAX).flat_map(char::escape_debug).collect(),
            None => error.code.to_string(),
        },
        ConnectionError::VersionMismatch => "it speaks no version of QUIC in common".to_owned(),
        ConnectionError::CidsExhausted => "no connection ids are left".to_owned(),
        ConnectionError::LocallyClosed => "closed by this server".to_owned(),
        ConnectionError::Reset => "it knows nothing of the connection: it began anew".to_owned(),
        ConnectionError::TimedOut => "nothing came for too long".to_owned(),
    }
}

fn kind(error: &ConnectionError) -> io::ErrorKind {
    match error {
        // What an application says before it is known is not passed on.
        ConnectionError::ConnectionClosed(close) if close.error_code == APPLICATION_ERROR => {
            io::ErrorKind::ConnectionReset
        }
        ConnectionError::ConnectionClosed(_)
        | ConnectionError::TransportError(_)
        | ConnectionError::VersionMismatch => io::ErrorKind::ConnectionRefused,
        ConnectionError::ApplicationClosed(_) | ConnectionError::Reset => {
            io::ErrorKind::ConnectionReset
        }
        ConnectionError::LocallyClosed => io::ErrorKind::NotConnected,
        ConnectionError::CidsExhausted => io::ErrorKind::Other,
        ConnectionError::TimedOut => io::ErrorKind::TimedOut,
    }
}

/// The alert of TLS that an error of QUIC stands for.
fn alert(code: u64) -> Option<AlertDescription> {
    let alert = u8::try_from(code.checked_sub(0x100)?).ok()?;
    Some(AlertDescription::from(alert))
}

const APPLICATION_ERROR: TransportErrorCode = TransportErrorCode::APPLICATION_ERROR;

const LINES_EACH_SECOND_MAX: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// In characters: as much as says what is wrong.
const REASON_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_all_the_time_does_not_fill_the_log() {
        let refusals = Refusals::new(Arc::default());
        let begin = Instant::now();
        let lines = |at: Duration| (0..99).filter(|_| refusals.may_log(begin + at)).count();
        assert_eq!(lines(Duration::ZERO), 10);
        assert_eq!(lines(Duration::from_millis(999)), 0);
        assert_eq!(lines(SECOND), 10);
    }

    #[test]
    fn a_peer_that_only_went_away_was_not_refused() {
        for gone in [ConnectionError::Reset, ConnectionError::LocallyClosed] {
            assert!(!Refusal::from(gone).is_worth_a_look());
        }
        assert!(Refusal::from(ConnectionError::VersionMismatch).is_worth_a_look());
    }
}
