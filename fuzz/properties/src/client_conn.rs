//! A client's connection: every waiter is told once, and nothing is written but what it may say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use pitaya_core::{
    ClientCommand, ClientConfig, ClientConn, ClientEvent, ClientRequest, CloseReason, Instant,
    Limits, Machine, RequestError,
};
use pitaya_proto::message::Message;
use pitaya_proto::packet::{HEADER_BYTES, Packet, PacketKind};

use crate::line::{Cut, End, Judge, Reader};
use crate::script::{Script, Wait, limits, some};
use crate::speech::{self, ServerSays, number, numbered, plain};
use crate::transcript::Transcript;

/// The input is a byte that chooses limits, and a script.
pub fn client_conn(data: &[u8]) {
    let whole = run(data, Cut::Whole);
    assert_eq!(run(data, Cut::Bytes), whole, "the cuts of the network show");
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Answer { at: u8, bytes: u8, error: bool, zlib: bool },
    Close,
    Deliver(u8),
    Eof,
    Fail,
    Notify(u8),
    Request { bytes: u8, millis: u16, long: bool },
    Say(ServerSays<'a>),
    Wait(Wait),
    Write(u8),
}

fn run(data: &[u8], cut: Cut) -> Transcript {
    let mut script = Script::new(data);
    let limits = limits(script.choice()).received_bytes_max(BODY_BYTES_MAX);
    let mut told = Told::new(limits.clone());
    let compression = script.choice() % 2 == 1;
    let config = ClientConfig { compression, limits, ..ClientConfig::default() };
    let conn = ClientConn::new(Arc::new(config), Instant::ZERO);
    let mut end = End::new(conn, Instant::ZERO, cut);
    for serial in 1.. {
        let Some(step) = script.step::<Step<'_>>() else { break };
        act(step, serial, &mut end, &mut told);
        let bounded = end.held_bytes() < HEADER_BYTES + BODY_BYTES_MAX;
        assert!(bounded, "it holds too much");
        assert!(!told.closed || end.held_bytes() == 0, "it holds what nobody takes");
        assert!(told.waiting.len() <= told.limits.in_flight_max, "more wait than may");
    }
    end.end(&mut told);
    assert!(told.closed && told.waiting.is_empty(), "{:?} wait for ever", told.waiting);
    told.transcript
}

fn act(step: Step<'_>, serial: u32, end: &mut End<ClientConn<u32>>, told: &mut Told) {
    match step {
        Step::Answer { at, bytes, error, zlib } if !told.unanswered.is_empty() => {
            let id =
                *told.unanswered.keys().nth(usize::from(at) % told.unanswered.len()).expect("in");
            let number = told.unanswered.remove(&id).expect("it is a key");
            let body = if error { ERROR.to_vec() } else { numbered(number, bytes) };
            speech::append_message(&body, zlib, &mut end.coming, |body| Message::Response {
                id,
                error,
                body,
            });
        }
        Step::Answer { .. } => {}
        Step::Close => end.command(ClientCommand::Close(CloseReason::Closed), told),
        Step::Deliver(bytes) => end.deliver(some(bytes), told),
        Step::Eof => end.eof(told),
        Step::Fail => end.fail(told),
        Step::Notify(bytes) => {
            let (route, body) = ("t.tell".into(), numbered(serial, bytes).into());
            end.command(ClientCommand::Notify { route, body }, told);
        }
        Step::Request { bytes, millis, long } => {
            let deadline = end.now + Duration::from_millis(millis.into());
            let route = if long { "r".repeat(256).into() } else { "t.ask".into() };
            let body = numbered(serial, bytes).into();
            told.asks(serial, deadline);
            let request = ClientRequest { route, body, deadline, waiter: serial };
            end.command(ClientCommand::Request(request), told);
        }
        Step::Say(words) => {
            told.trusts &= !matches!(words, ServerSays::Raw(_) | ServerSays::Message(_));
            words.write(serial, &mut end.coming);
        }
        Step::Wait(wait) => {
            let until = wait.until(end.now, end.machine.poll_timeout());
            end.wait_until(until, told);
        }
        Step::Write(bytes) => told.read(&end.write(some(bytes))),
    }
}

/// Judges whatever a client says and writes.
pub(crate) struct Told {
    limits: Limits,
    /// Whether what the server says is what it should say.
    trusts: bool,
    opened: bool,
    closed: bool,
    /// Deadlines by the number of the request.
    waiting: BTreeMap<u32, Instant>,
    /// Requests that arrived at the server: ids and numbers.
    unanswered: BTreeMap<u64, u32>,
    ids: BTreeSet<u64>,
    /// Requests that the server read, and those that it was said never to read.
    arrived: BTreeSet<u32>,
    unsent: BTreeSet<u32>,
    pushes: u32,
    last_push: u32,
    packets: usize,
    heard_at: Instant,
    /// How long the server may be silent.
    patience: Duration,
    reader: Reader,
    pub(crate) transcript: Transcript,
}

impl Told {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            trusts: true,
            opened: false,
            closed: false,
            waiting: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            ids: BTreeSet::new(),
            arrived: BTreeSet::new(),
            unsent: BTreeSet::new(),
            pushes: 0,
            last_push: 0,
            packets: 0,
            heard_at: Instant::ZERO,
            patience: Duration::ZERO,
            reader: Reader::default(),
            transcript: Transcript::default(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn is_working(&self) -> bool {
        self.opened && !self.closed
    }

    pub(crate) fn waits_for_nothing(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn has_all_pushes(&self, pushes: u32) {
        assert_eq!((self.pushes, self.last_push), (pushes, pushes));
    }

    /// A number that grows whenever something happens.
    pub(crate) fn progress(&self) -> usize {
        self.transcript.events.len() + self.transcript.written.len()
    }

    /// A request is about to be made.
    pub(crate) fn asks(&mut self, number: u32, deadline: Instant) {
        self.waiting.insert(number, deadline);
    }

    /// The server reads.
    pub(crate) fn read(&mut self, written: &[u8]) {
        let mut reader = std::mem::take(&mut self.reader);
        reader.read(written, |packet| self.on_packet(packet));
        self.reader = reader;
        self.transcript.written.extend(written);
    }

    fn on_packet(&mut self, packet: Packet<'_>) {
        self.packets += 1;
        assert!(self.packets == 1 || self.opened, "more than a handshake before the answer");
        match (self.packets, packet.kind) {
            (1, PacketKind::Handshake) | (2, PacketKind::HandshakeAck) => {}
            (3.., PacketKind::Heartbeat) => {}
            (3.., PacketKind::Data) => match Message::decode(packet.body).expect("it is ours") {
                Message::Request { id, body, .. } => {
                    assert!(id != 0 && self.ids.insert(id), "the id {id} again");
                    let number = number(&plain(body)).expect("it is ours");
                    assert!(!self.unsent.contains(&number), "{number} was sent after all");
                    self.arrived.insert(number);
                    self.unanswered.insert(id, number);
                }
                Message::Notify { .. } => {}
                Message::Push { .. } | Message::Response { .. } => panic!("a client that serves"),
            },
            (at, kind) => panic!("{kind:?} as packet {at}"),
        }
    }
}

impl Judge<ClientConn<u32>> for Told {
    fn on_turn(&mut self, _machine: &mut ClientConn<u32>) {}

    fn on_paused(&mut self, _now: Instant) {
        panic!("a client always reads");
    }

    fn on_taken(&mut self, now: Instant, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.heard_at = now;
        }
    }

    fn on_event(&mut self, now: Instant, event: ClientEvent<'_, u32>) {
        self.transcript.events.push(format!("{now} {event:?}"));
        match event {
            ClientEvent::Closed(reason) => {
                assert!(reason != CloseReason::Silent || now >= self.heard_at + self.patience);
                assert!(!self.closed && self.waiting.is_empty(), "{:?} wait", self.waiting);
                self.closed = true;
            }
            ClientEvent::Opened(server) => {
                assert!(!self.opened && !self.closed);
                self.opened = true;
                let period = server.heartbeat.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
                self.patience = period * 5 / 2 + Duration::from_secs(1);
            }
            ClientEvent::Push { body, .. } => {
                assert!(self.opened && !self.closed);
                if let Some(number) = number(body).filter(|_| self.trusts) {
                    assert!(number > self.last_push, "push {number} after {}", self.last_push);
                    self.last_push = number;
                    self.pushes += 1;
                }
            }
            ClientEvent::Reply { waiter, result } => {
                let deadline = self.waiting.remove(&waiter).expect("it waits and is told once");
                match result {
                    Ok(body) if self.trusts => assert_eq!(number(body), Some(waiter)),
                    Ok(_) => assert!(self.opened && !self.closed),
                    Err(RequestError::Unsent(_)) => {
                        assert!(!self.arrived.contains(&waiter), "{waiter} was sent");
                        self.unsent.insert(waiter);
                    }
                    Err(RequestError::Unknown(error)) if error.code == "PIT-504" => {
                        assert!(deadline <= now, "too early");
                    }
                    Err(RequestError::Answered(_) | RequestError::Unknown(_)) => {}
                }
            }
        }
    }
}

const ERROR: &[u8] = br#"{"code":"X-1","msg":"no"}"#;
const BODY_BYTES_MAX: usize = 1000;
/// Within these a client follows the interval that its server asks for.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
const HEARTBEAT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
