//! What a push to a thousand sessions costs, against a loop that sends encoded bytes to as many
//! sockets.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use pitaya_proto::limits::INFLATED_BYTES_MAX;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::zlib::Scratch;

use crate::frames::{self, HEADER_BYTES, Msg, first_packet};
use crate::load;
use crate::machine::cpu_time;
use crate::process::Process;
use crate::targets::{Speech, Target};

/// CPU microseconds of the server per push and member, round by round.
#[derive(Clone, Debug, Default)]
pub(crate) struct FanOut {
    /// One push at a time: the loop, and ours.
    pub(crate) single: [Vec<f64>; 2],
    /// Sixteen at once, which may leave in one write.
    pub(crate) burst: [Vec<f64>; 2],
    /// Long ones, without compression and with it.
    pub(crate) long: [Vec<f64>; 2],
    /// All pushes, each compared with the expected one.
    pub(crate) checked: u64,
    /// Pushes that were not the expected ones.
    pub(crate) errors: u64,
}

impl FanOut {
    /// Measures all servers in turns.
    pub(crate) fn measure(rounds: usize, shrink: u32) -> io::Result<Self> {
        let mut all = Self::default();
        let tells = (TELLS / shrink).max(4);
        for _ in 0..rounds {
            let mut raw = Crowd::gather(Target::RawFanOut)?;
            all.single[0].push(raw.push_us(tells, SINGLE)?);
            all.burst[0].push(raw.push_us(tells / 2, BURST)?);
            let mut ours = Crowd::gather(Target::PitayaTokio)?;
            all.single[1].push(ours.push_us(tells, SINGLE)?);
            all.burst[1].push(ours.push_us(tells / 2, BURST)?);
            all.long[1].push(ours.push_us(tells, LONG)?);
            let mut plain = Crowd::gather(Target::PitayaPlain)?;
            all.long[0].push(plain.push_us(tells, LONG)?);
            for crowd in [raw, ours, plain] {
                all.checked += crowd.checked;
                all.errors += crowd.errors;
            }
        }
        Ok(all)
    }
}

/// What is pushed at a time: how many, and whether they are long.
type Pushes = (u32, bool);

/// Members of one group, and one that tells the server what to push.
struct Crowd {
    process: Process,
    members: Vec<Member>,
    control: TcpStream,
    epoll: Epoll,
    scratch: Scratch,
    input: Vec<u8>,
    told: u32,
    checked: u64,
    errors: u64,
}

struct Member {
    stream: TcpStream,
    partial: Vec<u8>,
    received: usize,
}

impl Crowd {
    fn gather(target: Target) -> io::Result<Self> {
        let process = Process::start(target)?;
        let server = *process.endpoint();
        let mut control = load::open(&server)?;
        control.set_read_timeout(Some(STALL_TIME_MAX))?;
        if server.speech == Speech::Raw {
            control.write_all(&(MEMBERS as u32).to_be_bytes())?;
        }
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut members = Vec::new();
        for index in 0..MEMBERS {
            let mut stream = load::open(&server)?;
            if server.speech == Speech::Pitaya {
                ask(&mut stream, frames::JOIN, b"{}", 1)?;
            }
            stream.set_nonblocking(true)?;
            epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            members.push(Member { stream, partial: Vec::new(), received: 0 });
        }
        if server.speech == Speech::Raw {
            control.read_exact(&mut [0])?;
        }
        let (scratch, input) = (Scratch::new(), vec![0; INPUT_BYTES]);
        let (told, checked, errors) = (0, 0, 0);
        Ok(Self { process, members, control, epoll, scratch, input, told, checked, errors })
    }

    fn push_us(&mut self, tells: u32, pushes: Pushes) -> io::Result<f64> {
        for _ in 0..tells / 4 {
            self.tell(pushes)?;
        }
        let pid = self.process.endpoint().pid;
        let before = cpu_time(pid)?;
        for _ in 0..tells {
            self.tell(pushes)?;
        }
        let used = cpu_time(pid)? - before;
        let count = u64::from(tells) * u64::from(pushes.0) * MEMBERS as u64;
        Ok(used.as_secs_f64() * 1e6 / count as f64)
    }

