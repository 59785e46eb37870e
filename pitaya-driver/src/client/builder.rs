//! The description of a client.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_channel::oneshot;
use pitaya_core::{ClientConfig, CloseReason, Codec, RequestError};

use crate::client::backoff::Backoff;
use crate::client::connect::{ConnectError, Dialler, Running};
use crate::client::keeper::{Keeper, OnConnected};
use crate::client::pushes::Pushes;
use crate::client::status::Status;
use crate::client::url::Url;
use crate::client::{Client, Over, Shared};
use crate::runtime::{Native, Runtime};
use crate::timers::Timers;
use crate::transport::tls::{TlsClient, TlsError};

/// A client that does not run yet; [`Client::builder`] begins one that speaks JSON.
#[must_use]
pub struct ClientBuilder<R, C> {
    address: String,
    config: ClientConfig,
    trust: Trust,
    on_connected: Option<OnConnected<R, C>>,
}

impl<R: Runtime, C: Codec> ClientBuilder<R, C> {
    /// A client of the server at `address` that speaks with the codec `C`.
    pub fn new(address: impl Into<String>) -> Self {
        let (address, config) = (address.into(), ClientConfig::default());
        Self { address, config, trust: Trust::System, on_connected: None }
    }

    /// Settings of one's own: what the handshake says, compression, limits.
    pub fn config(self, config: ClientConfig) -> Self {
        Self { config, ..self }
    }

    /// Trusts servers with a certificate of these authorities, in PEM, instead of those that the
    /// system trusts.
    pub fn ca(self, authorities: impl Into<Vec<u8>>) -> Self {
        Self { trust: Trust::Authorities(authorities.into()), ..self }
    }

    /// Trusts whoever answers: for development only, since anybody on the way can read and change
    /// what is said. Each client that does so logs a warning.
    pub fn insecure_trusting_anybody(self) -> Self {
        Self { trust: Trust::Anybody, ..self }
    }

    /// Trusts as this says, for those who need what is not offered here.
    pub fn tls(self, tls: TlsClient) -> Self {
        Self { trust: Trust::Those(tls), ..self }
    }

    /// Does something first on every connection, before other requests use it: logs in, or joins
    /// again what the server has forgotten.
    ///
    /// It has a client of its own, which uses this connection and no other. If it gives
    /// [`RequestError::Answered`], the server has said no and the client is closed; after any other
    /// error, or if it takes longer than `connect_timeout`, the connection is given up like one
    /// that is lost. A panic closes the client.
    pub fn on_connected<F, T>(self, on_connected: F) -> Self
    where
        F: Fn(Client<R, C>) -> T + Send + Sync + 'static,
        T: Future<Output = Result<(), RequestError>> + Send + 'static,
    {
        let on_connected: OnConnected<R, C> =
            Box::new(move |client| Box::pin(on_connected(client)));
        Self { on_connected: Some(on_connected), ..self }
    }

    /// Connects on `runtime`, and is there once requests are sent.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]. The first connection is tried once.
    pub async fn connect_on(self, runtime: R) -> Result<Client<R, C>, ConnectError> {
        let Self { address, config, trust, on_connected } = self;
        let url: Url = match address.parse() {
            Ok(url) => url,
            Err(why) => return Err(ConnectError::Address { address, why }),
        };
        let tls = match url.scheme().is_secure().then(|| trust.tls(&address)).transpose() {
            Ok(tls) => tls,
            Err(why) => return Err(ConnectError::Tls { address, why }),
        };
        let config = Arc::new(config);
        let timers = Timers::start(&runtime);
        let running = Arc::new(Running(Arc::clone(&timers)));
        let (status, pushes) = (Status::new(), Pushes::new(&config));
        let shared = Arc::new(Shared {
            runtime: runtime.clone(),
            config: Arc::clone(&config),
            status: Arc::clone(&status),
            pushes: Arc::clone(&pushes),
            timers,
        });
        let (opening, opened) = oneshot::channel();
        let keeper = Keeper {
            client: Arc::downgrade(&shared),
            status,
            pushes,
            backoff: Backoff::new(&config.limits, runtime.seed()),
            dialler: Dialler {
                runtime: runtime.clone(),
                address: address.clone(),
                url,
                tls,
                config: Arc::clone(&config),
                running,
            },
            on_connected,
        };
        runtime.spawn(async move {
            let mut keeping = pin!(keeper.run(opening));
            poll_fn(|cx| poll_caught(keeping.as_mut(), cx)).await;
        });
        let closed = || Err(ConnectError::Closed { address, reason: CloseReason::Closed });
        opened.await.unwrap_or_else(|_| closed())?;
        let deadline = config.limits.request_deadline;
        Ok(Client { shared, over: Over::Any, deadline, codec: PhantomData })
    }
}

/// What a client does first may panic, and some executors would end with it.
fn poll_caught(keeping: Pin<&mut impl Future<Output = ()>>, cx: &mut Context<'_>) -> Poll<()> {
    catch_unwind(AssertUnwindSafe(|| keeping.poll(cx))).unwrap_or_else(|_| {
        tracing::error!("what a client does first panicked; it is closed");
        Poll::Ready(())
    })
}

/// Whom to trust.
enum Trust {
    Anybody,
    Authorities(Vec<u8>),
    System,
    Those(TlsClient),
}

impl Trust {
    fn tls(self, address: &str) -> Result<TlsClient, TlsError> {
        match self {
            Self::Anybody => {
                tracing::warn!(address, "INSECURE: whoever answers is trusted");
                TlsClient::trusting_anybody()
            }
            Self::Authorities(authorities) => TlsClient::trusting(authorities),
            Self::System => TlsClient::trusting_system(),
            Self::Those(tls) => Ok(tls),
        }
    }
}

impl<R: Native, C: Codec> ClientBuilder<R, C> {
    /// Connects on the runtime of the caller.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]. The first connection is tried once.
    pub async fn connect(self) -> Result<Client<R, C>, ConnectError> {
        let runtime = R::current().map_err(|error| ConnectError::io(&self.address, &error))?;
        self.connect_on(runtime).await
    }
}
