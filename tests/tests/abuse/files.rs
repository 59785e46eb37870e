//! A process that has no descriptor left: in a child of this one, as the limit is that of a whole
//! process.

use std::fmt::Arguments;
use std::future::{pending, poll_fn};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_channel::oneshot;
use futures_lite::AsyncReadExt as _;
use futures_lite::future::or;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike as _;
use pitaya_core::{App, Counter, Counters, Error, Limits, Payload};
use pitaya_driver::{Native, Runtime as _, Server, Timer as _};
use pitaya_smol::Smol;
use pitaya_tests::raw::{ack, handshake, request};
use pitaya_tokio::Tokio;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::siege::row;

#[test]
fn a_process_without_descriptors_neither_spins_nor_floods_its_log_on_tokio() {
    run_out_of_descriptors::<Tokio>(
        "files::a_process_without_descriptors_neither_spins_nor_floods_its_log_on_tokio",
    );
}

#[test]
fn a_process_without_descriptors_neither_spins_nor_floods_its_log_on_smol() {
    run_out_of_descriptors::<Smol>(
        "files::a_process_without_descriptors_neither_spins_nor_floods_its_log_on_smol",
    );
}

/// With 256 descriptors and 1,000 connections that say nothing. 20 honest clients, as each has a
/// thread's worth of this test for itself.
fn run_out_of_descriptors<R: Native>(test: &str) {
    if let Ok(pause) = std::env::var(PAUSE) {
        return serve::<R>(Duration::from_millis(pause.parse().unwrap()));
    }
    raise_own_limit();
    Smol::block_on(async {
        let runtime = Smol::current().unwrap();
        let mut server = Process::start(test, "50");
        let mut honest: Vec<_> = (0..HONEST).map(|_| connect(server.address)).collect();
        let attackers = Attackers::start(server.address);
        let before = server.count_until(20).await;
        let after = server.count_until(60).await;
        // What 40 pauses take at least.
        let pauses = Duration::from_millis(50) * 40;
        let cpu = after.cpu - before.cpu;
        assert!(cpu <= pauses / 10, "{cpu:?} of {pauses:?}");
        assert!(after.logs <= 20, "{} lines", after.logs);
        honest.iter_mut().for_each(|stream| assert_eq!(double(stream, 2), b"\x04\x024"));
        attackers.stop();
        let released = runtime.now();
        for _ in 0..HONEST {
            assert_eq!(
                double(&mut connect(server.address), 2),
                b"\x04\x024",
                "there is room again"
            );
        }
        let resumed = runtime.now().since(released);
        assert!(resumed < RESUMED_MAX, "{resumed:?}");
        row(format_args!("1000 to 256 descriptors: {HONEST} honest, 0 harmed, {after:?}"));

        let server = &mut Process::start(test, "0");
        let _attackers = Attackers::start(server.address);
        let spun = server.count_until(10_000).await;
        row(format_args!("  without accept_pause: {spun:?}"));
        assert!(spun.failures >= 10_000, "as many would take eight minutes");
    })
    .unwrap();
}

/// A server in a child.
struct Process {
    address: SocketAddr,
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a server counted.
#[derive(Debug)]
struct Count {
    failures: u64,
    logs: u64,
    cpu: Duration,
}

impl Process {
    fn start(test: &str, pause_ms: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(PAUSE, pause_ms)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asks = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let address = answer(&mut answers, "AT ").parse().unwrap();
        Self { address, child, asks, answers }
    }

    /// Asks now and then, until so many connections could not be accepted.
    async fn count_until(&mut self, failures: u64) -> Count {
        let runtime = Smol::current().unwrap();
        let deadline = runtime.now() + PATIENCE;
        loop {
            let count = self.count();
            if count.failures >= failures {
                return count;
            }
            let now = runtime.now();
            assert!(now < deadline, "it takes too long: {count:?}");
            let (mut timer, until) = (runtime.timer(), now + Duration::from_millis(50));
            poll_fn(|cx| timer.poll_at(cx, until)).await;
        }
    }

