//! Independent peers of a server, over blocking sockets.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pitaya_driver::Tls;
use pitaya_proto::packet;
use pitaya_tests::certificate::Certificate;
use pitaya_tests::raw::{ack, handshake, request};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

pub(crate) fn tls(certificate: &Certificate) -> Tls {
    Tls::from_pem(&certificate.chain, &certificate.key).unwrap()
}

pub(crate) fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

pub(crate) fn dial_tls(
    address: SocketAddr, trusted: &Certificate, version: &'static SupportedProtocolVersion,
) -> StreamOwned<ClientConnection, TcpStream> {
    start_tls(dial(address).unwrap(), trusted, version)
}

pub(crate) fn start_tls(
    stream: TcpStream, trusted: &Certificate, version: &'static SupportedProtocolVersion,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.chain.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

pub(crate) fn dial_ws<S: Read + Write>(address: SocketAddr, stream: S) -> io::Result<WebSocket<S>> {
    let dialled = tungstenite::client(format!("ws://{address}/any/path"), stream);
    dialled.map(|(web, _)| web).map_err(|error| io::Error::other(error.to_string()))
}

/// Shakes hands and calls.
pub(crate) fn converse<S: Read + Write>(web: &mut WebSocket<S>) -> io::Result<()> {
    web.send(Message::binary(handshake("ann"))).unwrap();
    assert_eq!(read_binary(web)?[0], 1);
    web.send(Message::binary(ack())).unwrap();
    web.send(Message::binary(request(1, "math.double", "4"))).unwrap();
    assert_eq!(read_binary(web)?[4..], reply(1, "8"));
    Ok(())
}

/// Shakes hands and asks where it comes from.
pub(crate) fn whence(stream: &mut (impl Read + Write)) -> io::Result<String> {
    stream.write_all(&[handshake("ann"), ack(), request(1, "hall.whence", "")].concat())?;
    next(stream)?;
    let (_, reply) = next(stream)?;
    Ok(serde_json::from_slice(&reply[2..])?)
}

/// Shakes hands and asks where it comes from, over a WebSocket.
pub(crate) fn whence_over_web<S: Read + Write>(web: &mut WebSocket<S>) -> io::Result<String> {
    let said = [handshake("ann"), ack(), request(1, "hall.whence", "")].concat();
    web.send(Message::binary(said)).unwrap();
    read_binary(web)?;
    Ok(serde_json::from_slice(&read_binary(web)?[6..])?)
}

/// The next packet: its kind and its body.
pub(crate) fn next(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let [kind, high, middle, low] = header;
    let mut body = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
    stream.read_exact(&mut body)?;
    Ok((kind, body))
}

pub(crate) fn read_binary<S: Read + Write>(web: &mut WebSocket<S>) -> io::Result<Vec<u8>> {
    let read = web.read().map_err(|error| io::Error::other(error.to_string()))?;
    let Message::Binary(bytes) = read else { panic!("{read:?}") };
    let mut rest = &bytes[..];
    assert!(packet::decode(&mut rest, bytes.len()).is_ok_and(|packet| packet.is_some()));
    assert_eq!(rest, b"", "one message is one packet");
    Ok(bytes.to_vec())
}

/// Reads to the end, and gives the code of the goodbye, if there was one that tells a fault.
pub(crate) fn read_end<S: Read + Write>(web: &mut WebSocket<S>) -> Option<CloseCode> {
    let mut code = None;
    loop {
        match web.read() {
            Ok(Message::Close(frame)) => code = frame.map(|frame| frame.code),
            Ok(other) => panic!("{other:?}"),
            Err(_) => return code.filter(|code| *code != CloseCode::Normal),
        }
    }
}

/// The body of a message that replies.
pub(crate) fn reply(id: u8, text: &str) -> Vec<u8> {
    [&[4, id][..], text.as_bytes()].concat()
}

/// What a server of HTTP answers, to the end.
pub(crate) fn ask(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = dial(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    // A door that closes with bytes unread resets.
    let _ = stream.read_to_string(&mut answer);
    Ok(answer)
}

pub(crate) fn ask_first_line(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut line = [0; 12];
    stream.read_exact(&mut line)?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

pub(crate) fn wait_until(done: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < deadline, "it takes too long");
        thread::yield_now();
    }
}

/// Any free port of this machine.
pub(crate) const ANY: &str = "127.0.0.1:0";
/// Nothing here takes that long, unless it never ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
