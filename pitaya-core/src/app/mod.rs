//! An application: its routes and handlers, its state, and what it wants to be told.

pub mod codec;
mod extract;
mod handler;
mod hooks;

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pitaya_proto::dictionary::Dictionary;

pub use extract::{Ctx, FromCall, FromRef, Payload, Scope, State};
pub use handler::{Handler, IntoOutcome, IntoReply, Running};
pub use hooks::Hooks;

use crate::session::Session;
use crate::{Call, CloseReason, Options, Reply, RouteEntry, RouteTable, StartError};
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
pub struct App<S = (), C = Json> {
    state: S,
    routes: Routes<S, C>,
    hooks: Hooks,
}

/// Routes and their handlers without a state, to be nested into an [`App`].
pub struct Routes<S = (), C = Json> {
    routes: Vec<(RouteEntry, Arc<Invoke<S>>)>,
    codec: PhantomData<fn() -> C>,
}

type Invoke<S> = dyn Fn(&Call<'_>, &Scope<'_>, &S) -> Result<Running, Reply> + Send + Sync;

impl<S: Clone + Send + Sync + 'static> App<S> {
    /// An application without routes that speaks JSON.
    pub fn new(state: S) -> Self {
        Self::with_codec(state)
    }
}

impl<S: Clone + Send + Sync + 'static, C: Codec> App<S, C> {
    /// An application without routes that speaks `C`, such as
    /// `App::<_, Protobuf>::with_codec(state)`.
    pub fn with_codec(state: S) -> Self {
        Self { state, routes: Routes::with_codec(), hooks: Hooks::default() }
    }

    /// Adds a route that is answered: `handler` gives `Result<T, Error>`. A name has two parts,
    /// `service.method`.
    #[must_use]
    #[track_caller]
    pub fn route<Args, H>(self, route: &str, handler: H) -> Self
    where
        Args: FromCall<S, C>,
        H: Handler<Args, Future: Send, Output: IntoReply<C>>,
    {
        Self { routes: self.routes.route(route, handler), ..self }
    }

    /// Adds a route with options of its own, for example [`Options::concurrent`].
    #[must_use]
    #[track_caller]
    pub fn route_with<Args, H>(self, route: &str, options: Options, handler: H) -> Self
    where
        Args: FromCall<S, C>,
        H: Handler<Args, Future: Send, Output: IntoReply<C>>,
    {
        Self { routes: self.routes.route_with(route, options, handler), ..self }
    }

    /// Adds a route that is not answered: `handler` gives nothing, or `Result<(), Error>`.
    #[must_use]
    #[track_caller]
    pub fn notify<Args, H>(self, route: &str, handler: H) -> Self
    where
        Args: FromCall<S, C>,
        H: Handler<Args, Future: Send, Output: IntoOutcome>,
    {
        Self { routes: self.routes.notify(route, handler), ..self }
    }

    /// Adds all of `routes`, whose names are methods of `service`.
    #[must_use]
    pub fn nest(mut self, service: &str, routes: Routes<S, C>) -> Self {
        self.routes.routes.extend(routes.routes.into_iter().map(|(entry, invoke)| {
            let name = format!("{service}.{}", entry.name);
            (RouteEntry { name: name.into(), ..entry }, invoke)
        }));
        self
    }

    /// Is asked before a session is bound, with the user id; an error refuses the bind.
    #[must_use]
    pub fn on_bind<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Session<C>, Arc<str>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.hooks.bind.push(Box::new(move |session, uid| Box::pin(hook(session.speaking(), uid))));
        self
    }

    /// Is told when a session that began is over, exactly once.
    #[must_use]
    pub fn on_close<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Session<C>, CloseReason) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hooks
            .close
            .push(Box::new(move |session, why| Box::pin(hook(session.speaking(), why))));
        self
    }

    /// The application as a server of the kind `server_kind` runs it.
    ///
    /// # Errors
    ///
    /// Routes that contradict each other; see [`RouteTable::new`].
    pub fn build(self, server_kind: &str, dictionary: Dictionary) -> Result<Handlers, StartError> {
        let (entries, invokes): (Vec<_>, Vec<_>) = self.routes.routes.into_iter().unzip();
        let routes = RouteTable::new(server_kind, entries, dictionary, C::encode_error)?;
        let state = Arc::new(self.state);
        let with_state = |invoke: Arc<Invoke<S>>| -> Box<Bound> {
            let state = Arc::clone(&state);
            Box::new(move |call, scope| invoke(call, scope, &state))
        };
        let invokes = invokes.into_iter().map(with_state).collect();
        let (codec, hooks, routes) = (C::NAME, self.hooks, Arc::new(routes));
        Ok(Handlers { codec, hooks, invokes, routes })
    }
}

