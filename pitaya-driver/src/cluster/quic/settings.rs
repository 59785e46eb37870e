//! What is set of QUIC, and why.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use pitaya_core::Limits;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    ServerConfig, TransportConfig, VarInt,
};
use rustix::net::sockopt;

use crate::cluster::Identity;

/// How to accept and how to dial, with what the identity shows at that moment.
#[derive(Debug)]
pub(super) struct Settings {
    identity: Identity,
    accepting: Arc<TransportConfig>,
    dialling: Arc<TransportConfig>,
}

impl Settings {
    pub(super) fn new(identity: Identity, limits: &Limits) -> Self {
        let peer_opens = [Opens::TheLink, Opens::TheWelcome];
        let of = |opens| Arc::new(transport(opens, limits));
        let [accepting, dialling] = peer_opens.map(of);
        Self { identity, accepting, dialling }
    }

    pub(super) fn accepts(&self) -> ServerConfig {
        let crypto = QuicServerConfig::try_from(self.identity.shown().accepts).expect(ANY_SUITE);
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(Arc::clone(&self.accepting))
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX)
            // A server that moves is dialled where it is then.
            .migration(false);
        config
    }

    pub(super) fn dials(&self) -> ClientConfig {
        let crypto = QuicClientConfig::try_from(self.identity.shown().dials).expect(ANY_SUITE);
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::clone(&self.dialling));
        config
    }
}

/// What all connections of one socket have in common.
pub(super) fn endpoint() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(MTU_MAX).expect("it is above the least that QUIC allows");
    config
}

/// Room for the bursts of many peers. The system may give less, with which it works as well, only
/// that more is sent twice.
pub(super) fn enlarge_buffers(socket: &UdpSocket) {
    let received = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BYTES);
    let sent = sockopt::set_socket_send_buffer_size(socket, SOCKET_BYTES);
    if let Err(error) = received.and(sent) {
        tracing::debug!(%error, "the buffers of the socket stay as small as they are");
    }
}

/// The one stream that a peer may open.
enum Opens {
    /// By whoever dials.
    TheLink,
    /// By whoever accepts, to say that it did.
    TheWelcome,
}

fn transport(peer: Opens, limits: &Limits) -> TransportConfig {
    let (both_ways, one_way) = match peer {
        Opens::TheLink => (1, 0),
        Opens::TheWelcome => (0, 1),
    };
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(both_ways))
        .max_concurrent_uni_streams(VarInt::from_u32(one_way))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(idle_timeout(limits.link_dead_after))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(WINDOW_BYTES.into())
        .ack_frequency_config(Some(acknowledgements()))
        .mtu_discovery_config(Some(mtu_discovery()))
        .datagram_receive_buffer_size(None);
    config
}

/// None if the link is to wait for its peer for ever.
fn idle_timeout(link_dead_after: Duration) -> Option<IdleTimeout> {
    IdleTimeout::try_from(link_dead_after.saturating_add(IDLE_MORE)).ok()
}

/// Fewer of them, which spares a datagram for each batch of calls; yet soon, since a small window
/// waits for them.
fn acknowledgements() -> AckFrequencyConfig {
    let mut config = AckFrequencyConfig::default();
    config.ack_eliciting_threshold(VarInt::from_u32(10)).max_ack_delay(Some(ACK_DELAY_MAX));
    config
}

fn mtu_discovery() -> MtuDiscoveryConfig {
    let mut config = MtuDiscoveryConfig::default();
    config.upper_bound(MTU_MAX);
    config
}

const ANY_SUITE: &str = "an identity has all suites, that with which QUIC begins among them";

/// The largest datagram, where the way takes it: the loopback, or jumbo frames. Ten of them are
/// given to the system at once, which takes 64 KiB.
const MTU_MAX: u16 = 6500;

/// As often as a link says something anyway.
const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// So much longer than the link waits for its peer, which then says why it ends.
const IDLE_MORE: Duration = Duration::from_secs(1);

const ACK_DELAY_MAX: Duration = Duration::from_millis(5);

/// What one peer may have on the way, and so what it may cost in memory, on each side. It is there
/// once for each round trip: a gigabit per second over 8 ms, or 10 MB per second over 100 ms.
const WINDOW_BYTES: u32 = 1 << 20;

/// Of those who dialled and wait to be accepted.
const INCOMING_MAX: usize = 1024;
const INCOMING_BYTES_MAX: u64 = 64 << 10;
const INCOMING_BYTES_TOTAL_MAX: u64 = 16 << 20;

/// More than a few peers have on the way.
const SOCKET_BYTES: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_waits_for_longer_than_its_link_however_long_that_is() {
        let after = |seconds| idle_timeout(Duration::from_secs(seconds));
        let waits = |seconds| IdleTimeout::try_from(Duration::from_secs(seconds)).ok();
        assert_eq!((after(10), after(60)), (waits(11), waits(61)));
        assert_eq!(idle_timeout(Duration::MAX), None);
    }
}