    /// Has the pushes sent, and waits until every member has them.
    fn tell(&mut self, (count, long): Pushes) -> io::Result<()> {
        let first = self.told;
        self.told += count;
        let expected: Vec<Vec<u8>> = (first..self.told).map(|n| push(n, long)).collect();
        let raw = self.process.endpoint().speech == Speech::Raw;
        if raw {
            let bytes = expected.concat();
            self.control.write_all(&(bytes.len() as u32).to_be_bytes())?;
            self.control.write_all(&bytes)?;
        } else {
            let body = serde_json::to_vec(&Tell { first, count, long })?;
            self.control.write_all(&request(frames::TELL, &body, u64::from(first) + 1))?;
        }
        self.members.iter_mut().for_each(|member| member.received = 0);
        let (mut left, deadline) = (self.members.len(), Instant::now() + STALL_TIME_MAX);
        while 0 < left {
            let mut events = [EpollEvent::empty(); EVENTS_MAX];
            let ready = self.epoll.wait(&mut events, EpollTimeout::from(STALL_MS_MAX))?;
            if ready == 0 || deadline < Instant::now() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the server stalls"));
            }
            for event in &events[..ready] {
                left -= usize::from(self.receive(event.data() as usize, &expected)?);
            }
        }
        self.checked += (expected.len() * self.members.len()) as u64;
        if raw { self.control.read_exact(&mut [0]) } else { answer(&mut self.control) }
    }

    /// Whether a member has all now.
    fn receive(&mut self, index: usize, expected: &[Vec<u8>]) -> io::Result<bool> {
        let member = &mut self.members[index];
        let length = member.stream.read(&mut self.input)?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
        }
        member.partial.extend_from_slice(&self.input[..length]);
        let mut rest = &member.partial[..];
        let before = member.received;
        while let Some((kind, bytes)) = first_packet(rest) {
            rest = &rest[bytes.len()..];
            if kind != frames::HEARTBEAT {
                let plain = inflated(bytes, &mut self.scratch);
                let right = expected.get(member.received).map(|push| &**push)
                    == Some(plain.as_deref().unwrap_or(bytes));
                self.errors += u64::from(!right);
                member.received += 1;
            }
        }
        let taken = member.partial.len() - rest.len();
        member.partial.drain(..taken);
        Ok(before < expected.len() && expected.len() <= member.received)
    }
}

/// What the server is asked to push.
#[derive(Clone, Copy, Debug, serde::Deserialize, serde::Serialize)]
pub(crate) struct Tell {
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) long: bool,
}

/// Sends what the first to connect says to all who connect after it, in blocking calls: no server
/// can do less.
pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    let (mut control, _) = listener.accept()?;
    let mut number = [0; 4];
    control.read_exact(&mut number)?;
    let accept = |_| listener.accept().map(|(member, _)| member);
    let mut members =
        (0..u32::from_be_bytes(number)).map(accept).collect::<io::Result<Vec<_>>>()?;
    members.iter().try_for_each(|member| member.set_nodelay(true))?;
    control.write_all(&[1])?;
    let mut bytes = Vec::new();
    loop {
        control.read_exact(&mut number)?;
        bytes.resize(u32::from_be_bytes(number) as usize, 0);
        control.read_exact(&mut bytes)?;
        members.iter_mut().try_for_each(|member| member.write_all(&bytes))?;
        control.write_all(&[1])?;
    }
}

fn push(n: u32, long: bool) -> Vec<u8> {
    let body = serde_json::to_vec(&Msg::told(n, long)).expect("a struct is JSON");
    let push =
        Message::Push { route: Route::Name(frames::TOLD.as_bytes()), body: Body::Plain(&body) };
    let mut packet = Vec::new();
    push.encode_packet(&mut packet).expect("it is far below every limit");
    packet
}

fn request(route: &str, body: &[u8], id: u64) -> Vec<u8> {
    let (route, body) = (Route::Name(route.as_bytes()), Body::Plain(body));
    let mut packet = Vec::new();
    Message::Request { id, route, body }.encode_packet(&mut packet).expect("it is short");
    packet
}

fn ask(stream: &mut TcpStream, route: &str, body: &[u8], id: u64) -> io::Result<()> {
    stream.write_all(&request(route, body, id))?;
    answer(stream)
}

/// Reads one answer, which must be no error.
fn answer(stream: &mut TcpStream) -> io::Result<()> {
    loop {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header)?;
        let [kind, a, b, c] = header;
        let mut body = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut body)?;
        if kind == frames::HEARTBEAT {
            continue;
        }
        let message = Message::decode(&body);
        return match message {
            Ok(Message::Response { error: false, .. }) => Ok(()),
            Ok(_) | Err(_) => Err(io::Error::other(format!("no answer: {message:?}"))),
        };
    }
}

/// A packet with a compressed push, as the packet that it would be without.
fn inflated(packet: &[u8], scratch: &mut Scratch) -> Option<Vec<u8>> {
    let message = Message::decode(packet.get(HEADER_BYTES..)?).ok()?;
    let Message::Push { route, body: body @ Body::Zlib(_) } = message else { return None };
    let body = Body::Plain(body.inflate(scratch, INFLATED_BYTES_MAX).ok()?);
    let mut plain = Vec::new();
    Message::Push { route, body }.encode_packet(&mut plain).ok()?;
    Some(plain)
}

const SINGLE: Pushes = (1, false);
const BURST: Pushes = (16, false);
const LONG: Pushes = (1, true);
const MEMBERS: usize = 1_000;
const TELLS: u32 = 100;
const EVENTS_MAX: usize = 256;
const INPUT_BYTES: usize = 64 * 1024;
const STALL_MS_MAX: u16 = 5_000;
const STALL_TIME_MAX: Duration = Duration::from_secs(30);
