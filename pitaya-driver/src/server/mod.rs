//! A server: from the description of an application to acceptors, sessions and a clean end.

mod accept;
mod acceptor;
mod closing;
mod descriptors;
mod entrance;
mod host;
mod lifecycle;
mod log;
mod outbound;
pub mod proxy;
mod serve;
mod shared;
mod sources;
mod start;
mod told;
mod waiting;

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_io::{AsyncRead, AsyncWrite};
use pitaya_core::app::{Handlers, Part};
use pitaya_core::cluster::Members;
use pitaya_core::{App, Codec, ConnConfig, Counters, Error, Lifecycle, Limits, RouteError};
use pitaya_proto::dictionary::Dictionary;
use pitaya_proto::handshake::HandshakeRequest;

use crate::cluster::{self, Cluster};
use crate::runtime::{Listener, Native, Runtime};
use crate::timers::{Sleep, before};
use crate::transport::tls::Tls;
pub(crate) use accept::{bind_error, resolve};
pub use acceptor::Acceptor;
use acceptor::Door;
pub(crate) use log::seldom;
pub(crate) use serve::Watch;
pub(crate) use shared::{Address, Shared};
pub use start::StartError;

/// The description of a server; [`run`](Self::run) or [`start`](Self::start) makes it one.
pub struct Server<R> {
    kind: String,
    build: Box<Build>,
    codec: &'static str,
    acceptors: Vec<Acceptor>,
    custom: Vec<(Acceptor, Box<Custom<R>>)>,
    dictionary: Vec<(String, u16)>,
    compression: bool,
    limits: Limits,
    validators: Vec<(String, Box<pitaya_core::Validator>)>,
    on_ready: Option<Box<OnReady>>,
    cluster: Option<Cluster>,
    modules: Vec<Part>,
    wrong_module: Option<String>,
    runtime: PhantomData<fn() -> R>,
}

/// Starts an acceptor whose socket the application made.
type Custom<R> = dyn FnOnce(&Arc<Shared<R>>, Door) -> Option<SocketAddr> + Send;
type OnReady = dyn FnOnce(&[SocketAddr]) + Send;
type Build = dyn FnOnce(&str) -> Result<Handlers, RouteError> + Send;

impl<R: Runtime> Server<R> {
    /// A server of the kind `kind`, which is the first part of the full names of its routes.
    pub fn new<S, C>(kind: impl Into<String>, app: App<S, C>) -> Self
    where
        S: Clone + Send + Sync + 'static,
        C: Codec,
    {
        Self {
            kind: kind.into(),
            build: Box::new(|kind| app.build(kind)),
            codec: C::NAME,
            acceptors: Vec::new(),
            custom: Vec::new(),
            dictionary: Vec::new(),
            compression: true,
            limits: Limits::default(),
            validators: Vec::new(),
            on_ready: None,
            cluster: None,
            modules: Vec::new(),
            wrong_module: None,
            runtime: PhantomData,
        }
    }

    /// Accepts clients over TCP on `address`, such as `127.0.0.1:3250`; port 0 lets the system
    /// choose. A server may have several acceptors.
    #[must_use]
    pub fn tcp(self, address: impl Into<String>) -> Self {
        self.accept(Acceptor::tcp(address))
    }

    /// Accepts clients over TLS.
    #[must_use]
    pub fn tls(self, address: impl Into<String>, tls: Tls) -> Self {
        self.accept(Acceptor::tls(address, tls))
    }

    /// Accepts clients over WebSocket.
    #[must_use]
    pub fn ws(self, address: impl Into<String>) -> Self {
        self.accept(Acceptor::ws(address))
    }

    /// Accepts clients over WebSocket and TLS.
    #[must_use]
    pub fn wss(self, address: impl Into<String>, tls: Tls) -> Self {
        self.accept(Acceptor::wss(address, tls))
    }

    /// Accepts clients as `acceptor` says.
    #[must_use]
    pub fn accept(mut self, acceptor: Acceptor) -> Self {
        self.acceptors.push(acceptor);
        self
    }

    /// Accepts clients on a socket of one's own, such as a Unix domain socket, with the layers of
    /// `acceptor`, whose address is only for messages.
    #[must_use]
    pub fn accept_on<L>(mut self, acceptor: Acceptor, listener: L) -> Self
    where
        L: Listener<Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static>,
    {
        let start = |shared: &Arc<Shared<R>>, door: Door| {
            let address = listener.local_addr().ok();
            shared.accept(door, listener);
            address
        };
        self.custom.push((acceptor, Box::new(start)));
        self
    }

    /// Makes the server one of several. Without, nothing listens for others.
    #[must_use]
    pub fn cluster(self, cluster: Cluster) -> Self {
        Self { cluster: Some(cluster), ..self }
    }

