//! One connection to a server, and what it says by itself.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use pitaya_driver::{Commands, Drive, DriveConfig, Mailbox, Native, Runtime, Sent, Serve, Timers};
use pitaya_tokio::{
    Bytes, ClientCommand, ClientConfig, ClientConn, ClientEvent, ClientRequest, CloseReason, Error,
    Instant, Tokio,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::json::escaped;
use super::screen::Screen;
use crate::door::{Door, words};

/// A connection whose handshake is done.
pub(crate) struct Connection {
    mailbox: Arc<Mailbox<ClientCommand<Waiter>>>,
    runtime: Tokio,
    deadline: Duration,
    ended: Arc<AtomicBool>,
    timers: Arc<Timers>,
    task: JoinHandle<()>,
    /// How the server writes values.
    pub(crate) serializer: String,
}

/// Why there is no connection.
pub(crate) enum Unopened {
    /// Nobody is there, whichever way they are spoken to: a whole sentence.
    Unreached(String),
    /// What is there does not speak this way, or not in time.
    Unspoken(String),
    /// A server understood, and said no.
    Refused(String),
}

/// Routes by name, for completion: those of the dictionary, and those that were used or pushed.
#[derive(Clone, Default)]
pub(crate) struct Routes(Arc<Mutex<BTreeSet<String>>>);

/// Whoever waits for a reply.
type Waiter = oneshot::Sender<Result<Bytes, Error>>;

impl Connection {
    /// Connects and shakes hands.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub(crate) async fn open(
        door: &Door, config: ClientConfig, screen: &Arc<Screen>, routes: &Routes,
    ) -> Result<Self, Unopened> {
        let runtime = Tokio::current().map_err(|error| Unopened::Unreached(error.to_string()))?;
        let (began, limits) = (runtime.now(), config.limits.clone());
        let addresses = door.resolve(&runtime).await.map_err(Unopened::Unreached)?;
        let way = door.dial(&runtime, &addresses, &config).await;
        let way = way.map_err(Unopened::Unreached)?;
        let timers = Timers::start(&runtime);
        let mailbox =
            Arc::new(Mailbox::new(limits.outbound_packets_max, limits.outbound_bytes_max));
        let ended = Arc::new(AtomicBool::new(false));
        let (opening, opened) = oneshot::channel();
        let serving = Serving {
            screen: Arc::clone(screen),
            routes: routes.clone(),
            mailbox: Arc::clone(&mailbox),
            ended: Arc::clone(&ended),
            opening: Some(opening),
            failure: None,
        };
        let counters = Arc::clone(&config.counters);
        let machine = ClientConn::new(Arc::new(config), began);
        let task = tokio::spawn(Drive::new(
            DriveConfig::new(runtime.clone(), &timers, &limits, &counters),
            way,
            (machine, serving),
            Arc::clone(&mailbox),
        ));
        let deadline = limits.request_deadline;
        let closed = |_| Err(Unopened::Unspoken("closed".to_owned()));
        let opened = opened.await.unwrap_or_else(closed);
        let serializer = opened.inspect_err(|_| {
            timers.stop();
            task.abort();
        })?;
        Ok(Self { mailbox, runtime, deadline, ended, timers, task, serializer })
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    /// Asks, and waits for the reply.
    ///
    /// # Errors
    ///
    /// The server's error, or why there is no reply.
    pub(crate) async fn request(&self, route: &str, body: Bytes) -> Result<Bytes, Error> {
        let (waiter, reply) = oneshot::channel();
        let (bytes, deadline) = (body.len(), self.runtime.now() + self.deadline);
        let request = ClientRequest { route: route.into(), body, deadline, waiter };
        self.send(ClientCommand::Request(request), bytes)?;
        // The connection itself keeps the deadline; this is in case it does not.
        match tokio::time::timeout(self.deadline + CLOSE_TIMEOUT, reply).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) | Err(_) => Err(CloseReason::Closed.no_reply()),
        }
    }

    /// Tells, without a reply.
    ///
    /// # Errors
    ///
    /// The connection cannot take it.
    pub(crate) fn notify(&self, route: &str, body: Bytes) -> Result<(), Error> {
        let bytes = body.len();
        self.send(ClientCommand::Notify { route: route.into(), body }, bytes)
    }

    /// Ends the connection once what was sent has left.
    pub(crate) async fn close(self) {
        // It may be closed already.
        let _ = self.mailbox.send_last(ClientCommand::Close(CloseReason::Closed));
        // A server that does not take its leave is left.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.task).await;
        self.timers.stop();
    }

    fn send(&self, command: ClientCommand<Waiter>, bytes: usize) -> Result<(), Error> {
        match self.mailbox.send(command, bytes) {
            Sent::Taken => Ok(()),
            Sent::Closed => Err(CloseReason::Closed.no_reply()),
            Sent::Full => Err(Error::new("PIT-429", "too much waits to be sent")),
        }
    }
}

impl Routes {
    pub(crate) fn learn(&self, route: &str) {
        let mut routes = self.lock();
        if routes.len() < ROUTES_MAX && !routes.contains(route) {
            routes.insert(route.to_owned());
        }
    }

    /// Those that begin like this.
    pub(crate) fn beginning(&self, start: &str) -> Vec<String> {
        self.lock().iter().filter(|route| route.starts_with(start)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of the task that drives the connection.
struct Serving {
    screen: Arc<Screen>,
    routes: Routes,
    mailbox: Arc<Mailbox<ClientCommand<Waiter>>>,
    ended: Arc<AtomicBool>,
    /// Whoever waits for the handshake: the serializer of the server, or why there is none.
    opening: Option<oneshot::Sender<Result<String, Unopened>>>,
    /// What the stream said when it failed.
    failure: Option<String>,
}

impl Serve<ClientConn<Waiter>> for Serving {
    fn handle_bytes(&mut self, _now: Instant) {}

    fn handle_failure(&mut self, error: &io::Error) {
        self.failure = Some(error.to_string());
    }

    fn handle_event(
        &mut self, _now: Instant, _cx: &mut Context<'_>, event: ClientEvent<'_, Waiter>,
        _commands: &mut Commands<ClientCommand<Waiter>>,
    ) {
        match event {
            ClientEvent::Opened(server) => {
                server.dictionary.iter().for_each(|(route, _)| self.routes.learn(route));
                self.opened(Ok(server.serializer.clone()));
            }
            ClientEvent::Push { route, body } => {
                self.routes.learn(&route);
                self.screen.push(&route, body);
            }
            ClientEvent::Reply { waiter, result } => {
                // Whoever asked may have gone away.
                let _ = waiter.send(result.map(Bytes::copy_from_slice).map_err(Error::from));
            }
            ClientEvent::Closed(reason) => {
                self.mailbox.close();
                self.ended.store(true, Ordering::Relaxed);
                let why = words(&reason, self.failure.as_ref());
                if self.opening.is_none() && reason != CloseReason::Closed {
                    self.screen.note(&format!("closed: {}", escaped(&why)));
                }
                let is_refusal = matches!(reason, CloseReason::HandshakeRefused(_));
                let unopened = if is_refusal { Unopened::Refused } else { Unopened::Unspoken };
                self.opened(Err(unopened(why)));
            }
        }
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
    fn opened(&mut self, outcome: Result<String, Unopened>) {
        if let Some(opening) = self.opening.take() {
            // Whoever connects may have given up.
            let _ = opening.send(outcome);
        }
    }
}

const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A server may push whatever routes it likes.
const ROUTES_MAX: usize = 4096;
