//! The limits that Pitaya is measured against: one thread, one epoll, nothing else.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;

/// What a loop does with the bytes it reads.
pub(crate) trait Work {
    /// What is kept per connection.
    type Session: Default;

    /// The bytes to send for `input`, built in `output` if they are not there already.
    ///
    /// # Errors
    ///
    /// If the connection is to be closed.
    fn answer<'a>(
        &mut self, session: &mut Self::Session, input: &'a [u8], output: &'a mut Vec<u8>,
    ) -> io::Result<&'a [u8]>;
}

/// Echoes bytes as read, without looking at them.
pub(crate) struct RawEcho;

impl Work for RawEcho {
    type Session = ();

    fn answer<'a>(
        &mut self, (): &mut (), input: &'a [u8], _: &'a mut Vec<u8>,
    ) -> io::Result<&'a [u8]> {
        Ok(input)
    }
}

/// Serves every connection to `listener`, for ever.
pub(crate) fn serve<W: Work>(listener: &TcpListener, work: W) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let (input, output) = (vec![0; BUFFER_BYTES], Vec::with_capacity(BUFFER_BYTES));
    let mut server = Server { epoll, work, connections: Slab::new(), input, output };
    let mut events = [EpollEvent::empty(); EVENTS_MAX];
    loop {
        let ready = server.epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..ready] {
            match event.data() {
                LISTENER => server.accept(listener)?,
                key => server.handle_ready(key as usize),
            }
        }
    }
}

struct Server<W: Work> {
    epoll: Epoll,
    work: W,
    connections: Slab<Connection<W::Session>>,
    input: Vec<u8>,
    output: Vec<u8>,
}

struct Connection<S> {
    stream: TcpStream,
    session: S,
    /// What the peer has not taken yet; nothing is read from it before it does.
    unsent: Vec<u8>,
}

impl<W: Work> Server<W> {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let entry = self.connections.vacant_entry();
            let event = EpollEvent::new(EpollFlags::EPOLLIN, entry.key() as u64);
            self.epoll.add(&stream, event)?;
            entry.insert(Connection { stream, session: W::Session::default(), unsent: Vec::new() });
        }
    }

    fn handle_ready(&mut self, key: usize) {
        match self.progress(key) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The peer went away or sent what is no request; either ends this connection only.
            Err(_) => drop(self.connections.remove(key)),
        }
    }

    fn progress(&mut self, key: usize) -> io::Result<()> {
        let connection = &mut self.connections[key];
        if !connection.unsent.is_empty() {
            return connection.flush(&self.epoll, key);
        }
        let length = connection.stream.read(&mut self.input)?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.output.clear();
        let input = &self.input[..length];
        let reply = self.work.answer(&mut connection.session, input, &mut self.output)?;
        connection.send(reply, &self.epoll, key)
    }
}

impl<S> Connection<S> {
    fn send(&mut self, reply: &[u8], epoll: &Epoll, key: usize) -> io::Result<()> {
        if reply.is_empty() {
            return Ok(());
        }
        let sent = match self.stream.write(reply) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if sent < reply.len() {
            self.unsent.extend_from_slice(&reply[sent..]);
            self.watch(EpollFlags::EPOLLOUT, epoll, key)?;
        }
        Ok(())
    }

    fn flush(&mut self, epoll: &Epoll, key: usize) -> io::Result<()> {
        let sent = self.stream.write(&self.unsent)?;
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            self.watch(EpollFlags::EPOLLIN, epoll, key)?;
        }
        Ok(())
    }

    fn watch(&self, what: EpollFlags, epoll: &Epoll, key: usize) -> io::Result<()> {
        Ok(epoll.modify(&self.stream, &mut EpollEvent::new(what, key as u64))?)
    }
}

const LISTENER: u64 = u64::MAX;
const EVENTS_MAX: usize = 256;
const BUFFER_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::thread;

    use super::*;

    #[test]
    fn a_peer_that_reads_late_gets_every_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(&listener, RawEcho));
        let mut stream = TcpStream::connect(address).unwrap();
        let sent: Vec<u8> = (0..32_u32 << 20).map(|n| (n >> 3) as u8).collect();
        let mut writer = stream.try_clone().unwrap();
        let echoed = thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&sent).unwrap();
            });
            let mut echoed = vec![0; sent.len()];
            stream.read_exact(&mut echoed).unwrap();
            echoed
        });
        stream.shutdown(Shutdown::Both).unwrap();
        assert!(echoed == sent);
    }
}
