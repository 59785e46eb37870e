//! Calls `hello`: prints its reply and what it pushes.

use std::process::ExitCode;

#[cfg(not(feature = "tokio"))]
use pitaya_smol as pitaya;
#[cfg(feature = "tokio")]
use pitaya_tokio as pitaya;

use pitaya::Client;
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct Join {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Joined {
    guest: u64,
    greeting: String,
}

async fn visit(address: &str, name: String) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(address).await.map_err(|why| {
        format!("{why}\n  is it running? cargo run -p pitaya-examples --example hello")
    })?;
    let mut joins = client.subscribe::<String>("onJoin");
    let mut waves = client.subscribe::<String>("onWave");

    let joined: Joined = client.request("hall.join", &Join { name }).await?;
    println!("reply  hall.join  guest {}: {}", joined.guest, joined.greeting);
    client.notify("hall.wave", &())?;
    for (route, pushes) in [("onJoin", &mut joins), ("onWave", &mut waves)] {
        if let Some(push) = pushes.next().await {
            println!("push   {route}     {push}");
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "ada".to_owned());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3250".to_owned());
    match pitaya::block_on(visit(&address, name)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(why)) => eprintln!("{why}"),
        Err(why) => eprintln!("{why}"),
    }
    ExitCode::FAILURE
}
