//! gRPC by tonic: unary calls of one method, without TLS.
//!
//! The service is written by hand as `tonic-build` would have it.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::TcpListener;
use std::task::{Context, Poll};

use pitaya_tokio::block_on;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, client, server};
use tonic_prost::ProstCodec;

use super::Order;
use super::load::{self, BODY_BYTES, Caller};
use crate::cluster::Blob;
use crate::load::Outcome;

/// Answers whoever connects to `listener`, for ever.
pub(crate) fn answer(listener: TcpListener) -> io::Result<()> {
    block_on(async {
        listener.set_nonblocking(true)?;
        let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?);
        let incoming = incoming.with_nodelay(Some(true));
        let served = Server::builder().serve_with_incoming(Repeats, incoming).await;
        served.map_err(io::Error::other)
    })?
}

pub(super) fn call(order: &Order) -> io::Result<Outcome> {
    block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", order.address));
        let channel = endpoint.map_err(io::Error::other)?.connect().await;
        let client = client::Grpc::new(channel.map_err(io::Error::other)?);
        load::run(order, &Grpc(client)).await
    })?
}

#[derive(Clone)]
struct Grpc(client::Grpc<Channel>);

impl Caller for Grpc {
    type Reply = Blob;

    async fn call(&mut self, body: [u8; BODY_BYTES]) -> io::Result<Blob> {
        self.0.ready().await.map_err(io::Error::other)?;
        let (request, codec) = (Request::new(Blob { bytes: body.to_vec() }), ProstCodec::default());
        let reply = self.0.unary(request, PathAndQuery::from_static(PATH), codec).await;
        reply.map(Response::into_inner).map_err(io::Error::other)
    }
}

/// The service: there is one method, so nobody asks for its name.
#[derive(Clone)]
struct Repeats;

impl Service<http::Request<Body>> for Repeats {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = server::Grpc::new(ProstCodec::<Blob, Blob>::default());
            Ok(grpc.unary(Repeat, request).await)
        })
    }
}

/// The method.
struct Repeat;

impl Service<Request<Blob>> for Repeat {
    type Response = Response<Blob>;
    type Error = Status;
    type Future = Ready<Result<Response<Blob>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Blob>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

const PATH: &str = "/bench.Room/Repeat";
