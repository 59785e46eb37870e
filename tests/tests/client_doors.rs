//! The client through every kind of door of our own server, on both runtimes, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pitaya_core::{
    App, Bytes, ClientConfig, Counter, Error, Limits, Payload, RequestError, Session, State,
};
use pitaya_driver::{
    Client, ClientState, ConnectError, Native, Server, ServerHandle, Tls, TlsClient, TlsError,
};
use pitaya_tests::certificate::Certificate;
use pitaya_tokio::Tokio;

async fn a_client_speaks_through_every_door<R: Native>() {
    let certificate = Certificate::localhost();
    let server = doors::<R>(&certificate).await;
    for (door, address) in DOORS.into_iter().zip(server.addresses()) {
        for url in [format!("{door}://{address}"), format!("{door}://localhost:{}", address.port())]
        {
            let client = Client::<R>::builder(url).ca(&*certificate.chain).connect().await.unwrap();
            let mut ticks = client.subscribe::<u64>("onTick");
            assert_eq!(client.request("hall.tick", &7).await, Ok(7));
            assert_eq!(ticks.next().await, Some(7));
            let long = Bytes::from(vec![b'a'; 60_000]);
            assert_eq!(client.request_raw("hall.echo", long.clone()).await, Ok(long));
            client.close().await;
        }
    }
    assert_eq!(server.counters().count(Counter::ConnectionsFaulty), 0);
    server.shutdown().await;
}

async fn a_server_is_trusted_only_as_was_said<R: Native>() {
    let certificate = Certificate::localhost();
    let server = doors::<R>(&certificate).await;
    for door in [1, 3] {
        let url = format!("{}://{}", DOORS[door], server.addresses()[door]);
        let builder = || Client::<R>::builder(&*url);
        let other = Certificate::localhost();
        let ConnectError::Transport { address, why } =
            error(builder().ca(other.chain).connect().await)
        else {
            panic!("another authority is trusted")
        };
        assert!(address == url && why.contains("certificate"), "{why}");
        let system = error(builder().connect().await);
        let nobody = TlsError::NoAuthorities;
        let trusts = !matches!(&system, ConnectError::Transport { .. })
            && !matches!(&system, ConnectError::Tls { why, .. } if *why == nobody);
        assert!(!trusts, "{system}");
        let nobody = error(builder().ca("no certificate").connect().await);
        assert_eq!(nobody, ConnectError::Tls { address, why: TlsError::NoCertificate });

        let client = builder().insecure_trusting_anybody().connect().await.unwrap();
        assert_eq!(client.request("hall.tick", &1).await, Ok(1));
        let own = TlsClient::trusting(&certificate.chain).unwrap();
        let client = builder().tls(own).connect().await.unwrap();
        assert_eq!(client.request("hall.tick", &1).await, Ok(1));
    }
}

async fn who_knocks_at_the_wrong_door_is_told_soon<R: Native>() {
    let certificate = Certificate::localhost();
    let server = doors::<R>(&certificate).await;
    let limits = Limits::default().connect_timeout(Duration::from_millis(300));
    for (spoken, door) in DOORS.into_iter().enumerate() {
        for (other, address) in server.addresses().iter().enumerate() {
            if spoken == other {
                continue;
            }
            let config = ClientConfig { limits: limits.clone(), ..ClientConfig::default() };
            let builder = Client::<R>::builder(format!("{door}://{address}")).config(config);
            let error = error(builder.ca(&*certificate.chain).connect().await);
            let told = matches!(
                error,
                ConnectError::Closed { .. }
                    | ConnectError::Timeout { .. }
                    | ConnectError::Transport { .. }
            );
            assert!(told, "{door} at the door for {}: {error}", DOORS[other]);
        }
    }
}

async fn a_client_comes_back_to_a_server_that_started_again<R: Native>() {
    let certificate = Certificate::localhost();
    for door in DOORS {
        let server = behind::<R>(door, ANY, &certificate).await;
        let address = server.addresses()[0].to_string();
        let limits = Limits::default().reconnect_delay_min(Duration::from_millis(20));
        let config = ClientConfig { limits, ..ClientConfig::default() };
        let client = Client::<R>::builder(format!("{door}://{address}"))
            .config(config)
            .ca(&*certificate.chain)
            .on_connected(|client| async move { client.request("hall.bind", &"ada").await })
            .connect()
            .await
            .unwrap();
        let (mut states, mut ticks) = (client.states(), client.subscribe::<u64>("onTick"));
        server.shutdown().await;
        while !matches!(states.next().await, Some(ClientState::Reconnecting { .. })) {}
        let server = behind::<R>(door, &address, &certificate).await;
        assert_eq!(client.request("hall.tick", &7).await, Ok(7));
        assert_eq!(ticks.next().await, Some(7));
        assert_eq!(server.kick("ada", "enough"), Ok(()));
        assert_eq!(client.closed().await.to_string(), "kicked: enough");
        let late: Result<u64, _> = client.request("hall.tick", &7).await;
        assert!(matches!(late, Err(RequestError::Unsent(_))), "{late:?}");
    }
}

