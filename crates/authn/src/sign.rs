//! Minting: a key id, a private key, and nothing configurable about the algorithm.

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use foundry_core::{Env, Error, Result};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sha2::{Digest as _, Sha256};

use crate::{Claims, TokenKind};

/// The id of a public key: its owner's name and the start of the key's SHA-256.
pub fn key_id(owner: &str, public_key: &[u8; 32]) -> String {
    let digest = Sha256::digest(public_key);
    format!("{owner}-{}", hex::encode(&digest[..8]))
}

/// Signs tokens with one Ed25519 key.
#[derive(Clone)]
pub struct Signer {
    key_id: String,
    public_key: [u8; 32],
    key: EncodingKey,
}

impl Signer {
    /// A signer for an owner (`auth`, or a service's name) and its private key.
    ///
    /// # Errors
    /// `INTERNAL` when the key cannot be encoded.
    pub fn new(owner: &str, key: &SigningKey) -> Result<Self> {
        let public_key = key.verifying_key().to_bytes();
        let der = key.to_pkcs8_der().map_err(|e| Error::internal(e.to_string()))?;
        Ok(Self {
            key_id: key_id(owner, &public_key),
            public_key,
            key: EncodingKey::from_ed_der(der.as_bytes()),
        })
    }

    /// A new private key from the injected randomness.
    pub fn generate_key(env: &Env) -> SigningKey {
        let mut seed = [0u8; 32];
        env.random.fill(&mut seed);
        SigningKey::from_bytes(&seed)
    }

    /// The `kid` of its tokens.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public key that verifies its tokens.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// Signs the claims.
    ///
    /// # Errors
    /// `INTERNAL` when signing fails.
    pub fn mint(&self, kind: TokenKind, claims: &Claims) -> Result<String> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(kind.typ().to_owned());
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.key).map_err(Error::internal)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}
