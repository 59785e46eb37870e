//! The limit with what a call between servers of ours has to have: the messages of Pitaya around
//! the body, a route that is looked up, and an argument that is decoded; yet no deadlines, no tasks
//! and no choice of a server.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;

use foldhash::fast::RandomState;
use pitaya_proto::protos::{MsgType, Response, RpcType};
use pitaya_proto::request::{Asked, RequestRef};
use pitaya_tokio::block_on;
use prost::Message;

use super::Order;
use super::load::{self, BODY_BYTES, Caller};
use super::mux::{self, Mux};
use crate::cluster::{Blob, REPEAT};
use crate::load::Outcome;

/// Answers the first who connects to `listener`, until it is gone.
pub(crate) fn answer(listener: TcpListener) -> io::Result<()> {
    let mut handlers = HashMap::<&str, fn(Blob) -> Blob, RandomState>::default();
    handlers.insert(REPEAT, |blob| blob);
    mux::answer_by(listener, |request, response| {
        let data = Asked::decode(request).ok().and_then(|asked| {
            let handler = handlers.get(asked.route?)?;
            Some(handler(Blob::decode(asked.data).ok()?).encode_to_vec().into())
        });
        // What cannot be read is answered by nothing, which is a wrong reply.
        let answer = Response { data: data.unwrap_or_default(), error: None };
        answer.encode_raw(response);
    })
}

pub(super) fn call(order: &Order) -> io::Result<Outcome> {
    block_on(async { load::run(order, &SameWork(Mux::connect(order.address).await?)).await })?
}

#[derive(Clone)]
struct SameWork(Mux);

impl Caller for SameWork {
    type Reply = Blob;

    async fn call(&mut self, body: [u8; BODY_BYTES]) -> io::Result<Blob> {
        let request = RequestRef {
            rpc_type: RpcType::User,
            session: None,
            id: 0,
            route: REPEAT,
            data: &Blob { bytes: body.to_vec() }.encode_to_vec(),
            msg_type: MsgType::MsgRequest,
            frontend_id: "gate",
            metadata: &[],
        };
        let request = request.encode_to_vec();
        let response = self.0.ask(&request).await?;
        let response = Response::decode(&*response).map_err(io::Error::other)?;
        Blob::decode(response.data).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{Way, expect_own_answers};

    #[test]
    fn every_call_has_its_own_body_for_an_answer() {
        expect_own_answers(answer, (Way::MuxSameWork, call), 64, 1_000);
    }
}
