//! The task that keeps a client connected, until somebody wants it otherwise.

use std::pin::Pin;
use std::sync::{Arc, Weak};

use futures_channel::oneshot;
use pitaya_core::{CloseReason, Codec, Counter, Fault, RequestError};

use crate::client::backoff::Backoff;
use crate::client::connect::{ConnectError, Dialler};
use crate::client::line::Line;
use crate::client::pushes::Pushes;
use crate::client::status::{ClientState, Status};
use crate::client::{Client, Shared};
use crate::runtime::Runtime;
use crate::timers::before;

/// What a client does first on every connection.
pub(super) type OnConnected<R, C> = Box<dyn Fn(Client<R, C>) -> LoggingIn + Send + Sync>;
pub(super) type LoggingIn = Pin<Box<dyn Future<Output = Result<(), RequestError>> + Send>>;

/// Dials, watches the connection, and dials again.
///
/// It has no share in the client: once the last handle is gone, it ends.
pub(super) struct Keeper<R: Runtime, C> {
    pub(super) client: Weak<Shared<R>>,
    pub(super) status: Arc<Status>,
    pub(super) pushes: Arc<Pushes>,
    pub(super) dialler: Dialler<R>,
    pub(super) on_connected: Option<OnConnected<R, C>>,
    pub(super) backoff: Backoff,
}

impl<R: Runtime, C: Codec> Keeper<R, C> {
    /// Runs until the client is closed for good. `opened` is told what becomes of the first
    /// attempt: if that fails, there is no other.
    pub(super) async fn run(mut self, opened: oneshot::Sender<Result<(), ConnectError>>) {
        let outcome = self.attempt().await;
        let failure = outcome.as_ref().err().cloned();
        // Whoever connects may have given up; then the last handle is gone.
        let _ = opened.send(failure.map_or(Ok(()), Err));
        match outcome {
            Ok(mut line) => {
                let reason = self.keep(&mut line).await;
                self.end(reason);
                line.finished().await;
            }
            Err(error) => self.end(error.into_reason()),
        }
    }

    /// Replaces the connection until there will be no other; why not.
    async fn keep(&mut self, line: &mut Arc<Line>) -> CloseReason {
        loop {
            let opened_at = self.dialler.runtime.now();
            let reason = line.closed().await;
            self.backoff.handle_lost(self.dialler.runtime.now().since(opened_at));
            match self.reconnect(reason).await {
                Ok(next) => *line = next,
                Err(reason) => return reason,
            }
        }
    }

    /// Waits and tries, as often as need be and may be.
    async fn reconnect(&mut self, mut reason: CloseReason) -> Result<Arc<Line>, CloseReason> {
        let counters = Arc::clone(&self.dialler.config.counters);
        loop {
            if reason.fault() == Fault::Caller {
                return Err(reason);
            }
            let Some(attempt) = self.backoff.next() else {
                counters.add(Counter::ReconnectsGivenUp);
                return Err(reason);
            };
            tracing::debug!(address = self.dialler.address, %reason, ?attempt, "reconnecting");
            let (attempt, delay) = (attempt.number, attempt.delay);
            self.status.set(ClientState::Reconnecting { attempt, delay, reason });
            let pause = self.dialler.until(self.dialler.runtime.now() + delay);
            if before(self.status.closing(), pause).await.is_none() {
                return Err(CloseReason::Closed);
            }
            counters.add(Counter::Reconnects);
            self.status.set(ClientState::Connecting);
            match self.attempt().await {
                Ok(line) => return Ok(line),
                Err(error) => reason = error.into_reason(),
            }
        }
    }

    /// Makes a connection and lets requests use it.
    async fn attempt(&self) -> Result<Arc<Line>, ConnectError> {
        let outcome = before(self.status.closing(), self.connect()).await;
        let line = outcome.unwrap_or_else(|| Err(self.closed(CloseReason::Closed)))?;
        self.status.open(&line);
        Ok(line)
    }

    async fn connect(&self) -> Result<Arc<Line>, ConnectError> {
        let line = Arc::new(self.dialler.connect(&self.pushes).await?);
        let server = &line.server().serializer;
        if server != C::NAME {
            let (address, server) = (self.dialler.address.clone(), server.clone());
            return Err(ConnectError::Serializer { address, client: C::NAME, server });
        }
        if let Some(on_connected) = &self.on_connected {
            let client = self.client.upgrade().ok_or_else(|| self.closed(CloseReason::Closed))?;
            let log_in = on_connected(Client::over(client, Arc::clone(&line)));
            let log_in = async { log_in.await.map_err(|error| self.refused(&line, error)) };
            self.dialler.in_time(self.dialler.runtime.now(), log_in).await?;
        }
        Ok(line)
    }

    fn refused(&self, line: &Line, error: RequestError) -> ConnectError {
        match (&error, line.reason()) {
            (RequestError::Unknown(_) | RequestError::Unsent(_), Some(reason)) => {
                self.closed(reason)
            }
            (_, Some(_) | None) => {
                ConnectError::Login { address: self.dialler.address.clone(), error }
            }
        }
    }

    fn closed(&self, reason: CloseReason) -> ConnectError {
        ConnectError::Closed { address: self.dialler.address.clone(), reason }
    }

    fn end(&self, reason: CloseReason) {
        tracing::debug!(address = self.dialler.address, %reason, "closed");
        self.status.set(ClientState::Closed(reason));
        self.pushes.end();
    }
}

impl<R: Runtime, C> Drop for Keeper<R, C> {
    /// Nobody must wait for ever, also when a runtime drops its tasks.
    fn drop(&mut self) {
        self.status.finish();
        self.pushes.end();
    }
}
