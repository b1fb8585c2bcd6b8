//! The handle of a sandbox whose runtime was started, for the runtime, its logs and files.

use std::io;
use std::path::Path;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{AcpId, ProviderError, RuntimeKey, TapReadError};

/// One byte stream to the HTTP server of a runtime.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A stretch of a log as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStretch {
    /// The bytes from the requested offset on: at least one whole line where there is one.
    pub bytes: Vec<u8>,
    /// Length of the whole log.
    pub length: u64,
}

/// A sandbox that can be reached. Neither a shared directory nor a port of this host is assumed.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// Opens a connection to the runtime.
    async fn connect(&self) -> io::Result<Box<dyn Connection>>;

    /// The key for the mutual proof of the runtime and its callers.
    fn key(&self) -> &RuntimeKey;

    /// Reads the log of a conversation from `offset` on. Works as well when the runtime is dead, as long
    /// as the provider still has the sandbox. No log yet and offset 0: nothing.
    ///
    /// # Errors
    /// When the log was cut or replaced, or cannot be read.
    async fn read_log(&self, acp: &AcpId, offset: u64) -> Result<LogStretch, TapReadError>;

    /// Copies a file that the sandbox hands over, `path` below its HOME, to `destination`, which appears
    /// whole or not at all. Returns its size.
    ///
    /// # Errors
    /// `HANDOVER_MISSING`, `HANDOVER_REFUSED` (a link, a directory, a path that leaves HOME),
    /// `HANDOVER_TOO_LARGE` naming the limit, `SANDBOX_IO`.
    async fn take_file(&self, path: &str, destination: &Path, max_bytes: u64) -> Result<u64, ProviderError>;
}
