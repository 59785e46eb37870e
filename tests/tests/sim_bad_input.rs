//! Bad input in the simulator: it ends its own connection for a counted reason and harms no other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pitaya_core::{App, Counter, Ctx, Error, Payload, Rng};
use pitaya_driver::{Runtime as _, Server, ServerHandle};
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::PacketKind;
use pitaya_proto::zlib::Scratch;
use pitaya_tests::raw::{RawClient, Received, ack, handshake, message, packet, request};
use pitaya_tests::sim::{self, Sim, SimStream, Wire};

#[test]
fn every_kind_of_bad_input_closes_its_connection_for_a_reason_that_is_counted() {
    for (number, Bad { bytes, reason, counter }) in bad_input().into_iter().enumerate() {
        sim::run(number as u64, |sim| async move {
            let closings = Closings::default();
            let server = start(&sim, &closings).await;
            let mut honest = connect(&sim, server.addresses()[0]).await;
            let mut bad = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
            bad.send(&bytes).await.unwrap();
            let said = bad.rest().await.unwrap();
            let answers = said.iter().filter(|said| !matches!(said, Received::Handshake(_)));
            assert_eq!(answers.collect::<Vec<_>>(), [] as [&Received; 0], "{reason}");
            sim.sleep(LINGER).await;
            assert_eq!(closings.reasons(), Vec::from_iter(Some(reason).filter(|r| !r.is_empty())));
            assert_eq!(server.counters().count(counter), 1, "{reason}");
            assert_eq!((server.connections(), server.sessions()), (1, 1));
            assert_eq!(honest.request(1, "hall.double", "21").await.unwrap(), Some(doubled(1, 42)));
        });
    }
}

#[test]
fn an_argument_that_does_not_decode_and_a_route_that_is_none_cost_one_error_reply() {
    sim::run(1, |sim| async move {
        let server = start(&sim, &Closings::default()).await;
        let mut client = connect(&sim, server.addresses()[0]).await;
        for (id, route, body, code) in [
            (1, "hall.double", "{", "PIT-400"),
            (2, "hall.double", "\"text\"", "PIT-400"),
            (3, "hall.double", "[[[[[[[[", "PIT-400"),
            (4, "hall.none", "1", "PIT-404"),
            (5, "hall\u{0}", "1", "PIT-400"),
        ] {
            let answer = client.request(id, route, body).await.unwrap();
            assert_eq!(answer, Some(Received::Error(id, code.to_owned())), "{route} {body}");
        }
        assert_eq!(client.request(6, "hall.double", "4").await.unwrap(), Some(doubled(6, 8)));
        assert_eq!(server.counters().count(Counter::ConnectionsFaulty), 0);
    });
}

#[test]
fn a_handler_that_panics_costs_one_error_reply() {
    for seed in sim::seeds(5) {
        sim::run(seed, |sim| async move {
            let server = start(&sim, &Closings::default()).await;
            let mut client = connect(&sim, server.addresses()[0]).await;
            let calls = [
                request(1, "hall.panic", "0"),
                request(2, "hall.double", "2"),
                request(3, "hall.panic", "0"),
                request(4, "hall.double", "4"),
            ];
            client.send(&calls.concat()).await.unwrap();
            let error = |id| Received::Error(id, "PIT-000".to_owned());
            for answer in [error(1), doubled(2, 4), error(3), doubled(4, 8)] {
                assert_eq!(client.next().await.unwrap(), Some(answer));
            }
            assert_eq!(server.counters().count(Counter::CallsPanicked), 2);
            assert_eq!((server.connections(), server.sessions()), (1, 1));
        });
    }
}

