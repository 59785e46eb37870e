//! A client that loses its connection, in the simulator: what becomes of its requests, when it
//! comes back, and when it does not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "client_reconnect/crossroads.rs"]
mod crossroads;
#[path = "client_reconnect/requests.rs"]
mod requests;
#[path = "client_reconnect/scene.rs"]
mod scene;

use std::time::Duration;

use futures_lite::future::{or, poll_once, zip};
use pitaya_core::{CloseReason, Counter, Error, Limits, RequestError};
use pitaya_driver::{Client, ClientState, ConnectError, Listener as _, Runtime as _};
use pitaya_tests::sim::{self, Sim};

use scene::*;

#[test]
fn states_are_told_as_they_come() {
    for seed in sim::seeds(50) {
        sim::run(seed, |sim| async move {
            let (listener, client, peer) = connected(&sim, Limits::default()).await;
            let mut states = client.states();
            assert_eq!(states.next().await, Some(ClientState::Open));
            assert_eq!(poll_once(states.next()).await, None);
            drop(peer);
            let Some(ClientState::Reconnecting { attempt: 1, delay, reason }) = states.next().await
            else {
                panic!("it does not reconnect")
            };
            let lost = sim.time();
            assert_eq!(reason, CloseReason::PeerClosed);
            assert!((0.5..=1.0).contains(&delay.as_secs_f64()), "{delay:?}");
            assert_eq!(states.next().await, Some(ClientState::Connecting));
            assert_near(sim.time().since(lost), delay);
            let mut peer = accept(&listener).await;
            peer.open().await.unwrap();
            assert_eq!(states.next().await, Some(ClientState::Open));
            peer.send(&kick("be nice")).await.unwrap();
            let kicked = CloseReason::Kicked(Some("be nice".to_owned()));
            assert_eq!(states.next().await, Some(ClientState::Closed(kicked.clone())));
            assert_eq!(states.next().await, None);
            assert_eq!(client.closed().await, kicked);
            assert_eq!(client.states().next().await, Some(ClientState::Closed(kicked)));
        });
    }
}

#[test]
fn what_is_lost_is_replaced_and_what_was_decided_is_not() {
    let kicked = CloseReason::Kicked(None);
    let refused = CloseReason::HandshakeRefused("the server answers with code 400".to_owned());
    for (end, stays) in [
        (End::Close, None),
        (End::Reset, None),
        (End::Silence, None),
        (End::Garbage, None),
        (End::Kick, Some(kicked)),
        (End::Refuse, Some(refused)),
    ] {
        for seed in sim::seeds(10) {
            let reason = sim::run(seed, |sim| outcome_of(sim, end));
            assert_eq!(reason, stays, "{end:?}");
        }
    }
}

#[test]
fn a_client_whose_server_stays_away_gives_up_after_as_many_attempts_as_it_may() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let limits = Limits::default().reconnect_attempts_max(6);
            let (listener, client, peer) = connected(&sim, limits).await;
            drop((listener, peer));
            let began = sim.time();
            let reason = client.closed().await;
            assert_eq!(reason, CloseReason::Io(std::io::ErrorKind::ConnectionRefused));
            let took = sim.time().since(began).as_secs_f64();
            // Six times half a second; 1, 2, 4, 8, 16 and 30 seconds.
            assert!((3.0..61.5).contains(&took), "{took} s");
            let counters = &client.config().counters;
            assert_eq!(counters.count(Counter::Reconnects), 6);
            assert_eq!(counters.count(Counter::ReconnectsGivenUp), 1);
            let late = client.request::<_, u64>("hall.echo", &7).await;
            assert!(matches!(late, Err(RequestError::Unsent(_))), "{late:?}");
        });
    }
}

