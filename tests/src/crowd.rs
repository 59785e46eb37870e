//! A crowd of clients that ask a room all the time, and the ledger of what became of what they
//! asked.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_lite::future::or;
use pitaya_core::{App, ClientConfig, Counter, Ctx, Error, Payload, RequestError, Session, State};
use pitaya_driver::{Client, Native};

/// Clients that ask until they are told to stop, each in one session after another, since a session
/// stays with its room.
pub struct Crowd {
    ledger: Arc<Ledger>,
    thread: JoinHandle<()>,
}

/// What a client does after an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AfterError {
    /// It asks again.
    AsksOn,
    /// It lets the [`gate`] make it wait for a moment: where there is no other room, errors come as
    /// fast as they are asked for.
    Waits,
}

/// What became of one request.
#[derive(Debug)]
pub struct Outcome {
    sent: Instant,
    ended: Instant,
    answer: Answer,
}

/// Which room answers, or with which error the gate does.
#[derive(Debug)]
enum Answer {
    Error(String),
    Reply(String),
}

#[derive(Default)]
struct Ledger {
    changed: Condvar,
    config: ClientConfig,
    entries: Mutex<Entries>,
    sent: AtomicU64,
    stop: AtomicBool,
}

#[derive(Default)]
struct Entries {
    /// In the order in which they came.
    outcomes: Vec<Outcome>,
    /// For whom something was pushed, which a handler does once for each request that it runs.
    greeted: BTreeSet<String>,
}

impl Crowd {
    /// Lets clients of the gate at `url` ask.
    ///
    /// # Panics
    ///
    /// Later: see [`stop`](Self::stop).
    pub fn start<R: Native>(url: impl Into<String>, after_error: AfterError) -> Self {
        let ledger = Arc::<Ledger>::default();
        let (url, own) = (url.into(), Arc::clone(&ledger));
        let thread = thread::spawn(move || {
            let clients = (0..CLIENTS).map(|_| play::<R>(&url, after_error, &own));
            R::block_on(all(clients)).expect("a runtime starts");
        });
        Self { ledger, thread }
    }

    /// Waits for the first such outcome after that moment, and says when it was.
    ///
    /// # Panics
    ///
    /// None comes.
    pub fn first(&self, begin: Instant, is_so: impl Fn(&Outcome) -> bool) -> Instant {
        let deadline = Instant::now() + PATIENCE;
        let (mut seen, mut entries) = (0, self.ledger.lock());
        loop {
            let mut new = entries.outcomes[seen..].iter();
            if let Some(outcome) = new.find(|outcome| outcome.ended > begin && is_so(outcome)) {
                return outcome.ended;
            }
            seen = entries.outcomes.len();
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "none of {seen} outcomes is what is waited for");
            let waited = self.ledger.changed.wait_timeout(entries, left);
            entries = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until a room has answered some requests more.
    ///
    /// # Panics
    ///
    /// It does not.
    pub fn hear(&self, room: &str) {
        let mut at = Instant::now();
        for _ in 0..SOME {
            at = self.first(at, |outcome| outcome.is_reply_of(room));
        }
    }

    /// Tells all to stop, waits until what they asked has ended, and balances the ledger.
    ///
    /// # Panics
    ///
    /// A request was lost without a word, or answered twice, or ran twice.
    pub fn stop(self) {
        self.ledger.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no request is lost without a word, and none runs twice");
        let (entries, sent) = (self.ledger.lock(), self.ledger.sent.load(Ordering::Relaxed));
        println!("{sent} sent: {}", entries.shown());
        assert_eq!(entries.outcomes.len() as u64, sent, "each request has one outcome");
        let more = self.ledger.config.counters.count(Counter::RepliesLate);
        assert_eq!(more, 0, "no request is answered once more");
    }
}

impl Outcome {
    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        matches!(self.answer, Answer::Error(_))
    }

    /// Whether it is a reply of that room.
    pub fn is_reply_of(&self, room: &str) -> bool {
        matches!(&self.answer, Answer::Reply(by) if by == room)
    }
}

