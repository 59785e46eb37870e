//! What becomes of a request whose connection is lost.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::{or, poll_once, zip};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_core::{Counter, Limits, RequestError};
use pitaya_driver::{Acceptor, Client, Listener as _, Runtime as _, Tls};
use pitaya_tests::certificate::Certificate;
use pitaya_tests::sim::{self, Sim, SimStream, Wire, World};

use crate::scene::*;

#[test]
fn wherever_a_connection_breaks_the_fate_of_a_request_is_told_as_it_was() {
    let certificate = Certificate::localhost();
    let mut fates = [0; 3];
    for (at, seed) in sim::seeds(240).into_iter().enumerate() {
        let door = ["tcp", "tls", "ws", "wss"][at / 4 % 4];
        let (to_server, resets) = (at % 2 == 0, at / 2 % 2 == 0);
        let bytes = at / 16 * if to_server { 70 } else { 8 };
        let cut = Cut { bytes, to_server, resets };
        let world = World::new(seed).wire(Wire::default().window_bytes(60));
        let outcomes = world.run(|sim| requests_across(sim, door, &certificate, cut));
        for (outcome, ran) in outcomes {
            match outcome {
                Ok(()) => {
                    assert_eq!(ran, 1, "{door} {cut:?}");
                    fates[0] += 1;
                }
                Err(RequestError::Unknown(error)) => {
                    assert!(error.code == "PIT-499" && ran <= 1, "{door} {cut:?}: {ran} times");
                    fates[1 + ran] += 1;
                }
                Err(error) => panic!("{door} {cut:?}: {error:?} with a server to connect to"),
            }
        }
    }
    let all = fates.iter().all(|count| *count > 0);
    assert!(all || fates.iter().sum::<usize>() == 3, "not all fates were seen: {fates:?}");
}

#[test]
fn a_request_without_a_connection_waits_for_the_next_one() {
    for seed in sim::seeds(50) {
        sim::run(seed, |sim| async move {
            let (listener, client, peer) = connected(&sim, Limits::default()).await;
            peer.into_stream().reset();
            until_away(&client).await;
            let serve = async {
                let mut peer = accept(&listener).await;
                peer.open().await.unwrap();
                let asked = peer.next().await.unwrap();
                peer.answer(&asked, "7").await.unwrap();
                peer
            };
            let (reply, _peer) = zip(client.request::<_, u64>("hall.echo", &7), serve).await;
            assert_eq!(reply, Ok(7));
        });
    }
}

#[test]
fn a_request_that_was_torn_comes_whole_on_the_next_connection() {
    for seed in sim::seeds(50) {
        let wire = Wire::default().window_bytes(600);
        World::new(seed).wire(wire).run(|sim| async move {
            let (listener, client, peer) = connected(&sim, Limits::default()).await;
            let body = "x".repeat(2000);
            let serve = async {
                // It is half written, as nobody reads.
                sim.sleep(Duration::from_millis(100)).await;
                peer.into_stream().reset();
                let mut peer = accept(&listener).await;
                peer.open().await.unwrap();
                let asked = peer.next().await.unwrap();
                peer.answer(&asked, "7").await.unwrap();
                peer
            };
            let (reply, _peer) = zip(client.request::<_, u64>("hall.echo", &body), serve).await;
            assert_eq!(reply, Ok(7));
        });
    }
}

#[test]
fn a_request_that_waits_for_a_connection_in_vain_was_not_sent() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let (listener, client, peer) = connected(&sim, Limits::default()).await;
            drop((listener, peer));
            until_away(&client).await;
            let began = sim.time();
            let hasty = client.within(Duration::from_secs(3));
            let reply = hasty.request::<_, u64>("hall.echo", &7).await;
            let RequestError::Unsent(error) = reply.unwrap_err() else { panic!("sent") };
            assert_eq!(error.code, "PIT-504");
            assert_near(sim.time().since(began), Duration::from_secs(3));
            assert_eq!(client.config().counters.count(Counter::RequestsExpired), 1);
            let RequestError::Unsent(error) = client.notify("hall.tell", &7).unwrap_err() else {
                panic!("sent")
            };
            assert_eq!(error.code, "PIT-499");

            let (reply, ()) = zip(client.request::<_, u64>("hall.echo", &7), client.close()).await;
            let RequestError::Unsent(error) = reply.unwrap_err() else { panic!("sent") };
            assert_eq!(error.metadata["reason"], "closed by the application");
        });
    }
}

