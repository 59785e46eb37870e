//! Our client against Pitaya's own server, a process of its own for each test, on both runtimes.

use std::any::type_name;
use std::cell::RefCell;
use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::{or, poll_once, zip};
use pitaya_core::{
    ClientConfig, CloseReason, Counter, Dictionary, Error, Json, Limits, Protobuf, RequestError,
    Rng,
};
use pitaya_driver::{Client, ClientBuilder, ConnectError, Native, Timer as _};

use crate::app::{Number, Speaks, Text, Uid};
use crate::cases::{Serializer, Settings, Transport};
use crate::certificate;
use crate::go::{self, Go, Server};
use crate::host::DICTIONARY;
use crate::table;

async fn requests_are_answered<R: Native>(go: Go) {
    async fn ask<R: Native, C: Speaks>(go: Go, settings: Settings) {
        let (_server, client) = connected::<R, C>(go, settings).await;
        assert_eq!(client.server().heartbeat, HEARTBEAT);
        assert_eq!(client.server().dictionary.iter().count(), 0);
        for msg in ["good", "", "ação, 你好, \u{1f3ae}, \"quoted\", tab\t, line\n"] {
            for route in ["connector.testsvc.echo", "testsvc.echo"] {
                echoes(&client, route, msg).await;
            }
        }
    }
    ask::<R, Json>(go, JSON).await;
    ask::<R, Protobuf>(go, PROTOBUF).await;
}

async fn bytes_pass_as_they_are_compressed_or_not<R: Native>(go: Go) {
    let mut random = Rng::new(1);
    let incompressible: Bytes = (0..60_001).map(|_| random.next_u64() as u8).collect();
    let bodies = [Bytes::new(), (0..=255).collect(), vec![b'a'; 60_000].into(), incompressible];
    for compression in [true, false] {
        let server = Server::start(go, Settings { compression, ..JSON });
        for compression in [true, false] {
            let config = ClientConfig { compression, ..ClientConfig::default() };
            let client = connect::<R, Json>(&server, config).await.unwrap();
            let mut pushes = client.subscribe_raw("onRaw");
            for body in &bodies {
                assert_eq!(client.request_raw(RAW, body.clone()).await.as_ref(), Ok(body));
                assert_eq!(client.request_raw(PUSHRAW, body.clone()).await.as_ref(), Ok(body));
                assert_eq!(pushes.next().await.as_ref(), Some(body));
            }
        }
    }
}

async fn notifies_arrive_and_are_not_answered<R: Native>(go: Go) {
    let (_server, client) = connected::<R, Json>(go, JSON).await;
    for _ in 0..3 {
        client.notify_raw(WAVE, Bytes::new()).unwrap();
    }
    client.notify_raw(NOWHERE, Bytes::new()).unwrap();
    client.notify(ECHO, &text("nobody waits")).unwrap();
    // Pitaya for Go runs the calls of a session side by side, so the third may take a while.
    while waves(&client).await != 3 {}
    echoes(&client, ECHO, "after the notifies").await;
    assert_eq!(waves(&client).await, 3);
    assert_eq!(client.config().counters.count(Counter::RepliesLate), 0);
}

async fn a_session_is_bound_once<R: Native>(go: Go) {
    async fn bind<R: Native, C: Speaks>(go: Go, settings: Settings) {
        let (server, client) = connected::<R, C>(go, settings).await;
        assert_eq!(bound(&client, "").await, Err(Error::unknown("illegal uid")));
        assert_eq!(whoami(&client).await, "");
        assert_eq!(bound(&client, "ada").await, Ok(uid("ada")));
        let again = bound(&client, "bea").await;
        assert_eq!(again, Err(Error::unknown("session is already bound to an uid")));
        assert_eq!(whoami(&client).await, "ada");
        client.close().await;
        assert_eq!(client.closed().await, CloseReason::Closed);

        let next = connect::<R, C>(&server, ClientConfig::default()).await.unwrap();
        assert_eq!(whoami(&next).await, "");
        assert_eq!(bound(&next, "ada").await, Ok(uid("ada")));
    }
    bind::<R, Json>(go, JSON).await;
    bind::<R, Protobuf>(go, PROTOBUF).await;
}

/// Unlike our server, Go's closes the older session without a kick.
async fn a_newer_login_ends_the_older<R: Native>(go: Go) {
    let (server, older) = connected::<R, Json>(go, JSON).await;
    let newer = connect::<R, Json>(&server, ClientConfig::default()).await.unwrap();
    bound(&older, "ada").await.unwrap();
    bound(&newer, "ada").await.unwrap();
    assert_eq!(older.closed().await, CloseReason::PeerClosed);
    assert_eq!(whoami(&newer).await, "ada");
}

