//! The state shared by the service's ops, flows and consumers.

use std::sync::Arc;
use std::time::Duration;

use foundry_authn::{Authenticator, Caller};
use foundry_core::{Code, Env, Error, MessageId, OrganizationId, RepositoryId, Result, SessionId, TaskId};
use foundry_flow::Starter;
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::attachment_service_client::AttachmentServiceClient;
use foundry_proto::provisioner::v1::provisioner_service_client::ProvisionerServiceClient;
use foundry_proto::repo::v1::repo_service_client::RepoServiceClient;
use foundry_proto::repo::v1::{GetRepositoryRequest, Repository};
use foundry_server::Upstream;
use foundry_store::Store;
use foundry_watch_hub::Hub;

use crate::consume::FollowedOrganizations;
use crate::domain::derive::{Aggregate, Replica};
use crate::stalls::Stalls;
use crate::store::branch_names::BranchNames;
use crate::store::positions::{self, RECEIVED_TOPIC};
use crate::store::{aggregate, messages, sessions, upstream};
use crate::writers::Writers;

/// How long a handler waits for a read from another service's store.
const READ_LIMIT: Duration = Duration::from_secs(3);
/// How often a wait checks again, in case a hint was lost.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The state shared by the service's ops, flows and consumers.
pub struct Context {
    pub store: Store,
    /// Clock and random source.
    pub env: Env,
    /// Serves this service's watches.
    pub hub: Hub,
    /// Checks whether a watcher may keep watching.
    pub authenticator: Arc<Authenticator>,
    /// The provisioner, called as this service.
    pub provisioner: ProvisionerServiceClient<Upstream>,
    /// The provisioner's store of attachments, called as this service.
    pub attachments: AttachmentServiceClient<Upstream>,
    /// The repo service, called as this service.
    pub repo: RepoServiceClient<Upstream>,
    /// The organizations whose updates are consumed from other services.
    pub followed: FollowedOrganizations,
    /// One lock per task, so that its writers in this process take turns.
    pub writers: Writers,
    /// Sessions whose agent events cannot be taken in.
    pub stalls: Stalls,
    /// How long the transcripts of a killed task are kept.
    pub transcript_retention: Duration,
    /// Sandbox provider of tasks that name none.
    pub default_provider: String,
    /// Names of the agents that a task may ask for.
    pub agents: Vec<String>,
    /// Names of the sandbox providers that a task may ask for.
    pub providers: Vec<String>,
    /// Starts flows with the commit that creates them.
    pub starter: Starter,
}

impl Context {
    /// Loads a task aggregate for a caller with at least `role` in its organization, also a damaged one: commands
    /// refuse it, all but those that end the task.
    ///
    /// # Errors
    /// `NOT_FOUND` for absent and foreign ids alike, `PERMISSION_DENIED` for too small a role.
    pub async fn task(&self, caller: &Caller, id: &str, role: Role) -> Result<Box<Aggregate>> {
        let task: TaskId = id.parse()?;
        self.found(caller, aggregate::load_damaged_too(&self.store, &task).await?, role, "task", id)
    }

    /// Loads the task of a session; otherwise as [`Context::task`].
    ///
    /// # Errors
    /// As [`Context::task`].
    pub async fn task_of_session(&self, caller: &Caller, id: &str, role: Role) -> Result<Box<Aggregate>> {
        let session: SessionId = id.parse()?;
        let found = match sessions::task_of(&self.store, &session).await? {
            Some(task) => aggregate::load_damaged_too(&self.store, &task).await?,
            None => None,
        };
        self.found(caller, found, role, "session", id)
    }

    /// Loads the task of a message; otherwise as [`Context::task`].
    ///
    /// # Errors
    /// As [`Context::task`].
    pub async fn task_of_message(&self, caller: &Caller, id: &str, role: Role) -> Result<Box<Aggregate>> {
        let message: MessageId = id.parse()?;
        let found = match messages::task_of(&self.store, &message).await? {
            Some(task) => aggregate::load_damaged_too(&self.store, &task).await?,
            None => None,
        };
        self.found(caller, found, role, "message", id)
    }

    /// Returns what was found if the caller may see it. Absent and foreign ids get the same error.
    ///
    /// # Errors
    /// As [`Context::task`].
    pub fn found(
        &self,
        caller: &Caller,
        found: Option<Box<Aggregate>>,
        role: Role,
        kind: &str,
        id: &str,
    ) -> Result<Box<Aggregate>> {
        let found = found.ok_or_else(|| Error::not_found(kind, id))?;
        caller.require_for(&found.task.organization_id, role, kind, id)?;
        Ok(found)
    }

    /// A repository of any organization: the copy kept here, or by one read of the repo service where there is none,
    /// as of a repository that was just registered or of an organization whose watch has just begun.
    ///
    /// # Errors
    /// `UNAVAILABLE` `REPO_UNAVAILABLE` when it is unknown and cannot be looked up now.
    pub async fn repository(&self, id: &RepositoryId) -> Result<Option<Repository>> {
        let copy = upstream::repository(&self.store, id).await?.map(|copy| (copy, None));
        Ok(self.copied_or_asked(id, copy).await?.map(|(repository, _)| repository))
    }

    /// The same with the names of its branches, as far as they are known here.
    ///
    /// # Errors
    /// As [`Context::repository`].
    pub async fn repository_and_branches(
        &self,
        id: &RepositoryId,
    ) -> Result<Option<(Repository, Option<BranchNames>)>> {
        let copy = upstream::repository_and_branches(&self.store, id).await?;
        self.copied_or_asked(id, copy).await
    }

