//! A second reading of JSON, which remembers what a handshake may not have too much of.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// JSON as it was written. Unlike a `Value` of `serde_json`, no key means anything to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Array(Vec<Self>),
    /// In the order of the text, duplicates included.
    Object(Vec<(String, Self)>),
    Other(Value),
}

impl Json {
    /// Nothing if the text is no JSON, or has a number that no `f64` holds.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Array(values) => 1 + values.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(entries) => {
                1 + entries.iter().map(|(_, value)| value.depth()).max().unwrap_or(0)
            }
            Self::Other(_) => 0,
        }
    }

    /// Keys of all objects and elements of all arrays together.
    pub(crate) fn keys(&self) -> usize {
        match self {
            Self::Array(values) => values.len() + values.iter().map(Self::keys).sum::<usize>(),
            Self::Object(entries) => {
                entries.len() + entries.iter().map(|(_, value)| value.keys()).sum::<usize>()
            }
            Self::Other(_) => 0,
        }
    }

    /// The entries of an object; none for anything else.
    pub(crate) fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Object(entries) => entries,
            Self::Array(_) | Self::Other(_) => &[],
        }
    }

    pub(crate) fn value(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }

    /// Whether a key is there that `serde_json` keeps for itself and reads more JSON under.
    pub(crate) fn hides_json(&self) -> bool {
        match self {
            Self::Array(values) => values.iter().any(Self::hides_json),
            Self::Object(entries) => entries
                .iter()
                .any(|(key, value)| key.starts_with("$serde_json::") || value.hides_json()),
            Self::Other(_) => false,
        }
    }

    /// Of keys that are there twice the last one counts.
    pub(crate) fn sorted(self) -> Self {
        match self {
            Self::Array(values) => Self::Array(values.into_iter().map(Self::sorted).collect()),
            Self::Object(entries) => {
                let entries = entries.into_iter().map(|(key, value)| (key, value.sorted()));
                Self::Object(entries.collect::<BTreeMap<_, _>>().into_iter().collect())
            }
            Self::Other(_) => self,
        }
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        match value {
            Value::Array(values) => Self::Array(values.into_iter().map(Self::from).collect()),
            Value::Object(entries) => {
                Self::Object(entries.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Self::Other(value)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Other(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Other(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Other(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Other(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Other(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Json::Object(entries))
    }
}
