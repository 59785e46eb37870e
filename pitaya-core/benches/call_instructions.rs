//! From the bytes of a request to the bytes of its reply, in instructions:
//! `cargo bench -p pitaya-core --bench call_instructions`.
//!
//! Sixteen requests come in one read, as from a client that does not wait. Needs valgrind and a
//! `gungraun-runner` of the version of the library. Going over a limit fails the run.

#![allow(
    missing_docs,
    unused_qualifications,
    reason = "gungraun's macros make undocumented modules of the benchmarks"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::task;

use bytes::{Buf, Bytes};
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use pitaya_core::app::{Handlers, Scope};
use pitaya_core::session::{Host, HostFuture, SessionHandle};
use pitaya_core::{
    App, Command, ConnConfig, Error, Event, Instant, Limits, Machine, Next, Payload, Player,
    SessionTable,
};
use pitaya_proto::dictionary::Dictionary;
use pitaya_proto::handshake::HandshakeRequest;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, PacketKind};
use pitaya_proto::zlib::Scratch;
use serde::{Deserialize, Serialize};

#[library_benchmark]
#[bench::raw(args = ("hall.echo"), setup = Seat::new, config = at_most(RAW_MAX))]
#[bench::json(args = ("hall.move"), setup = Seat::new, config = at_most(JSON_MAX))]
fn call(mut seat: Seat) -> Seat {
    seat.answer_all();
    seat
}

library_benchmark_group!(name = calls, benchmarks = call);
main!(library_benchmark_groups = calls);

#[derive(Deserialize, Serialize)]
struct Move {
    seq: u64,
    name: String,
    x: i32,
    y: i32,
}

async fn echo(body: Bytes) -> Result<Bytes, Error> {
    Ok(body)
}

async fn walk(Payload(step): Payload<Move>) -> Result<Move, Error> {
    Ok(step)
}

/// A client that works, and what serves it.
struct Seat {
    handlers: Handlers,
    player: Player,
    requests: Vec<u8>,
    scratch: Scratch,
    session: SessionHandle,
}

impl Seat {
    fn new(route: &str) -> Self {
        let app = App::new(()).route("hall.echo", echo).route("hall.move", walk);
        let handlers = app.build("gate").expect("the routes are fine");
        let config = ConnConfig::new("json", Dictionary::default(), Limits::default())
            .expect("the dictionary is empty");
        let routes = Arc::clone(&handlers.routes);
        let config = Arc::new(config);
        let mut player = Player::new(Arc::clone(&config), routes, Instant::ZERO);
        let mut scratch = Scratch::new();
        let session = open(&mut player, config, &mut scratch);
        let mut seat = Self { handlers, player, requests: requests(route), scratch, session };
        // Memory that was used before, as a busy connection has it.
        seat.answer_all();
        seat
    }

    fn answer_all(&mut self) {
        let mut input = black_box(&self.requests[..]);
        let mut cx = task::Context::from_waker(task::Waker::noop());
        while let Next::Event(event) =
            self.player.next(Instant::ZERO, &mut input, &mut self.scratch)
        {
            let Event::Call(call) = event else { panic!("only calls come") };
            let route = self.handlers.routes.name(call.route);
            let host = self.session.host();
            let scope = Scope { host, route, session: Some(&self.session) };
            let mut running = self.handlers.invoke(&call, &scope).expect("the argument decodes");
            let task::Poll::Ready(Ok(reply)) = running.poll(&mut cx, route) else {
                panic!("the handlers end at once")
            };
            let command = Command::Reply(call.key, reply);
            self.player.handle_command(Instant::ZERO, command, &mut self.scratch);
        }
        let outbox = self.player.outbox();
        let written = outbox.remaining();
        black_box(outbox.chunk());
        outbox.advance(written);
        self.player.handle_written(Instant::ZERO, written);
    }
}

fn open(player: &mut Player, config: Arc<ConnConfig>, scratch: &mut Scratch) -> SessionHandle {
    let mut hello = Vec::new();
    let written = packet::encode(PacketKind::Handshake, b"{\"sys\":{}}", &mut hello)
        .and_then(|()| packet::encode(PacketKind::HandshakeAck, &[], &mut hello));
    written.expect("both are small");
    let opened = player.next(Instant::ZERO, &mut &hello[..], scratch);
    let Next::Event(Event::Opened(_)) = opened else { panic!("the handshake is fine") };
    let sent = player.outbox().remaining();
    player.outbox().advance(sent);
    let id = SessionTable::new(&Limits::default()).open(());
    let remote = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    SessionHandle::new(id, remote, Arc::new(Nobody(config)))
}

fn requests(route: &str) -> Vec<u8> {
    let mut requests = Vec::new();
    for id in 1..=CALLS {
        let body = format!(r#"{{"seq":{id},"name":"somebody with a name","x":-1200,"y":34567}}"#);
        let (route, body) = (Route::Name(route.as_bytes()), Body::Plain(body.as_bytes()));
        let request = Message::Request { id, route, body };
        request.encode_packet(&mut requests).expect("it is small");
    }
    requests
}

/// A host that these handlers never ask.
struct Nobody(Arc<ConnConfig>);

impl Host for Nobody {
    fn cluster(&self) -> Option<&dyn pitaya_core::cluster::ClusterHost> {
        None
    }

    fn push_to_front(&self, _: Vec<u8>) -> HostFuture<Result<(), Error>> {
        unreachable!("no handler asks for it")
    }

    fn bind(&self, _: SessionHandle, _: &str) -> HostFuture<Result<Arc<str>, Error>> {
        Box::pin(std::future::pending())
    }

    fn send(&self, _: Command) -> bool {
        false
    }

    fn is_open(&self) -> bool {
        false
    }

    fn handshake(&self) -> HandshakeRequest {
        HandshakeRequest::default()
    }

    fn config(&self) -> &ConnConfig {
        &self.0
    }

    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn sleep(&self, _: Instant) -> HostFuture<()> {
        Box::pin(std::future::pending())
    }
}

fn at_most(per_call: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, CALLS * per_call)]));
    config
}

const CALLS: u64 = 16;
/// Instructions per call, from `next` to the reply in the outbox.
const RAW_MAX: u64 = 1640;
const JSON_MAX: u64 = 4660;
