//! The names that every runtime crate has.

/// Gives a runtime crate what all of them offer: the core, and the driver on its runtime. A program
/// goes over to another runtime by another name of the crate. `names!(Tokio, "tokio")` is what
/// `pitaya_tokio` says.
#[macro_export]
macro_rules! names {
    ($Runtime:ident, $name:literal) => {
        pub use pitaya_core::cluster::{Rule, Users};
        pub use pitaya_core::*;
        pub use $crate::cluster::discovery;
        pub use $crate::cluster::{Identity, IdentityError, Network};
        pub use $crate::{
            Acceptor, ClientState, Cluster, ConnectError, Listener, RawSubscription, Scheme,
            StartError, States, Subscription, Tls, TlsClient, TlsError, Url, UrlError,
        };

        #[doc = concat!("A client on ", $name, ".")]
        ///
        /// ```no_run
        #[doc = concat!("# use pitaya_", $name, "::Client;")]
        /// # async fn play() -> Result<(), Box<dyn std::error::Error>> {
        /// let client = Client::connect("127.0.0.1:3250").await?;
        /// let mut waves = client.subscribe::<String>("onWave");
        /// let greeting: String = client.request("hall.greet", &"ada").await?;
        /// while let Some(name) = waves.next().await {
        ///     println!("{name} waves");
        /// }
        /// # Ok(())
        /// # }
        /// ```
        pub type Client<C = Json> = $crate::Client<$Runtime, C>;
        #[doc = concat!("A client on ", $name, " that does not run yet.")]
        pub type ClientBuilder<C = Json> = $crate::ClientBuilder<$Runtime, C>;
        #[doc = concat!("A server on ", $name, ".")]
        pub type Server = $crate::Server<$Runtime>;
        #[doc = concat!("A running server on ", $name, ".")]
        pub type ServerHandle = $crate::ServerHandle<$Runtime>;

        /// Runs `main` to its end on a runtime of its own, for programs that have none.
        ///
        /// # Errors
        ///
        /// The system refuses what a runtime needs.
        pub fn block_on<T>(main: impl Future<Output = T>) -> std::io::Result<T> {
            <$Runtime as $crate::Native>::block_on(main)
        }
    };
}
