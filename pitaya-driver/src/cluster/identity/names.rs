//! Who a certificate says that a server is.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use pitaya_core::cluster::ServerId;
use rustls::pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

use crate::cluster::Proven;

/// The name that every server has, whoever it is and wherever: that of their cluster.
pub(in crate::cluster) const CLUSTER_NAME: &str = "cluster.internal";

/// The server that a certificate names. That an authority says so is looked at elsewhere.
pub(in crate::cluster) fn proven(certificate: &CertificateDer<'_>) -> Option<Proven> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let cluster = ServerName::try_from(CLUSTER_NAME).ok()?;
    certificate.verify_is_valid_for_subject_name(&cluster).ok()?;
    let mut servers = certificate.valid_uri_names().filter_map(|uri| uri.strip_prefix(SCHEME));
    // Which of two would it be?
    let server = servers.next().filter(|_| servers.next().is_none())?;
    let (kind, id) = server.split_once('/')?;
    let text = |encoded| percent_decode_str(encoded).decode_utf8().ok();
    let (id, kind) = (ServerId::new(&text(id)?)?, text(kind)?);
    is_kind(&kind).then(|| Proven { id, kind: Arc::from(&*kind) })
}

/// How a certificate names a server.
pub(super) fn uri(server: &Proven) -> String {
    let encoded = |text| utf8_percent_encode(text, ENCODED);
    format!("{SCHEME}{}/{}", encoded(&server.kind), encoded(server.id.as_str()))
}

/// Whether that is a kind of server: it is a part of routes, which have dots.
pub(super) fn is_kind(kind: &str) -> bool {
    !kind.is_empty() && !kind.contains(|c: char| matches!(c, '.' | '/') || c.is_control())
}

const SCHEME: &str = "pitaya://";

/// What stands for itself in any part of a URI stays readable.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
