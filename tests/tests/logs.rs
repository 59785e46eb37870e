//! What an operator reads of a connection that ended: that it did, and why.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pitaya_core::{App, Counter, Error, Limits, Options, Payload};
use pitaya_driver::{Acceptor, Runtime as _, Server};
use pitaya_tests::doors::Elsewhere;
use pitaya_tests::raw::{RawClient, ack, handshake, notify, request};
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
    for (body, lines) in
        [("\"way\"", &[r#"failed route=hall.fail error="HALL-1: no\n3""#][..]), ("\"hunter2", &[])]
    {
        let hello = [handshake("ann"), ack(), notify("hall.fail", body)].concat();
        let logged = logged_of(app(), &hello);
        let failed = |line: &&String| line.contains("failed");
        let wanted = [lines, &["a notify failed route=hall.fail"]].concat();
        assert_eq!(logged.iter().filter(failed).collect::<Vec<_>>(), wanted);
        assert!(!logged.concat().contains("hunter2"));
    }
}

#[test]
fn of_a_flood_of_lines_ten_in_a_second_are_logged_and_how_many_more_there_were() {
    async fn fall() -> Result<(), Error> {
        panic!("as it was told");
    }
    async fn fail() -> Result<(), Error> {
        Err(Error::new("HALL-1", "no"))
    }
    let app = App::new(()).route("hall.fall", fall).notify("hall.fail", fail);
    let mut lines = logged_by(|sim| async move {
        let server = Server::<Sim>::new("gate", app).tcp("127.0.0.1:0");
        let server = server.start_on(sim.clone()).await.unwrap();
        let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
        client.open("ann").await.unwrap();
        for _ in 0..4 {
            let mut flood: Vec<_> = (1..=250).map(|id| request(id, "hall.fall", "")).collect();
            flood.push(notify("hall.fail", ""));
            let began = sim.time();
            client.send(&flood.concat()).await.unwrap();
            for _ in 1..=250 {
                client.next().await.unwrap();
            }
            assert!(sim.time().since(began) < Duration::from_secs(1));
            sim.sleep(Duration::from_secs(1)).await;
        }
        let suppressed = server.counters().count(Counter::LogLinesSuppressed);
        server.shutdown().await;
        assert_eq!(suppressed, 4 * 240);
    });
    let [panicked, failed] = ["a handler panicked route=hall.fall", "failed route=hall.fail"];
    let more = r#"more lines like this one line="a handler panicked" suppressed=240"#;
    lines.retain(|line| [panicked, failed, "more"].iter().any(|said| line.starts_with(said)));
    let said = |(line, times)| std::iter::repeat_n(line, times);
    let second = [(panicked, 10), (failed, 1), (more, 1)].map(said);
    let wanted: Vec<_> = second.into_iter().flatten().cycle().take(4 * 12).collect();
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.starts_with(wanted), "{line}");
    }
}

#[test]
fn a_handler_that_is_dropped_is_logged_unless_its_route_asked_for_that() {
    let hello = |route| [handshake("ann"), ack(), request(1, route, "")].concat();
    let options = Options { hard_limit: Some(Duration::from_secs(1)), ..Options::default() };
    let wait = || std::future::pending::<Result<(), Error>>();
    for (cancel_on_close, times) in [(false, 1), (true, 0)] {
        let options = Options { cancel_on_close, ..options };
        let lines =
            logged_of(App::new(()).route_with("hall.wait", options, wait), &hello("hall.wait"));
        let dropped = "a handler reached its hard limit and is dropped route=hall.wait";
        assert_eq!(lines.iter().filter(|line| *line == dropped).count(), times, "{lines:?}");
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
