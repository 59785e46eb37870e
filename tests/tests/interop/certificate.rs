//! The certificate that servers with TLS show, made anew for every run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A certificate for 127.0.0.1 that is its own authority, and its key, both in PEM.
pub(crate) struct Shown {
    pub(crate) certificate: String,
    pub(crate) key: String,
    /// Where a client finds the certificate.
    pub(crate) file: PathBuf,
}

pub(crate) fn shown() -> &'static Shown {
    static SHOWN: OnceLock<Shown> = OnceLock::new();
    SHOWN.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = made.cert.pem();
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop.crt");
        fs::write(&file, &certificate).unwrap();
        Shown { certificate, key: made.signing_key.serialize_pem(), file }
    })
}