#[test]
fn a_panic_in_what_is_done_first_closes_the_client_and_nothing_else() {
    sim::run(1, |sim| async move {
        let server = hall(&sim, ANY).await;
        let address = server.addresses()[0].to_string();
        let client = Client::builder(address).on_connected(|_| async { panic!("it has a fault") });
        let failure = client.connect_on(sim).await.unwrap_err();
        assert!(matches!(failure, ConnectError::Closed { .. }), "{failure}");
    });
}

#[test]
fn a_server_that_answers_no_handshake_is_given_its_time_and_tried_again() {
    sim::run(1, |sim| async move {
        let (listener, client, peer) = connected(&sim, Limits::default()).await;
        drop(peer);
        let deaf = accept(&listener).await;
        let mut states = client.states();
        let reason = loop {
            if let Some(ClientState::Reconnecting { attempt: 2, reason, .. }) = states.next().await
            {
                break reason;
            }
        };
        assert_eq!(reason, CloseReason::HandshakeTimeout);
        accept(&listener).await.open().await.unwrap();
        drop(deaf);
    });
}

#[test]
fn a_hundred_clients_of_a_server_that_was_lost_come_back_one_by_one() {
    for seed in sim::seeds(10) {
        sim::run(seed, |sim| async move {
            let listener = sim.bind(ANY.parse().unwrap()).await.unwrap();
            let address = listener.local_addr().unwrap();
            let (mut clients, mut peers) = (Vec::new(), Vec::new());
            for _ in 0..100 {
                let connect = connect(&sim, address, Limits::default());
                let (client, peer) = zip(connect, accept_open(&listener)).await;
                clients.push(client);
                peers.push(peer);
            }
            let lost = sim.time();
            peers.clear();
            let mut tenths = [0; 10];
            for _ in 0..100 {
                peers.push(accept(&listener).await);
                let after = sim.time().since(lost).as_millis();
                assert!((500..1020).contains(&after), "after {after} ms");
                tenths[(after as usize - 500) / 52] += 1;
            }
            assert!(tenths.iter().all(|count| (1..=25).contains(count)), "{tenths:?}");
        });
    }
}

#[test]
fn a_subscription_goes_on_over_the_next_connection() {
    for seed in sim::seeds(20) {
        sim::run(seed, |sim| async move {
            let server = hall(&sim, ANY).await;
            let address = server.addresses()[0];
            let client = connect(&sim, address, Limits::default()).await;
            let mut ticks = client.subscribe::<u64>("onTick");
            assert_eq!(client.request("hall.tick", &1).await, Ok(()));
            server.shutdown().await;
            let _server = hall(&sim, &address.to_string()).await;
            assert_eq!(client.request("hall.tick", &2).await, Ok(()));
            assert_eq!((ticks.next().await, ticks.next().await), (Some(1), Some(2)));
            client.close().await;
            assert_eq!(ticks.next().await, None);
        });
    }
}

#[test]
fn what_is_done_on_connecting_comes_before_all_else_on_every_connection() {
    for seed in sim::seeds(50) {
        sim::run(seed, |sim| async move {
            let server = hall(&sim, ANY).await;
            let address = server.addresses()[0];
            let client = Client::<Sim>::builder(address.to_string())
                .on_connected(|client| async move {
                    client.request::<_, ()>("hall.bind", &"ada").await?;
                    client.notify("hall.note", &"after the login")
                })
                .connect_on(sim.clone())
                .await
                .unwrap();
            assert_eq!(client.request("hall.who", &()).await, Ok("ada".to_owned()));
            server.shutdown().await;
            let server = hall(&sim, &address.to_string()).await;
            assert_eq!(client.request("hall.who", &()).await, Ok("ada".to_owned()));
            assert_eq!(server.kick("ada", ""), Ok(()));
            assert_eq!(client.closed().await, CloseReason::Kicked(None));
        });
    }
}

