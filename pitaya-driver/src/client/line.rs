//! One connection of a client: what its handles and the task that drives it share.

use std::io;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};

use bytes::Bytes;
use futures_channel::oneshot;
use pitaya_core::{
    ClientCommand, ClientConfig, ClientConn, ClientEvent, ClientRequest, CloseReason, Counter,
    Error, Instant, RequestError,
};
use pitaya_proto::error;
use pitaya_proto::handshake::HandshakeResponse;

use crate::client::pushes::Pushes;
use crate::client::watch::Watch;
use crate::drive::{Commands, Serve};
use crate::mailbox::{Mailbox, Sent};

/// Whoever waits for a reply.
pub(crate) type Waiter = oneshot::Sender<Result<Bytes, RequestError>>;

/// Whoever waits for the server to accept the handshake.
pub(super) type Opening = oneshot::Sender<Result<(), CloseReason>>;

/// The handles' side. When it is dropped, the connection closes.
pub(super) struct Line {
    config: Arc<ClientConfig>,
    mailbox: Arc<Mailbox<ClientCommand<Waiter>>>,
    end: Arc<Watch<Ending>>,
    server: Arc<OnceLock<Arc<HandshakeResponse>>>,
}

impl Line {
    /// Both sides of a connection with these settings.
    pub(super) fn new(
        config: &Arc<ClientConfig>, pushes: Arc<Pushes>, opening: Opening,
    ) -> (Self, Serving) {
        let limits = &config.limits;
        let line = Self {
            config: Arc::clone(config),
            mailbox: Arc::new(Mailbox::new(limits.outbound_packets_max, limits.outbound_bytes_max)),
            end: Arc::default(),
            server: Arc::default(),
        };
        let serving = Serving {
            config: Arc::clone(config),
            mailbox: Arc::clone(&line.mailbox),
            pushes,
            end: Arc::clone(&line.end),
            server: Arc::clone(&line.server),
            opening: Some(opening),
        };
        (line, serving)
    }

    pub(super) fn mailbox(&self) -> Arc<Mailbox<ClientCommand<Waiter>>> {
        Arc::clone(&self.mailbox)
    }

    pub(super) async fn request(
        &self, route: &str, body: Bytes, deadline: Instant,
    ) -> Result<Bytes, RequestError> {
        let (waiter, reply) = oneshot::channel();
        let bytes = body.len();
        let request = ClientRequest { route: route.into(), body, deadline, waiter };
        let sent = self.mailbox.send(ClientCommand::Request(request), bytes);
        if sent == Sent::Full {
            self.config.counters.add(Counter::RequestsRefused);
        }
        self.outcome(sent)?;
        // A task that was dropped may have sent it.
        reply.await.unwrap_or_else(|_| Err(RequestError::Unknown(self.no_reply())))
    }

    /// Whoever calls it counts what is dropped.
    pub(super) fn notify(&self, route: &str, body: Bytes) -> Result<(), RequestError> {
        let bytes = body.len();
        let notify = ClientCommand::Notify { route: route.into(), body };
        self.outcome(self.mailbox.send(notify, bytes))
    }

    pub(super) fn close(&self) {
        // Closed already is as good.
        let _ = self.mailbox.send_last(ClientCommand::Close(CloseReason::Closed));
    }

    /// Why the connection ended, once it has.
    pub(super) async fn closed(&self) -> CloseReason {
        self.end.wait(|ending| ending.reason.clone()).await
    }

    /// Nothing of it is left, not even bytes to be sent.
    pub(super) async fn finished(&self) {
        self.end.wait(|ending| ending.finished.then_some(())).await;
    }

    /// Why it has ended, if it has.
    pub(super) fn reason(&self) -> Option<CloseReason> {
        self.end.lock().reason.clone()
    }

    /// What its socket or its layers failed with, if they did.
    pub(super) fn failure(&self) -> Option<String> {
        self.end.lock().failure.clone()
    }

