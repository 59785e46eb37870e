//! Chat rooms on two servers behind a gate, by one command: the rooms are processes of their own,
//! which the page kills, pauses and starts again. Open it in two tabs.
//!
//! What the buttons do is a toy: nobody but this gate has it, and all of it is on this machine.

mod gate;
mod room;
mod rooms;

use std::env::{args, temp_dir, var};
use std::error::Error;
use std::time::Duration;

#[cfg(not(feature = "tokio"))]
use pitaya_smol as pitaya;
#[cfg(feature = "tokio")]
use pitaya_tokio as pitaya;

/// `cluster-chat [PORT]` is the gate, which starts this program again as each of the rooms.
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = args().skip(1).collect();
    let texts: Vec<_> = arguments.iter().map(|argument| &**argument).collect();
    match texts[..] {
        [] => gate::run(PORT, secret()?),
        ["room", name, seed] => room::run(name, seed, secret()?),
        [port] => gate::run(port.parse()?, secret()?),
        _ => Err("write it as: cluster-chat [PORT]".into()),
    }
}

/// Whoever has it is of this cluster: `PITAYA_SECRET`, or a file that is made at first.
fn secret() -> Result<String, pitaya::IdentityError> {
    let file = temp_dir().join("pitaya-examples.secret");
    var("PITAYA_SECRET").or_else(|_| pitaya::Identity::secret_file(&file))
}

const PORT: u16 = 3252;

/// How long a server that ends waits for one that is paused, or was killed.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
