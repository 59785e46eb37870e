//! The other end of a link, in the same process: what the frames of this server say goes to the
//! [`Rpc`], and what comes from there is put into frames.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use futures_io::{AsyncRead, AsyncWrite};
use pitaya_core::cluster::{Life, LinkConfig, ServerInfo, refusal};
use pitaya_core::{Counter, Counters, Error};
use pitaya_proto::error;
use pitaya_proto::link::{self, Frame};

use super::{Inbox, Inner, Word, insist};
use crate::cluster::rpc::{Answer, Rpc, Told};
use crate::drive::Commands;
use crate::mailbox::Sent;

/// Speaks for one other server.
pub(super) struct FarEnd {
    life: Life,
    config: Arc<LinkConfig>,
    rpc: Arc<dyn Rpc>,
    inbox: Arc<Inbox>,
    /// Who over there waits for which call.
    callers: BTreeMap<u32, Answer>,
    calls: u32,
    /// The beginning of a frame of this server.
    input: Vec<u8>,
    /// The beginnings of long frames of this server.
    parts: BTreeMap<u32, Vec<u8>>,
    /// Frames for this server.
    output: Cursor<Vec<u8>>,
    is_over: bool,
    /// Neither server leaves, so that the other one has to hear if the link ends.
    is_wanted: bool,
    reader: Option<Waker>,
}

impl FarEnd {
    pub(super) fn new(server: &ServerInfo, inbox: Arc<Inbox>, desk: &Inner) -> Self {
        let mut far_end = Self {
            life: Life::from(server),
            config: Arc::clone(&desk.config),
            rpc: Arc::clone(&desk.rpc),
            inbox,
            callers: BTreeMap::new(),
            calls: 0,
            input: Vec::new(),
            parts: BTreeMap::new(),
            output: Cursor::default(),
            is_over: false,
            is_wanted: true,
            reader: None,
        };
        // It is always the other one who has dialled, and only once.
        far_end.put_or_drop(&Frame::Hello(server.hello(1)));
        far_end
    }

    /// Takes the whole frames at the front of what this server has written.
    fn take_all(&mut self) -> io::Result<()> {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some(frame) = decode(&mut rest)? {
            self.take(frame)?;
        }
        self.input = rest.to_vec();
        Ok(())
    }

    fn take(&mut self, frame: Frame<'_>) -> io::Result<()> {
        match frame {
            Frame::Call { id: 0, remaining, request } => {
                self.tell(Told::Notify { remaining, request: Bytes::copy_from_slice(request) });
            }
            Frame::Call { id, remaining, request } => {
                let request = Bytes::copy_from_slice(request);
                let (inbox, config) = (Arc::clone(&self.inbox), Arc::clone(&self.config));
                let answer = Answer::new(move |it| answer(&inbox, &config.conn.counters, id, it));
                self.rpc.call(&self.life, remaining, request, answer);
            }
            Frame::Closed(session) => self.tell(Told::Closed(session)),
            Frame::Drain => {
                self.is_wanted = false;
                self.tell(Told::Drains);
            }
            Frame::Drained => self.tell(Told::Drained),
            // What others there are, the other server hears from its own carrier.
            Frame::Heartbeat | Frame::Hello(_) | Frame::Known(_) => {}
            Frame::Kick(kick) => self.tell(Told::Kick(kick)),
            Frame::Part { id, last, bytes } => return self.take_part(id, last, bytes),
            Frame::Push(push) => self.tell(Told::Push(push)),
            Frame::Reply { id, response } => {
                if let Some(caller) = self.callers.remove(&id) {
                    caller.give(Ok(Bytes::copy_from_slice(response)));
                }
            }
            Frame::Seat(seat) => self.tell(Told::Seat(seat)),
        }
        Ok(())
    }

