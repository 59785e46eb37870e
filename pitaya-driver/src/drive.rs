//! The one future that drives every stream: bytes to the machine, events to whoever serves, bytes
//! back.

mod socket;

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use futures_io::{AsyncRead, AsyncWrite};
use pitaya_core::{
    CloseReason, Counter, Counters, Instant, Limits, Machine, Next, Outbox, earlier,
};
use pitaya_proto::zlib::Scratch;
use smallvec::SmallVec;
use thin_vec::ThinVec;

use crate::drive::socket::{End, Peer, Socket, Written};
use crate::mailbox::Mailbox;
use crate::runtime::Runtime;
use crate::timers::{Alarm, Timers};
use crate::transport::{Room, Transport};

/// What a stream is for: a server's side runs handlers, a client's side completes requests.
pub trait Serve<M: Machine> {
    /// Bytes came from the peer.
    fn handle_bytes(&mut self, now: Instant);

    /// The layers are open, so that the peer can speak to `machine`, which has heard nothing yet.
    fn handle_open(&mut self, _now: Instant, _machine: &mut M) {}

    /// Takes an event, and says at once what it decides.
    fn handle_event(
        &mut self, now: Instant, cx: &mut Context<'_>, event: M::Event<'_>,
        commands: &mut Commands<M::Command>,
    );

    /// The stream failed, with more to say than the machine is told.
    fn handle_failure(&mut self, _error: &io::Error) {}

    /// Goes on with what takes longer, and says what it decides.
    fn poll_commands(
        &mut self, now: Instant, cx: &mut Context<'_>, commands: &mut Commands<M::Command>,
    );

    /// So many bytes wait to be written, after all was written that the peer takes. Told after each
    /// turn.
    fn handle_waiting(&mut self, _bytes: usize) {}

    /// Whether nothing is left to be done once the stream is closed.
    fn is_done(&self) -> bool;
}

/// What was decided in a turn, most often one thing, so that it costs no memory of its own.
pub type Commands<C> = SmallVec<[C; 2]>;

/// A stream at work; see [`Drive::new`].
#[derive(Debug)]
pub struct Drive<R, I, M: Machine, S> {
    config: Arc<DriveConfig<R>>,
    socket: Socket<I>,
    /// The beginning of a packet, or what came while nothing could be taken.
    held: ThinVec<u8>,
    engine: Engine<M, S>,
    mailbox: Arc<Mailbox<M::Command>>,
    alarm: Alarm,
}

/// What the streams of one server or client have in common.
#[derive(Clone, Debug)]
pub struct DriveConfig<R> {
    runtime: R,
    timers: Arc<Timers>,
    counters: Arc<Counters>,
    linger_timeout: Duration,
    turn_events_max: usize,
}

impl<R> DriveConfig<R> {
    /// On `runtime`, whose deadlines `timers` keep.
    pub fn new(
        runtime: R, timers: &Arc<Timers>, limits: &Limits, counters: &Arc<Counters>,
    ) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            timers: Arc::clone(timers),
            counters: Arc::clone(counters),
            linger_timeout: limits.linger_timeout,
            turn_events_max: limits.turn_events_max,
        })
    }

    /// The same for the links of a server.
    pub(crate) fn of_links(&self, limits: &Limits) -> Arc<Self>
    where
        R: Clone,
    {
        Arc::new(Self { turn_events_max: limits.link_turn_events_max, ..self.clone() })
    }
}

