//! Every kind of acceptor, seen from the outside by independent peers, on both runtimes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;

use pitaya_core::{App, Counter, Error, Limits, Payload, Session};
use pitaya_driver::{Acceptor, Native, Server, ServerHandle};
use pitaya_tests::certificate::Certificate;
use pitaya_tests::raw::{ack, handshake, request};
use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

use crate::peers::{
    ANY, UPGRADE, ask, ask_first_line, converse, dial, dial_tls, dial_ws, next, read_binary,
    read_end, reply, start_tls, tls, wait_until, whence,
};
use crate::proxies::{
    a_trusted_proxy_says_where_a_client_comes_from, an_acceptor_that_nobody_could_use_is_refused,
    what_comes_past_the_proxies_is_closed,
};

#[path = "doors/peers.rs"]
mod peers;
#[path = "doors/proxies.rs"]
mod proxies;

async fn a_client_is_served_over_tls_1_2_and_1_3<R: Native>() {
    let certificate = Certificate::localhost();
    let server = Server::<R>::new("gate", app()).tls(ANY, tls(&certificate));
    visit(server, move |addresses, _| {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let mut stream = dial_tls(addresses[0], &certificate, version);
            stream
                .write_all(&[handshake("ann"), ack(), request(1, "math.double", "4")].concat())?;
            assert_eq!(next(&mut stream)?.0, 1);
            assert_eq!(next(&mut stream)?, (4, reply(1, "8")));
        }
        Ok(())
    })
    .await;
}

async fn a_client_is_served_over_websocket<R: Native>() {
    visit(Server::<R>::new("gate", app()).ws(ANY), |addresses, _| {
        let mut web = dial_ws(addresses[0], dial(addresses[0])?)?;
        converse(&mut web)
    })
    .await;
}

async fn a_client_is_served_over_websocket_and_tls<R: Native>() {
    let certificate = Certificate::localhost();
    let server = Server::<R>::new("gate", app()).wss(ANY, tls(&certificate));
    visit(server, move |addresses, _| {
        let stream = dial_tls(addresses[0], &certificate, &rustls::version::TLS13);
        converse(&mut dial_ws(addresses[0], stream)?)
    })
    .await;
}

async fn text_fragments_and_several_packets_in_one_message_are_taken<R: Native>() {
    visit(Server::<R>::new("gate", app()).ws(ANY), |addresses, _| {
        let mut web = dial_ws(addresses[0], dial(addresses[0])?)?;
        // A packet in text has to be UTF-8 as a whole, which a short handshake is.
        web.send(Message::text(String::from_utf8(handshake("ann")).unwrap())).unwrap();
        assert_eq!(read_binary(&mut web)?[0], 1);
        let packets = [ack(), request(1, "math.double", "4"), request(2, "math.double", "5")];
        let packets = packets.concat();
        let (first, second) = packets.split_at(7);
        let parts = [(first, OpCode::Data(Data::Binary)), (second, OpCode::Data(Data::Continue))];
        for (part, code) in parts {
            let last = part.len() == second.len();
            web.send(Message::Frame(Frame::message(part.to_vec(), code, last))).unwrap();
        }
        assert_eq!(read_binary(&mut web)?[4..], reply(1, "8"));
        assert_eq!(read_binary(&mut web)?[4..], reply(2, "10"));
        Ok(())
    })
    .await;
}

async fn a_message_that_is_no_whole_packets_closes_its_connection_alone<R: Native>() {
    visit(Server::<R>::new("gate", app()).ws(ANY), |addresses, server| {
        let mut honest = dial_ws(addresses[0], dial(addresses[0])?)?;
        converse(&mut honest)?;
        for bad in
            [&handshake("ann")[..9], b"", b"\x01\x00\x00", &[handshake("a"), vec![4]].concat()]
        {
            let mut web = dial_ws(addresses[0], dial(addresses[0])?)?;
            web.send(Message::binary(bad.to_vec())).unwrap();
            assert_eq!(read_end(&mut web), None, "{bad:?}");
        }
        honest.send(Message::binary(request(9, "math.double", "4"))).unwrap();
        assert_eq!(read_binary(&mut honest)?[4..], reply(9, "8"));
        assert_eq!(server.sessions(), 1);
        Ok(())
    })
    .await;
}

async fn a_message_over_the_limit_is_refused_however_it_is_cut<R: Native>() {
    let limits = Limits::default().packet_bytes_max(1000);
    visit(Server::<R>::new("gate", app()).ws(ANY).limits(limits), |addresses, _| {
        let mut whole = dial_ws(addresses[0], dial(addresses[0])?)?;
        whole.send(Message::binary(vec![4; 1005])).unwrap();
        assert_eq!(read_end(&mut whole), Some(CloseCode::Size));
        let mut cut = dial_ws(addresses[0], dial(addresses[0])?)?;
        for at in 0..11 {
            let kind = if at == 0 { Data::Binary } else { Data::Continue };
            let part = Frame::message(vec![4; 100], OpCode::Data(kind), false);
            if cut.send(Message::Frame(part)).is_err() {
                break;
            }
        }
        assert_eq!(read_end(&mut cut), Some(CloseCode::Size));
        Ok(())
    })
    .await;
}

