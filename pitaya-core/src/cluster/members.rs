//! Who is there, as a value that many may read at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ServerId, ServerInfo};

/// The live servers at one moment, as one of them knows them; that one is among them.
///
/// It never changes: who keeps it behind an atomic pointer reads it without a lock. Every list is
/// sorted by id, so that all runs and all servers see one order.
#[derive(Debug)]
pub struct Members {
    me: Arc<ServerInfo>,
    all: Vec<Arc<ServerInfo>>,
    by_kind: BTreeMap<Arc<str>, OfKind>,
}

#[derive(Debug, Default)]
struct OfKind {
    all: Vec<Arc<ServerInfo>>,
    candidates: Vec<Arc<ServerInfo>>,
}

impl Members {
    pub(super) fn new(me: &Arc<ServerInfo>, members: &BTreeMap<ServerId, Member>) -> Self {
        let mut by_kind: BTreeMap<_, OfKind> = BTreeMap::new();
        for member in members.values() {
            let of_kind = by_kind.entry(Arc::clone(&member.info.kind)).or_default();
            of_kind.all.push(Arc::clone(&member.info));
            if member.takes_calls() {
                of_kind.candidates.push(Arc::clone(&member.info));
            }
        }
        let all = members.values().map(|member| Arc::clone(&member.info)).collect();
        Self { me: Arc::clone(me), all, by_kind }
    }

    /// Every server.
    pub fn all(&self) -> &[Arc<ServerInfo>] {
        &self.all
    }

    /// The server with that name, whichever life of it is there.
    pub fn by_id(&self, id: &ServerId) -> Option<&Arc<ServerInfo>> {
        find(&self.all, id)
    }

    /// The servers of a kind that may get new calls: neither suspect nor about to leave. There may
    /// be none though there are servers of that kind.
    pub fn candidates(&self, kind: &str) -> &[Arc<ServerInfo>] {
        self.by_kind.get(kind).map_or(&[], |of_kind| &of_kind.candidates)
    }

    /// The server that knows all this.
    pub fn me(&self) -> &Arc<ServerInfo> {
        &self.me
    }

    /// The servers of a kind, also those that get no new calls.
    pub fn of_kind(&self, kind: &str) -> &[Arc<ServerInfo>] {
        self.by_kind.get(kind).map_or(&[], |of_kind| &of_kind.all)
    }
}

/// A live server and what is known of its state.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) drains: bool,
    pub(super) info: Arc<ServerInfo>,
    pub(super) suspect: bool,
}

impl Member {
    pub(super) const fn new(info: Arc<ServerInfo>) -> Self {
        Self { drains: false, info, suspect: false }
    }

    const fn takes_calls(&self) -> bool {
        !self.drains && !self.suspect
    }
}

/// The server with that name in a list that is sorted by id.
pub(super) fn find<'s>(
    servers: &'s [Arc<ServerInfo>], id: &ServerId,
) -> Option<&'s Arc<ServerInfo>> {
    let at = servers.binary_search_by(|server| server.id.cmp(id)).ok()?;
    servers.get(at)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cluster::Incarnation;

    /// One life of a server.
    pub(in crate::cluster) fn server(kind: &str, id: &str, incarnation: u64) -> ServerInfo {
        ServerInfo {
            addresses: Vec::new(),
            frontend: false,
            hostname: String::new(),
            id: ServerId::new(id).unwrap(),
            incarnation: Incarnation::new(incarnation),
            kind: kind.into(),
            metadata: BTreeMap::new(),
        }
    }

    fn ids(servers: &[Arc<ServerInfo>]) -> Vec<&str> {
        servers.iter().map(|server| server.id.as_str()).collect()
    }

    fn members() -> Members {
        let infos = ["room-2", "room-1", "room-3"].map(|id| Arc::new(server("room", id, 1)));
        let me = Arc::new(server("gate", "gate", 1));
        let all = infos.into_iter().chain([Arc::clone(&me)]);
        let mut known: BTreeMap<_, _> =
            all.map(|info| (info.id.clone(), Member::new(info))).collect();
        known.get_mut(&ServerId::new("room-1").unwrap()).unwrap().suspect = true;
        known.get_mut(&ServerId::new("room-2").unwrap()).unwrap().drains = true;
        Members::new(&me, &known)
    }

    #[test]
    fn servers_come_in_the_order_of_their_ids() {
        let members = members();
        assert_eq!(ids(members.all()), ["gate", "room-1", "room-2", "room-3"]);
        assert_eq!(ids(members.of_kind("room")), ["room-1", "room-2", "room-3"]);
        assert_eq!(ids(members.of_kind("gate")), [members.me().id.as_str()]);
        assert!(members.of_kind("hall").is_empty());
    }

    #[test]
    fn who_is_suspect_or_drains_gets_no_new_calls() {
        let members = members();
        assert_eq!(ids(members.candidates("room")), ["room-3"]);
        assert!(members.candidates("hall").is_empty());
    }

    #[test]
    fn a_server_is_found_by_its_id_whatever_its_state() {
        let members = members();
        for id in ["gate", "room-1", "room-2", "room-3"] {
            let id = ServerId::new(id).unwrap();
            assert_eq!(members.by_id(&id).map(|server| &server.id), Some(&id));
        }
        assert_eq!(members.by_id(&ServerId::new("room").unwrap()), None);
    }
}