impl<R, I, M, S> Drive<R, I, M, S>
where
    R: Runtime,
    I: AsyncRead + AsyncWrite + Unpin,
    M: Machine,
    S: Serve<M>,
{
    /// The future of one stream. It ends when the stream is closed and `serve` is done.
    pub fn new(
        config: Arc<DriveConfig<R>>, (io, transport): (I, Transport), (machine, serve): (M, S),
        mailbox: Arc<Mailbox<M::Command>>,
    ) -> Self {
        let alarm = Alarm::new(Arc::clone(&config.timers));
        Self {
            config,
            socket: Socket::new(io, transport),
            held: ThinVec::new(),
            engine: Engine { machine, serve, settled: false },
            mailbox,
            alarm,
        }
    }

    /// One turn: all that can be done now, but no more than is fair.
    fn turn(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Poll<()> {
        let now = self.config.runtime.now();
        buffers.outbox.lend(self.engine.machine.outbox());
        let (events_left, bytes_left) = (self.config.turn_events_max, TURN_BYTES_MAX);
        let scratch = &mut buffers.scratch;
        let commands = Commands::new();
        let mut turn = Turn { now, cx, scratch, commands, events_left, bytes_left };
        self.engine.serve.poll_commands(now, turn.cx, &mut turn.commands);
        let mut judged = false;
        loop {
            if self.mailbox.has_news() && self.poll_mailbox(&mut turn).is_ready() {
                return Poll::Ready(());
            }
            let commanded = !turn.commands.is_empty();
            // Whoever goes on to command must not keep a thread for itself.
            turn.events_left = turn.events_left.saturating_sub(commanded.into());
            self.engine.apply(&mut turn);
            let wants_bytes = self.offer_held(&mut turn);
            let read = wants_bytes && self.read(&mut turn, &mut buffers.read, &mut buffers.room);
            let goes_on = match self.socket.write(&mut turn, &mut self.engine.machine) {
                Written::Failed => {
                    self.engine.settled = false;
                    true
                }
                Written::Nothing => read,
                // It makes room for what could not be taken before.
                Written::Some => read || !wants_bytes,
            };
            if goes_on && !turn.is_over() {
                continue;
            }
            let judges = !std::mem::replace(&mut judged, true);
            let acted = judges && self.handle_timeout(turn.scratch);
            if turn.is_over() {
                self.config.counters.add(Counter::TurnsCut);
                turn.cx.waker().wake_by_ref();
                break;
            }
            if acted {
                continue;
            }
            // Whoever has a word from now on wakes the task.
            if self.poll_mailbox(&mut turn).is_ready() {
                return Poll::Ready(());
            }
            if turn.commands.is_empty() {
                break;
            }
        }
        let is_cut = turn.is_over();
        // An idle connection owns no room for what it writes or runs.
        self.engine.machine.rest();
        buffers.outbox.take_back(self.engine.machine.outbox());
        self.engine.serve.handle_waiting(self.engine.machine.outbox().remaining());
        let rested = self.rest(now, cx);
        // The machine may still have to tell why it ended.
        if is_cut { Poll::Pending } else { rested }
    }

    fn poll_mailbox(&mut self, turn: &mut Turn<'_, '_, M::Command>) -> Poll<()> {
        self.mailbox.poll(turn.cx, &mut turn.commands)
    }

    /// Acts on the deadlines that had come when the timers were looked at last, and that is after
    /// the sockets: a peer is not to blame when the executor was held up and what it sent lies
    /// there unread. Whether there were any.
    fn handle_timeout(&mut self, scratch: &mut Scratch) -> bool {
        let now = self.config.timers.turned_at();
        if !self.alarm.may_be_over(now) {
            return false;
        }
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let socket = &mut self.socket;
        let layers = is_over(socket.layers_timeout());
        if layers {
            socket.transport.handle_timeout();
            socket.peer = Peer::Gone;
            self.engine.disturb().handle_end(now, CloseReason::Io(io::ErrorKind::TimedOut));
        }
        let acts = is_over(self.engine.machine.poll_timeout());
        if acts {
            self.engine.disturb().handle_timeout(now, scratch);
            // An idle connection beats now and then, and keeps no room for commands.
            self.mailbox.rest();
        }
        layers || acts
    }

    /// Gives the machine what is held; whether it wants more.
    fn offer_held(&mut self, turn: &mut Turn<'_, '_, M::Command>) -> bool {
        if self.engine.settled && self.held.is_empty() {
            return self.socket.wants_bytes();
        }
        let mut input = &self.held[..];
        let taken = self.engine.pump(turn, &mut input);
        let consumed = self.held.len() - input.len();
        if input.is_empty() {
            // An idle connection owns no buffer.
            self.held = ThinVec::new();
        } else {
            self.held.drain(..consumed);
        }
        match taken {
            Taken::All => {
                self.socket.transport.handle_resume(turn.now);
                self.socket.wants_bytes()
            }
            Taken::Cut => false,
            Taken::Paused => {
                self.socket.transport.handle_pause();
                false
            }
        }
    }

    /// Reads once, and gives the machine what came. Whether anything did.
    fn read(
        &mut self, turn: &mut Turn<'_, '_, M::Command>, buffer: &mut [u8], room: &mut Room,
    ) -> bool {
        let was_open = self.socket.transport.is_open();
        let (mut input, end) = match self.socket.read(turn, buffer, room) {
            Poll::Pending => return false,
            Poll::Ready(read) => read,
        };
        // A machine that has ended meanwhile has not begun.
        if !was_open && self.socket.transport.is_open() && !self.engine.machine.is_finished() {
            self.engine.settled = false;
            self.engine.serve.handle_open(turn.now, &mut self.engine.machine);
        }
        if end.is_none() {
            self.engine.serve.handle_bytes(turn.now);
        }
        if self.held.is_empty() {
            self.engine.pump(turn, &mut input);
        }
        self.held.extend_from_slice(input);
        match end {
            None => {}
            Some(End::Eof) => {
                self.engine.disturb().handle_end(turn.now, CloseReason::end(self.held.len()))
            }
            Some(End::Failure(error)) => {
                self.engine.serve.handle_failure(&error);
                self.engine.disturb().handle_end(turn.now, CloseReason::Io(error.kind()));
            }
        }
        true
    }

    /// Closes what is finished and waits for what is not.
    fn rest(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.engine.machine.is_finished() {
            self.held = ThinVec::new();
            let closed = self.socket.poll_close(now, cx, self.config.linger_timeout);
            let done = self.engine.serve.is_done() && self.engine.machine.poll_timeout().is_none();
            if closed && done {
                return Poll::Ready(());
            }
        }
        match earlier(self.engine.machine.poll_timeout(), self.socket.poll_timeout()) {
            Some(deadline) => self.alarm.set(cx, now, deadline),
            None => self.alarm.clear(),
        }
        Poll::Pending
    }
}

impl<R, I, M, S> Future for Drive<R, I, M, S>
where
    R: Runtime,
    I: AsyncRead + AsyncWrite + Unpin,
    M: Machine<Command: Unpin> + Unpin,
    S: Serve<M> + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Taken out rather than borrowed: a handler may well drive another stream of its own in
        // here.
        let mut buffers = BUFFERS.take().unwrap_or_default();
        let polled = self.get_mut().turn(cx, &mut buffers);
        BUFFERS.set(Some(buffers));
        polled
    }
}

