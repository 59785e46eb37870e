//! The authority that a secret is: the same, byte for byte, wherever the secret is known.

use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use ring::hkdf::{HKDF_SHA256, Salt};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::IdentityError;
use super::names::{CLUSTER_NAME, is_kind, uri};
use super::secret::SECRET_BYTES_MIN;
use crate::cluster::Proven;
use crate::transport::tls::TlsError;

/// An authority whose key comes from a secret.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn derive(secret: &[u8]) -> Result<Self, IdentityError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(IdentityError::SecretShort(secret.len()));
        }
        let pkcs8 = [PKCS8_ED25519, &seed(secret)[..]].concat();
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.into(), &PKCS_ED25519);
        let made = CertifiedIssuer::self_signed(authority(), key.map_err(rejected)?);
        Ok(Self(made.map_err(rejected)?))
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate for that server from `now` on, and a new key.
    pub(super) fn issue(
        &self, server: &Proven, now: SystemTime,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), IdentityError> {
        if !is_kind(&server.kind) {
            return Err(IdentityError::Kind(server.kind.to_string()));
        }
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(rejected)?;
        let params = leaf(server, now).map_err(rejected)?;
        let certificate = params.signed_by(&key, &self.0).map_err(rejected)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((certificate.der().clone(), key.into()))
    }
}

/// Whether a certificate that was issued at `since` has to be replaced: most of its life is over,
/// or the clock was so wrong then that nobody believes it yet.
pub(super) fn is_due(since: SystemTime, now: SystemTime) -> bool {
    match now.duration_since(since) {
        Ok(age) => age >= RENEWED_AFTER,
        Err(ahead) => ahead.duration() >= CLOCKS_DIFFER_BY,
    }
}

/// Whatever stands here is part of what all servers of a cluster have to agree on.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Pitaya cluster");
    params.serial_number = Some(SerialNumber::from(1));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf(server: &Proven, now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Pitaya server");
    params.subject_alt_names = vec![
        SanType::DnsName(Ia5String::try_from(CLUSTER_NAME)?),
        SanType::URI(Ia5String::try_from(uri(server))?),
    ];
    params.not_before = (now - CLOCKS_DIFFER_BY).into();
    params.not_after = (now + VALID_FOR).into();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// The private key of the authority.
fn seed(secret: &[u8]) -> [u8; 32] {
    let mut seed = [0; 32];
    let key = Salt::new(HKDF_SHA256, SALT).extract(secret);
    key.expand(&[INFO], HKDF_SHA256)
        .and_then(|expanded| expanded.fill(&mut seed))
        .expect("a seed is as long as a SHA-256");
    seed
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn rejected(error: rcgen::Error) -> TlsError {
    TlsError::Rejected(error.to_string())
}

const SALT: &[u8] = b"pitaya cluster";
const INFO: &[u8] = b"authority 1";

/// What stands before the seed of a key of Ed25519 in PKCS#8, version 1.
const PKCS8_ED25519: &[u8] =
    &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// The key is in the memory of one process only, and ends with it; so the certificate need not end
/// before any server does that is updated now and then.
const VALID_FOR: Duration = Duration::from_secs(365 * DAY_SECS);

/// Two thirds of its life: the last third is for clocks that are wrong.
const RENEWED_AFTER: Duration = Duration::from_secs(365 * DAY_SECS * 2 / 3);

/// How far the clocks of two servers may be apart.
const CLOCKS_DIFFER_BY: Duration = Duration::from_secs(DAY_SECS);

const DAY_SECS: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::identity::names::proven;
    use pitaya_core::cluster::ServerId;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn server(kind: &str, id: &str) -> Proven {
        Proven { id: ServerId::new(id).unwrap(), kind: kind.into() }
    }

    #[test]
    fn one_secret_is_one_authority_byte_for_byte() {
        let [one, two] = [SECRET, SECRET].map(|secret| Authority::derive(secret).unwrap());
        assert_eq!(one.certificate(), two.certificate());
        let other = Authority::derive(&[SECRET, b"!"].concat()).unwrap();
        assert_ne!(one.certificate(), other.certificate());
    }

    #[test]
    fn the_key_of_an_authority_never_changes_from_version_to_version() {
        // Otherwise servers of two versions would not believe each other.
        let hex: String = seed(SECRET).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "3b82dd6f7d4dd6664f07ba8ec6fd06c25bfd6fffa4e2f52371d1874a6a3e6b91");
    }

    #[test]
    fn a_secret_that_could_be_guessed_is_refused() {
        let short = Authority::derive(&SECRET[1..]).err();
        assert_eq!(short, Some(IdentityError::SecretShort(SECRET_BYTES_MIN - 1)));
    }

    #[test]
    fn who_a_server_is_survives_its_certificate_however_odd_its_name() {
        let authority = Authority::derive(SECRET).unwrap();
        for (kind, id) in [
            ("room", "room-1"),
            ("ro om", "a b%2F?#[]@"),
            ("%2F", "%"),
            ("Räume", "🍉.pitaya:x"),
            ("k:8\\", &"long".repeat(60)),
        ] {
            let server = server(kind, id);
            let (certificate, _) = authority.issue(&server, SystemTime::now()).unwrap();
            assert_eq!(proven(&certificate), Some(server));
        }
        for kind in ["", "a.b", "a/b", "a\n"] {
            let refused = authority.issue(&server(kind, "x"), SystemTime::now()).err();
            assert_eq!(refused, Some(IdentityError::Kind(kind.to_owned())));
        }
    }

    #[test]
    fn a_certificate_that_names_no_server_of_a_cluster_names_nobody() {
        let named = |names: &[SanType]| {
            let mut params = CertificateParams::default();
            params.subject_alt_names = names.to_vec();
            let key = KeyPair::generate().unwrap();
            proven(params.self_signed(&key).unwrap().der())
        };
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let uri = |name: &str| SanType::URI(name.try_into().unwrap());
        let cluster = dns(CLUSTER_NAME);
        assert_eq!(named(&[cluster.clone(), uri("pitaya://a/b")]), Some(server("a", "b")));
        assert_eq!(
            named(&[cluster.clone(), uri("spiffe://x/y"), uri("pitaya://a/b")]),
            Some(server("a", "b"))
        );
        for names in [
            &[cluster.clone()][..],
            &[uri("pitaya://a/b")],
            &[dns("other.internal"), uri("pitaya://a/b")],
            &[cluster.clone(), uri("pitaya://a/b"), uri("pitaya://a/c")],
            &[cluster.clone(), uri("pitaya://a")],
            &[cluster.clone(), uri("pitaya://a.b/c")],
            &[cluster.clone(), uri("pitaya://a/b/c")],
            &[cluster.clone(), uri("pitaya://a/%2F")],
            &[cluster.clone(), uri("pitaya://a/%FF")],
        ] {
            assert_eq!(named(names), None, "{names:?}");
        }
    }
}