#[test]
fn requests_that_wait_for_a_connection_are_bounded() {
    sim::run(1, |sim| async move {
        let (listener, client, peer) = connected(&sim, Limits::default().in_flight_max(2)).await;
        drop((listener, peer));
        until_away(&client).await;
        let mut waiting = Vec::new();
        for _ in 0..2 {
            let mut request = Box::pin(client.request::<_, u64>("hall.echo", &7));
            assert_eq!(poll_once(&mut request).await, None);
            waiting.push(request);
        }
        let reply = client.request::<_, u64>("hall.echo", &7).await;
        let RequestError::Unsent(error) = reply.unwrap_err() else { panic!("sent") };
        assert_eq!(error.code, "PIT-429");
        assert_eq!(client.config().counters.count(Counter::RequestsRefused), 1);
        waiting.pop();
        let mut request = Box::pin(client.request::<_, u64>("hall.echo", &7));
        assert_eq!(poll_once(&mut request).await, None, "there is room again");
    });
}

#[test]
fn a_close_waits_for_what_was_sent_but_not_for_ever() {
    for seed in sim::seeds(20) {
        let wire = Wire::default().window_bytes(600);
        World::new(seed).wire(wire).run(|sim| async move {
            let (_listener, client, mut peer) = connected(&sim, Limits::default()).await;
            let body = "x".repeat(5000);
            client.notify("hall.note", &body).unwrap();
            let (note, ()) = zip(peer.next(), client.close()).await;
            assert_eq!(note.unwrap().body, format!("\"{body}\"").into_bytes());

            let (_listener, client, _deaf) = connected(&sim, Limits::default()).await;
            client.notify("hall.note", &body).unwrap();
            let began = sim.time();
            client.close().await;
            let took = sim.time().since(began).as_secs_f64();
            assert!((4.9..6.2).contains(&took), "{took} s");
        });
    }
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    bytes: usize,
    to_server: bool,
    resets: bool,
}

/// Asks a server three things at once, across a wire that is cut once. What came of each, and how
/// often its handler ran.
async fn requests_across(
    sim: Sim, door: &str, certificate: &Certificate, cut: Cut,
) -> [(Result<(), RequestError>, usize); 3] {
    let notes = Notes::default();
    let tls = || Tls::from_pem(&certificate.chain, &certificate.key).unwrap();
    let acceptor = match door {
        "tls" => Acceptor::tls(ANY, tls()),
        "ws" => Acceptor::ws(ANY),
        "wss" => Acceptor::wss(ANY, tls()),
        _ => Acceptor::tcp(ANY),
    };
    let server = hall_with(&sim, acceptor, notes.clone()).await;
    let listener = sim.bind(ANY.parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (target, armed) = (server.addresses()[0], Arc::new(Mutex::new(None)));
    let (between, arms) = (sim.clone(), Arc::clone(&armed));
    sim.spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = between.connect(target).await.unwrap();
            forward(client, server, &arms).await;
        }
    });
    let client = Client::<Sim>::builder(format!("{door}://{address}")).ca(&*certificate.chain);
    let client = client.connect_on(sim.clone()).await.unwrap();
    *armed.lock().unwrap() = Some(cut);
    let [first, second, third] = [1, 2, 3].map(|number| (number, "x".repeat(300)));
    let [first, second, third] =
        [&first, &second, &third].map(|argument| client.request("hall.count", argument));
    let ((first, second), third) = zip(zip(first, second), third).await;
    // What is on its way still arrives.
    sim.sleep(Duration::from_secs(1)).await;
    let ran = notes.take();
    let times = |number: &str| ran.iter().filter(|note| *note == number).count();
    [(first, times("1")), (second, times("2")), (third, times("3"))]
}

/// Carries bytes both ways until one end ends, or the cut comes.
async fn forward(mut client: SimStream, mut server: SimStream, armed: &Mutex<Option<Cut>>) {
    let (mut up, mut down) = ([0; 64], [0; 64]);
    loop {
        let upward = async { (true, client.read(&mut up).await.unwrap_or(0)) };
        let downward = async { (false, server.read(&mut down).await.unwrap_or(0)) };
        let (to_server, count) = or(upward, downward).await;
        let mut count = count;
        let cuts = {
            let mut armed = armed.lock().unwrap();
            match armed.as_mut().filter(|cut| cut.to_server == to_server) {
                Some(cut) if cut.bytes <= count => {
                    count = cut.bytes;
                    armed.take()
                }
                Some(cut) => {
                    cut.bytes -= count;
                    None
                }
                None => None,
            }
        };
        let (out, bytes) = if to_server { (&mut server, &up) } else { (&mut client, &down) };
        if out.write_all(&bytes[..count]).await.is_err() || (count == 0 && cuts.is_none()) {
            return;
        }
        if let Some(cut) = cuts {
            if cut.resets {
                client.reset();
                server.reset();
            }
            return;
        }
    }
}
