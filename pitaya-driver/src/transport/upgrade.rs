//! From an HTTP request to a WebSocket, on both sides; a server may also answer with a page.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use pitaya_core::Limits;
use pitaya_proto::packet::HEADER_BYTES;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::handshake::client::{Response, generate_key, generate_request};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::{StatusCode, Uri, header};

use crate::transport::websocket::WebSocket;

/// What an acceptor of WebSockets allows, and the pages it serves to those who ask for none.
#[derive(Clone, Debug, Default)]
pub struct Web {
    /// Who may open a WebSocket from a browser, such as `https://play.example.com`; nobody listed
    /// means anybody, as in Pitaya. Programs that send no `Origin` always may.
    pub origins: Vec<String>,
    /// What is served by plain HTTP, in the order of its addition.
    pub pages: Vec<Page>,
}

/// A file in memory that a browser can ask for.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it is, such as `/` or `/chat.css`.
    pub path: String,
    /// What it is, such as `text/html; charset=utf-8`.
    pub content_type: String,
    /// The file.
    pub body: Bytes,
}

/// An upgrade that is not finished.
#[derive(Debug)]
pub(super) struct Upgrade {
    side: Side,
    /// The beginning of a head.
    head: Vec<u8>,
    head_bytes_max: usize,
    head_lines_max: usize,
    message_bytes_max: usize,
    /// A page was served, so nothing follows.
    over: bool,
}

#[derive(Debug)]
enum Side {
    Client { request: Vec<u8>, key: String },
    Server(Arc<Web>),
}

impl Upgrade {
    /// The server's side of a connection.
    pub(super) fn accept(web: Arc<Web>, limits: &Limits) -> Self {
        Self::new(Side::Server(web), limits, limits.packet_bytes_max)
    }

    /// The side of a client that asks `authority` for `path`.
    pub(super) fn connect(authority: &str, path: &str, limits: &Limits) -> io::Result<Self> {
        let path = if path.is_empty() { "/" } else { path };
        let uri = Uri::builder().scheme("ws").authority(authority).path_and_query(path).build();
        let request = Request::builder()
            .uri(uri.map_err(invalid)?)
            .header(header::HOST, authority)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key())
            .body(())
            .map_err(invalid)?;
        let (request, key) = generate_request(request).map_err(invalid)?;
        Ok(Self::new(Side::Client { request, key }, limits, limits.received_bytes_max))
    }

    fn new(side: Side, limits: &Limits, body_bytes_max: usize) -> Self {
        Self {
            side,
            head: Vec::new(),
            head_bytes_max: limits.upgrade_head_bytes_max,
            head_lines_max: limits.upgrade_head_lines_max,
            message_bytes_max: body_bytes_max + HEADER_BYTES,
            over: false,
        }
    }

    /// What is said before anything is heard.
    pub(super) fn begin(&mut self, out: &mut BytesMut) {
        if let Side::Client { request, .. } = &mut self.side {
            out.extend_from_slice(&std::mem::take(request));
        }
    }

    /// Whether nothing follows, as after a page.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Takes a head off the front of `wire`; the WebSocket, once it is open.
    pub(super) fn read(
        &mut self, wire: &mut &[u8], out: &mut BytesMut,
    ) -> io::Result<Option<WebSocket>> {
        if !self.over && self.take_head(wire)? {
            let head = std::mem::take(&mut self.head);
            return match &self.side {
                Side::Client { key, .. } => answered(&head, key).map(|()| Some(self.client())),
                Side::Server(web) => {
                    let asked = ask(&head, web, out);
                    self.over = matches!(asked, Ok(Asked::Page));
                    asked.map(|asked| (asked == Asked::Upgrade).then(|| self.server()))
                }
            };
        }
        Ok(None)
    }

    fn client(&self) -> WebSocket {
        WebSocket::client(self.message_bytes_max)
    }

    fn server(&self) -> WebSocket {
        WebSocket::server(self.message_bytes_max)
    }

    /// Moves bytes of `wire` to the head until it ends; whether it does.
    fn take_head(&mut self, wire: &mut &[u8]) -> io::Result<bool> {
        let looked = self.head.len().saturating_sub(HEAD_END.len() - 1);
        let room = self.head_bytes_max.saturating_sub(self.head.len());
        let (taken, _) = wire.split_at(wire.len().min(room));
        let before = self.head.len();
        self.head.extend_from_slice(taken);
        // Another protocol is told by its first byte.
        if self.head.first().is_some_and(|first| !first.is_ascii_uppercase()) {
            return Err(invalid("not the head of an HTTP message"));
        }
        let mut ends = self.head[looked..].windows(HEAD_END.len());
        let Some(end) = ends.position(|bytes| bytes == HEAD_END) else {
            if self.head.len() >= self.head_bytes_max {
                return Err(invalid("a head that does not end"));
            }
            *wire = &[];
            return Ok(false);
        };
        self.head.truncate(looked + end + HEAD_END.len());
        *wire = &wire[self.head.len() - before..];
        let lines = self.head.iter().filter(|byte| **byte == b'\n').count();
        if lines > self.head_lines_max + 2 {
            return Err(invalid("too many header lines"));
        }
        Ok(true)
    }
}

