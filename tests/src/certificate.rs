//! A certificate made for a test.

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};

/// A certificate of this machine, which is its own authority, and the key of it; both in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub chain: String,
    /// Its private key.
    pub key: String,
}

impl Certificate {
    /// A new one for `localhost` and `127.0.0.1`.
    pub fn localhost() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = generate_simple_self_signed(names).expect("the names are names");
        let CertifiedKey { cert, signing_key } = made;
        let key: KeyPair = signing_key;
        Self { chain: cert.pem(), key: key.serialize_pem() }
    }
}
