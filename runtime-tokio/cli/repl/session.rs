//! What the commands do: a connection that comes and goes, and what is told to the server.

use std::fmt;
use std::sync::Arc;

use pitaya_tokio::{Bytes, ClientConfig};
use serde_json::Map;

use super::command::{COMMANDS, Command, Handshake};
use super::connection::{Connection, Routes, Unopened};
use super::find::find;
use super::screen::Screen;
use crate::door::{Door, Trust};

/// Everything that lasts from one command to the next.
pub(crate) struct Session {
    connection: Option<Connection>,
    /// Where it was connected last.
    url: String,
    handshake: Handshake,
    routes: Routes,
    screen: Arc<Screen>,
    trust: Trust,
}

/// What follows a command that was carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Then {
    GoOn,
    Leave,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// It makes no sense now; this is why.
    Refused(String),
    /// The answer was an error, or there was none. It is shown already.
    Unanswered,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Unanswered => f.write_str("an error for an answer"),
        }
    }
}

impl Session {
    pub(crate) fn new(screen: Arc<Screen>, routes: Routes, trust: Trust) -> Self {
        Self {
            connection: None,
            url: USUAL_URL.to_owned(),
            handshake: usual_handshake(),
            routes,
            screen,
            trust,
        }
    }

    /// Carries out one command, to the reply of a request.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub(crate) async fn carry_out(&mut self, command: Command) -> Result<Then, Failure> {
        match command {
            Command::Clear => self.screen.clear(),
            Command::Connect(url) => self.connect(url).await?,
            Command::Disconnect => self.disconnect().await?,
            Command::Exit => return Ok(Then::Leave),
            Command::Help => self.help(),
            Command::Notify { route, data } => self.notify(&route, data)?,
            Command::Push { route, .. } => self.screen.note(&no_descriptors(&route)),
            Command::Request { route, data } => self.request(&route, data).await?,
            Command::Routes => self.list_routes(),
            Command::SetHandshake(change) => self.change_handshake(change),
        }
        Ok(Then::GoOn)
    }

    /// Takes leave of the server, if there is one.
    pub(crate) async fn leave(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    async fn connect(&mut self, url: Option<String>) -> Result<(), Failure> {
        if self.open().is_some() {
            return Err(Failure::Refused(format!("connected to {} already", self.url)));
        }
        self.leave().await;
        let url = url.unwrap_or_else(|| self.url.clone());
        let (url, connection) = self.find(&url).await.map_err(Failure::Refused)?;
        self.screen.note(&format!("connected to {url}"));
        if connection.serializer != "json" {
            let warning = "it speaks {}, not JSON: what it says is shown as it comes";
            self.screen.note(&warning.replace("{}", &connection.serializer));
        }
        (self.connection, self.url) = (Some(connection), url);
        Ok(())
    }

    /// A connection, and the URL to find it again.
    async fn find(&self, url: &str) -> Result<(String, Connection), String> {
        let open = async |door: &Door, config| {
            Connection::open(door, config, &self.screen, &self.routes).await
        };
        if !url.contains("://") {
            let (door, connection) = find(url, &self.trust, &self.config(), open).await?;
            return Ok((door.url(), connection));
        }
        let door = Door::parse(url, &self.trust)?;
        match open(&door, self.config()).await {
            Ok(connection) => Ok((door.url(), connection)),
            Err(Unopened::Unreached(why)) => Err(why),
            Err(Unopened::Refused(why) | Unopened::Unspoken(why)) => {
                Err(format!("no connection to {door}: {why}"))
            }
        }
    }

    async fn disconnect(&mut self) -> Result<(), Failure> {
        self.open().ok_or_else(not_connected)?;
        self.leave().await;
        self.screen.note("disconnected");
        Ok(())
    }

    async fn request(&self, route: &str, data: String) -> Result<(), Failure> {
        let connection = self.open().ok_or_else(not_connected)?;
        let answer = connection.request(route, Bytes::from(data)).await;
        if !answer.as_ref().is_err_and(|error| error.code == NO_SUCH_ROUTE) {
            self.routes.learn(route);
        }
        let shown = answer.map(|body| self.screen.reply(&body));
        shown.map_err(|error| {
            self.screen.failure(&error);
            Failure::Unanswered
        })
    }

    fn notify(&self, route: &str, data: String) -> Result<(), Failure> {
        let connection = self.open().ok_or_else(not_connected)?;
        self.routes.learn(route);
        let told = connection.notify(route, Bytes::from(data));
        told.map_err(|error| Failure::Refused(error.to_string()))
    }

    fn change_handshake(&mut self, change: Handshake) {
        self.handshake.merge(change);
        if self.open().is_some() {
            self.screen.note("told to the server at the next connect");
        }
    }

    fn list_routes(&self) {
        let routes = self.routes.beginning("");
        if routes.is_empty() {
            self.screen
                .note("no routes are known: the server has no dictionary, none was used yet");
        }
        routes.iter().for_each(|route| self.screen.note(route));
    }

    fn help(&self) {
        for (name, arguments, meaning) in COMMANDS {
            self.screen.note(&format!("{:<30}  {meaning}", format!("{name} {arguments}")));
        }
    }

    fn open(&self) -> Option<&Connection> {
        self.connection.as_ref().filter(|connection| connection.is_open())
    }

    fn config(&self) -> ClientConfig {
        let Handshake { platform, library, build_number, version, user } = self.handshake.clone();
        let mut config = ClientConfig::default();
        let told = &mut config.handshake;
        (told.platform, told.user) = (platform.unwrap_or_default(), Some(user));
        told.client_build_number = build_number.unwrap_or_default();
        told.client_version = version.unwrap_or_default();
        if let Some(library) = library {
            told.lib_version = library;
        }
        config
    }
}

/// What Pitaya's own client says.
fn usual_handshake() -> Handshake {
    Handshake {
        platform: Some("repl".to_owned()),
        library: None,
        build_number: Some("20".to_owned()),
        version: Some("1.0.0".to_owned()),
        user: Map::from_iter([("client".to_owned(), "repl".into())]),
    }
}

fn not_connected() -> Failure {
    Failure::Refused("not connected: `connect` comes first".to_owned())
}

fn no_descriptors(route: &str) -> String {
    let route = route.escape_debug();
    format!(
        "the pushes of {route} have types in Protobuf alone, which comes with descriptors later"
    )
}

const NO_SUCH_ROUTE: &str = "PIT-404";
const USUAL_URL: &str = "tcp://127.0.0.1:3250";
