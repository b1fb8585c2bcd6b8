//! Keys, and the secrets they encrypt.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use foundry_core::{Env, Error, Random, Result};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::Secret;
use crate::file::read_or_create_secret_file;
use crate::source::{KeySource, key_file_unusable};

const VERSION: u8 = 1;
const KEY_ID: std::ops::Range<usize> = 1..9;
const NONCE: std::ops::Range<usize> = KEY_ID.end..KEY_ID.end + 24;
const TAG: usize = 16;

/// How long a command that prints keys may take.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// Where a secret is stored. It can only be decrypted for the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// The service that owns the table.
    pub service: &'a str,
    /// Name of the table that holds the encrypted value.
    pub table: &'a str,
    /// The id of the row.
    pub row: &'a str,
    /// Name of the column.
    pub column: &'a str,
}

impl fmt::Display for Column<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} in {} of {}", self.column, self.row, self.table, self.service)
    }
}

/// An encrypted secret, as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// From a column of the database. An invalid value is detected when it is opened.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes for a column of the database.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id of its key in hex; none when these bytes are not a sealed secret of a known version.
    pub fn key_id(&self) -> Option<String> {
        self.parts().map(|(id, _, _)| hex::encode(id))
    }

    /// Key id, nonce and ciphertext.
    fn parts(&self) -> Option<(&[u8], &[u8], &[u8])> {
        let whole = self.0.len() >= NONCE.end + TAG && self.0.first() == Some(&VERSION);
        whole.then(|| (&self.0[KEY_ID], &self.0[NONCE], &self.0[NONCE.end..]))
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(key {})", self.key_id().as_deref().unwrap_or("unknown"))
    }
}

struct Key {
    id: [u8; 8],
    cipher: XChaCha20Poly1305,
}

/// The keys of a service, in memory; cloning shares them.
#[derive(Clone)]
pub struct Keys {
    /// Never empty: the first encrypts.
    keys: Arc<[Key]>,
    random: Arc<dyn Random>,
}

impl Keys {
    /// Loads the keys of all sources, in their order. Without a source, those in the file `own`, which is created with
    /// one key if it does not exist; its directory must exist. For the start of a process: files are read on this
    /// thread, and a command may take 10 s.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION`: `SECRET_FILE_UNUSABLE` when a key file cannot be read or other users can read it,
    /// `SECRET_KEY_UNUSABLE` when a source gives no keys.
    pub async fn load(sources: &[KeySource], own: &Path, env: &Env) -> Result<Self> {
        let mut keys = Vec::new();
        for source in sources {
            let text = source.read(COMMAND_LIMIT).await?;
            add(&mut keys, &text).map_err(|why| source.unusable(&why))?;
        }
        if sources.is_empty() {
            let mut fresh = Zeroizing::new([0; 32]);
            env.random.fill(&mut *fresh);
            let fresh = Zeroizing::new(format!("{}\n", &*Zeroizing::new(hex::encode(fresh.as_slice()))));
            let text = Zeroizing::new(read_or_create_secret_file(own, &fresh)?);
            add(&mut keys, &text).map_err(|why| key_file_unusable(own, &why))?;
        }
        Ok(Self { keys: keys.into(), random: Arc::clone(&env.random) })
    }

    /// Encrypts a secret for its column, with the first key.
    ///
    /// # Errors
    /// `INTERNAL` for a secret of more than 256 GiB.
    pub fn seal(&self, column: Column<'_>, secret: &Secret) -> Result<Sealed> {
        let key = self.keys.first().ok_or_else(|| Error::internal("there is no key for secrets"))?;
        let mut bytes = vec![VERSION];
        bytes.extend(key.id);
        let mut nonce = [0; 24];
        self.random.fill(&mut nonce);
        let aad = associated(&bytes, column);
        let payload = Payload { msg: secret.expose(), aad: &aad };
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload);
        bytes.extend(nonce);
        bytes.extend(sealed.map_err(|_| Error::internal("the secret is too long to encrypt"))?);
        Ok(Sealed(bytes))
    }

    /// Decrypts a secret of its column, with the key that encrypted it.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` `SECRET_UNREADABLE` when its key is not among these, when it was sealed for another
    /// column, and when its bytes were changed.
    pub fn open(&self, column: Column<'_>, sealed: &Sealed) -> Result<Secret> {
        let Some((id, nonce, ciphertext)) = sealed.parts() else {
            return Err(unreadable(column, "its stored bytes have an unknown format"));
        };
        let Some(key) = self.keys.iter().find(|key| key.id == id) else {
            let id = hex::encode(id);
            let why = format!("no configured key has the id {id}");
            return Err(unreadable(column, &why).with("key_id", id));
        };
        let nonce = XNonce::try_from(nonce).map_err(|_| unreadable(column, "its nonce is truncated"))?;
        let aad = associated(&sealed.0[..KEY_ID.end], column);
        let opened = key.cipher.decrypt(&nonce, Payload { msg: ciphertext, aad: &aad });
        opened.map(Secret::new).map_err(|_| {
            unreadable(column, "its stored bytes were changed, or were encrypted for another row or column")
        })
    }

    /// Whether it was encrypted by another key than the first.
    pub fn needs_reencryption(&self, sealed: &Sealed) -> bool {
        let id = sealed.parts().map(|(id, _, _)| id);
        id != self.keys.first().map(|key| key.id.as_slice())
    }

    /// Encrypts the same secret with the first key and a new nonce.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn reencrypt(&self, column: Column<'_>, sealed: &Sealed) -> Result<Sealed> {
        self.seal(column, &self.open(column, sealed)?)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| hex::encode(key.id));
        f.debug_tuple("Keys").field(&ids.collect::<Vec<_>>()).finish()
    }
}

/// Adds the keys in a text. An error names the line, without its content.
fn add(keys: &mut Vec<Key>, text: &str) -> std::result::Result<(), String> {
    let lines = text.lines().map(str::trim).enumerate();
    let mut found = false;
    for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(line, &mut *bytes)
            .map_err(|_| format!("line {} is not 64 hex digits", at + 1))?;
        found = true;
        let hash =
            Sha256::new().chain_update(b"foundry secrets key id 1").chain_update(bytes.as_slice()).finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        if !keys.iter().any(|key| key.id == id) {
            keys.push(Key { id, cipher: XChaCha20Poly1305::new((&*bytes).into()) });
        }
    }
    if found { Ok(()) } else { Err("it contains no key".to_owned()) }
}

/// The header and the column, each part with its length, so that no two columns give the same bytes.
fn associated(header: &[u8], column: Column<'_>) -> Vec<u8> {
    let Column { service, table, row, column } = column;
    let mut bytes = header.to_vec();
    for part in [service, table, row, column] {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

fn unreadable(column: Column<'_>, why: &str) -> Error {
    let text = format!("the secret {column} cannot be read: {why}");
    Error::precondition("SECRET_UNREADABLE", &column.to_string(), text)
        .next_action("also configure the key that encrypted it, or store the secret again")
}

#[cfg(test)]
mod tests;
