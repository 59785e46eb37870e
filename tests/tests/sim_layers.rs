//! What stands between a socket and the protocol, in simulated time: how long each part may take,
//! and that the last word is heard.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_core::{App, ClientConfig, Counter, Ctx, Error, Limits, Payload};
use pitaya_driver::{Acceptor, Client, Runtime as _, Server, ServerHandle};
use pitaya_tests::doors::{Door, Doors, Stream};
use pitaya_tests::raw::{RawClient, Received, ack, handshake, notify, request};
use pitaya_tests::sim::{self, Sim, Wire, World};
use pitaya_tests::web::{self, BINARY, CLOSE, CONTINUATION, frame};

#[test]
fn once_the_layers_are_open_a_handshake_has_5_seconds_at_every_door() {
    on_every_seed(async |sim| {
        for door in Door::OPEN {
            let (_server, doors) = start(&sim, Limits::default()).await;
            let came = sim.time();
            let mut silent = RawClient::new(doors.enter(door).await.unwrap());
            silent.rest().await.unwrap();
            assert_took(&sim, came, 5.0, door);

            let came = sim.time();
            let mut deaf = RawClient::new(doors.enter(door).await.unwrap());
            sim.sleep(Duration::from_millis(4900)).await;
            deaf.send(&handshake("nobody")).await.unwrap();
            assert_eq!(deaf.rest().await.unwrap(), [Received::Handshake(200)]);
            assert_took(&sim, came, 9.9, door);
        }
    });
}

#[test]
fn what_a_layer_takes_is_not_taken_from_the_handshake() {
    on_every_seed(async |sim| {
        for door in [Door::Tls, Door::Ws, Door::Wss] {
            let (_server, doors) = start(&sim, Limits::default()).await;
            let came = sim.time();
            let mut io = doors.knock(door).await.unwrap();
            sim.sleep(Duration::from_millis(4900)).await;
            if door != Door::Ws {
                io = doors.speak_tls(io).await.unwrap();
            }
            if door == Door::Wss {
                sim.sleep(Duration::from_millis(4900)).await;
            }
            if door != Door::Tls {
                web::open(&mut io).await.unwrap();
            }
            read_to_end(&mut io).await.unwrap();
            assert_took(&sim, came, if door == Door::Wss { 14.8 } else { 9.9 }, door);
        }
    });
}

#[test]
fn a_message_that_began_before_a_pause_has_to_end_after_it() {
    let one_call = Limits::default().calls_max(1);
    let short_turns = Limits::default().turn_events_max(1);
    for (limits, seconds) in [(one_call, 10.3), (short_turns, 10.0)] {
        on_every_seed(async |sim| {
            let (server, doors) = start(&sim, limits.clone()).await;
            let mut io = doors.enter_bare(Door::Ws).await.unwrap();
            let whole = |packet: &[u8]| frame(BINARY, true, packet);
            io.write_all(&whole(&handshake("ann"))).await.unwrap();
            assert_ne!(io.read(&mut [0; 1024]).await.unwrap(), 0);
            let naps = [1, 2, 3].map(|id| whole(&request(id, "hall.nap", "100"))).concat();
            let begun = [frame(BINARY, false, b"\x04"), frame(CONTINUATION, false, b"\0")].concat();
            let came = sim.time();
            io.write_all(&[whole(&ack()), naps, begun].concat()).await.unwrap();
            read_to_end(&mut io).await.unwrap();
            assert_took(&sim, came, seconds, Door::Ws);
            assert_eq!(server.counters().count(Counter::PacketsUnfinished), 1);
        });
    }
}

