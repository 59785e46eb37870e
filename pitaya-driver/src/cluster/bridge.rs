//! Links that end in this very process: behind each is somebody who speaks for a server that an
//! [`Rpc`] reaches, so that nothing else has to know of two ways to reach one.

mod far_end;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{AbortHandle, abortable};
use futures_channel::oneshot;
use pitaya_core::cluster::{Life, LinkConfig, Proven, ServerId, ServerInfo};
use pitaya_core::session::HostFuture;
use pitaya_core::{Counter, Limits};
use pitaya_proto::error;
use prost::Message as _;

use crate::cluster::peers::lock;
use crate::cluster::rpc::{Answer, Rpc, Told};
use crate::cluster::{Incoming, LinkStream, Network};
use crate::drive::Commands;
use crate::mailbox::{Mailbox, Sent};
use far_end::FarEnd;

/// The network of a server that reaches others through an [`Rpc`].
pub(super) struct Bridge {
    rpc: Arc<dyn Rpc>,
    arrivals: Arc<Arrivals>,
    /// To end [`Rpc::run`], and to hear that it has ended.
    end: Mutex<Option<(AbortHandle, oneshot::Receiver<()>)>>,
}

/// Links to servers that have just joined.
struct Arrivals {
    mailbox: Mailbox<LinkStream>,
    taken: Mutex<Commands<LinkStream>>,
}

/// Where an [`Rpc`] says who is there and what they say; cheap to clone.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    config: Arc<LinkConfig>,
    rpc: Arc<dyn Rpc>,
    arrivals: Arc<Arrivals>,
    others: Mutex<BTreeMap<ServerId, Other>>,
}

/// Another server that is there.
struct Other {
    life: Life,
    inbox: Arc<Inbox>,
}

/// What a server says, for the far end of its link.
type Inbox = Mailbox<Word>;

/// One thing that comes from a server.
enum Word {
    /// The bytes of a response to the call of that id.
    Answered(u32, Bytes),
    Call {
        remaining: Duration,
        request: Bytes,
        answer: Answer,
    },
    /// Nothing more: it is gone.
    Gone,
    Told(Told),
}

impl Bridge {
    pub(super) fn new(rpc: Arc<dyn Rpc>, limits: &Limits) -> Self {
        let mailbox = Mailbox::new(limits.members_max, usize::MAX);
        let arrivals = Arc::new(Arrivals { mailbox, taken: Mutex::default() });
        Self { rpc, arrivals, end: Mutex::new(None) }
    }

    /// Takes what others say until the network is closed.
    pub(super) fn run(&self, config: &Arc<LinkConfig>) -> HostFuture<()> {
        let desk = Desk(Arc::new(Inner {
            config: Arc::clone(config),
            rpc: Arc::clone(&self.rpc),
            arrivals: Arc::clone(&self.arrivals),
            others: Mutex::default(),
        }));
        let all = Everybody(desk.clone());
        let (work, end) = abortable(Arc::clone(&self.rpc).run(desk));
        let (ended, hears) = oneshot::channel();
        *lock(&self.end) = Some((end, hears));
        Box::pin(async move {
            // However it ends, it reaches nobody from then on, and then it says so.
            let (_ended, _all) = (ended, all);
            if work.await.is_ok() {
                tracing::error!("what carries calls has ended: no server is reached any more");
            }
        })
    }
}

impl Network for Bridge {
    fn address(&self) -> io::Result<SocketAddr> {
        Ok(NOWHERE)
    }

    fn dial(&self, _: SocketAddr) -> HostFuture<io::Result<LinkStream>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn accept(&self) -> HostFuture<io::Result<Incoming>> {
        let arrivals = Arc::clone(&self.arrivals);
        Box::pin(async move {
            let stream = poll_fn(|cx| arrivals.poll_next(cx)).await?;
            let incoming: Incoming = Box::pin(async { Ok(stream) });
            Ok(incoming)
        })
    }

    fn close(&self) -> HostFuture<()> {
        self.arrivals.close();
        let end = lock(&self.end).take();
        Box::pin(async {
            if let Some((abort, ended)) = end {
                abort.abort();
                // It says so by being dropped.
                let _ = ended.await;
            }
        })
    }
}

/// Ends all that are there when it is dropped.
struct Everybody(Desk);

impl Drop for Everybody {
    fn drop(&mut self) {
        let others = std::mem::take(&mut *lock(&self.0.0.others));
        others.values().for_each(Other::end);
    }
}

impl Arrivals {
    /// Nobody takes what is there, nor what comes.
    fn close(&self) {
        self.mailbox.cut();
        let mut unseen = std::mem::take(&mut *lock(&self.taken));
        self.mailbox.take(&mut unseen);
    }

    fn poll_next(&self, cx: &Context<'_>) -> Poll<io::Result<LinkStream>> {
        let mut taken = lock(&self.taken);
        if taken.is_empty() && self.mailbox.poll(cx, &mut taken).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        if taken.is_empty() { Poll::Pending } else { Poll::Ready(Ok(taken.remove(0))) }
    }
}

impl Desk {
    /// The server it belongs to.
    pub fn me(&self) -> &Arc<ServerInfo> {
        &self.0.config.me
    }

