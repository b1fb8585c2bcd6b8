//! Before a prompt, the agent's branch moves to what was published of its work. Otherwise the files that it had not committed
//! are untracked in the sandbox and committed at the remote, and git would refuse to merge what others push there. After a
//! restack of the published branch, the agent goes on from what that has become.

use std::time::Duration;

use foundry_git::{ADOPT_PUBLISHED_SCRIPT, AdoptPublished, BranchName, CommitId};
use foundry_proto::common::v1::Publication;
use foundry_proto::repo::v1::GetWorkRequest;
use foundry_runtime_client::ExecSpec;

use crate::domain::{Sandbox, Session, SessionState};
use crate::shared::{Shared, facts_of};
use crate::store::sessions;

/// How long a prompt waits to hear what is published.
const LOOK_UP: Duration = Duration::from_secs(1);
/// How long the script may run: it may fetch from `origin`, which waits for the remote for a while.
const SCRIPT: Duration = Duration::from_secs(20);

/// Moves the branch if nothing has changed since the published work was handed over and no other turn is running. A
/// prompt never fails for it: what cannot be moved stays as it is.
pub async fn published(shared: &Shared, sandbox: &Sandbox, session: &Session) {
    match adopt(shared, sandbox, session).await {
        Ok(None) => {}
        Ok(Some(said)) => {
            tracing::info!(sandbox = %sandbox.sandbox_id, said, "what was published of the work")
        }
        Err(e) => {
            tracing::warn!(sandbox = %sandbox.sandbox_id, error = %e, "what was published is not in the sandbox")
        }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What the script said; none if there was nothing to do.
async fn adopt(shared: &Shared, sandbox: &Sandbox, session: &Session) -> Result<Option<String>, Failed> {
    if sandbox.work_head.is_empty() || sandbox.work_head == sandbox.base_commit {
        return Ok(None);
    }
    let Some(publication) = publication(shared, sandbox).await else { return Ok(None) };
    if publication.work_commit != sandbox.work_head || publication.commit == publication.work_commit {
        return Ok(None);
    }
    let sessions = sessions::of_sandbox(&shared.store, &sandbox.sandbox_id).await?;
    let runs = |s: &Session| matches!(s.state, SessionState::Running | SessionState::Interrupted);
    if sessions.iter().any(|s| s.session_id != session.session_id && runs(s)) {
        return Ok(None);
    }
    // A hand-over reads the index.
    let Some(_turn) = shared.work_locks.free(&sandbox.sandbox_id) else { return Ok(None) };
    let parameters = AdoptPublished {
        tree: facts_of(sandbox)?.workspace.clone(),
        work: CommitId::parse(&publication.work_commit)?,
        published: CommitId::parse(&publication.commit)?,
        work_tree: publication.work_tree.clone(),
        branch: BranchName::parse(&publication.branch)?,
        time: sandbox.create_time,
    };
    let spec = ExecSpec {
        argv: ["sh", "-c", ADOPT_PUBLISHED_SCRIPT].map(str::to_owned).to_vec(),
        env: parameters.env().into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        limit: SCRIPT,
        max_output: 4 << 10,
        ..ExecSpec::default()
    };
    let output = shared.client(sandbox)?.exec(&spec).await?;
    Ok(Some(match output.exit_code {
        Some(0) => crate::domain::tail(output.stdout.trim(), 200).0.to_string(),
        Some(code) => format!("the script ended with {code}"),
        None => format!("the script took longer than {} s", SCRIPT.as_secs()),
    }))
}

/// Where the work was last published, if the repo service says so at once.
async fn publication(shared: &Shared, sandbox: &Sandbox) -> Option<Publication> {
    let request = GetWorkRequest { task_id: sandbox.task_id.clone() };
    let mut repo = shared.repo.clone();
    let answer = tokio::select! {
        biased;
        answer = repo.get_work(request) => answer.ok()?,
        () = shared.env.clock.sleep(LOOK_UP) => return None,
    };
    answer.into_inner().work?.publication
}