    /// Adds what begins after all parts of the application and ends before them. Its name is there
    /// once.
    #[must_use]
    pub fn module(self, name: impl Into<String>, module: impl Lifecycle) -> Self {
        let last = self.modules.len();
        self.insert_module(Ok(last), Part::new(name, module))
    }

    /// Adds a module that begins before another one, and ends after it.
    #[must_use]
    pub fn module_before(
        self, other: &str, name: impl Into<String>, module: impl Lifecycle,
    ) -> Self {
        let at = self.module_place(other);
        self.insert_module(at, Part::new(name, module))
    }

    /// Adds a module that begins right after another one, and ends before it.
    #[must_use]
    pub fn module_after(
        self, other: &str, name: impl Into<String>, module: impl Lifecycle,
    ) -> Self {
        let at = self.module_place(other).map(|at| at + 1);
        self.insert_module(at, Part::new(name, module))
    }

    fn module_place(&self, name: &str) -> Result<usize, String> {
        let at = self.modules.iter().position(|module| module.name == name);
        at.ok_or_else(|| format!("{name} not found"))
    }

    fn insert_module(mut self, at: Result<usize, String>, module: Part) -> Self {
        let twice = format!("{} already exists", module.name);
        match (at, self.module_place(&module.name)) {
            (_, Ok(_)) => self.wrong_module = Some(twice),
            (Err(why), Err(_)) => self.wrong_module = Some(why),
            (Ok(at), Err(_)) => self.modules.insert(at, module),
        }
        self
    }

    /// Other limits than the defaults.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Routes that may travel as codes, towards clients that are known to read them.
    #[must_use]
    pub fn dictionary<N: Into<String>>(
        mut self, routes: impl IntoIterator<Item = (N, u16)>,
    ) -> Self {
        self.dictionary.extend(routes.into_iter().map(|(route, code)| (route.into(), code)));
        self
    }

    /// Whether to compress towards clients that can inflate; on by default.
    #[must_use]
    pub fn compression(self, compression: bool) -> Self {
        Self { compression, ..self }
    }

    /// Judges the handshake of every client; `Err` refuses it, with a text for the log. Validators
    /// are asked in the order of their addition.
    #[must_use]
    pub fn validator(
        mut self, name: impl Into<String>,
        validator: impl Fn(&HandshakeRequest) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.validators.push((name.into(), Box::new(validator)));
        self
    }

    /// Is told the addresses, in the order of the acceptors, once clients can connect.
    #[must_use]
    pub fn on_ready(self, ready: impl FnOnce(&[SocketAddr]) + Send + 'static) -> Self {
        Self { on_ready: Some(Box::new(ready)), ..self }
    }

    /// Starts the server on `runtime`; it runs until its handle is told to shut down.
    ///
    /// # Errors
    ///
    /// Routes or a dictionary that contradict themselves; a module that is there twice, or is to be
    /// next to one that is not there; an acceptor that nobody could use, as with networks of
    /// proxies that are none, or an address that cannot be had; a cluster that cannot be joined as
    /// it is described; a part of the application that does not begin, or takes longer than
    /// `lifecycle_timeout`. Nothing runs then, and parts that had begun have ended.
    pub async fn start_on(self, runtime: R) -> Result<ServerHandle<R>, StartError> {
        if let Some(why) = self.wrong_module {
            return Err(StartError::Module(why));
        }
        let mut listeners = Vec::new();
        for acceptor in &self.acceptors {
            let listener = accept::bind(&runtime, &self.kind, &acceptor.address).await?;
            listeners.push((acceptor.build()?, listener));
        }
        let mut custom = Vec::new();
        for (acceptor, start) in self.custom {
            custom.push((acceptor.build()?, start));
        }
        let mut addresses: Vec<_> =
            listeners.iter().filter_map(|(_, listener)| listener.local_addr().ok()).collect();
        let dictionary = |why: &dyn std::fmt::Display| StartError::Dictionary(why.to_string());
        let codes = Dictionary::new(self.dictionary).map_err(|why| dictionary(&why))?;
        let mut handlers = (self.build)(&self.kind)?;
        handlers.hooks.modules = self.modules;
        let mut config =
            ConnConfig::new(self.codec, codes, self.limits).map_err(|why| dictionary(&why))?;
        (config.compression, config.validators) = (self.compression, self.validators);
        let is_frontend = !listeners.is_empty() || !custom.is_empty();
        let server = (&*self.kind, is_frontend);
        config.forwards = self.cluster.is_some();
        let config = Arc::new(config);
        let cluster = match self.cluster {
            Some(cluster) => Some(cluster.build(&runtime, server, &config).await?),
            None => None,
        };
        let (peers, finders) = cluster.unzip();
        let shared = Shared::new(runtime, config, handlers, peers);
        shared.begin_parts().await.inspect_err(|_| shared.timers.stop())?;
        if let (Some(peers), Some(finders)) = (&shared.peers, finders) {
            cluster::start(&shared, peers, finders);
        }
        addresses.extend(custom.into_iter().filter_map(|(door, start)| start(&shared, door)));
        listeners.into_iter().for_each(|(door, listener)| shared.accept(door, listener));
        tracing::info!(kind = self.kind, ?addresses, "ready");
        self.on_ready.into_iter().for_each(|ready| ready(&addresses));
        Ok(ServerHandle { addresses, shared })
    }
}

