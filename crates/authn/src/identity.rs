//! A service's own identity: its key file, its published public key, its short-lived tokens.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _,
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use foundry_core::{Env, Error, Result, Timestamp};
use foundry_proto::auth::v1::SigningKey as PublishedKey;
use foundry_secrets::{file_unusable, read_or_create_secret_file, replace_file};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::policy::services;
use crate::{Claims, Signer, TOKEN_LIFETIME, TokenKind, key_id};

/// A cached token that expires sooner than this is replaced.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// The identity of a service; cloning shares it.
#[derive(Clone)]
pub struct ServiceIdentity(Arc<Inner>);

struct Inner {
    name: String,
    signer: Signer,
    /// Other secrets of the service are derived from this; it does not reveal the signing key.
    root: [u8; 32],
    env: Env,
    tokens: Mutex<HashMap<String, (String, Timestamp)>>,
}

impl ServiceIdentity {
    /// Loads `<dir>/<service>.key`, or creates it, and publishes `<dir>/<service>.pub`. Blocks: for
    /// the start of a process.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` naming the file when it cannot be read, is not a key, or is open to others.
    pub fn load_or_create(dir: &Path, service: &str, env: &Env) -> Result<Self> {
        if !services().contains(service) {
            return Err(Error::internal(format!("{service} is not a service")));
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| file_unusable(dir, &e.to_string()))?;
        let path = dir.join(format!("{service}.key"));
        let fresh = Signer::generate_key(env).to_pkcs8_pem(LineEnding::LF);
        let fresh = fresh.map_err(|e| Error::internal(e.to_string()))?;
        let key = parse_private(&path, &read_or_create_secret_file(&path, &fresh)?)?;
        let public = key.verifying_key().to_public_key_pem(LineEnding::LF);
        let public = public.map_err(|e| Error::internal(e.to_string()))?;
        publish(&dir.join(format!("{service}.pub")), public.as_bytes())?;
        Self::new(service, &key, env)
    }

    /// From a key in memory.
    ///
    /// # Errors
    /// `INTERNAL` when the key cannot be encoded.
    pub fn new(service: &str, key: &SigningKey, env: &Env) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            name: service.to_owned(),
            signer: Signer::new(service, key)?,
            root: keyed_hash(&key.to_bytes(), b"foundry derived secrets 1"),
            env: env.clone(),
            tokens: Mutex::default(),
        })))
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its public key, as auth publishes it.
    pub fn published(&self) -> PublishedKey {
        published(&self.0.name, *self.0.signer.public_key(), Timestamp::default())
    }

    /// A secret of the service for this purpose: the same after every start, different for every purpose, and known
    /// only to holders of the key file.
    pub fn derived_secret(&self, purpose: &str) -> [u8; 32] {
        keyed_hash(&self.0.root, purpose.as_bytes())
    }

    /// A token for calls to the service of this name, valid for at least another minute.
    ///
    /// # Errors
    /// `INTERNAL` when signing fails.
    pub fn token(&self, audience: &str) -> Result<String> {
        let now = self.0.env.clock.now();
        let mut tokens = foundry_core::lock(&self.0.tokens);
        if let Some((token, expires)) = tokens.get(audience)
            && *expires > now.plus(RENEW_BEFORE)
        {
            return Ok(token.clone());
        }
        let subject = format!("service:{}", self.0.name);
        let iat = now.as_micros().div_euclid(1_000_000);
        let exp = iat + i64::try_from(TOKEN_LIFETIME.as_secs()).unwrap_or(0);
        let claims = Claims {
            iss: subject.clone(),
            sub: subject,
            aud: audience.to_owned(),
            iat,
            exp,
            jti: self.0.env.random.uuid_at(now).simple().to_string(),
            ..Claims::default()
        };
        let token = self.0.signer.mint(TokenKind::Service, &claims)?;
        tokens.insert(audience.to_owned(), (token.clone(), Timestamp::from_micros(exp * 1_000_000)));
        Ok(token)
    }
}

