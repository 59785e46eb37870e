//! What a line means: the commands of Pitaya's own client, parsed without doing anything.

use serde_json::{Map, Value};

/// One line, understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Command {
    /// Empties the screen.
    Clear,
    /// Connects; without an address to where it was connected last.
    Connect(Option<String>),
    Disconnect,
    Exit,
    Help,
    Notify {
        route: String,
        data: String,
    },
    /// Says of what type the pushes of a route are.
    Push {
        route: String,
        kind: String,
    },
    Request {
        route: String,
        data: String,
    },
    /// Lists the routes that are known.
    Routes,
    /// Changes what the server is told at the next connect.
    SetHandshake(Handshake),
}

/// What a server is told of the client; what is absent stays as it was.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Handshake {
    pub(crate) platform: Option<String>,
    /// The library that speaks, and with it what it understands.
    pub(crate) library: Option<String>,
    pub(crate) build_number: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) user: Map<String, Value>,
}

/// Why a line means nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ParseError(pub(crate) String);

/// Reads one line; blank ones and those that begin with `#` mean nothing.
///
/// # Errors
///
/// No such command, or arguments it cannot take.
pub(crate) fn parse(line: &str) -> Result<Option<Command>, ParseError> {
    let (name, rest) = word(line);
    if name.is_empty() || name.starts_with('#') {
        return Ok(None);
    }
    let command = match name {
        "connect" => Command::Connect(optional(name, rest)?),
        "notify" => {
            let (route, data) = message(name, rest)?;
            Command::Notify { route, data }
        }
        "push" => push(rest)?,
        "request" => {
            let (route, data) = message(name, rest)?;
            Command::Request { route, data }
        }
        "sethandshake" => Command::SetHandshake(handshake(rest)?),
        bare => alone(bare, rest)?,
    };
    Ok(Some(command))
}

/// The names of all commands, with their arguments and what they do.
pub(crate) const COMMANDS: [(&str, &str, &str); 10] = [
    ("connect", "[URL]", "connect, to where it was last if no URL is given"),
    ("disconnect", "", "close the connection"),
    ("request", "ROUTE [DATA]", "ask, and wait for the reply"),
    ("notify", "ROUTE [DATA]", "tell, without a reply"),
    ("push", "ROUTE TYPE", "the type of a push; only for Protobuf"),
    ("sethandshake", "JSON | KEY VALUE", "for the next connect: version, platform, buildNumber"),
    ("routes", "", "the routes that are known"),
    ("help", "", "this list"),
    ("clear", "", "empty the screen"),
    ("exit", "", "leave"),
];

impl Handshake {
    /// Takes over what `other` has.
    pub(crate) fn merge(&mut self, other: Self) {
        let Self { platform, library, build_number, version, user } = other;
        self.platform = platform.or_else(|| self.platform.take());
        self.library = library.or_else(|| self.library.take());
        self.build_number = build_number.or_else(|| self.build_number.take());
        self.version = version.or_else(|| self.version.take());
        self.user.extend(user);
    }
}

/// Commands without arguments, and those that are none.
fn alone(name: &str, rest: &str) -> Result<Command, ParseError> {
    let command = match name {
        "clear" => Command::Clear,
        "disconnect" => Command::Disconnect,
        "exit" | "quit" => Command::Exit,
        "help" => Command::Help,
        "routes" => Command::Routes,
        unknown => {
            let unknown = unknown.escape_debug();
            return Err(ParseError(format!("no command `{unknown}`; `help` lists them")));
        }
    };
    if rest.is_empty() { Ok(command) } else { Err(usage(name)) }
}

fn optional(name: &str, rest: &str) -> Result<Option<String>, ParseError> {
    match word(rest) {
        ("", _) => Ok(None),
        (argument, "") => Ok(Some(argument.to_owned())),
        (_, _) => Err(usage(name)),
    }
}

/// A route, and all that follows as it is.
fn message(name: &str, rest: &str) -> Result<(String, String), ParseError> {
    let (route, data) = word(rest);
    if route.is_empty() {
        return Err(usage(name));
    }
    Ok((route.to_owned(), data.to_owned()))
}

fn push(rest: &str) -> Result<Command, ParseError> {
    let (route, kind) = word(rest);
    if route.is_empty() || kind.is_empty() || kind.contains(char::is_whitespace) {
        return Err(usage("push"));
    }
    Ok(Command::Push { route: route.to_owned(), kind: kind.to_owned() })
}

fn handshake(rest: &str) -> Result<Handshake, ParseError> {
    if rest.starts_with('{') {
        return whole_handshake(rest);
    }
    let (key, value) = word(rest);
    if value.is_empty() {
        return Err(usage("sethandshake"));
    }
    let (value, nothing) = (Some(value.to_owned()), Handshake::default());
    match key {
        "buildNumber" => Ok(Handshake { build_number: value, ..nothing }),
        "platform" => Ok(Handshake { platform: value, ..nothing }),
        "version" => Ok(Handshake { version: value, ..nothing }),
        _ => Err(usage("sethandshake")),
    }
}

