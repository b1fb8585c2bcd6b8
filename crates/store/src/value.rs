//! The four kinds of values a column holds on both databases, and the placeholders that the
//! store fills in at commit.

use std::borrow::Cow;

use bytes::Bytes;
use foundry_core::Timestamp;

/// The revision that a write set reserves in one of its scopes: a placeholder until commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RevRef(pub(crate) u32);

/// A value to bind or a value that was read. `bool` is stored as 0 or 1, time as microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// An SQL NULL of any column type.
    Null,
    /// A TEXT value; also for ids and enums. Its NUL characters are stored and compared as U+FFFD.
    Text(String),
    /// A BIGINT value; also for bools and times.
    Int(i64),
    /// A BLOB (SQLite) or BYTEA (PostgreSQL) value.
    Blob(Bytes),
    /// The revision reserved by this write set; becomes an `Int` at commit.
    Rev(RevRef),
    /// The store's time at commit in microseconds; becomes an `Int` at commit.
    Now,
    /// The store's time at commit plus this many microseconds; becomes an `Int` at commit.
    After(i64),
}

impl Value {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn is_storable(&self) -> bool {
        !matches!(self, Self::Text(text) if text.contains(NUL))
    }

    /// Replaces what a TEXT column cannot hold; see [`storable_text`].
    pub(crate) fn make_storable(&mut self) {
        if let Self::Text(text) = self {
            *text = storable_text(std::mem::take(text));
        }
    }

    /// Whether it depends on the store's time at commit.
    pub(crate) fn is_timed(&self) -> bool {
        matches!(self, Self::Now | Self::After(_))
    }
}

const NUL: char = '\0';

/// The text as both databases store and find it: PostgreSQL refuses NUL characters, so each becomes U+FFFD.
pub(crate) fn storable_text(text: String) -> String {
    if text.contains(NUL) { text.replace(NUL, "\u{FFFD}") } else { text }
}

/// The parameters of a statement, with texts as [`storable_text`].
pub(crate) fn storable(params: &[Value]) -> Cow<'_, [Value]> {
    if params.iter().all(Value::is_storable) {
        return Cow::Borrowed(params);
    }
    let mut params = params.to_vec();
    params.iter_mut().for_each(Value::make_storable);
    Cow::Owned(params)
}

/// A value with its placeholders filled in, borrowed for binding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound<'a> {
    Null,
    Text(&'a str),
    Int(i64),
    Blob(&'a Bytes),
}

impl<'a> Bound<'a> {
    /// A placeholder outside a write set has no meaning and binds as NULL.
    pub(crate) fn plain(value: &'a Value) -> Self {
        Self::resolve(value, &[], 0)
    }

    pub(crate) fn resolve(value: &'a Value, revs: &[i64], now: i64) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Text(s) => Self::Text(s),
            Value::Int(i) => Self::Int(*i),
            Value::Blob(b) => Self::Blob(b),
            Value::Rev(r) => revs.get(r.0 as usize).map_or(Self::Null, |rev| Self::Int(*rev)),
            Value::Now => Self::Int(now),
            Value::After(micros) => Self::Int(now.saturating_add(*micros)),
        }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::Text(s.to_owned())
    }
}

impl From<String> for Value {
    fn from(s: String) -> Self {
        Self::Text(s)
    }
}

impl From<&String> for Value {
    fn from(s: &String) -> Self {
        Self::Text(s.clone())
    }
}

impl From<i64> for Value {
    fn from(i: i64) -> Self {
        Self::Int(i)
    }
}

impl From<i32> for Value {
    fn from(i: i32) -> Self {
        Self::Int(i64::from(i))
    }
}

impl From<u32> for Value {
    fn from(i: u32) -> Self {
        Self::Int(i64::from(i))
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Int(i64::from(b))
    }
}

impl From<Timestamp> for Value {
    fn from(t: Timestamp) -> Self {
        Self::Int(t.as_micros())
    }
}

impl From<Vec<u8>> for Value {
    fn from(b: Vec<u8>) -> Self {
        Self::Blob(b.into())
    }
}

impl From<&[u8]> for Value {
    fn from(b: &[u8]) -> Self {
        Self::Blob(Bytes::copy_from_slice(b))
    }
}

impl From<Bytes> for Value {
    fn from(b: Bytes) -> Self {
        Self::Blob(b)
    }
}

impl From<RevRef> for Value {
    fn from(r: RevRef) -> Self {
        Self::Rev(r)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Null, Into::into)
    }
}

macro_rules! from_ids {
    ($($id:ident)*) => {$(
        impl From<&foundry_core::$id> for Value {
            fn from(id: &foundry_core::$id) -> Self {
                Self::Text(id.as_str().to_owned())
            }
        }
        impl From<foundry_core::$id> for Value {
            fn from(id: foundry_core::$id) -> Self {
                Self::Text(id.into())
            }
        }
    )*};
}

from_ids! {
    AccessTokenId AccountId AgentSessionId AttachmentId CredentialId FlowId JobId MessageId ModelProviderId OrganizationId ProfileId
    ProgramSignInId
    RepositoryCredentialId RepositoryId RepositoryWebhookId ReviewCommentId
    SandboxId SessionId SignInId TaskId UserId
}
