//! Binds whose session ends before they do, in the simulator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::{pending, poll_fn, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use pitaya_core::cluster::Users;
use pitaya_core::{App, Error, Payload, Session, State};
use pitaya_driver::cluster::Plain;
use pitaya_driver::{Cluster, Runtime as _, Server, ServerHandle};
use pitaya_proto::error;
use pitaya_tests::raw::{RawClient, Received, request};
use pitaya_tests::sim::{self, Sim, SimStream};

#[test]
fn a_bind_that_outlives_its_session_keeps_no_user_id() {
    sim::run(1, |sim| async move {
        let late = Late::default();
        let server = start(&sim, &late).await;
        let mut gone = connect(&sim, &server, "gone").await;
        gone.send(&request(1, "hall.fall", "")).await.unwrap();
        gone.rest().await.unwrap();
        assert_eq!(late.result(), Some(Err(error::SESSION_CLOSED.into())));
        let mut bob = connect(&sim, &server, "bob").await;
        let missing = bob.request(1, "hall.kick", "\"ann\"").await.unwrap();
        assert_eq!(missing, Some(Received::Reply(1, "[\"ann\"]".to_owned())));
    });
}

/// A bind that a close hook goes on with: the session is over then, and where the task of a
/// connection panicked its mailbox is still open. Threads can find it so at any time.
#[derive(Clone, Default)]
struct Late(Arc<Inner>);

#[derive(Default)]
struct Inner {
    may_bind: AtomicBool,
    bind: Mutex<Option<Bind>>,
    result: Mutex<Option<Result<(), Error>>>,
}

type Bind = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

impl Late {
    fn begin(&self, mut bind: Bind) {
        assert!(poll(&mut bind).is_pending(), "the hook holds it up");
        *self.0.bind.lock().unwrap() = Some(bind);
    }

    fn finish(&self) {
        self.0.may_bind.store(true, Ordering::Relaxed);
        let Some(mut bind) = self.0.bind.lock().unwrap().take() else { return };
        let Poll::Ready(result) = poll(&mut bind) else { panic!("nothing holds it up") };
        *self.0.result.lock().unwrap() = Some(result);
    }

    fn may_bind(&self) -> bool {
        self.0.may_bind.load(Ordering::Relaxed)
    }

    fn result(&self) -> Option<Result<(), Error>> {
        self.0.result.lock().unwrap().clone()
    }
}

/// What it holds panics as it is dropped at the hard limit, and with it the task.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("as a handler of an application may");
    }
}

fn app(late: &Late) -> App<Late> {
    let (asked, closed) = (late.clone(), late.clone());
    App::new(late.clone())
        .route("hall.fall", fall)
        .route("hall.kick", kick)
        .on_bind(move |_, _| {
            let asked = asked.clone();
            poll_fn(move |_| if asked.may_bind() { Poll::Ready(Ok(())) } else { Poll::Pending })
        })
        .on_close(move |_, _| {
            closed.finish();
            ready(())
        })
}

async fn fall(session: Session, State(late): State<Late>) -> Result<(), Error> {
    late.begin(Box::pin(async move { session.bind("ann").await }));
    let _bomb = Bomb;
    pending().await
}

/// Gives the users that are nowhere.
async fn kick(users: Users, Payload(uid): Payload<String>) -> Result<Vec<String>, Error> {
    users.kick("gate", [uid], "over").await
}

fn poll(bind: &mut Bind) -> Poll<Result<(), Error>> {
    bind.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

async fn start(sim: &Sim, late: &Late) -> ServerHandle<Sim> {
    let network = Plain::bind(sim.clone(), SocketAddr::from(([127, 0, 0, 1], 900))).await.unwrap();
    let server = Server::new("gate", app(late)).cluster(Cluster::over(network).id("gate-0"));
    server.tcp("127.0.0.1:0").start_on(sim.clone()).await.unwrap()
}

async fn connect(sim: &Sim, server: &ServerHandle<Sim>, name: &str) -> RawClient<SimStream> {
    let mut client = RawClient::new(sim.connect(server.addresses()[0]).await.unwrap());
    client.open(name).await.unwrap();
    client
}
