//! What the driver promises a machine, whatever its socket does.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::poll_once;
use pitaya_core::{CloseReason, Counters, Instant, Limits, Machine, Next, Outbox};
use pitaya_driver::{
    Commands, Drive, DriveConfig, Mailbox, Runtime as _, Serve, Timers, Transport,
};
use pitaya_proto::zlib::Scratch;
use pitaya_tests::sim::{self, Sim};

#[test]
fn a_machine_is_asked_how_it_ended_in_the_turn_in_which_a_write_fails() {
    sim::run(1, |sim| async move {
        let told = Told::default();
        let mut machine = Plain::new(&told, None);
        let append = |out: &mut Vec<u8>| {
            out.push(1);
            Ok::<_, ()>(())
        };
        machine.outbox.append(append).expect("it fits");
        let mut drive = drive(&sim, machine);
        assert!(poll_once(&mut drive).await.is_some(), "nothing is left to do");
        assert_eq!(*told.lock().expect("whole"), ["the socket failed: broken pipe"]);
    });
}

#[test]
fn a_deadline_is_not_judged_before_the_timers_were_looked_at() {
    sim::run(1, |sim| async move {
        let told = Told::default();
        let deadline = sim.now() + Duration::from_secs(1);
        let mut drive = drive(&sim, Plain::new(&told, Some(deadline)));
        assert!(poll_once(&mut drive).await.is_none());
        // What the peer sent meanwhile may well be there, but no runtime has looked.
        sim.hold(Duration::from_secs(2));
        assert!(poll_once(&mut drive).await.is_none());
        assert!(told.lock().expect("whole").is_empty());
        sim.start(drive).await;
        assert_eq!(*told.lock().expect("whole"), ["nothing was heard for too long"]);
    });
}

#[test]
fn a_machine_that_wants_bytes_is_not_asked_again_before_anything_is_done_to_it() {
    sim::run(1, |sim| async move {
        let machine = Plain::new(&Told::default(), None);
        let asked = Arc::clone(&machine.asked);
        let mut drive = drive(&sim, machine);
        for _ in 0..3 {
            assert!(poll_once(&mut drive).await.is_none());
            assert_eq!(asked.load(Ordering::Relaxed), 1);
        }
    });
}

#[test]
fn a_machine_whose_turn_was_cut_is_asked_again_though_nothing_more_comes() {
    sim::run(1, |sim| async move {
        let told = Told::default();
        let machine = Plain { events_per_byte: 5, ..Plain::new(&told, None) };
        let asked = Arc::clone(&machine.asked);
        let mut drive = drive_with(&sim, machine, Chatty { bytes: 1, ..Chatty::default() }, 2);
        for _ in 0..10 {
            assert!(poll_once(&mut drive).await.is_none());
        }
        assert_eq!(told.lock().expect("whole").len(), 5);
        assert_eq!(asked.load(Ordering::Relaxed), 1 + 5 + 1, "it wants bytes before and after");
    });
}

#[test]
fn a_machine_that_pauses_when_it_is_given_bytes_is_not_read_for() {
    sim::run(1, |sim| async move {
        let machine = Plain { pauses: true, ..Plain::new(&Told::default(), None) };
        let chatty = Chatty { bytes: 100, ..Chatty::default() };
        let reads = Arc::clone(&chatty.reads);
        let mut drive = drive_with(&sim, machine, chatty, 100);
        for _ in 0..10 {
            assert!(poll_once(&mut drive).await.is_none());
        }
        assert_eq!(reads.load(Ordering::Relaxed), 1, "the first byte is what it paused at");
    });
}

/// Why machines ended, as far as they were asked.
type Told = Arc<Mutex<Vec<String>>>;

fn drive(sim: &Sim, machine: Plain) -> Drive<Sim, Broken, Plain, Listen> {
    drive_with(sim, machine, Broken, Limits::default().turn_events_max)
}

fn drive_with<I: AsyncRead + AsyncWrite + Unpin>(
    sim: &Sim, machine: Plain, io: I, turn_events_max: usize,
) -> Drive<Sim, I, Plain, Listen> {
    let (timers, counters) = (Timers::start(sim), Arc::new(Counters::default()));
    let limits = Limits::default().turn_events_max(turn_events_max);
    let config = DriveConfig::new(sim.clone(), &timers, &limits, &counters);
    let listen = Listen(Arc::clone(&machine.told));
    Drive::new(config, (io, Transport::TCP), (machine, listen), Arc::new(Mailbox::new(1, 1)))
}

/// Has something to write, perhaps a deadline, and an end to tell.
struct Plain {
    outbox: Outbox,
    deadline: Option<Instant>,
    ended: Option<CloseReason>,
    told: Told,
    asked: Arc<AtomicUsize>,
    events_per_byte: usize,
    events: usize,
    /// From the first byte on.
    pauses: bool,
}

impl Plain {
    fn new(told: &Told, deadline: Option<Instant>) -> Self {
        let (outbox, told, asked) = (Outbox::default(), Arc::clone(told), Arc::default());
        let (ended, events_per_byte, events, pauses) = (None, 0, 0, false);
        Self { outbox, deadline, ended, told, asked, events_per_byte, events, pauses }
    }
}

impl Machine for Plain {
    type Event<'e> = CloseReason;
    type Command = ();

    fn next<'i: 'e, 'e>(
        &mut self, _: Instant, input: &mut &'i [u8], _: &'e mut Scratch,
    ) -> Next<CloseReason> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        self.events += input.len() * self.events_per_byte;
        *input = &[];
        if self.events > 0 {
            self.events -= 1;
            return Next::Event(CloseReason::Closed);
        }
        if self.pauses && asked > 0 {
            return Next::Paused;
        }
        match self.ended.clone().filter(|_| self.told.lock().expect("whole").is_empty()) {
            Some(reason) => Next::Event(reason),
            None => Next::NeedBytes,
        }
    }

    fn handle_command(&mut self, _: Instant, (): (), _: &mut Scratch) {}

    fn handle_written(&mut self, _: Instant, _: usize) {}

    fn handle_end(&mut self, _: Instant, how: CloseReason) {
        self.outbox.clear();
        self.ended = Some(how);
    }

    fn handle_timeout(&mut self, now: Instant, _: &mut Scratch) {
        if self.deadline.take_if(|deadline| *deadline <= now).is_some() {
            self.handle_end(now, CloseReason::Silent);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    fn is_finished(&self) -> bool {
        self.ended.is_some()
    }
}

struct Listen(Told);

impl Serve<Plain> for Listen {
    fn handle_bytes(&mut self, _: Instant) {}

    fn handle_event(
        &mut self, _: Instant, _: &mut Context<'_>, event: CloseReason, _: &mut Commands<()>,
    ) {
        self.0.lock().expect("whole").push(event.to_string());
    }

    fn poll_commands(&mut self, _: Instant, _: &mut Context<'_>, _: &mut Commands<()>) {}

    fn is_done(&self) -> bool {
        true
    }
}

/// A socket of which nothing can be read at the moment, as far as its runtime knows, and which
/// takes nothing any more.
struct Broken;

impl AsyncRead for Broken {
    fn poll_read(
        self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A socket that has so many bytes to read, one at a time.
#[derive(Default)]
struct Chatty {
    bytes: usize,
    reads: Arc<AtomicUsize>,
}

impl AsyncRead for Chatty {
    fn poll_read(
        mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(left) = self.bytes.checked_sub(1) else { return Poll::Pending };
        (self.bytes, buffer[0]) = (left, 0);
        self.reads.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(1))
    }
}

impl AsyncWrite for Chatty {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
