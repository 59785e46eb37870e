//! Links over TCP as it is, for tests and measurements: nobody proves who it is.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use pitaya_core::session::HostFuture;

use crate::cluster::{Incoming, LinkStream, Network};
use crate::runtime::{Listener, Runtime};

/// Servers that trust whoever reaches them. On a network that others share it gives everything
/// away: use QUIC there.
pub struct Plain<R: Runtime> {
    runtime: R,
    address: SocketAddr,
    listener: Mutex<Option<Arc<R::Listener>>>,
}

impl<R: Runtime> Plain<R> {
    /// Listens on `address`; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn bind(runtime: R, address: SocketAddr) -> io::Result<Self> {
        let listener = runtime.bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { runtime, address, listener: Mutex::new(Some(Arc::new(listener))) })
    }
}

impl<R: Runtime> Network for Plain<R> {
    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn dial(&self, address: SocketAddr) -> HostFuture<io::Result<LinkStream>> {
        let runtime = self.runtime.clone();
        Box::pin(async move { Ok(link(runtime.connect(address).await?, address)) })
    }

    fn accept(&self) -> HostFuture<io::Result<Incoming>> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            let listener = listener.ok_or(io::ErrorKind::NotConnected)?;
            let (stream, remote) = listener.accept().await?;
            let incoming: Incoming = Box::pin(async move { Ok(link(stream, remote)) });
            Ok(incoming)
        })
    }

    fn close(&self) -> HostFuture<()> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async {})
    }
}

fn link<I: super::Duplex + 'static>(io: I, remote: SocketAddr) -> LinkStream {
    LinkStream { io: Box::new(io), proven: None, remote }
}
