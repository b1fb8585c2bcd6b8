//! The state shared by the service's ops and flows.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foundry_authn::{Authenticator, Caller};
use foundry_core::{
    Env, Error, JobId, RepositoryCredentialId, RepositoryId, RepositoryWebhookId, Result, TaskId,
};
use foundry_forge::{ForgeHosts, Forges};
use foundry_git::{Git, Mirror, MirrorLimits, UrlPolicy};
use foundry_proto::common::v1::Role;
use foundry_store::{Snapshot, Store};
use foundry_watch_hub::Hub;
use tokio::sync::Semaphore;

use crate::app_tokens::AppTokens;
use crate::broker::Broker;
use crate::comparison::Comparisons;
use crate::domain::credential::Credential;
use crate::domain::finding::AllowedFinding;
use crate::domain::job::Job;
use crate::domain::repository::Repository;
use crate::domain::sync::Pace;
use crate::domain::webhook::{Refusals, Webhook};
use crate::domain::work::Work;
use crate::serving::Serving;
use crate::store::{credentials, jobs, repositories, webhooks, works};

/// Concurrent reads of mirrors on behalf of requests.
pub const CONCURRENT_READS: usize = 8;
/// How long one read of a mirror for a request may take.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// The state shared by the service's ops and flows.
pub struct Context {
    pub store: Store,
    /// Clock and random source.
    pub env: Env,
    /// Serves this service's watches.
    pub hub: Hub,
    /// The git program that was found at startup.
    pub git: Git,
    /// Decides which repository URLs are accepted.
    pub urls: UrlPolicy,
    /// Gives operations on remotes their credentials.
    pub broker: Broker,
    /// Which hosts are forges.
    pub forge_hosts: ForgeHosts,
    /// Tokens of GitHub Apps that are in use.
    pub app_tokens: AppTokens,
    /// Makes calls of their APIs.
    pub forges: Arc<Forges>,
    /// Directory of the mirrors.
    pub mirrors: PathBuf,
    /// Directory of received bundles that wait for their import.
    pub incoming: PathBuf,
    /// Largest bundle in bytes.
    pub max_bundle_bytes: u64,
    /// Checks of `git fsck` that the objects of single repositories may fail.
    pub allow_findings: Vec<AllowedFinding>,
    /// How long a sandbox waits until its base is fetched.
    pub base_wait: Duration,
    /// How long a fetch inside a sandbox waits for the remote to be read again.
    pub fetch_wait: Duration,
    /// How long an attempt of an action makes commits before it records what it has.
    pub plan_share: Duration,
    /// How often remotes are asked by themselves.
    pub pace: Pace,
    /// Permits for requests that read a mirror; each runs git once or twice, briefly.
    pub reads: Semaphore,
    /// The comparisons of two versions of a work.
    pub comparisons: Comparisons,
    /// Serves long answers from mirrors.
    pub serving: Serving,
    /// Refused deliveries of webhooks that are not recorded yet.
    pub refusals: Refusals,
    /// Checks whether a watcher may keep watching.
    pub authenticator: Arc<Authenticator>,
}

impl Context {
    /// Directory of a repository's mirror.
    pub fn mirror_path(&self, id: &RepositoryId) -> PathBuf {
        self.mirrors.join(format!("{id}.git"))
    }

    /// The mirror that holds a work, for the reads of a request, each bounded by [`READ_LIMIT`].
    ///
    /// # Errors
    /// When the mirror cannot be opened.
    pub async fn mirror_of(&self, work: &Work) -> Result<Mirror> {
        self.mirror(&work.repository_id).await
    }

    /// The mirror of a repository, as [`Context::mirror_of`].
    ///
    /// # Errors
    /// When the mirror cannot be opened.
    pub async fn mirror(&self, repository: &RepositoryId) -> Result<Mirror> {
        let limits = MirrorLimits { local_wall: READ_LIMIT, ..MirrorLimits::default() };
        Ok(Mirror::open(&self.git, self.mirror_path(repository), limits).await?)
    }

    /// The repository, for a caller with at least `role` in its organization.
    ///
    /// # Errors
    /// `NOT_FOUND` for absent and foreign ids alike, `PERMISSION_DENIED` for too small a role.
    pub async fn repository(&self, caller: &Caller, id: &str, role: Role) -> Result<Repository> {
        let id: RepositoryId = id.parse()?;
        let found = repositories::find(&self.store, &id).await?;
        let found = found.ok_or_else(|| Error::not_found("repository", id.as_str()))?;
        caller.require_for(&found.organization_id, role, "repository", id.as_str())?;
        Ok(found)
    }

    /// The job, for a caller with at least `role` in its organization.
    ///
    /// # Errors
    /// As [`Context::repository`].
    pub async fn job(&self, caller: &Caller, id: &str, role: Role) -> Result<Job> {
        let id: JobId = id.parse()?;
        let found = jobs::find(&self.store, &id).await?;
        let found = found.ok_or_else(|| Error::not_found("job", id.as_str()))?;
        caller.require_for(&found.organization_id, role, "job", id.as_str())?;
        Ok(found)
    }

    /// The credential, for a caller with at least `role` in its organization.
    ///
    /// # Errors
    /// As [`Context::repository`].
    pub async fn credential(&self, caller: &Caller, id: &str, role: Role) -> Result<Credential> {
        let id: RepositoryCredentialId = id.parse()?;
        let found = credentials::find(&self.store, &id).await?;
        let found = found.ok_or_else(|| Error::not_found("repository credential", id.as_str()))?;
        caller.require_for(&found.organization_id, role, "repository credential", id.as_str())?;
        Ok(found)
    }

    /// The webhook, for a caller with at least `role` in its organization.
    ///
    /// # Errors
    /// As [`Context::repository`].
    pub async fn webhook(&self, caller: &Caller, id: &str, role: Role) -> Result<Webhook> {
        let id: RepositoryWebhookId = id.parse()?;
        let found = webhooks::find(&self.store, &id).await?;
        let found = found.ok_or_else(|| Error::not_found("repository webhook", id.as_str()))?;
        caller.require_for(&found.organization_id, role, "repository webhook", id.as_str())?;
        Ok(found)
    }

    /// The work of a task, for a caller with at least `role` in its organization.
    ///
    /// # Errors
    /// As [`Context::repository`].
    pub async fn work(&self, caller: &Caller, task_id: &str, role: Role) -> Result<Work> {
        let id: TaskId = task_id.parse()?;
        found_work(caller, works::find(&self.store, &id).await?, role, &id)
    }

    /// The work of a task as [`Context::work`], and the snapshot in which it was read, for reads of the same version.
    ///
    /// # Errors
    /// As [`Context::repository`].
    pub async fn work_and_moment(
        &self,
        caller: &Caller,
        task_id: &str,
        role: Role,
    ) -> Result<(Work, Snapshot)> {
        let id: TaskId = task_id.parse()?;
        let moment = self.store.snapshot().await?;
        let work = found_work(caller, works::find(&moment, &id).await?, role, &id)?;
        Ok((work, moment))
    }
}

fn found_work(caller: &Caller, found: Option<Work>, role: Role, id: &TaskId) -> Result<Work> {
    let found = found.ok_or_else(|| Error::not_found("work of task", id.as_str()))?;
    caller.require_for(&found.organization_id, role, "work of task", id.as_str())?;
    Ok(found)
}
