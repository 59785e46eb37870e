//! What the handles of a client and the task of its connection share.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_channel::oneshot;
use pitaya_core::{
    ClientCommand, ClientConfig, ClientConn, ClientEvent, CloseReason, Error, Instant,
};
use pitaya_proto::handshake::HandshakeResponse;

use crate::client::pushes::Pushes;
use crate::drive::Serve;
use crate::mailbox::{Mailbox, Sent};

/// Whoever waits for a reply.
pub(crate) type Waiter = oneshot::Sender<Result<Bytes, Error>>;

/// Whoever waits for the server to accept the handshake.
pub(super) type Opening = oneshot::Sender<Result<Arc<HandshakeResponse>, CloseReason>>;

/// The handles' side. When it is dropped, the connection closes.
pub(super) struct Line {
    mailbox: Arc<Mailbox<ClientCommand<Waiter>>>,
    pushes: Arc<Pushes>,
    end: Arc<End>,
}

impl Line {
    /// Both sides of a connection with these settings.
    pub(super) fn new(config: &ClientConfig, opening: Opening) -> (Self, Serving) {
        let limits = &config.limits;
        let line = Self {
            mailbox: Arc::new(Mailbox::new(limits.outbound_packets_max, limits.outbound_bytes_max)),
            pushes: Pushes::new(config),
            end: Arc::default(),
        };
        let serving = Serving {
            mailbox: Arc::clone(&line.mailbox),
            pushes: Arc::clone(&line.pushes),
            end: Arc::clone(&line.end),
            opening: Some(opening),
        };
        (line, serving)
    }

    pub(super) fn mailbox(&self) -> Arc<Mailbox<ClientCommand<Waiter>>> {
        Arc::clone(&self.mailbox)
    }

    pub(super) fn pushes(&self) -> Arc<Pushes> {
        Arc::clone(&self.pushes)
    }

    pub(super) fn send(&self, command: ClientCommand<Waiter>, bytes: usize) -> Sent {
        self.mailbox.send(command, bytes)
    }

    pub(super) fn close(&self) {
        // Closed already is as good.
        let _ = self.mailbox.send_last(ClientCommand::Close(CloseReason::Closed));
    }

    pub(super) async fn closed(&self) -> CloseReason {
        poll_fn(|cx| self.end.poll(cx)).await
    }

    /// The error of what is asked when nobody answers any more.
    pub(super) fn no_reply(&self) -> Error {
        self.end.lock().reason.clone().unwrap_or(CloseReason::Closed).no_reply()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close();
    }
}

/// The side of the task that drives the connection.
pub(super) struct Serving {
    mailbox: Arc<Mailbox<ClientCommand<Waiter>>>,
    pushes: Arc<Pushes>,
    end: Arc<End>,
    opening: Option<Opening>,
}

impl Serve<ClientConn<Waiter>> for Serving {
    fn handle_bytes(&mut self, _now: Instant) {}

    fn handle_event(
        &mut self, _now: Instant, _cx: &mut Context<'_>, event: ClientEvent<'_, Waiter>,
        _commands: &mut Vec<ClientCommand<Waiter>>,
    ) {
        match event {
            ClientEvent::Closed(reason) => self.finish(reason),
            ClientEvent::Opened(server) => self.open(Ok(server)),
            ClientEvent::Push { route, body } => self.pushes.deliver(&route, body),
            ClientEvent::Reply { waiter, result } => {
                // Whoever asked may have gone away.
                let _ = waiter.send(result.map(Bytes::copy_from_slice));
            }
        }
    }

    fn poll_commands(
        &mut self, _now: Instant, _cx: &mut Context<'_>, _commands: &mut Vec<ClientCommand<Waiter>>,
    ) {
    }

    fn is_done(&self) -> bool {
        true
    }
}

impl Serving {
    fn open(&mut self, outcome: Result<Arc<HandshakeResponse>, CloseReason>) {
        if let Some(opening) = self.opening.take() {
            // Whoever connects may have given up; then the connection is being closed.
            let _ = opening.send(outcome);
        }
    }

    fn finish(&mut self, reason: CloseReason) {
        self.mailbox.close();
        self.end.set(reason.clone());
        self.pushes.end();
        self.open(Err(reason));
    }
}

impl Drop for Serving {
    /// Whoever waits must not wait for ever, also when a runtime drops its tasks or a command came
    /// too late.
    fn drop(&mut self) {
        self.finish(CloseReason::Closed);
        let mut unread = Vec::new();
        // Nobody cuts a client off; what matters is that the waiters in there are dropped.
        let _ = self.mailbox.poll(&Context::from_waker(Waker::noop()), &mut unread);
    }
}

/// Why the connection ended, once it has.
#[derive(Default)]
struct End(Mutex<Ending>);

#[derive(Default)]
struct Ending {
    reason: Option<CloseReason>,
    waiting: Vec<Waker>,
}

impl End {
    /// The first reason counts.
    fn set(&self, reason: CloseReason) {
        let waiting = {
            let mut ending = self.lock();
            ending.reason.get_or_insert(reason);
            std::mem::take(&mut ending.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<CloseReason> {
        let mut ending = self.lock();
        if let Some(reason) = &ending.reason {
            return Poll::Ready(reason.clone());
        }
        if !ending.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            ending.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Ending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
