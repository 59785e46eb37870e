//! What a server says of itself in a local network.
//!
//! A record is a TXT record of the service [`SERVICE`]: the version of what servers speak, the name
//! of the cluster, and the id and the kind of the server. None of it changes while a server lives;
//! all else its links tell. Anybody in the network can forge a record, so it is read with bounds,
//! and what it says is never more than a hint.

use pitaya_core::cluster::{ServerId, ServerInfo};
use pitaya_proto::link::VERSION;

/// What one server says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    cluster: String,
    id: ServerId,
    kind: String,
}

/// Why a record is not heeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Ignored {
    /// The name of the cluster is none.
    #[error("the name of the cluster is illegal")]
    IllegalCluster,
    /// The id is none.
    #[error("the id is illegal")]
    IllegalId,
    /// The kind is none.
    #[error("the kind is illegal")]
    IllegalKind,
    /// It ends inside of a property, or cannot be read at all.
    #[error("it is malformed")]
    Malformed,
    /// It lacks a property.
    #[error("it has no `{0}`")]
    Missing(&'static str),
    /// It is of another cluster.
    #[error("it is of another cluster")]
    OtherCluster,
    /// It is of a server that speaks something else.
    #[error("it is of another version")]
    OtherVersion,
    /// It is of the server that reads it.
    #[error("it is of this server")]
    Own,
    /// It has a property twice.
    #[error("it has `{0}` twice")]
    Repeated(&'static str),
    /// It is larger than [`TXT_BYTES_MAX`].
    #[error("it is too large")]
    TooLarge,
}

impl Record {
    /// What `server` says of itself in the cluster of that name.
    ///
    /// # Errors
    ///
    /// A name that no record can hold.
    pub fn new(cluster: &str, server: &ServerInfo) -> Result<Self, Ignored> {
        let (id, kind) = (server.id.as_str(), &*server.kind);
        Self::named(cluster, id, kind)
    }

    /// Reads the data of a TXT record.
    ///
    /// # Errors
    ///
    /// Why it is not heeded.
    pub fn parse(txt: &[u8]) -> Result<Self, Ignored> {
        if txt.len() > TXT_BYTES_MAX {
            return Err(Ignored::TooLarge);
        }
        let mut properties = Vec::new();
        let mut rest = txt;
        while let [length, behind @ ..] = rest {
            let (property, next) =
                behind.split_at_checked((*length).into()).ok_or(Ignored::Malformed)?;
            let mut parts = property.splitn(2, |byte| *byte == b'=');
            properties.extend(parts.next().zip(parts.next()));
            rest = next;
        }
        Self::read(properties)
    }

    /// Reads properties, each a key and a value. Those of unknown keys are passed over.
    ///
    /// # Errors
    ///
    /// Why it is not heeded.
    pub fn read<'t>(
        properties: impl IntoIterator<Item = (&'t [u8], &'t [u8])>,
    ) -> Result<Self, Ignored> {
        let (mut bytes, mut found) = (0, [None; KEYS.len()]);
        for (key, value) in properties {
            bytes += PROPERTY_BYTES + key.len() + value.len();
            if bytes > TXT_BYTES_MAX {
                return Err(Ignored::TooLarge);
            }
            let Some(at) = KEYS.iter().position(|known| is_key(key, known)) else { continue };
            if found[at].replace(value).is_some() {
                return Err(Ignored::Repeated(KEYS[at]));
            }
        }
        let [version, cluster, id, kind] = found;
        if text(version, VERSION_KEY, Ignored::OtherVersion)? != VERSION.to_string() {
            return Err(Ignored::OtherVersion);
        }
        Self::named(
            text(cluster, CLUSTER_KEY, Ignored::IllegalCluster)?,
            text(id, ID_KEY, Ignored::IllegalId)?,
            text(kind, KIND_KEY, Ignored::IllegalKind)?,
        )
    }

    /// Whether it names a server for that of `own` to dial.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn is_for(&self, own: &Self) -> Result<(), Ignored> {
        if self.cluster != own.cluster {
            return Err(Ignored::OtherCluster);
        }
        if self.id == own.id {
            return Err(Ignored::Own);
        }
        Ok(())
    }

    /// Its keys and values.
    pub fn properties(&self) -> [(&'static str, String); 4] {
        [
            (VERSION_KEY, VERSION.to_string()),
            (CLUSTER_KEY, self.cluster.clone()),
            (ID_KEY, self.id.to_string()),
            (KIND_KEY, self.kind.clone()),
        ]
    }

    /// The data of its TXT record.
    pub fn to_txt(&self) -> Vec<u8> {
        let property = |(key, value): (&str, String)| -> Vec<u8> {
            let text = format!("{key}={value}");
            let length = u8::try_from(text.len()).expect("names are shorter");
            [&[length], text.as_bytes()].concat()
        };
        self.properties().into_iter().flat_map(property).collect()
    }

    /// The name of its cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The name of its server.
    pub fn id(&self) -> &ServerId {
        &self.id
    }

    /// What its server does.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What people see of it in the network: the id and the cluster, as far as a label has room.
    /// Nothing is read from it, so two that get the same are told apart by a number.
    pub fn instance(&self) -> String {
        let mut name = format!("{}@{}", self.id, self.cluster);
        name.truncate(name.floor_char_boundary(INSTANCE_BYTES_MAX));
        name
    }

    fn named(cluster: &str, id: &str, kind: &str) -> Result<Self, Ignored> {
        if !is_name(cluster) {
            return Err(Ignored::IllegalCluster);
        }
        // It is the first part of the names of routes.
        if !is_name(kind) || kind.contains('.') {
            return Err(Ignored::IllegalKind);
        }
        let id = ServerId::new(id).filter(|id| is_name(id.as_str())).ok_or(Ignored::IllegalId)?;
        Ok(Self { cluster: cluster.to_owned(), id, kind: kind.to_owned() })
    }
}

