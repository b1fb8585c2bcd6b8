//! Small secrets at rest, such as the key of a model or the token of a forge: encrypted where they are stored, and
//! hidden where they are held.
//!
//! ```no_run
//! # async fn example(env: foundry_core::Env) -> foundry_core::Result<()> {
//! use foundry_secrets::{Column, Keys, Secret};
//!
//! // At the start of a service. No sources: a key in the service's directory, made on first use.
//! let keys = Keys::load(&[], "keys/provisioner-secrets.key".as_ref(), &env).await?;
//! let column = Column { service: "provisioner", table: "model_providers", row: "mp_1", column: "key" };
//! let sealed = keys.seal(column, &Secret::new("sk-…"))?;
//! let key = keys.open(column, &sealed)?;
//! # Ok(()) }
//! ```
//!
//! - **Encryption** is XChaCha20-Poly1305 with a random nonce of 24 bytes. The stored bytes are a version (1 byte), the
//!   id of the key (8), the nonce (24), and the ciphertext with its tag (16 more than the secret).
//! - **A secret is bound to its row**: service, table, row and column are authenticated, so that a value copied to
//!   another row is refused there.
//! - **Keys** are 32 bytes, written as 64 hex digits, one per line ([`KeySource`]). The first of all sources encrypts,
//!   each decrypts. The id of a key is derived from the key.
//! - **A new key**: put it first, keep the old one, restart: the service stores [`Keys::reencrypt`] for each row where
//!   [`Keys::needs_reencryption`]. Then remove the old one.
//! - **Loss**: without its key a secret is lost. A backup of the database is useless without the key file, and its
//!   secrets are safe as long as the file is not stored with it.
//!
//! Only [`Keys::load`] does I/O. [`read_or_create_secret_file`] and its siblings are for other files with secrets.

mod file;
mod keys;
mod secret;
mod source;

pub use file::{
    file_unusable, read_or_create_secret_file, read_secret_file, replace_file, replace_secret_file,
};
pub use keys::{Column, Keys, Sealed};
pub use secret::Secret;
pub use source::KeySource;
