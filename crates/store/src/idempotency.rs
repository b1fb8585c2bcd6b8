//! Request ids: a repeated request gets its first answer.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::{Table, Value};

pub(crate) const IDEMPOTENCY: Table = Table::new(
    "store_idempotency",
    &["organization_id", "caller", "method", "request_id", "body_hash", "response", "rev", "expires_at"],
    &["organization_id", "caller", "method", "request_id"],
);

/// Identifies a request: organization, caller, method and the caller's request id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// The organization of the call; empty for calls outside of organizations.
    pub organization: String,
    /// The caller: a user or a service.
    pub caller: String,
    /// The full method name.
    pub method: &'static str,
    /// The request id that the caller chose; empty = no protection.
    pub request_id: String,
}

impl IdempotencyKey {
    /// Whether the caller requested protection.
    pub fn protects(&self) -> bool {
        !self.request_id.is_empty()
    }

    pub(crate) fn values(&self) -> [Value; 4] {
        [
            self.organization.as_str().into(),
            self.caller.as_str().into(),
            self.method.into(),
            self.request_id.as_str().into(),
        ]
    }
}

/// SHA-256 of a request's body without its request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHash(pub [u8; 32]);

impl BodyHash {
    /// The hash of an encoded body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }
}

/// The stored answer of a request that was already committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The encoded response.
    pub response: Bytes,
    /// The revision that the request took in the first scope of its write set; 0 without one.
    pub rev: i64,
}
