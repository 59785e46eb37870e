//! One connection of a server: whatever happens to it, it says and writes only what its state
//! allows.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use pitaya_core::{
    CloseReason, ConnConfig, ConnEvent, Instant, Limits, Machine, Next, Outbox, Reply, ServerConn,
};
use pitaya_proto::handshake::HandshakeRequest;
use pitaya_proto::packet::HEADER_BYTES;
use pitaya_proto::zlib::Scratch;

use crate::line::{Cut, End, Judge};
use crate::player::dictionary;
use crate::script::{Script, Wait, limits, some};
use crate::speech::ClientSays;
use crate::transcript::{ServerOrder, Transcript};

/// The input is a byte that chooses limits, and a script.
pub fn server_conn(data: &[u8]) {
    let whole = run(data, Cut::Whole);
    assert_eq!(run(data, Cut::Bytes), whole, "the cuts of the network show");
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Close,
    Deliver(u8),
    Eof,
    Fail,
    Kick(bool),
    Pause(bool),
    Push(u8),
    Reply { at: u8, bytes: u8 },
    Say(ClientSays<'a>),
    Wait(Wait),
    Write(u8),
}

fn run(data: &[u8], cut: Cut) -> Transcript {
    let mut script = Script::new(data);
    let limits = limits(script.choice());
    let mut told = Told { limits: limits.clone(), ..Told::default() };
    let mut config = ConnConfig::new("json", dictionary(), limits).expect("it is small");
    let validator = |request: &HandshakeRequest| match &*request.platform {
        "refused" => Err("refused".to_owned()),
        _ => Ok(()),
    };
    config.validators.push(("platform".to_owned(), Box::new(validator)));
    let conn = Bare(ServerConn::new(Arc::new(config), Instant::ZERO));
    let mut end = End::new(conn, Instant::ZERO, cut);
    let mut order = ServerOrder::default();
    for serial in 1.. {
        let Some(step) = script.step::<Step<'_>>() else { break };
        match step {
            Step::Close => end.command(Order::Close, &mut told),
            Step::Deliver(bytes) => end.deliver(some(bytes), &mut told),
            Step::Eof => end.eof(&mut told),
            Step::Fail => end.fail(&mut told),
            Step::Kick(reason) => end.command(Order::Kick(reason), &mut told),
            Step::Pause(held) => end.command(Order::Pause(held), &mut told),
            Step::Push(bytes) => end.command(Order::Push(bytes.into()), &mut told),
            Step::Reply { at, bytes } if !told.requests.is_empty() => {
                let request = told.requests.remove(usize::from(at) % told.requests.len());
                end.command(Order::Reply(request, bytes.into()), &mut told);
            }
            Step::Reply { .. } => {}
            Step::Say(words) => words.write(serial, &mut end.coming),
            Step::Wait(wait) => {
                let until = wait.until(end.now, end.machine.poll_timeout());
                end.wait_until(until, &mut told);
            }
            Step::Write(bytes) => {
                let written = end.write(some(bytes));
                order.check(&written, told.opened);
                told.transcript.written.extend(written);
            }
        }
        told.check(&end);
    }
    end.end(&mut told);
    assert!(told.closed, "an end that is not told");
    told.transcript
}

#[derive(Default)]
struct Told {
    limits: Limits,
    opened: bool,
    detached: bool,
    closed: bool,
    /// Requests that are not answered.
    requests: Vec<NonZeroU64>,
    /// When a packet came last, or none was wanted.
    heard_at: Instant,
    is_full: bool,
    transcript: Transcript,
}

impl Told {
    fn check(&mut self, end: &End<Bare>) {
        let bytes_max = if self.opened {
            self.limits.packet_bytes_max
        } else {
            self.limits.handshake_bytes_max
        };
        let bounded = end.held_bytes() < HEADER_BYTES + bytes_max;
        assert!(bounded || end.is_paused, "it holds too much");
        assert!(!self.is_over() || end.held_bytes() == 0, "it holds what nobody takes");
        let handshake_max = self.limits.handshake_timeout * 2;
        let is_slow = !self.opened && end.now >= Instant::ZERO + handshake_max;
        assert!(self.closed || !is_slow, "a handshake for ever");
    }
}

impl Judge<Bare> for Told {
    fn on_turn(&mut self, machine: &mut Bare) {
        self.is_full = machine.0.is_outbox_full();
    }

    /// What is not read is not held against the client.
    fn on_paused(&mut self, now: Instant) {
        self.heard_at = now;
    }

    fn on_taken(&mut self, now: Instant, bytes: &[u8]) {
        // What comes after the end is thrown away.
        if !bytes.is_empty() && !self.is_over() {
            assert!(!self.is_full, "it reads what it may not answer");
            self.heard_at = now;
        }
    }

    fn on_event(&mut self, now: Instant, event: ConnEvent<'_>) {
        assert!(!self.closed, "{event:?} after the end");
        self.transcript.events.push(format!("{now} {event:?}"));
        match event {
            ConnEvent::Called(call) => {
                assert!(self.opened && !self.detached, "a call of nobody");
                assert!(call.body.bytes().len() <= self.limits.packet_bytes_max);
                self.requests.extend(call.request);
            }
            ConnEvent::Closed(reason) => {
                self.closed = true;
                self.is_justified(now, &reason);
            }
            ConnEvent::Detached(reason) => {
                assert!(self.opened && !self.detached && reason.is_loss());
                assert!(!self.limits.resume_window.is_zero());
                self.detached = true;
                self.is_justified(now, &reason);
            }
            ConnEvent::Opened(request) => {
                assert!(!self.opened && request.platform != "refused");
                self.opened = true;
                self.heard_at = now;
            }
        }
    }
}

impl Told {
    fn is_over(&self) -> bool {
        self.closed || self.detached
    }

    fn is_justified(&self, now: Instant, reason: &CloseReason) {
        if *reason == CloseReason::Silent {
            let patience = self.limits.heartbeat * 5 / 2 + Duration::from_secs(1);
            assert!(now >= self.heard_at + patience, "silent since {}", self.heard_at);
        }
        if *reason == CloseReason::PacketTimeout {
            assert!(now >= self.heard_at + self.limits.packet_timeout);
        }
        if *reason == CloseReason::HandshakeTimeout {
            assert!(!self.opened && now >= Instant::ZERO + self.limits.handshake_timeout);
        }
    }
}

/// The connection alone, with its methods as commands.
struct Bare(ServerConn);

enum Order {
    Close,
    Kick(bool),
    Pause(bool),
    Push(usize),
    Reply(NonZeroU64, usize),
}

impl Machine for Bare {
    type Event<'e> = ConnEvent<'e>;
    type Command = Order;

    fn next<'i: 'e, 'e>(
        &mut self, now: Instant, input: &mut &'i [u8], _scratch: &'e mut Scratch,
    ) -> Next<ConnEvent<'e>> {
        self.0.next(now, input)
    }

    fn handle_command(&mut self, now: Instant, order: Order, scratch: &mut Scratch) {
        match order {
            Order::Close => self.0.close(now, CloseReason::Closed),
            Order::Kick(reason) => {
                self.0.kick(now, reason.then_some("why"), CloseReason::Replaced);
            }
            Order::Pause(held) => self.0.held = held,
            Order::Push(bytes) => self.0.push(now, "on.news", &vec![b'x'; bytes], scratch),
            Order::Reply(request, bytes) => {
                let carried = self.0.reply(now, request, &Reply::ok(vec![b'x'; bytes]), scratch);
                assert!(carried.is_ok());
            }
        }
    }

    fn handle_written(&mut self, now: Instant, bytes: usize) {
        self.0.handle_written(now, bytes);
    }

    fn handle_end(&mut self, now: Instant, how: CloseReason) {
        self.0.handle_end(now, how);
    }

    fn handle_timeout(&mut self, now: Instant, _scratch: &mut Scratch) {
        self.0.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }

    fn outbox(&mut self) -> &mut Outbox {
        self.0.outbox()
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}