/// The public keys in a directory of `<service>.pub` files; other files are left alone. Blocks.
///
/// # Errors
/// `FAILED_PRECONDITION` when the directory cannot be read. A single bad file is logged and skipped.
pub fn read_public_keys(dir: &Path) -> Result<Vec<PublishedKey>> {
    let mut keys = Vec::new();
    for service in services() {
        let path = dir.join(format!("{service}.pub"));
        let pem = match fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(file_unusable(&path, &e.to_string())),
        };
        match VerifyingKey::from_public_key_pem(&pem) {
            Ok(key) => {
                let created =
                    fs::metadata(&path).and_then(|m| m.modified()).map_or(Timestamp::default(), since_epoch);
                keys.push(published(service, key.to_bytes(), created));
            }
            Err(e) => tracing::error!(path = %path.display(), error = %e, "not a public key"),
        }
    }
    Ok(keys)
}

fn keyed_hash(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    // HMAC pads a shorter key with zeros.
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mac = Hmac::<Sha256>::new(&block.into()).chain_update(message);
    mac.finalize().into_bytes().into()
}

fn since_epoch(time: std::time::SystemTime) -> Timestamp {
    time.duration_since(std::time::UNIX_EPOCH).map_or(Timestamp::default(), |d| Timestamp::default().plus(d))
}

fn published(service: &str, public_key: [u8; 32], created: Timestamp) -> PublishedKey {
    PublishedKey {
        key_id: key_id(service, &public_key),
        issuer: format!("service:{service}"),
        public_key: public_key.to_vec().into(),
        create_time: Some(created.to_proto()),
    }
}

fn parse_private(path: &Path, pem: &str) -> Result<SigningKey> {
    SigningKey::from_pkcs8_pem(pem).map_err(|e| file_unusable(path, &e.to_string()))
}

fn publish(path: &Path, content: &[u8]) -> Result<()> {
    // An unchanged file keeps its modification time, which is when the key was published.
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    replace_file(path, content, 0o644)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keeps_its_key_over_restarts_and_publishes_the_public_half() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::system();
        let first = ServiceIdentity::load_or_create(dir.path(), "task", &env).unwrap();
        let again = ServiceIdentity::load_or_create(dir.path(), "task", &env).unwrap();
        assert_eq!(first.published(), again.published());
        let read = read_public_keys(dir.path()).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(
            (&read[0].key_id, &read[0].public_key),
            (&first.published().key_id, &first.published().public_key)
        );
        let mode = fs::metadata(dir.path().join("task.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn refuses_names_of_no_service_and_broken_keys() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::system();
        assert!(ServiceIdentity::load_or_create(dir.path(), "../task", &env).is_err());
        foundry_secrets::replace_secret_file(&dir.path().join("repo.key"), "rubbish").unwrap();
        let refused = ServiceIdentity::load_or_create(dir.path(), "repo", &env).err().unwrap();
        assert_eq!(refused.reason(), "SECRET_FILE_UNUSABLE");
        fs::write(dir.path().join("task.pub"), "rubbish").unwrap();
        assert_eq!(read_public_keys(dir.path()).unwrap(), []);
    }

    #[test]
    fn derives_a_secret_of_its_own_for_each_purpose_and_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::system();
        let start = || ServiceIdentity::load_or_create(dir.path(), "gateway", &env).unwrap();
        let first = start().derived_secret("a");
        assert_eq!(first, start().derived_secret("a"));
        assert_ne!(first, start().derived_secret("b"));
        let other = ServiceIdentity::new("gateway", &Signer::generate_key(&env), &env).unwrap();
        assert_ne!(first, other.derived_secret("a"));
    }

    #[test]
    fn keeps_a_token_until_its_last_minute() {
        let test = foundry_testkit::test_env();
        let identity = ServiceIdentity::new("task", &Signer::generate_key(&test.env), &test.env).unwrap();
        let first = identity.token("repo").unwrap();
        assert_ne!(first, identity.token("auth").unwrap());
        test.clock.advance(Duration::from_secs(239));
        assert_eq!(first, identity.token("repo").unwrap());
        test.clock.advance(Duration::from_secs(1));
        assert_ne!(first, identity.token("repo").unwrap());
    }
}