    fn take_part(&mut self, id: u32, last: bool, bytes: &[u8]) -> io::Result<()> {
        let whole = self.parts.entry(id).or_default();
        whole.extend_from_slice(bytes);
        if !last {
            return Ok(());
        }
        let whole = self.parts.remove(&id).unwrap_or_default();
        match decode(&mut &whole[..])? {
            Some(frame) => self.take(frame),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn tell(&self, told: Told) {
        self.rpc.tell(&self.life, told);
    }

    /// Puts what has come into frames; if there is nothing, the task of `cx` is woken by it.
    fn fill(&mut self, cx: &Context<'_>) -> io::Result<()> {
        let mut words = Commands::new();
        // Whoever has something to read comes again.
        while !self.output.has_remaining() && !self.is_over {
            if self.inbox.poll(cx, &mut words).is_ready() {
                let id = &self.life.id;
                tracing::warn!(%id, "more comes from a server than there is room for");
                self.end();
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if words.is_empty() {
                break;
            }
            words.drain(..).for_each(|word| self.hear(word));
        }
        Ok(())
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Answered(id, response) => self.answer(id, &response),
            Word::Call { remaining, request, answer } => {
                let id = self.next_id();
                match self.put(&Frame::Call { id, remaining, request: &request }) {
                    Ok(()) => drop(self.callers.insert(id, answer)),
                    Err(why) => answer.give(Err(why)),
                }
            }
            Word::Gone => (self.is_over, self.is_wanted) = (true, false),
            Word::Told(Told::Closed(session)) => self.put_or_drop(&Frame::Closed(session)),
            Word::Told(Told::Drained) => self.put_or_drop(&Frame::Drained),
            Word::Told(Told::Drains) => self.put_or_drop(&Frame::Drain),
            Word::Told(Told::Kick(kick)) => self.put_or_drop(&Frame::Kick(kick)),
            Word::Told(Told::Notify { remaining, request }) => {
                self.put_or_drop(&Frame::Call { id: 0, remaining, request: &request });
            }
            Word::Told(Told::Push(push)) => self.put_or_drop(&Frame::Push(push)),
            Word::Told(Told::Seat(seat)) => self.put_or_drop(&Frame::Seat(seat)),
        }
    }

    /// An id that no call has which waits.
    fn next_id(&mut self) -> u32 {
        loop {
            // Zero wants no answer.
            self.calls = self.calls.checked_add(1).unwrap_or(1);
            if !self.callers.contains_key(&self.calls) {
                return self.calls;
            }
        }
    }

    fn answer(&mut self, id: u32, response: &[u8]) {
        if let Err(why) = self.put(&Frame::Reply { id, response }) {
            self.put_or_drop(&Frame::Reply { id, response: &refusal(&why) });
        }
    }

    fn put(&mut self, frame: &Frame<'_>) -> Result<(), Error> {
        let output = self.output.get_mut();
        let before = output.len();
        let put = link::encode(frame, output).is_ok();
        let body_bytes = (output.len() - before).saturating_sub(link::HEADER_BYTES);
        if put && body_bytes <= self.config.conn.limits.link_frame_bytes_max {
            return Ok(());
        }
        output.truncate(before);
        Err(Error::new(error::TOO_LARGE, "it is too large for a frame"))
    }

    fn put_or_drop(&mut self, frame: &Frame<'_>) {
        if self.put(frame).is_err() {
            self.config.conn.counters.add(Counter::LinkFramesDropped);
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        self.inbox.close();
        // Whoever waits for an answer is told by that.
        self.inbox.take(&mut Commands::new());
        self.callers.clear();
    }
}

impl AsyncRead for FarEnd {
    fn poll_read(
        self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.fill(cx)?;
        let count = this.output.remaining().min(buffer.len());
        if count == 0 && !this.is_over {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        this.output.copy_to_slice(&mut buffer[..count]);
        if !this.output.has_remaining() {
            this.output = Cursor::default();
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for FarEnd {
    fn poll_write(
        self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.is_over {
            this.input.extend_from_slice(bytes);
            this.take_all()?;
            // Whatever this server says is answered, so that the link is not taken for silent.
            if !this.output.has_remaining() {
                this.put_or_drop(&Frame::Heartbeat);
            }
        }
        this.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.end();
        // Not where it is merely dropped: then all of this server is.
        if std::mem::take(&mut this.is_wanted) {
            this.rpc.lost(&this.life);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for FarEnd {
    /// What is said to it from now on reaches nobody, and whoever says it is told.
    fn drop(&mut self) {
        self.end();
    }
}

/// Says what came of a call. An answer that finds no room is an error instead, so that nobody waits
/// for it in vain.
fn answer(inbox: &Inbox, counters: &Counters, id: u32, result: Result<Bytes, Error>) {
    let response = result.unwrap_or_else(|error| refusal(&error));
    let bytes = response.len();
    if inbox.send(Word::Answered(id, response), bytes) == Sent::Full {
        counters.add(Counter::LinkCallsRefused);
        // Where there is no room for that either, its caller is told by the end of the link.
        let _ = insist(inbox, Word::Answered(id, refusal(&error::SERVER_BUSY.into())));
    }
}

/// A frame of this server, which sends none that is too long.
fn decode<'a>(input: &mut &'a [u8]) -> io::Result<Option<Frame<'a>>> {
    link::decode(input, link::BODY_BYTES_MAX)
        .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}