    /// Whether something can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.mailbox.is_open()
    }

    /// What the server said in its handshake.
    pub(super) fn server(&self) -> &Arc<HandshakeResponse> {
        self.server.get().expect("the handshake is done before the connection is handed out")
    }

    fn outcome(&self, sent: Sent) -> Result<(), RequestError> {
        match sent {
            Sent::Taken => Ok(()),
            Sent::Full => {
                let full = Error::new(error::TOO_MANY_REQUESTS, "too much waits to be sent");
                Err(RequestError::Unsent(full))
            }
            Sent::Closed => Err(RequestError::Unsent(self.no_reply())),
        }
    }

    fn no_reply(&self) -> Error {
        self.reason().unwrap_or(CloseReason::Closed).no_reply()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close();
    }
}

/// The side of the task that drives the connection.
pub(super) struct Serving {
    config: Arc<ClientConfig>,
    mailbox: Arc<Mailbox<ClientCommand<Waiter>>>,
    pushes: Arc<Pushes>,
    end: Arc<Watch<Ending>>,
    server: Arc<OnceLock<Arc<HandshakeResponse>>>,
    opening: Option<Opening>,
}

impl Serve<ClientConn<Waiter>> for Serving {
    fn handle_bytes(&mut self, _now: Instant) {}

    fn handle_event(
        &mut self, _now: Instant, _cx: &mut Context<'_>, event: ClientEvent<'_, Waiter>,
        _commands: &mut Commands<ClientCommand<Waiter>>,
    ) {
        match event {
            ClientEvent::Closed(reason) => self.close(reason),
            ClientEvent::Opened(server) => {
                self.server.get_or_init(|| server);
                self.open(Ok(()));
            }
            ClientEvent::Push { route, body } => self.pushes.deliver(&route, body),
            ClientEvent::Reply { waiter, result } => {
                // Whoever asked may have gone away.
                let _ = waiter.send(result.map(Bytes::copy_from_slice));
            }
        }
    }

    fn handle_failure(&mut self, error: &io::Error) {
        self.end.lock().failure = Some(error.to_string());
    }

    fn poll_commands(
        &mut self, _now: Instant, _cx: &mut Context<'_>,
        _commands: &mut Commands<ClientCommand<Waiter>>,
    ) {
    }

    fn is_done(&self) -> bool {
        true
    }
}

impl Serving {
    fn open(&mut self, outcome: Result<(), CloseReason>) {
        if let Some(opening) = self.opening.take() {
            // Whoever connects may have given up; then the connection is being closed.
            let _ = opening.send(outcome);
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.mailbox.close();
        // The first reason counts.
        self.end.change(|ending| {
            ending.reason.get_or_insert_with(|| reason.clone());
        });
        self.open(Err(reason));
    }

    /// What came too late to be read was never sent.
    fn refuse_unread(&self) {
        let mut unread = Commands::new();
        let cx = Context::from_waker(Waker::noop());
        // Nobody cuts a client off; what matters is who waits in there.
        let _ = self.mailbox.poll(&cx, &mut unread);
        let reason = self.end.lock().reason.clone().unwrap_or(CloseReason::Closed);
        for command in unread {
            match command {
                ClientCommand::Request(request) => {
                    // Whoever asked may have gone away.
                    let _ = request.waiter.send(Err(RequestError::Unsent(reason.no_reply())));
                }
                ClientCommand::Notify { .. } => {
                    self.config.counters.add(Counter::NotifiesDropped);
                }
                ClientCommand::Close(_) => {}
            }
        }
    }
}

impl Drop for Serving {
    /// Whoever waits must not wait for ever, also when a runtime drops its tasks.
    fn drop(&mut self) {
        self.close(CloseReason::Closed);
        self.refuse_unread();
        self.end.change(|ending| ending.finished = true);
    }
}

/// How the connection ended, once it has.
#[derive(Default)]
struct Ending {
    reason: Option<CloseReason>,
    failure: Option<String>,
    /// The task has ended.
    finished: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifies_that_nobody_read_before_the_end_are_counted_as_dropped() {
        let config = Arc::<ClientConfig>::default();
        let (line, serving) = Line::new(&config, Pushes::new(&config), oneshot::channel().0);
        line.notify("t.tell", Bytes::new()).unwrap();
        line.notify("t.tell", Bytes::new()).unwrap();
        drop(serving);
        assert_eq!(config.counters.count(Counter::NotifiesDropped), 2);
    }
}
