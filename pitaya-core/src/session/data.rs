//! What the application keeps with a session.

use std::collections::BTreeMap;

use pitaya_proto::error::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Named JSON values with a version that grows with every change, so that an old copy is never
/// taken for a new one.
#[derive(Clone, Debug, Default)]
pub struct SessionData {
    bytes: usize,
    /// Most sessions keep a value or two, for which a map would be too large.
    values: Vec<(Box<str>, Value)>,
    version: u64,
}

impl SessionData {
    /// The value of that name, if it is there and is a `T`. A whole number is any number type that
    /// holds it, also when it came from a server that writes all numbers with a point.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let (_, value) = self.values.get(self.find(name)?)?;
        T::deserialize(value).ok().or_else(|| T::deserialize(whole(value)?).ok())
    }

    /// Sets a value; the data as a whole has at most `bytes_max` bytes of JSON.
    ///
    /// # Errors
    ///
    /// A value that is no JSON, or too much of it; nothing has changed then.
    pub fn set(
        &mut self, name: &str, value: impl Serialize, bytes_max: usize,
    ) -> Result<(), Error> {
        let value = serde_json::to_value(value).map_err(|why| Error::unknown(why.to_string()))?;
        let found = self.find(name);
        let before = found.map_or(0, |at| json_bytes(name, &self.values[at].1));
        let bytes = self.bytes - before + json_bytes(name, &value);
        if bytes > bytes_max {
            return Err(Error::unknown(format!("session data over {bytes_max} bytes")));
        }
        if let Some(at) = found {
            self.values.swap_remove(at);
        }
        self.values.reserve_exact(1);
        self.values.push((name.into(), value));
        self.bytes = bytes;
        self.version += 1;
        Ok(())
    }

    /// Removes a value. Whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(at) = self.find(name) else { return false };
        let (_, value) = self.values.swap_remove(at);
        self.bytes -= json_bytes(name, &value);
        self.version += 1;
        true
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The JSON object that travels between servers, its keys sorted; nothing at all if there are
    /// no values.
    pub fn encode(&self) -> Vec<u8> {
        if self.values.is_empty() {
            return Vec::new();
        }
        let values: BTreeMap<_, _> =
            self.values.iter().map(|(name, value)| (name, value)).collect();
        serde_json::to_vec(&values).expect("JSON values are JSON")
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.values.iter().position(|(known, _)| **known == *name)
    }
}

fn json_bytes(name: &str, value: &Value) -> usize {
    let length = |json: Result<String, _>| json.map_or(0, |json: String| json.len());
    // Two quotes are part of the name's JSON; a colon and a comma are not.
    length(serde_json::to_string(name)) + length(serde_json::to_string(value)) + 2
}

fn whole(value: &Value) -> Option<Value> {
    let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
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
    fn no_data_is_no_bytes() {
        assert_eq!(SessionData::default().encode(), b"");
    }
}
