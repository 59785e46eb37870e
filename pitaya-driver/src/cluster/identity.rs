//! Who a server is to the others: what it shows them, and whom it believes.

mod authority;
mod names;
mod secret;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use pitaya_core::cluster::ServerId;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use authority::Authority;
pub(super) use names::{CLUSTER_NAME, proven};
pub use secret::SECRET_BYTES_MIN;

use crate::cluster::Proven;
use crate::transport::tls::{TlsError, certificates, provider};

/// The certificate of one server, its key, and the authority whose certificates it believes.
///
/// Servers prove to each other who they are: each has a certificate of the same authority, with the
/// names `DNS:cluster.internal` and `URI:pitaya://KIND/ID`. The authority is either derived from a
/// secret that all servers of a cluster have, or one of your own.
///
/// Whoever has the secret can be any server: it is worth as much as all of them together. With an
/// authority of your own a server can be none but itself.
///
/// ```
/// use pitaya_core::cluster::ServerId;
/// use pitaya_driver::cluster::Identity;
///
/// let id = ServerId::new("room-1").expect("a legal name");
/// let secret = "3b5d3c7d207e37dceeedd301e35e2e58"; // From where you keep secrets.
/// let identity = Identity::from_secret(secret, "room", &id)?;
/// assert_eq!(identity.id(), &id);
/// # Ok::<(), pitaya_driver::cluster::IdentityError>(())
/// ```
#[derive(Clone)]
pub struct Identity {
    me: Proven,
    accepts: Arc<ServerConfig>,
    dials: Arc<ClientConfig>,
}

impl Identity {
    /// The server `id` of that kind, in the cluster of all that have `secret`.
    ///
    /// The secret is the key of an authority, and whoever can reach a server can try to guess it,
    /// far from here: it must be random, and is at least [`SECRET_BYTES_MIN`] bytes. The
    /// certificate is made here, is kept in memory only, and is good for a year: a server that runs
    /// for longer finds no new peers.
    ///
    /// # Errors
    ///
    /// A short secret, or what is no kind of server.
    pub fn from_secret(
        secret: impl AsRef<[u8]>, kind: &str, id: &ServerId,
    ) -> Result<Self, IdentityError> {
        let me = Proven { id: id.clone(), kind: kind.into() };
        let authority = Authority::derive(secret.as_ref())?;
        let (certificate, key) = authority.issue(&me)?;
        Self::new(vec![authority.certificate()], vec![certificate], key)
    }

    /// The server that the certificate names, in the cluster of all that these authorities know.
    /// All three are PEM, the second a chain with the server's certificate first.
    ///
    /// The certificate must be for both server and client authentication.
    ///
    /// # Errors
    ///
    /// Texts that do not hold that, or a certificate that names no server.
    pub fn from_pem(
        authorities: impl AsRef<[u8]>, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>,
    ) -> Result<Self, IdentityError> {
        let key = PrivateKeyDer::from_pem_slice(key.as_ref()).map_err(|_| TlsError::NoKey)?;
        Self::new(certificates(authorities.as_ref())?, certificates(chain.as_ref())?, key)
    }

    /// As [`from_pem`](Self::from_pem), from files.
    ///
    /// # Errors
    ///
    /// As there, or a file that cannot be read.
    pub fn from_files(
        authorities: impl AsRef<Path>, chain: impl AsRef<Path>, key: impl AsRef<Path>,
    ) -> Result<Self, IdentityError> {
        let [authorities, chain, key] = [authorities.as_ref(), chain.as_ref(), key.as_ref()];
        Self::from_pem(secret::read(authorities)?, secret::read(chain)?, secret::read(key)?)
    }

    /// The secret in a file. If there is no such file, one is made that only its owner may read,
    /// with a new secret; this is said in a warning, since the other servers need it too.
    ///
    /// Of several servers that start at once with the same file, one makes it and all read it.
    ///
    /// # Errors
    ///
    /// A file that can be neither read nor made, or whose secret is too short.
    pub fn secret_file(path: impl AsRef<Path>) -> Result<String, IdentityError> {
        secret::read_or_make(path.as_ref())
    }

