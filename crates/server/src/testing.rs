//! One service on an ephemeral port, for tests of services.

use std::net::SocketAddr;

use bytes::Bytes;
use foundry_core::{Env, Error, Tasks};
use tokio::sync::oneshot;

use crate::config::{DrainConfig, ServerConfig};
use crate::framed::{FrameBuffer, Framed};
use crate::lifecycle::{Exit, Process, Signals, StopHandle};
use crate::service::Service;
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// A message in the pieces in which it is sent, without what gRPC puts before it.
pub fn encoded(message: impl Framed) -> Vec<Bytes> {
    let mut buffer = FrameBuffer::default();
    message.encode(&mut buffer);
    std::iter::from_fn(|| buffer.pop()).collect()
}

/// A running service: real listener, real stack, real drain.
#[allow(missing_debug_implementations)]
pub struct TestServer {
    /// Its address on the loopback.
    pub address: SocketAddr,
    /// The same service, called without a socket.
    pub local: Upstream,
    /// The metrics of the service.
    pub metrics: Metrics,
    stop: StopHandle,
    ended: oneshot::Receiver<Exit>,
    _tasks: Tasks,
}

impl TestServer {
    /// Starts a service with default limits.
    ///
    /// # Errors
    /// When it cannot be mounted or no port is available.
    pub async fn start(service: Service) -> Result<Self, Error> {
        Self::start_with(service, ServerConfig::default(), DrainConfig::default()).await
    }

    /// Starts a service with the given limits and drain times.
    ///
    /// # Errors
    /// When it cannot be mounted or no port is available.
    pub async fn start_with(
        service: Service,
        config: ServerConfig,
        drain: DrainConfig,
    ) -> Result<Self, Error> {
        let (env, metrics) = (Env::system(), Metrics::new().map_err(Error::internal)?);
        let mounted = service.mount(&config, &env, &metrics).await?;
        let local = mounted.upstream();
        let mut process = Process::new(env, drain, metrics.clone());
        let address = process.start(mounted).await?;
        let (stop, signals) = Signals::manual();
        let (sender, ended) = oneshot::channel();
        let (tasks, _) = Tasks::new();
        tasks.spawn("process", async move {
            // A test that does not wait for the end needs no result.
            let _ = sender.send(process.run(signals).await);
        });
        Ok(Self { address, local, metrics, stop, ended, _tasks: tasks })
    }

    /// Its base URL, `http://` with the address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The service over a socket.
    ///
    /// # Errors
    /// Never in practice, since the address is the server's own.
    pub fn remote(&self) -> Result<Upstream, Error> {
        Upstream::remote(&self.url())
    }

    /// Sends a signal to stop; a second one ends it at once.
    pub fn signal(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Stops it and waits for the end of the drain.
    pub async fn stop(self) -> Exit {
        self.stop.stop();
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(self) -> Exit {
        self.ended.await.unwrap_or(Exit::Overdue)
    }
}
