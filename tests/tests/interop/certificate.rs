//! The certificate that servers with TLS show, made anew for every run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pitaya_driver::Tls;

/// A certificate for 127.0.0.1 that is its own authority, in PEM.
pub(crate) struct Shown {
    pub(crate) certificate: String,
    /// The same with its key, as a server of ours shows it.
    pub(crate) tls: Tls,
    /// Where the certificate is.
    pub(crate) file: PathBuf,
    /// Where the key is.
    pub(crate) key_file: PathBuf,
}

pub(crate) fn shown() -> &'static Shown {
    static SHOWN: OnceLock<Shown> = OnceLock::new();
    SHOWN.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let (file, key_file) = (write("interop.crt", &certificate), write("interop.key", &key));
        let tls = Tls::from_pem(&certificate, key).expect("it was just made");
        Shown { certificate, tls, file, key_file }
    })
}

fn write(name: &str, text: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, text).unwrap();
    file
}
