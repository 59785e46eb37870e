//! Which routes this server has, and what a route from outside means.

use std::panic::Location;
use std::sync::Arc;

use foldhash::fast::FixedState;
use pitaya_proto::error::{self, Error};
use pitaya_proto::route::RouteName;

use crate::{Options, Reply, RouteId};

/// One route of this server.
#[derive(Clone, Debug)]
pub struct RouteEntry {
    /// What a call of it is.
    pub kind: RouteKind,
    /// `service.method`.
    pub name: Arc<str>,
    /// How its calls run.
    pub options: Options,
    /// Where it was declared, for the error when it was declared twice.
    pub place: &'static Location<'static>,
    /// Who may call it.
    pub visibility: Visibility,
}

/// Whether a call of a route is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouteKind {
    /// It is not.
    Notify,
    /// It is.
    Request,
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Visibility {
    /// Servers only.
    Internal,
    /// Clients too.
    Public,
}

impl RouteEntry {
    /// A route that clients may call and that is answered.
    #[track_caller]
    pub fn request(name: impl Into<Arc<str>>) -> Self {
        Self::new(name.into(), RouteKind::Request)
    }

    /// A route that clients may call and that is not answered.
    #[track_caller]
    pub fn notify(name: impl Into<Arc<str>>) -> Self {
        Self::new(name.into(), RouteKind::Notify)
    }

    #[track_caller]
    fn new(name: Arc<str>, kind: RouteKind) -> Self {
        let (options, place) = (Options::default(), Location::caller());
        Self { kind, name, options, place, visibility: Visibility::Public }
    }
}

/// All routes of a server, found by name. It does not change once the server runs.
#[derive(Debug)]
pub struct RouteTable {
    server_kind: String,
    entries: Vec<RouteEntry>,
    /// By `service.method` and by `kind.service.method`. The names are ours alone, so a fixed
    /// hasher is safe.
    by_name: Names,
    encode_error: fn(&Error) -> Vec<u8>,
}

/// Where a call goes.
#[derive(Debug, Eq, PartialEq)]
pub enum Destination {
    /// To a server of another kind; the whole route.
    Elsewhere(String),
    /// To a handler of this server.
    Here(RouteId),
}

/// Why a route cannot be one of a server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("bad route `{route}`, declared at {place}: {why}")]
pub struct RouteError {
    /// The name.
    pub route: Arc<str>,
    /// Where it was declared.
    pub place: &'static Location<'static>,
    /// What is wrong with it.
    pub why: String,
}

impl RouteTable {
    /// The routes of a server whose kind is `server_kind`, the first part of their full names.
    ///
    /// # Errors
    ///
    /// A name that is not `service.method`, that is reserved, or that is there twice.
    pub fn new(
        server_kind: &str, entries: Vec<RouteEntry>, encode_error: fn(&Error) -> Vec<u8>,
    ) -> Result<Self, RouteError> {
        let mut by_name = Names::default();
        for (at, entry) in entries.iter().enumerate() {
            check_name(entry)?;
            if let Some(&RouteId(first)) = by_name.get(entry.name.as_bytes()) {
                return Err(bad(entry, format!("declared before, at {}", entries[first].place)));
            }
            let full_name = format!("{server_kind}.{}", entry.name);
            by_name.insert(entry.name.as_bytes().into(), RouteId(at));
            by_name.insert(full_name.into_bytes().into(), RouteId(at));
        }
        Ok(Self { server_kind: server_kind.to_owned(), entries, by_name, encode_error })
    }

    /// Where a client's call goes.
    ///
    /// # Errors
    ///
    /// What the client is to be told: the route means nothing, is not here, or is not for it.
    pub fn find(&self, name: &[u8], kind: RouteKind) -> Result<Destination, Error> {
        match self.by_name.get(name) {
            Some(&id) => self.check_call(id, kind),
            None => self.miss(name),
        }
    }

    /// What was declared of a route.
    pub fn entry(&self, id: RouteId) -> &RouteEntry {
        &self.entries[id.0]
    }

    /// `service.method` of a route.
    pub fn name(&self, id: RouteId) -> &Arc<str> {
        &self.entry(id).name
    }

    /// The route with that `service.method`.
    pub fn id(&self, name: &str) -> Option<RouteId> {
        self.by_name.get(name.as_bytes()).copied()
    }

    /// An error reply in the application's codec.
    pub fn error_reply(&self, error: &Error) -> Reply {
        Reply::error((self.encode_error)(error))
    }

