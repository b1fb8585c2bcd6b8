//! A handle that needs nothing but HTTP: for runtimes on other machines.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::Env;
use foundry_sandbox::{
    AcpId, Class, Connection, LogStretch, ProviderError, RuntimeKey, Sandbox, TapReadError,
};
use tokio::io::AsyncWriteExt as _;

use super::{ClientError, RuntimeClient};

/// Bytes of a log that are read at once.
const CHUNK: usize = 256 << 10;

/// A sandbox whose runtime is reached over TCP; its log and files are read through the runtime.
pub struct RemoteSandbox {
    address: String,
    key: RuntimeKey,
    home: PathBuf,
    env: Env,
}

impl RemoteSandbox {
    /// A handle for the runtime that listens at `address` (host and port) and has this key; `home` is HOME inside.
    pub fn new(address: String, key: RuntimeKey, home: PathBuf, env: Env) -> Self {
        Self { address, key, home, env }
    }

    /// A client of our own: other clients go through this handle.
    fn client(&self) -> RuntimeClient {
        let same = Self {
            address: self.address.clone(),
            key: self.key.clone(),
            home: self.home.clone(),
            env: self.env.clone(),
        };
        RuntimeClient::new(Arc::new(same), self.env.clone())
    }
}

#[async_trait]
impl Sandbox for RemoteSandbox {
    async fn connect(&self) -> io::Result<Box<dyn Connection>> {
        let stream = tokio::net::TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    fn key(&self) -> &RuntimeKey {
        &self.key
    }

    async fn read_log(&self, acp: &AcpId, offset: u64) -> Result<LogStretch, TapReadError> {
        let client = self.client();
        let error = match client.read_log(acp, offset, CHUNK, Duration::ZERO).await {
            Ok(stretch) => return Ok(stretch),
            Err(e) => e,
        };
        if !matches!(&error, ClientError::Refused { kind, .. } if kind == "truncated") {
            return Err(failed(error));
        }
        // The refusal does not contain the log's length, so it is read.
        let found = client.read_log(acp, 0, 1, Duration::ZERO).await.map_err(failed)?.length;
        Err(TapReadError::Truncated { expected: offset, found })
    }

    async fn take_file(&self, path: &str, destination: &Path, max_bytes: u64) -> Result<u64, ProviderError> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !path.split('/').all(plain) {
            let message = format!("the sandbox's file {path:?} is not below its HOME");
            return Err(ProviderError::new(Class::Provider, "HANDOVER_REFUSED", message));
        }
        let content = self.client().get_file(&self.home.join(path), max_bytes).await.map_err(|e| {
            let (class, reason) = match &e {
                ClientError::Refused { kind, .. } => match kind.as_str() {
                    "not_found" => (Class::Provider, "HANDOVER_MISSING"),
                    "too_large" => (Class::Capacity, "HANDOVER_TOO_LARGE"),
                    _ => (Class::Provider, "HANDOVER_REFUSED"),
                },
                _ => return ProviderError::from(e),
            };
            let message = format!("the sandbox's file {path:?} ({max_bytes} bytes at most): {e}");
            ProviderError::new(class, reason, message)
        })?;
        let io = |e| ProviderError::io("copying out of the sandbox", e);
        let part = destination.with_extension("part");
        let mut file = tokio::fs::File::create(&part).await.map_err(io)?;
        file.write_all(&content).await.map_err(io)?;
        file.sync_all().await.map_err(io)?;
        tokio::fs::rename(&part, destination).await.map_err(io)?;
        Ok(content.len() as u64)
    }
}

fn failed(error: ClientError) -> TapReadError {
    match &error {
        ClientError::Refused { kind, .. } if kind == "refused" || kind == "not_found" => {
            TapReadError::Refused(io::Error::other(error))
        }
        _ => TapReadError::Io(io::Error::other(error)),
    }
}
