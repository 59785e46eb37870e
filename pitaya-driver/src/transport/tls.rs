//! TLS 1.2 and 1.3 with rustls: what a server shows, and whom a client trusts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme,
};

/// The certificate that a server shows, and its key. A clone is the same certificate, so a server
/// that runs can be given another one.
///
/// ```no_run
/// use pitaya_driver::Tls;
///
/// let tls = Tls::from_files("chain.pem", "key.pem")?;
/// // Later, when the files have changed; connections that are open are not touched:
/// tls.reload()?;
/// # Ok::<(), pitaya_driver::TlsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tls(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    config: RwLock<Arc<ServerConfig>>,
    /// The certificates and the key, if they came from files.
    files: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// The certificate chain and the private key in these files, both in PEM.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, or do not hold a certificate and its key.
    pub fn from_files(
        certificates: impl AsRef<Path>, key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let files = (certificates.as_ref().to_owned(), key.as_ref().to_owned());
        let config = read_files(&files)?;
        Ok(Self(Arc::new(Shown { config: RwLock::new(config), files: Some(files) })))
    }

    /// The certificate chain and the private key in these texts, both in PEM.
    ///
    /// # Errors
    ///
    /// Texts that do not hold a certificate and its key.
    pub fn from_pem(
        certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>,
    ) -> Result<Self, TlsError> {
        Ok(Self::from_config(read_pem(certificates.as_ref(), key.as_ref())?))
    }

    /// A configuration of rustls, for those who need what is not offered here. It should ask for no
    /// ALPN: existing clients send none.
    pub fn from_config(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(Shown { config: RwLock::new(config), files: None }))
    }

    /// Reads the files again; connections that are accepted from now on see what they hold.
    ///
    /// # Errors
    ///
    /// As [`from_files`](Self::from_files), or there are no files; the certificate stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let files = self.0.files.as_ref().ok_or(TlsError::NoFiles)?;
        self.show(read_files(files)?);
        Ok(())
    }

    /// Shows another certificate to connections that are accepted from now on.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem); the certificate stays as it was.
    pub fn replace(
        &self, certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>,
    ) -> Result<(), TlsError> {
        self.show(read_pem(certificates.as_ref(), key.as_ref())?);
        Ok(())
    }

    fn show(&self, config: Arc<ServerConfig>) {
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    pub(super) fn accept(&self) -> io::Result<Connection> {
        let config = Arc::clone(&self.0.config.read().unwrap_or_else(PoisonError::into_inner));
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        // What is written is bounded before it comes here.
        connection.set_buffer_limit(None);
        Ok(connection.into())
    }
}

/// Whom a client trusts.
#[derive(Clone, Debug)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// Trusts servers with a certificate of one of these authorities, in PEM.
    ///
    /// # Errors
    ///
    /// A text that holds no certificate.
    pub fn trusting(authorities: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities.as_ref())? {
            roots.add(authority).map_err(|error| TlsError::Rejected(error.to_string()))?;
        }
        let config = client()?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Trusts servers with a certificate of one of the authorities that the system trusts.
    ///
    /// # Errors
    ///
    /// The system names none.
    pub fn trusting_system() -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        if roots.add_parsable_certificates(found.certs).0 == 0 {
            return Err(TlsError::NoAuthorities);
        }
        let config = client()?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Trusts whoever answers: for development only, since anybody on the way can read and change
    /// what is said.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn trusting_anybody() -> Result<Self, TlsError> {
        let provider = ring::default_provider();
        let verifier = Arc::new(TrustAnybody(provider));
        let config = client()?.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Self(Arc::new(config.with_no_client_auth())))
    }

    /// A configuration of rustls, for those who need what is not offered here.
    pub fn from_config(config: Arc<ClientConfig>) -> Self {
        Self(config)
    }

    pub(super) fn connect(&self, host: &str) -> io::Result<Connection> {
        let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a host");
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        let connection = ClientConnection::new(Arc::clone(&self.0), name);
        let mut connection = connection.map_err(io::Error::other)?;
        // What is written is bounded before it comes here.
        connection.set_buffer_limit(None);
        Ok(connection.into())
    }
}

