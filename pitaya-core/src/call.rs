//! A call and its reply, as values that travel the same way wherever the handler runs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use crate::Instant;
use crate::app::IntoReply;

/// One call to be answered: a request, or a notify if it has no [`request`](Self::request) id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call<'e> {
    /// The body, as the client sent it but never compressed.
    pub body: Cow<'e, [u8]>,
    /// What travels with the call to every server that it causes to work.
    pub context: Context,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Names the call in [`Command::Reply`](crate::Command::Reply).
    pub key: CallKey,
    /// Who called.
    pub origin: Origin,
    /// The id the caller gave, if it wants an answer.
    pub request: Option<NonZeroU64>,
    /// Which route, of the [`RouteTable`](crate::RouteTable).
    pub route: RouteId,
}

/// Names one call of one session on this server. Keys are never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallKey(pub(crate) NonZeroU64);

impl CallKey {
    /// That of a call whose reply is taken from where it runs.
    pub const UNNAMED: Self = Self(NonZeroU64::MAX);
}

/// Names a route of a [`RouteTable`](crate::RouteTable).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouteId(pub(crate) usize);

/// Who made a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The client that is attached to the session.
    Client,
    /// Another server.
    Server,
}

/// Named values that travel with a call; cheap to clone, empty for calls from clients.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Context(pub(crate) Option<Arc<BTreeMap<String, serde_json::Value>>>);

impl Context {
    /// The value of that name.
    pub fn value(&self, name: &str) -> Option<&serde_json::Value> {
        self.0.as_ref()?.get(name)
    }

    /// The same context with one value more; others who hold it do not see the change.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: serde_json::Value) -> Self {
        Arc::make_mut(self.0.get_or_insert_default()).insert(name.into(), value);
        self
    }
}

/// An answer, already encoded where the handler ran.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The encoded value, or the encoded error.
    pub body: Vec<u8>,
    /// Whether the body is an error.
    pub is_error: bool,
}

impl Reply {
    /// A value.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), is_error: false }
    }

    /// What a handler's result becomes in the codec `C`: `Reply::encode::<Json>(Ok(joined))`.
    pub fn encode<C>(result: impl IntoReply<C>) -> Self {
        result.into_reply()
    }

    /// An error, encoded.
    pub fn error(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), is_error: true }
    }
}

/// How calls of one route run. What may take long needs both times, as the hard limit drops the
/// handler also before its deadline:
///
/// ```
/// # use std::time::Duration;
/// # use pitaya_core::Options;
/// let minute = Some(Duration::from_secs(60));
/// let slow = Options { deadline: minute, hard_limit: minute, ..Options::default() };
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// The handler is dropped when its session closes, wherever it waits; by default it runs on, so
    /// that a purchase between debit and grant is not torn.
    pub cancel_on_close: bool,
    /// Calls never wait for others of the session, nor make others wait.
    pub concurrent: bool,
    /// How long an answer may take, from the arrival of the call; by default the limit
    /// `call_deadline`. A call that another server forwards has no longer than the `call_deadline`
    /// of that one, which does not know the options of routes here.
    pub deadline: Option<Duration>,
    /// How long the handler may run, whatever its deadline; by default the limit `call_hard_limit`.
    pub hard_limit: Option<Duration>,
}

impl Options {
    /// Calls that never wait for others of the session, nor make others wait.
    pub fn concurrent() -> Self {
        Self { concurrent: true, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_added_to_a_context_is_not_seen_by_its_other_holders() {
        let outer = Context::default().with("a", 1.into());
        let inner = outer.clone().with("b", 2.into());
        assert_eq!(outer.value("b"), None);
        assert_eq!((inner.value("a"), inner.value("b")), (Some(&1.into()), Some(&2.into())));
    }
}
