//! One end of a link between two servers: who is there, what is called, and when it is silent.

mod config;
mod event;
mod parts;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use pitaya_proto::error::{self, Error};
use pitaya_proto::link::{self, Frame, FrameTooLarge, Hello};
use pitaya_proto::zlib::Scratch;

use config::earliest;
pub use config::{LinkConfig, LinkEnd};
pub use event::{Dial, LinkCommand, LinkEvent};
pub use parts::Lane;
use parts::{Receiving, Sending};

use crate::calls::{Calls, RequestId};
use crate::cluster::peer::refusal;
use crate::cluster::{Proven, Said, ServerInfo};
use crate::planted::mutant;
use crate::{CloseReason, Counter, Instant, Machine, Next, Outbox};

/// One end of the stream between two servers, both of which call the other over it.
///
/// `W` is whoever waits for the reply of a call; every waiter comes back exactly once in a
/// [`LinkEvent::Reply`], the last of them before [`LinkEvent::Closed`]. Frames about one session
/// go out in the order of their commands, and what the peer sends comes in the order in which it
/// was sent; a long frame goes in parts, between which those of other [lanes](Lane) go.
///
/// A peer that is silent for `suspect_after` is *suspect*: whoever waits for it is told at once,
/// and nobody is let wait for it, until it is heard again. Silent for `dead_after`, it is gone.
#[derive(Debug)]
pub struct Link<W> {
    config: Arc<LinkConfig>,
    /// Who the peer has proven to be, if the way to it can prove that.
    proven: Option<Proven>,
    /// Which of this server's dials the link is; zero if the peer dialled.
    dialled: u64,
    peer: Option<Arc<ServerInfo>>,
    sending: Sending,
    /// Bytes of what must not be lost that were sent while too much waited anyway.
    owed: usize,
    receiving: Receiving,
    calls: Calls<W>,
    /// No call in flight is due before that.
    calls_due: Option<Instant>,
    /// Calls of the peer that are not answered.
    serving: Serving,
    /// Waiters who get no reply from the peer, and do not know it yet.
    failed: VecDeque<(W, Error)>,
    /// What happened besides, and is not told yet.
    signs: VecDeque<Sign>,
    began: Instant,
    heard: Instant,
    spoke: Instant,
    /// When the peer took something last of what waits for it.
    written: Instant,
    suspect: bool,
    closed: bool,
    /// The peer takes no new calls.
    peer_drains: bool,
    /// The peer sends no new calls.
    settled: bool,
}

#[expect(clippy::disallowed_types, reason = "nobody goes through it, so its order is not seen")]
type Serving = std::collections::HashSet<u32, FixedState>;

#[derive(Debug)]
enum Sign {
    Closed(LinkEnd),
    Opened(Dial),
    Suspected,
}

impl<W> Link<W> {
    /// One end of a stream that was opened at `now`. Its hello waits in the outbox. The peer is
    /// `proven` to be somebody if the way to it has shown a certificate. `dialled` counts the dials
    /// of this server, from one; it is zero if the peer dialled.
    pub fn new(
        config: Arc<LinkConfig>, now: Instant, proven: Option<Proven>, dialled: u64,
    ) -> Self {
        let hello = config.me.hello(dialled);
        let mut link = Self {
            proven,
            dialled,
            peer: None,
            sending: Sending::default(),
            owed: 0,
            receiving: Receiving::default(),
            calls: Calls::new(config.conn.limits.link_calls_max),
            calls_due: None,
            serving: Serving::default(),
            failed: VecDeque::new(),
            signs: VecDeque::new(),
            began: now,
            heard: now,
            spoke: now,
            written: now,
            suspect: false,
            closed: false,
            peer_drains: false,
            settled: false,
            config,
        };
        if link.send(now, &Frame::Hello(hello), Lane::Anyone).is_err() {
            // A description of so many megabytes is a mistake of this server's own.
            link.end(LinkEnd::Closed);
        }
        link
    }

    /// Who the peer is, once it has said so.
    pub fn peer(&self) -> Option<&Arc<ServerInfo>> {
        self.peer.as_ref()
    }

    /// Whether nothing is to be expected any more: the peer sends no new calls, and on neither side
    /// any is in flight.
    pub fn is_settled(&self) -> bool {
        self.settled && self.serving.is_empty() && self.calls.count() == 0
    }

    /// Calls to the peer that wait for their reply.
    pub fn in_flight(&self) -> usize {
        self.calls.count()
    }

