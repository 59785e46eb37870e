//! Discovery records: what is heeded is legal and unmistakable, whatever the network says.

use pitaya_driver::cluster::discovery::record::{Ignored, NAME_BYTES_MAX, Record, TXT_BYTES_MAX};

use crate::held_at_most;

/// The input is the data of a TXT record.
pub fn record(data: &[u8]) {
    let (read, held) = held_at_most(|| Record::parse(data));
    assert!(held <= HELD_BYTES_MAX, "{held} bytes for a record of {}", data.len());
    let Ok(record) = read else { return };
    assert!(data.len() <= TXT_BYTES_MAX, "{} bytes", data.len());
    let (id, kind, cluster) = (record.id().as_str(), record.kind(), record.cluster());
    for name in [id, kind, cluster] {
        assert!(!name.trim().is_empty() && name.len() <= NAME_BYTES_MAX, "{name:?}");
        assert!(!name.contains(char::is_control), "{name:?}");
    }
    assert!(!id.contains('/') && !kind.contains('.'), "{record:?}");
    for property in [format!("id={id}"), format!("kind={kind}"), format!("cluster={cluster}")] {
        assert_eq!(said(data, &property), 1, "{property:?} of {}", data.escape_ascii());
    }
    assert_eq!(record.is_for(&record), Err(Ignored::Own));
    assert_eq!(Record::parse(&record.to_txt()).as_ref(), Ok(&record));
    // A label of a name in the network, with a number behind it.
    assert!(record.instance().len() < 60, "{}", record.instance());
}

/// How often a property is in the data; its key may be in capital letters.
fn said(data: &[u8], property: &str) -> usize {
    let (key, value) = property.split_once('=').expect("both");
    let mut rest = data;
    let mut found = 0;
    while let [length, behind @ ..] = rest {
        let (text, next) = behind.split_at(usize::from(*length));
        let fits = text.len() == property.len()
            && text[..key.len()].eq_ignore_ascii_case(key.as_bytes())
            && text[key.len()] == b'='
            && &text[key.len() + 1..] == value.as_bytes();
        found += usize::from(fits);
        rest = next;
    }
    found
}

/// A list of its properties, of which there are at most half as many as bytes, and its names.
const HELD_BYTES_MAX: u64 = 64 << 10;