impl<S: 'static> Routes<S> {
    /// No routes yet, for an application that speaks JSON.
    pub fn new() -> Self {
        Self::with_codec()
    }
}

impl<S: 'static, C: Codec> Routes<S, C> {
    /// No routes yet, for an application that speaks `C`.
    pub fn with_codec() -> Self {
        Self { routes: Vec::new(), codec: PhantomData }
    }

    /// As [`App::route`]; the name is that of the method alone.
    #[must_use]
    #[track_caller]
    pub fn route<Args, H>(self, route: &str, handler: H) -> Self
    where
        Args: FromCall<S, C>,
        H: Handler<Args, Future: Send, Output: IntoReply<C>>,
    {
        self.route_with(route, Options::default(), handler)
    }

    /// As [`App::route_with`].
    #[must_use]
    #[track_caller]
    pub fn route_with<Args, H>(self, route: &str, options: Options, handler: H) -> Self
    where
        Args: FromCall<S, C>,
        H: Handler<Args, Future: Send, Output: IntoReply<C>>,
    {
        let entry = RouteEntry::request(route).options(options);
        self.add(entry, handler, |output| IntoReply::<C>::into_reply(output))
    }

    /// As [`App::notify`].
    #[must_use]
    #[track_caller]
    pub fn notify<Args, H>(self, route: &str, handler: H) -> Self
    where
        Args: FromCall<S, C>,
        H: Handler<Args, Future: Send, Output: IntoOutcome>,
    {
        self.add(RouteEntry::notify(route), handler, |output| match output.into_outcome() {
            Ok(()) => Reply::ok([]),
            Err(error) => Reply::error(C::encode_error(&error)),
        })
    }

    fn add<Args, H>(
        mut self, entry: RouteEntry, handler: H,
        reply: impl Fn(H::Output) -> Reply + Copy + Send + Sync + 'static,
    ) -> Self
    where
        Args: FromCall<S, C>,
        H: Handler<Args, Future: Send>,
    {
        let invoke = move |call: &Call<'_>, scope: &Scope<'_>, state: &S| {
            let args = Args::from_call(call, scope, state)
                .map_err(|error| Reply::error(C::encode_error(&error)))?;
            let future = handler.invoke(args);
            Ok(Running(Box::pin(async move { reply(future.await) })))
        };
        self.routes.push((entry, Arc::new(invoke)));
        self
    }
}

impl<S: 'static, C: Codec> Default for Routes<S, C> {
    fn default() -> Self {
        Self::with_codec()
    }
}

/// An application ready to run: routes to find, handlers to call, hooks to ask.
pub struct Handlers {
    codec: &'static str,
    hooks: Hooks,
    invokes: Vec<Box<Bound>>,
    routes: Arc<RouteTable>,
}

type Bound = dyn Fn(&Call<'_>, &Scope<'_>) -> Result<Running, Reply> + Send + Sync;

impl Handlers {
    /// Starts the handler of a call.
    ///
    /// # Errors
    ///
    /// The reply, if it is known without the handler: an argument does not decode, or making one
    /// panicked.
    pub fn invoke(&self, call: &Call<'_>, scope: &Scope<'_>) -> Result<Running, Reply> {
        let invoke = &self.invokes[call.route.0];
        catch_unwind(AssertUnwindSafe(|| invoke(call, scope))).unwrap_or_else(|panic| {
            Err(self.routes.error_reply(&handler::panicked(scope.route, &*panic)))
        })
    }

    /// The name of the codec.
    pub fn codec(&self) -> &'static str {
        self.codec
    }

    /// What the application wants to be told.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// The routes.
    pub fn routes(&self) -> &Arc<RouteTable> {
        &self.routes
    }
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handlers").field("codec", &self.codec).finish_non_exhaustive()
    }
}
