//! The load: one thread, many connections, a closed loop that checks every reply.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use pitaya_proto::limits::INFLATED_BYTES_MAX;
use pitaya_proto::message::{Body, Message};
use pitaya_proto::zlib::Scratch;

use crate::frames::{self, Frame, Route, first_packet, packet};
use crate::machine::cpu_times;
use crate::process::Endpoint;
use crate::targets::Speech;
use crate::web;

/// How to load a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) route: Route,
    pub(crate) connections: usize,
    /// Requests that each connection keeps in flight.
    pub(crate) depth: u32,
    /// Replies before the measuring begins, each time.
    pub(crate) warmup: u64,
    /// Replies that are measured, each time.
    pub(crate) replies: u64,
}

/// What the load saw, and what it cost the server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// CPU time of all that answers per request, in microseconds.
    pub(crate) request_us: f64,
    /// All replies, those of the warm-up too.
    pub(crate) checked: u64,
    /// Replies that were not the expected bytes.
    pub(crate) errors: u64,
}

/// Loads `server` as planned; all of `pids` answer.
///
/// # Errors
///
/// If a connection fails or the server stalls; a wrong reply is counted instead.
pub(crate) fn run(server: &Endpoint, pids: &[u32], plan: &Plan) -> io::Result<Outcome> {
    let mut load = Load::connect(server, *plan)?;
    let request_us = load.measure(pids)?;
    Ok(Outcome { request_us, ..load.outcome() })
}

/// Connects, and shakes hands where the server speaks Pitaya.
pub(crate) fn open(server: &Endpoint) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server.address)?;
    stream.set_nodelay(true)?;
    match server.speech {
        // Nothing is said, so the server may not have come to it: a full backlog costs seconds.
        Speech::Raw => std::thread::sleep(ACCEPT_TIME),
        Speech::Pitaya => shake_hands(&mut stream, Speech::Pitaya)?,
        Speech::Web => {
            stream.set_read_timeout(Some(HANDSHAKE_TIME_MAX))?;
            web::upgrade(&mut stream)?;
            shake_hands(&mut stream, Speech::Web)?;
        }
    }
    Ok(stream)
}

/// Clients of one server.
pub(crate) struct Load {
    plan: Plan,
    speech: Speech,
    epoll: Epoll,
    clients: Vec<Client>,
    request: Frame,
    reply: Frame,
    input: Vec<u8>,
    output: Vec<u8>,
    scratch: Scratch,
    sending: bool,
    sent: u64,
    received: u64,
    errors: u64,
    deadline: Instant,
}

struct Client {
    stream: TcpStream,
    awaited: Awaited,
    /// The beginning of a reply whose end has not come yet.
    partial: Vec<u8>,
}

/// The requests of one connection that have no reply yet: each gets one. Pitaya for Go answers in
/// any order.
#[derive(Default)]
struct Awaited {
    sent: u32,
    /// All before this one are answered.
    first: u32,
    /// Those that were answered before an older one.
    early: Vec<u32>,
}

impl Awaited {
    /// The number of the next request.
    fn send(&mut self) -> u32 {
        self.sent += 1;
        self.sent - 1
    }

    /// Whether `bytes` are the right answer to a request that has none yet.
    fn take(&mut self, reply: &mut Frame, bytes: &[u8]) -> bool {
        let Some(number) = reply.number(bytes) else { return false };
        if number < self.first || self.sent <= number || self.early.contains(&number) {
            return false;
        }
        if self.first < number {
            self.early.push(number);
        } else {
            self.first += 1;
            while let Some(at) = self.early.iter().position(|early| *early == self.first) {
                self.early.swap_remove(at);
                self.first += 1;
            }
        }
        bytes == reply.stamped(number)
    }
}

