//! The keys that sign access tokens: a 0600 file in the data directory, rotated by a job.
//!
//! The file belongs to one data directory; several replicas of this service would have to share it.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ed25519_dalek::SigningKey;
use foundry_authn::{AUTH_ISSUER, Claims, Signer, TokenKind};
use foundry_core::{Env, Error, Result, Timestamp};
use foundry_proto::auth::v1::SigningKey as PublishedKey;
use foundry_secrets::{read_or_create_secret_file, replace_secret_file};
use serde::{Deserialize, Serialize};

use crate::domain::rotation;

/// Name of the file in the data directory.
const FILE: &str = "signing-keys.json";

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// Sorted by creation time, oldest first.
    keys: Vec<StoredKey>,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredKey {
    created_at: Timestamp,
    /// The Ed25519 seed, 64 hex digits.
    seed: String,
}

struct Key {
    stored: StoredKey,
    signer: Signer,
}

/// The current keys; clones share them.
#[derive(Clone)]
pub(crate) struct SigningKeys {
    path: Arc<PathBuf>,
    env: Env,
    /// Sorted by creation time, oldest first; never empty.
    keys: Arc<ArcSwap<Vec<Key>>>,
}

impl SigningKeys {
    /// Reads the file, or creates it with a first key. Blocks; call it only at startup.
    pub(crate) fn load_or_create(data_dir: &std::path::Path, env: &Env) -> Result<Self> {
        let path = data_dir.join(FILE);
        let fresh = encode(&[fresh(env)])?;
        let keys = decode(&read_or_create_secret_file(&path, &fresh)?)?;
        Ok(Self { path: Arc::new(path), env: env.clone(), keys: Arc::new(ArcSwap::from_pointee(keys)) })
    }

    /// Signs a user's access token.
    pub(crate) fn mint(&self, claims: &Claims) -> Result<String> {
        let keys = self.keys.load();
        let at = rotation::signing(&created(&keys), self.env.clock.now());
        let key = keys.get(at).ok_or_else(|| Error::internal("there is no signing key"))?;
        key.signer.mint(TokenKind::User, claims)
    }

    /// The public halves of all keys, including those not yet in use.
    pub(crate) fn published(&self) -> Vec<PublishedKey> {
        let publish = |key: &Key| PublishedKey {
            key_id: key.signer.key_id().to_owned(),
            issuer: AUTH_ISSUER.to_owned(),
            public_key: key.signer.public_key().to_vec().into(),
            create_time: Some(key.stored.created_at.to_proto()),
        };
        self.keys.load().iter().map(publish).collect()
    }

    /// Publishes a new key when the youngest is old enough, and drops keys whose last token has expired. Blocks while
    /// it writes the file. True if anything changed.
    pub(crate) fn rotate(&self) -> Result<bool> {
        let keys = self.keys.load();
        let plan = rotation::plan(&created(&keys), self.env.clock.now());
        if !plan.publish && plan.retire.is_empty() {
            return Ok(false);
        }
        let kept = keys.iter().enumerate().filter(|(i, _)| !plan.retire.contains(i));
        let mut stored: Vec<_> = kept.map(|(_, key)| key.stored.clone()).collect();
        if plan.publish {
            stored.push(fresh(&self.env));
        }
        let text = encode(&stored)?;
        replace_secret_file(&self.path, &text)?;
        self.keys.store(Arc::new(decode(&text)?));
        tracing::info!(published = plan.publish, retired = plan.retire.len(), "signing keys rotated");
        Ok(true)
    }
}

fn created(keys: &[Key]) -> Vec<Timestamp> {
    keys.iter().map(|k| k.stored.created_at).collect()
}

fn fresh(env: &Env) -> StoredKey {
    let seed = Signer::generate_key(env).to_bytes();
    StoredKey { created_at: env.clock.now(), seed: hex::encode(seed) }
}

fn encode(keys: &[StoredKey]) -> Result<String> {
    serde_json::to_string_pretty(&Stored { keys: keys.to_vec() }).map_err(Error::internal)
}

fn decode(text: &str) -> Result<Vec<Key>> {
    let broken = |why: String| {
        Error::precondition("SECRET_FILE_UNUSABLE", FILE, format!("{FILE} cannot be used: {why}"))
    };
    let stored: Stored = serde_json::from_str(text).map_err(|e| broken(e.to_string()))?;
    if stored.keys.is_empty() {
        return Err(broken("it contains no key".to_owned()));
    }
    let mut keys = Vec::with_capacity(stored.keys.len());
    for stored in stored.keys {
        let seed = hex::decode(&stored.seed).ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
        let seed = seed.ok_or_else(|| broken("a key is not 64 hex digits".to_owned()))?;
        let signer = Signer::new("auth", &SigningKey::from_bytes(&seed))?;
        keys.push(Key { stored, signer });
    }
    keys.sort_by_key(|k| k.stored.created_at);
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn signer_of(token: &str) -> String {
        jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
    }

    #[test]
    fn a_new_key_is_published_before_it_is_used_and_the_old_one_stays_until_its_tokens_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let test = foundry_testkit::test_env();
        let keys = SigningKeys::load_or_create(dir.path(), &test.env).unwrap();
        let first = keys.published()[0].key_id.clone();
        assert!(!keys.rotate().unwrap());
        test.clock.advance(rotation::ROTATION);
        assert!(keys.rotate().unwrap());
        let ids: Vec<_> = keys.published().into_iter().map(|k| k.key_id).collect();
        assert_eq!((ids.len(), &ids[0]), (2, &first));
        assert_eq!(signer_of(&keys.mint(&Claims::default()).unwrap()), first);
        test.clock.advance(rotation::PUBLISHED_FIRST);
        assert_eq!(signer_of(&keys.mint(&Claims::default()).unwrap()), ids[1]);
        assert!(!keys.rotate().unwrap());
        test.clock.advance(Duration::from_secs(600));
        assert!(keys.rotate().unwrap());
        assert_eq!(keys.published().len(), 1);
    }

    #[test]
    fn keeps_its_keys_over_a_restart_and_says_when_the_file_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        let test = foundry_testkit::test_env();
        let first = SigningKeys::load_or_create(dir.path(), &test.env).unwrap();
        let again = SigningKeys::load_or_create(dir.path(), &test.env).unwrap();
        assert_eq!(first.published(), again.published());
        for rubbish in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"created_at":0,"seed":"00"}]}"#] {
            replace_secret_file(&dir.path().join(FILE), rubbish).unwrap();
            let refused = SigningKeys::load_or_create(dir.path(), &test.env).err().unwrap();
            assert_eq!(refused.reason(), "SECRET_FILE_UNUSABLE", "{rubbish}");
        }
    }
}
