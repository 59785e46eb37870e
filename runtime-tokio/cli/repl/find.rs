//! Finds out how a server is spoken to, where nobody says, in the order in which Pitaya's own
//! client tries.

use std::time::Duration;

use pitaya_tokio::ClientConfig;

use super::connection::{Connection, Unopened};
use crate::door::{Door, Trust};

/// Opens a connection in one way after another, until a server answers to one. `open` is given the
/// door and what it may take.
///
/// # Errors
///
/// Why nobody can be reached, or why each way leads nowhere.
pub(super) async fn find(
    address: &str, trust: &Trust, config: &ClientConfig,
    open: impl AsyncFn(&Door, ClientConfig) -> Result<Connection, Unopened>,
) -> Result<(Door, Connection), String> {
    // What is wrong with the address itself is told once.
    Door::behind("ws", address, trust)?;
    let mut config = config.clone();
    config.limits.connect_timeout = config.limits.connect_timeout.min(WAY_TIMEOUT);
    let mut whys = Vec::new();
    for scheme in SCHEMES {
        let opened = match Door::behind(scheme, address, trust) {
            Ok(door) => open(&door, config.clone()).await.map(|opened| (door, opened)),
            Err(why) => Err(Unopened::Unspoken(why)),
        };
        match opened {
            Ok(found) => return Ok(found),
            Err(Unopened::Unreached(why)) => return Err(why),
            Err(Unopened::Refused(why)) => {
                return Err(format!("no connection to {scheme}://{address}: {why}"));
            }
            Err(Unopened::Unspoken(why)) => whys.push(format!("\n  {scheme}: {why}")),
        }
    }
    Err(format!("no connection to {address}, whichever way it is spoken to:{}", whys.concat()))
}

/// The way of most protection first, though whoever stands in between can choose: where that
/// matters, say which it is.
const SCHEMES: [&str; 4] = ["wss", "ws", "tls", "tcp"];
/// A server that speaks in another way should hang up at once; not every one does.
const WAY_TIMEOUT: Duration = Duration::from_secs(2);
