//! The domain: entities, their states and transitions. No gRPC, database, clock or task.

pub mod attachment;
pub mod elicitation;
pub mod fold;
pub mod model_limit;
pub mod model_provider;
pub mod named;
pub mod offer;
mod output;
pub mod profile;
mod profile_name;
mod sandbox;
mod session;
mod text;
mod turn;

pub use model_provider::ModelProvider;
pub use named::Secrets;
pub use offer::Offer;
pub use output::{OutputLimit, leave_out};
pub use profile::Profile;
pub use sandbox::{Sandbox, SandboxState, class_advice, reached_condition, says_limit};
pub use session::{Session, SessionState};
pub use text::{head, tail};
pub use turn::{PermissionState, Turn, TurnState};

/// The stages of a sandbox, in order.
pub const SANDBOX_STAGES: [&str; 5] =
    ["sandbox_allocated", "repo_prepared", "agent_installing", "agent_starting", "agent_ready"];
/// The stages of an agent session that are shown, in order.
pub const SESSION_STAGES: [&str; 2] = ["session_creating", "ready"];

/// Largest prompt in bytes.
pub const MAX_PROMPT: usize = 256 << 10;
/// Most agent sessions of one sandbox that are not closed.
pub const MAX_SESSIONS: i64 = 10;
/// Largest text of one transcript part in bytes.
pub const MAX_PART: usize = 4 << 10;
/// Largest text of one message of an agent in bytes; of a longer one the rest is left out, which a notice states.
pub const MAX_TEXT: usize = 1 << 20;
/// Encoded bytes of transcript parts that are recorded together: the event that reaches this is the last one. With
/// [`MAX_TEXT`] this bounds a revision, which a watch sends in one frame. All open tool calls together are smaller, so
/// that the updates of each are recorded once.
pub const MAX_STRETCH: usize = 512 << 10;
