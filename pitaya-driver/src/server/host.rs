//! What sessions and contexts of this server can do.

use std::sync::Arc;

use pitaya_core::cluster::ClusterHost;
use pitaya_core::session::{Binding, Host, HostFuture, SessionHandle};
use pitaya_core::{CloseReason, Command, ConnConfig, Counter, Error, Instant, SessionId};
use pitaya_proto::error;
use pitaya_proto::handshake::HandshakeRequest;

use crate::mailbox::Sent;
use crate::runtime::Runtime;
use crate::server::shared::{Address, Shared};
use crate::server::told::Told;
use crate::timers::Sleep;

/// The side of one session that its handlers see.
pub(super) struct SessionHost<R> {
    pub(super) mailbox: Address,
    pub(super) shared: Arc<Shared<R>>,
    pub(super) told: Told,
}

impl<R: Runtime> Host for SessionHost<R> {
    fn bind(&self, session: SessionHandle, uid: &str) -> HostFuture<Result<Arc<str>, Error>> {
        let shared = Arc::clone(&self.shared);
        // A session that is about to close, by this very handler perhaps, takes nobody's place.
        let open = self.is_open().then_some(()).ok_or_else(|| error::SESSION_CLOSED.into());
        let begun = open
            .and_then(|()| shared.sessions().begin_bind(shared.runtime.now(), session.id(), uid));
        // Made before the future, which may be dropped before it is polled.
        let begun = begun.map(|binding| PendingBind {
            binding: Some(binding),
            claimed: None,
            shared: Arc::clone(&shared),
        });
        Box::pin(async move {
            let bound = match begun {
                Ok(pending) => finish_bind(&shared, &session, pending).await,
                Err(error) => Err(error),
            };
            if bound.is_err() {
                shared.config.counters.add(Counter::UidsRefused);
            }
            bound
        })
    }

    fn send(&self, command: Command) -> bool {
        let sent = match &command {
            Command::Broadcast(push) => {
                let bytes = push.body.len();
                self.push(command, bytes)
            }
            Command::Push(_, body) => {
                let bytes = body.len();
                self.push(command, bytes)
            }
            Command::Close(_) | Command::Kick(..) | Command::Reply(..) | Command::Shutdown => {
                self.mailbox.send_last(command)
            }
        };
        sent == Sent::Taken
    }

    fn is_open(&self) -> bool {
        self.mailbox.is_open()
    }

    fn handshake(&self) -> HandshakeRequest {
        self.told.handshake()
    }

    fn cluster(&self) -> Option<&dyn ClusterHost> {
        Some(&*self.shared)
    }

    fn push_to_front(&self, _: Vec<u8>) -> HostFuture<Result<(), Error>> {
        Box::pin(async { Err(error::SESSION_ON_FRONTEND.into()) })
    }

    fn config(&self) -> &ConnConfig {
        &self.shared.config
    }

    fn now(&self) -> Instant {
        self.shared.runtime.now()
    }

    fn sleep(&self, until: Instant) -> HostFuture<()> {
        Box::pin(Sleep::until(&self.shared.timers, self.shared.runtime.clone(), until))
    }
}

impl<R> SessionHost<R> {
    /// A client that does not keep up with its pushes is closed rather than waited for.
    fn push(&self, push: Command, bytes: usize) -> Sent {
        let sent = self.mailbox.send(push, bytes);
        if sent == Sent::Full {
            self.shared.config.counters.add(Counter::PushesRefused);
            // Closed already is as good.
            let _ = self.mailbox.send_last(Command::Close(CloseReason::OutboxFull));
        }
        sent
    }
}

async fn finish_bind<R: Runtime>(
    shared: &Arc<Shared<R>>, session: &SessionHandle, mut pending: PendingBind<R>,
) -> Result<Arc<str>, Error> {
    let uid = Arc::clone(pending.binding.as_ref().expect("taken only below").uid());
    for hook in &shared.handlers.hooks.bind {
        hook(session.clone(), Arc::clone(&uid)).await?;
    }
    if !session.host().is_open() {
        return Err(error::SESSION_CLOSED.into());
    }
    if let Some(peers) = &shared.peers {
        pending.claimed = Some(session.id());
        peers.bind(shared, session.id(), Arc::clone(&uid)).await?;
    }
    let binding = pending.binding.take().expect("taken only here");
    let replaced = shared.sessions().finish_bind(binding)?;
    // From here on the end of the session is what gives the user id back; one that ended before may
    // have done so when there was nothing to give.
    pending.claimed = None;
    if let Some((_, older)) = replaced {
        let text = Some("replaced by a newer login".to_owned());
        // A session that closes at this moment needs no kick.
        let _ = older.send_last(Command::Kick(text, CloseReason::Replaced));
    }
    Ok(uid)
}

/// A bind whose hooks are at work; a handler that is dropped meanwhile leaves no trace.
struct PendingBind<R: Runtime> {
    binding: Option<Binding>,
    /// The session for which other servers may keep the user id already.
    claimed: Option<SessionId>,
    shared: Arc<Shared<R>>,
}

impl<R: Runtime> Drop for PendingBind<R> {
    fn drop(&mut self) {
        if let Some(binding) = self.binding.take() {
            self.shared.sessions().cancel_bind(binding);
        }
        if let (Some(peers), Some(session)) = (&self.shared.peers, self.claimed) {
            peers.give_up(&self.shared, session);
        }
    }
}