/// Why there is no TLS.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    File(String, String),
    /// The system trusts nobody.
    #[error("the system has no authorities to trust: name one")]
    NoAuthorities,
    /// The PEM text has no certificate.
    #[error("no certificate in the PEM text: it has a `BEGIN CERTIFICATE` line")]
    NoCertificate,
    /// There are no files to read again.
    #[error("the certificate came from no file; use `replace`")]
    NoFiles,
    /// The PEM text has no private key.
    #[error("no private key in the PEM text: it has a `BEGIN PRIVATE KEY` line")]
    NoKey,
    /// The certificate and the key do not go together, or are of a kind that is not supported.
    #[error("the certificate or its key cannot be used: {0}")]
    Rejected(String),
}

fn read_files((certificates, key): &(PathBuf, PathBuf)) -> Result<Arc<ServerConfig>, TlsError> {
    let read = |path: &PathBuf| {
        let failed =
            |error: io::Error| TlsError::File(path.display().to_string(), error.to_string());
        std::fs::read(path).map_err(failed)
    };
    read_pem(&read(certificates)?, &read(key)?)
}

fn read_pem(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let rejected = |error: rustls::Error| TlsError::Rejected(error.to_string());
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(rejected)?
        .with_no_client_auth()
        .with_single_cert(certificates(chain)?, key);
    let mut config = config.map_err(rejected)?;
    // Clients that come back save a round trip, and the server remembers nothing of them.
    config.ticketer = ring::Ticketer::new().map_err(rejected)?;
    Ok(Arc::new(config))
}

pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(TlsError::NoCertificate)
}

fn client() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Rejected(error.to_string()))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Checks that the server has the key of its certificate, and nothing of the certificate.
#[derive(Debug)]
struct TrustAnybody(CryptoProvider);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self, _certificate: &CertificateDer<'_>, _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>, _ocsp: &[u8], _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self, message: &[u8], certificate: &CertificateDer<'_>, signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self, message: &[u8], certificate: &CertificateDer<'_>, signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// A certificate of `localhost` that is its own authority, and its key.
    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    /// Whether a client that trusts `authority` believes what is shown.
    fn is_believed(shown: &Tls, authority: &str) -> bool {
        let trusts = TlsClient::trusting(authority).unwrap();
        let (mut server, mut client) =
            (shown.accept().unwrap(), trusts.connect("localhost").unwrap());
        while client.is_handshaking() {
            carry(&mut client, &mut server).unwrap();
            if carry(&mut server, &mut client).is_err() {
                return false;
            }
        }
        true
    }

    /// Gives one end what the other has to say.
    pub(crate) fn carry(from: &mut Connection, to: &mut Connection) -> Result<(), rustls::Error> {
        let mut wire = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut wire).unwrap();
        }
        let mut wire = &wire[..];
        while !wire.is_empty() {
            to.read_tls(&mut wire).unwrap();
            to.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn files_are_read_again_when_asked_and_kept_if_they_are_broken() {
        let folder = std::env::temp_dir().join(format!("pitaya-tls-{}", std::process::id()));
        let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
        let (older, newer) = (made(), made());
        fs::create_dir_all(&folder).unwrap();
        fs::write(&chain, &older.0).unwrap();
        fs::write(&key, &older.1).unwrap();
        let shown = Tls::from_files(&chain, &key).unwrap();
        assert!(is_believed(&shown, &older.0) && !is_believed(&shown, &newer.0));

        fs::write(&chain, &newer.0).unwrap();
        assert!(matches!(shown.reload(), Err(TlsError::Rejected(_))), "the key is another's");
        assert!(is_believed(&shown, &older.0));
        fs::write(&key, &newer.1).unwrap();
        shown.clone().reload().unwrap();
        assert!(is_believed(&shown, &newer.0) && !is_believed(&shown, &older.0));

        fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(shown.reload(), Err(TlsError::File(..))));
        assert!(is_believed(&shown, &newer.0));
    }

    #[test]
    fn what_is_no_certificate_or_key_is_named() {
        let (chain, key) = made();
        let why = |chain: &str, key: &str| Tls::from_pem(chain, key).err();
        assert_eq!(why(&chain, "no key"), Some(TlsError::NoKey));
        assert_eq!(why("no chain", &key), Some(TlsError::NoCertificate));
        assert!(matches!(why(&chain, &made().1), Some(TlsError::Rejected(_))));
        assert_eq!(TlsClient::trusting("nobody").err(), Some(TlsError::NoCertificate));
        assert_eq!(Tls::from_pem(&chain, &key).unwrap().reload(), Err(TlsError::NoFiles));
    }
}