impl Entries {
    fn shown(&self) -> String {
        let mut counts = BTreeMap::<&str, usize>::new();
        for outcome in &self.outcomes {
            let (Answer::Error(what) | Answer::Reply(what)) = &outcome.answer;
            *counts.entry(what).or_default() += 1;
        }
        let took = self.outcomes.iter().map(|outcome| outcome.ended - outcome.sent);
        let slowest = took.max().unwrap_or_default().as_millis();
        format!("{counts:?}, {} greeted, the slowest took {slowest} ms", self.greeted.len())
    }
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of one more request, unless it is time to stop.
    fn next(&self) -> Option<u64> {
        let stops = self.stop.load(Ordering::Relaxed);
        let number = (!stops).then(|| self.sent.fetch_add(1, Ordering::Relaxed));
        assert!(number < Some(REQUESTS_MAX), "somebody forgets to stop");
        number
    }

    fn enter(&self, sent: Instant, answer: Answer) {
        self.lock().outcomes.push(Outcome { sent, ended: Instant::now(), answer });
        self.changed.notify_all();
    }

    /// Takes what a room pushes before it replies, such as `room-1 waves to 17`.
    fn greet(&self, greeting: &str) {
        let is_new = self.lock().greeted.insert(greeting.to_owned());
        let (_, name) = greeting.split_once(" waves to ").expect("a greeting has a name");
        assert!(is_new, "{name} ran twice");
    }
}

/// A gate where clients may wait for a moment.
pub fn gate() -> App {
    async fn rest(ctx: Ctx) -> Result<(), Error> {
        ctx.sleep(MOMENT).await;
        Ok(())
    }
    App::new(()).route("me.rest", rest)
}

/// A room of that name that greets, as that of the examples does.
pub fn room(name: &str) -> App<String> {
    async fn greet(
        ctx: Ctx, session: Session, State(room): State<String>, Payload(name): Payload<String>,
    ) -> Result<(String, u32), Error> {
        ctx.sleep(MOMENT / 10).await;
        session.push("onGreet", &format!("{room} waves to {name}"))?;
        Ok((room, 1))
    }
    App::new(name.to_owned()).route("hall.greet", greet)
}

/// Has one session after another.
async fn play<R: Native>(url: &str, after_error: AfterError, ledger: &Ledger) {
    while !ledger.stop.load(Ordering::Relaxed) {
        let client = Client::<R>::builder(url).config(ledger.config.clone()).connect().await;
        // The server's deadline is long over when the client's own is.
        let client = client.expect("the gate is there").within(PATIENCE / 2);
        let mut greetings = client.subscribe::<String>("onGreet");
        let hear = async {
            while let Some(greeting) = greetings.next().await {
                ledger.greet(&greeting);
            }
        };
        let calls = all((0..IN_FLIGHT).map(|_| call(&client, after_error, ledger)));
        or(hear, calls).await;
        client.close().await;
    }
}

async fn call<R: Native>(client: &Client<R>, after_error: AfterError, ledger: &Ledger) {
    for _ in 0..SESSION_CALLS {
        let Some(number) = ledger.next() else { return };
        let sent = Instant::now();
        let answered = client.request::<_, (String, u32)>(GREET, &number.to_string()).await;
        match answered {
            Ok((room, _)) => ledger.enter(sent, Answer::Reply(room)),
            Err(RequestError::Answered(error)) => {
                assert!(["PIT-408", "PIT-500", "PIT-503"].contains(&&*error.code), "{error}");
                ledger.enter(sent, Answer::Error(error.code.into_owned()));
                if after_error == AfterError::Waits {
                    let _: () = client.request("gate.me.rest", &()).await.expect("it is there");
                }
            }
            Err(error) => panic!("request {number} is lost without a word: {error}"),
        }
    }
}

/// Runs all of them at once.
pub async fn all<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    poll_fn(|cx| {
        running.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

const GREET: &str = "room.hall.greet";
const CLIENTS: usize = 6;
/// Of each client.
const IN_FLIGHT: usize = 3;
/// Of each of these, in a session.
const SESSION_CALLS: usize = 10;
/// As many as show that it is not by chance.
const SOME: usize = 50;
/// More than a machine can do in the time that a test may take.
const REQUESTS_MAX: u64 = 3_000_000;
const MOMENT: Duration = Duration::from_millis(20);
/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);
