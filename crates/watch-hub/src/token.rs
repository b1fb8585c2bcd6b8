//! Fingerprints of views, and the opaque resume token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundry_proto::watch::v1::ResetReason;
use foundry_store::Scope;
use sha2::{Digest as _, Sha256};

/// Identifies the content and form of a view: method, schema and filter. Two watches share their feed, and accept each
/// other's positions, only if scope and fingerprint are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of a method without a filter. Raise `schema` whenever keys or items change their meaning: every
    /// consumer then starts over.
    pub fn new(method: &str, schema: u32) -> Self {
        Self(hash(&[method.as_bytes(), &schema.to_le_bytes()]))
    }

    /// Adds one value of the filter.
    #[must_use]
    pub fn filter(self, name: &str, value: &str) -> Self {
        Self(hash(&[&self.0, name.as_bytes(), value.as_bytes()]))
    }

    /// The view of this scope, as one opaque text.
    pub(crate) fn key(self, scope: &Scope) -> String {
        URL_SAFE_NO_PAD.encode(self.in_scope(scope))
    }

    fn in_scope(self, scope: &Scope) -> [u8; 16] {
        hash(&[scope.as_str().as_bytes(), &self.0])
    }
}

/// The part of a resume token that is common to all positions of one view of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenStamp {
    incarnation: [u8; 8],
    view: [u8; 16],
}

/// Version of the token's layout.
const FORMAT: u8 = 1;
const CHECKSUM: usize = 4;
const LENGTH: usize = 1 + 8 + 16 + 8 + CHECKSUM;

impl TokenStamp {
    pub(crate) fn new(incarnation: &str, scope: &Scope, fingerprint: Fingerprint) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = hash(&[incarnation.as_bytes()]);
        Self { incarnation: [a, b, c, d, e, f, g, h], view: fingerprint.in_scope(scope) }
    }

    pub(crate) fn token(&self, rev: i64) -> String {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.incarnation);
        bytes.extend_from_slice(&self.view);
        bytes.extend_from_slice(&rev.to_le_bytes());
        let sum = hash(&[&bytes]);
        bytes.extend_from_slice(&sum[..CHECKSUM]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The revision of a token of this view. The token is compared, never trusted: it contains its holder's position,
    /// not its permissions.
    pub(crate) fn rev_of(&self, token: &str) -> Result<i64, ResetReason> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| ResetReason::TokenInvalid)?;
        if bytes.len() != LENGTH || bytes[0] != FORMAT {
            return Err(ResetReason::TokenInvalid);
        }
        let (content, sum) = bytes.split_at(LENGTH - CHECKSUM);
        if hash(&[content])[..CHECKSUM] != *sum {
            return Err(ResetReason::TokenInvalid);
        }
        if content[1..9] != self.incarnation {
            return Err(ResetReason::IncarnationChanged);
        }
        if content[9..25] != self.view {
            return Err(ResetReason::ViewChanged);
        }
        let rev = content[25..33].try_into().map(i64::from_le_bytes).unwrap_or(-1);
        if rev < 0 { Err(ResetReason::TokenInvalid) } else { Ok(rev) }
    }
}

/// The first 16 bytes of SHA-256 over length-prefixed parts.
fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(incarnation: &str, scope: &str, filter: &str) -> TokenStamp {
        let fingerprint = Fingerprint::new("WatchThings", 1).filter("color", filter);
        TokenStamp::new(incarnation, &Scope::service(scope), fingerprint)
    }

    #[test]
    fn reads_its_own_tokens_and_names_why_it_refuses_others() {
        let ours = stamp("inc", "a", "red");
        assert_eq!(ours.rev_of(&ours.token(42)), Ok(42));
        assert_eq!(ours.rev_of(&stamp("other", "a", "red").token(42)), Err(ResetReason::IncarnationChanged));
        assert_eq!(ours.rev_of(&stamp("inc", "b", "red").token(42)), Err(ResetReason::ViewChanged));
        assert_eq!(ours.rev_of(&stamp("inc", "a", "blue").token(42)), Err(ResetReason::ViewChanged));
        assert_eq!(ours.rev_of("%%"), Err(ResetReason::TokenInvalid));
        assert_eq!(ours.rev_of(&ours.token(-1)), Err(ResetReason::TokenInvalid));
    }

    #[test]
    fn refuses_every_token_with_one_character_changed() {
        let ours = stamp("inc", "a", "red");
        let token = ours.token(7);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(ours.rev_of(&changed), Err(ResetReason::TokenInvalid), "at {at}");
        }
    }
}