/// What a turn has at hand.
struct Turn<'t, 'c, C> {
    now: Instant,
    cx: &'t mut Context<'c>,
    scratch: &'t mut Scratch,
    commands: Commands<C>,
    /// Events that may still be handled in this turn.
    events_left: usize,
    /// Bytes that may still be read in this turn: not all of them make events.
    bytes_left: usize,
}

impl<C> Turn<'_, '_, C> {
    fn is_over(&self) -> bool {
        self.events_left == 0 || self.bytes_left == 0
    }
}

/// The machine and who serves it.
#[derive(Debug)]
struct Engine<M, S> {
    machine: M,
    serve: S,
    /// The machine wanted bytes when it was asked last, and nothing has been done to it since:
    /// it would say the same again.
    settled: bool,
}

impl<M: Machine, S: Serve<M>> Engine<M, S> {
    /// Gives the machine `input` as far as it takes it.
    fn pump(&mut self, turn: &mut Turn<'_, '_, M::Command>, input: &mut &[u8]) -> Taken {
        self.settled = false;
        while turn.events_left > 0 {
            match self.machine.next(turn.now, input, turn.scratch) {
                Next::Event(event) => {
                    self.serve.handle_event(turn.now, turn.cx, event, &mut turn.commands);
                }
                Next::NeedBytes => {
                    self.settled = true;
                    return Taken::All;
                }
                Next::Paused => return Taken::Paused,
            }
            turn.events_left -= 1;
            self.apply(turn);
        }
        Taken::Cut
    }

    fn apply(&mut self, turn: &mut Turn<'_, '_, M::Command>) {
        for command in turn.commands.drain(..) {
            self.settled = false;
            self.machine.handle_command(turn.now, command, turn.scratch);
        }
    }

    /// The machine, for what may give it something to say.
    fn disturb(&mut self) -> &mut M {
        self.settled = false;
        &mut self.machine
    }
}

/// How far a machine took what it was offered.
enum Taken {
    /// It wants more.
    All,
    /// Others have their turn first.
    Cut,
    /// It wants no more for now.
    Paused,
}

/// What a thread lends to whichever stream it drives.
struct Buffers {
    outbox: Outbox,
    read: Vec<u8>,
    room: Room,
    scratch: Scratch,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            outbox: Outbox::default(),
            read: vec![0; TURN_BYTES_MAX],
            room: Room::default(),
            scratch: Scratch::new(),
        }
    }
}

thread_local! {
    static BUFFERS: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

/// Bytes read for one connection before others get a turn, in however many packets.
const TURN_BYTES_MAX: usize = 64 << 10;