async fn pushes_come_in_order_to_their_session_alone<R: Native>(go: Go) {
    async fn push<R: Native, C: Speaks>(go: Go, settings: Settings) {
        let (server, client) = connected::<R, C>(go, settings).await;
        let other = connect::<R, C>(&server, ClientConfig::default()).await.unwrap();
        let mut pushes = client.subscribe::<Number>("onNumber");
        let mut others = other.subscribe::<Number>("onNumber");
        assert_eq!(client.request(PUSHME, &Number { n: 100 }).await, Ok(Number { n: 100 }));
        for n in 1..=100 {
            assert_eq!(pushes.next().await, Some(Number { n }));
        }
        echoes(&other, ECHO, "nothing came").await;
        assert_eq!(poll_once(others.next()).await, None);
        assert_eq!(poll_once(pushes.next()).await, None);
    }
    push::<R, Json>(go, JSON).await;
    push::<R, Protobuf>(go, PROTOBUF).await;
}

async fn a_kick_ends_the_connection_and_what_waits<R: Native>(go: Go) {
    let (_server, client) = connected::<R, Json>(go, JSON).await;
    // The session is closed when the handler ends, so Go's server sends no reply.
    assert_eq!(ask_to_be_kicked(&client).await.error().code, "PIT-499");
    let reason = client.closed().await;
    assert!(matches!(reason, CloseReason::Kicked(_)), "{reason}");
    let unsent = client.notify_raw(WAVE, Bytes::new()).unwrap_err();
    assert_eq!(unsent.error().code, "PIT-499");
}

/// Asks again where Go's server stumbled: it writes a kick past the queue of all else that it
/// writes, and its WebSocket panics if a beat or an answer is being written.
async fn ask_to_be_kicked<R: Native>(client: &Client<R, Json>) -> RequestError {
    let collided = Error::unknown("concurrent write to websocket connection");
    let mut error = RequestError::Answered(collided.clone());
    for _ in 0..KICKS_MAX {
        error = client.request_raw("connector.testsvc.kickme", Bytes::new()).await.unwrap_err();
        if error != RequestError::Answered(collided.clone()) {
            break;
        }
    }
    error
}

async fn errors_come_with_code_text_and_metadata<R: Native>(go: Go) {
    async fn fail<R: Native, C: Speaks>(go: Go, settings: Settings) {
        let (_server, client) = connected::<R, C>(go, settings).await;
        let not_found = "pitaya/handler: connector.testsvc.nonexistenthandler not found";
        let meta = Error::new("PIT-433", "test error").with_metadata("some", "meta");
        for (route, wanted) in [
            ("connector.testsvc.fail", meta),
            ("connector.testsvc.failcode", Error::new("PIT-555", "somerror")),
            ("connector.testsvc.failplain", Error::new("PIT-000", "plain error")),
            (NOWHERE, Error::new("PIT-404", not_found)),
            ("testsvc.nonexistenthandler", Error::new("PIT-404", not_found)),
            (WAVE, Error::new("PIT-400", "tried to request a notify route")),
            ("a.b.c.d", Error::new("PIT-400", "invalid route")),
            ("connector..echo", Error::new("PIT-400", "route field can not be empty")),
        ] {
            let answer = client.request_raw(route, Bytes::new()).await;
            assert_eq!(answer, Err(RequestError::Answered(wanted)));
        }
        let panicked = client.request_raw("connector.testsvc.panics", Bytes::new()).await;
        let Error { code, msg, .. } = panicked.unwrap_err().into();
        assert!(code == "PIT-000" && msg.starts_with("rpc call internal error - "), "{msg}");
        let unreadable = client.request_raw(ECHO, Bytes::from_static(b"\xff")).await;
        assert_eq!(unreadable.unwrap_err().error().code, "PIT-400");
        echoes(&client, ECHO, "after the errors").await;
    }
    fail::<R, Json>(go, JSON).await;
    fail::<R, Protobuf>(go, PROTOBUF).await;
}

/// Go's server compresses its handshake once a dictionary is in it, unless that is switched off.
async fn routes_travel_as_the_codes_of_the_server<R: Native>(go: Go) {
    for compression in [true, false] {
        let settings = Settings { compression, dictionary: true, ..JSON };
        let (_server, client) = connected::<R, Json>(go, settings).await;
        assert_eq!(client.server().dictionary, Dictionary::new(DICTIONARY).unwrap());
        let mut pushes = client.subscribe::<Number>("onNumber");
        echoes(&client, ECHO, "coded").await;
        let body = Bytes::from_static(b"two bytes");
        assert_eq!(client.request_raw(RAW, body.clone()).await, Ok(body));
        client.notify_raw(WAVE, Bytes::new()).unwrap();
        while waves(&client).await != 1 {}
        assert_eq!(client.request(PUSHME, &Number { n: 1 }).await, Ok(Number { n: 1 }));
        assert_eq!(pushes.next().await, Some(Number { n: 1 }));
    }
}

