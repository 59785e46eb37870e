//! The one table of what each packet means in each phase, for both sides.

use pitaya_proto::packet::PacketKind;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Nothing is agreed on.
    AwaitHandshake,
    /// The server has answered the handshake and waits for the client's word.
    AwaitAck,
    /// Messages flow.
    Working,
    /// Nothing is read any more.
    Closed,
}

/// Which side reads the packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What to do about a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// It proves the peer alive and says no more.
    Hear,
    /// The server kicks.
    Kicked,
    /// The client is ready.
    Open,
    /// It carries a message.
    Receive,
    /// No peer that knows the protocol sends this now.
    Refuse,
    /// It is the handshake or its answer.
    Shake,
}

/// Whatever is not said here is refused.
///
/// A second handshake is refused, as is data before the acknowledgement. Clients beat from the
/// handshake on, servers in Go even before their answer, and a server ignores a kick, as Pitaya's
/// own does.
pub(crate) const fn step(side: Side, phase: Phase, kind: PacketKind) -> Step {
    use PacketKind::{Data, Handshake, HandshakeAck, Heartbeat, Kick};
    match (side, phase, kind) {
        (_, Phase::AwaitHandshake, Handshake) => Step::Shake,
        (Side::Server, Phase::AwaitAck, HandshakeAck) => Step::Open,
        (_, Phase::Working, Data) => Step::Receive,
        (Side::Client, Phase::AwaitHandshake | Phase::Working, Kick) => Step::Kicked,
        (Side::Client, Phase::AwaitHandshake | Phase::Working, Heartbeat)
        | (Side::Server, _, Heartbeat | Kick)
        | (Side::Server, Phase::Working, HandshakeAck) => Step::Hear,
        (_, _, Data | Handshake | HandshakeAck | Heartbeat | Kick) => Step::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_work_is_handshake_then_acknowledgement() {
        use PacketKind::{Data, Handshake, HandshakeAck};
        let server = |phase, kind| step(Side::Server, phase, kind);
        assert_eq!(server(Phase::AwaitHandshake, Handshake), Step::Shake);
        assert_eq!(server(Phase::AwaitHandshake, HandshakeAck), Step::Refuse);
        assert_eq!(server(Phase::AwaitAck, HandshakeAck), Step::Open);
        assert_eq!(server(Phase::AwaitAck, Data), Step::Refuse);
        assert_eq!(server(Phase::Working, Data), Step::Receive);
        assert_eq!(server(Phase::Working, Handshake), Step::Refuse);
    }

    #[test]
    fn a_server_may_beat_before_its_answer_as_those_in_go_do() {
        let client = |phase| step(Side::Client, phase, PacketKind::Heartbeat);
        assert_eq!(client(Phase::AwaitHandshake), Step::Hear);
        assert_eq!(client(Phase::Working), Step::Hear);
    }

    #[test]
    fn only_a_client_can_be_kicked() {
        assert_eq!(step(Side::Client, Phase::Working, PacketKind::Kick), Step::Kicked);
        assert_eq!(step(Side::Server, Phase::Working, PacketKind::Kick), Step::Hear);
    }
}
