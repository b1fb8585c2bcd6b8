//! Opaque tokens: a prefix for the kind, 256 random bits, a checksum against typing errors.
//! Only their SHA-256 is stored: with that much randomness a slow hash would add nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundry_authn::TokenError;
use foundry_core::Env;
use sha2::{Digest as _, Sha256};

const RANDOM: usize = 32;
const CHECKSUM: usize = 3;

/// The kind of an opaque token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretKind {
    /// A sign-in session, as a bearer token.
    Session,
    /// A sign-in session of the gateway's page: only valid in its cookie, never as a bearer token.
    PageSession,
    /// A personal access token.
    AccessToken,
}

impl SecretKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Session => "fds_",
            Self::PageSession => "fdc_",
            Self::AccessToken => "fpat_",
        }
    }
}

/// A new random token.
pub(crate) fn generate(kind: SecretKind, env: &Env) -> String {
    let mut bytes = [0u8; RANDOM + CHECKSUM];
    env.random.fill(&mut bytes[..RANDOM]);
    let sum = checksum(kind, &bytes[..RANDOM]);
    bytes[RANDOM..].copy_from_slice(&sum);
    format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(bytes))
}

/// The kind and the stored hash of a well-formed token.
pub(crate) fn parse(token: &str) -> Result<(SecretKind, [u8; 32]), TokenError> {
    let kinds = [SecretKind::AccessToken, SecretKind::Session, SecretKind::PageSession];
    let kind = kinds.into_iter().find(|k| token.starts_with(k.prefix()));
    let kind = kind.ok_or(TokenError::Malformed("it is not an opaque token"))?;
    let text = &token[kind.prefix().len()..];
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed("it contains a typo"))?;
    if bytes.len() != RANDOM + CHECKSUM || checksum(kind, &bytes[..RANDOM])[..] != bytes[RANDOM..] {
        return Err(TokenError::Malformed("it contains a typo"));
    }
    Ok((kind, hash(token)))
}

/// The hash under which a token is stored.
pub(crate) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn checksum(kind: SecretKind, random: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::new().chain_update(kind.prefix()).chain_update(random).finalize();
    [digest[0], digest[1], digest[2]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_tokens_and_their_kind() {
        let env = Env::system();
        for kind in [SecretKind::Session, SecretKind::PageSession, SecretKind::AccessToken] {
            let token = generate(kind, &env);
            assert_eq!(parse(&token).unwrap(), (kind, hash(&token)));
            assert_ne!(token, generate(kind, &env));
        }
    }

    #[test]
    fn refuses_other_kinds_typing_errors_and_hostile_text() {
        let token = generate(SecretKind::Session, &Env::system());
        let other_kind = token.replace("fds_", "fpat_");
        let as_a_bearer = generate(SecretKind::PageSession, &Env::system()).replace("fdc_", "fds_");
        let shorter = &token[..token.len() - 1];
        let typo = token.replacen(&token[6..7], if &token[6..7] == "A" { "B" } else { "A" }, 1);
        for bad in [
            "",
            "fds_",
            "fpat_' OR 1=1 --",
            "fds_\u{e9}",
            &other_kind,
            &as_a_bearer,
            shorter,
            &typo,
            &"x".repeat(1 << 20),
        ] {
            assert!(parse(bad).is_err(), "{bad:.40}");
        }
    }
}