async fn a_quick_reply_overtakes_a_slow_one<R: Native>(go: Go) {
    let (_server, client) = connected::<R, Json>(go, JSON).await;
    let order = RefCell::new(Vec::new());
    let slow = async {
        slow(&client, 300).await;
        order.borrow_mut().push("slow");
    };
    let quick = async {
        echoes(&client, ECHO, "quick").await;
        order.borrow_mut().push("quick");
    };
    zip(slow, quick).await;
    assert_eq!(order.into_inner(), ["quick", "slow"]);
}

async fn a_reply_that_comes_too_late_is_dropped_and_counted<R: Native>(go: Go) {
    let (_server, client) = connected::<R, Json>(go, JSON).await;
    let hasty = client.within(Duration::from_millis(50));
    let stuck = hasty.request_raw("connector.testsvc.stuck", Bytes::new()).await;
    assert_eq!(stuck.unwrap_err().to_string(), "PIT-504: request timeout");
    // Alone, Go's server never answers for servers of another kind.
    let elsewhere = hasty.request_raw("elsewhere.testsvc.echo", Bytes::new()).await;
    assert_eq!(elsewhere.unwrap_err().to_string(), "PIT-504: request timeout");
    slow(&client, 1500).await;
    assert_eq!(client.config().counters.count(Counter::RepliesLate), 1);
}

async fn whoever_is_refused_is_told<R: Native>(go: Go) {
    let server = Server::start(go, JSON);
    let mut config = ClientConfig::default();
    config.handshake.client_version = "refused".to_owned();
    let refused = connect::<R, Json>(&server, config).await.unwrap_err();
    let ConnectError::Closed { reason, .. } = refused else { panic!("{refused}") };
    assert!(matches!(reason, CloseReason::HandshakeRefused(_)), "{reason}");
    let protobuf = connect::<R, Protobuf>(&server, ClientConfig::default()).await.unwrap_err();
    let text = format!("{} speaks json, this client protobuf", server.url());
    assert_eq!(protobuf.to_string(), text);
    let welcome = connect::<R, Json>(&server, ClientConfig::default()).await.unwrap();
    echoes(&welcome, ECHO, "the next client is welcome").await;
}

/// For more than four intervals only heartbeats travel, both ways.
async fn heartbeats_keep_the_connection<R: Native>(go: Go) {
    let limits = Limits::default().request_deadline(Duration::from_secs(10));
    let server = Server::start(go, JSON);
    let config = ClientConfig { limits, ..ClientConfig::default() };
    let client = connect::<R, Json>(&server, config).await.unwrap();
    slow(&client, 4500).await;
    echoes(&client, ECHO, "still here").await;
}

async fn a_server_that_falls_silent_is_given_up<R: Native>(go: Go) {
    let (server, client) = connected::<R, Json>(go, JSON).await;
    echoes(&client, ECHO, "before the silence").await;
    let began = Instant::now();
    server.suspend();
    assert_eq!(client.closed().await, CloseReason::Silent);
    let (took, late) = (began.elapsed(), HEARTBEAT * 5 / 2 + Duration::from_secs(1));
    // It was last heard at most one interval before; a busy machine gets as much again.
    assert!((late - HEARTBEAT..late + HEARTBEAT).contains(&took), "after {took:?}");
    assert_eq!(client.config().counters.count(Counter::ConnectionsSilent), 1);
}

async fn a_server_that_goes_away_ends_what_waits<R: Native>(go: Go) {
    let (mut server, client) = connected::<R, Json>(go, JSON).await;
    echoes(&client, ECHO, "before the end").await;
    let end = async {
        // What was asked before has left once this is answered.
        echoes(&client, ECHO, "behind it").await;
        server.end();
    };
    let (waited, ()) = zip(client.request_raw("connector.testsvc.stuck", Bytes::new()), end).await;
    let RequestError::Unknown(error) = waited.unwrap_err() else { panic!("known") };
    assert_eq!((&*error.code, &*error.metadata["reason"]), ("PIT-499", "closed by the peer"));
    assert_eq!(client.closed().await, CloseReason::PeerClosed);
    let nobody = connect::<R, Json>(&server, ClientConfig::default()).await.unwrap_err();
    assert!(matches!(nobody, ConnectError::Io { .. }), "{nobody}");
}