/// The JSON of a handshake. Keys that are not known are passed over, as Pitaya does.
fn whole_handshake(json: &str) -> Result<Handshake, ParseError> {
    let refuse = |what: String| ParseError(format!("no handshake: {what}"));
    let mut top: Map<String, Value> =
        serde_json::from_str(json).map_err(|error| refuse(error.to_string()))?;
    let mut object = |key: &str| match top.remove(key) {
        Some(Value::Object(object)) => Ok(object),
        Some(Value::Null) | None => Ok(Map::new()),
        Some(_) => Err(refuse(format!("`{key}` has to be an object"))),
    };
    let (mut sys, user) = (object("sys")?, object("user")?);
    let mut text = |key: &str| match sys.remove(key) {
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Null) | None => Ok(None),
        Some(_) => Err(refuse(format!("`{key}` has to be a text"))),
    };
    Ok(Handshake {
        platform: text("platform")?,
        library: text("libVersion")?,
        build_number: text("clientBuildNumber")?,
        version: text("clientVersion")?,
        user,
    })
}

/// The first word, and what follows the blanks behind it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

fn usage(name: &str) -> ParseError {
    let known = COMMANDS.iter().find(|(known, ..)| *known == name);
    let arguments = known.map_or("", |(_, arguments, _)| arguments);
    ParseError(format!("write it as: {}", format!("{name} {arguments}").trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        parse(line).unwrap().expect("a command")
    }

    fn refused(line: &str) -> String {
        parse(line).expect_err("means nothing").0
    }

    #[test]
    fn data_is_all_that_follows_the_route() {
        let (route, data) = ("hall.join".to_owned(), r#"{"name": "a  b"}"#.to_owned());
        let request = Command::Request { route: route.clone(), data: data.clone() };
        assert_eq!(parsed(r#"  request   hall.join   {"name": "a  b"}  "#), request);
        assert_eq!(parsed(r#"notify hall.join {"name": "a  b"}"#), Command::Notify { route, data });
    }

    #[test]
    fn data_may_be_left_out() {
        let request = Command::Request { route: "hall.join".to_owned(), data: String::new() };
        assert_eq!(parsed("request hall.join"), request);
    }

    #[test]
    fn an_address_may_be_left_out() {
        assert_eq!(parsed("connect"), Command::Connect(None));
        assert_eq!(parsed("connect a:1"), Command::Connect(Some("a:1".to_owned())));
    }

    #[test]
    fn blank_lines_and_remarks_mean_nothing() {
        for line in ["", "  \t ", "# request hall.join", "#"] {
            assert_eq!(parse(line), Ok(None), "{line:?}");
        }
    }

    #[test]
    fn every_command_that_is_listed_is_known() {
        for (name, arguments, _) in COMMANDS {
            let example = if name == "sethandshake" { "version 1" } else { "a b" };
            let line = format!("{name} {}", if arguments.is_empty() { "" } else { example });
            let known = match name {
                "connect" => parse("connect a"),
                _ => parse(&line),
            };
            assert!(matches!(known, Ok(Some(_))), "{line}");
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_shown_as_it_should_be() {
        for line in ["request", "notify", "push a", "push a b c", "connect a b", "exit now"] {
            assert!(refused(line).starts_with("write it as: "), "{line}");
        }
        assert_eq!(refused("request"), "write it as: request ROUTE [DATA]");
        assert_eq!(refused("exit now"), "write it as: exit");
        assert_eq!(refused("fly\u{1b}"), r"no command `fly\u{1b}`; `help` lists them");
    }

    #[test]
    fn a_handshake_is_set_by_key_or_as_a_whole() {
        let mut handshake = Handshake::default();
        for line in [
            "sethandshake platform mac",
            "sethandshake version 1.2",
            r#"sethandshake {"sys":{"clientVersion":"2","libVersion":"x"},"user":{"a":1}}"#,
            "sethandshake buildNumber 7",
        ] {
            let Command::SetHandshake(change) = parsed(line) else { panic!("{line}") };
            handshake.merge(change);
        }
        let expected = Handshake {
            platform: Some("mac".to_owned()),
            library: Some("x".to_owned()),
            build_number: Some("7".to_owned()),
            version: Some("2".to_owned()),
            user: Map::from_iter([("a".to_owned(), 1.into())]),
        };
        assert_eq!(handshake, expected);
    }

    #[test]
    fn a_handshake_that_is_none_is_refused() {
        for line in ["sethandshake", "sethandshake version", "sethandshake name x"] {
            assert!(refused(line).starts_with("write it as: sethandshake JSON"), "{line}");
        }
        for json in ["{", r#"{"sys":1}"#, r#"{"sys":{"platform":2}}"#, r#"{"user":[]}"#] {
            assert!(refused(&format!("sethandshake {json}")).starts_with("no handshake"), "{json}");
        }
    }
}
