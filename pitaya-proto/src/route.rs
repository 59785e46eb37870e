//! Names of routes: `service.method`, with the kind of server in front or without.

use crate::error::{self, Error};

/// A route in parts.
///
/// ```
/// use pitaya_proto::route::RouteName;
///
/// let route = RouteName::parse(b"room.chat.send")?;
/// assert_eq!((route.kind, route.service, route.method), (Some("room"), "chat", "send"));
/// assert_eq!(route.short, "chat.send");
/// # Ok::<(), pitaya_proto::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouteName<'a> {
    /// The kind of server that has the handler; the receiver's own kind if absent.
    pub kind: Option<&'a str>,
    /// The group of handlers.
    pub service: &'a str,
    /// The handler.
    pub method: &'a str,
    /// `service.method`, by which tables are keyed.
    pub short: &'a str,
}

impl<'a> RouteName<'a> {
    /// Splits at the dots. Space inside a part is part of it.
    ///
    /// # Errors
    ///
    /// PIT-400, with Go's text where Go has one.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::of(str::from_utf8(bytes).map_err(|_| error::ROUTE_NOT_UTF8)?)
    }

    /// The same for what is known to be UTF-8.
    ///
    /// # Errors
    ///
    /// PIT-400, with Go's text where Go has one.
    pub fn of(route: &'a str) -> Result<Self, Error> {
        let mut dots =
            (0..).zip(route.as_bytes()).filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let parsed = match (dots.next(), dots.next(), dots.next()) {
            (Some(dot), None, _) => Self::of_two(route, dot),
            (Some(dot), Some(next), None) => Self::of_three(route, dot, next),
            (None | Some(_), ..) => None,
        };
        parsed.filter(|parsed| !parsed.has_blank_part()).ok_or_else(|| {
            // Go names an empty part before a wrong count.
            let is_empty = route.split('.').any(is_blank);
            if is_empty { error::ROUTE_EMPTY.into() } else { error::ROUTE_INVALID.into() }
        })
    }

    fn of_two(route: &'a str, dot: usize) -> Option<Self> {
        let (service, method) = (route.get(..dot)?, route.get(dot + 1..)?);
        Some(Self { kind: None, service, method, short: route })
    }

    fn of_three(route: &'a str, dot: usize, next: usize) -> Option<Self> {
        let short = route.get(dot + 1..)?;
        let of_two = Self::of_two(short, next - dot - 1)?;
        Some(Self { kind: Some(route.get(..dot)?), ..of_two })
    }

    fn has_blank_part(&self) -> bool {
        self.kind.is_some_and(is_blank) || is_blank(self.service) || is_blank(self.method)
    }
}

/// Whether a part is nothing but white space.
fn is_blank(part: &str) -> bool {
    // Spares nearly every part the search for white space.
    let begins = part.as_bytes().first().is_some_and(u8::is_ascii_graphic);
    !begins && part.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_or_three_parts_make_a_route() {
        let route = RouteName::parse(b"room.join").unwrap();
        assert_eq!((route.kind, route.service, route.method), (None, "room", "join"));
        assert_eq!(route.short, "room.join");
        let route = RouteName::parse("a b. c .\u{e9}".as_bytes()).unwrap();
        assert_eq!((route.kind, route.service, route.method), (Some("a b"), " c ", "\u{e9}"));
        assert_eq!(route.short, " c .\u{e9}");
    }

    #[test]
    fn an_empty_part_is_named_before_a_wrong_count() {
        for route in ["", " ", ".", "a.", ".a", "a..b", "a. .b", "a.b.c.", "\u{a0}.a", "\t"] {
            let refused = RouteName::parse(route.as_bytes()).unwrap_err();
            assert_eq!(refused.to_string(), "PIT-400: route field can not be empty", "{route:?}");
        }
        for route in ["a", "a.b.c.d"] {
            let refused = RouteName::parse(route.as_bytes()).unwrap_err();
            assert_eq!(refused.to_string(), "PIT-400: invalid route", "{route:?}");
        }
    }

    #[test]
    fn a_route_that_is_not_utf_8_is_refused() {
        let refused = RouteName::parse(b"a.\xff").unwrap_err();
        assert_eq!(refused.to_string(), "PIT-400: route is not utf-8");
    }
}
