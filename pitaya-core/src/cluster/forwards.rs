//! The requests of one session that other servers answer.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;

use pitaya_proto::error::Error;
use pitaya_proto::zlib::Scratch;

use crate::calls::{Calls, RequestId};
use crate::queue::Ended;
use crate::{CallKey, ConnConfig, Counter, Event, Instant, Player};

/// A call that a server of another kind has a handler for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forward<'e> {
    /// The body, as the client sent it but never compressed.
    pub body: Cow<'e, [u8]>,
    /// When the client is told that nobody answered.
    pub deadline: Instant,
    /// Names the call in [`Command::Reply`](crate::Command::Reply); nothing for a notify, which is
    /// not answered.
    pub key: Option<CallKey>,
    /// The id the client gave; nothing for a notify.
    pub request: Option<NonZeroU64>,
    /// The whole route: `kind.service.method`.
    pub route: Arc<str>,
}

/// Requests that left for other servers: they hold a place among the calls of their session, and no
/// turn. Most sessions have none, so it is one word until the first.
#[derive(Debug, Default)]
pub(crate) struct Forwards(Option<Box<Calls<Asked>>>);

/// A request and its route.
type Asked = (NonZeroU64, Arc<str>);

impl Forwards {
    /// A call leaves; a request is waited for until `deadline`.
    pub(crate) fn start<'e>(
        &mut self, deadline: Instant, request: Option<NonZeroU64>, route: String,
        body: Cow<'e, [u8]>,
    ) -> Forward<'e> {
        let route: Arc<str> = route.into();
        let key = request.map(|request| {
            let calls = self.0.get_or_insert_with(|| Box::new(Calls::new(usize::MAX)));
            let id = calls.start(deadline, (request, Arc::clone(&route)));
            let id = id.expect("a session has fewer calls than there are ids");
            CallKey(FORWARDED | u64::from(id.get()))
        });
        Forward { body, deadline, key, request, route }
    }

    /// Whether that is the key of a forwarded call.
    pub(crate) fn own(key: CallKey) -> bool {
        key.0.get() & FORWARDED.get() != 0
    }

    /// Whether they and as many other calls are all that a session may have.
    pub(crate) fn fill(&self, others: usize, config: &ConnConfig) -> bool {
        self.0.as_ref().is_some_and(|calls| calls.count() + others >= config.limits.calls_max)
    }

    /// What the reply to one of them means.
    pub(crate) fn handle_reply(&mut self, key: CallKey) -> Ended {
        let id = RequestId::from_wire(key.0.get() & !FORWARDED.get());
        let asked = id.zip(self.0.as_mut()).and_then(|(id, calls)| calls.finish(id));
        asked.map_or(Ended::Late, |(request, _)| Ended::Answers(request))
    }

    /// A request whose deadline has come; a reply to it is late.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Asked> {
        self.0.as_mut()?.expire(now)
    }

    /// Nobody waits any more.
    pub(crate) fn close(&mut self) {
        if let Some(calls) = &mut self.0 {
            drop(calls.fail_all());
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.as_ref().map_or(0, |calls| calls.count())
    }

    pub(crate) fn has_request(&self, request: NonZeroU64) -> bool {
        self.0.as_ref().is_some_and(|calls| calls.waiters().any(|(asked, _)| *asked == request))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.0.as_ref()?.poll_timeout()
    }
}

impl Player {
    /// Sends a call on its way to another server.
    pub(crate) fn forward<'e>(
        &mut self, now: Instant, request: Option<NonZeroU64>, route: String, body: Cow<'e, [u8]>,
    ) -> Event<'e> {
        let deadline = now + self.config.limits.call_deadline;
        let forward = self.forwards.start(deadline, request, route, body);
        self.update(now);
        Event::Forward(forward)
    }

    /// Tells those whose calls were not answered in time.
    pub(crate) fn expire_forwards(&mut self, now: Instant, scratch: &mut Scratch) {
        while let Some((request, route)) = self.forwards.expire(now) {
            self.config.counters.add(Counter::CallsExpired);
            let error = Error::request_timeout(&route, self.config.limits.call_deadline);
            self.refuse(now, Some(request), &error, scratch);
        }
    }
}

/// What tells the keys of forwarded calls from those of calls that run here.
const FORWARDED: NonZeroU64 = NonZeroU64::new(1 << 63).expect("it is not zero");
