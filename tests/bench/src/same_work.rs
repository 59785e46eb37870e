//! The limit for pipelined load: what Pitaya has to do for a request, and nothing that it adds.

use std::collections::HashMap;
use std::io;

use foldhash::fast::RandomState;
use pitaya_proto::limits::PACKET_BODY_BYTES_MAX;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::packet::{self, Packet, PacketKind};

use crate::frames::{self, Msg};
use crate::limit::Work;

/// Pitaya's codec, a table of routes and their handlers.
pub(crate) struct SameWork {
    handlers: HashMap<&'static [u8], Box<Handler>, RandomState>,
    reply: Vec<u8>,
}

/// Appends the reply to the body of a request.
type Handler = dyn Fn(&[u8], &mut Vec<u8>) -> io::Result<()> + Send;

/// The packet whose end has not come yet.
#[derive(Default)]
pub(crate) struct Partial(Vec<u8>);

impl SameWork {
    pub(crate) fn new() -> Self {
        let mut handlers = HashMap::<_, Box<Handler>, _>::default();
        // There are no sessions to bind here.
        handlers.insert(frames::BIND.as_bytes(), Box::new(echo));
        handlers.insert(frames::ECHO.as_bytes(), Box::new(echo));
        handlers.insert(frames::JSON.as_bytes(), Box::new(json));
        Self { handlers, reply: Vec::new() }
    }

    /// Answers the whole packets at the front of `input` and says how long they are.
    fn packets(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        let mut rest = input;
        while let Some(packet) =
            packet::decode(&mut rest, PACKET_BODY_BYTES_MAX).map_err(invalid)?
        {
            self.packet(packet, output)?;
        }
        Ok(input.len() - rest.len())
    }

    fn packet(&mut self, packet: Packet<'_>, output: &mut Vec<u8>) -> io::Result<()> {
        match packet.kind {
            PacketKind::Data => self.request(packet.body, output),
            PacketKind::Handshake => {
                packet::encode(PacketKind::Handshake, SHAKEN, output).map_err(invalid)
            }
            PacketKind::HandshakeAck | PacketKind::Heartbeat | PacketKind::Kick => Ok(()),
        }
    }

    fn request(&mut self, message: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        let message = Message::decode(message).map_err(invalid)?;
        let Message::Request { id, route: Route::Name(name), body: Body::Plain(body) } = message
        else {
            return Err(invalid("no request of the load"));
        };
        let handler = self.handlers.get(name).ok_or_else(|| invalid("unknown route"))?;
        self.reply.clear();
        handler(body, &mut self.reply)?;
        let response = Message::Response { id, error: false, body: Body::Plain(&self.reply) };
        response.encode_packet(output).map_err(invalid)
    }
}

impl Work for SameWork {
    type Session = Partial;

    fn answer<'a>(
        &mut self, Partial(partial): &mut Partial, input: &'a [u8], output: &'a mut Vec<u8>,
    ) -> io::Result<&'a [u8]> {
        if partial.is_empty() {
            let taken = self.packets(input, output)?;
            partial.extend_from_slice(&input[taken..]);
        } else {
            partial.extend_from_slice(input);
            let taken = self.packets(partial, output)?;
            partial.drain(..taken);
        }
        Ok(output)
    }
}

fn echo(body: &[u8], reply: &mut Vec<u8>) -> io::Result<()> {
    reply.extend_from_slice(body);
    Ok(())
}

fn json(body: &[u8], reply: &mut Vec<u8>) -> io::Result<()> {
    let msg: Msg = serde_json::from_slice(body)?;
    Ok(serde_json::to_writer(reply, &msg)?)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

const SHAKEN: &[u8] = br#"{"code":200,"sys":{"dict":{},"heartbeat":30,"serializer":"json"}}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Frame, Route, packet};

    #[test]
    fn however_requests_are_cut_each_gets_its_reply() {
        for route in [Route::Echo, Route::Json] {
            let stream: Vec<u8> =
                (0..3).flat_map(|n| Frame::request(route).stamped(n).to_vec()).collect();
            let replies: Vec<u8> =
                (0..3).flat_map(|n| Frame::reply().stamped(n).to_vec()).collect();
            for piece in 1..=stream.len() {
                assert_eq!(answered(&stream, piece).unwrap(), replies);
            }
        }
    }

    #[test]
    fn a_handshake_is_answered_and_an_ack_is_not() {
        let stream = [packet(frames::HANDSHAKE, b"{}"), packet(frames::HANDSHAKE_ACK, b"")];
        let response = packet(frames::HANDSHAKE, SHAKEN);
        assert_eq!(answered(&stream.concat(), 3).unwrap(), response);
    }

    #[test]
    fn what_is_no_request_closes_the_connection() {
        assert!(answered(b"GET / HTTP/1.1\r\n", 4).is_err());
        assert!(answered(&packet(frames::DATA, b"\x00\x01\x03abc"), 64).is_err());
    }

    fn answered(stream: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let (mut work, mut session) = (SameWork::new(), Partial::default());
        let mut answers = Vec::new();
        for input in stream.chunks(piece) {
            let mut output = Vec::new();
            answers.extend_from_slice(work.answer(&mut session, input, &mut output)?);
        }
        Ok(answers)
    }
}
