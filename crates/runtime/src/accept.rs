//! Accepting connections from programs inside the sandbox.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::say::say;

/// Concurrent connections of a listener; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// Pause after one that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts for ever; each connection is a task of its own, called `what`, until the tasks are cancelled.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    tasks: Tasks,
    what: &'static str,
    serve: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                // Affects latency only.
                let _ = stream.set_nodelay(true);
                let (served, stop) = (serve(stream), tasks.cancellation().clone());
                tasks.spawn(what, async move {
                    tokio::select! {
                        () = served => {}
                        () = stop.cancelled() => {}
                    }
                    drop(permit);
                });
            }
            Err(e) => {
                say(&format!("a {what} cannot be accepted: {e}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
