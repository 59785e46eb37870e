//! A client: requests, notifies and pushes over one connection, as futures.

mod connect;
mod line;
mod pushes;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use pitaya_core::{
    ClientCommand, ClientConfig, ClientRequest, CloseReason, Codec, Counter, Decode, Encode, Error,
    Json,
};
use pitaya_proto::error;
use pitaya_proto::handshake::HandshakeResponse;
use pitaya_proto::message::ROUTE_BYTES_MAX;
use pitaya_proto::packet::BODY_BYTES_MAX;

use crate::mailbox::Sent;
use crate::runtime::{Native, Runtime};

pub use connect::ConnectError;
use line::Line;
pub use pushes::{RawSubscription, Subscription};

/// A connection to a server. It is a handle: clones share the connection, and the last one that is
/// dropped closes it.
///
/// `C` is how values are written; the server has to speak the same. Requests are answered in any
/// order; what one task sends before it waits is sent in order.
pub struct Client<R, C = Json> {
    shared: Arc<Shared<R>>,
    /// How long requests of this handle wait.
    deadline: Duration,
    codec: PhantomData<fn() -> C>,
}

struct Shared<R> {
    runtime: R,
    config: Arc<ClientConfig>,
    line: Line,
    server: Arc<HandshakeResponse>,
}

impl<R: Native + Unpin> Client<R, Json> {
    /// Connects to a server that speaks JSON, such as `127.0.0.1:3250`, with the default settings.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        Self::connect_with(address, ClientConfig::default()).await
    }
}

impl<R: Native + Unpin, C: Codec> Client<R, C> {
    /// Connects with settings of one's own, on the runtime of the caller.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect_with(address: &str, config: ClientConfig) -> Result<Self, ConnectError> {
        let runtime = R::current().map_err(|error| ConnectError::io(address, &error))?;
        Self::connect_on(runtime, address, config).await
    }
}

impl<R: Runtime + Unpin, C: Codec> Client<R, C> {
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
        let config = Arc::new(config);
        let (line, server) = connect::connect(&runtime, address, &config).await?;
        if server.serializer != C::NAME {
            let (server, client) = (server.serializer.clone(), C::NAME);
            return Err(ConnectError::Serializer { address: address.to_owned(), client, server });
        }
        let deadline = config.limits.request_deadline;
        let shared = Arc::new(Shared { runtime, config, line, server });
        Ok(Self { shared, deadline, codec: PhantomData })
    }
}

impl<R: Runtime, C: Codec> Client<R, C> {
    /// The same connection, with another deadline for requests than `request_deadline`.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// Asks the server, and waits for its reply.
    ///
    /// # Errors
    ///
    /// The server's error; or of our own PIT-504 when no reply came in time, PIT-499 when the
    /// connection ended first, PIT-429 when too much is in flight, and PIT-000 when the reply does
    /// not decode. Whether the server ran the handler is known only from its own errors.
    pub async fn request<T, U>(&self, route: &str, argument: &T) -> Result<U, Error>
    where
        C: Encode<T> + Decode<U>,
    {
        let reply = self.request_raw(route, C::encode(argument)?.into()).await?;
        C::decode(&reply)
            .map_err(|error| Error::unknown(format!("the reply does not decode: {}", error.msg)))
    }

    /// Like [`request`](Self::request), with bytes as they are.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn request_raw(&self, route: &str, body: Bytes) -> Result<Bytes, Error> {
        let (waiter, reply) = oneshot::channel();
        let bytes = body.len();
        let deadline = self.shared.runtime.now() + self.deadline;
        let request = ClientRequest { route: route.into(), body, deadline, waiter };
        let sent = self.send(ClientCommand::Request(request), bytes);
        sent.inspect_err(|_| self.shared.config.counters.add(Counter::RequestsRefused))?;
        reply.await.unwrap_or_else(|_| Err(self.shared.line.no_reply()))
    }

    /// Tells the server something that has no reply. It is on its way, but nothing says whether it
    /// arrives.
    ///
    /// # Errors
    ///
    /// What the wire cannot carry; PIT-429 when too much waits to be sent; PIT-499 when the
    /// connection is closed.
    pub fn notify<T>(&self, route: &str, argument: &T) -> Result<(), Error>
    where
        C: Encode<T>,
    {
        self.notify_raw(route, C::encode(argument)?.into())
    }

    /// Like [`notify`](Self::notify), with bytes as they are.
    ///
    /// # Errors
    ///
    /// As above.
    pub fn notify_raw(&self, route: &str, body: Bytes) -> Result<(), Error> {
        let bytes = body.len();
        if route.len() > ROUTE_BYTES_MAX {
            return Err(Error::bad_request("the route is too long"));
        }
        if bytes + MESSAGE_HEAD_BYTES_MAX > BODY_BYTES_MAX {
            return Err(error::BODY_TOO_LARGE.into());
        }
        let sent = self.send(ClientCommand::Notify { route: route.into(), body }, bytes);
        sent.inspect_err(|_| self.shared.config.counters.add(Counter::NotifiesDropped))
    }

    /// The pushes of one route from now on, for whoever asks for the [next](Subscription::next)
    /// one. Pushes that nobody subscribed to are dropped and counted.
    pub fn subscribe<T>(&self, route: &str) -> Subscription<T, C>
    where
        C: Decode<T>,
    {
        Subscription::new(self.subscribe_raw(route))
    }

    /// Like [`subscribe`](Self::subscribe), with bytes as they are.
    pub fn subscribe_raw(&self, route: &str) -> RawSubscription {
        RawSubscription::new(self.shared.line.pushes(), route)
    }

    /// What the server said in its handshake: heartbeat, serializer, route dictionary.
    pub fn server(&self) -> &HandshakeResponse {
        &self.shared.server
    }

    /// The settings, with the limits and counters.
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// Waits for the end of the connection, and says why it came: a kick, a lost server, a close of
    /// our own.
    pub async fn closed(&self) -> CloseReason {
        self.shared.line.closed().await
    }

    /// Ends the connection once what was sent before has left. Requests in flight get an error.
    pub fn close(&self) {
        self.shared.line.close();
    }

    fn send(&self, command: ClientCommand<line::Waiter>, bytes: usize) -> Result<(), Error> {
        match self.shared.line.send(command, bytes) {
            Sent::Taken => Ok(()),
            Sent::Full => Err(Error::new(error::TOO_MANY_REQUESTS, "too much waits to be sent")),
            Sent::Closed => Err(self.shared.line.no_reply()),
        }
    }
}

impl<R, C> Clone for Client<R, C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline: self.deadline, codec: PhantomData }
    }
}

impl<R, C: Codec> std::fmt::Debug for Client<R, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("codec", &C::NAME).finish_non_exhaustive()
    }
}

/// Flags, an id and a route in front of a body.
const MESSAGE_HEAD_BYTES_MAX: usize = 1 + 5 + 1 + ROUTE_BYTES_MAX;
