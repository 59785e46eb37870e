//! The application that `tests/web/server.test.js` plays against.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use pitaya_core::{App, Ctx, Error, Limits, Payload, Session};
use pitaya_driver::{Native, Server};
use serde::Serialize;
use serde_json::{Map, Value};

/// A server on a runtime and a thread of its own, until this is dropped.
pub(crate) struct Hall {
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// What blocks a thread on a runtime until the future ends.
pub(crate) type BlockOn = fn(Pin<Box<dyn Future<Output = ()>>>);

impl Hall {
    pub(crate) fn open<R: Native>(block_on: BlockOn) -> Self {
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || block_on(Box::pin(serve::<R>(ready, stopped))));
        let address = started.recv().expect("the server starts");
        Self { address, running: Some((stop, thread)) }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        let Some((stop, thread)) = self.running.take() else { return };
        drop(stop);
        let ended = thread.join();
        assert!(ended.is_ok() || thread::panicking(), "the server ends without a panic");
    }
}

async fn serve<R: Native>(ready: mpsc::Sender<SocketAddr>, stopped: oneshot::Receiver<()>) {
    let server = Server::<R>::new("hall", app())
        .ws("127.0.0.1:0")
        .limits(Limits::default().heartbeat(Duration::from_secs(1)))
        .dictionary([("hall.echo", 1), ("onNumber", 0x0102)])
        .validator("version", |client| match &*client.client_version {
            "refused" => Err("this version is refused".to_owned()),
            _ => Ok(()),
        });
    let server = server.start().await.expect("the address is free");
    ready.send(server.addresses()[0]).expect("the test waits");
    // A sender that was dropped asks for the same.
    let _ = stopped.await;
    server.shutdown().await;
}

fn app() -> App<()> {
    App::new(())
        .route("hall.burst", burst)
        .route("hall.echo", echo)
        .route("hall.fail", fail)
        .route("hall.later", later)
        .route("hall.who", who)
        .notify("hall.close", close)
        .notify("hall.kick", kick)
}

async fn echo(body: Bytes) -> Result<Bytes, Error> {
    Ok(body)
}

/// Every second number comes with so much that it is compressed.
async fn burst(session: Session, Payload(count): Payload<u32>) -> Result<u32, Error> {
    for n in 1..=count {
        let padding = if n % 2 == 0 { "long ".repeat(100) } else { String::new() };
        session.push("onNumber", &Numbered { n, padding })?;
    }
    Ok(count)
}

async fn fail() -> Result<(), Error> {
    Err(Error::new("HALL-1", "no <seat>").with_metadata("row", "7"))
}

async fn later(ctx: Ctx, Payload(pause_ms): Payload<u64>) -> Result<u64, Error> {
    ctx.sleep(Duration::from_millis(pause_ms)).await;
    Ok(pause_ms)
}

async fn who(session: Session) -> Result<Who, Error> {
    let said = session.handshake();
    let (library, version) = (said.lib_version.clone(), said.client_version.clone());
    Ok(Who { library, version, user: said.user.clone() })
}

async fn close(session: Session) -> Result<(), Error> {
    session.close()
}

async fn kick(session: Session) -> Result<(), Error> {
    session.kick("enough")
}

#[derive(Serialize)]
struct Numbered {
    n: u32,
    padding: String,
}

#[derive(Serialize)]
struct Who {
    library: String,
    version: String,
    user: Option<Map<String, Value>>,
}
