//! The key that a runtime and the provisioner share. It never crosses the wire: each side proves that it
//! has the key by a message authentication code over two random numbers.

use std::fmt;

use foundry_core::Env;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// Bytes of a key and of a nonce.
pub const KEY_BYTES: usize = 32;

/// The key of one runtime instance.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuntimeKey(String);

impl RuntimeKey {
    /// A random key.
    pub fn generate(env: &Env) -> Self {
        Self(nonce(env))
    }

    /// The key as 64 hexadecimal digits, to be handed to the runtime on its standard input.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// From 64 hexadecimal digits; none for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == KEY_BYTES * 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| Self(text.to_owned()))
    }

    /// False in the facts of an older version, which had no key: nothing can be proved by it.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// What the runtime answers to a client's nonce.
    pub fn runtime_proof(&self, client: &str, runtime: &str) -> String {
        self.code(&["foundry runtime", client, runtime])
    }

    /// What a client sends with each request after it has checked the runtime's proof.
    pub fn client_proof(&self, client: &str, runtime: &str) -> String {
        self.code(&["foundry client", client, runtime])
    }

    /// The proof that the forwarder inside a sandbox adds to a model call, by which the model gateway identifies the
    /// sandbox.
    pub fn model_proof(&self, sandbox: &str, instance: &str, nonce: &str) -> String {
        self.code(&["foundry model", sandbox, instance, nonce])
    }

    /// The proof that the runtime sends at the start of a connection to the mesh's proxy, so that the sandbox's own
    /// policy is applied.
    pub fn network_proof(&self, sandbox: &str, instance: &str, nonce: &str) -> String {
        self.code(&["foundry network", sandbox, instance, nonce])
    }

    /// The model key of a session's agent: accepted only by our model gateway, from this sandbox, while this runtime
    /// lives.
    pub fn model_token(&self, session: &str) -> String {
        format!("{session}.{}", self.code(&["foundry model token", session]))
    }

    /// The token with which git inside a sandbox fetches from `origin`: accepted only from this sandbox, while this
    /// runtime lives.
    pub fn git_token(&self, sandbox: &str) -> String {
        self.code(&["foundry git token", sandbox])
    }

    fn code(&self, parts: &[&str]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes())
            .unwrap_or_else(|_| unreachable!("a code of this kind takes keys of any length"));
        for part in parts {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        hex::encode(mac.finalize().into_bytes())
    }
}

/// Compares two proofs in constant time.
pub fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// A random number as 64 hexadecimal digits.
pub fn nonce(env: &Env) -> String {
    let mut bytes = [0u8; KEY_BYTES];
    env.random.fill(&mut bytes);
    hex::encode(bytes)
}

impl fmt::Debug for RuntimeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RuntimeKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_differ_by_side_nonce_and_key_and_debug_shows_no_key() {
        let (one, other) = (RuntimeKey::generate(&Env::system()), RuntimeKey::generate(&Env::system()));
        let proof = one.runtime_proof("a", "b");
        assert!(same(&proof, &one.runtime_proof("a", "b")));
        for wrong in [
            one.client_proof("a", "b"),
            one.runtime_proof("b", "a"),
            one.runtime_proof("ab", ""),
            other.runtime_proof("a", "b"),
        ] {
            assert!(!same(&proof, &wrong));
        }
        assert!(!format!("{one:?}").contains(one.expose()));
        assert_eq!(RuntimeKey::parse(one.expose()), Some(one));
        assert!(RuntimeKey::parse("short").is_none() && RuntimeKey::parse(&"x".repeat(64)).is_none());
    }
}
