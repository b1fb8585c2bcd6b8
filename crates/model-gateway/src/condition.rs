//! What a call shows about provider, key and model, for the session that made it.

use foundry_core::Timestamp;

/// Why a provider could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// Its name leads nowhere.
    Name,
    /// Nothing answers at its address, or the proxy before it refuses.
    Host,
    /// No trusted TLS connection.
    Tls,
    /// What answers does not have the API at this address.
    Path,
}

/// The condition's kind, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionKind {
    /// A call succeeded: whatever was shown before is over.
    Working,
    /// The provider refuses the key.
    KeyRefused,
    /// The provider does not know the model.
    Unknown,
    /// The provider's quota is used up.
    Quota {
        /// When it goes on; none where the provider does not say.
        resume_at: Option<Timestamp>,
        /// Whether it is so short (60 s at most) that the agent waits by itself.
        notice: bool,
        /// Whether the agent was told not to try again: the wait is long, or something must be paid. Where the
        /// provider says neither, the agent goes on trying for a while.
        ends_turn: bool,
    },
    /// The provider answers with failures of its own, or breaks off.
    Failing,
    /// The provider sends nothing.
    Silent,
    /// The provider cannot be reached.
    Unreachable(Unreached),
    /// A limit of Foundry's is used up; the provider was not asked.
    LimitReached,
    /// The call waits, since those under way may use up a limit of Foundry's.
    LimitWait,
    /// No call of the session waits for that any more.
    LimitWaitOver,
    /// The profile does not allow the model; the provider was not asked.
    NotAllowed,
    /// The model provider was deleted; nobody was asked.
    ProviderGone,
}

/// A condition of the session that made the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCondition {
    /// What it is.
    pub kind: ConditionKind,
    /// The model that was asked for; empty where the call names none.
    pub model: String,
    /// What happened, for people; never with a secret.
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

    /// Whether the agent was told not to try again, so that its turn ends.
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
