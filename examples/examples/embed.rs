//! A game server in a loop of its own: plain sockets, one thread, no async. A frame decides when.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::time::{self, Duration};

use pitaya_core::{
    Bytes, CallKey, CloseReason, Codec, ConnConfig, ConnId, Decode, Dictionary, Encode, Event,
    Instant, Json, Limits, Next, Node, Reply, RouteEntry, RouteTable, SessionId,
};
use serde::{Deserialize, Serialize};

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:3250")?;
    listener.set_nonblocking(true)?;
    println!("arena  {}  tcp", listener.local_addr()?);

    let entries = vec![RouteEntry::request("arena.move"), RouteEntry::notify("arena.wave")];
    let routes = RouteTable::new("arena", entries, Json::encode_error)?;
    let config = ConnConfig::new(Json::NAME, Dictionary::default(), Limits::default())?;
    let (mut node, mut world) = (Node::new(config, routes), World::default());
    let (mut clients, start) = (BTreeMap::new(), time::Instant::now());
    loop {
        let now = Instant::ZERO + start.elapsed();
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Some(conn) = node.accept(now)
            {
                clients.insert(conn, Client { stream, held: Vec::new(), paused: false });
            }
        }
        for (conn, client) in &mut clients {
            client.serve(now, *conn, &mut node, &mut world);
        }
        for (session, event) in node.handle_timeout(now) {
            world.handle(now, session, event, &mut node);
        }
        world.tick(now, &mut node);
        clients.retain(|conn, client| {
            node.write(now, *conn, &mut client.stream);
            !node.is_finished(*conn)
        });
        std::thread::sleep(FRAME);
    }
}

struct Client {
    stream: TcpStream,
    /// What came and was not taken: the beginning of a packet, or more while paused.
    held: Vec<u8>,
    paused: bool,
}

impl Client {
    fn serve(&mut self, now: Instant, conn: ConnId, node: &mut Node, world: &mut World) {
        let mut buffer = [0; 16 << 10];
        let waits = || ErrorKind::WouldBlock.into();
        let read = if self.paused { Err(waits()) } else { self.stream.read(&mut buffer) };
        self.held.extend_from_slice(&buffer[..*read.as_ref().unwrap_or(&0)]);

        let mut input = &self.held[..];
        self.paused = loop {
            match node.next(now, conn, &mut input) {
                Next::Event((session, event)) => world.handle(now, session, event, node),
                Next::NeedBytes => break false,
                Next::Paused => break true,
            }
        };
        let rest = input.len();
        self.held.drain(..self.held.len() - rest);
        match read {
            Ok(0) => node.handle_end(now, conn, CloseReason::end(rest)),
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                node.handle_end(now, conn, CloseReason::Io(error.kind()));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

#[derive(Default)]
struct World {
    players: BTreeMap<SessionId, Position>,
    /// To be answered at the end of the frame.
    moves: Vec<(SessionId, CallKey, Position)>,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
struct Position {
    x: i32,
    y: i32,
}

impl World {
    fn handle(&mut self, now: Instant, session: SessionId, event: Event<'_>, node: &mut Node) {
        match event {
            Event::Opened(_) => {
                self.players.insert(session, Position::default());
            }
            Event::Call(call) => match &**node.routes().name(call.route) {
                "arena.move" => match Json::decode(&call.body) {
                    Ok(step) => self.moves.push((session, call.key, step)),
                    Err(error) => {
                        let error = Reply::encode::<Json>(Err::<(), _>(error));
                        node.reply(now, session, call.key, error);
                    }
                },
                _wave => {
                    self.push(now, node, "onWave", &session.number());
                    node.reply(now, session, call.key, Reply::encode::<Json>(Ok(())));
                }
            },
            Event::Closed(reason) => {
                println!("player {} left: {reason}", session.number());
                self.players.remove(&session);
            }
            Event::Abandoned(_) | Event::Detached(_) | Event::Forward(_) => {}
        }
    }

    fn tick(&mut self, now: Instant, node: &mut Node) {
        for (session, key, step) in std::mem::take(&mut self.moves) {
            if let Some(Position { x, y }) = self.players.get_mut(&session) {
                (*x, *y) = (x.saturating_add(step.x), y.saturating_add(step.y));
                let moved = Position { x: *x, y: *y };
                node.reply(now, session, key, Reply::encode::<Json>(Ok(moved)));
            }
        }
        let positions: Vec<_> = self.players.values().copied().collect();
        self.push(now, node, "onTick", &positions);
    }

    fn push<T: Serialize>(&self, now: Instant, node: &mut Node, route: &str, value: &T) {
        let body = Bytes::from(Json::encode(value).expect("plain values are JSON"));
        for session in self.players.keys() {
            node.push(now, *session, route, body.clone());
        }
    }
}

const FRAME: Duration = Duration::from_millis(16);
