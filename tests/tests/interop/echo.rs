//! A server and a client that say back what they are told over WebSocket, on the driver's own
//! layers for it and for TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use pitaya_driver::WebSocket;
use tungstenite::Message;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::client::{Response, generate_request};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::StatusCode;

use crate::app::Echo;
use crate::cases::Transport;
use crate::secure::Secure;

/// Runs until it is dropped.
pub(crate) struct EchoServer {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Over `wss` or over `ws`.
    pub(crate) fn start(transport: Transport, faith: Echo) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let accepting = thread::spawn(move || {
            for socket in listener.incoming() {
                if until.load(Ordering::Acquire) {
                    return;
                }
                let socket = socket.unwrap();
                // How a connection ends is what the peer judges.
                thread::spawn(move || drop(serve(socket, transport, faith)));
            }
        });
        Self { address, ended, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        let woken = TcpStream::connect(self.address);
        let ended = self.accepting.take().map(JoinHandle::join);
        let ended = woken.is_ok() && ended.is_some_and(|ended| ended.is_ok());
        assert!(ended || thread::panicking(), "it accepts until it is dropped");
    }
}

fn serve(socket: TcpStream, transport: Transport, faith: Echo) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    socket.set_write_timeout(Some(SILENCE_MAX))?;
    match transport {
        Transport::Wss => echo(Secure::accept(socket)?, faith),
        Transport::Tcp | Transport::Tls | Transport::Ws => echo(socket, faith),
    }
}

fn echo(mut socket: impl Read + Write, faith: Echo) -> io::Result<()> {
    let mut wire = BytesMut::new();
    let request: Request = read_head(&mut socket, &mut wire)?;
    let response = create_response(&request).map_err(io::Error::other)?;
    let mut head = BytesMut::new();
    write_response((&mut head).writer(), &response).map_err(io::Error::other)?;
    socket.write_all(&head)?;
    socket.flush()?;
    let web = WebSocket::server(MESSAGE_BYTES_MAX);
    converse(&mut socket, wire, web, |said| Some(answer(said, faith)))
}

/// Asks the server at `address` for `path` and says back what it says, or hears it and is silent.
/// Gives what was heard last.
pub(crate) fn visit(address: SocketAddr, path: &str, echo: Option<Echo>) -> io::Result<Message> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    socket.set_write_timeout(Some(SILENCE_MAX))?;
    let request =
        format!("ws://{address}{path}").into_client_request().map_err(io::Error::other)?;
    let (request, _) = generate_request(request).map_err(io::Error::other)?;
    socket.write_all(&request)?;
    let mut wire = BytesMut::new();
    let response: Response = read_head(&mut socket, &mut wire)?;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "{path}");
    let mut last = Message::text("");
    let web = WebSocket::client(MESSAGE_BYTES_MAX);
    let conversed = converse(&mut socket, wire, web, |said| {
        last = said.clone();
        echo.map(|faith| answer(said, faith))
    });
    // It is for the server to close what lies below, in whichever way.
    while conversed.is_ok() && socket.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
    Ok(last)
}

fn converse(
    socket: &mut (impl Read + Write), mut wire: BytesMut, mut web: WebSocket,
    mut answer: impl FnMut(Message) -> Option<Message>,
) -> io::Result<()> {
    let mut out = BytesMut::new();
    while !web.is_ended() {
        let mut rest = &wire[..];
        let read = loop {
            match web.read(&mut rest, &mut out) {
                Ok(Some(said)) if said.is_text() || said.is_binary() => {
                    if let Some(answer) = answer(said) {
                        web.send(answer, &mut out)?;
                        web.flush(&mut out);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        wire.clear();
        // What is wrong is told before the end.
        socket.write_all(&out)?;
        socket.flush()?;
        out.clear();
        read?;
        if !web.is_ended() && read_some(socket, &mut wire)? == 0 {
            return Ok(());
        }
    }
    Ok(())
}

fn answer(said: Message, faith: Echo) -> Message {
    match faith {
        Echo::OneBitOff if said.is_binary() && !said.is_empty() => {
            let mut bytes = said.into_data().to_vec();
            bytes[0] ^= 1;
            Message::binary(bytes)
        }
        Echo::Faithful | Echo::OneBitOff => said,
    }
}

/// The head of an HTTP message; what came after it stays in `wire`.
fn read_head<H: TryParse>(socket: &mut impl Read, wire: &mut BytesMut) -> io::Result<H> {
    loop {
        if let Some((length, head)) = H::try_parse(wire).map_err(io::Error::other)? {
            wire.advance(length);
            return Ok(head);
        }
        if wire.len() > HEAD_BYTES_MAX || read_some(socket, wire)? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

fn read_some(socket: &mut impl Read, wire: &mut BytesMut) -> io::Result<usize> {
    let mut chunk = [0; 16 << 10];
    let length = socket.read(&mut chunk)?;
    wire.extend_from_slice(&chunk[..length]);
    Ok(length)
}

/// The largest of Autobahn's messages.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Some cases wait; nobody waits for ever.
const SILENCE_MAX: Duration = Duration::from_secs(30);