/// What a client asked for, and was given.
#[derive(Eq, PartialEq)]
enum Asked {
    Page,
    Upgrade,
}

fn ask(head: &[u8], web: &Web, out: &mut BytesMut) -> io::Result<Asked> {
    let request = match Request::try_parse(head) {
        Ok(Some((_, request))) => request,
        Err(Error::Protocol(ProtocolError::WrongHttpMethod)) => {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET", out);
        }
        Ok(None) | Err(_) => return refuse(StatusCode::BAD_REQUEST, "not HTTP", out),
    };
    match create_response(&request) {
        Ok(response) if web.allows(&request) => {
            write_response(out.writer(), &response).map_err(invalid)?;
            Ok(Asked::Upgrade)
        }
        Ok(_) => refuse(StatusCode::FORBIDDEN, "not from this origin", out),
        Err(_) if request.headers().contains_key(header::UPGRADE) => {
            refuse(StatusCode::BAD_REQUEST, "not the upgrade to a WebSocket", out)
        }
        Err(_) if web.pages.is_empty() => {
            refuse(StatusCode::BAD_REQUEST, "this is a WebSocket", out)
        }
        Err(_) => {
            match web.page(request.uri().path()) {
                Some(page) => write_page(StatusCode::OK, &page.content_type, &page.body, out),
                None => write_page(StatusCode::NOT_FOUND, TEXT, b"no such page\n", out),
            }
            Ok(Asked::Page)
        }
    }
}

impl Web {
    fn allows(&self, request: &Request) -> bool {
        let Some(origin) = request.headers().get(header::ORIGIN) else { return true };
        let is_origin =
            |allowed: &String| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes());
        self.origins.is_empty() || self.origins.iter().any(is_origin)
    }

    fn page(&self, path: &str) -> Option<&Page> {
        self.pages.iter().find(|page| page.path == path)
    }
}

fn refuse<T>(status: StatusCode, why: &str, out: &mut BytesMut) -> io::Result<T> {
    write_page(status, TEXT, format!("{why}\n").as_bytes(), out);
    Err(invalid(why))
}

fn write_page(status: StatusCode, content_type: &str, body: &[u8], out: &mut BytesMut) {
    let length = body.len();
    out.extend_from_slice(
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
             Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n\r\n"
        )
        .as_bytes(),
    );
    out.extend_from_slice(body);
}

/// Whether the server opened the WebSocket that was asked for with `key`.
fn answered(head: &[u8], key: &str) -> io::Result<()> {
    let Ok(Some((_, response))) = Response::try_parse(head) else {
        return Err(invalid("not an HTTP response"));
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(invalid(format!("no WebSocket but {}", response.status())));
    }
    let accepts = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accepts.is_none_or(|accepts| accepts != &derive_accept_key(key.as_bytes())) {
        return Err(invalid("the answer to another WebSocket"));
    }
    Ok(())
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

const HEAD_END: &[u8] = b"\r\n\r\n";
const TEXT: &str = "text/plain; charset=utf-8";
