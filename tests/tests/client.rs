//! The client against our own server, on both runtimes, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::mpsc::{self, UnboundedSender};
use futures_lite::StreamExt as _;
use futures_lite::future::zip;
use pitaya_core::{
    App, ClientConfig, CloseReason, Codec, Counter, Error, Json, Limits, Payload, Protobuf,
    RequestError, Session, State,
};
use pitaya_driver::{Client, ConnectError, Native, Server, ServerHandle, UrlError};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Sum {
    of: Vec<i64>,
}

#[derive(PartialEq, prost::Message)]
struct Count {
    #[prost(int64, tag = "1")]
    value: i64,
}

async fn a_request_is_answered_with_a_value_or_an_error<R: Native + Unpin>() {
    let (_server, client) = connected::<R>(ClientConfig::default()).await;
    assert_eq!(client.request("hall.sum", &Sum { of: vec![1, 2, 3] }).await, Ok(6));
    let overflow: Result<i64, _> = client.request("hall.sum", &Sum { of: vec![i64::MAX, 1] }).await;
    let too_large = Error::new("SUM-1", "too large").with_metadata("at", "1");
    assert_eq!(overflow, Err(RequestError::Answered(too_large)));
    let unknown: Result<i64, _> = client.request("hall.none", &1).await;
    assert_eq!(unknown.unwrap_err().error().code, "PIT-404");
    let wrong: Result<String, _> = client.request("hall.sum", &Sum { of: vec![] }).await;
    let text = wrong.unwrap_err().to_string();
    assert!(text.starts_with("PIT-000: the reply does not decode: "), "{text}");
}

async fn bytes_pass_as_they_are<R: Native + Unpin>() {
    let (_server, client) =
        connected::<R>(ClientConfig { compression: true, ..ClientConfig::default() }).await;
    for body in [Bytes::new(), Bytes::from_static(b"\0\xff"), Bytes::from(vec![b'a'; 60_000])] {
        assert_eq!(client.request_raw("hall.echo", body.clone()).await, Ok(body));
    }
}

async fn pushes_reach_all_who_subscribed<R: Native + Unpin>() {
    let (_server, client) = connected::<R>(ClientConfig::default()).await;
    let mut typed = client.subscribe::<i64>("onTick");
    let mut raw = client.subscribe_raw("onTick");
    client.notify("hall.tick", &3).unwrap();
    for tick in 0..3 {
        assert_eq!(typed.next().await, Some(tick));
        assert_eq!(raw.next().await, Some(Bytes::from(tick.to_string())));
    }
    client.close().await;
    assert_eq!((typed.next().await, raw.next().await), (None, None));
    assert_eq!(client.closed().await, CloseReason::Closed);
    let RequestError::Unsent(error) = client.notify("hall.tick", &3).unwrap_err() else {
        panic!("sent")
    };
    assert_eq!(error.code, "PIT-499");
}

async fn what_was_sent_before_a_close_arrives<R: Native + Unpin>() {
    let (told, mut closings) = mpsc::unbounded();
    let app = app(told);
    let server = start::<R>(Server::new("gate", app)).await;
    let client = connect::<R>(&server, ClientConfig::default()).await;
    client.notify("hall.report", &"last words").unwrap();
    drop(client);
    assert_eq!(closings.next().await.as_deref(), Some("last words"));
    assert_eq!(closings.next().await.as_deref(), Some("closed by the peer"));
}

async fn a_reply_that_comes_too_late_is_dropped_and_counted<R: Native + Unpin>() {
    let gate = Gate::default();
    let (_server, client) = connected_to::<R>(&gate, ClientConfig::default()).await;
    let hasty = client.within(Duration::from_millis(20));
    let waited: Result<(), _> = hasty.request("hall.wait", &()).await;
    let RequestError::Unknown(error) = waited.unwrap_err() else { panic!("known") };
    assert_eq!(error.to_string(), "PIT-504: request timeout");
    gate.open();
    assert_eq!(client.request("hall.sum", &Sum { of: vec![7] }).await, Ok(7));
    assert_eq!(client.config().counters.count(Counter::RepliesLate), 1);
}

async fn one_request_too_many_is_refused_at_once<R: Native + Unpin>() {
    let gate = Gate::default();
    let limits = Limits::default().in_flight_max(1);
    let config = ClientConfig { limits, ..ClientConfig::default() };
    let (_server, client) = connected_to::<R>(&gate, config).await;
    let refused = async {
        let refused: Result<(), _> = client.request("hall.wait", &()).await;
        gate.open();
        refused
    };
    let (waited, refused) = zip(client.request::<_, ()>("hall.wait", &()), refused).await;
    assert_eq!(waited, Ok(()));
    let RequestError::Unsent(error) = refused.unwrap_err() else { panic!("sent") };
    assert_eq!(error.to_string(), "PIT-429: too many requests in flight");
}