#[test]
fn a_client_has_its_connect_timeout_for_all_layers_together() {
    let slow = Wire::default().delay(Duration::from_secs(3)..=Duration::from_secs(3));
    for (seed, scheme) in sim::seeds(4).into_iter().zip(["tcp", "tls", "ws", "wss"].repeat(4)) {
        World::new(seed).wire(slow.clone()).run(|sim| async move {
            let patient = |limits: Limits| {
                let minute = Duration::from_secs(60);
                limits.tls_timeout(minute).upgrade_timeout(minute).handshake_timeout(minute)
            };
            let (server, _) = start(&sim, patient(Limits::default())).await;
            let door = ["tcp", "tls", "ws", "wss"].iter().position(|it| *it == scheme).unwrap();
            let url = format!("{scheme}://{}", server.addresses()[door]);
            let connect = async |seconds| {
                let limits = Limits::default().connect_timeout(Duration::from_secs(seconds));
                let config = ClientConfig { limits, ..ClientConfig::default() };
                let client = Client::<Sim>::builder(&*url).config(config);
                client.insecure_trusting_anybody().connect_on(sim.clone()).await
            };
            assert!(connect(11).await.is_err(), "two trips to dial, two for the handshake");
            assert_eq!(connect(60).await.err(), None);
        });
    }
}

#[test]
fn what_comes_in_one_piece_with_the_end_of_a_layer_is_taken_before_it() {
    const CALLS: usize = 100;
    on_every_seed(async |sim| {
        let turns = Limits::default().turn_events_max(3).calls_max(1);
        let (server, doors) = start(&sim, turns).await;
        for (at, door) in [Door::Tls, Door::Ws, Door::Wss].into_iter().enumerate() {
            let mut io = doors.enter_bare(door).await.unwrap();
            let whole = |packet: Vec<u8>| {
                if door.is_web() { frame(BINARY, true, &packet) } else { packet }
            };
            io.write_all(&whole(handshake("ann"))).await.unwrap();
            assert_ne!(io.read(&mut [0; 1024]).await.unwrap(), 0);
            let calls = notify("hall.nap", "1").repeat(CALLS);
            let end = if door.is_web() { frame(CLOSE, true, &[]) } else { Vec::new() };
            io.write_all(&[whole(ack()), whole(calls), end].concat()).await.unwrap();
            io.close().await.unwrap();
            read_to_end(&mut io).await.unwrap();
            let started = server.counters().count(Counter::CallsStarted);
            assert_eq!(started, (CALLS * (at + 1)) as u64, "{door:?}");
            assert_eq!(server.counters().count(Counter::ConnectionsFaulty), 0, "{door:?}");
        }
    });
}

