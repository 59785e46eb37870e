//! A client: requests, notifies and pushes, over one connection after another, as futures.

mod backoff;
mod builder;
mod connect;
mod keeper;
mod line;
mod pushes;
mod status;
mod url;
mod watch;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pitaya_core::planted::mutant;
use pitaya_core::{
    ClientConfig, CloseReason, Codec, Counter, Decode, Encode, Error, Instant, Json, RequestError,
};
use pitaya_proto::error;
use pitaya_proto::handshake::HandshakeResponse;
use pitaya_proto::message::ROUTE_BYTES_MAX;
use pitaya_proto::packet::BODY_BYTES_MAX;

use crate::runtime::{Native, Runtime};
use crate::timers::{Sleep, Timers, before};

pub use builder::ClientBuilder;
pub use connect::ConnectError;
use line::Line;
use pushes::Pushes;
pub use pushes::{RawSubscription, Subscription};
pub use status::{ClientState, States};
use status::{Status, Way};
pub use url::{Scheme, Url, UrlError};

/// A client of a server. It is a handle: clones share the connection, and the last one that is
/// dropped closes it.
///
/// A connection that is lost is replaced, after waits that grow from `reconnect_delay_min` to
/// `reconnect_delay_max`, until `reconnect_attempts_max` attempts in a row have failed. It is not
/// replaced when the server kicks the client or refuses its handshake, nor when the client closes
/// it. Subscriptions stay; what the server knew of the session is told it again in
/// [`on_connected`](ClientBuilder::on_connected).
///
/// `C` is how values are written; the server has to speak the same. Requests are answered in any
/// order; what one task sends before it waits is sent in order, unless the connection is lost in
/// between.
pub struct Client<R, C = Json> {
    shared: Arc<Shared<R>>,
    over: Over,
    /// How long requests of this handle wait.
    deadline: Duration,
    codec: PhantomData<fn() -> C>,
}

struct Shared<R> {
    runtime: R,
    config: Arc<ClientConfig>,
    status: Arc<Status>,
    pushes: Arc<Pushes>,
    timers: Arc<Timers>,
}

/// Which connections a handle speaks over.
#[derive(Clone)]
enum Over {
    /// Whichever there is.
    Any,
    /// That one, which others may not use yet.
    This(Arc<Line>),
}

impl<R: Native> Client<R, Json> {
    /// Connects to a server that speaks JSON, such as `wss://play.example.com` or `127.0.0.1:3250`,
    /// with the default settings.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        Self::connect_with(address, ClientConfig::default()).await
    }
}

impl<R: Runtime> Client<R, Json> {
    /// A client of the server at `address` that speaks JSON, to be described further and then
    /// connected. [`ClientBuilder::new`] begins one with another codec.
    pub fn builder(address: impl Into<String>) -> ClientBuilder<R, Json> {
        ClientBuilder::new(address)
    }
}

impl<R: Native, C: Codec> Client<R, C> {
    /// Connects with settings of one's own, on the runtime of the caller.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect_with(address: &str, config: ClientConfig) -> Result<Self, ConnectError> {
        ClientBuilder::new(address).config(config).connect().await
    }
}

impl<R: Runtime, C: Codec> Client<R, C> {
    /// Connects on `runtime`, and is there once the server has accepted the handshake.
    ///
    /// The addresses of a name are tried one after another, all of them and the handshake within
    /// `connect_timeout`.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect_on(
        runtime: R, address: &str, config: ClientConfig,
    ) -> Result<Self, ConnectError> {
        ClientBuilder::new(address).config(config).connect_on(runtime).await
    }
}

impl<R: Runtime, C: Codec> Client<R, C> {
    /// The same client, with another deadline for requests than `request_deadline`.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// Asks the server, and waits for its reply.
    ///
    /// While there is no connection the request waits for the next one, within its deadline. So
    /// does one whose connection was lost before all of it was written. What was written is never
    /// sent again.
    ///
    /// # Errors
    ///
    /// The error tells what became of the request: see [`RequestError`]. A reply that does not
    /// decode is an answer with PIT-000.
    pub async fn request<T, U>(&self, route: &str, argument: &T) -> Result<U, RequestError>
    where
        C: Encode<T> + Decode<U>,
    {
        let argument = C::encode(argument).map_err(RequestError::Unsent)?;
        let reply = self.request_raw(route, argument.into()).await?;
        C::decode(&reply).map_err(|error| {
            let text = format!("the reply does not decode: {}", error.msg);
            RequestError::Answered(Error::unknown(text))
        })
    }

