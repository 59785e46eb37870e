//! A server of ours that calls the remote of another, with what one of its handlers was given.

use std::io;
use std::time::Duration;

use pitaya_core::{Ctx, Error};
use pitaya_tokio::{Client, block_on};
use tokio::sync::mpsc;

use super::Order;
use super::load::{self, BODY_BYTES, Caller};
use crate::cluster::{Blob, Carrier, REPEAT, start_gate};
use crate::load::Outcome;
use crate::targets;

/// Calls the room from a gate.
pub(super) fn call(order: &Order, carrier: Carrier) -> io::Result<Outcome> {
    block_on(async {
        let (lender, mut lent) = mpsc::unbounded_channel();
        let app = targets::app().route(LEND, move |ctx: Ctx| {
            // Whoever waits for it has it already if it is gone.
            let _ = lender.send(ctx);
            async { Ok::<_, Error>(true) }
        });
        let gate = start_gate(app, carrier, order.address).await?;
        let client = Client::connect(&gate.addresses()[0].to_string()).await;
        let client = client.map_err(io::Error::other)?;
        let done: bool = client.request(LEND, &()).await.map_err(io::Error::other)?;
        let ctx = lent.recv().await.filter(|_| done);
        let ctx = ctx.ok_or_else(|| io::Error::other("no handler has run"))?;
        // It would send heartbeats all the while.
        drop(client);
        load::run(order, &Remote(ctx)).await
    })?
}

#[derive(Clone)]
struct Remote(Ctx);

impl Caller for Remote {
    type Reply = Blob;

    async fn call(&mut self, body: [u8; BODY_BYTES]) -> io::Result<Blob> {
        // As much time as a handler has that calls at once.
        self.0.deadline = self.0.now() + DEADLINE;
        let called = self.0.rpc(REPEAT, &Blob { bytes: body.to_vec() }).await;
        called.map_err(io::Error::other)
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

const LEND: &str = "benchmarks.lend";
const DEADLINE: Duration = Duration::from_secs(5);