    /// A server is there. That may be said again and again: it does nothing unless the link to that
    /// life of it has ended. A later life takes the place of an earlier one, and not the other way
    /// round. Beyond `members_max`, of those that are there or of those that are not linked yet, it
    /// is refused, and counted as [`Counter::LinksRefused`].
    pub fn joined(&self, server: ServerInfo) {
        let life = Life::from(&server);
        let mut others = lock(&self.0.others);
        others.retain(|id, other| *id == life.id || other.inbox.is_open());
        let known = others.get(&life.id);
        let stays =
            |known: &Other| known.life > life || known.life == life && known.inbox.is_open();
        let is_full = known.is_none() && others.len() >= self.limits().members_max;
        if life.id == self.me().id || known.is_some_and(stays) || is_full {
            self.0.config.conn.counters.add_many(Counter::LinksRefused, is_full.into());
            return;
        }
        let limits = self.limits();
        let inbox = Mailbox::new(limits.link_commands_max, limits.link_outbound_bytes_max);
        let other = Other { life: life.clone(), inbox: Arc::new(inbox) };
        let proven = Proven { id: server.id.clone(), kind: Arc::clone(&server.kind) };
        let far_end = FarEnd::new(&server, Arc::clone(&other.inbox), &self.0);
        let stream = LinkStream { io: Box::new(far_end), proven: Some(proven), remote: NOWHERE };
        match self.0.arrivals.mailbox.send(stream, 0) {
            // Nobody takes links any more.
            Sent::Closed => {}
            Sent::Full => self.0.config.conn.counters.add(Counter::LinksRefused),
            Sent::Taken => {
                let earlier = others.insert(life.id.clone(), other);
                earlier.iter().for_each(Other::end);
            }
        }
    }

    /// That life of a server is over, or out of reach: whoever waits for it is told.
    pub fn left(&self, server: &Life) {
        let mut others = lock(&self.0.others);
        if others.get(&server.id).is_some_and(|known| known.life == *server)
            && let Some(gone) = others.remove(&server.id)
        {
            gone.end();
        }
    }

    /// A server calls this one, and waits no longer than `remaining`; `request` is that of a
    /// [`Request`](pitaya_proto::protos::Request).
    pub fn called(&self, from: &Life, remaining: Duration, request: Bytes, answer: Answer) {
        let Some(inbox) = self.inbox(from) else { return };
        let (bytes, mut answer) = (request.len(), Some(answer));
        let call = || {
            let answer = answer.take().expect("a word is made once");
            Word::Call { remaining, request, answer }
        };
        let sent = inbox.send_made(bytes, call);
        // Where nobody listens any more, the caller is told by being dropped.
        if let (Sent::Full, Some(answer)) = (sent, answer) {
            self.0.config.conn.counters.add(Counter::LinkCallsRefused);
            answer.give(Err(error::SERVER_BUSY.into()));
        }
    }

    /// A server tells this one something. What comes from nobody who is there is lost, and of
    /// kicks, notifies and pushes what finds no room: `link_commands_max` words may wait, with
    /// `link_outbound_bytes_max` in them. For all else there is room for as many words again; if
    /// one finds none, the link to that server ends, as if the connection was lost, and its carrier
    /// hears that it is [lost](Rpc::lost). Whatever finds no room is counted as
    /// [`Counter::LinkFramesDropped`].
    pub fn told(&self, from: &Life, told: Told) {
        let bytes = match &told {
            Told::Closed(_) | Told::Drained | Told::Drains => None,
            // One that is longer makes no sense, so that it may as well be lost.
            Told::Seat(seat) => {
                Some(seat.encoded_len()).filter(|_| seat.uid.len() > self.limits().uid_bytes_max)
            }
            Told::Kick(kick) => Some(kick.encoded_len()),
            Told::Notify { request, .. } => Some(request.len()),
            Told::Push(push) => Some(push.encoded_len()),
        };
        let sent = match (self.inbox(from), bytes) {
            (None, _) => Sent::Closed,
            (Some(inbox), Some(bytes)) => inbox.send(Word::Told(told), bytes),
            (Some(inbox), None) => insist(&inbox, Word::Told(told)),
        };
        if sent != Sent::Taken {
            self.0.config.conn.counters.add(Counter::LinkFramesDropped);
        }
    }

    fn inbox(&self, from: &Life) -> Option<Arc<Inbox>> {
        let others = lock(&self.0.others);
        let known = others.get(&from.id).filter(|known| known.life == *from);
        known.map(|known| Arc::clone(&known.inbox))
    }

    fn limits(&self) -> &Limits {
        &self.0.config.conn.limits
    }
}

impl Other {
    fn end(&self) {
        // One whose link has ended already is as good.
        let _ = self.inbox.send_last(Word::Gone);
    }
}

/// Says what must not be lost to the far end of a link, which ends where it stands if there is no
/// room.
fn insist(inbox: &Inbox, word: Word) -> Sent {
    let sent = inbox.send_owed(word);
    if sent == Sent::Full {
        inbox.cut();
    }
    sent
}

/// A server that is reached by its name has no address.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