    fn receive<'i>(
        &mut self, now: Instant, frame: Frame<'i>,
    ) -> Result<Option<LinkEvent<'i, W>>, LinkEnd> {
        if let Frame::Hello(hello) = frame {
            return self.open(hello).map(|()| None);
        }
        if self.peer.is_none() {
            return Err(LinkEnd::Unexpected);
        }
        Ok(match frame {
            Frame::Call { id, remaining, request } => {
                let id = Some(id).filter(|id| *id != 0);
                return self.admit(now, id).map(|admitted| {
                    let (deadline, request) = (now + remaining, request.into());
                    admitted.then_some(LinkEvent::Call { id, deadline, request })
                });
            }
            Frame::Closed(session) => Some(LinkEvent::SessionClosed(session)),
            Frame::Drain => {
                self.peer_drains = true;
                self.insist(now, &Frame::Drained, Lane::Last);
                Some(LinkEvent::Drains)
            }
            Frame::Drained => {
                self.settled = true;
                None
            }
            Frame::Heartbeat | Frame::Hello(_) => None,
            Frame::Kick(kick) => Some(LinkEvent::Kick(kick)),
            Frame::Known(known) => Some(LinkEvent::Known(known)),
            Frame::Part { id, last, bytes } => return self.receive_part(now, (id, last), bytes),
            Frame::Push(push) => Some(LinkEvent::Push(push)),
            Frame::Reply { id, response } => {
                let asked = RequestId::from_wire(id.into()).and_then(|id| self.calls.finish(id));
                self.config.conn.counters.add_many(Counter::RepliesLate, asked.is_none().into());
                asked.map(|waiter| LinkEvent::Reply { waiter, result: Ok(response.into()) })
            }
            Frame::Seat(seat) => {
                let uid_bytes_max = self.config.conn.limits.uid_bytes_max;
                let said = Said::of_seat(seat, uid_bytes_max).ok_or(LinkEnd::Unexpected)?;
                Some(LinkEvent::Said(said))
            }
        })
    }

    fn receive_part<'i>(
        &mut self, now: Instant, part: (u32, bool), bytes: &[u8],
    ) -> Result<Option<LinkEvent<'i, W>>, LinkEnd> {
        let limits = &self.config.conn.limits;
        let Some(whole) = self.receiving.take(part, bytes, limits)? else { return Ok(None) };
        let mut rest = &whole[..];
        let frame = link::decode(&mut rest, limits.link_frame_bytes_max)?;
        match frame.filter(|frame| rest.is_empty() && !matches!(frame, Frame::Part { .. })) {
            Some(frame) => Ok(self.receive(now, frame)?.map(LinkEvent::into_owned)),
            None => Err(LinkEnd::Unexpected),
        }
    }

    fn open(&mut self, hello: Hello) -> Result<(), LinkEnd> {
        if self.peer.is_some() {
            return Err(LinkEnd::Unexpected);
        }
        if hello.version != link::VERSION {
            return Err(LinkEnd::Version(hello.version));
        }
        let (said, number) = (hello.id.clone(), hello.dial);
        let peer = ServerInfo::of_hello(hello).ok_or(LinkEnd::Impostor(said))?;
        let is_proven = |proven: &Proven| proven.id == peer.id && proven.kind == peer.kind;
        if !self.proven.as_ref().is_none_or(is_proven) {
            return Err(LinkEnd::Impostor(peer.id.to_string()));
        }
        let me = &self.config.me.id;
        if peer.id == *me {
            return Err(LinkEnd::Myself);
        }
        let by_higher = match (self.dialled, number) {
            (0, 1..) => peer.id > *me,
            (1.., 0) => *me > peer.id,
            (0, 0) | (1.., 1..) => return Err(LinkEnd::Unexpected),
        };
        let dial = Dial { by_higher, number: number.max(self.dialled) };
        self.peer = Some(Arc::new(peer));
        self.signs.push_back(Sign::Opened(dial));
        Ok(())
    }

    /// Whether a call of the peer may run here. One too many is answered at once.
    fn admit(&mut self, now: Instant, id: Option<u32>) -> Result<bool, LinkEnd> {
        let Some(id) = id else { return Ok(true) };
        if self.serving.len() >= self.config.conn.limits.link_calls_max {
            self.config.conn.counters.add(Counter::LinkCallsRefused);
            self.reply(now, id, &refusal(&error::SERVER_BUSY.into()), Lane::Alone);
            return Ok(false);
        }
        if self.serving.insert(id) { Ok(true) } else { Err(LinkEnd::Unexpected) }
    }

    fn call(&mut self, now: Instant, deadline: Instant, lane: Lane, request: &[u8], waiter: W) {
        let leaves = self.peer_drains.then_some(error::SERVER_LOST);
        if let Some(why) = self.refusal().or(leaves) {
            return self.fail(waiter, why);
        }
        let id = match self.calls.start(deadline, waiter) {
            Ok(id) => id,
            Err(waiter) => return self.fail(waiter, error::SERVER_BUSY),
        };
        let remaining = deadline.since(now);
        let sent = self.send(now, &Frame::Call { id: id.get(), remaining, request }, lane);
        self.calls_due = earliest([self.calls_due, Some(deadline)]);
        if let Err(why) = sent
            && let Some(waiter) = self.calls.finish(id)
        {
            self.failed.push_back((waiter, Error::new(error::TOO_LARGE, why.to_string())));
        }
    }

    /// Why nothing new is sent to the peer, if so.
    fn refusal(&self) -> Option<error::Entry> {
        if self.closed || self.suspect || self.peer.is_none() {
            return Some(error::SERVER_LOST);
        }
        self.is_full().then_some(error::SERVER_BUSY)
    }

    fn is_full(&self) -> bool {
        self.sending.remaining() >= self.config.conn.limits.link_outbound_bytes_max
    }

    /// A call that is not sent.
    fn fail(&mut self, waiter: W, why: error::Entry) {
        self.config.conn.counters.add(Counter::LinkCallsRefused);
        self.failed.push_back((waiter, why.into()));
    }

    /// Sends what must not be lost as long as the link lives, also to a suspect. Where too much
    /// waits already there is room for as many bytes of it again.
    fn insist(&mut self, now: Instant, frame: &Frame<'_>, lane: Lane) {
        if self.closed {
            return;
        }
        let (full, before) = (self.is_full(), self.sending.remaining());
        let has_room = !full || self.owed < self.config.conn.limits.link_outbound_bytes_max;
        if !has_room || self.send(now, frame, lane).is_err() {
            return self.lose(LinkEnd::SlowReader);
        }
        self.owed += if full { self.sending.remaining() - before } else { 0 };
    }

    fn reply(&mut self, now: Instant, id: u32, response: &[u8], lane: Lane) {
        if self.send(now, &Frame::Reply { id, response }, lane).is_err() {
            let why = Error::new(error::TOO_LARGE, "the reply is too large for a frame");
            // An error of a few words fits.
            let _ = self.send(now, &Frame::Reply { id, response: &refusal(&why) }, lane);
        }
    }

    /// Sends what nobody waits for, as long as the peer takes it.
    fn tell(&mut self, now: Instant, frame: &Frame<'_>, lane: Lane) {
        if self.refusal().is_some() || self.send(now, frame, lane).is_err() {
            self.config.conn.counters.add(Counter::LinkFramesDropped);
        }
    }

    fn send(&mut self, now: Instant, frame: &Frame<'_>, lane: Lane) -> Result<(), FrameTooLarge> {
        self.spoke = now;
        if self.sending.remaining() == 0 {
            self.written = now;
        }
        self.sending.send(frame, lane, &self.config.conn)
    }

    /// Whoever waits is told that no reply comes.
    fn fail_all(&mut self, why: error::Entry) {
        self.calls_due = None;
        self.failed.extend(self.calls.fail_all().map(|waiter| (waiter, why.into())));
    }

    fn end(&mut self, end: LinkEnd) {
        if !std::mem::replace(&mut self.closed, true) {
            self.fail_all(error::SERVER_LOST);
            self.signs.push_back(Sign::Closed(end));
        }
    }

    /// Ends the link for the peer's fault, or because it is gone: nothing is written any more.
    fn lose(&mut self, end: LinkEnd) {
        self.sending.clear();
        self.end(end);
    }

    /// What no frame brings: signs, and whoever gets no reply. The end comes last.
    fn poll_event<'e>(&mut self) -> Option<LinkEvent<'e, W>> {
        let last = matches!(self.signs.front(), Some(Sign::Closed(_)));
        if (last || self.signs.is_empty())
            && let Some((waiter, error)) = self.failed.pop_front()
        {
            return Some(LinkEvent::Reply { waiter, result: Err(error) });
        }
        Some(match self.signs.pop_front()? {
            Sign::Closed(end) => LinkEvent::Closed(end),
            Sign::Opened(dial) => LinkEvent::Opened(Arc::clone(self.peer.as_ref()?), dial),
            Sign::Suspected => LinkEvent::Suspected,
        })
    }

    /// When the peer is not there, or not any more.
    fn gone_at(&self) -> (Instant, LinkEnd) {
        let limits = &self.config.conn.limits;
        match self.peer {
            None => (self.began + limits.link_hello_timeout, LinkEnd::NoHello),
            Some(_) if self.sending.remaining() > 0 && self.written < self.heard => {
                (self.written + limits.link_dead_after, LinkEnd::SlowReader)
            }
            Some(_) => (self.heard + limits.link_dead_after, LinkEnd::Silent),
        }
    }

    fn suspect_at(&self) -> Option<Instant> {
        let may = !self.suspect && !mutant("nobody is suspect");
        let heard = self.peer.as_ref().filter(|_| may).map(|_| self.heard);
        heard.map(|heard| heard + self.config.conn.limits.link_suspect_after)
    }

    fn expire_calls(&mut self, now: Instant) {
        if self.calls_due.is_some_and(|due| due <= now) {
            while let Some(waiter) = self.calls.expire(now) {
                self.failed.push_back((waiter, error::REQUEST_TIMEOUT.into()));
            }
            self.calls_due = self.calls.poll_timeout();
        }
    }

    /// As [`Machine::next`], but what comes borrows from the input alone.
    pub(crate) fn poll<'i>(
        &mut self, now: Instant, input: &mut &'i [u8],
    ) -> Next<LinkEvent<'i, W>> {
        loop {
            if let Some(event) = self.poll_event() {
                return Next::Event(event);
            }
            if self.closed {
                *input = &[];
                return Next::NeedBytes;
            }
            let mut rest = *input;
            match link::decode(&mut rest, self.config.conn.limits.link_frame_bytes_max) {
                Ok(Some(frame)) => {
                    self.heard = now;
                    if std::mem::take(&mut self.suspect) {
                        // What it says comes after that it says something.
                        return Next::Event(LinkEvent::Restored);
                    }
                    *input = rest;
                    match self.receive(now, frame) {
                        Ok(Some(event)) => return Next::Event(event),
                        Ok(None) => {}
                        Err(end) => self.lose(end),
                    }
                }
                Ok(None) => return Next::NeedBytes,
                Err(error) => self.lose(error.into()),
            }
        }
    }
}

