//! Verification of a token: shape, algorithm, key, signature, issuer, audience, time. Expiry is checked with the
//! injected clock, so the library's own check is off.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use foundry_core::{Clock, Timestamp};
use jsonwebtoken::{Algorithm, Validation};
use sha2::{Digest as _, Sha256};

use crate::claims::role_from_name;
use crate::policy::services;
use crate::{
    AUTH_ISSUER, Caller, Claims, KeyRing, LEEWAY, TOKEN_LIFETIME, TokenError, TokenKind, USER_AUDIENCE,
    UserCaller,
};

/// Longest token that is parsed, in bytes.
const MAX_TOKEN_LEN: usize = 16 * 1024;
/// Verified tokens remembered before the older half is dropped.
const REMEMBERED: usize = 2_048;

/// Verifies tokens for one service; cloning shares its memory of verified ones.
#[derive(Clone)]
pub struct Verifier {
    service: Arc<str>,
    keys: KeyRing,
    clock: Arc<dyn Clock>,
    verified: Arc<Mutex<Verified>>,
}

/// Verified tokens, cached because an Ed25519 verification costs more than the rest of a small call and clients send
/// the same token for minutes. Two generations bound the memory without a list of uses.
#[derive(Default)]
struct Verified {
    keys_version: u64,
    young: HashMap<[u8; 32], Caller>,
    old: HashMap<[u8; 32], Caller>,
}

impl Verifier {
    /// A verifier for the service of this name.
    pub fn new(service: &str, keys: KeyRing, clock: Arc<dyn Clock>) -> Self {
        Self { service: service.into(), keys, clock, verified: Arc::default() }
    }

    /// The caller identified by a token. Revocations are not checked here.
    ///
    /// # Errors
    /// Each refusal has its own [`TokenError`].
    pub async fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::Malformed("it is too long"));
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let version = self.keys.version();
        if let Some(caller) = self.recall(&digest, version) {
            self.check_expiry(caller.expires_at())?;
            return Ok(caller);
        }
        let caller = self.verify_uncached(token).await?;
        self.remember(digest, version, caller.clone());
        Ok(caller)
    }

    async fn verify_uncached(&self, token: &str) -> Result<Caller, TokenError> {
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| TokenError::Malformed("it is not a signed JWT"))?;
        if header.alg != Algorithm::EdDSA {
            return Err(TokenError::Malformed("its algorithm is not EdDSA"));
        }
        if header.crit.is_some() {
            return Err(TokenError::Malformed("it requires unknown extensions"));
        }
        let kind = header.typ.as_deref().and_then(TokenKind::of_typ);
        let kind = kind.ok_or(TokenError::Malformed("its type is not supported"))?;
        let key_id = header.kid.ok_or(TokenError::Malformed("it has no key id"))?;
        let key = self.keys.find(&key_id).await?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &signature_only())
            .map_err(|_| TokenError::Malformed("its signature or claims are wrong"))?
            .claims;
        // A key is valid for its owner alone: a service's key signs neither users nor other services.
        if claims.iss != key.issuer {
            return Err(TokenError::Malformed("its key belongs to another issuer"));
        }
        let expires_at = self.check_times(&claims)?;
        match kind {
            TokenKind::User => user(claims, expires_at),
            TokenKind::Service => self.service(&claims, expires_at),
        }
    }

    fn service(&self, claims: &Claims, expires_at: Timestamp) -> Result<Caller, TokenError> {
        let name = claims.sub.strip_prefix("service:").filter(|n| services().contains(*n));
        let name = name.filter(|_| claims.iss == claims.sub);
        let name = name.ok_or(TokenError::Malformed("it is not a service token"))?;
        if claims.aud != *self.service {
            return Err(TokenError::Audience);
        }
        Ok(Caller::service_until(name, expires_at))
    }

    fn check_times(&self, claims: &Claims) -> Result<Timestamp, TokenError> {
        let (Some(issued), Some(expires)) = (seconds(claims.iat), seconds(claims.exp)) else {
            return Err(TokenError::Malformed("its timestamps are out of range"));
        };
        if expires <= issued || expires.since(issued) > TOKEN_LIFETIME {
            return Err(TokenError::Malformed("its lifetime is longer than five minutes"));
        }
        if issued > self.clock.now().plus(LEEWAY) {
            return Err(TokenError::Malformed("it was issued in the future"));
        }
        self.check_expiry(expires)?;
        Ok(expires)
    }

    fn check_expiry(&self, expires: Timestamp) -> Result<(), TokenError> {
        if self.clock.now() >= expires.plus(LEEWAY) { Err(TokenError::Expired) } else { Ok(()) }
    }

    fn recall(&self, digest: &[u8; 32], version: u64) -> Option<Caller> {
        let mut verified = foundry_core::lock(&self.verified);
        if verified.keys_version != version {
            *verified = Verified { keys_version: version, ..Verified::default() };
        }
        verified.young.get(digest).or_else(|| verified.old.get(digest)).cloned()
    }

    fn remember(&self, digest: [u8; 32], version: u64, caller: Caller) {
        let mut verified = foundry_core::lock(&self.verified);
        if verified.keys_version != version {
            return;
        }
        if verified.young.len() >= REMEMBERED / 2 {
            verified.old = std::mem::take(&mut verified.young);
        }
        verified.young.insert(digest, caller);
    }
}

fn user(claims: Claims, expires_at: Timestamp) -> Result<Caller, TokenError> {
    if claims.iss != AUTH_ISSUER {
        return Err(TokenError::Malformed("only auth may issue user tokens"));
    }
    if claims.aud != USER_AUDIENCE {
        return Err(TokenError::Audience);
    }
    if claims.sid.is_empty() {
        return Err(TokenError::Malformed("it has no credential id"));
    }
    let user_id = claims.sub.parse().map_err(|_| TokenError::Malformed("it has no user id"))?;
    let mut organizations = BTreeMap::new();
    for (id, role) in &claims.orgs {
        let id = id.parse().map_err(|_| TokenError::Malformed("it has no organization id"))?;
        // An unknown role from a newer auth service grants nothing.
        if let Some(role) = role_from_name(role) {
            organizations.insert(id, role);
        }
    }
    let revocations_rev = claims.rev;
    Ok(Caller::user(UserCaller {
        user_id,
        credential_id: claims.sid,
        organizations,
        revocations_rev,
        expires_at,
    }))
}

fn seconds(s: i64) -> Option<Timestamp> {
    s.checked_mul(1_000_000).filter(|_| s > 0).map(Timestamp::from_micros)
}

fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}
