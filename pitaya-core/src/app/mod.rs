//! An application: its routes and handlers, its state, and what it wants to be told.

pub mod codec;
mod extract;
mod handler;
mod hooks;
mod lifecycle;

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

pub use extract::{Ctx, FromCall, FromRef, Payload, Scope, State};
pub use handler::{Handler, IntoOutcome, IntoReply, Panic, Running};
pub use hooks::{Hooks, OnBind, OnClose};
pub use lifecycle::{Lifecycle, Part, Step, Taken};

use crate::session::{Session, SessionHandle};
use crate::{Call, CloseReason, Options, Reply, RouteEntry, RouteError, RouteTable};
use codec::{Codec, Json};
use pitaya_proto::error::Error;

/// An application with state `S` whose values are written by the codec `C`.
///
/// ```
/// use pitaya_core::{App, Error, Payload, State};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Double { n: i64 }
/// #[derive(Serialize)]
/// struct Doubled { n: i64 }
///
/// async fn double(
///     State(offset): State<i64>, Payload(double): Payload<Double>,
/// ) -> Result<Doubled, Error> {
///     Ok(Doubled { n: double.n * 2 + offset })
/// }
///
/// async fn wave() {}
///
/// let app: App<i64> = App::new(0).route("math.double", double).notify("hall.wave", wave);
/// ```
#[must_use = "it is what the server runs"]
pub struct App<S = (), C = Json> {
    state: Arc<S>,
    /// What the names of routes begin with, while a module adds them.
    prefix: String,
    entries: Vec<RouteEntry>,
    invokes: Vec<Box<Invoke>>,
    hooks: Hooks,
    codec: PhantomData<fn() -> C>,
}

type Invoke = dyn Fn(&Call<'_>, &Scope<'_>) -> Result<Running, Reply> + Send + Sync;

impl<S: Send + Sync + 'static> App<S> {
    /// An application without routes that speaks JSON.
    pub fn new(state: S) -> Self {
        Self::with_codec(state)
    }
}