#[test]
fn a_last_word_is_heard_however_much_follows_what_was_wrong() {
    on_every_seed(async |sim| {
        let (server, doors) = start(&sim, Limits::default()).await;
        for door in [Door::Ws, Door::Wss] {
            let mut io = doors.enter_bare(door).await.unwrap();
            let too_long = frame(BINARY, true, &[4; 100 << 10]);
            let heard = say_and_hear(&mut io, &too_long).await;
            assert_eq!(heard[2..4], 1009_u16.to_be_bytes(), "{door:?}: {heard:?}");

            let mut io = doors.knock(door).await.unwrap();
            if door == Door::Wss {
                io = doors.speak_tls(io).await.unwrap();
            }
            let post = [b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", &[b'a'; 100 << 10][..]].concat();
            let heard = say_and_hear(&mut io, &post).await;
            assert!(heard.starts_with(b"HTTP/1.1 405"), "{door:?}: {heard:?}");
        }
        sim.sleep(Duration::from_millis(1100)).await;
        assert_eq!(server.connections(), 0, "nobody is listened to for longer");
    });
}

#[test]
fn a_page_that_is_read_bit_by_bit_is_given_up_after_half_a_minute() {
    on_every_seed(async |sim| {
        let page = Acceptor::ws(ANY).page("/", "text/plain", vec![b'a'; 100 << 10]);
        let server = Server::new("gate", app()).accept(page).start_on(sim.clone()).await.unwrap();
        let narrow = Wire::default().window_bytes(1 << 10);
        for (pause, bytes, is_whole) in [(100, 1 << 10, true), (500, 512, false)] {
            let mut io = sim.dial(server.addresses()[0], narrow.clone()).await.unwrap();
            io.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let (came, mut read) = (sim.time(), 0);
            while let Ok(count @ 1..) = io.read(&mut vec![0; bytes]).await {
                read += count;
                sim.sleep(Duration::from_millis(pause)).await;
            }
            let took = sim.time().since(came).as_secs_f64();
            assert_eq!(read > 100 << 10, is_whole, "{read} bytes in {took} s");
            assert!(took < 33.0, "{took}");
        }
        assert_eq!(server.connections(), 0);
    });
}

#[test]
fn who_says_nothing_behind_a_proxy_makes_room_and_holds_up_no_shutdown() {
    on_every_seed(async |sim| {
        let limits = Limits::default().proxy_timeout(Duration::from_secs(60)).handshaking_max(1);
        let (server, doors) = start(&sim, limits).await;
        let mut silent = doors.knock(Door::ProxiedTcp).await.unwrap();
        sim.sleep(Duration::from_millis(10)).await;
        let came = sim.time();
        let mut newcomer = doors.open(Door::ProxiedTcp).await.unwrap();
        assert!(newcomer.request(1, "hall.nap", "0").await.unwrap().is_some());
        assert_took(&sim, came, 2.0, Door::ProxiedTcp);
        read_to_end(&mut silent).await.unwrap();
        assert_eq!(server.counters().count(Counter::ConnectionsShed), 1);

        let mut silent = doors.knock(Door::ProxiedTcp).await.unwrap();
        sim.sleep(Duration::from_millis(10)).await;
        let (came, counters) = (sim.time(), Arc::clone(server.counters()));
        drop(newcomer);
        server.shutdown().await;
        assert!(sim.time().since(came) < Duration::from_secs(1), "{:?}", sim.time().since(came));
        assert_eq!(counters.count(Counter::ShutdownsCut), 0);
        read_to_end(&mut silent).await.unwrap();
    });
}

#[test]
fn a_write_that_fails_at_the_end_of_a_turn_is_still_the_reason_that_is_told() {
    on_every_seed(async |sim| {
        let reasons = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&reasons);
        let app = app().on_close(move |_, reason| {
            told.lock().unwrap().push(reason.to_string());
            std::future::ready(())
        });
        // Another call is taken in the turn in which the answer to the first cannot be written.
        let limits = Limits::default().turn_events_max(1).calls_max(1);
        let server = Server::new("gate", app).limits(limits).tcp(ANY);
        let server = server.start_on(sim.clone()).await.unwrap();
        let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
        client.open("ann").await.unwrap();
        let more = notify("hall.nap", "0").repeat(50);
        client.send(&[request(1, "hall.nap", "100"), more].concat()).await.unwrap();
        sim.sleep(Duration::from_millis(50)).await;
        client.into_stream().reset();
        sim.sleep(Duration::from_secs(1)).await;
        assert_eq!(*reasons.lock().unwrap(), ["the socket failed: broken pipe"]);
        assert_eq!(server.connections(), 0);
    });
}

async fn start(sim: &Sim, limits: Limits) -> (ServerHandle<Sim>, Doors) {
    Doors::start(sim, Server::new("gate", app()).limits(limits)).await.unwrap()
}

fn app() -> App {
    App::new(()).route("hall.nap", nap)
}

async fn nap(ctx: Ctx, Payload(millis): Payload<u64>) -> Result<u64, Error> {
    ctx.sleep(Duration::from_millis(millis)).await;
    Ok(millis)
}

/// Says all of it, as far as it is taken, and only then looks at what was answered.
async fn say_and_hear(io: &mut Box<dyn Stream>, bytes: &[u8]) -> Vec<u8> {
    // The server may close before it has all of it.
    let _ = io.write_all(bytes).await;
    let _ = io.flush().await;
    read_to_end(io).await.unwrap()
}

async fn read_to_end(io: &mut Box<dyn Stream>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    io.read_to_end(&mut all).await.map(|_| all)
}

fn assert_took(sim: &Sim, since: pitaya_core::Instant, seconds: f64, door: Door) {
    let took = sim.time().since(since).as_secs_f64();
    assert!((seconds - 0.05..seconds + 0.2).contains(&took), "{door:?}: {took}");
}

fn on_every_seed<F: Future<Output = ()>>(test: impl Fn(Sim) -> F) {
    sim::seeds(10).into_iter().for_each(|seed| sim::run(seed, &test));
}

/// Any free port.
const ANY: &str = "127.0.0.1:0";
