//! Connections of sandboxes: their identification, and how many each may have.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Tasks;
use foundry_sandbox::{Claim, Network, Peer, Share, Unproved};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use crate::answer::Problem;
use crate::proxy::Session;
use crate::{Egress, Settings};

/// How long a client may take to accept a refusal.
const REFUSAL: Duration = Duration::from_secs(5);
/// How long a look-up in the directory may take.
const DIRECTORY: Duration = Duration::from_secs(10);
/// Time for a request head to arrive, also for the next request on the same connection.
const HEAD: Duration = Duration::from_secs(60);
/// Longest head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Pause after an accept failed for lack of file descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// The answer to a claim that is proved. A client without this answer may try again.
const BELIEVED: &[u8] = b"+";

impl Egress {
    /// Accepts connections until the proxy's tasks are cancelled; those in progress may then continue for
    /// [`Settings::drain`]. The loop runs on those tasks.
    pub fn serve(&self, listener: UnixListener) {
        let egress = self.clone();
        self.0.tasks.spawn("network proxy", async move { egress.accept(listener).await });
    }

    async fn accept(self, listener: UnixListener) {
        let stop = self.0.tasks.cancellation().clone();
        // A panic in a connection ends only that connection: nobody reads these reports.
        let (connections, _) = Tasks::new();
        let mut unproved = Unproved::default();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the network proxy cannot accept connections; trying again");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let given_up = unproved.add(Peer::of(&stream));
            let (egress, tasks) = (self.clone(), connections.clone());
            connections.spawn("network proxy connection", async move {
                egress.connection(stream, given_up, tasks).await;
            });
        }
        // Sandboxes hold new connections until the next process listens.
        drop((listener, unproved));
        connections.shutdown(self.0.settings.drain + Duration::from_secs(1)).await;
    }

    async fn connection(self, mut stream: UnixStream, given_up: oneshot::Receiver<()>, tasks: Tasks) {
        let proved = tokio::select! {
            proved = self.proved(&mut stream) => proved,
            _ = given_up => None,
            () = tasks.cancellation().cancelled() => None,
        };
        let Some((claim, network)) = proved else { return };
        if stream.write_all(BELIEVED).await.is_err() {
            return;
        }
        let Some(slot) = self.room(&claim.sandbox) else {
            let problem = Problem::busy("the limit for this sandbox or for all sandboxes is reached");
            // A client that does not read the answer is gone.
            let _ = tokio::time::timeout(REFUSAL, refuse(stream, &problem)).await;
            return;
        };
        let session = Arc::new(Session::new(Arc::clone(&self.0), claim, network, tasks.clone(), slot));
        let service = service_fn(move |request| {
            let session = Arc::clone(&session);
            // Boxed: a request's future is large, and each connection holds one.
            Box::pin(async move { session.answer(request).await })
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MAX_HEAD)
            .preserve_header_case(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = tasks.cancellation().cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(self.0.settings.drain, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            // Clients disconnect all the time.
            tracing::debug!(%error, "a connection to the network proxy ended");
        }
    }

    /// The permit for one more connection of a sandbox.
    fn room(&self, sandbox: &str) -> Option<Arc<Share<String>>> {
        let Settings { connections, connections_of_sandbox, .. } = self.0.settings;
        self.0.held.take(&sandbox.to_owned(), connections, connections_of_sandbox).map(Arc::new)
    }

    /// The sandbox of a connection; `None` when its claim is not proved or cannot be checked now.
    async fn proved(&self, stream: &mut UnixStream) -> Option<(Claim, Network)> {
        let line = tokio::time::timeout(self.0.settings.claim, read_line(stream)).await.ok()?.ok()?;
        let claim = Claim::parse(&line)?;
        match tokio::time::timeout(DIRECTORY, self.0.directory.network(&claim)).await {
            Ok(Ok(Some(network))) => Some((claim, network)),
            Ok(Ok(None)) => {
                tracing::debug!(sandbox = claim.sandbox, "a network proxy connection has no valid proof");
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    sandbox = claim.sandbox,
                    error,
                    "the network of a sandbox cannot be looked up"
                );
                None
            }
            Err(_) => {
                tracing::warn!(sandbox = claim.sandbox, "looking up the network of a sandbox takes too long");
                None
            }
        }
    }
}

/// Reads one line and nothing after it: the client sends the rest only once the line is accepted.
async fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::with_capacity(Claim::MAX);
    while !line.ends_with(b"\n") {
        if line.len() >= Claim::MAX || line.contains(&b'\n') || stream.read_buf(&mut line).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    line.pop();
    String::from_utf8(line).map_err(io::Error::other)
}

/// Answers and closes after reading what the client already sent: a close with unread bytes would discard the answer.
async fn refuse(mut stream: UnixStream, problem: &Problem) -> io::Result<()> {
    let mut head = vec![0; 4096];
    let _ = stream.read(&mut head).await?;
    stream.write_all(&problem.bytes()).await?;
    stream.shutdown().await?;
    while stream.read(&mut head).await? > 0 {}
    Ok(())
}
