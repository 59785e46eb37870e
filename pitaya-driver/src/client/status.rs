//! How a client stands: connected, on its way, or closed for good; and who waits for which.

use std::sync::Arc;
use std::time::Duration;

use pitaya_core::CloseReason;
use pitaya_proto::handshake::HandshakeResponse;

use crate::client::line::Line;
use crate::client::watch::Watch;

/// How a client stands, for whoever shows it to people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientState {
    /// It will not connect again.
    Closed(CloseReason),
    /// It dials, shakes hands, or does what it does first on every connection.
    Connecting,
    /// Requests are sent.
    Open,
    /// The connection is lost, and there will be another.
    Reconnecting {
        /// The attempts since a connection lasted, with the one to come; the first is 1.
        attempt: usize,
        /// How long it waits before that attempt.
        delay: Duration,
        /// What became of the last connection or attempt.
        reason: CloseReason,
    },
}

/// The states of a client from now on; see [`Client::states`](crate::Client::states).
pub struct States {
    status: Arc<Status>,
    seen: u64,
}

impl States {
    pub(super) fn new(status: Arc<Status>) -> Self {
        Self { status, seen: 0 }
    }

    /// The state, the first time at once and then whenever it is another one; `None` after the last
    /// one, [`ClientState::Closed`]. Who asks late is told the newest state, not those in between.
    ///
    /// The future may be dropped without losing a state.
    pub async fn next(&mut self) -> Option<ClientState> {
        let seen = &mut self.seen;
        self.status
            .0
            .wait(|now| {
                if *seen == now.version {
                    return matches!(now.state, ClientState::Closed(_)).then_some(None);
                }
                *seen = now.version;
                Some(Some(now.state.clone()))
            })
            .await
    }
}

/// What the handles of a client and the task that keeps it connected share.
pub(super) struct Status(Watch<Now>);

struct Now {
    state: ClientState,
    /// Grows with every state.
    version: u64,
    /// The connection while the client is open.
    line: Option<Arc<Line>>,
    /// What the server said in its last handshake.
    server: Option<Arc<HandshakeResponse>>,
    /// Requests that wait for the next connection.
    waiting: usize,
    /// Somebody wants it closed.
    closing: bool,
    /// Nothing of it is left, not even bytes to be sent.
    finished: bool,
}

/// What there is for a request.
pub(super) enum Way {
    Closed(CloseReason),
    Line(Arc<Line>),
    /// None yet.
    Wait,
}

impl Status {
    pub(super) fn new() -> Arc<Self> {
        let now = Now {
            state: ClientState::Connecting,
            version: 1,
            line: None,
            server: None,
            waiting: 0,
            closing: false,
            finished: false,
        };
        Arc::new(Self(Watch::new(now)))
    }

    /// What a request can do now.
    pub(super) fn way(&self) -> Way {
        self.0.lock().way()
    }

    /// The connection, once there is one; or why there will be none.
    pub(super) async fn line(&self) -> Result<Arc<Line>, CloseReason> {
        self.0
            .wait(|now| match now.way() {
                Way::Closed(reason) => Some(Err(reason)),
                Way::Line(line) => Some(Ok(line)),
                Way::Wait => None,
            })
            .await
    }

    /// What the server said in its last handshake.
    ///
    /// # Panics
    ///
    /// The client was never open.
    pub(super) fn server(&self) -> Arc<HandshakeResponse> {
        self.0.lock().server.clone().expect("handles are given out once the client is open")
    }

    /// A place among those who wait for a connection, if there are fewer than `waiting_max`.
    pub(super) fn place(&self, waiting_max: usize) -> Option<Place<'_>> {
        let mut now = self.0.lock();
        (now.waiting < waiting_max).then(|| {
            now.waiting += 1;
            Place(self)
        })
    }

    /// From now on requests go there.
    pub(super) fn open(&self, line: &Arc<Line>) {
        self.change(|now| {
            if now.closing {
                line.close();
            }
            now.server = Some(Arc::clone(line.server()));
            (now.state, now.line) = (ClientState::Open, Some(Arc::clone(line)));
        });
    }

    /// There is no connection.
    pub(super) fn set(&self, state: ClientState) {
        self.change(|now| (now.state, now.line) = (state, None));
    }

    /// Ends the client, after what was sent before.
    pub(super) fn close(&self) {
        self.0.change(|now| {
            now.closing = true;
            now.line.iter().for_each(|line| line.close());
        });
    }

    /// Somebody wants it closed.
    pub(super) async fn closing(&self) {
        self.0.wait(|now| now.closing.then_some(())).await;
    }

    /// Why it is closed, once it is.
    pub(super) async fn closed(&self) -> CloseReason {
        self.0
            .wait(|now| match &now.state {
                ClientState::Closed(reason) => Some(reason.clone()),
                ClientState::Connecting | ClientState::Open | ClientState::Reconnecting { .. } => {
                    None
                }
            })
            .await
    }

    /// Nothing of it is left.
    pub(super) async fn finished(&self) {
        self.0.wait(|now| now.finished.then_some(())).await;
    }

    /// There will be no change any more.
    pub(super) fn finish(&self) {
        self.change(|now| {
            if !matches!(now.state, ClientState::Closed(_)) {
                // A runtime that drops its tasks asks nobody.
                now.state = ClientState::Closed(CloseReason::Closed);
            }
            (now.line, now.finished) = (None, true);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        self.0.change(|now| {
            let before = now.state.clone();
            change(now);
            now.version += u64::from(now.state != before);
        });
    }
}

impl Now {
    fn way(&self) -> Way {
        match (&self.state, &self.line) {
            (ClientState::Closed(reason), _) => Way::Closed(reason.clone()),
            // One that takes no more is about to be replaced.
            (_, Some(line)) if line.is_open() => Way::Line(Arc::clone(line)),
            (_, Some(_) | None) => Way::Wait,
        }
    }
}

/// A place among those who wait, until it is dropped.
pub(super) struct Place<'s>(&'s Status);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.lock().waiting -= 1;
    }
}
