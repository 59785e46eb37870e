//! An authority of one's own, and certificates that are not as they should be.

use std::sync::Arc;

use pitaya_driver::cluster::Identity;
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a certificate is to say.
pub(crate) struct Wanted {
    pub(crate) cluster: &'static str,
    pub(crate) server: &'static str,
    pub(crate) last_year: i32,
}

pub(crate) const GOOD: Wanted =
    Wanted { cluster: "cluster.internal", server: "pitaya://room/own", last_year: 4000 };

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn identity(&self, wanted: Wanted) -> Identity {
        let [authority, chain, key] = self.pem(wanted);
        Identity::from_pem(authority, chain, key).unwrap()
    }

    /// The authority, a certificate of it and its key, as files have them.
    pub(crate) fn pem(&self, wanted: Wanted) -> [String; 3] {
        let (chain, key) = self.issue(wanted);
        [self.0.pem(), chain.pem(), key.serialize_pem()]
    }

    /// How somebody dials who shows a certificate or none, and asks for those protocols.
    pub(crate) fn dials(&self, shows: Option<Wanted>, protocols: &[&str]) -> quinn::ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_root_certificates(roots);
        let mut config = match shows.map(|wanted| self.issue(wanted)) {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
                config.with_client_auth_cert(vec![chain.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
    }

    fn issue(&self, wanted: Wanted) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::DnsName(wanted.cluster.try_into().unwrap()),
            SanType::URI(wanted.server.try_into().unwrap()),
        ];
        params.not_after = date_time_ymd(wanted.last_year, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}
