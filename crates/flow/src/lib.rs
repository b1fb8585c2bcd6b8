//! Durable staged flows and jobs in the service's own database.
//!
//! A flow is a table of stages ([`Flow`]), each a row with its function ([`Stage`]), and a projection to the service's
//! rows ([`Projection`]), joined by a [`Binding`]. A handler adds [`enqueue`] to its write set; the [`Engine`] claims
//! due flows under a lease with an epoch, runs stage after stage, and commits each stage's result together with the
//! flow's next step. When a process dies, its rows show where to resume.

mod attempt;
mod binding;
mod commands;
mod condition;
mod context;
mod drive;
mod engine;
mod hooks;
mod inner;
mod lease;
mod loops;
mod outcome;
mod plan;
mod progress;
pub mod proofs;
mod row;
mod spec;
mod starter;
mod statements;
mod status;
mod sweep;

pub use binding::{Binding, Derived, Found, Projection};
pub use commands::{NOT_RETRYABLE, NewFlow, enqueue, hasten, request_cancel, retry, signal, signal_by_name};
pub use condition::{condition, current_stage, pending_stages};
pub use context::{StageContext, Stop};
pub use engine::{
    Drained, Engine, OwnedDataDirectory, find, is_held, list_by_subject, newest_signal, unfinished,
};
pub use hooks::{FailPoints, Hooks, NoHooks, Point, Verdict};
pub use inner::Options;
pub use outcome::Outcome;
pub use row::{ENCODED, MIGRATIONS};
pub use spec::{Flow, Retry, Run, Stage, stage};
pub use starter::Starter;
pub use status::{FlowStatus, Status, Transition, Woken};
