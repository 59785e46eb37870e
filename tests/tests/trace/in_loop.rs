//! The scenario in a plain loop: no runtime, no handlers, and time passes when there is nothing
//! else to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pitaya_core::{
    CallKey, CloseReason, Codec as _, Command, ConnConfig, ConnId, Counter, Counters, Dictionary,
    Event, Instant, Json, Next, Node, Reply, RouteTable, SessionId, earlier,
};
use pitaya_proto::handshake::HandshakeRequest;
use pitaya_proto::packet::{self, BODY_BYTES_MAX};
use pitaya_tests::raw::Received;

use crate::hall;
use crate::journal::Journal;
use crate::scenario::Stage;

/// A server and its clients in one loop.
pub(crate) struct InLoop {
    clients: BTreeMap<&'static str, Client>,
    counters: Arc<Counters>,
    game: Game,
    node: Node,
    now: Instant,
}

#[derive(Debug)]
struct Client {
    conn: ConnId,
    /// What the server has not consumed, and what the client has not read.
    sent: Vec<u8>,
    unread: Vec<u8>,
    /// The client sends no more, and the server does not know it yet.
    ends: bool,
}

/// What handlers are on other stages.
#[derive(Default)]
struct Game {
    journal: Journal,
    names: BTreeMap<SessionId, String>,
    running: Vec<Running>,
}

struct Running {
    body: String,
    key: CallKey,
    route: String,
    session: SessionId,
    /// When a slow one is done, once its gate is open.
    until: Option<Instant>,
}

impl InLoop {
    pub(crate) fn new() -> Self {
        let routes = hall::routes();
        let routes = RouteTable::new("gate", routes, Json::encode_error);
        let game = Game::default();
        let handshakes = game.journal.clone();
        let mut config =
            ConnConfig::new(Json::NAME, Dictionary::default(), hall::limits()).unwrap();
        let validator = move |handshake: &HandshakeRequest| {
            handshakes.event(hall::name(handshake), "handshake");
            Ok(())
        };
        config.validators.push(("name".to_owned(), Box::new(validator)));
        let (counters, clients) = (Arc::clone(&config.counters), BTreeMap::new());
        let node = Node::new(config, routes.unwrap());
        Self { clients, counters, game, node, now: Instant::ZERO }
    }

    /// Does all that can be done now.
    fn settle(&mut self) {
        while self.turn() {}
    }

    /// One round of the loop; whether anything happened.
    fn turn(&mut self) -> bool {
        let mut events = 0;
        for client in self.clients.values_mut() {
            events += client.serve(self.now, &mut self.node, &mut self.game);
        }
        for (session, event) in self.node.handle_timeout(self.now) {
            events += 1;
            self.game.handle(self.now, session, event, &mut self.node);
        }
        events += self.game.tick(self.now, &mut self.node);
        for client in self.clients.values_mut() {
            self.node.write(self.now, client.conn, &mut client.unread);
        }
        events > 0
    }

    /// Lets time pass until something happens.
    fn pass(&mut self) {
        let naps = self.game.running.iter().map(|call| call.until);
        let next = naps.fold(self.node.poll_timeout(), earlier);
        self.now = self.now.max(next.expect("something will happen"));
        self.settle();
    }

    fn read(&mut self, who: &str) -> Option<Received> {
        let client = self.clients.get_mut(who).unwrap();
        let mut input = &client.unread[..];
        let packet = packet::decode(&mut input, BODY_BYTES_MAX).unwrap();
        let received = packet.map(|packet| Received::read(&packet).unwrap());
        let consumed = client.unread.len() - input.len();
        client.unread.drain(..consumed);
        received
    }
}

impl Stage for InLoop {
    async fn dial(&mut self, who: &'static str) {
        let conn = self.node.accept(self.now).unwrap();
        let (sent, unread) = (Vec::new(), Vec::new());
        self.clients.insert(who, Client { conn, sent, unread, ends: false });
    }

    async fn send(&mut self, who: &'static str, bytes: &[u8]) {
        self.clients.get_mut(who).unwrap().sent.extend_from_slice(bytes);
        self.settle();
    }

    async fn send_bytewise(&mut self, who: &'static str, bytes: &[u8]) {
        for byte in bytes {
            self.send(who, &[*byte]).await;
        }
    }

