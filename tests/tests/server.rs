//! What a server promises to the program that starts it, on both runtimes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pitaya_core::{
    App, ClientConfig, CloseReason, Codec, Counter, Error, Json, Limits, Payload, RequestError,
    Session, State,
};
use pitaya_driver::{Client, Native, Server, ServerHandle, StartError};
use pitaya_proto::error::{INTERNAL, UNKNOWN};

async fn every_acceptor_of_a_server_serves<R: Native>() {
    let server = start(Server::<R>::new("gate", app()).tcp(ANY).tcp(ANY)).await;
    let [first, second] = server.addresses() else { panic!("two acceptors") };
    assert_ne!(first, second);
    for address in [first, second] {
        let client = connect::<R>(&address.to_string()).await;
        assert_eq!(client.request("math.double", &4).await, Ok(8));
    }
    server.shutdown().await;
}

async fn an_address_that_is_taken_is_refused_with_advice<R: Native>() {
    let taken = TcpListener::bind(ANY).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let started = Server::<R>::new("gate", app()).tcp(&address).start().await;
    let why = started.err().map(|why| format!("{why:?}")).unwrap_or_default();
    assert!(why.starts_with(&format!("gate cannot bind {address}: ")), "{why}");
    assert!(why.contains("\n  another program listens there"), "{why}");
}

async fn what_is_no_address_is_refused_with_advice<R: Native>() {
    let started = Server::<R>::new("gate", app()).tcp("nowhere").start().await;
    let why = started.err().map(|why| why.to_string()).unwrap_or_default();
    assert!(why.contains("write an address such as \"127.0.0.1:3250\""), "{why}");
}

async fn a_route_that_is_there_twice_keeps_the_server_from_starting<R: Native>() {
    let app = app().route("math.double", double);
    let started = Server::<R>::new("gate", app).tcp(ANY).start().await;
    let Err(StartError::Route(why)) = started else { panic!("it started") };
    assert!(why.to_string().contains("declared before"), "{why}");
}

async fn a_handler_that_panics_costs_one_error<R: Native>() {
    let server = start(Server::<R>::new("gate", app()).tcp(ANY)).await;
    let client = connect::<R>(&server.addresses()[0].to_string()).await;
    let panicked: Result<(), _> = client.request("math.panic", &()).await;
    let error = Error::new(UNKNOWN, "rpc call internal error - math.panic");
    assert_eq!(panicked, Err(RequestError::Answered(error)));
    assert_eq!(client.request("math.double", &4).await, Ok(8));
    assert_eq!(server.counters().count(Counter::CallsPanicked), 1);
    server.shutdown().await;
}

async fn a_route_of_another_kind_is_answered_without_a_cluster<R: Native>() {
    let server = start(Server::<R>::new("gate", app()).tcp(ANY)).await;
    let client = connect::<R>(&server.addresses()[0].to_string()).await;
    let nobody: Result<(), _> = client.request("room.hall.join", &()).await;
    let error = Error::new(INTERNAL, "no servers available of this type");
    assert_eq!(nobody, Err(RequestError::Answered(error)));
    server.shutdown().await;
}

async fn too_much_session_data_is_refused_and_counted<R: Native>() {
    let server = start(Server::<R>::new("gate", app()).tcp(ANY)).await;
    let client = connect::<R>(&server.addresses()[0].to_string()).await;
    assert_eq!(client.request("hall.keep", &"x".repeat(100)).await, Ok(100));
    let refused: Result<usize, RequestError> =
        client.request("hall.keep", &"x".repeat(17_000)).await;
    assert!(refused.is_err());
    assert_eq!(client.request("hall.keep", &"").await, Ok(0));
    assert_eq!(server.counters().count(Counter::SessionDataRefused), 1);
    server.shutdown().await;
}

async fn one_connection_too_many_is_turned_away_and_counted<R: Native>() {
    let limits = Limits::default().connections_max(1);
    let server = start(Server::<R>::new("gate", app()).tcp(ANY).limits(limits)).await;
    let address = server.addresses()[0].to_string();
    let client = connect::<R>(&address).await;
    let refused = Client::<R>::connect(&address).await;
    assert!(refused.is_err());
    assert_eq!(client.request("math.double", &4).await, Ok(8));
    assert_eq!(server.counters().count(Counter::ConnectionsRefused), 1);
    server.shutdown().await;
}

async fn the_newest_login_stays_and_the_older_is_kicked<R: Native>() {
    let server = start(Server::<R>::new("gate", app()).tcp(ANY)).await;
    let address = server.addresses()[0].to_string();
    let (older, newer) = (connect::<R>(&address).await, connect::<R>(&address).await);
    for client in [&older, &newer] {
        assert_eq!(client.request("hall.login", &"ann").await, Ok(()));
    }
    let kicked = CloseReason::Kicked(Some("replaced by a newer login".to_owned()));
    assert_eq!(older.closed().await, kicked);
    assert_eq!(newer.request("math.double", &4).await, Ok(8));
    assert_eq!(server.kick("nobody", ""), Err(pitaya_proto::error::SESSION_NOT_FOUND.into()));
    assert_eq!(server.kick("ann", "go home"), Ok(()));
    assert_eq!(newer.closed().await, CloseReason::Kicked(Some("go home".to_owned())));
    server.shutdown().await;
}

