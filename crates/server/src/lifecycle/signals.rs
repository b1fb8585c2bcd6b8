//! Requests to stop a process.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Requests to stop: the process's SIGTERM and SIGINT, or a test's.
#[derive(Debug)]
pub struct Signals(Source);

#[derive(Debug)]
enum Source {
    Process { terminate: Signal, interrupt: Signal },
    Manual(mpsc::UnboundedReceiver<()>),
}

/// Stops a process by hand: the first call drains it, the second ends it at once.
#[derive(Clone, Debug)]
pub struct StopHandle(mpsc::UnboundedSender<()>);

impl StopHandle {
    /// Requests a stop, as a signal would.
    pub fn stop(&self) {
        // A process that has ended needs no signal.
        let _ = self.0.send(());
    }
}

impl Signals {
    /// SIGTERM and SIGINT of this process.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn of_process() -> std::io::Result<Self> {
        Ok(Self(Source::Process {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        }))
    }

    /// Signals sent by a [`StopHandle`].
    pub fn manual() -> (StopHandle, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (StopHandle(sender), Self(Source::Manual(receiver)))
    }

    /// The next request to stop, by name.
    pub(crate) async fn next(&mut self) -> &'static str {
        let came = match &mut self.0 {
            Source::Process { terminate, interrupt } => tokio::select! {
                came = terminate.recv() => came.map(|()| "SIGTERM"),
                came = interrupt.recv() => came.map(|()| "SIGINT"),
            },
            Source::Manual(receiver) => receiver.recv().await.map(|()| "stop"),
        };
        match came {
            Some(name) => name,
            // No sender is left.
            None => std::future::pending().await,
        }
    }
}
