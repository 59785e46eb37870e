//! A machine at the end of a line: bytes come in cut as you like, time passes, bytes leave.

use std::time::Duration;

use bytes::Buf;
use pitaya_core::{CloseReason, Instant, Machine, Next};
use pitaya_proto::packet::{self, Packet};
use pitaya_proto::zlib::Scratch;

/// A machine with a clock, and the bytes on their way to it.
pub(crate) struct End<M> {
    pub(crate) machine: M,
    pub(crate) now: Instant,
    pub(crate) scratch: Scratch,
    pub(crate) coming: Vec<u8>,
    pub(crate) is_paused: bool,
    cut: Cut,
    held: Vec<u8>,
    finished: bool,
    /// Events it may still tell: what causes them comes first.
    events_left: usize,
    /// Since when something waits to be written and nothing was.
    stalled: Option<Instant>,
}

/// Into how many pieces the network cuts what is delivered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cut {
    Bytes,
    Whole,
}

/// Who judges what a machine does.
pub(crate) trait Judge<M: Machine> {
    /// The machine is about to be asked for news.
    fn on_turn(&mut self, machine: &mut M);

    /// The machine does not want to be read.
    fn on_paused(&mut self, now: Instant);

    /// The machine took these bytes.
    fn on_taken(&mut self, now: Instant, bytes: &[u8]);

    fn on_event(&mut self, now: Instant, event: M::Event<'_>);
}

impl<M: Machine> End<M> {
    pub(crate) fn new(machine: M, now: Instant, cut: Cut) -> Self {
        Self {
            machine,
            now,
            scratch: Scratch::new(),
            coming: Vec::new(),
            is_paused: false,
            cut,
            held: Vec::new(),
            finished: false,
            events_left: STREAM_EVENTS_MAX,
            stalled: None,
        }
    }

    /// The next bytes arrive, at most so many.
    pub(crate) fn deliver(&mut self, bytes: usize, judge: &mut impl Judge<M>) {
        let delivered: Vec<u8> = self.coming.drain(..bytes.min(self.coming.len())).collect();
        let piece = match self.cut {
            Cut::Bytes => 1,
            Cut::Whole => usize::MAX,
        };
        for piece in delivered.chunks(piece) {
            self.held.extend_from_slice(piece);
            self.drain(judge);
        }
        self.drain(judge);
    }

    /// Everything that is new.
    pub(crate) fn drain(&mut self, judge: &mut impl Judge<M>) {
        let mut held = std::mem::take(&mut self.held);
        let mut input = &held[..];
        loop {
            judge.on_turn(&mut self.machine);
            let before = input;
            let next = self.machine.next(self.now, &mut input, &mut self.scratch);
            assert!(before.ends_with(input), "it takes from the front");
            let taken = &before[..before.len() - input.len()];
            judge.on_taken(self.now, taken);
            self.events_left += taken.len();
            self.is_paused = matches!(next, Next::Paused);
            match next {
                Next::Event(event) => {
                    let left = self.events_left.checked_sub(1);
                    self.events_left = left.expect("it tells no more than it was told");
                    judge.on_event(self.now, event);
                }
                Next::NeedBytes => break,
                Next::Paused => {
                    judge.on_paused(self.now);
                    break;
                }
            }
        }
        let taken = held.len() - input.len();
        held.drain(..taken);
        self.held = held;
        self.observe();
    }

    /// The machine is told something.
    pub(crate) fn command(&mut self, command: M::Command, judge: &mut impl Judge<M>) {
        self.machine.handle_command(self.now, command, &mut self.scratch);
        self.events_left += 1;
        self.drain(judge);
    }

    /// Time passes, deadline by deadline.
    pub(crate) fn wait_until(&mut self, until: Instant, judge: &mut impl Judge<M>) {
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "time stands still at {}", self.now);
            let Some(deadline) = self.machine.poll_timeout().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(deadline);
            self.machine.handle_timeout(self.now, &mut self.scratch);
            let again = self.machine.poll_timeout();
            assert!(again.is_none_or(|at| at > self.now), "a deadline does not go away");
            self.drain(judge);
        }
        self.now = until;
        self.observe();
    }

    /// The next bytes leave, at most so many; none of a stream that is to be closed.
    pub(crate) fn write(&mut self, bytes: usize) -> Vec<u8> {
        if self.machine.is_finished() {
            return Vec::new();
        }
        let outbox = self.machine.outbox();
        let mut written = vec![0; bytes.min(outbox.remaining())];
        outbox.copy_to_slice(&mut written);
        if !written.is_empty() {
            self.machine.handle_written(self.now, written.len());
            self.stalled = None;
        }
        self.observe();
        written
    }

    /// No more bytes will come.
    pub(crate) fn eof(&mut self, judge: &mut impl Judge<M>) {
        self.machine.handle_end(self.now, CloseReason::end(self.held.len()));
        self.drain(judge);
    }

    /// The stream fails.
    pub(crate) fn fail(&mut self, judge: &mut impl Judge<M>) {
        self.machine.handle_end(self.now, CloseReason::Io(std::io::ErrorKind::ConnectionReset));
        self.drain(judge);
    }

    /// The stream fails and time passes until the machine has no more deadlines.
    pub(crate) fn end(&mut self, judge: &mut impl Judge<M>) {
        self.fail(judge);
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "it does not come to an end");
            let Some(deadline) = self.machine.poll_timeout() else { break };
            self.wait_until(deadline.max(self.now), judge);
        }
        assert!(self.machine.is_finished());
    }

    /// The machine goes on with another stream.
    pub(crate) fn reconnect(&mut self) {
        (self.finished, self.stalled) = (false, None);
        self.events_left += STREAM_EVENTS_MAX;
        self.coming.clear();
        self.held.clear();
        self.observe();
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    fn observe(&mut self) {
        let is_finished = self.machine.is_finished();
        assert!(is_finished || !self.finished, "a finished machine comes to life");
        self.finished = is_finished;
        if is_finished || !self.machine.outbox().has_remaining() {
            self.stalled = None;
            return;
        }
        let since = *self.stalled.get_or_insert(self.now);
        assert!(self.now < since + WRITE_TIMEOUT, "nobody reads since {since}");
    }
}

/// A peer that reads packets.
#[derive(Default)]
pub(crate) struct Reader {
    torn: Vec<u8>,
}

impl Reader {
    pub(crate) fn read(&mut self, bytes: &[u8], mut on_packet: impl FnMut(Packet<'_>)) {
        self.torn.extend_from_slice(bytes);
        let mut input = &self.torn[..];
        while let Some(packet) = packet::decode(&mut input, usize::MAX).expect("it writes packets")
        {
            on_packet(packet);
        }
        self.torn = input.to_vec();
    }

    /// What is torn off comes again on another stream.
    pub(crate) fn reconnect(&mut self) {
        self.torn.clear();
    }
}

/// The default limit, which no script changes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Events that neither bytes nor commands cause: a stream begins, is lost, and is over. All others
/// are fewer than the bytes taken and the commands given: a call, the shortest of which has more
/// than two bytes, begins once and is dropped once, and a waiter is told once.
const STREAM_EVENTS_MAX: usize = 3;
/// More deadlines than there are in the longest wait with the shortest heartbeat.
const TURNS_MAX: usize = 2000;