async fn where_nobody_listens_no_second_attempt_is_made<R: Native>() {
    let free = std::net::TcpListener::bind(ANY).unwrap().local_addr().unwrap();
    for door in DOORS {
        let (address, config) = (format!("{door}://{free}"), ClientConfig::default());
        let builder = Client::<R>::builder(&*address).config(config.clone());
        let refused = error(builder.insecure_trusting_anybody().connect().await);
        assert_eq!(refused, ConnectError::Io { address, kind: ErrorKind::ConnectionRefused });
        assert_eq!(config.counters.count(Counter::Reconnects), 0);
    }
}

#[test]
fn on_many_threads_each_request_is_told_its_fate_while_connections_come_and_go() {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    threads.block_on(async {
        let ran = Arc::new(Mutex::new(BTreeMap::new()));
        let app = App::new(Arc::clone(&ran)).route("hall.count", count);
        let server = Server::<Tokio>::new("gate", app).ws(ANY).start().await.unwrap();
        let limits = Limits::default()
            .reconnect_attempts_max(10_000)
            .reconnect_delay_min(Duration::from_millis(1))
            .reconnect_delay_max(Duration::from_millis(2));
        let config = ClientConfig { limits, ..ClientConfig::default() };
        let url = format!("ws://{}", server.addresses()[0]);
        let client = Client::<Tokio>::connect_with(&url, config).await.unwrap();
        let tasks: Vec<_> = (0..8).map(|task| tokio::spawn(ask(client.clone(), task))).collect();
        let mut outcomes = BTreeMap::new();
        for task in tasks {
            outcomes.extend(task.await.unwrap());
        }
        client.close().await;
        server.shutdown().await;
        let ran = ran.lock().unwrap();
        let times = |number| ran.get(number).copied().unwrap_or_default();
        for (number, outcome) in &outcomes {
            match outcome {
                Ok(()) => assert_eq!(times(number), 1, "{number}"),
                Err(RequestError::Unknown(_)) => assert!(times(number) <= 1, "{number}"),
                Err(error) => panic!("{number}: {error:?}"),
            }
        }
        assert!(client.config().counters.count(Counter::Reconnects) > 5);
        assert!(outcomes.values().filter(|outcome| outcome.is_ok()).count() > 200);
    });
}

/// Every now and then one of them ends the connection.
async fn ask(client: Client<Tokio>, task: u64) -> Vec<(u64, Result<(), RequestError>)> {
    let mut outcomes = Vec::new();
    for number in task * 100..task * 100 + 100 {
        outcomes.push((number, client.request("hall.count", &number).await));
    }
    outcomes
}

async fn count(
    session: Session, State(ran): State<Arc<Mutex<BTreeMap<u64, u32>>>>,
    Payload(number): Payload<u64>,
) -> Result<(), Error> {
    *ran.lock().unwrap().entry(number).or_default() += 1;
    if number % 23 == 0 { session.close() } else { Ok(()) }
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
    a_client_comes_back_to_a_server_that_started_again
    a_client_speaks_through_every_door
    a_server_is_trusted_only_as_was_said
    where_nobody_listens_no_second_attempt_is_made
    who_knocks_at_the_wrong_door_is_told_soon
}

fn run<R: Native>(test: impl Future<Output = ()>) {
    R::block_on(test).unwrap();
}

fn error<R, C>(outcome: Result<Client<R, C>, ConnectError>) -> ConnectError {
    outcome.err().unwrap()
}

/// A server with a door of each kind.
async fn doors<R: Native>(certificate: &Certificate) -> ServerHandle<R> {
    let tls = tls(certificate);
    let server = Server::new("gate", app()).tcp(ANY).tls(ANY, tls.clone()).ws(ANY).wss(ANY, tls);
    server.start().await.unwrap()
}

/// A server with one door.
async fn behind<R: Native>(
    door: &str, address: &str, certificate: &Certificate,
) -> ServerHandle<R> {
    let server = Server::new("gate", app());
    let server = match door {
        "tls" => server.tls(address, tls(certificate)),
        "ws" => server.ws(address),
        "wss" => server.wss(address, tls(certificate)),
        _ => server.tcp(address),
    };
    server.start().await.unwrap()
}

fn tls(certificate: &Certificate) -> Tls {
    Tls::from_pem(&certificate.chain, &certificate.key).unwrap()
}

fn app() -> App {
    App::new(()).route("hall.bind", bind).route("hall.echo", echo).route("hall.tick", tick)
}

async fn bind(session: Session, Payload(uid): Payload<String>) -> Result<(), Error> {
    session.bind(&uid).await
}

async fn echo(body: Bytes) -> Result<Bytes, Error> {
    Ok(body)
}

async fn tick(session: Session, Payload(tick): Payload<u64>) -> Result<u64, Error> {
    session.push("onTick", &tick)?;
    Ok(tick)
}

const ANY: &str = "127.0.0.1:0";
const DOORS: [&str; 4] = ["tcp", "tls", "ws", "wss"];
