//! What a machine said and wrote, and whether the packets of a server come in a legal order.

use pitaya_proto::handshake::HandshakeResponse;
use pitaya_proto::packet::{Packet, PacketKind};
use pitaya_proto::zlib::Scratch;

use crate::line::Reader;

/// Everything that a run showed to the outside.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Transcript {
    pub(crate) events: Vec<String>,
    pub(crate) written: Vec<u8>,
}

/// One answer to the handshake, then, once the client works, anything but one, then perhaps a kick.
#[derive(Default)]
pub(crate) struct ServerOrder {
    reader: Reader,
    accepted: Option<bool>,
    kicked: bool,
}

impl ServerOrder {
    /// Of a stream whose handshake is read already.
    pub(crate) fn accepted() -> Self {
        Self { accepted: Some(true), ..Self::default() }
    }

    /// The server has written this; whether the client worked by then.
    pub(crate) fn check(&mut self, written: &[u8], opened: bool) {
        let mut reader = std::mem::take(&mut self.reader);
        reader.read(written, |packet| self.on_packet(packet, opened));
        self.reader = reader;
    }

    fn on_packet(&mut self, packet: Packet<'_>, opened: bool) {
        assert!(!self.kicked, "{packet:?} after a kick");
        match packet.kind {
            PacketKind::Handshake => {
                assert_eq!(self.accepted, None, "a second answer to the handshake");
                let answer = HandshakeResponse::parse(packet.body, &mut Scratch::new(), usize::MAX);
                let code = answer.expect("it is ours").code;
                self.accepted = Some(code == HandshakeResponse::ACCEPTED);
            }
            PacketKind::Heartbeat | PacketKind::Data | PacketKind::Kick => {
                assert!(
                    opened && self.accepted == Some(true),
                    "{packet:?} before the client works"
                );
                self.kicked = packet.kind == PacketKind::Kick;
            }
            PacketKind::HandshakeAck => panic!("a server acknowledges nothing"),
        }
    }
}
