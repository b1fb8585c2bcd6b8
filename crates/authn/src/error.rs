//! Why a token is refused; each refusal has a stable reason.

use std::time::Duration;

use foundry_core::{Code, Error};

/// Why the caller could not be established.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is no `authorization` header.
    #[error("this method requires a bearer token in the `authorization` header")]
    Missing,
    /// Not a Foundry token: shape, algorithm, type, claims or signature is wrong.
    #[error("the bearer token is not valid: {0}")]
    Malformed(&'static str),
    /// Its `exp` claim has passed.
    #[error("the token has expired")]
    Expired,
    /// Its credential was revoked, or its roles changed since.
    #[error("the token was revoked")]
    Revoked,
    /// Made for another service.
    #[error("the token was issued for another service")]
    Audience,
    /// Signed with a key that auth does not publish.
    #[error("the token was signed with an unknown key")]
    UnknownKey,
    /// The keys or revocations cannot be read now, so the token can be neither accepted nor refused.
    #[error("tokens cannot be verified right now: {0}")]
    Unverifiable(&'static str),
}

impl TokenError {
    /// The stable reason, as in the error pages.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "TOKEN_MISSING",
            Self::Malformed(_) => "TOKEN_MALFORMED",
            Self::Expired => "TOKEN_EXPIRED",
            Self::Revoked => "TOKEN_REVOKED",
            Self::Audience => "TOKEN_AUDIENCE",
            Self::UnknownKey => "TOKEN_UNKNOWN_KEY",
            Self::Unverifiable(_) => "TOKEN_UNVERIFIABLE",
        }
    }
}

impl From<TokenError> for Error {
    fn from(e: TokenError) -> Self {
        let text = e.to_string();
        match e {
            TokenError::Unverifiable(_) => Error::unavailable(e.reason(), text, Duration::from_secs(1)),
            TokenError::Missing => Error::new(Code::Unauthenticated, e.reason(), text)
                .next_action("sign in (`foundry login`) and send `authorization: Bearer <token>`"),
            TokenError::Expired | TokenError::Revoked => Error::new(Code::Unauthenticated, e.reason(), text)
                .next_action("renew the access token, or sign in again"),
            _ => Error::new(Code::Unauthenticated, e.reason(), text).next_action("sign in again"),
        }
    }
}
