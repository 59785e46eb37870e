//! The smallest server worth having: a request, a notify and a push. `client` calls it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(not(feature = "tokio"))]
use pitaya_smol as pitaya;
#[cfg(feature = "tokio")]
use pitaya_tokio as pitaya;

use pitaya::{App, Error, Payload, Server, Session, StartError, State};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Join {
    name: String,
}

#[derive(Serialize)]
struct Joined {
    guest: u64,
    greeting: String,
}

/// Binds the session to the name, pushes to it, and answers.
async fn join(
    session: Session, State(guests): State<Arc<AtomicU64>>, Payload(join): Payload<Join>,
) -> Result<Joined, Error> {
    session.bind(&join.name).await?;
    session.push("onJoin", &format!("{} has joined", join.name))?;
    let guest = guests.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(Joined { guest, greeting: format!("hello, {}", join.name) })
}

async fn wave(session: Session) -> Result<(), Error> {
    session.push("onWave", &"and the hall waves back")
}

fn main() -> Result<(), StartError> {
    let guests = Arc::new(AtomicU64::new(0));
    let app = App::new(guests).route("hall.join", join).notify("hall.wave", wave);
    Server::new("gate", app)
        .tcp("127.0.0.1:3250")
        .on_ready(|addresses| {
            println!("gate  {}  tcp", addresses[0]);
            println!("call it from another terminal:");
            println!("  cargo run -p pitaya-examples --example client");
        })
        .run()
}