macro_rules! on_both_runtimes {
    ($($test:ident)*) => {
        const TESTS: &[&str] = &[$(stringify!($test)),*];

        over!(tokio_over_tcp, pitaya_tokio::Tokio, Tcp, $($test)*);
        over!(tokio_over_tls, pitaya_tokio::Tokio, Tls, $($test)*);
        over!(tokio_over_ws, pitaya_tokio::Tokio, Ws, $($test)*);
        over!(tokio_over_wss, pitaya_tokio::Tokio, Wss, $($test)*);
        over!(smol_over_tcp, pitaya_smol::Smol, Tcp, $($test)*);
        over!(smol_over_tls, pitaya_smol::Smol, Tls, $($test)*);
        over!(smol_over_ws, pitaya_smol::Smol, Ws, $($test)*);
        over!(smol_over_wss, pitaya_smol::Smol, Wss, $($test)*);
    };
}

macro_rules! over {
    ($module:ident, $runtime:ty, $transport:ident, $($test:ident)*) => {
        mod $module {
            use super::Transport;
            $(#[test] fn $test() {
                super::run::<$runtime>(Transport::$transport, super::$test::<$runtime>);
            })*
        }
    };
}

on_both_runtimes! {
    a_kick_ends_the_connection_and_what_waits
    a_newer_login_ends_the_older
    a_quick_reply_overtakes_a_slow_one
    a_reply_that_comes_too_late_is_dropped_and_counted
    a_server_that_falls_silent_is_given_up
    a_server_that_goes_away_ends_what_waits
    a_session_is_bound_once
    bytes_pass_as_they_are_compressed_or_not
    errors_come_with_code_text_and_metadata
    heartbeats_keep_the_connection
    notifies_arrive_and_are_not_answered
    pushes_come_in_order_to_their_session_alone
    requests_are_answered
    routes_travel_as_the_codes_of_the_server
    whoever_is_refused_is_told
}

fn run<R: Native>(transport: Transport, test: impl AsyncFnOnce(Go)) {
    let Some(program) = go::program() else { return };
    let go = Go { program, transport };
    let in_time = async {
        let runtime = R::current().unwrap();
        let (mut timer, until) = (runtime.timer(), runtime.now() + TEST_TIME_MAX);
        let late = async {
            poll_fn(|cx| timer.poll_at(cx, until)).await;
            panic!("it hangs");
        };
        or(test(go), late).await;
    };
    R::block_on(in_time).unwrap();
    let runtime = if type_name::<R>().contains("smol") { "smol" } else { "tokio" };
    table::add_one_of(TESTS.len(), "our client, Pitaya's server", transport.name(), runtime);
}

async fn connected<R: Native, C: Speaks>(go: Go, settings: Settings) -> (Server, Client<R, C>) {
    let server = Server::start(go, settings);
    let client = connect(&server, ClientConfig::default()).await.unwrap();
    (server, client)
}

async fn connect<R: Native, C: Speaks>(
    server: &Server, mut config: ClientConfig,
) -> Result<Client<R, C>, ConnectError> {
    config.limits.reconnect_attempts_max = 0;
    let client = ClientBuilder::new(server.url()).config(config);
    client.ca(&*certificate::shown().certificate).connect().await
}

async fn echoes<R: Native, C: Speaks>(client: &Client<R, C>, route: &str, msg: &str) {
    assert_eq!(client.request(route, &text(msg)).await, Ok(text(msg)));
}

async fn slow<R: Native, C: Speaks>(client: &Client<R, C>, millis: u64) {
    let pause = Number { n: millis };
    assert_eq!(client.request("connector.testsvc.slow", &pause).await, Ok(pause));
}

async fn bound<R: Native, C: Speaks>(client: &Client<R, C>, name: &str) -> Result<Uid, Error> {
    client.request("connector.testsvc.bind", &uid(name)).await.map_err(Error::from)
}

async fn whoami<R: Native, C: Speaks>(client: &Client<R, C>) -> String {
    let me: Uid = client.request("connector.testsvc.whoami", &text("")).await.unwrap();
    me.uid
}

async fn waves<R: Native, C: Speaks>(client: &Client<R, C>) -> u64 {
    let waves: Number = client.request("connector.testsvc.waves", &text("")).await.unwrap();
    waves.n
}

fn text(msg: &str) -> Text {
    Text { msg: msg.to_owned() }
}

fn uid(uid: &str) -> Uid {
    Uid { uid: uid.to_owned() }
}

/// Over which transport, each test says.
const JSON: Settings = Settings::plain(Transport::Tcp);
const PROTOBUF: Settings = Settings { serializer: Serializer::Protobuf, ..JSON };

const ECHO: &str = "connector.testsvc.echo";
const NOWHERE: &str = "connector.testsvc.nonexistenthandler";
const PUSHME: &str = "connector.testsvc.pushme";
const PUSHRAW: &str = "connector.testsvc.pushraw";
const RAW: &str = "connector.testsvc.raw";
const WAVE: &str = "connector.testsvc.wave";

const HEARTBEAT: Duration = Duration::from_secs(1);
const KICKS_MAX: usize = 10;
const TEST_TIME_MAX: Duration = Duration::from_secs(30);