async fn a_kick_says_why_and_answers_who_waits<R: Native + Unpin>() {
    let (server, client) = connected::<R>(ClientConfig::default()).await;
    client.request::<_, ()>("hall.bind", &"ada").await.unwrap();
    let kick = async { server.kick("ada", "be nice") };
    let (waited, kicked) = zip(client.request::<_, ()>("hall.wait", &()), kick).await;
    assert_eq!(kicked, Ok(()));
    let RequestError::Unknown(error) = waited.unwrap_err() else { panic!("known") };
    assert_eq!((&*error.code, &*error.metadata["reason"]), ("PIT-499", "kicked: be nice"));
    assert_eq!(client.closed().await, CloseReason::Kicked(Some("be nice".to_owned())));
}

async fn a_server_that_stops_closes_its_clients<R: Native + Unpin>() {
    let limits = Limits::default().reconnect_attempts_max(0);
    let (server, client) = connected::<R>(ClientConfig { limits, ..ClientConfig::default() }).await;
    let ((), reason) = zip(server.shutdown(), client.closed()).await;
    assert_eq!(reason, CloseReason::PeerClosed);
}

async fn routes_of_the_server_s_dictionary_travel_as_codes<R: Native + Unpin>() {
    let routes = [("hall.sum", 1), ("hall.tick", 2), ("onTick", 300)];
    let app = app(mpsc::unbounded().0);
    let server = start::<R>(Server::new("gate", app).dictionary(routes)).await;
    let client = connect::<R>(&server, ClientConfig::default()).await;
    assert_eq!(client.server().dictionary.code("onTick"), Some(300));
    let mut ticks = client.subscribe::<i64>("onTick");
    assert_eq!(client.request("hall.sum", &Sum { of: vec![4, 5] }).await, Ok(9));
    client.notify("hall.tick", &1).unwrap();
    assert_eq!(ticks.next().await, Some(0));
}

async fn protobuf_is_spoken_where_the_server_speaks_it<R: Native + Unpin>() {
    async fn double(Payload(count): Payload<Count>) -> Result<Count, Error> {
        let doubled = count.value.checked_mul(2);
        doubled.map(|value| Count { value }).ok_or_else(|| Error::new("COUNT-1", "too large"))
    }
    let app = App::<(), Protobuf>::with_codec(()).route("count.double", double);
    let server = start::<R>(Server::new("gate", app)).await;
    let client = connect_as::<R, Protobuf>(&server, ClientConfig::default()).await.unwrap();
    let doubled: Result<Count, _> = client.request("count.double", &Count { value: 21 }).await;
    assert_eq!(doubled, Ok(Count { value: 42 }));
    let refused: Result<Count, _> =
        client.request("count.double", &Count { value: i64::MAX }).await;
    assert_eq!(refused, Err(RequestError::Answered(Error::new("COUNT-1", "too large"))));
    let json = connect_as::<R, Json>(&server, ClientConfig::default()).await;
    let text = format!("{} speaks protobuf, this client json", server.addresses()[0]);
    assert_eq!(json.unwrap_err().to_string(), text);
}

async fn a_client_that_a_validator_refuses_is_told<R: Native + Unpin>() {
    let app = app(mpsc::unbounded().0);
    let server = Server::new("gate", app).validator("version", |client| {
        if client.client_version == "2" { Ok(()) } else { Err("too old".to_owned()) }
    });
    let server = start::<R>(server).await;
    connect::<R>(&server, of_version("2")).await;
    let refused = connect_as::<R, Json>(&server, of_version("1")).await;
    let ConnectError::Closed { reason, .. } = refused.unwrap_err() else { panic!("not closed") };
    assert!(matches!(reason, CloseReason::HandshakeRefused(_)), "{reason}");
}

fn of_version(version: &str) -> ClientConfig {
    let mut config = ClientConfig::default();
    config.handshake.client_version = version.to_owned();
    config
}