    fn count(&mut self) -> Count {
        writeln!(self.asks).unwrap();
        let line = answer(&mut self.answers, "COUNT ");
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [failures, logs, cpu] = numbers[..] else { panic!("{line}") };
        Count { failures, logs, cpu: Duration::from_micros(cpu) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connections that say nothing and come again when they are closed, until this is dropped.
struct Attackers(Vec<oneshot::Sender<()>>);

impl Attackers {
    fn start(address: SocketAddr) -> Self {
        let runtime = Smol::current().unwrap();
        let start = |_| {
            let (stop, stopped) = oneshot::channel();
            let dialler = runtime.clone();
            let stopped = async { stopped.await.unwrap_or_default() };
            runtime.spawn(or(stopped, async move {
                // Many wait for long: nobody accepts them.
                while let Ok(mut stream) = dialler.connect(address).await {
                    while matches!(stream.read(&mut [0; 9]).await, Ok(1..)) {}
                }
            }));
            stop
        };
        Self((0..ATTACKERS).map(start).collect())
    }

    fn stop(self) {
        drop(self.0);
    }
}

/// The child: serves, and says what was counted for each line that comes, until none does.
fn serve<R: Native>(accept_pause: Duration) {
    setrlimit(Resource::RLIMIT_NOFILE, 256, 256).unwrap();
    let logs = Arc::new(AtomicU64::new(0));
    tracing::subscriber::set_global_default(Lines(Arc::clone(&logs))).unwrap();
    let limits = Limits::default().accept_pause(accept_pause);
    let app = App::new(()).route("math.double", twice);
    R::block_on(async {
        let runtime = R::current().unwrap();
        // Not with `start`, which would accept no more than it has descriptors for.
        let server = Server::new("gate", app).tcp("127.0.0.1:0").limits(limits);
        let server = server.start_on(runtime).await.unwrap();
        say(format_args!("AT {}", server.addresses()[0]));
        let counters = Arc::clone(server.counters());
        std::thread::spawn(move || report(&counters, &logs));
        pending::<()>().await;
    })
    .unwrap();
}

fn report(counters: &Counters, logs: &AtomicU64) {
    for _ in io::stdin().lines() {
        let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        let cpu = (usage.user_time() + usage.system_time()).num_microseconds();
        let (failures, logs) =
            (counters.count(Counter::AcceptsFailed), logs.load(Ordering::Relaxed));
        say(format_args!("COUNT {failures} {logs} {cpu}"));
    }
    std::process::exit(0);
}

async fn twice(Payload(number): Payload<u64>) -> Result<u64, Error> {
    Ok(number * 2)
}

/// Counts what a log would have by default.
struct Lines(Arc<AtomicU64>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An honest client that has a session and one answer.
fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[handshake("honest"), ack()].concat()).unwrap();
    assert_eq!(next(&mut stream)[0], b'{');
    assert_eq!(double(&mut stream, 1), b"\x04\x012");
    stream
}

/// Asks for the double of the id.
fn double(stream: &mut TcpStream, id: u64) -> Vec<u8> {
    stream.write_all(&request(id, "math.double", &id.to_string())).unwrap();
    next(stream)
}

/// The body of the next packet.
fn next(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let [_, high, middle, low] = header;
    let mut body = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
    stream.read_exact(&mut body).unwrap();
    body
}

/// Past the harness, which has its own lines on the way.
fn say(line: Arguments<'_>) {
    let mut out = io::stdout().lock();
    writeln!(out, "\n{line}").and_then(|()| out.flush()).unwrap();
}

fn answer(answers: &mut impl BufRead, begin: &str) -> String {
    let mut lines = answers.lines().map(Result::unwrap);
    lines.find_map(|line| line.strip_prefix(begin).map(str::to_owned)).unwrap()
}

/// As many sockets as this machine lets this process have.
fn raise_own_limit() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

/// Set in a child: milliseconds that it accepts nobody after it could not.
const PAUSE: &str = "PITAYA_TEST_ACCEPT_PAUSE";
const ATTACKERS: usize = 1000;
const HONEST: usize = 20;
/// Accepting goes on after `accept_pause`; what remains is for a machine that is busy.
const RESUMED_MAX: Duration = Duration::from_secs(10);
/// Nothing here takes that long, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(60);
