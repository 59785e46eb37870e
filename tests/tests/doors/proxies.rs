//! Servers behind proxies that say for whom they connect.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pitaya_core::{Counter, Limits};
use pitaya_driver::{Acceptor, Native, Server, StartError};
use pitaya_tests::certificate::Certificate;
use pitaya_tests::raw::handshake;

use crate::peers::{ANY, dial, dial_ws, start_tls, tls, whence, whence_over_web};
use crate::{app, visit};

pub(crate) async fn a_trusted_proxy_says_where_a_client_comes_from<R: Native>() {
    let certificate = Certificate::localhost();
    let tls = tls(&certificate);
    let acceptors = [
        Acceptor::tcp(ANY),
        Acceptor::tls(ANY, tls.clone()),
        Acceptor::ws(ANY),
        Acceptor::wss(ANY, tls),
    ];
    let server = acceptors.into_iter().fold(Server::<R>::new("gate", app()), |server, acceptor| {
        server.accept(acceptor.trusted_proxies(["10.0.0.0/8", "127.0.0.1"]))
    });
    visit(server, move |addresses, server| {
        for (header, named) in [
            (&b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n"[..], Some("203.0.113.7:56324")),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", Some("[2001:db8::1]:56324")),
            (b"PROXY UNKNOWN\r\n", None),
            (
                &binary(b"\x21\x11", b"\xcb\0\x71\x07\x0a\0\0\x01\xdc\x04\x01\xbb"),
                Some("203.0.113.7:56324"),
            ),
            (&binary(b"\x20\0", b""), None),
        ] {
            for (door, address) in addresses.iter().enumerate() {
                let mut stream = dial(*address)?;
                let own = stream.local_addr()?.to_string();
                stream.write_all(header)?;
                let seen = come_in(door, *address, stream, &certificate)?;
                assert_eq!(seen, named.unwrap_or(&own), "door {door}, {header:?}");
            }
        }
        assert_eq!(server.counters().count(Counter::ProxiesRefused), 0);
        Ok(())
    })
    .await;
}

pub(crate) async fn what_comes_past_the_proxies_is_closed<R: Native>() {
    let limits = Limits::default().proxy_timeout(Duration::from_millis(50));
    let server = Server::<R>::new("gate", app())
        .accept(Acceptor::tcp(ANY).trusted_proxies(["127.0.0.1"]))
        .accept(Acceptor::tcp(ANY).trusted_proxies(["10.0.0.0/8"]))
        .limits(limits);
    visit(server, |addresses, server| {
        let mut without = dial(addresses[0])?;
        without.write_all(&handshake("ann"))?;
        assert_eq!(without.read(&mut [0; 9]).unwrap_or(0), 0);
        let mut idle = dial(addresses[0])?;
        assert_eq!(idle.read(&mut [0; 9])?, 0);
        let mut stranger = dial(addresses[1])?;
        stranger.write_all(b"PROXY UNKNOWN\r\n")?;
        assert_eq!(stranger.read(&mut [0; 9]).unwrap_or(0), 0);
        assert_eq!(server.counters().count(Counter::ProxiesRefused), 3);
        Ok(())
    })
    .await;
}

pub(crate) async fn an_acceptor_that_nobody_could_use_is_refused<R: Native>() {
    for (networks, expected) in [(&[][..], "nobody could connect"), (&["10.0.0"], "is no network")]
    {
        let acceptor = Acceptor::tcp(ANY).trusted_proxies(networks.iter().copied());
        let started = Server::<R>::new("gate", app()).accept(acceptor).start().await;
        let Err(why @ StartError::Acceptor { .. }) = started else { panic!("it started") };
        assert!(why.to_string().contains(expected), "{why}");
    }
}

/// Goes on behind the header, and asks where it comes from.
fn come_in(
    door: usize, address: SocketAddr, mut stream: TcpStream, certificate: &Certificate,
) -> io::Result<String> {
    let start_tls = |stream| start_tls(stream, certificate, &rustls::version::TLS13);
    match door {
        0 => whence(&mut stream),
        1 => whence(&mut start_tls(stream)),
        2 => whence_over_web(&mut dial_ws(address, stream)?),
        _ => whence_over_web(&mut dial_ws(address, start_tls(stream))?),
    }
}

/// A header of version 2.
fn binary(command: &[u8; 2], rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &command[..], &length, rest].concat()
}
