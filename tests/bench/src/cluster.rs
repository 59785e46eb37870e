//! Two servers of ours that reach each other over a link: a gate, and the room that answers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pitaya_core::{Error, Group, Payload};
use pitaya_driver::cluster::Plain;
use pitaya_driver::{Cluster, Native};
use pitaya_tokio::{App, Server, ServerHandle, Tokio};

use crate::targets::{self, ANYWHERE, announce};

/// What carries the link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Carrier {
    /// TCP as it is, to see what QUIC costs.
    Plain,
    Quic,
}

/// What a remote is called with, and answers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Blob {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) bytes: Vec<u8>,
}

/// Serves what gates forward and call, for ever.
pub(crate) fn serve_room(carrier: Carrier) -> io::Result<()> {
    Tokio::block_on(async {
        let app = targets::app().remote("benchmarks.repeat", repeat);
        let server = Server::new("room", app).cluster(carrier.cluster().await?);
        let server = server.start().await.map_err(io::Error::other)?;
        let members = server.members();
        let address = members.as_ref().and_then(|members| members.me().addresses.first().copied());
        announce(address.ok_or_else(|| io::Error::other("the room is nowhere"))?)?;
        std::future::pending().await
    })?
}

/// Serves clients, whose requests go to the room, for ever.
pub(crate) fn serve_gate(room: SocketAddr) -> io::Result<()> {
    Tokio::block_on(async {
        let gate = start_gate(targets::app(), Carrier::Quic, room).await?;
        announce(gate.addresses()[0])?;
        std::future::pending().await
    })?
}

/// Starts a frontend that has a link with the room.
pub(crate) async fn start_gate(
    app: App<Group>, carrier: Carrier, room: SocketAddr,
) -> io::Result<ServerHandle> {
    let cluster = carrier.cluster().await?.seeds([room.to_string()]);
    let server = Server::new("gate", app).tcp(ANYWHERE).cluster(cluster);
    let server = server.start().await.map_err(io::Error::other)?;
    let knows = || server.members().is_some_and(|all| !all.candidates("room").is_empty());
    tokio::time::timeout(LINK_TIME_MAX, async {
        while !knows() {
            tokio::time::sleep(LOOKS_AGAIN).await;
        }
    })
    .await
    .map_err(|_| io::Error::other("the room does not come"))?;
    Ok(server)
}

impl Carrier {
    async fn cluster(self) -> io::Result<Cluster> {
        match self {
            Self::Plain => {
                let address = SocketAddr::from(([127, 0, 0, 1], 0));
                Ok(Cluster::over(Plain::bind(Tokio::current()?, address).await?))
            }
            Self::Quic => Ok(Cluster::secret(SECRET)),
        }
    }
}

async fn repeat(Payload(blob): Payload<Blob>) -> Result<Blob, Error> {
    Ok(blob)
}

/// It protects nothing: both servers end with the bench.
pub(crate) const SECRET: &str = "the secret of a bench of thirty-two bytes";
pub(crate) const REPEAT: &str = "room.benchmarks.repeat";
const LINK_TIME_MAX: Duration = Duration::from_secs(10);
const LOOKS_AGAIN: Duration = Duration::from_millis(1);