async fn where_no_server_is_the_error_says_so<R: Native + Unpin>() {
    let connect = |address: String, limits| {
        let config = ClientConfig { limits, ..ClientConfig::default() };
        async move { Client::<R, Json>::connect_with(&address, config).await.unwrap_err() }
    };
    for (address, why) in
        [("", UrlError::HostMissing), ("nowhere", UrlError::PortMissing), ("a:b", UrlError::Port)]
    {
        let address = address.to_owned();
        let error = connect(address.clone(), Limits::default()).await;
        assert_eq!(error, ConnectError::Address { address, why });
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let limits = Limits::default().connect_timeout(Duration::from_millis(50));
    let error = connect(address.clone(), limits).await;
    assert_eq!(error, ConnectError::Timeout { address: address.clone() });
    drop(listener);
    let error = connect(format!("tcp://{address}"), Limits::default()).await;
    let (address, kind) = (format!("tcp://{address}"), ErrorKind::ConnectionRefused);
    assert_eq!(error, ConnectError::Io { address, kind });
}

async fn a_host_has_a_name<R: Native + Unpin>() {
    let (server, _) = connected::<R>(ClientConfig::default()).await;
    let address = format!("localhost:{}", server.addresses()[0].port());
    let client = Client::<R, Json>::connect(&address).await.unwrap();
    assert_eq!(client.request("hall.sum", &Sum { of: vec![1] }).await, Ok(1));
}

macro_rules! on_both_runtimes {
    ($($test:ident)*) => {
        mod on_tokio {
            use pitaya_tokio::Tokio as Runtime;
            $(#[test] fn $test() { super::run::<Runtime>(super::$test::<Runtime>()); })*
        }
        mod on_smol {
            use pitaya_smol::Smol as Runtime;
            $(#[test] fn $test() { super::run::<Runtime>(super::$test::<Runtime>()); })*
        }
    };
}

on_both_runtimes! {
    a_client_that_a_validator_refuses_is_told
    a_host_has_a_name
    a_kick_says_why_and_answers_who_waits
    a_reply_that_comes_too_late_is_dropped_and_counted
    a_request_is_answered_with_a_value_or_an_error
    a_server_that_stops_closes_its_clients
    bytes_pass_as_they_are
    one_request_too_many_is_refused_at_once
    protobuf_is_spoken_where_the_server_speaks_it
    pushes_reach_all_who_subscribed
    routes_of_the_server_s_dictionary_travel_as_codes
    what_was_sent_before_a_close_arrives
    where_no_server_is_the_error_says_so
}

fn run<R: Native>(test: impl Future<Output = ()>) {
    R::block_on(test).unwrap();
}

/// A server of [`app`] and a client of it.
async fn connected<R: Native + Unpin>(config: ClientConfig) -> (ServerHandle<R>, Client<R>) {
    connected_to(&Gate::default(), config).await
}

async fn connected_to<R: Native + Unpin>(
    gate: &Gate, config: ClientConfig,
) -> (ServerHandle<R>, Client<R>) {
    let server = start::<R>(Server::new("gate", app_with(mpsc::unbounded().0, gate))).await;
    let client = connect::<R>(&server, config).await;
    (server, client)
}

async fn start<R: Native>(server: Server<R>) -> ServerHandle<R> {
    server.tcp("127.0.0.1:0").start().await.unwrap()
}

async fn connect<R: Native + Unpin>(server: &ServerHandle<R>, config: ClientConfig) -> Client<R> {
    connect_as(server, config).await.unwrap()
}

async fn connect_as<R: Native + Unpin, C: Codec>(
    server: &ServerHandle<R>, config: ClientConfig,
) -> Result<Client<R, C>, ConnectError> {
    Client::connect_with(&server.addresses()[0].to_string(), config).await
}

/// Tells `told` what was reported and why sessions closed.
fn app(told: UnboundedSender<String>) -> App<Hall> {
    app_with(told, &Gate::default())
}

fn app_with(told: UnboundedSender<String>, gate: &Gate) -> App<Hall> {
    let closings = told.clone();
    App::<Hall, Json>::new(Hall { gate: gate.clone(), told })
        .route("hall.bind", bind)
        .route("hall.echo", echo)
        .notify("hall.report", report)
        .route("hall.sum", sum)
        .notify("hall.tick", tick)
        .route("hall.wait", wait)
        .on_close(move |_, reason| {
            // A test that does not ask has dropped the other end.
            let _ = closings.unbounded_send(reason.to_string());
            std::future::ready(())
        })
}

#[derive(Clone)]
struct Hall {
    gate: Gate,
    told: UnboundedSender<String>,
}

async fn bind(session: Session, Payload(uid): Payload<String>) -> Result<(), Error> {
    session.bind(&uid).await
}

async fn echo(body: Bytes) -> Result<Bytes, Error> {
    Ok(body)
}

async fn report(State(hall): State<Hall>, Payload(text): Payload<String>) {
    hall.told.unbounded_send(text).unwrap();
}

async fn sum(Payload(sum): Payload<Sum>) -> Result<i64, Error> {
    let too_large =
        |at: usize| Error::new("SUM-1", "too large").with_metadata("at", at.to_string());
    let mut parts = sum.of.into_iter().enumerate();
    parts.try_fold(0_i64, |sum, (at, part)| sum.checked_add(part).ok_or_else(|| too_large(at)))
}

async fn tick(session: Session, Payload(ticks): Payload<i64>) -> Result<(), Error> {
    (0..ticks).try_for_each(|tick| session.push("onTick", &tick))
}

async fn wait(State(hall): State<Hall>) -> Result<(), Error> {
    hall.gate.passed().await;
    Ok(())
}

/// Closed until a test opens it.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    fn open(&self) {
        let mut gate = self.0.lock().unwrap();
        gate.0 = true;
        gate.1.drain(..).for_each(Waker::wake);
    }

    async fn passed(&self) {
        poll_fn(|cx| {
            let mut gate = self.0.lock().unwrap();
            if gate.0 {
                return Poll::Ready(());
            }
            gate.1.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
