//! The route dictionary: short codes for the routes an application names often.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

/// Routes and their codes, both ways, fixed once made.
///
/// ```
/// use pitaya_proto::dictionary::Dictionary;
///
/// let dictionary = Dictionary::new([("room.join", 1), (" onMessage ", 2)])?;
/// assert_eq!(dictionary.code("onMessage"), Some(2));
/// assert_eq!(dictionary.route(1), Some("room.join"));
/// # Ok::<(), pitaya_proto::dictionary::DictionaryError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dictionary {
    codes: BTreeMap<Arc<str>, u16>,
    routes: BTreeMap<u16, Arc<str>>,
}

impl Dictionary {
    /// Space around a route does not count.
    ///
    /// # Errors
    ///
    /// A route or a code that was there before.
    pub fn new<R: AsRef<str>>(
        entries: impl IntoIterator<Item = (R, u16)>,
    ) -> Result<Self, DictionaryError> {
        let mut dictionary = Self::default();
        for (route, code) in entries {
            let route: Arc<str> = route.as_ref().trim().into();
            let same_route = dictionary.codes.insert(Arc::clone(&route), code);
            let same_code = dictionary.routes.insert(code, Arc::clone(&route));
            if same_route.is_some() || same_code.is_some() {
                return Err(DictionaryError { route: route.to_string(), code });
            }
        }
        Ok(dictionary)
    }

    /// The code of a route.
    pub fn code(&self, route: &str) -> Option<u16> {
        self.codes.get(route).copied()
    }

    /// The route of a code.
    pub fn route(&self, code: u16) -> Option<&str> {
        self.routes.get(&code).map(|route| &**route)
    }

    /// Routes and codes, sorted by route.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u16)> {
        self.codes.iter().map(|(route, code)| (&**route, *code))
    }
}

/// An entry whose route or code was there before.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("duplicated route(route: {route}, code: {code})")]
pub struct DictionaryError {
    /// The route of the entry that came later.
    pub route: String,
    /// Its code.
    pub code: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_codes_find_each_other() {
        let entries = [("onMessage", 4), (" room.join ", 1), ("a", 65_535)];
        let dictionary = Dictionary::new(entries).unwrap();
        for (route, code) in entries {
            assert_eq!(dictionary.code(route.trim()), Some(code));
            assert_eq!(dictionary.route(code), Some(route.trim()));
        }
        let sorted: Vec<_> = dictionary.iter().collect();
        assert_eq!(sorted, [("a", 65_535), ("onMessage", 4), ("room.join", 1)]);
        assert_eq!(dictionary.code("b"), None);
        assert_eq!(dictionary.route(2), None);
        assert_eq!(Dictionary::default().iter().count(), 0);
    }

    #[test]
    fn a_route_or_a_code_that_was_there_before_is_refused() {
        for (entries, text) in [
            ([("a.b", 1), ("a.b ", 2)], "duplicated route(route: a.b, code: 2)"),
            ([("a.b", 1), ("a.c", 1)], "duplicated route(route: a.c, code: 1)"),
        ] {
            assert_eq!(Dictionary::new(entries).unwrap_err().to_string(), text);
        }
    }
}
