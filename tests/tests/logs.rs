//! What an operator reads of a connection that ended: that it did, and why.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pitaya_core::{App, Error, Limits, Payload};
use pitaya_driver::{Acceptor, Runtime as _, Server};
use pitaya_tests::doors::Elsewhere;
use pitaya_tests::raw::{RawClient, ack, handshake, notify};
use pitaya_tests::sim::{self, Sim};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

#[test]
fn a_connection_that_is_closed_is_logged_with_the_reason() {
    let hello = [handshake("ann"), ack()].concat();
    for (bytes, line) in [
        (
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            "closed before it opened remote=10.0.0.0:1024 reason=bad packet: ",
        ),
        (
            &[1, 0, 0, 2, b'{', b']'],
            "closed before it opened remote=10.0.0.0:1024 reason=bad handshake: ",
        ),
        (&[&hello[..], &[9]].concat(), "closed session=1 reason=bad packet: "),
        (&[&hello[..], &[4, 0, 0]].concat(), "closed session=1 reason=the stream ended inside "),
        (&hello, "closed session=1 reason=closed by the peer"),
    ] {
        let lines = logged(bytes);
        let closings: Vec<_> = lines.iter().filter(|line| line.starts_with("closed")).collect();
        let [closing] = &closings[..] else { panic!("{bytes:?}: {lines:?}") };
        assert!(closing.starts_with(line), "{closing}");
    }
}

#[test]
fn a_notify_that_fails_is_logged_with_its_route_but_never_with_what_was_sent() {
    async fn fail(Payload(why): Payload<String>) -> Result<(), Error> {
        Err(Error::new("HALL-1", format!("no\n{}", why.len())))
    }
    let app = || App::new(()).notify("hall.fail", fail);
    for (body, lines) in [
        ("\"way\"", &[r#"failed route=hall.fail code=HALL-1 error="no\n3""#][..]),
        ("\"hunter2", &[]),
    ] {
        let hello = [handshake("ann"), ack(), notify("hall.fail", body)].concat();
        let logged = logged_of(app(), &hello);
        let failed = |line: &&String| line.contains("failed");
        let wanted = [lines, &["a notify failed route=hall.fail"]].concat();
        assert_eq!(logged.iter().filter(failed).collect::<Vec<_>>(), wanted);
        assert!(!logged.concat().contains("hunter2"));
    }
}

#[test]
fn what_a_client_sent_as_a_route_is_escaped_in_the_log() {
    let hello = [handshake("ann"), ack(), notify("hall.\x1b[2J\nforged", "")].concat();
    let lines = logged(&hello);
    let refused: Vec<_> = lines.iter().filter(|line| line.starts_with("a notify")).collect();
    assert!(refused.len() == 1 && refused[0].contains("\\u{1b}[2J\\nforged"), "{refused:?}");
    assert!(!lines.concat().contains(['\n', '\x1b']));
}

#[test]
fn that_most_sessions_come_from_one_address_is_said_once() {
    let network = ["2001:db8::1", "10.0.0.1", "2001:db8::2", "2001:db8::3", "10.0.0.2"];
    let limits = Limits::default();
    for (addresses, limits, times) in [
        (&network[..], limits.clone(), 1),
        (&network[1..3], limits.clone(), 0),
        (&network[..1], limits.source_connections_max(1000), 0),
    ] {
        let lines = logged_by(|sim| async move {
            let door = Elsewhere::listen(&sim, addresses).await.unwrap();
            let server = Server::<Sim>::new("gate", App::new(())).limits(limits);
            let server = server.accept_on(Acceptor::tcp("the door"), door);
            let server = server.start_on(sim.clone()).await.unwrap();
            let mut clients = Vec::new();
            for _ in 0..210 {
                let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
                client.open("ann").await.unwrap();
                clients.push(client);
            }
            sim.sleep(Duration::from_secs(1)).await;
        });
        let said = "most sessions come from one address";
        let said: Vec<_> = lines.iter().filter(|line| line.starts_with(said)).collect();
        assert_eq!(said.len(), times, "{said:?}");
        assert!(said.iter().all(|line| line.ends_with(" source=2001:db8::")), "{said:?}");
    }
}

/// What is logged of a client that sends these bytes and ends.
fn logged(bytes: &[u8]) -> Vec<String> {
    logged_of(App::new(()), bytes)
}

fn logged_of(app: App, bytes: &[u8]) -> Vec<String> {
    logged_by(|sim| async move {
        let server = Server::<Sim>::new("gate", app).tcp("127.0.0.1:0");
        let server = server.start_on(sim.clone()).await.unwrap();
        let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
        client.send(bytes).await.unwrap();
        client.end().await.unwrap();
        client.rest().await.unwrap();
        sim.sleep(Duration::from_secs(2)).await;
        assert_eq!(server.connections(), 0);
    })
}

fn logged_by<F: Future<Output = ()>>(main: impl FnOnce(Sim) -> F) -> Vec<String> {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || sim::run(1, main));
    log.0.lock().unwrap().clone()
}

/// Keeps what is logged, as lines of text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line.message + &line.fields);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.unwrap();
    }
}