async fn a_ping_is_answered_and_a_goodbye_ends_the_session<R: Native>() {
    visit(Server::<R>::new("gate", app()).ws(ANY), |addresses, server| {
        let mut web = dial_ws(addresses[0], dial(addresses[0])?)?;
        web.send(Message::Ping("are you there".into())).unwrap();
        assert_eq!(web.read().unwrap(), Message::Pong("are you there".into()));
        converse(&mut web)?;
        web.close(None).unwrap();
        assert!(matches!(web.read(), Ok(Message::Close(_))));
        wait_until(|| server.sessions() == 0 && server.connections() == 0);
        Ok(())
    })
    .await;
}

async fn pages_are_served_to_browsers_and_nothing_else_is<R: Native>() {
    let acceptor = Acceptor::ws(ANY).page("/", "text/html", "<h1>hello</h1>");
    visit(Server::<R>::new("gate", app()).accept(acceptor), |addresses, _| {
        let page = ask(addresses[0], "GET /?room=1 HTTP/1.1\r\nHost: a\r\n\r\n")?;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.contains("\r\nContent-Type: text/html\r\n"), "{page}");
        assert!(page.ends_with("\r\n\r\n<h1>hello</h1>"), "{page}");
        let status = |request: &str| {
            ask(addresses[0], request).map(|answer| answer.chars().skip(9).take(3).collect())
        };
        let missing: String = status("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let post: String = status("POST / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let broken: String = status("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")?;
        let long = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
        assert_eq!((&*missing, &*post, &*broken), ("404", "405", "400"));
        assert_eq!(ask(addresses[0], &long)?, "");
        assert_eq!(ask(addresses[0], "\x16\x03\x01")?, "");
        Ok(())
    })
    .await;
}

async fn only_the_listed_origins_may_open_a_websocket<R: Native>() {
    let certificate = Certificate::localhost();
    let listed =
        |acceptor: Acceptor| acceptor.origins(["https://play.example.com", "https://b.example"]);
    let server = Server::<R>::new("gate", app())
        .accept(listed(Acceptor::ws(ANY)))
        .ws(ANY)
        .accept(listed(Acceptor::wss(ANY, tls(&certificate))))
        .wss(ANY, tls(&certificate));
    visit(server, move |addresses, server| {
        let cases = [
            (0, Some("https://play.example.com"), true),
            (0, Some("https://PLAY.example.com"), true),
            (0, Some("https://b.example"), true),
            (0, None, true),
            (0, Some("http://play.example.com"), false),
            (0, Some("https://play.example.com:8443"), false),
            (0, Some("https://play.example.com.evil.example"), false),
            (0, Some("null"), false),
            (0, Some(""), false),
            (1, Some("https://anybody.example"), true),
            (1, Some("null"), true),
            (1, None, true),
        ];
        for (door, origin, allowed) in cases {
            let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
            let request = format!("{UPGRADE}{origin}\r\n");
            let secure = dial_tls(addresses[door + 2], &certificate, &rustls::version::TLS13);
            let answers = [
                ask_first_line(dial(addresses[door])?, &request)?,
                ask_first_line(secure, &request)?,
            ];
            let expected = if allowed { "HTTP/1.1 101" } else { "HTTP/1.1 403" };
            assert_eq!(answers, [expected; 2], "{origin:?}");
        }
        assert_eq!(server.counters().count(Counter::UpgradesRefused), 10);
        Ok(())
    })
    .await;
}

async fn every_kind_of_acceptor_is_told_when_it_is_ready_and_accepts_at_once<R: Native>() {
    let certificate = Certificate::localhost();
    let custom = R::current().unwrap().bind(ANY.parse().unwrap()).await.unwrap();
    let (told, ready) = mpsc::channel();
    let server = Server::<R>::new("gate", app())
        .tcp(ANY)
        .tls(ANY, tls(&certificate))
        .ws(ANY)
        .wss(ANY, tls(&certificate))
        .accept_on(Acceptor::tcp("of one's own"), custom)
        .on_ready(move |addresses| {
            // Not a moment later: nobody may be told before a client can connect.
            let streams: Vec<_> = addresses.iter().map(|address| dial(*address).unwrap()).collect();
            told.send((addresses.to_vec(), streams)).unwrap();
        });
    visit(server, move |addresses, _| {
        let (told, streams) = ready.try_recv().unwrap();
        assert_eq!(told, addresses);
        let [tcp, tls, ws, wss, custom] = <[TcpStream; 5]>::try_from(streams).unwrap();
        let start_tls = |stream| start_tls(stream, &certificate, &rustls::version::TLS13);
        for mut plain in [tcp, custom] {
            assert_eq!(whence(&mut plain)?, plain.local_addr()?.to_string());
        }
        whence(&mut start_tls(tls))?;
        converse(&mut dial_ws(addresses[2], ws)?)?;
        converse(&mut dial_ws(addresses[3], start_tls(wss))?)
    })
    .await;
}

