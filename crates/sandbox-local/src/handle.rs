//! The handle of a local sandbox: its runtime by a socket, its log and files by its directory.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use foundry_sandbox::beneath::{beside, copy_out};
use foundry_sandbox::{AcpId, Connection, LogStretch, ProviderError, RuntimeKey, Sandbox, TapReadError, tap};
use tokio::net::{TcpStream, UnixStream};

use crate::place::Address;

/// A sandbox on this host.
pub(crate) struct LocalSandbox {
    /// None in the facts of an older version.
    pub address: Option<Address>,
    pub key: RuntimeKey,
    /// HOME as this host sees it.
    pub home: PathBuf,
}

#[async_trait]
impl Sandbox for LocalSandbox {
    async fn connect(&self) -> io::Result<Box<dyn Connection>> {
        match &self.address {
            Some(Address::Socket(path)) => {
                let stream = beside(path, |short| std::os::unix::net::UnixStream::connect(short))?;
                stream.set_nonblocking(true)?;
                Ok(Box::new(UnixStream::from_std(stream)?))
            }
            Some(Address::Tcp(address)) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            None => Err(io::Error::other("the runtime is from an older version")),
        }
    }

    fn key(&self) -> &RuntimeKey {
        &self.key
    }

    async fn read_log(&self, acp: &AcpId, offset: u64) -> Result<LogStretch, TapReadError> {
        let (home, acp) = (self.home.clone(), acp.clone());
        tokio::task::spawn_blocking(move || tap::read_file(&home, &acp, offset))
            .await
            .unwrap_or_else(|e| Err(TapReadError::Io(io::Error::other(e))))
    }

    async fn take_file(&self, path: &str, destination: &Path, max_bytes: u64) -> Result<u64, ProviderError> {
        copy_out(self.home.clone(), path.to_owned(), destination.to_owned(), max_bytes).await
    }
}
