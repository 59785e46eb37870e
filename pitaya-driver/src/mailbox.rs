//! Commands for a task from whoever has a word with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pitaya_core::planted::mutant;
use thin_vec::ThinVec;

use crate::drive::Commands;

/// A bounded queue of commands with one reader: the task that owns the machine.
///
/// Whoever sends never waits. While the reader is at work, nothing is woken: it looks again before
/// it rests.
#[derive(Debug)]
pub struct Mailbox<C> {
    inner: Mutex<Inner<C>>,
    /// Whether there is something to see, so that a reader without news need not lock.
    any: AtomicBool,
    bytes_max: usize,
    commands_max: usize,
}

#[derive(Debug)]
struct Inner<C> {
    bytes: usize,
    closed: bool,
    commands: ThinVec<C>,
    cut: bool,
    reader: Option<Waker>,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Sent {
    /// Nobody reads any more.
    Closed,
    /// There is no room.
    Full,
    /// It will be read.
    Taken,
}

impl<C> Mailbox<C> {
    /// An empty mailbox; `bytes_max` bounds what the senders say their commands hold.
    pub fn new(commands_max: usize, bytes_max: usize) -> Self {
        let inner =
            Inner { bytes: 0, closed: false, commands: ThinVec::new(), cut: false, reader: None };
        Self { inner: Mutex::new(inner), any: AtomicBool::new(false), bytes_max, commands_max }
    }

    /// Sends a command that holds `bytes`. One that is larger than the bound is taken when nothing
    /// else waits.
    pub fn send(&self, command: C, bytes: usize) -> Sent {
        self.send_made(bytes, || command)
    }

    /// Sends a command that is made only if it is taken.
    pub(crate) fn send_made(&self, bytes: usize, make: impl FnOnce() -> C) -> Sent {
        let mut inner = self.lock();
        if inner.closed {
            return Sent::Closed;
        }
        if self.is_full(&inner, bytes) {
            return Sent::Full;
        }
        inner.bytes += bytes;
        self.push(&mut inner, make());
        Sent::Taken
    }

    /// Sends the last command there will be, even into a full mailbox.
    pub fn send_last(&self, command: C) -> Sent {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.closed, true) {
            return Sent::Closed;
        }
        self.push(&mut inner, command);
        Sent::Taken
    }

    /// Sends a command that must not be lost, even into a full mailbox: for such there is room for
    /// as many again. Where there is none either, what it is about has to end.
    pub(crate) fn send_owed(&self, command: C) -> Sent {
        let mut inner = self.lock();
        if inner.closed {
            return Sent::Closed;
        }
        let full = inner.commands.len() >= self.commands_max.saturating_mul(2);
        if full && !inner.commands.is_empty() {
            return Sent::Full;
        }
        self.push(&mut inner, command);
        Sent::Taken
    }

    /// Sends a command that must not be lost, even into a full mailbox; for what is sent once, or
    /// not more often than something else that is bounded.
    pub(crate) fn send_urgent(&self, command: C) {
        let mut inner = self.lock();
        if !inner.closed {
            self.push(&mut inner, command);
        }
    }

    /// Whether commands are taken.
    pub(crate) fn is_open(&self) -> bool {
        !self.lock().closed
    }

    /// Takes no more commands.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// Ends the reader where it stands.
    pub(crate) fn cut(&self) {
        let mut inner = self.lock();
        (inner.cut, inner.closed) = (true, true);
        self.any.store(true, Ordering::Release);
        inner.wake();
    }

    /// Whether a reader should look: something may have come.
    pub(crate) fn has_news(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Moves all commands to `commands`. If there are none, the task of `cx` is woken by the next
    /// one. `Ready` if the reader must end.
    pub(crate) fn poll(&self, cx: &Context<'_>, commands: &mut Commands<C>) -> Poll<()> {
        let mut inner = self.lock();
        // Where it is cut off, what is there may still be taken.
        self.any.store(inner.cut, Ordering::Relaxed);
        if inner.cut {
            return Poll::Ready(());
        }
        if inner.take(commands) {
            return Poll::Pending;
        }
        if !inner.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            inner.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Moves the commands that are there to `commands`, and waits for no others.
    pub(crate) fn take(&self, commands: &mut Commands<C>) {
        if self.has_news() {
            let mut inner = self.lock();
            // A reader that is cut off must still see it.
            self.any.store(inner.cut, Ordering::Relaxed);
            inner.take(commands);
        }
    }

    /// Lets the memory go in which nothing waits.
    pub(crate) fn rest(&self) {
        self.lock().commands.shrink_to_fit();
    }

    fn is_full(&self, inner: &Inner<C>, bytes: usize) -> bool {
        let full =
            inner.commands.len() >= self.commands_max || inner.bytes + bytes > self.bytes_max;
        full && !inner.commands.is_empty()
    }

    fn push(&self, inner: &mut Inner<C>, command: C) {
        inner.commands.push(command);
        if let ([.., one, other], true) = (&mut *inner.commands, mutant("a command overtakes")) {
            std::mem::swap(one, other);
        }
        self.any.store(true, Ordering::Release);
        inner.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Inner<C> {
    /// Whether there were any.
    fn take(&mut self, commands: &mut Commands<C>) -> bool {
        let any = !self.commands.is_empty();
        if any {
            self.bytes = 0;
            commands.extend(self.commands.drain(..));
        }
        any
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_reader_is_woken_once_however_much_is_sent_before_it_looks() {
        let (mailbox, wakes) = (Mailbox::new(100, 100), Arc::<Wakes>::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let (cx, mut commands) = (Context::from_waker(&waker), Commands::new());
        for looks in 1..=3 {
            assert!(mailbox.poll(&cx, &mut commands).is_pending());
            for command in 0..50 {
                assert_eq!(mailbox.send(command, 1), Sent::Taken);
            }
            assert_eq!(wakes.0.load(Ordering::Relaxed), looks);
            mailbox.take(&mut commands);
            assert_eq!(commands.len(), looks * 50);
        }
    }

    #[test]
    fn for_what_must_not_be_lost_there_is_room_for_as_many_again_and_no_more() {
        let (mailbox, mut commands) = (Mailbox::new(3, 100), Commands::new());
        let sent = |send: &dyn Fn(u8) -> Sent| {
            (0..9).take_while(|command| send(*command) == Sent::Taken).count()
        };
        assert_eq!(sent(&|command| mailbox.send(command, 1)), 3);
        assert_eq!(sent(&|command| mailbox.send_owed(command)), 3);
        assert_eq!(mailbox.send(0, 0), Sent::Full);
        mailbox.take(&mut commands);
        assert_eq!(sent(&|command| mailbox.send_owed(command)), 6);
    }

    #[test]
    fn what_waits_for_a_reader_that_was_cut_off_can_be_taken() {
        let (mailbox, mut commands) = (Mailbox::new(3, 100), Commands::new());
        assert_eq!(mailbox.send(1, 0), Sent::Taken);
        mailbox.cut();
        assert!(mailbox.poll(&Context::from_waker(Waker::noop()), &mut commands).is_ready());
        mailbox.take(&mut commands);
        assert_eq!(&commands[..], [1]);
    }
}