#[test]
fn a_login_that_is_refused_closes_the_client_and_one_that_is_lost_is_repeated() {
    sim::run(1, |sim| async move {
        let server = hall(&sim, ANY).await;
        let address = server.addresses()[0];
        let builder = || {
            Client::<Sim>::builder(address.to_string())
                .on_connected(|client| async move { client.request("hall.login", &()).await })
        };
        let refused = Error::new("LOGIN-1", "once is enough");
        let client = builder().connect_on(sim.clone()).await.unwrap();
        let ConnectError::Login { error, .. } =
            builder().connect_on(sim.clone()).await.unwrap_err()
        else {
            panic!("let in")
        };
        assert_eq!(error, RequestError::Answered(refused.clone()));
        server.shutdown().await;
        let listener = sim.bind(address).await.unwrap();
        let mut states = client.states();
        for _ in 0..2 {
            let mut peer = accept(&listener).await;
            peer.open().await.unwrap();
            peer.next().await.unwrap();
            peer.into_stream().reset();
        }
        let mut peer = accept(&listener).await;
        peer.open().await.unwrap();
        let asked = peer.next().await.unwrap();
        peer.fail(&asked, &refused).await.unwrap();
        assert_eq!(client.closed().await, CloseReason::LoginRefused(Box::new(refused)));
        assert!(matches!(states.next().await, Some(ClientState::Closed(_))));
    });
}

#[test]
fn a_login_that_never_ends_is_given_up_in_time() {
    sim::run(1, |sim| async move {
        let server = hall(&sim, ANY).await;
        let address = server.addresses()[0].to_string();
        let began = sim.time();
        let connected = Client::<Sim>::builder(&address)
            .on_connected(|_| std::future::pending())
            .connect_on(sim.clone())
            .await;
        assert_eq!(connected.unwrap_err(), ConnectError::Timeout { address });
        assert_near(sim.time().since(began), Duration::from_secs(5));
    });
}

#[test]
fn a_client_that_nobody_holds_does_not_come_back() {
    sim::run(1, |sim| async move {
        let (listener, client, peer) = connected(&sim, Limits::default()).await;
        drop(peer);
        until_away(&client).await;
        drop(client);
        let late = async {
            sim.sleep(Duration::from_secs(600)).await;
            None
        };
        let back = or(async { Some(accept(&listener).await) }, late).await;
        assert!(back.is_none());
    });
}

#[test]
fn each_notify_that_is_not_sent_is_counted_once() {
    sim::run(1, |sim| async move {
        let limits = Limits::default().outbound_packets_max(2);
        let (_listener, client, peer) = connected(&sim, limits).await;
        let dropped = || client.config().counters.count(Counter::NotifiesDropped);
        let sent: Vec<_> = (0..5).map(|_| client.notify("hall.note", &"a").is_ok()).collect();
        assert_eq!((sent, dropped()), (vec![true, true, false, false, false], 3));
        client.notify(&"a".repeat(256), &"a").unwrap_err();
        client.notify_raw("hall.note", vec![0; 1 << 24].into()).unwrap_err();
        assert_eq!(dropped(), 5);
        drop(peer);
        until_away(&client).await;
        client.notify("hall.note", &"a").unwrap_err();
        assert_eq!(dropped(), 6);
    });
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Garbage,
    Kick,
    Refuse,
    Reset,
    Silence,
}

/// Ends the connection of a client. Nothing, if it comes back; or why not.
async fn outcome_of(sim: Sim, end: End) -> Option<CloseReason> {
    let (listener, client, mut peer) = connected(&sim, Limits::default()).await;
    match end {
        End::Close => drop(peer),
        End::Garbage => {
            peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            peer.drain().await;
        }
        End::Kick => peer.send(&kick("")).await.unwrap(),
        End::Refuse => {
            drop(peer);
            accept(&listener).await.refuse().await.unwrap();
        }
        End::Reset => peer.into_stream().reset(),
        End::Silence => sim.spawn(async move {
            std::future::pending::<()>().await;
            drop(peer);
        }),
    }
    let back = async {
        accept(&listener).await.open().await.unwrap();
        None
    };
    or(back, async { Some(client.closed().await) }).await
}
