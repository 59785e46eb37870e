//! The driver's own layer for TLS over a socket that blocks.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use pitaya_core::{Counters, Instant, Limits, Outbox};
use pitaya_driver::{Room, Transport};

use crate::certificate;

/// What a server reads and writes in the clear.
pub(crate) struct Secure {
    socket: TcpStream,
    transport: Transport,
    room: Room,
    outbox: Outbox,
    clear: BytesMut,
}

impl Secure {
    pub(crate) fn accept(socket: TcpStream) -> io::Result<Self> {
        let (limits, counters) = (Limits::default(), Arc::new(Counters::default()));
        let tls = Some(&certificate::shown().tls);
        let transport = Transport::accept(tls, None, NOW, &limits, &counters)?;
        let (room, outbox, clear) = (Room::default(), Outbox::default(), BytesMut::new());
        Ok(Self { socket, transport, room, outbox, clear })
    }
}

impl Read for Secure {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.clear.is_empty() && !self.transport.is_ended() {
            let mut wire = [0; 16 << 10];
            let length = self.socket.read(&mut wire)?;
            if length == 0 {
                break;
            }
            let (plain, read) = self.transport.decode(NOW, &wire[..length], &mut self.room);
            self.clear.extend_from_slice(plain);
            // An alert is told before the end.
            self.flush()?;
            read?;
        }
        let length = self.clear.len().min(buffer.len());
        self.clear.split_to(length).copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

impl Write for Secure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbox.append(|queue| queue.write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        loop {
            let mut wire = self.transport.encode(&mut self.outbox);
            if !wire.has_remaining() {
                return Ok(());
            }
            let length = self.socket.write(wire.chunk())?;
            wire.advance(length);
        }
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        if let Some(last) = self.transport.close() {
            // The peer may be gone.
            let _ = self.socket.write_all(last);
        }
    }
}

/// The deadlines of the layer are for those who ask for them, and the socket has its own.
const NOW: Instant = Instant::ZERO;