    /// Like [`request`](Self::request), with bytes as they are.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn request_raw(&self, route: &str, body: Bytes) -> Result<Bytes, RequestError> {
        let deadline = self.shared.runtime.now() + self.deadline;
        loop {
            let line = self.line(deadline).await?;
            let outcome = line.request(route, body.clone(), deadline).await;
            match (&self.over, &outcome) {
                (Over::Any, Err(RequestError::Unsent(error)))
                    if error.code == error::CLIENT_CLOSED_REQUEST => {}
                (Over::Any, Err(RequestError::Unknown(_)))
                    if mutant("what was sent is sent again") => {}
                (Over::Any | Over::This(_), _) => return outcome,
            }
        }
    }

    /// Tells the server something that has no reply. It is on its way, but nothing says whether it
    /// arrives.
    ///
    /// # Errors
    ///
    /// Always [`RequestError::Unsent`]: with what the wire cannot carry; PIT-429 when too much
    /// waits to be sent; PIT-499 when there is no connection, as a notify does not wait for the
    /// next one.
    pub fn notify<T>(&self, route: &str, argument: &T) -> Result<(), RequestError>
    where
        C: Encode<T>,
    {
        let argument = C::encode(argument).map_err(RequestError::Unsent);
        self.count_dropped(argument.and_then(|argument| self.tell(route, argument.into())))
    }

    /// Like [`notify`](Self::notify), with bytes as they are.
    ///
    /// # Errors
    ///
    /// As above.
    pub fn notify_raw(&self, route: &str, body: Bytes) -> Result<(), RequestError> {
        self.count_dropped(self.tell(route, body))
    }

    /// The pushes of one route from now on, over all connections to come, for whoever asks for the
    /// [next](Subscription::next) one. Pushes that nobody subscribed to are dropped and counted.
    pub fn subscribe<T>(&self, route: &str) -> Subscription<T, C>
    where
        C: Decode<T>,
    {
        Subscription::new(self.subscribe_raw(route))
    }

    /// Like [`subscribe`](Self::subscribe), with bytes as they are.
    pub fn subscribe_raw(&self, route: &str) -> RawSubscription {
        RawSubscription::new(Arc::clone(&self.shared.pushes), route)
    }

    /// How the client stands, now and whenever that changes.
    pub fn states(&self) -> States {
        States::new(Arc::clone(&self.shared.status))
    }

    /// What the server said in its last handshake: heartbeat, serializer, route dictionary.
    pub fn server(&self) -> Arc<HandshakeResponse> {
        match &self.over {
            Over::Any => self.shared.status.server(),
            Over::This(line) => Arc::clone(line.server()),
        }
    }

    /// The settings, with the limits and counters.
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// Waits until the client is closed for good, and says why: a kick, a server that stays away, a
    /// close of our own.
    pub async fn closed(&self) -> CloseReason {
        self.shared.status.closed().await
    }

    /// Closes the client for good, once what was sent before has left. Requests in flight get an
    /// error. It takes at most `write_timeout` and `linger_timeout`, both only if the server does
    /// not read.
    ///
    /// Dropping the last handle does the same, without waiting.
    pub async fn close(&self) {
        self.shared.status.close();
        self.shared.status.finished().await;
    }

    /// A handle that speaks over one connection only.
    fn over(shared: Arc<Shared<R>>, line: Arc<Line>) -> Self {
        let deadline = shared.config.limits.request_deadline;
        Self { shared, over: Over::This(line), deadline, codec: PhantomData }
    }

    fn tell(&self, route: &str, body: Bytes) -> Result<(), RequestError> {
        if route.len() > ROUTE_BYTES_MAX {
            return Err(RequestError::Unsent(Error::bad_request("the route is too long")));
        }
        if body.len() + MESSAGE_HEAD_BYTES_MAX > BODY_BYTES_MAX {
            return Err(RequestError::Unsent(error::BODY_TOO_LARGE.into()));
        }
        match self.way() {
            Way::Line(line) => line.notify(route, body),
            Way::Closed(reason) => Err(RequestError::Unsent(reason.no_reply())),
            Way::Wait => Err(RequestError::Unsent(error::PIPE_BROKEN.into())),
        }
    }

    /// A notify that is dropped is counted here, and nowhere before, whatever the reason.
    fn count_dropped(&self, told: Result<(), RequestError>) -> Result<(), RequestError> {
        told.inspect_err(|_| self.shared.config.counters.add(Counter::NotifiesDropped))
    }

    fn way(&self) -> Way {
        match &self.over {
            Over::Any => self.shared.status.way(),
            Over::This(line) => Way::Line(Arc::clone(line)),
        }
    }

    /// The connection to use, now or as soon as there is one.
    async fn line(&self, deadline: Instant) -> Result<Arc<Line>, RequestError> {
        match self.way() {
            Way::Line(line) => Ok(line),
            Way::Closed(reason) => Err(RequestError::Unsent(reason.no_reply())),
            Way::Wait => self.next_line(deadline).await,
        }
    }

    async fn next_line(&self, deadline: Instant) -> Result<Arc<Line>, RequestError> {
        let Shared { runtime, config, status, timers, .. } = &*self.shared;
        let Some(_place) = status.place(config.limits.in_flight_max) else {
            config.counters.add(Counter::RequestsRefused);
            let full = Error::new(error::TOO_MANY_REQUESTS, "too many requests wait to be sent");
            return Err(RequestError::Unsent(full));
        };
        let until = Sleep::until(timers, runtime.clone(), deadline);
        match before(until, status.line()).await {
            Some(found) => found.map_err(|reason| RequestError::Unsent(reason.no_reply())),
            None => {
                config.counters.add(Counter::RequestsExpired);
                Err(RequestError::Unsent(error::CLIENT_REQUEST_TIMEOUT.into()))
            }
        }
    }
}

impl<R> Drop for Shared<R> {
    fn drop(&mut self) {
        self.status.close();
    }
}

impl<R, C> Clone for Client<R, C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            over: self.over.clone(),
            deadline: self.deadline,
            codec: PhantomData,
        }
    }
}

impl<R, C: Codec> std::fmt::Debug for Client<R, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("codec", &C::NAME).finish_non_exhaustive()
    }
}

/// Flags, an id and a route in front of a body.
const MESSAGE_HEAD_BYTES_MAX: usize = 1 + 5 + 1 + ROUTE_BYTES_MAX;
