//! What every byte stream has in common, whichever side of whichever protocol it is.

use pitaya_proto::zlib::Scratch;

use crate::{CloseReason, Instant, Outbox};

/// One end of one byte stream: bytes and commands go in, events and bytes come out.
///
/// Call it in this order, as often as you like; a machine stays correct in any other order too:
///
/// 1. bytes came in: call [`next`](Self::next) until it gives no more events, keep what it left of
///    the input;
/// 2. carry out what was decided with [`handle_command`](Self::handle_command);
/// 3. write what [`outbox`](Self::outbox) holds and report it with
///    [`handle_written`](Self::handle_written);
/// 4. at [`poll_timeout`](Self::poll_timeout) call [`handle_timeout`](Self::handle_timeout), then
///    go to 1 with no new bytes;
/// 5. once [`is_finished`](Self::is_finished), close the stream.
///
/// Nothing returns an error: what ends a connection is an event that says whose fault it was.
pub trait Machine {
    /// What came in; it may borrow from the input or from the scratch.
    type Event<'e>;
    /// What the owner decided.
    type Command;

    /// Takes at most one packet's worth of news off the front of `input`.
    ///
    /// A command may free capacity, so offer what was left again after commands, not only after a
    /// read.
    fn next<'i: 'e, 'e>(
        &mut self, now: Instant, input: &mut &'i [u8], scratch: &'e mut Scratch,
    ) -> Next<Self::Event<'e>>;

    /// Carries out a decision of the owner.
    fn handle_command(&mut self, now: Instant, command: Self::Command, scratch: &mut Scratch);

    /// Learns that `bytes` of the outbox left, which proves that the peer still reads.
    fn handle_written(&mut self, now: Instant, bytes: usize);

    /// Learns that the stream is over, and how: [`CloseReason::end`] or [`CloseReason::Io`].
    /// Nothing can be read any more, and what is written is read by nobody.
    fn handle_end(&mut self, now: Instant, how: CloseReason);

    /// Acts on every deadline that `now` has reached.
    fn handle_timeout(&mut self, now: Instant, scratch: &mut Scratch);

    /// The next moment at which [`handle_timeout`](Self::handle_timeout) has something to do.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The bytes to write.
    fn outbox(&mut self) -> &mut Outbox;

    /// Lets go of memory that only a busy machine needs.
    fn rest(&mut self) {}

    /// Whether the stream should be closed now: all is said and written, or nobody is left to write
    /// to.
    fn is_finished(&self) -> bool;
}

/// What [`Machine::next`] found.
///
/// "No" for lack of bytes and "no" for lack of permission must not look the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next<E> {
    /// Something to act on; there may be more.
    Event(E),
    /// Nothing until more bytes come, a command or a deadline is carried out, or the stream ends.
    NeedBytes,
    /// Do not read: a bound is reached. Ask again after a command, a write or a timeout.
    Paused,
}
