//! One connection of a server that sends whatever bytes it likes, and reads packet by packet what
//! comes.

use std::io;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_driver::Listener;
use pitaya_proto::error::Error;
use pitaya_proto::message::{Body, Message};
use pitaya_proto::packet::{self, BODY_BYTES_MAX, PacketKind};

use crate::raw;

/// A server's end of a connection.
#[derive(Debug)]
pub struct RawServer<S> {
    held: Vec<u8>,
    stream: S,
}

/// A request or a notify, which has no id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    /// What its reply has to carry.
    pub id: Option<u64>,
    /// What is said.
    pub body: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawServer<S> {
    /// The end of the next client to come, which has said nothing yet.
    ///
    /// # Errors
    ///
    /// Nobody can come.
    pub async fn accept(listener: &impl Listener<Stream = S>) -> io::Result<Self> {
        let (stream, _) = listener.accept().await?;
        Ok(Self { held: Vec::new(), stream })
    }

    /// Lets the client in: JSON, and a heartbeat every 30 seconds.
    ///
    /// # Errors
    ///
    /// The stream fails, or what comes is no handshake.
    pub async fn open(&mut self) -> io::Result<()> {
        self.expect(PacketKind::Handshake).await?;
        let sys = r#"{"heartbeat":30,"dict":{},"serializer":"json"}"#;
        let accepted = format!(r#"{{"code":200,"sys":{sys}}}"#);
        self.send(&raw::packet(PacketKind::Handshake, accepted.as_bytes())).await?;
        self.expect(PacketKind::HandshakeAck).await.map(drop)
    }

    /// Refuses the handshake.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn refuse(&mut self) -> io::Result<()> {
        self.expect(PacketKind::Handshake).await?;
        self.send(&raw::packet(PacketKind::Handshake, br#"{"code":400}"#)).await
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

    /// What the client asks or tells next.
    ///
    /// # Errors
    ///
    /// The stream fails or ends, or what comes is something else.
    pub async fn next(&mut self) -> io::Result<Asked> {
        let bytes = self.expect(PacketKind::Data).await?;
        match Message::decode(&bytes).map_err(io::Error::other)? {
            Message::Request { id, body, .. } => {
                Ok(Asked { id: Some(id), body: body.bytes().to_vec() })
            }
            Message::Notify { body, .. } => Ok(Asked { id: None, body: body.bytes().to_vec() }),
            Message::Push { .. } | Message::Response { .. } => Err(wrong()),
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    ///
    /// The stream fails, or it was no request.
    pub async fn answer(&mut self, asked: &Asked, body: &str) -> io::Result<()> {
        self.respond(asked, false, body.as_bytes()).await
    }

    /// Answers a request with an error.
    ///
    /// # Errors
    ///
    /// As [`answer`](Self::answer).
    pub async fn fail(&mut self, asked: &Asked, error: &Error) -> io::Result<()> {
        self.respond(asked, true, &error.to_json()).await
    }

    /// Reads until the end of the stream.
    pub async fn drain(&mut self) {
        let mut unread = Vec::new();
        // However it ends, it has ended.
        let _ = self.stream.read_to_end(&mut unread).await;
    }

    /// The stream itself.
    pub fn into_stream(self) -> S {
        self.stream
    }

    async fn respond(&mut self, asked: &Asked, error: bool, body: &[u8]) -> io::Result<()> {
        let id = asked.id.ok_or_else(wrong)?;
        let reply = Message::Response { id, error, body: Body::Plain(body) };
        self.send(&raw::message(&reply)).await
    }

    async fn expect(&mut self, kind: PacketKind) -> io::Result<Vec<u8>> {
        loop {
            let (came, body) = self.next_packet().await?;
            if came == kind {
                return Ok(body);
            }
            if came != PacketKind::Heartbeat {
                return Err(wrong());
            }
        }
    }

    async fn next_packet(&mut self) -> io::Result<(PacketKind, Vec<u8>)> {
        loop {
            let mut input = &self.held[..];
            let packet = packet::decode(&mut input, BODY_BYTES_MAX).map_err(io::Error::other)?;
            let packet = packet.map(|packet| (packet.kind, packet.body.to_vec()));
            let consumed = self.held.len() - input.len();
            if let Some(packet) = packet {
                self.held.drain(..consumed);
                return Ok(packet);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.held.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

fn wrong() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not what a client says now")
}
