//! What the application keeps with a session.

use std::collections::BTreeMap;

use pitaya_proto::error::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::session::afar::Changes;

/// Named JSON values with a version that grows with every change, so that an old copy is never
/// taken for a new one.
#[derive(Clone, Debug, Default)]
pub struct SessionData {
    /// One line of JSON for each value: its name, a colon and the value. Most sessions keep a value
    /// or two, for which any map would be too large.
    pub(super) lines: Box<str>,
    pub(super) version: u64,
    /// On a server that the client is not connected to: what was changed there since it was last
    /// pushed to the front.
    pub(super) changes: Option<Box<Changes>>,
}

impl SessionData {
    /// The value of that name, if it is there and is a `T`. A whole number is any number type that
    /// holds it, also when it came from a server that writes all numbers with a point.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let key = key(name);
        let json = self.lines.lines().find_map(|line| line.strip_prefix(&*key))?;
        serde_json::from_str(json).ok().or_else(|| T::deserialize(whole(json)?).ok())
    }

    /// Sets a value; the data as a whole has at most `bytes_max` bytes of JSON.
    ///
    /// # Errors
    ///
    /// A value that is no JSON, or too much of it; nothing has changed then.
    pub fn set(
        &mut self, name: &str, value: impl Serialize, bytes_max: usize,
    ) -> Result<(), Error> {
        self.put(name, &json(value)?, bytes_max)
    }

    /// Sets a value; it fails for its size only.
    pub(super) fn put(&mut self, name: &str, value: &Value, bytes_max: usize) -> Result<(), Error> {
        let lines = format!("{}{}{value}\n", self.without(name), key(name));
        if lines.len() > bytes_max {
            return Err(Error::unknown(format!("session data over {bytes_max} bytes")));
        }
        self.lines = lines.into();
        self.note(name, Some(value.to_string()));
        Ok(())
    }

    /// Removes a value. Whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let left = self.without(name);
        let removed = left.len() < self.lines.len();
        if removed {
            self.lines = left.into();
            self.note(name, None);
        }
        removed
    }

    fn note(&mut self, name: &str, json: Option<String>) {
        self.version += 1;
        if let Some(changes) = &mut self.changes {
            changes.0.insert(name.to_owned(), json.map(Into::into));
        }
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The JSON object that travels between servers, its keys sorted; nothing at all if there are
    /// no values.
    pub fn encode(&self) -> Vec<u8> {
        if self.lines.is_empty() {
            return Vec::new();
        }
        let object = format!("{{{}}}", self.lines.trim_end().replace('\n', ","));
        let sorted: BTreeMap<String, &RawValue> =
            serde_json::from_str(&object).expect("lines of JSON make an object");
        serde_json::to_vec(&sorted).expect("JSON values are JSON")
    }

    fn without(&self, name: &str) -> String {
        let key = key(name);
        self.lines.split_inclusive('\n').filter(|line| !line.starts_with(&*key)).collect()
    }
}

/// A value as JSON, if it can be.
pub(super) fn json(value: impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|why| Error::unknown(why.to_string()))
}

/// What the line of that name begins with, and no other does.
pub(super) fn key(name: &str) -> String {
    serde_json::to_string(name).expect("text is JSON") + ":"
}

fn whole(json: &str) -> Option<Value> {
    let number = serde_json::from_str(json).ok().filter(|number: &f64| number.fract() == 0.0)?;
    // Beyond 2^53 the point has already cost digits.
    (number.abs() <= (1_u64 << 53) as f64).then(|| Value::from(number as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_what_they_were() {
        let mut data = SessionData::default();
        data.set("level", 7, 1024).unwrap();
        assert_eq!(data.value::<u32>("level"), Some(7));
        assert_eq!(data.value::<String>("level"), None);
        assert_eq!(data.value::<u32>("nothing"), None);
    }

    #[test]
    fn a_whole_number_with_a_point_is_an_integer_too() {
        let mut data = SessionData::default();
        data.set("level", 7.0, 1024).unwrap();
        assert_eq!(data.value::<i64>("level"), Some(7));
        data.set("level", 7.5, 1024).unwrap();
        assert_eq!(data.value::<i64>("level"), None);
    }

    #[test]
    fn every_change_makes_a_new_version() {
        let mut data = SessionData::default();
        data.set("a", 1, 1024).unwrap();
        data.set("a", 1, 1024).unwrap();
        assert!(data.remove("a"));
        assert!(!data.remove("a"));
        assert_eq!(data.version(), 3);
    }

    #[test]
    fn too_much_data_is_refused_and_changes_nothing() {
        let mut data = SessionData::default();
        data.set("a", "x".repeat(10), 40).unwrap();
        assert!(data.set("b", "x".repeat(40), 40).is_err());
        data.set("a", "y".repeat(20), 40).unwrap();
        assert_eq!(data.encode(), format!(r#"{{"a":"{}"}}"#, "y".repeat(20)).into_bytes());
    }

    #[test]
    fn names_and_values_may_be_any_text() {
        let mut data = SessionData::default();
        for (at, name) in ["a", "a\"", "a\":1", "\n", "", "a!", "a:"].into_iter().enumerate() {
            data.set(name, format!("{at}\n\"a\":{at}"), 1024).unwrap();
        }
        data.set("a:", "again", 1024).unwrap();
        assert_eq!(data.value::<String>("a\":1").as_deref(), Some("2\n\"a\":2"));
        assert_eq!(data.value::<String>("a:").as_deref(), Some("again"));
        assert!(data.remove("\n") && data.value::<String>("\n").is_none());
        let all: BTreeMap<String, String> = serde_json::from_slice(&data.encode()).unwrap();
        let names: Vec<_> = all.keys().map(|name| &**name).collect();
        assert_eq!(names, ["", "a", "a!", "a\"", "a\":1", "a:"]);
    }

    #[test]
    fn no_data_is_no_bytes() {
        assert_eq!(SessionData::default().encode(), b"");
    }
}
