//! What servers know of each other.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Names a server for as long as its operator wants, over restarts too; cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerId(Arc<str>);

impl ServerId {
    /// A name of any text without `/`, which separates the parts of keys and subjects elsewhere.
    /// `None` if it is empty, or is no such text.
    pub fn new(id: &str) -> Option<Self> {
        let legal = !id.is_empty() && !id.contains(|c: char| c == '/' || c.is_control());
        legal.then(|| Self(id.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tells the lives of one server apart: a later one is higher. Nothing that is meant for one of
/// them reaches another.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The life of that number: the time of its start, say.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What a certificate says of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proven {
    /// Its name.
    pub id: ServerId,
    /// What it does.
    pub kind: Arc<str>,
}

/// One server, as all others know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerInfo {
    /// Where other servers reach it.
    pub addresses: Vec<SocketAddr>,
    /// Whether clients connect to it.
    pub frontend: bool,
    /// The name of its machine, for people.
    pub hostname: String,
    /// Its name.
    pub id: ServerId,
    /// Which of its lives this is.
    pub incarnation: Incarnation,
    /// What it does: the first part of the full names of its routes.
    pub kind: Arc<str>,
    /// Whatever its application wants others to know.
    pub metadata: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_a_part_of_a_path_is_no_name() {
        assert!(ServerId::new("room-1").is_some_and(|id| id.as_str() == "room-1"));
        for illegal in ["", "a/b", "a\n"] {
            assert_eq!(ServerId::new(illegal), None, "{illegal:?}");
        }
    }
}
