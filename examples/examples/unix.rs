//! An acceptor of your own: players come through a Unix domain socket. `async-net` gives sockets
//! that work on every runtime; those of your runtime do as well.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

#[cfg(not(feature = "tokio"))]
use pitaya_smol as pitaya;
#[cfg(feature = "tokio")]
use pitaya_tokio as pitaya;

use async_net::unix::{UnixListener, UnixStream};
use pitaya::{Acceptor, App, Error, Listener, Payload, Server};

/// A socket in the file system, which leaves with the server.
struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { listener: UnixListener::bind(path)?, path: path.to_owned() })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Listener for Door {
    type Stream = UnixStream;

    /// The other end has no address, so it is this machine.
    async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, _) = self.listener.accept().await?;
        Ok((stream, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

async fn greet(Payload(name): Payload<String>) -> Result<String, Error> {
    Ok(format!("hello, {name}"))
}

/// The layers above the socket are those of any acceptor: `Acceptor::ws` would be WebSocket.
fn gate(door: Door) -> Server {
    let app = App::new(()).route("hall.greet", greet);
    let acceptor = Acceptor::tcp(door.path.display().to_string());
    Server::new("gate", app).accept_on(acceptor, door)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join("pitaya.sock");
    let door = Door::open(&path).map_err(|why| format!("{}: {why}", path.display()))?;
    println!("gate  {}  unix", path.display());
    Ok(gate(door).run()?)
}

#[cfg(test)]
mod tests {
    use pitaya_tests::raw::{RawClient, Received};

    use super::*;

    #[test]
    fn a_client_is_served_through_the_file_system() -> io::Result<()> {
        let path = std::env::temp_dir().join(format!("pitaya-{}.sock", std::process::id()));
        let door = Door::open(&path)?;
        pitaya::block_on(async {
            let server = gate(door).start().await.expect("nothing to refuse");
            let mut client = RawClient::new(UnixStream::connect(&path).await?);
            client.open("ann").await?;
            let reply = client.request(1, "hall.greet", "\"ann\"").await?;
            assert_eq!(reply, Some(Received::Reply(1, "\"hello, ann\"".to_owned())));
            drop(client);
            server.shutdown().await;
            assert!(!path.exists(), "the socket stays behind");
            Ok(())
        })?
    }
}
