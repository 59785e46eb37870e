//! A server that is played by hand.

use bytes::Bytes;

use super::super::*;
use crate::Counters;

/// A client and the server's end of its stream.
pub(super) struct Peer {
    pub(super) conn: ClientConn<&'static str>,
    pub(super) counters: Arc<Counters>,
    pub(super) now: Instant,
    unread: Vec<u8>,
}

impl Peer {
    pub(super) fn dial(config: ClientConfig) -> Self {
        let counters = Arc::clone(&config.counters);
        let conn = ClientConn::new(Arc::new(config), Instant::ZERO);
        Self { conn, counters, now: Instant::ZERO, unread: Vec::new() }
    }

    pub(super) fn open() -> Self {
        let mut peer = Self::dial(ClientConfig::default());
        peer.hear(&accepted("json", 30));
        peer.sent();
        peer
    }

    /// What the client makes of more bytes.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Vec<String> {
        self.unread.extend_from_slice(bytes);
        let (mut input, mut events) = (&self.unread[..], Vec::new());
        let mut scratch = Scratch::new();
        loop {
            match self.conn.next(self.now, &mut input, &mut scratch) {
                Next::Event(event) => events.push(text(event)),
                Next::NeedBytes => break,
                Next::Paused => panic!("a client never pauses"),
            }
        }
        self.unread = input.to_vec();
        events
    }

    /// What became of each request that has no reply.
    pub(super) fn fates(&mut self) -> Vec<(&'static str, &'static str)> {
        let (mut input, mut fates) = (&b""[..], Vec::new());
        while let Next::Event(event) = self.conn.next(self.now, &mut input, &mut Scratch::new()) {
            if let ClientEvent::Reply { waiter, result: Err(error) } = event {
                fates.push((waiter, fate(&error)));
            }
        }
        fates
    }

    pub(super) fn wait_until(&mut self, now: Instant) -> Vec<String> {
        self.now = now;
        self.conn.handle_timeout(now, &mut Scratch::new());
        self.hear(b"")
    }

    pub(super) fn command(&mut self, command: ClientCommand<&'static str>) {
        self.conn.handle_command(self.now, command, &mut Scratch::new());
    }

    pub(super) fn request(&mut self, route: &str, body: &[u8], waiter: &'static str) {
        let (route, body) = (route.into(), Bytes::copy_from_slice(body));
        let deadline = self.now + Duration::from_secs(5);
        self.command(ClientCommand::Request(ClientRequest { route, body, deadline, waiter }));
    }

    pub(super) fn notify(&mut self, route: &str, body: &[u8]) {
        let body = Bytes::copy_from_slice(body);
        self.command(ClientCommand::Notify { route: route.into(), body });
    }

    pub(super) fn sent(&mut self) -> Vec<(PacketKind, Vec<u8>)> {
        let bytes = drain(self.conn.outbox());
        let (mut input, mut packets) = (&bytes[..], Vec::new());
        while let Some(packet) = packet::decode(&mut input, packet::BODY_BYTES_MAX).unwrap() {
            packets.push((packet.kind, packet.body.to_vec()));
        }
        assert_eq!(input, b"");
        packets
    }

    pub(super) fn messages(&mut self) -> Vec<Vec<u8>> {
        let sent = self.sent();
        assert!(sent.iter().all(|(kind, _)| *kind == PacketKind::Data), "{sent:?}");
        sent.into_iter().map(|(_, body)| body).collect()
    }
}

pub(super) fn text(event: ClientEvent<'_, &str>) -> String {
    let utf8 = |bytes| str::from_utf8(bytes).unwrap_or("no text").to_owned();
    match event {
        ClientEvent::Closed(reason) => format!("closed: {reason}"),
        ClientEvent::Opened(server) => format!("opened {}", server.serializer),
        ClientEvent::Push { route, body } => format!("push {route}: {}", utf8(body)),
        ClientEvent::Reply { waiter, result } => match result {
            Ok(body) => format!("{waiter}: {}", utf8(body)),
            Err(error) => format!("{waiter}: {error}"),
        },
    }
}

fn fate(error: &RequestError) -> &'static str {
    match error {
        RequestError::Answered(_) => "answered",
        RequestError::Unsent(_) => "unsent",
        RequestError::Unknown(_) => "unknown",
    }
}

pub(super) fn drain(outbox: &mut Outbox) -> Vec<u8> {
    let bytes = outbox.copy_to_bytes(outbox.remaining());
    bytes.to_vec()
}

pub(super) fn seconds(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

pub(super) fn packet(kind: PacketKind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    packet::encode(kind, body, &mut out).unwrap();
    out
}

pub(super) fn handshake(json: &[u8]) -> Vec<u8> {
    packet(PacketKind::Handshake, json)
}

pub(super) fn accepted(serializer: &str, heartbeat: u64) -> Vec<u8> {
    let sys = format!(r#"{{"dict":{{}},"heartbeat":{heartbeat},"serializer":"{serializer}"}}"#);
    handshake(format!(r#"{{"code":200,"sys":{sys}}}"#).as_bytes())
}

pub(super) fn data(message: Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode_packet(&mut out).unwrap();
    out
}

pub(super) fn response(id: u64, error: bool, body: &[u8]) -> Vec<u8> {
    data(Message::Response { id, error, body: Body::Plain(body) })
}

pub(super) fn push(route: Route<'_>, body: &[u8]) -> Vec<u8> {
    data(Message::Push { route, body: Body::Plain(body) })
}

pub(super) fn request_message(route: Route<'_>) -> Message<'_> {
    Message::Request { id: 1, route, body: Body::Plain(b"") }
}

pub(super) fn request(id: u64, route: Route<'_>, body: &[u8]) -> Vec<u8> {
    encoded(Message::Request { id, route, body: Body::Plain(body) })
}

pub(super) fn notify(route: Route<'_>, body: &[u8]) -> Vec<u8> {
    encoded(Message::Notify { route, body: Body::Plain(body) })
}

pub(super) fn encoded(message: Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out).unwrap();
    out
}
