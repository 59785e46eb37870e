//! Who a server is to the others: what it shows them, and whom it believes.

mod authority;
mod names;
mod secret;
mod shown;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use pitaya_core::cluster::ServerId;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use authority::Authority;
pub(super) use names::{CLUSTER_NAME, proven};
pub use secret::SECRET_BYTES_MIN;
pub(super) use shown::Shown;

use crate::cluster::Proven;
use crate::transport::tls::{TlsError, certificates};

/// The certificate of one server, its key, and the authority whose certificates it believes.
///
/// Servers prove to each other who they are: each has a certificate of the same authority, with the
/// names `DNS:cluster.internal` and `URI:pitaya://KIND/ID`. The authority is either derived from a
/// secret that all servers of a cluster have, or one of your own.
///
/// Whoever has the secret can be any server: it is worth as much as all of them together. With an
/// authority of your own a server can be none but itself.
///
/// A certificate has an end, and a server may run for longer. One of a secret is made anew in time;
/// with an authority of your own, keep a clone, which is the same identity, and
/// [`reload`](Self::reload) it when the files have changed. Links that are up are not touched, even
/// if the certificates expire that they began with: who is there is proven when a link begins.
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
pub struct Identity(Arc<Held>);

struct Held {
    me: Proven,
    current: RwLock<Current>,
    source: Source,
}

struct Current {
    shown: Shown,
    /// When it was made or read.
    since: SystemTime,
}

/// Where the next certificate comes from.
enum Source {
    Files(Files),
    /// From whoever has it.
    Pem,
    Secret(Box<Authority>),
}

/// The authorities, the chain and the key.
type Files = [PathBuf; 3];

impl Identity {
    /// The server `id` of that kind, in the cluster of all that have `secret`.
    ///
    /// The secret is the key of an authority, and whoever can reach a server can try to guess it,
    /// far from here: it must be random, and is at least [`SECRET_BYTES_MIN`] bytes. The
    /// certificate is made here, is kept in memory only, and is good for a year; once two thirds of
    /// that are over, the next link begins with a new one. For that the key of the authority stays
    /// in memory too.
    ///
    /// # Errors
    ///
    /// A short secret, or what is no kind of server.
    pub fn from_secret(
        secret: impl AsRef<[u8]>, kind: &str, id: &ServerId,
    ) -> Result<Self, IdentityError> {
        Self::from_secret_at(SystemTime::now(), secret, kind, id)
    }

    /// As [`from_secret`](Self::from_secret), with the certificate that was made at `time`: for a
    /// test of what a server does that has run for long.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_secret_at(
        time: SystemTime, secret: impl AsRef<[u8]>, kind: &str, id: &ServerId,
    ) -> Result<Self, IdentityError> {
        let me = Proven { id: id.clone(), kind: kind.into() };
        let authority = Authority::derive(secret.as_ref())?;
        let current = RwLock::new(issue(&authority, &me, time)?);
        Ok(Self(Arc::new(Held { me, current, source: Source::Secret(authority.into()) })))
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
        let read = read_pem(authorities.as_ref(), chain.as_ref(), key.as_ref())?;
        Ok(Self::new(read, Source::Pem))
    }

    /// As [`from_pem`](Self::from_pem), from files.
    ///
    /// # Errors
    ///
    /// As there, or a file that cannot be read.
    pub fn from_files(
        authorities: impl AsRef<Path>, chain: impl AsRef<Path>, key: impl AsRef<Path>,
    ) -> Result<Self, IdentityError> {
        let files = [authorities.as_ref(), chain.as_ref(), key.as_ref()].map(Path::to_owned);
        Ok(Self::new(read_files(&files)?, Source::Files(files)))
    }

    fn new((me, shown): (Proven, Shown), source: Source) -> Self {
        let current = RwLock::new(Current { shown, since: SystemTime::now() });
        Self(Arc::new(Held { me, current, source }))
    }

    /// Reads the files again; links that begin from now on are with what they hold. It may be
    /// called at any time, such as once an hour: files of which only some are new are refused.
    ///
    /// # Errors
    ///
    /// As [`from_files`](Self::from_files), there are no files, or the certificate is that of
    /// another server. Then all stays as it was, and a warning says so.
    pub fn reload(&self) -> Result<(), IdentityError> {
        self.change(match &self.0.source {
            Source::Files(files) => read_files(files),
            Source::Pem => Err(TlsError::NoFiles.into()),
            Source::Secret(_) => Err(IdentityError::Derived),
        })
    }

    /// Begins links from now on with other authorities, another certificate of the same server, and
    /// its key.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem), this identity comes from a secret, or the certificate is
    /// that of another server. Then all stays as it was, and a warning says so.
    pub fn replace(
        &self, authorities: impl AsRef<[u8]>, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>,
    ) -> Result<(), IdentityError> {
        self.change(match self.0.source {
            Source::Files(_) | Source::Pem => {
                read_pem(authorities.as_ref(), chain.as_ref(), key.as_ref())
            }
            Source::Secret(_) => Err(IdentityError::Derived),
        })
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
        &self.0.me.id
    }

    /// What it does.
    pub fn kind(&self) -> &str {
        &self.0.me.kind
    }

    /// What a link begins with now.
    pub(super) fn shown(&self) -> Shown {
        self.shown_at(SystemTime::now())
    }

    fn shown_at(&self, now: SystemTime) -> Shown {
        if let Source::Secret(authority) = &self.0.source {
            self.renew(authority, now);
        }
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).shown.clone()
    }

    /// Makes a new certificate if it is time for one.
    fn renew(&self, authority: &Authority, now: SystemTime) {
        let is_due = |since| authority::is_due(since, now);
        if !is_due(self.0.current.read().unwrap_or_else(PoisonError::into_inner).since) {
            return;
        }
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been faster.
        if !is_due(current.since) {
            return;
        }
        match issue(authority, &self.0.me, now) {
            Ok(issued) => *current = issued,
            Err(why) => tracing::warn!(%why, "this server has no new certificate"),
        }
    }

    fn change(&self, read: Result<(Proven, Shown), IdentityError>) -> Result<(), IdentityError> {
        let changed = read.and_then(|(named, shown)| self.show(&named, shown));
        changed.inspect_err(|why| tracing::warn!(%why, "the certificate stays as it was"))
    }

    fn show(&self, named: &Proven, shown: Shown) -> Result<(), IdentityError> {
        let me = &self.0.me;
        if named != me {
            return Err(IdentityError::Other(name(named), name(me)));
        }
        let current = Current { shown, since: SystemTime::now() };
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proven { id, kind } = &self.0.me;
        f.debug_struct("Identity").field("id", id).field("kind", kind).finish_non_exhaustive()
    }
}

