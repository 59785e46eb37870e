//! The route dictionary: short codes for the routes an application names often.

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
    /// Sorted by route.
    routes: Box<[(Box<str>, u16)]>,
    /// Code and index into `routes`, sorted by code.
    codes: Box<[(u16, usize)]>,
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
        let entries = entries.into_iter();
        let mut routes: Box<[(Box<str>, u16)]> =
            entries.map(|(route, code)| (route.as_ref().trim().into(), code)).collect();
        routes.sort();
        let mut codes: Box<[_]> =
            routes.iter().enumerate().map(|(index, (_, code))| (*code, index)).collect();
        codes.sort_unstable();
        let dictionary = Self { routes, codes };
        match dictionary.duplicate() {
            Some((route, code)) => Err(DictionaryError { route: route.to_string(), code: *code }),
            None => Ok(dictionary),
        }
    }

    /// The code of a route.
    pub fn code(&self, route: impl AsRef<[u8]>) -> Option<u16> {
        let route = route.as_ref();
        let found = self.routes.binary_search_by(|(known, _)| known.as_bytes().cmp(route));
        found.ok().and_then(|index| self.routes.get(index)).map(|(_, code)| *code)
    }

    /// The route of a code.
    pub fn route(&self, code: u16) -> Option<&str> {
        let found = self.codes.binary_search_by_key(&code, |(code, _)| *code);
        let (_, index) = found.ok().and_then(|index| self.codes.get(index))?;
        self.routes.get(*index).map(|(route, _)| &**route)
    }

    /// Whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Routes and codes, sorted by route.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u16)> {
        self.routes.iter().map(|(route, code)| (&**route, *code))
    }

    fn duplicate(&self) -> Option<&(Box<str>, u16)> {
        let mut routes = self.routes.iter().zip(self.routes.iter().skip(1));
        let by_route = routes.find(|(a, b)| a.0 == b.0).map(|(_, later)| later);
        let mut codes = self.codes.iter().zip(self.codes.iter().skip(1));
        let by_code = codes.find(|(a, b)| a.0 == b.0).map(|(_, (_, index))| index);
        by_route.or_else(|| self.routes.get(*by_code?))
    }
}

/// An entry whose route or code was there before.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("duplicated route(route: {route}, code: {code})")]
pub struct DictionaryError {
    /// The later of both routes.
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
        assert_eq!(dictionary.code(b"\xff"), None);
        assert_eq!(dictionary.route(2), None);
        assert!(!dictionary.is_empty() && Dictionary::default().is_empty());
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
