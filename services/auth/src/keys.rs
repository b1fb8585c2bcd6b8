//! All keys that verify tokens: this service's own, and those that the other services published in the keys directory.
//! The directory is read at most twice a second.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foundry_authn::{KeySource, read_public_keys};
use foundry_core::{Clock, Error, Result, Timestamp};
use foundry_proto::auth::v1::SigningKey;
use tokio::sync::Mutex;

use crate::signing::SigningKeys;

const REREAD: Duration = Duration::from_millis(500);

/// The published keys; clones share the cached directory.
#[derive(Clone)]
pub(crate) struct PublishedKeys {
    own: SigningKeys,
    dir: Arc<PathBuf>,
    clock: Arc<dyn Clock>,
    read: Arc<Mutex<Option<Reading>>>,
}

/// When the directory was read, and the keys in it.
type Reading = (Timestamp, Vec<SigningKey>);

impl PublishedKeys {
    pub(crate) fn new(own: SigningKeys, dir: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { own, dir: Arc::new(dir), clock, read: Arc::default() }
    }

    async fn services(&self) -> Result<Vec<SigningKey>> {
        let mut read = self.read.lock().await;
        let now = self.clock.now();
        if let Some((at, keys)) = &*read
            && now.since(*at) < REREAD
        {
            return Ok(keys.clone());
        }
        let dir = self.dir.clone();
        let keys = tokio::task::spawn_blocking(move || read_public_keys(&dir)).await;
        let keys = keys.map_err(Error::internal)??;
        *read = Some((now, keys.clone()));
        Ok(keys)
    }
}

#[async_trait::async_trait]
impl KeySource for PublishedKeys {
    async fn keys(&self) -> Result<Vec<SigningKey>> {
        let mut keys = self.own.published();
        keys.extend(self.services().await?);
        Ok(keys)
    }
}