async fn a_certificate_is_replaced_while_the_server_runs<R: Native>() {
    let (older, newer) = (Certificate::localhost(), Certificate::localhost());
    let shown = tls(&older);
    visit(Server::<R>::new("gate", app()).tls(ANY, shown.clone()), move |addresses, _| {
        let mut stream = dial_tls(addresses[0], &older, &rustls::version::TLS13);
        assert_eq!(whence(&mut stream)?, stream.sock.local_addr()?.to_string());
        shown.replace(&newer.chain, &newer.key).unwrap();
        let mut renewed = dial_tls(addresses[0], &newer, &rustls::version::TLS13);
        assert_eq!(whence(&mut renewed)?, renewed.sock.local_addr()?.to_string());
        let mut distrusting = dial_tls(addresses[0], &older, &rustls::version::TLS13);
        assert!(distrusting.write_all(&handshake("ann")).is_err());
        stream.write_all(&request(2, "math.double", "4"))?;
        assert_eq!(next(&mut stream)?, (4, reply(2, "8")));
        assert!(shown.replace("no certificate", &newer.key).is_err());
        Ok(())
    })
    .await;
}

async fn what_speaks_another_protocol_is_closed_at_once<R: Native>() {
    let certificate = Certificate::localhost();
    let server = Server::<R>::new("gate", app()).tcp(ANY).ws(ANY).tls(ANY, tls(&certificate));
    visit(server, |addresses, server| {
        for address in addresses {
            for greeting in
                [&b"\x16\x03\x01\x02\x00"[..], b"GET / HTTP/1.1\r\n\r\n", b"\x01\0\0\x02{}"]
            {
                let tls_hello = greeting[0] == 0x16 && *address == addresses[2];
                let let_in = greeting[0] == 1 && *address == addresses[0];
                if !tls_hello && !let_in {
                    let mut stream = dial(*address)?;
                    stream.write_all(greeting)?;
                    let mut answer = Vec::new();
                    // It may be a refusal in the words of that door, or a reset; but it ends.
                    let _ = stream.read_to_end(&mut answer);
                }
            }
        }
        assert_eq!(server.sessions(), 0);
        Ok(())
    })
    .await;
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
    a_certificate_is_replaced_while_the_server_runs
    a_client_is_served_over_tls_1_2_and_1_3
    a_client_is_served_over_websocket
    a_client_is_served_over_websocket_and_tls
    a_message_over_the_limit_is_refused_however_it_is_cut
    a_message_that_is_no_whole_packets_closes_its_connection_alone
    a_ping_is_answered_and_a_goodbye_ends_the_session
    a_trusted_proxy_says_where_a_client_comes_from
    an_acceptor_that_nobody_could_use_is_refused
    every_kind_of_acceptor_is_told_when_it_is_ready_and_accepts_at_once
    only_the_listed_origins_may_open_a_websocket
    pages_are_served_to_browsers_and_nothing_else_is
    text_fragments_and_several_packets_in_one_message_are_taken
    what_comes_past_the_proxies_is_closed
    what_speaks_another_protocol_is_closed_at_once
}

fn run<R: Native>(test: impl Future<Output = ()>) {
    R::block_on(test).unwrap();
}

/// Starts the server, and visits it from a thread of its own with blocking sockets.
async fn visit<R: Native>(
    server: Server<R>,
    visitor: impl FnOnce(&[SocketAddr], &ServerHandle<R>) -> io::Result<()> + Send + 'static,
) {
    let server = Arc::new(server.start().await.unwrap());
    let (done, visited) = futures_channel::oneshot::channel();
    let seen = Arc::clone(&server);
    thread::spawn(move || {
        let addresses = seen.addresses().to_vec();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            visitor(&addresses, &seen).unwrap();
        }));
        drop(seen);
        done.send(result).unwrap();
    });
    if let Err(panic) = visited.await.unwrap() {
        std::panic::resume_unwind(panic);
    }
    Arc::into_inner(server).unwrap().shutdown().await;
}

fn app() -> App {
    App::new(()).route("math.double", double).route("hall.whence", from)
}

async fn double(Payload(n): Payload<i64>) -> Result<i64, Error> {
    Ok(n * 2)
}

async fn from(session: Session) -> Result<String, Error> {
    Ok(session.remote().expect("it connects here").to_string())
}
