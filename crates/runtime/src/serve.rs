//! The server: HTTP/1.1 on one listener.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Tasks;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::routes::Runtime;

/// Concurrent connections; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// Time for the head of a request, and for an idle connection.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Largest head of a request and read buffer, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Header fields of a request.
const MAX_FIELDS: usize = 64;
/// Pause after a failed accept, most often for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The listener of the runtime.
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Accepts for ever.
    pub async fn serve(self, runtime: Arc<Runtime>, tasks: Tasks) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            // Never closed.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            if let Err(e) = self.accept(&runtime, &tasks, permit).await {
                crate::say::say(&format!("a connection cannot be accepted: {e}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn accept(
        &self,
        runtime: &Arc<Runtime>,
        tasks: &Tasks,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<()> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let stop = tasks.cancellation().clone();
                tasks.spawn("connection", connection(stream, Arc::clone(runtime), stop, permit));
            }
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let stop = tasks.cancellation().clone();
                tasks.spawn("connection", connection(stream, Arc::clone(runtime), stop, permit));
            }
        }
        Ok(())
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    runtime: Arc<Runtime>,
    stop: CancellationToken,
    permit: OwnedSemaphorePermit,
) {
    let service = service_fn(|request| {
        let runtime = Arc::clone(&runtime);
        async move { Ok::<_, Infallible>(runtime.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Protocol errors concern the client alone.
        _ = served => {}
        () = stop.cancelled() => {}
    }
    drop(permit);
}