impl<W> Machine for Link<W> {
    type Event<'e> = LinkEvent<'e, W>;
    type Command = LinkCommand<W>;

    fn next<'i: 'e, 'e>(
        &mut self, now: Instant, input: &mut &'i [u8], _scratch: &'e mut Scratch,
    ) -> Next<LinkEvent<'e, W>> {
        self.poll(now, input)
    }

    fn handle_command(&mut self, now: Instant, command: LinkCommand<W>, _scratch: &mut Scratch) {
        match command {
            LinkCommand::Call { deadline, lane, request, waiter } => {
                self.call(now, deadline, lane, &request, waiter);
            }
            LinkCommand::Close(end) => self.end(end),
            LinkCommand::Drain => self.insist(now, &Frame::Drain, Lane::Anyone),
            LinkCommand::Kick(kick) => {
                let lane = Lane::of_kick(&kick);
                self.tell(now, &Frame::Kick(kick), lane);
            }
            LinkCommand::Known(known) => self.tell(now, &Frame::Known(known), Lane::Alone),
            LinkCommand::Notify { deadline, lane, request } => {
                let remaining = deadline.since(now);
                self.tell(now, &Frame::Call { id: 0, remaining, request: &request }, lane);
            }
            LinkCommand::Push(push) => {
                let lane = Lane::of_push(&push);
                self.tell(now, &Frame::Push(push), lane);
            }
            LinkCommand::Reply { id, lane, response } => {
                if self.serving.remove(&id) && !self.closed {
                    self.reply(now, id, &response, lane);
                }
            }
            LinkCommand::Say(said) => {
                self.insist(now, &Frame::Seat(said.into_seat()), Lane::Anyone);
            }
            LinkCommand::SessionClosed(session) => {
                self.insist(now, &Frame::Closed(session), Lane::Session(session));
            }
        }
    }

    fn handle_written(&mut self, now: Instant, bytes: usize) {
        if bytes > 0 {
            self.written = now;
        }
        if !self.is_full() {
            self.owed = 0;
        }
    }

    fn handle_end(&mut self, _now: Instant, how: CloseReason) {
        let end =
            if let CloseReason::Io(kind) = how { LinkEnd::Io(kind) } else { LinkEnd::PeerClosed };
        self.lose(end);
    }

    fn handle_timeout(&mut self, now: Instant, _scratch: &mut Scratch) {
        if self.closed {
            return;
        }
        self.expire_calls(now);
        let (gone_at, end) = self.gone_at();
        if gone_at <= now {
            return self.lose(end);
        }
        if self.suspect_at().is_some_and(|at| at <= now) {
            self.suspect = true;
            self.config.conn.counters.add(Counter::LinksSuspected);
            self.fail_all(error::SERVER_LOST);
            self.signs.push_back(Sign::Suspected);
        }
        if self.spoke + self.config.conn.limits.link_heartbeat <= now {
            // A frame without a body fits.
            let _ = self.send(now, &Frame::Heartbeat, Lane::Alone);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let beat = self.spoke + self.config.conn.limits.link_heartbeat;
        let next =
            earliest([Some(self.gone_at().0), Some(beat), self.suspect_at(), self.calls_due]);
        next.filter(|_| !self.closed)
    }

    fn outbox(&mut self) -> &mut Outbox {
        self.sending.outbox(&self.config.conn.limits)
    }

    fn is_finished(&self) -> bool {
        self.closed
            && self.signs.is_empty()
            && self.failed.is_empty()
            && self.sending.remaining() == 0
    }
}