/// Why a server has no identity.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// Its certificates come from a secret.
    #[error("the certificate is derived from a secret, and is made anew by itself")]
    Derived,
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
    /// The certificate is that of another server.
    #[error("the certificate is that of {0}, but this server is {1}")]
    Other(String, String),
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

fn name(server: &Proven) -> String {
    format!("{:?} of the kind {:?}", server.id.as_str(), server.kind)
}

/// What three PEM texts hold: the authorities, the chain and the key.
fn read_pem(
    authorities: &[u8], chain: &[u8], key: &[u8],
) -> Result<(Proven, Shown), IdentityError> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
    let (authorities, chain) = (certificates(authorities)?, certificates(chain)?);
    let named = chain.first().and_then(proven).ok_or(IdentityError::Nameless)?;
    Ok((named, Shown::new(authorities, chain, key)?))
}

fn read_files([authorities, chain, key]: &Files) -> Result<(Proven, Shown), IdentityError> {
    read_pem(&secret::read(authorities)?, &secret::read(chain)?, &secret::read(key)?)
}

fn issue(authority: &Authority, me: &Proven, now: SystemTime) -> Result<Current, IdentityError> {
    let (certificate, key) = authority.issue(me, now)?;
    let shown = Shown::new(vec![authority.certificate()], vec![certificate], key)?;
    Ok(Current { shown, since: now })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let mut server = ServerConnection::new(accepts.shown().accepts).unwrap().into();
        let mut client = ClientConnection::new(dials.shown().dials, name).unwrap().into();
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
        assert_eq!(dialled.as_ref(), Some(&two.0.me));
        assert_eq!(accepted.as_ref(), Some(&one.0.me));
    }

    #[test]
    fn servers_of_two_secrets_do_not_believe_each_other() {
        let stranger = identity("fedcba9876543210fedcba9876543210", "two");
        let refused = meet(&identity(SECRET, "one"), &stranger).unwrap_err();
        assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{refused}");
    }

    #[test]
    fn a_certificate_of_a_secret_is_made_anew_when_two_thirds_of_its_life_are_over() {
        let (id, now) = (ServerId::new("one").unwrap(), SystemTime::now());
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        let [one, two] = [days(366), Duration::ZERO]
            .map(|ago| Identity::from_secret_at(now - ago, SECRET, "room", &id).unwrap());
        let is_kept = |identity: &Identity, now| {
            let before = identity.0.current.read().unwrap().shown.clone();
            Arc::ptr_eq(&before.accepts, &identity.shown_at(now).accepts)
        };
        assert!(is_kept(&two, now) && is_kept(&two, now + days(243)));
        assert!(!is_kept(&two, now + days(244)) && is_kept(&two, now + days(244)));
        // The clock was far ahead, and is right again.
        assert!(is_kept(&two, now + days(244)) && !is_kept(&two, now));

        let old = Identity::new((one.0.me.clone(), one.shown_at(now - days(366))), Source::Pem);
        for (one, two) in [(&old, &two), (&two, &old)] {
            let refused = meet(one, two).unwrap_err().to_string();
            assert!(refused.contains("expired"), "{refused}");
        }
        assert!(meet(&one, &two).is_ok() && meet(&two, &one).is_ok());
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