impl Load {
    /// Connects all that are planned.
    pub(crate) fn connect(server: &Endpoint, plan: Plan) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut clients = Vec::new();
        for index in 0..plan.connections {
            let stream = open(server)?;
            stream.set_nonblocking(true)?;
            epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            let (awaited, partial) = (Awaited::default(), Vec::new());
            clients.push(Client { stream, awaited, partial });
        }
        let request = Frame::request(plan.route);
        let reply = server.speech.reply(plan.route);
        Ok(Self {
            plan,
            speech: server.speech,
            epoll,
            clients,
            request,
            reply,
            input: vec![0; INPUT_BYTES],
            output: Vec::new(),
            scratch: Scratch::new(),
            sending: false,
            sent: 0,
            received: 0,
            errors: 0,
            deadline: Instant::now(),
        })
    }

    /// Loads the server as planned, of which all of `pids` are parts, and lets it come to rest. Its
    /// CPU time for a request, in microseconds.
    pub(crate) fn measure(&mut self, pids: &[u32]) -> io::Result<f64> {
        let Plan { connections, depth, warmup, replies, .. } = self.plan;
        self.deadline = Instant::now() + RUN_TIME_MAX;
        self.sending = true;
        (0..connections).try_for_each(|index| self.send(index, depth))?;
        self.until(self.received + warmup)?;
        let (cpu, received) = (cpu_times(pids)?, self.received);
        self.until(received + replies)?;
        let used = cpu_times(pids)? - cpu;
        let request_us = used.as_secs_f64() * 1e6 / (self.received - received) as f64;
        self.drain()?;
        Ok(request_us)
    }

    /// What it has seen so far.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome { checked: self.received, errors: self.errors, ..Outcome::default() }
    }

    fn until(&mut self, received: u64) -> io::Result<()> {
        while self.received < received {
            self.turn()?;
        }
        Ok(())
    }

    /// Takes the replies still on their way, so that each one is checked.
    fn drain(&mut self) -> io::Result<()> {
        self.sending = false;
        self.until(self.sent)
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let ready = self.epoll.wait(&mut events, EpollTimeout::from(STALL_MS_MAX))?;
        if ready == 0 || self.deadline < Instant::now() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the server stalls"));
        }
        for event in &events[..ready] {
            let index = event.data() as usize;
            let replies = self.receive(index)?;
            if self.sending && 0 < replies {
                self.send(index, replies)?;
            }
        }
        Ok(())
    }

    /// Checks the replies that came in and says how many there were.
    fn receive(&mut self, index: usize) -> io::Result<u32> {
        let client = &mut self.clients[index];
        let length = client.stream.read(&mut self.input)?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
        }
        client.partial.extend_from_slice(&self.input[..length]);
        let mut replies = 0;
        let mut rest = &client.partial[..];
        while let Some((kind, bytes, length)) = heard(self.speech, rest) {
            rest = &rest[length..];
            if kind == frames::HEARTBEAT {
                continue;
            }
            let plain = inflated(bytes, &mut self.scratch);
            let bytes = plain.as_deref().unwrap_or(bytes);
            self.errors += u64::from(!client.awaited.take(&mut self.reply, bytes));
            replies += 1;
        }
        let taken = client.partial.len() - rest.len();
        client.partial.drain(..taken);
        self.received += u64::from(replies);
        Ok(replies)
    }

    fn send(&mut self, index: usize, count: u32) -> io::Result<()> {
        let client = &mut self.clients[index];
        self.output.clear();
        for _ in 0..count {
            say(self.speech, self.request.stamped(client.awaited.send()), &mut self.output);
        }
        self.sent += u64::from(count);
        // What is in flight is far below any socket buffer: a short write is a broken server.
        if client.stream.write(&self.output)? < self.output.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the server does not read"));
        }
        Ok(())
    }
}

/// Appends a packet as the server wants to have it.
fn say(speech: Speech, packet: &[u8], output: &mut Vec<u8>) {
    match speech {
        Speech::Pitaya | Speech::Raw => output.extend_from_slice(packet),
        Speech::Web => web::wrap(packet, output),
    }
}

/// The packet at the start of `input`: its kind, its bytes, and how long it is with all around it.
fn heard(speech: Speech, input: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (message, length) = match speech {
        Speech::Pitaya | Speech::Raw => (input, None),
        Speech::Web => web::first_message(input).map(|(message, all)| (message, Some(all)))?,
    };
    let (kind, packet) = first_packet(message)?;
    Some((kind, packet, length.unwrap_or(packet.len())))
}

fn shake_hands(stream: &mut TcpStream, speech: Speech) -> io::Result<()> {
    stream.set_read_timeout(Some(HANDSHAKE_TIME_MAX))?;
    let mut output = Vec::new();
    say(speech, &packet(frames::HANDSHAKE, frames::HELLO.as_bytes()), &mut output);
    stream.write_all(&output)?;
    let mut input = Vec::new();
    let (kind, bytes, _) = loop {
        if let Some(response) = heard(speech, &input) {
            break response;
        }
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no handshake response"));
        }
        input.extend_from_slice(&chunk[..length]);
    };
    let body = &bytes[frames::HEADER_BYTES..];
    let mut scratch = Scratch::new();
    // Plain JSON is no zlib stream.
    let body = scratch.inflate(body, INFLATED_BYTES_MAX).unwrap_or(body);
    let body: serde_json::Value = serde_json::from_slice(body)?;
    if kind != frames::HANDSHAKE || body["code"] != 200 {
        return Err(io::Error::other(format!("handshake refused: {body}")));
    }
    output.clear();
    say(speech, &packet(frames::HANDSHAKE_ACK, b""), &mut output);
    stream.write_all(&output)
}

