//! What every Foundry crate shares and nothing more: typed ids, time and randomness as
//! parameters, owned background tasks, sources that are polled only when they woke their task, page
//! tokens, and the one error type with its one mapping to a gRPC status. No I/O.

mod clock;
mod error;
mod id;
mod lock;
mod on_wake;
mod page;
mod random;
mod tasks;
mod text;

pub use clock::{Clock, SystemClock, Timestamp, proto_duration, sleep_until};
pub use error::{Code, Error, FieldViolation, Result};
pub use id::{
    AccessTokenId, AccountId, AgentSessionId, AttachmentId, CredentialId, FlowId, JobId, MessageId,
    ModelProviderId, OrganizationId, ProfileId, ProgramSignInId, RepositoryCredentialId, RepositoryId,
    RepositoryWebhookId, ReviewCommentId, SandboxId, SessionId, SignInId, TaskId, UserId,
};
pub use lock::lock;
pub use on_wake::OnWake;
pub use page::{PageRequest, PageToken};
pub use random::{Random, SystemRandom};
pub use tasks::{TaskFailure, Tasks};
pub use text::counted;

use std::sync::Arc;

/// The injected sources of time and randomness; cloning shares them.
#[derive(Clone)]
pub struct Env {
    /// The wall clock and its timers.
    pub clock: Arc<dyn Clock>,
    /// Where ids, secrets and jitter come from.
    pub random: Arc<dyn Random>,
}

impl Env {
    /// The real clock and the operating system's randomness.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
    }
}