    async fn receive(&mut self, who: &'static str, packets: usize) {
        for _ in 0..packets {
            let packet = loop {
                match self.read(who) {
                    Some(packet) => break packet,
                    None => self.pass(),
                }
            };
            self.game.journal.packet(who, packet);
        }
    }

    async fn happened(&mut self, who: &'static str, event: &str) {
        while !self.game.journal.has(who, event) {
            self.pass();
        }
    }

    async fn counted(&mut self, who: &'static str, counter: Counter) {
        self.game.journal.counted(who, &self.counters, counter);
    }

    async fn end(&mut self, who: &'static str) {
        self.clients.get_mut(who).unwrap().ends = true;
        self.settle();
    }

    async fn stop(mut self) -> String {
        self.node.shutdown(self.now);
        self.settle();
        assert!(self.node.is_empty(), "the server has stopped");
        let names: Vec<_> = self.clients.keys().copied().collect();
        for who in names {
            while let Some(packet) = self.read(who) {
                self.game.journal.packet(who, packet);
            }
            self.game.journal.packet(who, "end");
        }
        self.game.journal.trace(&self.counters)
    }
}

impl Client {
    /// Offers what was sent; how many events it gave.
    fn serve(&mut self, now: Instant, node: &mut Node, game: &mut Game) -> usize {
        let (mut input, mut events) = (&self.sent[..], 0);
        while let Next::Event((session, event)) = node.next(now, self.conn, &mut input) {
            events += 1;
            game.handle(now, session, event, node);
        }
        let rest = input.len();
        self.sent.drain(..self.sent.len() - rest);
        if std::mem::take(&mut self.ends) {
            node.handle_end(now, self.conn, CloseReason::end(rest));
        }
        events
    }
}

impl Game {
    fn handle(&mut self, now: Instant, session: SessionId, event: Event<'_>, node: &mut Node) {
        match event {
            Event::Call(call) => {
                let route = node.routes().name(call.route).to_string();
                let body = String::from_utf8(call.body.to_vec()).unwrap();
                self.note(session, format!("start {route} {body}"));
                let running = Running { body, key: call.key, route, session, until: None };
                self.begin(now, running, node);
            }
            Event::Closed(reason) => self.note(session, format!("closed: {reason}")),
            Event::Opened(handshake) => {
                self.names.insert(session, hall::name(&handshake).to_owned());
            }
            Event::Abandoned(_) | Event::Detached(_) | Event::Forward(_) => {
                panic!("nothing of the scenario leads to {event:?}")
            }
        }
    }

    fn begin(&mut self, now: Instant, call: Running, node: &mut Node) {
        match &*call.route {
            "hall.echo" | "hall.peek" => self.end(now, call, node),
            "hall.kick" => {
                let text = Some(call.body.clone());
                let kick = Command::Kick(text.clone(), CloseReason::Kicked(text));
                assert!(node.command(now, call.session, kick));
                self.end(now, call, node);
            }
            "hall.open" => {
                self.journal.open_gate(&call.body);
                self.end(now, call, node);
            }
            _waiting => self.running.push(call),
        }
    }

    /// Ends the calls whose gates are open; how many.
    fn tick(&mut self, now: Instant, node: &mut Node) -> usize {
        for call in self.running.iter_mut().filter(|call| call.until.is_none()) {
            let takes = if call.route == "hall.slow" { hall::SLOW } else { Default::default() };
            call.until = self.journal.is_open(&call.body).then(|| now + takes);
        }
        let is_done = |call: &mut Running| call.until.is_some_and(|until| until <= now);
        let done: Vec<_> = self.running.extract_if(.., is_done).collect();
        let ended = done.len();
        for call in done {
            if call.route == "hall.leave" {
                assert!(!node.push(now, call.session, "onLeave", Bytes::new()));
            }
            self.end(now, call, node);
        }
        ended
    }

    fn end(&mut self, now: Instant, call: Running, node: &mut Node) {
        self.note(call.session, format!("end {} {}", call.route, call.body));
        node.reply(now, call.session, call.key, Reply::ok(call.body));
    }

    fn note(&self, session: SessionId, event: String) {
        self.journal.event(&self.names[&session], event);
    }
}
