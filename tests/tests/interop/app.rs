//! The application that Pitaya's own client plays against; `tests/interop/README.md` is its
//! specification.

use std::panic::resume_unwind;
use std::time::Duration;

use bytes::Bytes;
use pitaya_core::{
    App, Codec, Ctx, Decode, Encode, Error, Json, Options, Payload, Protobuf, Session,
};
use serde::{Deserialize, Serialize};

/// A codec of the application, under whichever name clients know it.
pub(crate) trait Speaks:
    Codec
    + Decode<Number>
    + Decode<Text>
    + Decode<Uid>
    + Encode<Bytes>
    + Encode<Number>
    + Encode<Text>
    + Encode<Uid>
{
}

impl Speaks for Json {}
impl Speaks for Protobuf {}

#[derive(Clone, Deserialize, PartialEq, Serialize, prost::Message)]
pub(crate) struct Text {
    #[prost(string, tag = "1")]
    pub(crate) msg: String,
}

#[derive(Clone, Deserialize, PartialEq, Serialize, prost::Message)]
pub(crate) struct Uid {
    #[prost(string, tag = "1")]
    pub(crate) uid: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Serialize, prost::Message)]
pub(crate) struct Number {
    #[prost(uint64, tag = "1")]
    pub(crate) n: u64,
}

/// Whether `echo` gives back what it was given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Echo {
    Faithful,
    OneBitOff,
}

pub(crate) fn app<C: Speaks>(faith: Echo) -> App<(), C> {
    let app = App::<(), C>::with_codec(());
    let app = match faith {
        Echo::Faithful => app.route("testsvc.echo", echo),
        Echo::OneBitOff => app.route("testsvc.echo", echo_with_one_bit_off::<C>),
    };
    app.route("testsvc.raw", raw)
        .notify("testsvc.wave", wave::<C>)
        .route("testsvc.waves", waves::<C>)
        .route("testsvc.bind", bind::<C>)
        .route("testsvc.whoami", whoami::<C>)
        .route("testsvc.pushme", pushme::<C>)
        .route("testsvc.pushraw", pushraw::<C>)
        .route("testsvc.kickme", kickme::<C>)
        .route("testsvc.fail", fail)
        .route("testsvc.failcode", failcode)
        .route("testsvc.failplain", failplain)
        .route("testsvc.panics", panics)
        .route("testsvc.slow", slow)
        .route_with(
            "testsvc.stuck",
            Options { deadline: Some(STUCK_DEADLINE), ..Options::default() },
            stuck,
        )
}

async fn echo(Payload(text): Payload<Text>) -> Result<Text, Error> {
    Ok(text)
}

async fn echo_with_one_bit_off<C: Speaks>(Payload(text): Payload<Text>) -> Result<Bytes, Error> {
    let mut body = C::encode(&text)?;
    let middle = body.len() / 2;
    body[middle] ^= 1;
    Ok(body.into())
}

async fn raw(body: Bytes) -> Result<Bytes, Error> {
    Ok(body)
}

async fn wave<C>(session: Session<C>) -> Result<(), Error> {
    session.set(WAVES, waves_of(&session) + 1)
}

async fn waves<C>(session: Session<C>) -> Result<Number, Error> {
    Ok(Number { n: waves_of(&session) })
}

async fn bind<C>(session: Session<C>, Payload(uid): Payload<Uid>) -> Result<Uid, Error> {
    session.bind(&uid.uid).await?;
    Ok(uid)
}

async fn whoami<C>(session: Session<C>) -> Result<Uid, Error> {
    Ok(Uid { uid: session.uid().unwrap_or_default().to_owned() })
}

async fn pushme<C: Speaks>(
    session: Session<C>, Payload(count): Payload<Number>,
) -> Result<Number, Error> {
    (1..=count.n).try_for_each(|n| session.push("onNumber", &Number { n }))?;
    Ok(count)
}

async fn pushraw<C: Speaks>(session: Session<C>, body: Bytes) -> Result<Bytes, Error> {
    session.push("onRaw", &body)?;
    Ok(body)
}

async fn kickme<C>(session: Session<C>) -> Result<Bytes, Error> {
    session.kick("")?;
    Ok(Bytes::new())
}

async fn fail() -> Result<Bytes, Error> {
    Err(Error::new("PIT-433", "test error").with_metadata("some", "meta"))
}

async fn failcode() -> Result<Bytes, Error> {
    Err(Error::new("PIT-555", "somerror"))
}

async fn failplain() -> Result<Bytes, Error> {
    Err(Error::unknown("plain error"))
}

/// Unlike `panic!`, this prints nothing among the results of the tests.
async fn panics() -> Result<Bytes, Error> {
    resume_unwind(Box::new("on purpose"))
}

async fn slow(ctx: Ctx, Payload(pause): Payload<Number>) -> Result<Number, Error> {
    ctx.sleep(Duration::from_millis(pause.n)).await;
    Ok(pause)
}

async fn stuck(ctx: Ctx) -> Result<Bytes, Error> {
    ctx.sleep(STUCK).await;
    Ok(Bytes::from_static(b"late"))
}

fn waves_of<C>(session: &Session<C>) -> u64 {
    session.get(WAVES).unwrap_or_default()
}

const WAVES: &str = "waves";
const STUCK: Duration = Duration::from_secs(1);
const STUCK_DEADLINE: Duration = Duration::from_millis(300);
