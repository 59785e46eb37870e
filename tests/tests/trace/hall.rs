//! The application of the scenario: its routes for every stage, its handlers for those that have
//! any.

use std::time::Duration;

use bytes::Bytes;
use pitaya_core::{App, Ctx, Error, Limits, Options, RouteEntry, Session, State};
use pitaya_proto::error;
use pitaya_proto::handshake::HandshakeRequest;

use crate::journal::Journal;

/// The application with its handlers.
pub(crate) fn app(journal: &Journal) -> App<Journal> {
    let closings = journal.clone();
    App::new(journal.clone())
        .route("hall.echo", echo)
        .route_with("hall.hasty", hasty(), wait)
        .notify("hall.kick", kick)
        .route("hall.leave", leave)
        .route("hall.open", open)
        .route_with("hall.peek", Options::concurrent(), echo)
        .route_with("hall.share", Options::concurrent(), wait)
        .route("hall.slow", slow)
        .route("hall.wait", wait)
        .on_close(move |session, reason| {
            closings.event(name(&session.handshake()), format!("closed: {reason}"));
            std::future::ready(())
        })
}

/// The routes without handlers.
pub(crate) fn routes() -> Vec<RouteEntry> {
    let concurrent =
        |name| RouteEntry { options: Options::concurrent(), ..RouteEntry::request(name) };
    vec![
        RouteEntry::request("hall.echo"),
        RouteEntry { options: hasty(), ..RouteEntry::request("hall.hasty") },
        RouteEntry::notify("hall.kick"),
        RouteEntry::request("hall.leave"),
        RouteEntry::request("hall.open"),
        concurrent("hall.peek"),
        concurrent("hall.share"),
        RouteEntry::request("hall.slow"),
        RouteEntry::request("hall.wait"),
    ]
}

pub(crate) fn limits() -> Limits {
    // How long a poll takes on a busy machine is no part of the trace.
    Limits::default().calls_max(4).poll_slow(Duration::MAX)
}

/// Who shook hands.
pub(crate) fn name(handshake: &HandshakeRequest) -> &str {
    handshake.user.as_ref().and_then(|user| user["name"].as_str()).unwrap()
}

fn hasty() -> Options {
    Options { deadline: Some(Duration::from_millis(50)), ..Options::default() }
}

async fn echo(ctx: Ctx, session: Session, State(journal): State<Journal>, body: Bytes) -> Replied {
    let call = Noted::start(&ctx, &session, &journal, &body);
    call.end();
    Ok(body)
}

async fn kick(ctx: Ctx, session: Session, State(journal): State<Journal>, body: Bytes) {
    let call = Noted::start(&ctx, &session, &journal, &body);
    session.kick(std::str::from_utf8(&body).unwrap()).unwrap();
    call.end();
}

/// As [`wait`], but then the session is gone.
async fn leave(ctx: Ctx, session: Session, State(journal): State<Journal>, body: Bytes) -> Replied {
    let call = Noted::start(&ctx, &session, &journal, &body);
    journal.opened(&call.body).await;
    assert_eq!(session.push("onLeave", &()), Err(error::SESSION_CLOSED.into()));
    call.end();
    Ok(body)
}

async fn open(ctx: Ctx, session: Session, State(journal): State<Journal>, body: Bytes) -> Replied {
    let call = Noted::start(&ctx, &session, &journal, &body);
    journal.open_gate(&call.body);
    call.end();
    Ok(body)
}

/// As [`wait`], and then it still takes its time.
async fn slow(ctx: Ctx, session: Session, State(journal): State<Journal>, body: Bytes) -> Replied {
    let call = Noted::start(&ctx, &session, &journal, &body);
    journal.opened(&call.body).await;
    ctx.sleep(SLOW).await;
    call.end();
    Ok(body)
}

async fn wait(ctx: Ctx, session: Session, State(journal): State<Journal>, body: Bytes) -> Replied {
    let call = Noted::start(&ctx, &session, &journal, &body);
    journal.opened(&call.body).await;
    call.end();
    Ok(body)
}

type Replied = Result<Bytes, Error>;

/// A call whose start is in the journal.
struct Noted {
    body: String,
    journal: Journal,
    route: String,
    who: String,
}

impl Noted {
    fn start(ctx: &Ctx, session: &Session, journal: &Journal, body: &Bytes) -> Self {
        let (body, route) = (String::from_utf8(body.to_vec()).unwrap(), ctx.route.to_string());
        let who = name(&session.handshake()).to_owned();
        journal.event(&who, format!("start {route} {body}"));
        Self { body, journal: journal.clone(), route, who }
    }

    fn end(self) {
        self.journal.event(&self.who, format!("end {} {}", self.route, self.body));
    }
}

/// How long a slow handler takes once its gate is open.
pub(crate) const SLOW: Duration = Duration::from_millis(20);
