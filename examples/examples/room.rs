//! A room behind `gate`: clients reach it through that. `room [NAME] [SEED]`, or
//! `room NAME --discovery mdns` with the feature `mdns`.

use std::env::{args, temp_dir, var};

#[cfg(not(feature = "tokio"))]
use pitaya_smol as pitaya;
#[cfg(feature = "tokio")]
use pitaya_tokio as pitaya;

use pitaya::{App, Cluster, Error, Identity, Payload, Server, Session, StartError, State};

/// Says who answers and how often the player was greeted, in whichever room.
async fn greet(
    session: Session, State(room): State<String>, Payload(name): Payload<String>,
) -> Result<(String, u32), Error> {
    let greetings = session.get::<u32>("greetings").unwrap_or_default() + 1;
    session.set("greetings", greetings)?;
    session.push_to_front().await?; // the gate keeps it, for the next room
    session.push("onGreet", &format!("{room} waves to {name}"))?;
    Ok((room, greetings))
}

fn main() -> Result<(), StartError> {
    let name = args().nth(1).unwrap_or_else(|| "room-1".to_owned());
    let seed = args().nth(2).filter(|it| it != "--discovery");
    let seed = seed.unwrap_or_else(|| "127.0.0.1:4500".to_owned());
    let file = temp_dir().join("pitaya-examples.secret");
    println!("secret  PITAYA_SECRET, or else {}", file.display());
    let secret = var("PITAYA_SECRET").or_else(|_| Identity::secret_file(&file));
    let secret = secret.map_err(|why| StartError::Cluster(why.to_string()))?;
    let cluster =
        Cluster::secret(secret).id(&name).seeds([&seed]).on_member(|event| println!("{event}"));
    // With the feature `mdns`: whoever is in the local network says where it is.
    #[cfg(feature = "mdns")]
    let cluster = match args().nth(3).as_deref() {
        Some("mdns") => cluster.discovery(pitaya::discovery::Mdns::new("pitaya-examples")),
        _ => cluster,
    };
    println!("{name}  looks for others at {seed}");
    Server::new("room", App::new(name).route("hall.greet", greet)).cluster(cluster).run()
}