/// Keys are the same in capital letters, says RFC 6763.
fn is_key(key: &[u8], known: &str) -> bool {
    key.eq_ignore_ascii_case(known.as_bytes())
}

fn text<'t>(
    value: Option<&'t [u8]>, key: &'static str, illegal: Ignored,
) -> Result<&'t str, Ignored> {
    str::from_utf8(value.ok_or(Ignored::Missing(key))?).map_err(|_| illegal)
}

fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control)
}

/// The service that servers offer, as it is called in a local network.
pub const SERVICE: &str = "_pitaya._udp.local.";
/// Bytes of a TXT record that are read at most: what fits into one packet of an Ethernet, as RFC
/// 6763 asks for.
pub const TXT_BYTES_MAX: usize = 1300;
/// Bytes of a name at most, so that it fits into a property, which has 255 with its key.
pub const NAME_BYTES_MAX: usize = 200;
/// A label has 63; the rest is room for a number.
const INSTANCE_BYTES_MAX: usize = 48;
/// The length of a property, and the sign between key and value.
const PROPERTY_BYTES: usize = 2;

const VERSION_KEY: &str = "v";
const CLUSTER_KEY: &str = "cluster";
const ID_KEY: &str = "id";
const KIND_KEY: &str = "kind";
const KEYS: [&str; 4] = [VERSION_KEY, CLUSTER_KEY, ID_KEY, KIND_KEY];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(cluster: &str, id: &str, kind: &str) -> Record {
        Record::named(cluster, id, kind).unwrap()
    }

    /// A record in which a property is another, or is not there.
    fn with(changed: &str, property: Option<&str>) -> Result<Record, Ignored> {
        let version = format!("v={VERSION}");
        let whole = [&*version, "cluster=c", "id=room-1", "kind=room"];
        let kept = whole.into_iter().filter(|kept| !kept.starts_with(&format!("{changed}=")));
        Record::parse(&txt(kept.chain(property)))
    }

    fn txt<'t>(properties: impl IntoIterator<Item = &'t str>) -> Vec<u8> {
        let property = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        properties.into_iter().flat_map(property).collect()
    }

    #[test]
    fn a_server_is_known_by_its_record() {
        let read = with("", None).unwrap();
        assert_eq!(read, record("c", "room-1", "room"));
        assert_eq!((read.cluster(), read.id().as_str(), read.kind()), ("c", "room-1", "room"));
        assert_eq!(with("", Some("colour=red")), Ok(read.clone()), "a key of later versions");
        assert_eq!(with("", Some("no value")), Ok(read.clone()));
        assert_eq!(with("id", Some("ID=room-1")), Ok(read), "a key in capital letters");
    }

    #[test]
    fn a_record_that_is_not_as_it_should_be_is_ignored() {
        let cases = [
            ("v", None, Ignored::Missing("v")),
            ("v", Some("v=0"), Ignored::OtherVersion),
            ("v", Some("v=no"), Ignored::OtherVersion),
            ("cluster", None, Ignored::Missing("cluster")),
            ("cluster", Some("cluster="), Ignored::IllegalCluster),
            ("id", None, Ignored::Missing("id")),
            ("id", Some("id"), Ignored::Missing("id")),
            ("id", Some("id="), Ignored::IllegalId),
            ("id", Some("id=a/b"), Ignored::IllegalId),
            ("id", Some("id=a\n"), Ignored::IllegalId),
            ("", Some("Id=other"), Ignored::Repeated("id")),
            ("", Some("id=room-1"), Ignored::Repeated("id")),
            ("kind", None, Ignored::Missing("kind")),
            ("kind", Some("kind=a.b"), Ignored::IllegalKind),
            ("kind", Some("kind= "), Ignored::IllegalKind),
        ];
        for (changed, property, why) in cases {
            assert_eq!(with(changed, property), Err(why), "{changed} {property:?}");
        }
        let long = format!("id={}", "a".repeat(NAME_BYTES_MAX + 1));
        assert_eq!(with("id", Some(&long)), Err(Ignored::IllegalId));
        let bytes = [&txt([&*format!("v={VERSION}")])[..], b"\x05id=\xff\xfe"].concat();
        assert_eq!(Record::parse(&bytes), Err(Ignored::Missing("cluster")));
    }

    #[test]
    fn a_record_that_is_cut_or_too_large_is_ignored() {
        let whole = record("c", "room-1", "room").to_txt();
        assert_eq!(Record::parse(&whole[..whole.len() - 1]), Err(Ignored::Malformed));
        assert_eq!(Record::parse(&[]), Err(Ignored::Missing("v")));
        let large = [whole, vec![0; TXT_BYTES_MAX]].concat();
        assert_eq!(Record::parse(&large), Err(Ignored::TooLarge));
        let many = vec![(&b"a"[..], &b"b"[..]); TXT_BYTES_MAX];
        assert_eq!(Record::read(many), Err(Ignored::TooLarge));
    }

    #[test]
    fn a_server_heeds_others_of_its_cluster_only() {
        let own = record("c", "room-1", "room");
        assert_eq!(record("c", "room-2", "room").is_for(&own), Ok(()));
        assert_eq!(record("c", "room-1", "gate").is_for(&own), Err(Ignored::Own));
        assert_eq!(record("d", "room-2", "room").is_for(&own), Err(Ignored::OtherCluster));
    }

    #[test]
    fn what_people_see_fits_into_a_label() {
        assert_eq!(record("c", "room-1", "room").instance(), "room-1@c");
        let long = record("c", &"\u{e9}".repeat(NAME_BYTES_MAX / 2), "room").instance();
        assert!(long.len() <= INSTANCE_BYTES_MAX && long.starts_with('\u{e9}'), "{long}");
    }

    proptest! {
        #[test]
        fn what_a_server_says_another_reads(
            cluster in "[a-z \u{e9}]{0,220}", id in "\\PC{0,60}", kind in "[a-z.]{0,12}",
        ) {
            if let Ok(said) = Record::named(&cluster, &id, &kind) {
                prop_assert_eq!(Record::parse(&said.to_txt()), Ok(said));
            }
        }

        #[test]
        fn any_bytes_are_read_or_ignored(txt in proptest::collection::vec(any::<u8>(), 0..1500)) {
            if let Ok(read) = Record::parse(&txt) {
                prop_assert_eq!(Record::parse(&read.to_txt()), Ok(read));
            }
        }
    }
}
