//! Requests through a NATS server, which two clients are connected to.

use std::io;
use std::net::SocketAddr;

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;
use pitaya_tokio::block_on;

use super::Order;
use super::load::{self, BODY_BYTES, Caller};
use crate::load::Outcome;
use crate::targets::announce;

/// Answers through `broker`, for ever.
pub(crate) fn answer(broker: SocketAddr) -> io::Result<()> {
    block_on(async {
        let client = connect(broker).await?;
        let mut asked = client.subscribe(SUBJECT).await.map_err(io::Error::other)?;
        // The broker knows of it before anybody asks.
        client.flush().await.map_err(io::Error::other)?;
        announce(broker)?;
        while let Some(message) = asked.next().await {
            let Some(reply) = message.reply else { continue };
            client.publish(reply, message.payload).await.map_err(io::Error::other)?;
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    })?
}

pub(super) fn call(order: &Order) -> io::Result<Outcome> {
    block_on(async { load::run(order, &Nats(connect(order.address).await?)).await })?
}

async fn connect(broker: SocketAddr) -> io::Result<Client> {
    async_nats::connect(broker.to_string()).await.map_err(io::Error::other)
}

#[derive(Clone)]
struct Nats(Client);

impl Caller for Nats {
    type Reply = Bytes;

    async fn call(&mut self, body: [u8; BODY_BYTES]) -> io::Result<Bytes> {
        let asked = self.0.request(SUBJECT, Bytes::copy_from_slice(&body)).await;
        asked.map(|message| message.payload).map_err(io::Error::other)
    }
}

const SUBJECT: &str = "room.repeat";