    /// The name of the server.
    pub fn id(&self) -> &ServerId {
        &self.me.id
    }

    /// What it does.
    pub fn kind(&self) -> &str {
        &self.me.kind
    }

    /// How it accepts, and how it dials.
    pub(super) fn configs(&self) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        (Arc::clone(&self.accepts), Arc::clone(&self.dials))
    }

    fn new(
        authorities: Vec<CertificateDer<'static>>, chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let me = chain.first().and_then(proven).ok_or(IdentityError::Nameless)?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(rejected)?;
        }
        let roots = Arc::new(roots);
        let accepts = accepts(Arc::clone(&roots), chain.clone(), key.clone_key())?;
        let dials = dials(roots, chain, key)?;
        Ok(Self { me, accepts: Arc::new(accepts), dials: Arc::new(dials) })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proven { id, kind } = &self.me;
        f.debug_struct("Identity").field("id", id).field("kind", kind).finish_non_exhaustive()
    }
}

/// Why a server has no identity.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or made.
    #[error("cannot read or make {0}: {1}")]
    File(String, String),
    /// That is no kind of server.
    #[error("no kind of server: {0:?}; it is text without `.`, `/` and control characters")]
    Kind(String),
    /// The certificate names no server, or more than one.
    #[error(
        "the certificate needs the names `DNS:cluster.internal` and one `URI:pitaya://KIND/ID`"
    )]
    Nameless,
    /// The secret could be guessed.
    #[error(
        "the secret of the cluster has {0} bytes, but needs {SECRET_BYTES_MIN} or more, at random: \
         `openssl rand -hex 32` makes one"
    )]
    SecretShort(usize),
    /// The certificates or the key.
    #[error(transparent)]
    Tls(#[from] TlsError),
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

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConnection, Connection, ServerConnection};

    use super::*;
    use crate::transport::tls::tests::carry;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn identity(secret: &str, id: &str) -> Identity {
        Identity::from_secret(secret, "room", &ServerId::new(id).unwrap()).unwrap()
    }

    /// Whom each end of a handshake takes the other for, the one that accepts first.
    fn meet(accepts: &Identity, dials: &Identity) -> Result<[Option<Proven>; 2], rustls::Error> {
        let name = ServerName::try_from(CLUSTER_NAME).unwrap();
        let mut server = ServerConnection::new(accepts.configs().0).unwrap().into();
        let mut client = ClientConnection::new(dials.configs().1, name).unwrap().into();
        for _ in 0..4 {
            carry(&mut client, &mut server)?;
            carry(&mut server, &mut client)?;
        }
        Ok([server, client].map(|end: Connection| proven(&end.peer_certificates().unwrap()[0])))
    }

    #[test]
    fn two_servers_of_one_secret_know_each_other() {
        let (one, two) = (identity(SECRET, "one"), identity(SECRET, "two"));
        let [dialled, accepted] = meet(&one, &two).unwrap();
        assert_eq!(dialled.as_ref(), Some(&two.me));
        assert_eq!(accepted.as_ref(), Some(&one.me));
    }

    #[test]
    fn servers_of_two_secrets_do_not_believe_each_other() {
        let stranger = identity("fedcba9876543210fedcba9876543210", "two");
        let refused = meet(&identity(SECRET, "one"), &stranger).unwrap_err();
        assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{refused}");
    }

    #[test]
    fn an_identity_shows_neither_secret_nor_key() {
        let shown = format!("{:?}", identity(SECRET, "one"));
        assert_eq!(shown, r#"Identity { id: ServerId("one"), kind: "room", .. }"#);
    }

    #[test]
    fn what_is_no_identity_is_named() {
        let made = rcgen::generate_simple_self_signed([CLUSTER_NAME.to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let why = |chain: &str, key: &str| Identity::from_pem(chain, chain, key).unwrap_err();
        assert_eq!(why(&chain, &key), IdentityError::Nameless);
        assert_eq!(why(&chain, "no key"), TlsError::NoKey.into());
        assert_eq!(why("no chain", &key), TlsError::NoCertificate.into());
    }
}
