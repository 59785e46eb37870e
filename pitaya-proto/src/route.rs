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
        let route = str::from_utf8(bytes).map_err(|_| error::ROUTE_NOT_UTF8)?;
        if bytes.split(|byte| *byte == b'.').any(is_blank) {
            return Err(error::ROUTE_EMPTY.into());
        }
        let invalid = || Error::from(error::ROUTE_INVALID);
        let (first, rest) = split_at_dot(route).ok_or_else(invalid)?;
        match split_at_dot(rest) {
            None => Ok(Self { kind: None, service: first, method: rest, short: route }),
            Some((service, method)) if split_at_dot(method).is_none() => {
                Ok(Self { kind: Some(first), service, method, short: rest })
            }
            Some(_) => Err(invalid()),
        }
    }
}

/// Whether a part of a route is nothing but white space.
fn is_blank(part: &[u8]) -> bool {
    // Hardly any part begins with something else.
    let begins = part.first().is_some_and(u8::is_ascii_graphic);
    !begins && str::from_utf8(part).is_ok_and(|part| part.trim().is_empty())
}

/// As `split_once`, whose search of a character takes several times as long for a few bytes.
fn split_at_dot(route: &str) -> Option<(&str, &str)> {
    let at = route.bytes().position(|byte| byte == b'.')?;
    Some((&route[..at], &route[at + 1..]))
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
