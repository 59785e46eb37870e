//! What a handler may ask for as an argument, in any order.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pitaya_proto::error::{self, Error};

use crate::app::codec::Decode;
use crate::session::{Host, Session, SessionHandle};
use crate::{Call, Context, Instant};

/// What a handler's argument can be made from: the call, the session, the application's state.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    label = "the handler of this route takes a `{Self}`",
    note = "it may be `Session`, `State<T>`, `Payload<T>`, `Ctx`, `Bytes` or a `FromCall` of yours",
    note = "the codec must be able to read the `T` of `Payload<T>`",
    note = "the `T` of `State<T>` is the application's state, or made from it by `FromRef`"
)]
pub trait FromCall<S, C>: Sized {
    /// Makes the argument, before the handler runs.
    ///
    /// # Errors
    ///
    /// What the caller is told; the handler does not run then.
    fn from_call(call: &Call<'_>, scope: &Scope<'_>, state: &S) -> Result<Self, Error>;
}

/// What surrounds a call where it runs.
#[derive(Clone, Copy)]
pub struct Scope<'s> {
    /// The route as it was declared.
    pub route: &'s Arc<str>,
    /// Who runs the handler.
    pub host: &'s Arc<dyn Host>,
    /// The session of the client; nothing if another server calls.
    pub session: Option<&'s SessionHandle>,
}

/// The argument of the call, read by the application's codec.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Payload<T>(pub T);

/// The state of the application, or a part of it; see [`FromRef`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct State<T>(pub T);

/// A part of a larger state, written by hand for each part that handlers ask for.
///
/// ```
/// use pitaya_core::FromRef;
///
/// #[derive(Clone)]
/// struct Rooms;
/// #[derive(Clone)]
/// struct Game { rooms: Rooms }
///
/// impl FromRef<Game> for Rooms {
///     fn from_ref(game: &Game) -> Self {
///         game.rooms.clone()
///     }
/// }
/// ```
pub trait FromRef<S> {
    /// The part of `state`.
    fn from_ref(state: &S) -> Self;
}

/// The call itself, and what a handler can do in its time.
#[derive(Clone)]
pub struct Ctx {
    /// What travels with the call.
    pub context: Context,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The id that the caller gave; nothing for a notify.
    pub request: Option<NonZeroU64>,
    /// The route that was called, as it was declared.
    pub route: Arc<str>,
    pub(crate) host: Arc<dyn Host>,
}

impl Ctx {
    /// The time, which in a simulation is a simulated one.
    pub fn now(&self) -> Instant {
        self.host.now()
    }

    /// How long the caller still waits; zero once it has been answered with a timeout.
    pub fn remaining(&self) -> Duration {
        self.deadline.since(self.now())
    }

    /// Waits. Unlike a sleep of the runtime, it obeys simulated time.
    pub async fn sleep(&self, duration: Duration) {
        self.host.sleep(self.now() + duration).await;
    }
}

impl<S, C> FromCall<S, C> for Session<C> {
    fn from_call(_: &Call<'_>, scope: &Scope<'_>, _: &S) -> Result<Self, Error> {
        let session = scope.session.ok_or_else(|| {
            // It is the application's own mistake.
            Error::new(error::INTERNAL, "a remote has no session")
        })?;
        Ok(session.speaking())
    }
}

impl<S, C, T: FromRef<S>> FromCall<S, C> for State<T> {
    fn from_call(_: &Call<'_>, _: &Scope<'_>, state: &S) -> Result<Self, Error> {
        Ok(Self(T::from_ref(state)))
    }
}

impl<S, C: Decode<T>, T> FromCall<S, C> for Payload<T> {
    fn from_call(call: &Call<'_>, _: &Scope<'_>, _: &S) -> Result<Self, Error> {
        C::decode(&call.body).map(Self)
    }
}

/// The argument as it came, whatever the codec.
impl<S, C> FromCall<S, C> for Bytes {
    fn from_call(call: &Call<'_>, _: &Scope<'_>, _: &S) -> Result<Self, Error> {
        Ok(Self::copy_from_slice(&call.body))
    }
}

impl<S, C> FromCall<S, C> for Ctx {
    fn from_call(call: &Call<'_>, scope: &Scope<'_>, _: &S) -> Result<Self, Error> {
        Ok(Self {
            context: call.context.clone(),
            deadline: call.deadline,
            host: Arc::clone(scope.host),
            request: call.request,
            route: Arc::clone(scope.route),
        })
    }
}

impl<T: Clone> FromRef<T> for T {
    fn from_ref(state: &T) -> Self {
        state.clone()
    }
}
