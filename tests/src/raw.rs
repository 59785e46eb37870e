//! A client that sends whatever bytes it likes, and reads packet by packet what comes.

use std::fmt;
use std::io;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_proto::handshake::HandshakeRequest;
use pitaya_proto::kick;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, BODY_BYTES_MAX, Packet, PacketKind};
use serde_json::{Map, Value};

/// One end of a connection to a server.
#[derive(Debug)]
pub struct RawClient<S> {
    held: Vec<u8>,
    stream: S,
}

/// A packet of a server.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Received {
    /// The error that answers a request, by its code.
    Error(u64, String),
    /// The answer to the handshake, by its code.
    Handshake(u64),
    /// A heartbeat.
    Heartbeat,
    /// A kick, with what it says.
    Kick(String),
    /// A push: its route and what it says.
    Push(String, String),
    /// The answer to a request.
    Reply(u64, String),
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    /// A client that has said nothing yet.
    pub fn new(stream: S) -> Self {
        Self { held: Vec::new(), stream }
    }

    /// Shakes hands as `name`, which handlers find in the handshake as `user.name`.
    ///
    /// # Errors
    ///
    /// The stream fails, or the server refuses.
    pub async fn open(&mut self, name: &str) -> io::Result<()> {
        self.send(&handshake(name)).await?;
        match self.next().await? {
            Some(Received::Handshake(200)) => self.send(&ack()).await,
            other => Err(io::Error::other(format!("not let in: {other:?}"))),
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// The stream fails.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends a request, and gives what comes next that is no heartbeat.
    ///
    /// # Errors
    ///
    /// The stream fails.
    pub async fn request(
        &mut self, id: u64, route: &str, body: &str,
    ) -> io::Result<Option<Received>> {
        self.send(&request(id, route, body)).await?;
        self.next().await
    }

    /// The next packet that is no heartbeat; nothing at the end of the stream.
    ///
    /// # Errors
    ///
    /// The stream fails, or ends inside a packet, or what comes is no packet of a server.
    pub async fn next(&mut self) -> io::Result<Option<Received>> {
        loop {
            match self.next_packet().await? {
                Some(Received::Heartbeat) => {}
                received => return Ok(received),
            }
        }
    }

    /// As [`next`](Self::next), with heartbeats.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn next_packet(&mut self) -> io::Result<Option<Received>> {
        loop {
            let mut input = &self.held[..];
            let packet = packet::decode(&mut input, BODY_BYTES_MAX).map_err(io::Error::other)?;
            let received = packet.map(|packet| Received::read(&packet)).transpose()?;
            let consumed = self.held.len() - input.len();
            if received.is_some() {
                self.held.drain(..consumed);
                return Ok(received);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).await? {
                0 if self.held.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.held.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// All that comes until the end of the stream, but heartbeats.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn rest(&mut self) -> io::Result<Vec<Received>> {
        let mut rest = Vec::new();
        while let Some(received) = self.next().await? {
            rest.push(received);
        }
        Ok(rest)
    }

    /// Says that no more bytes will come, and still reads.
    ///
    /// # Errors
    ///
    /// The stream fails.
    pub async fn end(&mut self) -> io::Result<()> {
        self.stream.close().await
    }

    /// The stream itself.
    pub fn into_stream(self) -> S {
        self.stream
    }
}

impl Received {
    /// Reads a packet of a server.
    ///
    /// # Errors
    ///
    /// It is none that a server sends.
    pub fn read(packet: &Packet<'_>) -> io::Result<Self> {
        match packet.kind {
            PacketKind::Data => Self::read_message(packet.body),
            PacketKind::Handshake => {
                let answer: Value = serde_json::from_slice(packet.body)?;
                answer["code"].as_u64().map(Self::Handshake).ok_or_else(wrong)
            }
            PacketKind::HandshakeAck => Err(wrong()),
            PacketKind::Heartbeat => Ok(Self::Heartbeat),
            PacketKind::Kick => {
                Ok(Self::Kick(kick::parse(packet.body, BODY_BYTES_MAX).unwrap_or_default()))
            }
        }
    }

    fn read_message(bytes: &[u8]) -> io::Result<Self> {
        let text = |body: Body<'_>| String::from_utf8_lossy(body.bytes()).into_owned();
        match Message::decode(bytes).map_err(io::Error::other)? {
            Message::Push { route: Route::Name(route), body } => {
                Ok(Self::Push(String::from_utf8_lossy(route).into_owned(), text(body)))
            }
            Message::Response { id, error: false, body } => Ok(Self::Reply(id, text(body))),
            Message::Response { id, error: true, body } => {
                let error: Value = serde_json::from_slice(body.bytes())?;
                Ok(Self::Error(id, error["code"].as_str().unwrap_or_default().to_owned()))
            }
            Message::Notify { .. } | Message::Push { .. } | Message::Request { .. } => Err(wrong()),
        }
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(id, code) => write!(f, "error {id} {code}"),
            Self::Handshake(code) => write!(f, "handshake {code}"),
            Self::Heartbeat => write!(f, "heartbeat"),
            Self::Kick(reason) => write!(f, "kick {reason}"),
            Self::Push(route, body) => write!(f, "push {route} {body}"),
            Self::Reply(id, body) => write!(f, "reply {id} {body}"),
        }
    }
}

/// A handshake packet of a client that says its name.
pub fn handshake(name: &str) -> Vec<u8> {
    let user = Map::from_iter([("name".to_owned(), name.into())]);
    let request = HandshakeRequest { user: Some(user), ..HandshakeRequest::default() };
    let mut body = Vec::new();
    request.encode(&mut body);
    packet(PacketKind::Handshake, &body)
}

/// The packet that takes the server's handshake.
pub fn ack() -> Vec<u8> {
    packet(PacketKind::HandshakeAck, &[])
}

/// A request.
pub fn request(id: u64, route: &str, body: &str) -> Vec<u8> {
    let (route, body) = (Route::Name(route.as_bytes()), Body::Plain(body.as_bytes()));
    message(&Message::Request { id, route, body })
}

/// A notify.
pub fn notify(route: &str, body: &str) -> Vec<u8> {
    let (route, body) = (Route::Name(route.as_bytes()), Body::Plain(body.as_bytes()));
    message(&Message::Notify { route, body })
}

/// Any message, as a packet.
///
/// # Panics
///
/// The wire cannot carry it.
pub fn message(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode_packet(&mut out).expect("a message of a test fits a packet");
    out
}

/// Any packet.
///
/// # Panics
///
/// The wire cannot carry it.
pub fn packet(kind: PacketKind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    packet::encode(kind, body, &mut out).expect("a body of a test fits a packet");
    out
}

fn wrong() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a packet that no server sends")
}