#[test]
fn a_validator_that_panics_costs_its_connection_alone() {
    sim::run(1, |sim| async move {
        let server = start(&sim, &Closings::default()).await;
        let mut honest = connect(&sim, server.addresses()[0]).await;
        let mut fatal = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
        fatal.send(&handshake("panic")).await.unwrap();
        assert_eq!(fatal.rest().await.unwrap(), [Received::Handshake(400)]);
        sim.sleep(LINGER).await;
        assert_eq!(honest.request(1, "hall.double", "21").await.unwrap(), Some(doubled(1, 42)));
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn a_close_hook_that_panics_costs_neither_other_hooks_nor_other_connections() {
    for seed in sim::seeds(5) {
        sim::run(seed, |sim| async move {
            let closings = Closings::default();
            let server = start(&sim, &closings).await;
            let mut honest = connect(&sim, server.addresses()[0]).await;
            let mut fatal = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
            fatal.open("panic on close").await.unwrap();
            sim.sleep(LINGER).await;
            drop(fatal);
            sim.sleep(LINGER).await;
            assert_eq!(closings.reasons(), ["closed by the peer"]);
            assert_eq!((server.connections(), server.sessions()), (1, 1));
            assert_eq!(honest.request(1, "hall.double", "2").await.unwrap(), Some(doubled(1, 4)));
        });
    }
}

#[test]
fn honest_clients_do_not_notice_what_bad_ones_send_beside_them() {
    let mut refused = 0;
    for seed in sim::seeds(100) {
        refused += sim::run(seed, |sim| beside(sim, Rng::new(seed)));
    }
    assert!(refused > 0, "nobody was bad");
}

/// Some honest clients beside twenty bad ones; how many connections were counted as refused.
async fn beside(sim: Sim, mut chance: Rng) -> u64 {
    let closings = Closings::default();
    let server = start(&sim, &closings).await;
    let address = server.addresses()[0];
    let honest: Vec<_> = (0..4)
        .map(|_| {
            let (dialler, chance) = (sim.clone(), Rng::new(chance.next_u64()));
            sim.start(async move { be_honest(&dialler, address, chance).await })
        })
        .collect();
    let bad: Vec<_> = (0..20)
        .map(|_| {
            let (dialler, chance) = (sim.clone(), Rng::new(chance.next_u64()));
            sim.start(async move { be_bad(&dialler, address, chance).await })
        })
        .collect();
    for client in bad {
        client.await;
    }
    let mut honest_clients = Vec::new();
    for client in honest {
        honest_clients.push(client.await);
    }
    sim.sleep(LINGER).await;
    assert_eq!((server.connections(), server.sessions()), (4, 4));
    let refusals = [Counter::ConnectionsFaulty, Counter::BodiesTooLarge];
    let refused = refusals.iter().map(|counter| server.counters().count(*counter)).sum();
    server.shutdown().await;
    for mut client in honest_clients {
        assert_eq!(client.rest().await.unwrap(), []);
    }
    refused
}

/// Asks now and then, and has every answer right.
async fn be_honest(sim: &Sim, address: SocketAddr, mut chance: Rng) -> RawClient<SimStream> {
    let mut client = connect(sim, address).await;
    for id in 1..=30 {
        sim.sleep(Duration::from_millis(chance.below(20))).await;
        let number = chance.below(1 << 30);
        let answer = client.request(id, "hall.double", &number.to_string()).await.unwrap();
        assert_eq!(answer, Some(doubled(id, number * 2)));
    }
    client
}

/// Sends what is bad, or becomes bad on its way, and is rid of within a minute.
async fn be_bad(sim: &Sim, address: SocketAddr, mut chance: Rng) {
    sim.sleep(Duration::from_millis(chance.below(300))).await;
    let wire = Wire::default().segment_bytes_max(1 << chance.below(11));
    let mut client = RawClient::new(sim.dial(address, wire).await.unwrap());
    let bytes = match chance.below(3) {
        0 => (0..chance.below(200)).map(|_| chance.next_u64() as u8).collect(),
        1 => corrupted(&mut chance),
        _ => {
            let mut inputs = bad_input();
            inputs.swap_remove(chance.below(inputs.len() as u64) as usize).bytes
        }
    };
    // The server may have hung up already.
    let _ = client.send(&bytes).await;
    if chance.below(4) == 0 {
        return client.into_stream().reset();
    }
    let _ = client.end().await;
    let begin = sim.time();
    let _ = client.rest().await;
    assert!(sim.time().since(begin) < Duration::from_secs(60));
}

/// What an honest client sends, with some bits turned over, and perhaps cut off.
fn corrupted(chance: &mut Rng) -> Vec<u8> {
    let mut bytes = opened(&[
        request(1, "hall.double", "1"),
        zlib(&Body::deflate(b"{}", &mut Scratch::new())),
        request(2, "hall.wait", "0"),
        request(3, "hall.double", "3"),
    ]);
    for _ in 0..=chance.below(8) {
        let at = chance.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << chance.below(8);
    }
    bytes.truncate(bytes.len() - chance.below(bytes.len() as u64 / 2) as usize);
    bytes
}

/// Something that a client must not send.
struct Bad {
    bytes: Vec<u8>,
    /// Why the session is closed; nothing if none had begun.
    reason: &'static str,
    counter: Counter,
}

fn bad_input() -> Vec<Bad> {
    let faulty = |reason, bytes| Bad { bytes, reason, counter: Counter::ConnectionsFaulty };
    let bomb = Body::deflate(&[0; 100_000], &mut Scratch::new()).bytes().to_vec();
    let twice = |id| request(id, "hall.wait", "0");
    let response = Message::Response { id: 1, error: false, body: Body::Plain(b"1") };
    let push = Message::Push { route: Route::Name(b"onTick"), body: Body::Plain(b"1") };
    vec![
        faulty("", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        faulty("", packet(PacketKind::Handshake, b"{\"sys\":")),
        faulty("", packet(PacketKind::Handshake, b"[]")),
        faulty("", packet(PacketKind::Handshake, "[".repeat(4000).as_bytes())),
        faulty("", vec![PacketKind::Handshake as u8, 0xff, 0xff, 0xff]),
        faulty("", ack()),
        faulty("", request(1, "hall.double", "1")),
        faulty("bad packet: wrong packet type 0x00", opened(&[vec![0; 4]])),
        faulty(
            "bad packet: packet body of 16777215 bytes, at most 65536 allowed",
            opened(&[vec![PacketKind::Data as u8, 0xff, 0xff, 0xff]]),
        ),
        faulty("unexpected Handshake packet", opened(&[handshake("again")])),
        faulty(MESSAGES[0].0, opened(&[packet(PacketKind::Data, MESSAGES[0].1)])),
        faulty(MESSAGES[1].0, opened(&[packet(PacketKind::Data, MESSAGES[1].1)])),
        faulty(MESSAGES[2].0, opened(&[packet(PacketKind::Data, MESSAGES[2].1)])),
        faulty("a message that only the other side sends", opened(&[message(&response)])),
        faulty("a message that only the other side sends", opened(&[message(&push)])),
        faulty("request 7 is already in flight", opened(&[twice(7), twice(7)])),
        faulty("route code 9 is not in the dictionary", opened(&[coded(9)])),
        faulty(
            "bad compressed body: malformed zlib stream",
            opened(&[zlib(&Body::Zlib(b"no zlib"))]),
        ),
        faulty(
            "bad compressed body: zlib stream without end",
            opened(&[zlib(&Body::Zlib(&bomb[..9]))]),
        ),
        Bad {
            counter: Counter::BodiesTooLarge,
            ..faulty(
                "bad compressed body: zlib stream inflates to more than allowed",
                opened(&[zlib(&Body::Zlib(&bomb))]),
            )
        },
    ]
}

/// Bodies of data packets that are no messages, and what is said of them.
const MESSAGES: [(&str, &[u8]); 3] = [
    ("bad message: invalid message: fewer than two bytes", b""),
    ("bad message: wrong message type 7", &[0x0e, 1, 1, b'x']),
    ("bad message: invalid message: id without end", &[0x00, 0xff, 0xff]),
];

/// A client that is let in and then sends what follows.
fn opened(messages: &[Vec<u8>]) -> Vec<u8> {
    [handshake("bad"), ack(), messages.concat()].concat()
}

fn coded(code: u16) -> Vec<u8> {
    message(&Message::Request { id: 1, route: Route::Code(code), body: Body::Plain(b"1") })
}

fn zlib(body: &Body<'_>) -> Vec<u8> {
    message(&Message::Request { id: 1, route: Route::Name(b"hall.double"), body: *body })
}

fn doubled(id: u64, number: u64) -> Received {
    Received::Reply(id, number.to_string())
}

/// Why sessions closed.
#[derive(Clone, Default)]
struct Closings(Arc<Mutex<Vec<String>>>);

impl Closings {
    fn reasons(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

async fn start(sim: &Sim, closings: &Closings) -> ServerHandle<Sim> {
    let told = closings.clone();
    let is_named = |name: &str, is: &str| assert_ne!(name, is, "a panic that a test wants");
    let app = App::new(())
        .route("hall.double", double)
        .route("hall.panic", panics)
        .route("hall.wait", wait)
        .on_close(move |session, _| {
            is_named(name(&session.handshake()), "panic on close");
            std::future::ready(())
        })
        .on_close(move |_, reason| {
            told.0.lock().unwrap().push(reason.to_string());
            std::future::ready(())
        });
    let server = Server::new("gate", app).tcp("127.0.0.1:0").validator("panic", move |request| {
        is_named(name(request), "panic");
        Ok(())
    });
    server.start_on(sim.clone()).await.unwrap()
}

async fn double(Payload(number): Payload<u64>) -> Result<u64, Error> {
    Ok(number * 2)
}

async fn panics() -> Result<(), Error> {
    panic!("a panic that a test wants")
}

async fn wait(ctx: Ctx) -> Result<(), Error> {
    ctx.sleep(Duration::from_secs(1)).await;
    Ok(())
}

fn name(handshake: &pitaya_proto::handshake::HandshakeRequest) -> &str {
    let name = handshake.user.as_ref().and_then(|user| user.get("name"));
    name.and_then(|name| name.as_str()).unwrap_or_default()
}

async fn connect(sim: &Sim, address: SocketAddr) -> RawClient<SimStream> {
    let mut client = RawClient::new(sim.connect(address).await.unwrap());
    client.open("honest").await.unwrap();
    client
}

/// Longer than a closed connection stays.
const LINGER: Duration = Duration::from_millis(1500);
