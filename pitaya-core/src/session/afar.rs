//! A session on servers that its client is not connected to: what they know of it, and what they
//! change.

use std::collections::BTreeMap;
use std::sync::Arc;

use pitaya_proto::error::Error;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cluster::Snapshot;
use crate::session::data::key;
use crate::session::{Host, Session, SessionData, SessionHandle};
use crate::{Counter, SessionId};

impl<C> Session<C> {
    /// Tells the server that the client is connected to what was set and removed here, so that
    /// every later call knows it, wherever it runs. Of two servers that change different values at
    /// once nothing is lost; of one value the change stays that arrives last.
    ///
    /// # Errors
    ///
    /// The client is connected to this very server, or that one cannot be reached; what was changed
    /// then waits for another try.
    pub async fn push_to_front(&self) -> Result<(), Error> {
        let changes = self.data().changes();
        let pushed = self.0.host.push_to_front(changes.encode()).await;
        if pushed.is_ok() {
            self.data().settle(&changes);
        }
        pushed
    }
}

impl SessionHandle {
    /// The handle of a session that is connected to another server; see
    /// [`refresh`](Self::refresh).
    pub fn afar(id: SessionId, host: Arc<dyn Host>) -> Self {
        Self::with(id, None, host, SessionData::afar())
    }

    /// What other servers are to know of the session, with the version of its data.
    pub fn snapshot(&self) -> (Snapshot, u64) {
        let data = self.data();
        let uid = self.uid().unwrap_or_default().to_owned();
        (Snapshot { data: data.encode().into(), uid }, data.version())
    }

    /// The version of the session's data, which grows with every change.
    pub fn version(&self) -> u64 {
        self.data().version()
    }

    /// Takes what the server knows that the client is connected to. What was changed here, and not
    /// pushed there, stays.
    pub fn refresh(&self, snapshot: &Snapshot) {
        self.data().refresh(&snapshot.data);
        if !snapshot.uid.is_empty() {
            self.0.uid.get_or_init(|| snapshot.uid.as_str().into());
        }
    }

    /// Takes what another server changed; see [`push_to_front`](Self::push_to_front).
    ///
    /// # Errors
    ///
    /// No JSON object, or too much data; nothing has changed then.
    pub fn merge(&self, changes: &[u8]) -> Result<(), Error> {
        let config = self.0.host.config();
        let wrong = || Error::bad_request("session data is no JSON object");
        let changes = parse(changes).ok_or_else(wrong)?;
        let merged = self.data().merge(changes, config.limits.session_data_bytes_max);
        merged.inspect_err(|_| config.counters.add(Counter::SessionDataRefused))
    }
}

/// Values that were set, and names of values that were removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Changes(pub(super) Values);

impl Changes {
    /// A JSON object, in which what was removed is `null`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let values = self.0.iter().map(|(name, json)| {
            let json = json.as_deref().unwrap_or("null").to_owned();
            (name, RawValue::from_string(json).expect("it was JSON"))
        });
        serde_json::to_vec(&values.collect::<BTreeMap<_, _>>()).expect("JSON values are JSON")
    }
}

impl SessionData {
    /// That of a session that is connected to another server: its changes are kept apart.
    pub(super) fn afar() -> Self {
        Self { changes: Some(Box::default()), ..Self::default() }
    }

    /// What was changed and not pushed to the front.
    pub(super) fn changes(&self) -> Changes {
        self.changes.as_deref().cloned().unwrap_or_default()
    }

    /// The front has these changes; what was changed again meanwhile it has not.
    pub(super) fn settle(&mut self, pushed: &Changes) {
        if let Some(changes) = &mut self.changes {
            changes.0.retain(|name, json| pushed.0.get(name) != Some(json));
        }
    }

    /// Takes the values of the front, but for what was changed here.
    pub(super) fn refresh(&mut self, object: &[u8]) {
        let mut values = parse(object).unwrap_or_default();
        for (name, json) in &self.changes().0 {
            values.insert(name.clone(), json.clone());
        }
        self.lines = lines(&values);
        self.version += 1;
    }

    /// Takes changes that were made elsewhere; it fails for their size only.
    fn merge(&mut self, changes: Values, bytes_max: usize) -> Result<(), Error> {
        let mut values = parse(&self.encode()).unwrap_or_default();
        values.extend(changes);
        let lines = lines(&values);
        if lines.len() > bytes_max {
            return Err(Error::unknown(format!("session data over {bytes_max} bytes")));
        }
        self.lines = lines;
        self.version += 1;
        Ok(())
    }
}

/// Values by their names; `None` for those that are `null`.
type Values = BTreeMap<String, Option<Box<str>>>;

/// The values of a JSON object.
fn parse(object: &[u8]) -> Option<Values> {
    if object.is_empty() {
        return Some(BTreeMap::new());
    }
    let values: BTreeMap<String, Value> = serde_json::from_slice(object).ok()?;
    let json = |value: Value| (!value.is_null()).then(|| value.to_string().into());
    Some(values.into_iter().map(|(name, value)| (name, json(value))).collect())
}

fn lines(values: &Values) -> Box<str> {
    let line = |(name, json): (&String, &Option<Box<str>>)| {
        json.as_ref().map(|json| format!("{}{json}\n", key(name)))
    };
    values.iter().filter_map(line).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_change_different_values_at_once_lose_nothing() {
        let mut front = SessionData::default();
        front.set("gold", 1, 1024).unwrap();
        front.set("level", 1, 1024).unwrap();
        let [mut shop, mut arena] = [SessionData::afar(), SessionData::afar()];
        shop.refresh(&front.encode());
        arena.refresh(&front.encode());
        shop.set("gold", 5, 1024).unwrap();
        arena.set("level", 2, 1024).unwrap();
        arena.remove("gold");
        arena.set("gold", 7, 1024).unwrap();
        arena.remove("gold");
        arena.set("title", "knight", 1024).unwrap();
        for data in [&shop, &arena] {
            front.merge(data.changes().0, 1024).unwrap();
        }
        assert_eq!(front.encode(), br#"{"level":2,"title":"knight"}"#);
    }

    #[test]
    fn what_was_changed_here_and_not_pushed_outlives_what_the_front_says() {
        let mut data = SessionData::afar();
        data.refresh(br#"{"gold":1,"level":1}"#);
        data.set("gold", 2, 1024).unwrap();
        let pushed = data.changes();
        data.set("gold", 3, 1024).unwrap();
        data.settle(&pushed);
        data.refresh(br#"{"gold":2,"level":4}"#);
        assert_eq!(data.encode(), br#"{"gold":3,"level":4}"#);
        data.settle(&data.changes());
        data.refresh(br#"{"gold":9}"#);
        assert_eq!(data.encode(), br#"{"gold":9}"#);
    }

    #[test]
    fn changes_that_are_no_object_or_too_large_change_nothing() {
        let mut front = SessionData::default();
        front.set("a", 1, 1024).unwrap();
        assert_eq!(parse(b"[1]"), None);
        assert!(front.merge(parse(br#"{"b":"0123456789"}"#).unwrap(), 16).is_err());
        assert_eq!(front.encode(), br#"{"a":1}"#);
    }
}
