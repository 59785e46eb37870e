//! Plain async functions as handlers, without a macro.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{self, Poll};

use pitaya_proto::error::Error;

use crate::app::codec::{Encode, encode_owned};
use crate::app::extract::{FromCall, Scope};
use crate::session::HostFuture;
use crate::{Call, Reply};

/// An async function whose arguments are [`FromCall`].
///
/// `Args` is the tuple of its arguments; it keeps functions of different arguments apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not an async function of at most eight arguments",
    note = "a handler is an `async fn`",
    note = "its arguments are `Session`, `State<T>`, `Payload<T>`, `Ctx`, `Bytes` or `FromCall`"
)]
pub trait Handler<Args>: Send + Sync + 'static {
    /// What the function gives.
    type Output;
    /// The function at work.
    type Future: Future<Output = Self::Output> + 'static;

    /// Calls the function.
    fn invoke(&self, args: Args) -> Self::Future;
}

/// What the handler of a request gives: `Result<T, Error>` with a `T` that the codec can write, or
/// with [`Bytes`](bytes::Bytes), which are sent as they are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the result of a request's handler",
    note = "give `Result<T, Error>`, with a `T` that the codec can write, or with `Bytes`"
)]
pub trait IntoReply<C> {
    /// Encodes it, where the handler ran.
    fn into_reply(self) -> Reply;
}

/// What the handler of a notify gives: nothing, or `Result<(), Error>`, whose error is logged.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the result of a notify's handler",
    note = "give nothing, or `Result<(), Error>`; nobody would see more"
)]
pub trait IntoOutcome {
    /// The error, if any.
    fn into_outcome(self) -> Result<(), Error>;
}

impl<C: Encode<T>, T: 'static> IntoReply<C> for Result<T, Error> {
    fn into_reply(self) -> Reply {
        match self.and_then(encode_owned::<C, T>) {
            Ok(body) => Reply::ok(body),
            Err(error) => Reply::error(C::encode_error(&error)),
        }
    }
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Result<(), Error> {
        Ok(())
    }
}

impl IntoOutcome for Result<(), Error> {
    fn into_outcome(self) -> Self {
        self
    }
}

/// A handler that runs: poll it until it gives its reply.
pub struct Running(pub(crate) HostFuture<Reply>);

impl Running {
    /// Polls the handler of `route` once; a panic inside is caught.
    pub fn poll(&mut self, cx: &mut task::Context<'_>, route: &str) -> Poll<Result<Reply, Panic>> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx)));
        polled.map_or_else(
            |panic| Poll::Ready(Err(Panic::new(route, &*panic))),
            |polled| polled.map(Ok),
        )
    }
}

/// A handler panicked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Panic {
    /// What the caller is told.
    pub error: Error,
    /// What it said, for the log alone: it may name what callers must not see.
    pub text: String,
}

impl Panic {
    fn new(route: &str, panic: &dyn Any) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a value that is no text");
        let error = Error::unknown(format!("rpc call internal error - {route}"));
        Self { error, text: text.to_owned() }
    }
}

macro_rules! handler {
    ($($arg:ident)*) => {
        impl<F, Fut, $($arg),*> Handler<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + 'static,
        {
            type Output = Fut::Output;
            type Future = Fut;


            #[allow(non_snake_case, reason = "a tuple of any length has no better names")]
            fn invoke(&self, ($($arg,)*): ($($arg,)*)) -> Fut {
                self($($arg),*)
            }
        }

        impl<S, C, $($arg: FromCall<S, C>),*> FromCall<S, C> for ($($arg,)*) {

            #[allow(unused_variables, reason = "the tuple without arguments uses none")]
            fn from_call(call: &Call<'_>, scope: &Scope<'_>, state: &S) -> Result<Self, Error> {
                Ok(($($arg::from_call(call, scope, state)?,)*))
            }
        }
    };
}

handler!();
handler!(A1);
handler!(A1 A2);
handler!(A1 A2 A3);
handler!(A1 A2 A3 A4);
handler!(A1 A2 A3 A4 A5);
handler!(A1 A2 A3 A4 A5 A6);
handler!(A1 A2 A3 A4 A5 A6 A7);
handler!(A1 A2 A3 A4 A5 A6 A7 A8);
