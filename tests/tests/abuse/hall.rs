//! The server under siege, with a door of every kind.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pitaya_core::{App, Ctx, Error, Limits, Payload, Session, State};
use pitaya_driver::{Server, ServerHandle};
use pitaya_tests::doors::Doors;
use pitaya_tests::sim::Sim;

/// Everybody who can be pushed to.
pub(crate) type Hall = Arc<Mutex<Vec<Session>>>;

/// Starts a server with every door.
pub(crate) async fn start(sim: &Sim, limits: &Limits, hall: &Hall) -> (ServerHandle<Sim>, Doors) {
    let app = App::new(Arc::clone(hall))
        .route("math.double", double)
        .route("hall.join", join)
        .route("hall.measure", measure)
        .route("hall.wait", wait);
    Doors::start(sim, Server::new("gate", app).limits(limits.clone())).await.unwrap()
}

async fn double(Payload(number): Payload<u64>) -> Result<u64, Error> {
    Ok(number * 2)
}

async fn join(State(hall): State<Hall>, session: Session) -> Result<(), Error> {
    hall.lock().unwrap().push(session);
    Ok(())
}

async fn measure(Payload(text): Payload<String>) -> Result<usize, Error> {
    Ok(text.len())
}

async fn wait(ctx: Ctx) -> Result<(), Error> {
    ctx.sleep(Duration::from_secs(1)).await;
    Ok(())
}
