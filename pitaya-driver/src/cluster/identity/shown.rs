//! What a server shows to others when it accepts and when it dials, and whom it believes.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::transport::tls::{TlsError, provider};

/// A certificate and its authorities, as TLS wants them. A clone is the same.
#[derive(Clone)]
pub(in crate::cluster) struct Shown {
    pub(in crate::cluster) accepts: Arc<ServerConfig>,
    pub(in crate::cluster) dials: Arc<ClientConfig>,
}

impl Shown {
    pub(super) fn new(
        authorities: Vec<CertificateDer<'static>>, chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(rejected)?;
        }
        let roots = Arc::new(roots);
        let accepts = accepts(Arc::clone(&roots), chain.clone(), key.clone_key())?;
        let dials = dials(roots, chain, key)?;
        Ok(Self { accepts: Arc::new(accepts), dials: Arc::new(dials) })
    }
}

/// No resumption and no tickets: who is there is proven each time, and nothing is said before.
fn accepts(
    roots: Arc<RootCertStore>, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
    let verifier = verifier.map_err(|error| TlsError::Rejected(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(rejected)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key);
    let mut config = config.map_err(rejected)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

fn dials(
    roots: Arc<RootCertStore>, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(rejected)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key);
    let mut config = config.map_err(rejected)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn rejected(error: rustls::Error) -> TlsError {
    TlsError::Rejected(error.to_string())
}

/// What is spoken between servers. Another protocol gets another name, and neither side takes one
/// for the other.
const ALPN: &[u8] = b"pitaya-link/1";
