//! A server's player and a client joined by a pipe that delays and cuts: what one says the other
//! hears.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use pitaya_core::{
    ClientCommand, ClientConfig, ClientConn, ClientRequest, CloseReason, Command, ConnConfig,
    Counter, Instant, Limits, Machine, Player,
};

use crate::client_conn::Told;
use crate::ledger::Ledger;
use crate::line::{Cut, End};
use crate::player::{dictionary, routes};
use crate::script::{Script, Wait, limits, some};
use crate::speech::numbered;
use crate::transcript::Transcript;

/// The input is a byte that chooses limits, one that chooses who compresses and how it ends, and a
/// script.
pub fn pipe(data: &[u8]) {
    let whole = Pipe::run(data, Cut::Whole);
    assert_eq!(Pipe::run(data, Cut::Bytes), whole, "the cuts of the network show");
}

#[derive(Arbitrary, Debug)]
enum Step {
    ClientCloses,
    Down { leave: u8, arrive: u8 },
    Kick(bool),
    Notify { route: u8, bytes: u8 },
    Push(u8),
    Reply { at: u8, bytes: u8, error: bool },
    Request { route: u8, bytes: u8, millis: u16 },
    ServerCloses,
    Shutdown,
    Up { leave: u8, arrive: u8 },
    Wait(Wait),
}

struct Pipe {
    client: End<ClientConn<u32>>,
    told: Told,
    client_config: Arc<ClientConfig>,
    server: End<Player>,
    ledger: Ledger,
}

impl Pipe {
    fn run(data: &[u8], cut: Cut) -> [Transcript; 2] {
        let mut script = Script::new(data);
        let (limits, choice) = (limits(script.choice()), script.choice());
        let mut pipe = Self::new(limits.resume_window(Duration::ZERO), choice, cut);
        for serial in 1.. {
            let Some(step) = script.step() else { break };
            pipe.step(step, serial);
        }
        pipe.settles();
        if choice & 4 == 0 {
            let close = ClientCommand::Close(CloseReason::Closed);
            pipe.client.command(close, &mut pipe.told);
        } else {
            pipe.server.command(Command::Close(CloseReason::Closed), &mut pipe.ledger);
        }
        pipe.settles();
        pipe.client.end(&mut pipe.told);
        pipe.server.end(&mut pipe.ledger);
        assert!(pipe.told.is_closed() && pipe.ledger.is_closed());
        [pipe.told.transcript, pipe.ledger.transcript]
    }

    fn new(limits: Limits, choice: u8, cut: Cut) -> Self {
        let now = Instant::ZERO;
        let mut config =
            ConnConfig::new("json", dictionary(), limits.clone()).expect("it is small");
        config.compression = choice & 1 == 0;
        let config = Arc::new(config);
        let routes = Arc::new(routes());
        let ledger = Ledger::new(limits.clone(), Arc::clone(&routes));
        let server = End::new(Player::new(config, routes, now), now, cut);
        let compression = choice & 2 == 0;
        let config =
            ClientConfig { compression, limits: limits.clone(), ..ClientConfig::default() };
        let client_config = Arc::new(config);
        let client = End::new(ClientConn::new(Arc::clone(&client_config), now), now, cut);
        Self { client, told: Told::new(limits), client_config, server, ledger }
    }

    fn step(&mut self, step: Step, serial: u32) {
        let (now, body) = (self.client.now, |bytes| numbered(serial, bytes).into());
        match step {
            Step::ClientCloses => self.command(ClientCommand::Close(CloseReason::Closed)),
            Step::Down { leave, arrive } => self.down(some(leave), some(arrive)),
            Step::Kick(reason) => {
                let text = reason.then(|| "why".to_owned());
                self.serve(Command::Kick(text, CloseReason::Replaced));
            }
            Step::Notify { route, bytes } => {
                let (route, body) = (name(route), body(bytes));
                self.command(ClientCommand::Notify { route, body });
            }
            Step::Push(bytes) => {
                if let Some(command) = self.ledger.push(bytes) {
                    self.serve(command);
                }
            }
            Step::Reply { at, bytes, error } => {
                if let Some(command) = self.ledger.reply(at, bytes, error) {
                    self.serve(command);
                }
            }
            Step::Request { route, bytes, millis } => {
                let deadline = now + Duration::from_millis(millis.into());
                self.told.asks(serial, deadline);
                let (route, body, waiter) = (name(route), body(bytes), serial);
                let request = ClientRequest { route, body, deadline, waiter };
                self.command(ClientCommand::Request(request));
            }
            Step::ServerCloses => self.serve(Command::Close(CloseReason::Closed)),
            Step::Shutdown => self.serve(Command::Shutdown),
            Step::Up { leave, arrive } => self.up(some(leave), some(arrive)),
            Step::Wait(wait) => {
                let deadline = self.server.machine.poll_timeout();
                let until = wait.until(now, deadline);
                self.client.wait_until(until, &mut self.told);
                self.server.wait_until(until, &mut self.ledger);
            }
        }
    }

    fn command(&mut self, command: ClientCommand<u32>) {
        self.client.command(command, &mut self.told);
    }

    fn serve(&mut self, command: Command) {
        self.server.command(command, &mut self.ledger);
    }

    /// Bytes leave the client, and bytes that left it before arrive at the server.
    fn up(&mut self, leave: usize, arrive: usize) {
        let written = self.client.write(leave);
        self.told.read(&written);
        self.server.coming.extend(written);
        self.server.deliver(arrive, &mut self.ledger);
        if self.client.is_finished() && self.server.coming.is_empty() {
            self.server.eof(&mut self.ledger);
        }
    }

    /// The same the other way.
    fn down(&mut self, leave: usize, arrive: usize) {
        let written = self.server.write(leave);
        self.ledger.read(self.server.now, &written);
        self.client.coming.extend(written);
        self.client.deliver(arrive, &mut self.told);
        if self.server.is_finished() && self.client.coming.is_empty() {
            self.client.eof(&mut self.told);
        }
    }

    /// Everything arrives and is answered; then nobody waits and nothing is missing.
    fn settles(&mut self) {
        loop {
            let before = (self.told.progress(), self.ledger.progress());
            self.up(usize::MAX, usize::MAX);
            while let Some(reply) = self.ledger.reply(0, 0, false) {
                self.serve(reply);
            }
            self.down(usize::MAX, usize::MAX);
            if (self.told.progress(), self.ledger.progress()) == before {
                break;
            }
        }
        let count = |counter| self.client_config.counters.count(counter);
        assert!(
            count(Counter::RepliesLate) <= count(Counter::RequestsExpired),
            "a reply that nobody asked for"
        );
        if self.told.is_working() && self.ledger.is_working() {
            assert!(self.told.waits_for_nothing(), "requests without an outcome");
            self.ledger.all_are_answered();
            self.told.has_all_pushes(self.ledger.pushes());
        }
        assert_eq!(self.told.is_closed(), self.ledger.is_closed(), "one is left alone");
    }
}

fn name(route: u8) -> Arc<str> {
    let names = ["t.ask", "t.free", "t.quick", "t.brief", "t.torn", "t.tell", "t.gone", "a.b.c"];
    names[usize::from(route) % names.len()].into()
}
