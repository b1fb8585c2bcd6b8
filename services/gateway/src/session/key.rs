//! The key of a session, which a page must send besides its cookie. It is derived from the session's secret with a
//! secret that only the gateway has: nothing is stored for it, and neither the cookie nor the key reveals the other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Makes and compares the keys of sessions.
pub(crate) struct SessionKeys(Hmac<Sha256>);

impl SessionKeys {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        // HMAC fills a shorter key up with zeros.
        let mut block = [0; 64];
        block[..secret.len()].copy_from_slice(&secret);
        Self(Hmac::new(&block.into()))
    }

    /// The key of the session with this secret.
    pub(crate) fn of(&self, session: &str) -> String {
        let mac = self.0.clone().chain_update(session.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    /// Whether this is the session's key; compared in constant time.
    pub(crate) fn is_of(&self, key: &[u8], session: &str) -> bool {
        let Ok(shown) = URL_SAFE_NO_PAD.decode(key) else { return false };
        self.0.clone().chain_update(session.as_bytes()).verify_slice(&shown).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_one_session_at_one_gateway() {
        let (here, elsewhere) = (SessionKeys::new([1; 32]), SessionKeys::new([2; 32]));
        let key = here.of("fds_1");
        assert_eq!(key.len(), 43);
        assert!(here.is_of(key.as_bytes(), "fds_1"));
        assert!(!here.is_of(key.as_bytes(), "fds_2"));
        assert!(!elsewhere.is_of(key.as_bytes(), "fds_1"));
        for wrong in ["", "x", "%%", &key[1..], &format!("{key}="), &key.to_lowercase(), "fds_1"] {
            assert!(!here.is_of(wrong.as_bytes(), "fds_1"), "{wrong}");
        }
    }
}