impl<S: Send + Sync + 'static, C: Codec> App<S, C> {
    /// An application without routes that speaks `C`, such as
    /// `App::<_, Protobuf>::with_codec(state)`.
    pub fn with_codec(state: S) -> Self {
        Self {
            state: Arc::new(state),
            prefix: String::new(),
            entries: Vec::new(),
            invokes: Vec::new(),
            hooks: Hooks::default(),
            codec: PhantomData,
        }
    }

    /// Lets a module add its routes, whose names are methods of `service`, and its hooks. `routes`
    /// is given this application, and gives it back with more in it.
    ///
    /// ```
    /// use pitaya_core::{App, Error};
    ///
    /// mod shop {
    ///     use pitaya_core::{App, Error};
    ///
    ///     pub fn routes(shop: App) -> App {
    ///         shop.route("buy", buy) // its whole name is `shop.buy`
    ///     }
    ///
    ///     async fn buy() -> Result<(), Error> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let app = App::new(()).nest("shop", shop::routes);
    /// ```
    pub fn nest(mut self, service: &str, routes: impl FnOnce(Self) -> Self) -> Self {
        let outer = std::mem::take(&mut self.prefix);
        self.prefix = format!("{outer}{service}.");
        Self { prefix: outer, ..routes(self) }
    }

    /// Adds a route that is answered: `handler` gives `Result<T, Error>`. A name has two parts,
    /// `service.method`; inside of [`nest`](Self::nest) it is the method alone.
    #[track_caller]
    pub fn route<Args, H>(self, route: &str, handler: H) -> Self
    where
        Args: FromCall<S, C>,
        H: Handler<Args, Future: Send, Output: IntoReply<C>>,
    {
        self.route_with(route, Options::default(), handler)
    }

    /// Adds a route with options of its own, for example [`Options::concurrent`].
    #[track_caller]
    pub fn route_with<Args, H>(self, route: &str, options: Options, handler: H) -> Self
    where
        Args: FromCall<S, C>,
        H: Handler<Args, Future: Send, Output: IntoReply<C>>,
    {
        let entry = RouteEntry { options, ..RouteEntry::request(self.name(route)) };
        self.add::<C, _, _>(entry, handler, |output| IntoReply::<C>::into_reply(output))
    }

    /// Adds a route that is not answered: `handler` gives nothing, or `Result<(), Error>`.
    #[track_caller]
    pub fn notify<Args, H>(self, route: &str, handler: H) -> Self
    where
        Args: FromCall<S, C>,
        H: Handler<Args, Future: Send, Output: IntoOutcome>,
    {
        let entry = RouteEntry::notify(self.name(route));
        let reply = |output: H::Output| match output.into_outcome() {
            Ok(()) => Reply::ok([]),
            // It goes nowhere but to a log.
            Err(error) => Reply::error(format!("{}: {}", error.code, error.msg)),
        };
        self.add::<C, _, _>(entry, handler, reply)
    }

    /// Is asked before a session is bound, with the user id; an error refuses the bind.
    pub fn on_bind<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Session<C>, Arc<str>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.hooks.bind.push(Box::new(move |session, uid| Box::pin(hook(session.speaking(), uid))));
        self
    }

    /// Is told when a session that began is over, exactly once.
    pub fn on_close<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Session<C>, CloseReason) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let hook = move |session: SessionHandle, why| hook(session.speaking(), why);
        self.hooks.close.push(Box::new(move |session, why| Box::pin(hook(session, why))));
        self
    }

    /// The application as a server of the kind `server_kind` runs it.
    ///
    /// # Errors
    ///
    /// Routes that contradict each other; see [`RouteTable::new`].
    pub fn build(self, server_kind: &str) -> Result<Handlers, RouteError> {
        let routes = RouteTable::new(server_kind, self.entries, C::encode_error)?;
        Ok(Handlers {
            decode_error: C::decode_error,
            hooks: self.hooks,
            routes: Arc::new(routes),
            invokes: self.invokes,
        })
    }

    pub(crate) fn name(&self, route: &str) -> String {
        format!("{}{route}", self.prefix)
    }

    /// Adds a handler as it is called, whatever its arguments and its result.
    pub(crate) fn add<D: Codec, Args: FromCall<S, D>, H: Handler<Args, Future: Send>>(
        mut self, entry: RouteEntry, handler: H,
        reply: impl Fn(H::Output) -> Reply + Clone + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::clone(&self.state);
        self.entries.push(entry);
        self.invokes.push(Box::new(move |call, scope| {
            let args = Args::from_call(call, scope, &state)
                .map_err(|error| Reply::error(D::encode_error(&error)))?;
            let (future, reply) = (handler.invoke(args), reply.clone());
            Ok(Running(Box::pin(async move { reply(future.await) })))
        }));
        self
    }
}

/// An application ready to run: routes to find, handlers to call, hooks to ask.
pub struct Handlers {
    /// Reads an error reply of the application, to pass it on to another server.
    pub decode_error: fn(&[u8]) -> Error,
    /// What the application wants to be asked and told.
    pub hooks: Hooks,
    /// Which routes it has.
    pub routes: Arc<RouteTable>,
    invokes: Vec<Box<Invoke>>,
}

impl Handlers {
    /// Starts the handler of a call.
    ///
    /// # Errors
    ///
    /// The reply, if it is known without the handler: an argument does not decode. If making one
    /// panicked, that is what the handler does.
    pub fn invoke(&self, call: &Call<'_>, scope: &Scope<'_>) -> Result<Running, Reply> {
        let invoke = &self.invokes[call.route.0];
        catch_unwind(AssertUnwindSafe(|| invoke(call, scope)))
            .unwrap_or_else(|panic| Ok(Running(Box::pin(async { resume_unwind(panic) }))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_routes_are_named_after_their_service_and_bring_their_hooks() {
        async fn buy() -> Result<(), Error> {
            Ok(())
        }
        let shop = |shop: App| shop.route("buy", buy).on_close(|_, _| async {});
        let app: App = App::new(()).nest("shop", shop).route("hall.buy", buy);
        let handlers = app.build("gate").unwrap();
        for name in ["shop.buy", "hall.buy"] {
            assert!(handlers.routes.id(name).is_some());
        }
        assert_eq!(handlers.hooks.close.len(), 1);
    }
}
