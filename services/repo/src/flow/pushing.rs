//! What publications and actions on branches have in common: how their stages are repeated, what a failed attempt ends with, how
//! a push is recorded, and how a push of unknown end is asked for later.

use std::time::Duration;

use foundry_core::{Env, Error, FlowId, Result};
use foundry_flow::{Flow, FlowStatus, NewFlow, Outcome, Retry};
use foundry_git::{GitError, GitErrorKind, Refusal};
use foundry_proto::repo::v1::JobBranch;
use foundry_service::{audit_as, with_detail};
use foundry_store::WriteSet;

use crate::broker::Remote;
use crate::context::Context;
use crate::domain::job::Job;

/// A remote that hangs for ever ends a job after five attempts, each as long as its stage may take.
pub const RETRY: Retry =
    Retry { initial: Duration::from_secs(2), factor: 2, max_delay: Duration::from_secs(60), budget: 5 };
/// What has been pushed is recorded.
pub const RECORD: Retry =
    Retry { initial: Duration::from_millis(250), factor: 2, max_delay: Duration::from_secs(60), budget: 30 };
/// A remote that was away for days is asked once it is back.
pub const ASK: Retry =
    Retry { initial: Duration::from_secs(10), factor: 3, max_delay: Duration::from_secs(3600), budget: 170 };
/// A push that was cut off may still arrive while a hook of the remote runs: so many times it is asked.
pub const ASKED: u32 = 4;
/// Most characters of the remote's words in a condition.
const MAX_SAID: usize = 300;

/// Why an attempt has no result.
#[derive(Debug)]
pub enum Failed {
    Git(GitError),
    Other(Error),
    /// It is not to be tried again.
    Refused(&'static str, String),
}

impl From<GitError> for Failed {
    fn from(e: GitError) -> Self {
        Self::Git(e)
    }
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        Self::Other(e)
    }
}

/// A failure that is not to be tried again.
pub fn refused(reason: &'static str, text: impl Into<String>) -> Failed {
    Failed::Refused(reason, text.into())
}

/// How a stage ends that is cancelled with the process.
pub fn stopped() -> Outcome {
    Outcome::retry("STOPPED", "the job was stopped")
}

/// An attempt that failed, with what it has shown of the credential; `ws` has what is known of the branches.
///
/// # Errors
/// When the database fails.
pub async fn failed(cx: &Context, remote: &Remote, e: Failed, mut ws: WriteSet) -> Result<Outcome> {
    let e = match e {
        Failed::Refused(reason, text) => return Ok(Outcome::fail(reason, text).recording(ws)),
        Failed::Other(e) => return Ok(Outcome::retry(e.reason(), e.message())),
        Failed::Git(e) => e,
    };
    tracing::warn!(reason = e.reason(), stderr = e.stderr(), "a job on branches failed");
    // What git could not say counts as passing: the remote is asked before the next attempt.
    if e.retryable() || e.kind() == GitErrorKind::Failed {
        return Ok(Outcome::retry(e.reason(), e.message()));
    }
    remote.learned(cx, &mut ws, Err(&e)).await?;
    let (reason, text) = remote.why(&e);
    Ok(Outcome::fail(reason, text).recording(ws))
}

/// That the remote has refused a branch, in its own words.
pub fn declined(name: &str, refusal: &Refusal) -> String {
    format!("the remote refused {name}: {}", said(refusal))
}

/// The remote's words, for one line.
pub fn said(refusal: &Refusal) -> String {
    refusal.words.replace('\n', "; ").chars().take(MAX_SAID).collect()
}

/// Adds the record of a branch that has arrived.
pub fn audited(ws: &mut WriteSet, user: &str, job: &Job, branch: &JobBranch) {
    let record = audit_as(user, &job.organization_id, "branch.push", job.job_id.as_str(), "");
    let detail = serde_json::json!({
        "branch": branch.branch, "old": branch.old_commit, "new": branch.new_commit,
    });
    ws.audit(with_detail(record, detail));
}

/// Adds the flow that finds out whether the push of a job has arrived that has ended during it.
pub fn settle_later(ws: &mut WriteSet, env: &Env, flow: &'static Flow<Context>, ended: &FlowStatus) {
    let new = NewFlow::new(flow, FlowId::generate(env), &ended.subject_id, &ended.subject_id)
        .on_behalf_of(&ended.user_id)
        .traced(&ended.traceparent);
    let new = match &ended.organization_id {
        Some(organization) => new.organization(organization),
        None => new,
    };
    foundry_flow::enqueue(ws, new);
}
