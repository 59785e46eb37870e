//! A client in the simulator, and servers for it: one that is played by hand, and a real one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::zip;
use pitaya_core::{App, ClientConfig, Ctx, Error, Limits, Payload, Session, State};
use pitaya_driver::{
    Acceptor, Client, ClientState, Listener as _, Runtime as _, Server, ServerHandle,
};
use pitaya_proto::packet::PacketKind;
use pitaya_tests::raw;
use pitaya_tests::raw_server::RawServer;
use pitaya_tests::sim::{Sim, SimListener, SimStream};

/// A client and a server that is played by hand.
pub(crate) async fn connected(
    sim: &Sim, limits: Limits,
) -> (SimListener, Client<Sim>, RawServer<SimStream>) {
    let listener = sim.bind(ANY.parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, peer) = zip(connect(sim, address, limits), accept_open(&listener)).await;
    (listener, client, peer)
}

pub(crate) async fn connect(sim: &Sim, address: SocketAddr, limits: Limits) -> Client<Sim> {
    let config = ClientConfig { limits, ..ClientConfig::default() };
    Client::connect_on(sim.clone(), &address.to_string(), config).await.unwrap()
}

pub(crate) async fn accept(listener: &SimListener) -> RawServer<SimStream> {
    RawServer::accept(listener).await.unwrap()
}

pub(crate) async fn accept_open(listener: &SimListener) -> RawServer<SimStream> {
    let mut peer = accept(listener).await;
    peer.open().await.unwrap();
    peer
}

pub(crate) fn kick(reason: &str) -> Vec<u8> {
    let body =
        if reason.is_empty() { String::new() } else { format!(r#"{{"reason":"{reason}"}}"#) };
    raw::packet(PacketKind::Kick, body.as_bytes())
}

pub(crate) async fn until_away(client: &Client<Sim>) {
    let mut states = client.states();
    while !matches!(states.next().await.unwrap(), ClientState::Reconnecting { .. }) {}
}

pub(crate) fn assert_near(took: Duration, wanted: Duration) {
    // A timer is late by a tick, or by a 64th of its way.
    let late = Duration::from_millis(20) + wanted / 64;
    assert!((wanted..wanted + late).contains(&took), "{took:?}");
}

pub(crate) async fn hall(sim: &Sim, address: &str) -> ServerHandle<Sim> {
    hall_with(sim, Acceptor::tcp(address), Notes::default()).await
}

pub(crate) async fn hall_with(sim: &Sim, acceptor: Acceptor, notes: Notes) -> ServerHandle<Sim> {
    let app = App::new(notes)
        .route("hall.bind", bind)
        .route("hall.count", count)
        .route("hall.login", log_in)
        .notify("hall.note", note)
        .route("hall.tick", tick)
        .route("hall.who", who);
    Server::new("gate", app).accept(acceptor).start_on(sim.clone()).await.unwrap()
}

/// What handlers were told.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, note: impl Into<String>) -> usize {
        let mut notes = self.0.lock().unwrap();
        notes.push(note.into());
        notes.len()
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn bind(session: Session, Payload(uid): Payload<String>) -> Result<(), Error> {
    session.bind(&uid).await
}

async fn count(
    ctx: Ctx, State(notes): State<Notes>, Payload((number, _)): Payload<(u64, String)>,
) -> Result<(), Error> {
    notes.add(number.to_string());
    ctx.sleep(Duration::from_millis(1)).await;
    Ok(())
}

async fn log_in(State(notes): State<Notes>) -> Result<(), Error> {
    if notes.add("login") > 1 { Err(Error::new("LOGIN-1", "once is enough")) } else { Ok(()) }
}

async fn note(State(notes): State<Notes>, Payload(note): Payload<String>) {
    notes.add(note);
}

async fn tick(session: Session, Payload(tick): Payload<u64>) -> Result<(), Error> {
    session.push("onTick", &tick)
}

async fn who(session: Session) -> Result<String, Error> {
    Ok(session.uid().map(|uid| uid.to_string()).unwrap_or_default())
}

pub(crate) const ANY: &str = "127.0.0.1:0";
