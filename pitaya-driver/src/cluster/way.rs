//! How another server is reached, and who waits for what it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_channel::oneshot;
use pitaya_core::cluster::{Lane, LinkCommand, LinkEnd, PeerCommand};
use pitaya_core::planted::mutant;
use pitaya_core::{CallKey, Command, Counter, Counters, Error, Instant, Limits, Reply, RouteTable};
use pitaya_proto::error;
use pitaya_proto::protos::Response;
use pitaya_proto::request;
use prost::Message as _;

use crate::mailbox::{Mailbox, Sent};
use crate::server::Address;

/// The task of one link, as all others reach it; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    mailbox: Arc<Mailbox<PeerCommand<Waiter>>>,
    /// Calls that wait for their reply.
    load: Arc<AtomicUsize>,
}

impl Way {
    pub(super) fn new(limits: &Limits) -> Self {
        let commands_max = limits.link_commands_max;
        let mailbox = Mailbox::new(commands_max, limits.link_outbound_bytes_max);
        Self { mailbox: Arc::new(mailbox), load: Arc::default() }
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox<PeerCommand<Waiter>>> {
        &self.mailbox
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Sends what may be refused.
    pub(super) fn send(&self, command: LinkCommand<Waiter>, bytes: usize) -> Result<(), Error> {
        match self.mailbox.send(PeerCommand::Link(command), bytes) {
            Sent::Closed => Err(error::SERVER_LOST.into()),
            Sent::Full => Err(error::SERVER_BUSY.into()),
            Sent::Taken => Ok(()),
        }
    }

    /// Sends what must not be lost while the link lives: if there is no room, it lives no longer.
    pub(crate) fn insist(&self, command: LinkCommand<Waiter>) {
        if self.mailbox.send_owed(PeerCommand::Link(command)) == Sent::Full {
            self.end(LinkEnd::SlowReader);
        }
    }

    /// Calls the peer, and says whether the link has taken that. If it cannot be, the waiter is
    /// told at once; one for whom there is no room is counted.
    pub(super) fn call(
        &self, deadline: Instant, lane: Lane, request: Bytes, waiter: Waiter, counters: &Counters,
    ) -> bool {
        let (bytes, mut waiter) = (request.len(), Some(waiter));
        let call = || {
            let waiter = waiter.take().expect("a command is made once");
            PeerCommand::Link(LinkCommand::Call { deadline, lane, request, waiter })
        };
        let sent = self.mailbox.send_made(bytes, call);
        // Where nobody reads any more, the waiter is told by being dropped.
        if let (Sent::Full, Some(waiter)) = (sent, waiter) {
            counters.add(Counter::LinkCallsRefused);
            waiter.tell(Err(error::SERVER_BUSY.into()));
        }
        sent == Sent::Taken
    }

    /// Whether the link is there.
    pub(super) fn is_open(&self) -> bool {
        self.mailbox.is_open()
    }

    /// Ends the link once no call is in flight either way.
    pub(super) fn leave(&self) {
        // One that ends by itself at this moment is as good.
        let _ = self.mailbox.send(PeerCommand::Leave, 0);
    }

    /// Ends the link where it stands.
    pub(super) fn cut(&self) {
        self.mailbox.cut();
    }

    /// Ends the link.
    pub(super) fn end(&self, end: LinkEnd) {
        // One that ends by itself at this moment is as good.
        let _ = self.mailbox.send_last(PeerCommand::Link(LinkCommand::Close(end)));
    }

    /// Whoever waits for a reply from there.
    pub(super) fn waiter(&self, to: To) -> Waiter {
        self.load.fetch_add(1, Ordering::Relaxed);
        Waiter { to: Some(to), load: Arc::clone(&self.load) }
    }
}

impl PartialEq for Way {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mailbox, &other.mailbox)
    }
}

impl Eq for Way {}

/// Somebody who waits for a reply, and is told if there will be none: whatever becomes of the link,
/// nobody waits in vain.
#[derive(Debug)]
pub(crate) struct Waiter {
    to: Option<To>,
    load: Arc<AtomicUsize>,
}

/// Where a reply goes.
#[derive(Debug)]
pub(super) enum To {
    /// To whoever called, on this server.
    Caller(oneshot::Sender<Result<Bytes, Error>>),
    /// To the client that called.
    Player(Address, CallKey, Arc<RouteTable>),
}

impl Waiter {
    /// The reply is there: the bytes of a response, or why there is none.
    pub(super) fn tell(mut self, result: Result<&[u8], Error>) {
        self.finish(result.and_then(read));
    }

    /// The reply goes where it has to go; only the first one does.
    fn finish(&mut self, result: Result<Bytes, Error>) {
        let forgets = mutant("who waits for a lost link is forgotten")
            && result.as_ref().is_err_and(|error| error.code == error::SERVER_LOST.code);
        match self.to.take().filter(|_| !forgets) {
            None => {}
            // Whoever does not wait any more needs no reply.
            Some(To::Caller(caller)) => drop(caller.send(result)),
            Some(To::Player(address, key, routes)) => {
                let reply = match result {
                    Ok(data) => Reply::ok(data),
                    Err(error) => routes.error_reply(&error),
                };
                // No more than wait for one: `calls_max` of a client, and those that are past their
                // deadline are among the `link_calls_max` and `link_commands_max` of a link.
                address.send_urgent(Command::Reply(key, reply));
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.finish(Err(error::SERVER_LOST.into()));
    }
}

/// What a response says.
fn read(response: &[u8]) -> Result<Bytes, Error> {
    let malformed = || Error::unknown("malformed response of another server");
    if let Some(data) = request::decode_reply(response).map_err(|_| malformed())? {
        return Ok(Bytes::copy_from_slice(data));
    }
    let response = Response::decode(response).map_err(|_| malformed())?;
    let Some(error) = response.error else { return Ok(response.data) };
    let code = if error.code.is_empty() { error::UNKNOWN.to_owned() } else { error.code };
    Err(Error { code: code.into(), msg: error.msg.into(), metadata: error.metadata })
}