async fn a_codec_of_the_users_own_is_named_and_used<R: Native>() {
    let app = App::<_, Text>::with_codec(Hall::default()).route("text.shout", shout);
    let server = start(Server::<R>::new("gate", app).tcp(ANY)).await;
    let address = server.addresses()[0].to_string();
    let config = ClientConfig::default();
    let client = Client::<R, Text>::connect_with(&address, config).await.unwrap();
    assert_eq!(client.server().serializer, "text");
    let loud: Result<String, _> = client.request("text.shout", &"hey".to_owned()).await;
    assert_eq!(loud, Ok("HEY".to_owned()));
    server.shutdown().await;
}

#[test]
fn many_threads_of_a_users_own_runtime_serve_one_server() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        type Tokio = pitaya_tokio::Tokio;
        let hall = Hall::default();
        let server = start(Server::<Tokio>::new("gate", app_of(hall.clone())).tcp(ANY)).await;
        let address = server.addresses()[0].to_string();
        let clients = (0..CLIENTS).map(|_| {
            let address = address.clone();
            tokio::spawn(async move {
                let client = connect::<Tokio>(&address).await;
                for n in 0..REQUESTS {
                    assert_eq!(client.request("math.double", &n).await, Ok(n * 2));
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        assert_eq!(hall.0.load(Ordering::Relaxed), CLIENTS * REQUESTS as usize);
        server.shutdown().await;
    });
}

macro_rules! on_both_runtimes {
    ($($test:ident)*) => {
        mod on_tokio {
            use pitaya_tokio::Tokio;
            $(#[test] fn $test() { super::run::<Tokio>(super::$test::<Tokio>()); })*
        }
        mod on_smol {
            use pitaya_smol::Smol;
            $(#[test] fn $test() { super::run::<Smol>(super::$test::<Smol>()); })*
        }
    };
}

on_both_runtimes! {
    a_codec_of_the_users_own_is_named_and_used
    a_handler_that_panics_costs_one_error
    a_route_of_another_kind_is_answered_without_a_cluster
    a_route_that_is_there_twice_keeps_the_server_from_starting
    an_address_that_is_taken_is_refused_with_advice
    every_acceptor_of_a_server_serves
    one_connection_too_many_is_turned_away_and_counted
    the_newest_login_stays_and_the_older_is_kicked
    too_much_session_data_is_refused_and_counted
    what_is_no_address_is_refused_with_advice
}

fn run<R: Native>(test: impl Future<Output = ()>) {
    R::block_on(test).unwrap();
}

async fn start<R: Native>(server: Server<R>) -> ServerHandle<R> {
    server.start().await.unwrap()
}

async fn connect<R: Native>(address: &str) -> Client<R, Json> {
    Client::connect(address).await.unwrap()
}

/// Counts what was asked of it.
#[derive(Clone, Default)]
struct Hall(Arc<AtomicUsize>);

fn app() -> App<Hall> {
    app_of(Hall::default())
}

fn app_of(hall: Hall) -> App<Hall> {
    App::new(hall)
        .route("math.double", double)
        .route("math.panic", panics)
        .route("hall.keep", keep)
        .route("hall.login", login)
}

async fn double(State(hall): State<Hall>, Payload(n): Payload<i64>) -> Result<i64, Error> {
    hall.0.fetch_add(1, Ordering::Relaxed);
    Ok(n * 2)
}

async fn panics() -> Result<(), Error> {
    panic!("a secret")
}

/// Keeps a text with the session and tells how long the kept one is.
async fn keep(session: Session, Payload(text): Payload<String>) -> Result<usize, Error> {
    session.set("text", text)?;
    Ok(session.get::<String>("text").map_or(0, |text| text.len()))
}

async fn login(session: Session, Payload(uid): Payload<String>) -> Result<(), Error> {
    session.bind(&uid).await
}

async fn shout(Payload(text): Payload<String>) -> Result<String, Error> {
    Ok(text.to_uppercase())
}

/// A codec for texts alone, which are written as they are.
struct Text;

impl Codec for Text {
    const NAME: &'static str = "text";

    fn encode_error(error: &Error) -> Vec<u8> {
        error.to_string().into_bytes()
    }
}

impl pitaya_core::Decode<String> for Text {
    fn decode(body: &[u8]) -> Result<String, Error> {
        String::from_utf8(body.to_vec()).map_err(|why| Error::bad_request(why.to_string()))
    }
}

impl pitaya_core::Encode<String> for Text {
    fn encode(value: &String) -> Result<Vec<u8>, Error> {
        Ok(value.clone().into_bytes())
    }
}

/// Any free port of this machine.
const ANY: &str = "127.0.0.1:0";
const CLIENTS: usize = 8;
const REQUESTS: i64 = 50;
