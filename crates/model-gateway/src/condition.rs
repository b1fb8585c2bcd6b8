//! What a call reveals about provider, key and model, for the session that made it.

use foundry_core::Timestamp;

/// Why a provider could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// Its host name cannot be resolved.
    Name,
    /// Nothing answers at its address, or the proxy before it refuses.
    Host,
    /// No trusted TLS connection.
    Tls,
    /// The server at this address does not have the API.
    Path,
}

/// The condition's kind, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionKind {
    /// A call succeeded: earlier conditions are over.
    Working,
    /// The provider refuses the key.
    KeyRefused,
    /// The provider does not have the model.
    Unknown,
    /// The provider's quota is used up.
    Quota {
        /// When it is available again; `None` where the provider does not state it.
        resume_at: Option<Timestamp>,
        /// Whether the wait is so short (60 s at most) that the agent waits itself.
        notice: bool,
        /// Whether the agent was instructed not to retry: the wait is long, or a payment is due. Where the provider
        /// states neither, the agent keeps retrying for a while.
        ends_turn: bool,
    },
    /// The provider answers with errors of its own, or breaks off.
    Failing,
    /// The provider sends nothing.
    Silent,
    /// The provider cannot be reached.
    Unreachable(Unreached),
    /// A limit of Foundry's is used up; the provider was not called.
    LimitReached,
    /// The call waits, because calls in progress may use up a limit of Foundry's.
    LimitWait,
    /// No call of the session waits for a limit any more.
    LimitWaitOver,
    /// The profile does not allow the model; the provider was not called.
    NotAllowed,
    /// The model provider was deleted; nothing was called.
    ProviderGone,
}

/// A condition of the session that made the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCondition {
    /// The kind, with its details.
    pub kind: ConditionKind,
    /// The requested model; empty where the call names none.
    pub model: String,
    /// What happened, as a text for users; never contains a secret.
    pub words: String,
}

impl ModelCondition {
    /// The stable reason, `MODEL_OK` for one that clears.
    pub fn reason(&self) -> &'static str {
        match self.kind {
            ConditionKind::Working | ConditionKind::LimitWaitOver => CLEARED,
            ConditionKind::KeyRefused => "MODEL_KEY_REFUSED",
            ConditionKind::Unknown => "MODEL_UNKNOWN",
            ConditionKind::Quota { .. } => "MODEL_QUOTA",
            ConditionKind::Failing => "MODEL_FAILING",
            ConditionKind::Silent => "MODEL_SILENT",
            ConditionKind::Unreachable(_) => "MODEL_UNREACHABLE",
            ConditionKind::LimitReached => "MODEL_LIMIT_REACHED",
            ConditionKind::LimitWait => "MODEL_LIMIT_WAIT",
            ConditionKind::NotAllowed => "MODEL_NOT_ALLOWED",
            ConditionKind::ProviderGone => "MODEL_PROVIDER_NOT_FOUND",
        }
    }

    /// Whether the agent was instructed not to retry, so that its turn ends.
    pub fn ends_turn(&self) -> bool {
        match self.kind {
            ConditionKind::KeyRefused
            | ConditionKind::Unknown
            | ConditionKind::LimitReached
            | ConditionKind::NotAllowed
            | ConditionKind::ProviderGone => true,
            ConditionKind::Quota { ends_turn, .. } => ends_turn,
            ConditionKind::Working
            | ConditionKind::Failing
            | ConditionKind::Silent
            | ConditionKind::LimitWait
            | ConditionKind::LimitWaitOver
            | ConditionKind::Unreachable(_) => false,
        }
    }
}

/// Not an error: it has no page.
const CLEARED: &str = "MODEL_OK";
