//! Why a call of a forge has failed, in the words of the forge.

use foundry_core::Timestamp;

/// The longest text of a host that is kept, in characters.
const MAX_WORDS: usize = 500;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgeErrorKind {
    /// The host does not accept the credential.
    CredentialsRefused,
    /// The host accepts the credential, but not for this.
    Forbidden,
    /// The host has no such repository or pull request, or hides it from this credential.
    NotFound,
    /// The host answers no more calls before this time.
    RateLimited(Timestamp),
    /// The host does not accept what it was sent.
    Rejected,
    /// The host does not answer, or only that it cannot.
    Unreachable,
    /// The answer of the host is not what its API promises.
    Unusable,
}

/// A call of a forge that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ForgeError {
    kind: ForgeErrorKind,
    message: String,
}

impl ForgeError {
    /// An error with a text for users. It must not contain the credential.
    pub fn new(kind: ForgeErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ForgeErrorKind {
        self.kind
    }

    /// What happened, with the words of the host.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The stable reason.
    pub fn reason(&self) -> &'static str {
        match self.kind {
            ForgeErrorKind::CredentialsRefused => "FORGE_CREDENTIALS_REFUSED",
            ForgeErrorKind::Forbidden => "FORGE_FORBIDDEN",
            ForgeErrorKind::NotFound => "FORGE_NOT_FOUND",
            ForgeErrorKind::RateLimited(_) => "FORGE_RATE_LIMITED",
            ForgeErrorKind::Rejected => "FORGE_REJECTED",
            ForgeErrorKind::Unreachable => "FORGE_UNREACHABLE",
            ForgeErrorKind::Unusable => "FORGE_ANSWER_UNUSABLE",
        }
    }

    /// Whether the same call may succeed soon.
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, ForgeErrorKind::Unreachable | ForgeErrorKind::RateLimited(_))
    }
}

/// Words of a host as one line of bounded length, without control characters.
pub(crate) fn words(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_WORDS).collect()
}