/// A packet with a compressed reply, as the packet that it would be without.
fn inflated(packet: &[u8], scratch: &mut Scratch) -> Option<Vec<u8>> {
    let message = Message::decode(packet.get(frames::HEADER_BYTES..)?).ok()?;
    let Message::Response { id, error, body: body @ Body::Zlib(_) } = message else { return None };
    let body = Body::Plain(body.inflate(scratch, INFLATED_BYTES_MAX).ok()?);
    let mut plain = Vec::new();
    Message::Response { id, error, body }.encode_packet(&mut plain).ok()?;
    Some(plain)
}

const ACCEPT_TIME: Duration = Duration::from_micros(20);
const EVENTS_MAX: usize = 256;
const INPUT_BYTES: usize = 64 * 1024;
const STALL_MS_MAX: u16 = 5_000;
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
const RUN_TIME_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::{process, thread};

    use super::*;
    use crate::limit::{RawEcho, Work, serve};
    use crate::same_work::{Partial, SameWork};

    const PLAN: Plan =
        Plan { route: Route::Json, connections: 3, depth: 4, warmup: 100, replies: 1_000 };

    #[test]
    fn every_reply_of_a_right_server_is_checked_and_right() {
        for outcome in [
            run(&started(Speech::Raw, RawEcho), &[process::id()], &PLAN).unwrap(),
            run(&started(Speech::Pitaya, SameWork::new()), &[process::id()], &PLAN).unwrap(),
        ] {
            assert!(1_100 <= outcome.checked);
            assert_eq!(outcome.errors, 0);
            assert!(0.0 < outcome.request_us);
        }
    }

    #[test]
    fn a_reply_that_is_wrong_in_one_byte_is_counted() {
        let server = started(Speech::Pitaya, Flips(SameWork::new()));
        let outcome = run(&server, &[], &PLAN).unwrap();
        assert_eq!(outcome.errors, 3);
    }

    #[test]
    fn each_request_has_one_answer_in_whatever_order_they_come() {
        let (mut awaited, mut reply) = (Awaited::default(), Frame::reply());
        (0..3).for_each(|n| assert_eq!(awaited.send(), n));
        let answers = [2, 2, 0, 0, 3, 1, 1].map(|n| {
            let bytes = reply.stamped(n).to_vec();
            awaited.take(&mut reply, &bytes)
        });
        assert_eq!(answers, [true, false, true, false, false, true, false]);
        assert_eq!((awaited.first, awaited.early.len()), (3, 0));
    }

    #[test]
    fn a_compressed_reply_is_compared_by_what_it_says() {
        let reply = Message::Response { id: 1, error: false, body: Body::Plain(&[b'x'; 300]) };
        let (mut plain, mut packet) = (Vec::new(), Vec::new());
        reply.encode_packet(&mut plain).unwrap();
        let mut scratch = Scratch::new();
        let body = Body::deflate(&[b'x'; 300], &mut scratch);
        Message::Response { id: 1, error: false, body }.encode_packet(&mut packet).unwrap();
        assert!(packet.len() < plain.len());
        assert_eq!(inflated(&packet, &mut Scratch::new()), Some(plain.clone()));
        assert_eq!(inflated(&plain, &mut scratch), None);
    }

    #[test]
    fn a_server_that_hangs_up_ends_the_run() {
        let server = started(Speech::Pitaya, HangsUp(SameWork::new()));
        assert!(run(&server, &[], &PLAN).is_err());
    }

    /// Changes the last byte of the first answer to a request.
    struct Flips(SameWork);

    impl Work for Flips {
        type Session = (bool, Partial, Vec<u8>);

        fn answer<'a>(
            &mut self, (flipped, partial, answer): &mut Self::Session, input: &'a [u8],
            output: &'a mut Vec<u8>,
        ) -> io::Result<&'a [u8]> {
            answer.clear();
            output.extend_from_slice(self.0.answer(partial, input, answer)?);
            if !*flipped && output.first() == Some(&frames::DATA) {
                *flipped = true;
                *output.last_mut().unwrap() ^= 1;
            }
            Ok(output)
        }
    }

    /// Shakes hands and closes on the first request.
    struct HangsUp(SameWork);

    impl Work for HangsUp {
        type Session = Partial;

        fn answer<'a>(
            &mut self, partial: &mut Partial, input: &'a [u8], output: &'a mut Vec<u8>,
        ) -> io::Result<&'a [u8]> {
            match self.0.answer(partial, input, output)? {
                answer if answer.first() == Some(&frames::DATA) => Err(io::Error::other("enough")),
                answer => Ok(answer),
            }
        }
    }

    fn started<W: Work + Send + 'static>(speech: Speech, work: W) -> Endpoint
    where
        W::Session: Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(&listener, work));
        Endpoint { address, pid: process::id(), speech }
    }
}