    fn check_call(&self, id: RouteId, kind: RouteKind) -> Result<Destination, Error> {
        let entry = self.entry(id);
        if entry.visibility == Visibility::Internal {
            return Err(self.not_found(&entry.name));
        }
        // The other way round the handler runs, and its reply is dropped.
        if (entry.kind, kind) == (RouteKind::Notify, RouteKind::Request) {
            return Err(error::NOTIFY_AS_REQUEST.into());
        }
        Ok(Destination::Here(id))
    }

    #[cold]
    fn miss(&self, name: &[u8]) -> Result<Destination, Error> {
        let route = RouteName::parse(name)?;
        match route.kind {
            Some(kind) if kind != self.server_kind => {
                Ok(Destination::Elsewhere(format!("{kind}.{}", route.short)))
            }
            Some(_) | None => Err(self.not_found(route.short)),
        }
    }

    fn not_found(&self, short: &str) -> Error {
        Error::handler_not_found(&format!("{}.{short}", self.server_kind))
    }
}

fn check_name(entry: &RouteEntry) -> Result<(), RouteError> {
    match RouteName::parse(entry.name.as_bytes()) {
        Err(error) => Err(bad(entry, error.msg)),
        Ok(name) if name.kind.is_some() => {
            Err(bad(entry, "a local route has two parts, `service.method`"))
        }
        Ok(name) if name.service == RESERVED_SERVICE => Err(bad(entry, "`sys` is reserved")),
        Ok(_) => Ok(()),
    }
}

fn bad(entry: &RouteEntry, why: impl Into<String>) -> RouteError {
    RouteError { route: Arc::clone(&entry.name), place: entry.place, why: why.into() }
}

#[expect(clippy::disallowed_types, reason = "a fixed hasher, and never iterated")]
type Names = std::collections::HashMap<Box<[u8]>, RouteId, FixedState>;

/// Pitaya's own remotes live there.
const RESERVED_SERVICE: &str = "sys";

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: Vec<RouteEntry>) -> Result<RouteTable, RouteError> {
        RouteTable::new("gate", entries, |error| error.to_string().into_bytes())
    }

    fn find(route: &str, kind: RouteKind) -> Result<Destination, String> {
        let entries = vec![
            RouteEntry::request("hall.join"),
            RouteEntry::notify("hall.wave"),
            RouteEntry { visibility: Visibility::Internal, ..RouteEntry::request("hall.secret") },
        ];
        let found = table(entries).unwrap().find(route.as_bytes(), kind);
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn a_route_is_found_with_and_without_the_kind_of_this_server() {
        for route in ["hall.join", "gate.hall.join"] {
            assert_eq!(find(route, RouteKind::Request), Ok(Destination::Here(RouteId(0))));
        }
    }

    #[test]
    fn a_route_of_another_kind_goes_elsewhere() {
        let elsewhere = Destination::Elsewhere("room.hall.join".to_owned());
        assert_eq!(find("room.hall.join", RouteKind::Request), Ok(elsewhere));
    }

    #[test]
    fn an_unknown_route_is_named_in_full() {
        let error = "PIT-404: pitaya/handler: gate.hall.nobody not found";
        assert_eq!(find("hall.nobody", RouteKind::Request), Err(error.to_owned()));
        assert_eq!(find("gate.hall.nobody", RouteKind::Notify), Err(error.to_owned()));
    }

    #[test]
    fn a_notify_route_is_not_requested_but_a_request_route_may_be_notified() {
        let error = "PIT-400: tried to request a notify route".to_owned();
        assert_eq!(find("hall.wave", RouteKind::Request), Err(error));
        assert_eq!(find("hall.join", RouteKind::Notify), Ok(Destination::Here(RouteId(0))));
    }

    #[test]
    fn an_internal_route_looks_to_clients_as_if_it_were_not_there() {
        let error = "PIT-404: pitaya/handler: gate.hall.secret not found".to_owned();
        assert_eq!(find("hall.secret", RouteKind::Request), Err(error));
    }

    #[test]
    fn a_route_declared_twice_names_both_places() {
        let error = table(vec![RouteEntry::request("a.b"), RouteEntry::notify("a.b")]).unwrap_err();
        let text = error.to_string();
        assert_eq!(text.matches("routes.rs:").count(), 2, "{text}");
    }

    #[test]
    fn a_name_of_the_wrong_shape_or_a_reserved_one_is_refused() {
        for name in ["join", "gate.hall.join", "hall.", "sys.kick", ""] {
            assert!(table(vec![RouteEntry::request(name)]).is_err(), "{name}");
        }
    }
}