impl<R: Native> Server<R> {
    /// Runs the server on a runtime of its own, until the process is asked to stop by SIGINT or
    /// SIGTERM. Then it accepts nobody any more, answers what is in flight, and closes; asked once
    /// more, it ends at once.
    ///
    /// # Errors
    ///
    /// What keeps it from starting.
    pub fn run(self) -> Result<(), StartError> {
        let failed = |error: std::io::Error| StartError::Runtime(error.to_string());
        R::block_on(async {
            let server = self.start().await?;
            let runtime = server.shared.runtime.clone();
            runtime.stop_signal().await.map_err(failed)?;
            // Whoever asks twice does not want to wait.
            let again = async { drop(runtime.stop_signal().await) };
            if before(again, server.shutdown()).await.is_none() {
                tracing::warn!("stopped at once");
            }
            Ok(())
        })
        .map_err(failed)?
    }

    /// Starts the server on the runtime that the caller runs on. The process may have as many
    /// sockets open as the system lets it from now on; if these are too few for the limit
    /// `connections_max`, the limit is lowered, with a warning.
    ///
    /// # Errors
    ///
    /// As [`start_on`](Self::start_on), or there is no runtime.
    pub async fn start(mut self) -> Result<ServerHandle<R>, StartError> {
        let connections_max = &mut self.limits.connections_max;
        *connections_max = descriptors::connections_max(*connections_max);
        let runtime = R::current().map_err(|error| StartError::Runtime(error.to_string()))?;
        self.start_on(runtime).await
    }
}

/// A server that runs. It goes on when the handle is dropped.
#[derive(Debug)]
pub struct ServerHandle<R: Runtime> {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared<R>>,
}

impl<R: Runtime> ServerHandle<R> {
    /// Where it listens, in the order of its acceptors; those on sockets of one's own come last,
    /// if they have such an address.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.config.counters
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.connections()
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.shared.sessions().count()
    }

    /// The live servers, this one included; nothing if it is alone.
    pub fn members(&self) -> Option<Arc<Members>> {
        self.shared.peers.as_ref().map(|peers| peers.members())
    }

    /// Kicks the session of a user id.
    ///
    /// # Errors
    ///
    /// Nobody of that id is here.
    pub fn kick(&self, uid: &str, reason: &str) -> Result<(), Error> {
        self.shared.kick(uid, reason)
    }

    /// Stops: accepts nobody any more, answers what is in flight, then closes each connection
    /// plainly, so that clients may come back. What is left after the limit `shutdown_timeout` is
    /// cut, and its close hooks have as long as `linger_timeout`.
    pub async fn shutdown(self) {
        self.shared.begin_shutdown();
        let limits = &self.shared.config.limits;
        let runtime = self.shared.runtime.clone();
        let mut timeout =
            Sleep::lasting(&self.shared.timers, runtime.clone(), limits.shutdown_timeout);
        // A handler that still runs may need any of the other servers.
        let mut drained = self.shared.wait_until_empty(&mut timeout).await
            && self.shared.wait_until_idle(&mut timeout).await;
        if let Some(peers) = self.shared.peers.as_ref().filter(|_| drained) {
            peers.leave();
            drained = self.shared.wait_until_alone(&mut timeout).await;
        }
        if !drained {
            self.shared.cut();
            // The hooks of what was cut have a moment of their own.
            let runtime = self.shared.runtime.clone();
            let mut moment = Sleep::lasting(&self.shared.timers, runtime, limits.linger_timeout);
            self.shared.wait_until_empty(&mut moment).await;
            self.shared.wait_until_alone(&mut moment).await;
        }
        if let Some(peers) = &self.shared.peers {
            let moment = Sleep::lasting(&self.shared.timers, runtime, limits.linger_timeout);
            before(moment, peers.close_network()).await;
        }
        self.shared.end_parts().await;
        self.shared.timers.stop();
        self.shared.log.finish();
        tracing::info!(drained, "stopped");
    }
}
