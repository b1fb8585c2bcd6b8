//! The public keys that verify tokens: read from their source when an unknown key id turns up, at most once every few
//! seconds, and by one caller on behalf of all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use foundry_core::{Clock, Error, Timestamp};
use foundry_proto::auth::v1::SigningKey;
use jsonwebtoken::DecodingKey;
use tokio::sync::{Mutex, Semaphore};

use crate::TokenError;

/// Shortest time between two readings of the source. A token with an unknown key waits this long: its service may have
/// published the key a moment ago.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);
/// Calls that may wait for an unknown key; further ones are refused at once.
const MAX_WAITING: usize = 64;
/// Age at which the keys are read again although none is missing, so that withdrawn keys disappear.
const REFRESH_AGE: Duration = Duration::from_secs(300);
/// Pause between attempts to read aged keys again.
const RETRY_AGED: Duration = Duration::from_secs(30);
/// Longest wait for the source.
const REFRESH_LIMIT: Duration = Duration::from_secs(2);

/// Where public keys are read from.
#[async_trait::async_trait]
pub trait KeySource: Send + Sync + 'static {
    /// All keys in use and about to be used.
    async fn keys(&self) -> Result<Vec<SigningKey>, Error>;
}

/// Keys that never change, for tests and for tools.
pub struct StaticKeys(pub Vec<SigningKey>);

#[async_trait::async_trait]
impl KeySource for StaticKeys {
    async fn keys(&self) -> Result<Vec<SigningKey>, Error> {
        Ok(self.0.clone())
    }
}

/// One public key and its owner.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey {
    /// The owner: `auth`, or `service:<name>`.
    pub issuer: String,
    pub(crate) decoding: DecodingKey,
}

#[derive(Default)]
struct KeySet {
    by_id: HashMap<String, Arc<PublicKey>>,
    read_at: Option<Timestamp>,
}

/// The keys known to this process; cloning shares them.
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

struct Inner {
    source: Arc<dyn KeySource>,
    clock: Arc<dyn Clock>,
    set: ArcSwap<KeySet>,
    /// Changes with every change of the set; a cached verification is valid for one version only.
    version: AtomicU64,
    /// Locked while the source is read, so that one caller reads for all. The time of the last attempt.
    tried: Mutex<Option<Timestamp>>,
    waiting: Semaphore,
}

impl KeyRing {
    /// An empty ring that fills itself from the source at first use.
    pub fn new(source: Arc<dyn KeySource>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            source,
            clock,
            set: ArcSwap::default(),
            version: AtomicU64::new(0),
            tried: Mutex::new(None),
            waiting: Semaphore::new(MAX_WAITING),
        }))
    }

    /// The version of the set; a verification cached under an older version is void.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// The key with this id.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`] when the source does not have it; [`TokenError::Unverifiable`]
    /// when the source cannot be read.
    pub(crate) async fn find(&self, key_id: &str) -> Result<Arc<PublicKey>, TokenError> {
        let set = self.0.set.load_full();
        let known = set.by_id.get(key_id).cloned();
        let aged = set.read_at.is_some_and(|t| self.0.clock.now().since(t) >= REFRESH_AGE);
        match known {
            Some(key) if !aged => Ok(key),
            // Old keys are still used while the source is unreachable: tokens live for minutes only.
            Some(key) => match self.read_if_due().await {
                Ok(()) => self.known(key_id).ok_or(TokenError::UnknownKey),
                Err(_) => Ok(key),
            },
            None => {
                let _waiting = self.0.waiting.try_acquire().map_err(|_| TokenError::UnknownKey)?;
                let read = self.read_for(key_id).await;
                self.known(key_id).ok_or(match read {
                    Ok(()) => TokenError::UnknownKey,
                    Err(_) => TokenError::Unverifiable("the signing keys cannot be read"),
                })
            }
        }
    }

    fn known(&self, key_id: &str) -> Option<Arc<PublicKey>> {
        self.0.set.load().by_id.get(key_id).cloned()
    }

    /// Reads the source to find withdrawn keys. While it is unreachable, one call per [`RETRY_AGED`] waits for an
    /// attempt and the others use the old keys.
    async fn read_if_due(&self) -> Result<(), Error> {
        let Ok(mut tried) = self.0.tried.try_lock() else { return Ok(()) };
        let now = self.0.clock.now();
        if tried.is_some_and(|t| now.since(t) < RETRY_AGED) {
            return Ok(());
        }
        self.read(&mut tried).await
    }

    /// Reads the source for an unknown key, after the pause.
    async fn read_for(&self, key_id: &str) -> Result<(), Error> {
        let arrived = self.0.clock.now();
        let mut tried = self.0.tried.lock().await;
        // Another caller read the source while this one waited for the lock.
        if self.known(key_id).is_some() || tried.is_some_and(|t| t >= arrived) {
            return match self.0.set.load().read_at {
                Some(_) => Ok(()),
                None => Err(Error::unavailable("KEYS_UNREAD", "no signing keys yet", REFRESH_PAUSE)),
            };
        }
        if let Some(left) = self.left_of_pause(*tried) {
            self.0.clock.sleep(left).await;
        }
        self.read(&mut tried).await
    }

    fn left_of_pause(&self, tried: Option<Timestamp>) -> Option<Duration> {
        let end = tried?.plus(REFRESH_PAUSE);
        let now = self.0.clock.now();
        (end > now).then(|| end.since(now))
    }

    async fn read(&self, tried: &mut Option<Timestamp>) -> Result<(), Error> {
        let now = self.0.clock.now();
        *tried = Some(now);
        let keys = tokio::select! {
            keys = self.0.source.keys() => keys,
            () = self.0.clock.sleep(REFRESH_LIMIT) => {
                Err(Error::unavailable("KEYS_UNREAD", "reading the signing keys timed out", REFRESH_PAUSE))
            }
        };
        match keys {
            Ok(keys) => {
                self.replace(&keys, now);
                Ok(())
            }
            Err(e) => {
                tracing::warn!(error = %e, "signing keys cannot be read");
                Err(e)
            }
        }
    }

    fn replace(&self, keys: &[SigningKey], now: Timestamp) {
        let mut by_id = HashMap::with_capacity(keys.len());
        for key in keys {
            let Ok(bytes) = <[u8; 32]>::try_from(key.public_key.as_ref()) else {
                tracing::warn!(key_id = key.key_id, "a published key is not 32 bytes long");
                continue;
            };
            let decoding = DecodingKey::from_ed_der(&bytes);
            by_id.insert(key.key_id.clone(), Arc::new(PublicKey { issuer: key.issuer.clone(), decoding }));
        }
        let old = self.0.set.swap(Arc::new(KeySet { by_id, read_at: Some(now) }));
        let new = self.0.set.load();
        if old.by_id.keys().any(|k| !new.by_id.contains_key(k)) {
            self.0.version.fetch_add(1, Ordering::AcqRel);
        }
    }
}