    async fn copied_or_asked(
        &self,
        id: &RepositoryId,
        copy: Option<(Replica<Repository>, Option<BranchNames>)>,
    ) -> Result<Option<(Repository, Option<BranchNames>)>> {
        if let Some((copy, names)) = copy.filter(|(copy, _)| !copy.is_damaged()) {
            return Ok((!upstream::was_removed(&copy)).then_some((copy.entity, names)));
        }
        let request = GetRepositoryRequest { repository_id: id.to_string() };
        // Boxed, as the future of a call is large and this one is seldom needed.
        match Box::pin(self.read_repo(self.repo.clone().get_repository(request))).await {
            Ok(answer) => Ok(answer.repository.map(|repository| (repository, None))),
            Err(e) if e.code == tonic::Code::NotFound => Ok(None),
            Err(e) => Err(e.of_repo()),
        }
    }

    /// Follows an organization and waits until its repositories were received once, so that an answer does not depend
    /// on who asked before.
    ///
    /// # Errors
    /// `UNAVAILABLE` `REPO_UNAVAILABLE` when they do not arrive in time.
    pub async fn follow(&self, organization: &OrganizationId) -> Result<()> {
        self.followed.ensure(organization);
        if self.followed.has_received(organization) {
            return Ok(());
        }
        let received = async {
            let mut hint = self.store.subscribe_topic(RECEIVED_TOPIC);
            while !positions::has_repositories(&self.store, organization).await? {
                // The hint may be lost.
                tokio::select! {
                    _ = hint.changed() => {}
                    () = self.env.clock.sleep(LOOK_AGAIN) => {}
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            received = received => received.inspect(|()| self.followed.received(organization)),
            () = self.env.clock.sleep(READ_LIMIT) => {
                Err(UpstreamError::from(tonic::Status::deadline_exceeded("no answer in time")).of_repo())
            }
        }
    }

    /// A read from the repo service's store, limited to [`READ_LIMIT`].
    ///
    /// # Errors
    /// `UNAVAILABLE` `REPO_UNAVAILABLE` when it does not answer in time; otherwise the repo service's own error.
    pub async fn read_repo<T>(
        &self,
        read: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, UpstreamError> {
        tokio::select! {
            biased;
            answer = read => answer.map(tonic::Response::into_inner).map_err(UpstreamError::from),
            () = self.env.clock.sleep(READ_LIMIT) => {
                Err(UpstreamError::from(tonic::Status::deadline_exceeded("no answer in time")))
            }
        }
    }
}

/// The error for a path that the work of a task does not have. `kind` is what was looked for, such as `file`.
pub fn no_such_path(task: &str, kind: &str, path: &str) -> Error {
    let text = match path {
        "" => format!("no work of task {task} is stored"),
        path => format!("the work of task {task} has no {kind} {path:?}"),
    };
    Error::new(Code::NotFound, "PATH_NOT_FOUND", text)
        .next_action(format!("`foundry task files {task}` lists the existing paths"))
}

/// Why another service refused or did not answer.
#[derive(Clone, Debug)]
pub struct UpstreamError {
    pub code: tonic::Code,
    /// The stable reason, in UPPER_SNAKE_CASE.
    pub reason: String,
    /// Human-readable, as the other service wrote it.
    pub message: String,
}

impl From<tonic::Status> for UpstreamError {
    fn from(status: tonic::Status) -> Self {
        Self {
            code: status.code(),
            reason: foundry_service::reason_of(&status),
            message: status.message().to_owned(),
        }
    }
}

impl UpstreamError {
    /// Whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        use tonic::Code;
        !matches!(
            self.code,
            Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented
        )
    }

    /// The error for a caller whose read the repo service refused or did not answer.
    pub fn of_repo(self) -> Error {
        if self.is_transient() {
            Error::unavailable(
                "REPO_UNAVAILABLE",
                "the repo service does not respond",
                Duration::from_secs(1),
            )
            .next_action("try again; the rest of the task can still be read")
            .with("upstream_reason", self.reason)
        } else {
            Error::new(self.code, "REPO_REFUSED", self.message).with("upstream_reason", self.reason)
        }
    }

    /// The repo service's error about the changes of a task, for the caller who asked for them here.
    pub fn of_changes(self, task: &str) -> Error {
        match self.reason.as_str() {
            "WORK_VERSION_GONE" => Error::precondition("WORK_VERSION_GONE", task, self.message)
                .next_action("compare with a newer version, or with the base"),
            "WORK_CHANGED" => Error::precondition("WORK_CHANGED", task, self.message)
                .next_action("reload the list of changes"),
            _ => self.of_repo(),
        }
    }

    /// The repo service's error about a path of a task, for the caller who asked for it here. `kind` is what was looked
    /// for, such as `file`.
    pub fn of_path(self, task: &str, kind: &str, path: &str) -> Error {
        match (self.code, self.reason.as_str()) {
            (tonic::Code::NotFound, _) => no_such_path(task, kind, path),
            (_, "PATH_WRONG_KIND") => Error::new(self.code, "PATH_WRONG_KIND", self.message)
                .next_action("check the kind of the entry"),
            (_, "INVALID_FIELD") => Error::invalid_field("path", "is not a path from a listing"),
            _ => self.of_repo(),
        }
    }
}
