//! Where a work tree comes from: the repo service's mirror, cloned by the git engine.

use std::path::PathBuf;
use std::time::Duration;

use foundry_flow::{Outcome, StageContext};
use foundry_git::{BranchName, CloneSpec, CommitId, GitError, GitErrorKind, Mirror, MirrorLimits};
use foundry_proto::repo::v1::{GetCloneSourceRequest, GetCloneSourceResponse};
use foundry_sandbox::{Class, GitSettings, ProviderError};

use super::super::StageError;
use crate::domain::Sandbox;
use crate::shared::Shared;

/// Pause before the repo service is asked again whether its mirror is ready.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Asks the repo service. Waits while it fetches the base, and for a mirror that is not ready yet, and reports that in
/// the status.
pub async fn source(
    shared: &Shared,
    ctx: &StageContext,
    sandbox: &Sandbox,
) -> Result<GetCloneSourceResponse, StageError> {
    let request = GetCloneSourceRequest {
        organization_id: sandbox.organization_id.to_string(),
        repository_id: sandbox.repository_id.clone(),
        base_branch: sandbox.base_branch.clone(),
        task_id: sandbox.task_id.to_string(),
        sandbox_id: sandbox.sandbox_id.to_string(),
        branch: sandbox.branch.clone(),
        branch_chosen: ctx.input::<super::Asked>().is_ok_and(|asked| asked.branch_chosen),
        existing_branch: sandbox.existing_branch,
    };
    let status = match shared.repo.clone().get_clone_source(request).await {
        Ok(response) => return Ok(response.into_inner()),
        Err(status) => status,
    };
    let reason = foundry_service::reason_of(&status);
    if reason == "BASE_BEING_FETCHED" {
        // Part of every start, so it is no reason to be shown.
        let pause = foundry_service::retry_after_of(&status).unwrap_or(ASK_AGAIN);
        let until = ctx.env().clock.now().plus(pause);
        let key = format!("repository/{}", sandbox.repository_id);
        return Err(Outcome::wait(key, status.message()).until(until).into());
    }
    if reason == "REPOSITORY_NOT_READY" {
        let until = ctx.env().clock.now().plus(ASK_AGAIN);
        let key = format!("repository/{}", sandbox.repository_id);
        return Err(Outcome::wait(key, status.message()).because(reason).until(until).into());
    }
    if reason == "BRANCH_NOT_FOUND" {
        let message = format!(
            "{}: make it at the remote, then retry; or create the task on another branch",
            status.message()
        );
        return Err(Outcome::fail(reason, message).into());
    }
    if reason == "BRANCH_CONFLICT" {
        let message = format!(
            "{}: create the task again with another branch, or retry when the remote has room for it",
            status.message()
        );
        return Err(Outcome::fail(reason, message).of_class("configuration").into());
    }
    Err(match status.code() {
        tonic::Code::NotFound | tonic::Code::FailedPrecondition | tonic::Code::InvalidArgument => {
            Outcome::fail(reason, status.message()).of_class("configuration").into()
        }
        _ => {
            let message = format!("the repo service: {}", status.message());
            Outcome::retry(reason, message).of_class("provider").into()
        }
    })
}

/// The settings for git in the sandbox. `origin` has the repository's own URL, which agents and relative submodules go by,
/// and stands for Foundry's address; it is another name of it where there is no such URL: a path on this host is of no use
/// in a sandbox and is not revealed to it.
pub fn git_settings(sandbox: &Sandbox, from: &GetCloneSourceResponse) -> GitSettings {
    let repository = format!("{}/{}", sandbox.organization_id, sandbox.repository_id);
    let origin = match from.url.starts_with("https://") {
        true => format!("{}/", from.url.trim_end_matches('/')),
        false => format!("foundry://{repository}/"),
    };
    let (name, email) = ("Foundry agent".to_owned(), foundry_git::AGENT_EMAIL.to_owned());
    GitSettings { name, email, origin, repository, lfs: has_git_lfs() }
}

/// Whether programs of this host, which sandboxes have too, include `git lfs`.
fn has_git_lfs() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("git-lfs").is_file())
}

/// Where the repository's remote has the files of LFS, which Foundry's address does not serve.
fn lfs_url(url: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    let own = url.strip_suffix(".git").unwrap_or(url);
    url.starts_with("https://").then(|| format!("{own}.git/info/lfs"))
}

/// Clones the mirror with the task's branch checked out, which continues the task's earlier work.
pub async fn clone_to(
    shared: &Shared,
    from: &GetCloneSourceResponse,
    branch: &str,
    settings: &GitSettings,
    destination: PathBuf,
) -> Result<(), ProviderError> {
    let git = shared.git().await.map_err(refused)?;
    let mirror = Mirror::open(git, &from.mirror_path, MirrorLimits::default()).await.map_err(refused)?;
    let branch = BranchName::parse(branch)
        .map_err(|e| ProviderError::new(Class::Configuration, "BRANCH_NAME_INVALID", e.to_string()))?;
    let start = if from.work_commit.is_empty() { &from.base_commit } else { &from.work_commit };
    let spec = CloneSpec {
        base: CommitId::parse(start).map_err(refused)?,
        branch,
        destination,
        origin: Some(settings.origin.clone()),
        lfs: lfs_url(&from.url),
        lfs_content: settings.lfs,
        submodules_of: CommitId::parse(&from.base_commit).ok(),
        identity: (settings.name.clone(), settings.email.clone()),
    };
    mirror.clone_into(&spec).await.map_err(refused)
}

fn refused(e: GitError) -> ProviderError {
    let class = match e.kind() {
        GitErrorKind::Timeout => Class::Timeout,
        GitErrorKind::TooLarge => Class::Capacity,
        GitErrorKind::Auth => Class::Credentials,
        GitErrorKind::Protocol
        | GitErrorKind::NotFound
        | GitErrorKind::Invalid
        | GitErrorKind::Certificate => Class::Configuration,
        GitErrorKind::Corrupt
        | GitErrorKind::Partial
        | GitErrorKind::Unreachable
        | GitErrorKind::Busy
        | GitErrorKind::Host
        | GitErrorKind::Failed => Class::Provider,
    };
    let error = ProviderError::new(class, e.reason(), e.message().to_owned());
    let retryable = e.retryable() || e.kind() == GitErrorKind::Failed;
    if retryable { error.retryable().caused_by(e) } else { error.caused_by(e) }
}
