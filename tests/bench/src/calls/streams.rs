//! A stream of QUIC for each call, as many do it: quinn with the TLS and the settings of our links.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pitaya_tokio::block_on;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig,
    RecvStream, SendStream, ServerConfig, TransportConfig, VarInt,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;

use super::Order;
use super::load::{self, BODY_BYTES, Caller};
use crate::load::Outcome;
use crate::targets::announce;

/// Answers every stream with what came on it, until the caller is gone.
pub(crate) fn answer() -> io::Result<()> {
    block_on(async {
        let endpoint = endpoint()?;
        announce(endpoint.local_addr()?)?;
        let incoming = endpoint.accept().await.ok_or(io::ErrorKind::NotConnected)?;
        let connection = incoming.await?;
        while let Ok((send, receive)) = connection.accept_bi().await {
            tokio::spawn(answer_one(send, receive));
        }
        Ok(())
    })?
}

pub(super) fn call(order: &Order) -> io::Result<Outcome> {
    block_on(async {
        let connecting = endpoint()?.connect(order.address, NAME).map_err(io::Error::other)?;
        load::run(order, &Streams(connecting.await?)).await
    })?
}

async fn answer_one(mut send: SendStream, mut receive: RecvStream) -> io::Result<()> {
    let body = receive.read_to_end(BODY_BYTES).await.map_err(io::Error::other)?;
    send.write_all(&body).await?;
    Ok(send.finish()?)
}

#[derive(Clone)]
struct Streams(Connection);

impl Caller for Streams {
    type Reply = Vec<u8>;

    async fn call(&mut self, body: [u8; BODY_BYTES]) -> io::Result<Vec<u8>> {
        let (mut send, mut receive) = self.0.open_bi().await?;
        send.write_all(&body).await?;
        send.finish()?;
        receive.read_to_end(BODY_BYTES).await.map_err(io::Error::other)
    }
}

/// It accepts and dials; both sides prove who they are.
fn endpoint() -> io::Result<Endpoint> {
    let (certificate, key) = identity()?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).map_err(io::Error::other)?;
    let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let accepts = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
        .with_single_cert(vec![certificate.clone()], key.clone_key())
        .map_err(io::Error::other)?;
    let dials = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(io::Error::other)?;
    let transport = Arc::new(transport());
    let accepts = QuicServerConfig::try_from(accepts).map_err(io::Error::other)?;
    let mut accepts = ServerConfig::with_crypto(Arc::new(accepts));
    accepts.transport_config(Arc::clone(&transport));
    let dials = QuicClientConfig::try_from(dials).map_err(io::Error::other)?;
    let mut dials = ClientConfig::new(Arc::new(dials));
    dials.transport_config(transport);
    let socket = std::net::UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(MTU_MAX).map_err(io::Error::other)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let mut endpoint = Endpoint::new(config, Some(accepts), socket, runtime)?;
    endpoint.set_default_client_config(dials);
    Ok(endpoint)
}

/// That of both sides: each makes the same.
fn identity() -> io::Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let pkcs8 = [PKCS8_ED25519, &[7; 32]].concat();
    let der = PrivatePkcs8KeyDer::from(pkcs8.clone());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519);
    let key = key.map_err(io::Error::other)?;
    let params = CertificateParams::new([NAME.to_owned()]).map_err(io::Error::other)?;
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(pkcs8).into()))
}

/// As our links have it, but for the number of streams.
fn transport() -> TransportConfig {
    let (mut acknowledgements, mut discovery) =
        (AckFrequencyConfig::default(), MtuDiscoveryConfig::default());
    acknowledgements.ack_eliciting_threshold(VarInt::from_u32(10));
    discovery.upper_bound(MTU_MAX);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .ack_frequency_config(Some(acknowledgements))
        .mtu_discovery_config(Some(discovery));
    config
}

const NAME: &str = "room.internal";
const MTU_MAX: u16 = 6500;
const STREAMS_MAX: u32 = 4096;

/// What stands before the seed of a key of Ed25519 in PKCS#8, version 1.
const PKCS8_ED25519: &[u8] =
    &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
