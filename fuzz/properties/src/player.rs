//! A player with its session: every request has one outcome, every call its turn, every push its
//! place.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::Buf;
use pitaya_core::{
    CloseReason, Codec, Command, ConnConfig, Instant, Json, Limits, Machine, Options, Player,
    RouteEntry, RouteTable,
};
use pitaya_proto::dictionary::Dictionary;

use crate::ledger::Ledger;
use crate::line::{Cut, End};
use crate::script::{Script, Wait, limits, some};
use crate::speech::{ClientSays, opening};
use crate::transcript::Transcript;

/// The input is a byte that chooses limits, one that chooses how it ends, and a script.
pub fn player(data: &[u8]) {
    let whole = Run::of(data, Cut::Whole);
    assert_eq!(Run::of(data, Cut::Bytes), whole, "the cuts of the network show");
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Close,
    Deliver(u8),
    Eof,
    Fail,
    Kick(bool),
    Push(u8),
    Reconnect,
    Reply { at: u8, bytes: u8, error: bool },
    Say(ClientSays<'a>),
    Shutdown,
    Wait(Wait),
    Write(u8),
}

struct Run {
    config: Arc<ConnConfig>,
    routes: Arc<RouteTable>,
    cut: Cut,
    end: End<Player>,
    ledger: Ledger,
    drains: bool,
}

impl Run {
    fn of(data: &[u8], cut: Cut) -> Transcript {
        let mut script = Script::new(data);
        let limits = limits(script.choice());
        let ending = script.choice() % 3;
        let mut run = Self::new(limits, cut);
        for serial in 1.. {
            let Some(step) = script.step::<Step<'_>>() else { break };
            run.step(step, serial);
            run.is_bounded();
        }
        match ending {
            0 => run.settles_once_all_is_answered(),
            1 => run.settles_in_time_when_nothing_is_answered(),
            _ => {}
        }
        run.end.end(&mut run.ledger);
        assert!(run.ledger.is_closed(), "an end that is not told");
        assert_eq!(run.end.machine.calls(), 0, "calls that outlive every deadline");
        run.ledger.transcript
    }

    fn new(limits: Limits, cut: Cut) -> Self {
        let config = ConnConfig::new("json", dictionary(), limits.clone()).expect("it is small");
        let (config, routes) = (Arc::new(config), Arc::new(routes()));
        let player = Player::new(Arc::clone(&config), Arc::clone(&routes), Instant::ZERO);
        let end = End::new(player, Instant::ZERO, cut);
        let ledger = Ledger::new(limits, Arc::clone(&routes));
        Self { config, routes, cut, end, ledger, drains: false }
    }

    fn step(&mut self, step: Step<'_>, serial: u32) {
        let (end, ledger) = (&mut self.end, &mut self.ledger);
        match step {
            Step::Close => end.command(Command::Close(CloseReason::Closed), ledger),
            Step::Deliver(bytes) => end.deliver(some(bytes), ledger),
            Step::Eof => end.eof(ledger),
            Step::Fail => end.fail(ledger),
            Step::Kick(reason) => {
                let text = reason.then(|| "why".to_owned());
                end.command(Command::Kick(text, CloseReason::Replaced), ledger);
            }
            Step::Push(bytes) => {
                if let Some(push) = ledger.push(bytes) {
                    end.command(push, ledger);
                }
            }
            Step::Reconnect => self.reconnect(),
            Step::Reply { at, bytes, error } => {
                self.reply(at, bytes, error);
            }
            Step::Say(words) => words.write(serial, &mut end.coming),
            Step::Shutdown => {
                self.drains = true;
                end.command(Command::Shutdown, ledger);
            }
            Step::Wait(wait) => {
                let until = wait.until(end.now, end.machine.poll_timeout());
                end.wait_until(until, ledger);
            }
            Step::Write(bytes) => self.write(some(bytes)),
        }
    }

    fn reply(&mut self, at: u8, bytes: u8, error: bool) -> bool {
        let reply = self.ledger.reply(at, bytes, error);
        reply.map(|reply| self.end.command(reply, &mut self.ledger)).is_some()
    }

    fn write(&mut self, bytes: usize) {
        let written = self.end.write(bytes);
        self.ledger.read(self.end.now, &written);
    }

    /// The client comes back on another connection while its session waits for it.
    fn reconnect(&mut self) {
        if !self.ledger.is_detached() {
            return;
        }
        let (config, routes) = (Arc::clone(&self.config), Arc::clone(&self.routes));
        let now = self.end.now;
        let mut newcomer = End::new(Player::new(config, Arc::clone(&routes), now), now, self.cut);
        let mut ledger = Ledger::new(self.ledger.limits.clone(), routes);
        newcomer.coming = opening();
        newcomer.deliver(usize::MAX, &mut ledger);
        newcomer.write(usize::MAX);
        newcomer.drain(&mut ledger);
        newcomer.write(usize::MAX);
        assert!(ledger.is_working());
        self.end.machine.attach(now, newcomer.machine);
        self.ledger.reconnect();
        self.end.reconnect();
        self.end.drain(&mut self.ledger);
    }

    fn is_bounded(&mut self) {
        let limits = &self.ledger.limits;
        assert!(self.end.machine.calls() <= limits.calls_max, "more calls than may be");
        let outbox = self.end.machine.outbox();
        let replies = 2 * limits.calls_max + 8;
        assert!(outbox.packets() <= limits.outbound_packets_max + replies, "too many wait");
        let reply_bytes_max = limits.inflated_bytes_max + MORE_BYTES_MAX;
        let bytes_max = limits.outbound_bytes_max + replies * reply_bytes_max;
        assert!(outbox.remaining() <= bytes_max, "{} bytes wait", outbox.remaining());
    }

    /// Every call is answered and everything is written, so every request has its reply.
    fn settles_once_all_is_answered(&mut self) {
        while !self.end.is_finished() {
            let before = self.ledger.progress();
            self.end.deliver(usize::MAX, &mut self.ledger);
            while self.reply(0, 0, false) {}
            self.write(usize::MAX);
            if self.ledger.progress() == before {
                break;
            }
        }
        if !self.ledger.is_working() {
            return;
        }
        assert!(!self.drains, "a drained session lives on");
        assert!(!self.end.is_paused && self.end.coming.is_empty(), "it is not read");
        assert_eq!(self.end.machine.calls(), 0);
        self.ledger.all_are_answered();
    }

    /// Nothing is answered, but time passes, so every request has an error at its deadline, and
    /// every handler is dropped at its hard limit.
    fn settles_in_time_when_nothing_is_answered(&mut self) {
        for _ in 0..60 {
            if self.end.is_finished() {
                return;
            }
            self.end.deliver(usize::MAX, &mut self.ledger);
            self.end.wait_until(self.end.now + Duration::from_secs(1), &mut self.ledger);
            self.write(usize::MAX);
            self.ledger.none_is_overdue(self.end.now);
        }
    }
}

/// The codes of routes in all scripts.
pub(crate) fn dictionary() -> Dictionary {
    Dictionary::new([("t.ask", 1), ("on.news", 2), ("t.gone", 3)]).expect("each is there once")
}

/// The routes of servers in all scripts.
pub(crate) fn routes() -> RouteTable {
    let seconds = Duration::from_secs;
    let request = |name: &str, options| RouteEntry { options, ..RouteEntry::request(name) };
    let entries = vec![
        request("t.ask", Options::default()),
        request("t.free", Options::concurrent()),
        request("t.quick", Options { deadline: Some(seconds(1)), ..Options::default() }),
        request("t.brief", Options { hard_limit: Some(seconds(2)), ..Options::default() }),
        request("t.torn", Options { cancel_on_close: true, ..Options::default() }),
        RouteEntry::notify("t.tell"),
    ];
    RouteTable::new("gate", entries, Json::encode_error).expect("no contradictions")
}

/// What a reply in a script has beside the body of its call.
const MORE_BYTES_MAX: usize = 500;
