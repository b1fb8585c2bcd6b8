//! A fake repo service with repositories and works that the test sets.

use std::path::Path;

use foundry_core::{Code, Env, Error, OrganizationId, RepositoryId};
use foundry_proto::common::v1::{Condition, Publication, PullRequest};
use foundry_proto::repo::v1::repo_service_server::RepoService;
use foundry_proto::repo::v1::repository_item::Item;
use foundry_proto::repo::v1::*;
use foundry_watch_hub::FrameStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tonic::{Request, Response, Status, Streaming};

use super::upstream::Items;

type Answer<T> = Result<Response<T>, Status>;
type Empty<T> = futures::stream::Empty<Result<T, Status>>;

#[derive(Clone)]
pub struct FakeRepo {
    items: Items,
    known: Arc<Mutex<Vec<Repository>>>,
    pub down: Arc<AtomicBool>,
    /// No call is answered.
    pub hangs: Arc<AtomicBool>,
    /// The branches of the remote.
    pub branches: Arc<Mutex<Vec<String>>>,
    /// Answers with the patches of files, by path; without one, a file has the patch `diff` in version 1.
    pub patches: Arc<Mutex<std::collections::BTreeMap<String, GetWorkPatchResponse>>>,
    /// The comparisons of which patches were asked for: the version before, and whether whole.
    pub asked: Arc<Mutex<Vec<(i64, bool)>>>,
    /// The jobs that were requested, by the ids of their requests.
    pub jobs: Arc<Mutex<Vec<(String, Job)>>>,
}

impl FakeRepo {
    pub async fn new(env: &Env, dir: &Path) -> Self {
        Self {
            items: Items::new(env, dir, "repo").await,
            known: Arc::default(),
            down: Arc::default(),
            hangs: Arc::default(),
            branches: Arc::default(),
            patches: Arc::default(),
            asked: Arc::default(),
            jobs: Arc::default(),
        }
    }

    pub async fn add(&self, organization: &OrganizationId, id: &RepositoryId) {
        let repository = Repository {
            repository_id: id.to_string(),
            organization_id: organization.to_string(),
            name: "widgets".into(),
            default_branch: "main".into(),
            state: RepositoryState::Ready.into(),
            sync_time: Some(foundry_core::Timestamp::from_micros(1).to_proto()),
            ..Repository::default()
        };
        self.known.lock().unwrap().push(repository.clone());
        let item = RepositoryItem { item: Some(Item::Repository(repository)) };
        self.items.put(organization.as_str(), &[(format!("repository/{id}"), 0, item)]).await;
    }

    /// Lists these branches from now on; `synced`: the repository is as of this time.
    pub async fn set_branches(
        &self,
        organization: &OrganizationId,
        id: &RepositoryId,
        names: &[&str],
        synced: i64,
    ) {
        *self.branches.lock().unwrap() = names.iter().map(|name| (*name).to_owned()).collect();
        self.synced(organization, id, synced, synced).await;
    }

    /// Synchronized at a time, with the branches of a time.
    pub async fn synced(&self, organization: &OrganizationId, id: &RepositoryId, synced: i64, branches: i64) {
        let known =
            self.known.lock().unwrap().iter().find(|r| r.repository_id == id.as_str()).cloned().unwrap();
        let time = |micros| Some(foundry_core::Timestamp::from_micros(micros).to_proto());
        let (sync_time, branches_time) = (time(synced), time(branches));
        let repository = Repository { sync_time, branches_time, ..known };
        let item = RepositoryItem { item: Some(Item::Repository(repository)) };
        self.items.put(organization.as_str(), &[(format!("repository/{id}"), 0, item)]).await;
    }

    pub async fn import(&self, organization: &OrganizationId, task_id: &str, version: i64) {
        let work = Work {
            task_id: task_id.into(),
            organization_id: organization.to_string(),
            version,
            files_changed: 2,
            additions: 3,
            state: WorkState::Ready.into(),
            ..Work::default()
        };
        let item = RepositoryItem { item: Some(Item::Work(work)) };
        self.items.put(organization.as_str(), &[(format!("work/{task_id}"), 0, item)]).await;
    }

    /// As [`import`](Self::import), for a work that is published with this pull request.
    pub async fn publish(&self, organization: &OrganizationId, task_id: &str, version: i64, p: PullRequest) {
        let publication = Publication {
            branch: "fix/x".into(),
            commit: p.commit.clone(),
            pull_request: Some(p),
            ..Publication::default()
        };
        let work = Work {
            task_id: task_id.into(),
            organization_id: organization.to_string(),
            version,
            state: WorkState::Ready.into(),
            publication: Some(publication),
            ..Work::default()
        };
        let item = RepositoryItem { item: Some(Item::Work(work)) };
        self.items.put(organization.as_str(), &[(format!("work/{task_id}"), 0, item)]).await;
    }

    /// Gives a file this content and patch in a version.
    pub fn set_patch(&self, path: &str, content: &str, patch: &str, version: i64) {
        let change = FileChange { path: path.into(), content: content.into(), ..FileChange::default() };
        let patch = patch.as_bytes().to_vec().into();
        let answer = GetWorkPatchResponse { change: Some(change), patch, version };
        self.patches.lock().unwrap().insert(path.into(), answer);
    }

    /// The jobs that have not ended do so, for a reason if they fail.
    pub fn end_jobs(&self, state: JobState, reason: &str) {
        for (_, job) in self.jobs.lock().unwrap().iter_mut().filter(|(_, j)| j.state() == JobState::Queued) {
            job.set_state(state);
            let message = format!("as the job says: {reason}");
            job.condition = Some(Condition { reason: reason.into(), message, ..Condition::default() });
        }
    }

    /// Deletes a repository.
    pub async fn remove(&self, organization: &OrganizationId, id: &RepositoryId) {
        self.known.lock().unwrap().retain(|r| r.repository_id != id.as_str());
        self.items.delete(organization.as_str(), &format!("repository/{id}")).await;
    }

    async fn up(&self) -> Result<(), Status> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.down.load(Ordering::SeqCst) { Err(Status::unavailable("down")) } else { Ok(()) }
    }
}

macro_rules! not_needed {
    ($($name:ident: $request:ty => $response:ty;)*) => {$(
        fn $name<'a, 'b>(
            &'a self,
            _: Request<$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Answer<$response>> + Send + 'b>>
        where 'a: 'b, Self: 'b {
            Box::pin(async { Err(Status::unimplemented("not needed by the tests")) })
        }
    )*};
}
pub(crate) use not_needed;

#[async_trait::async_trait]
impl RepoService for FakeRepo {
    type WatchRepositoriesStream = FrameStream;
    type WatchRepositoryStream = FrameStream;
    type WatchJobsStream = FrameStream;
    type ServeFetchStream = Empty<ServeFetchResponse>;
    type StreamWorkPatchStream = Empty<StreamWorkPatchResponse>;

    async fn get_repository(&self, request: Request<GetRepositoryRequest>) -> Answer<GetRepositoryResponse> {
        self.up().await?;
        let id = request.into_inner().repository_id;
        let known = self.known.lock().unwrap();
        let found = known.iter().find(|r| r.repository_id == id).cloned();
        found
            .map(|r| Response::new(GetRepositoryResponse { repository: Some(r) }))
            .ok_or_else(|| Status::not_found("no such repository"))
    }

    async fn list_branches(&self, _: Request<ListBranchesRequest>) -> Answer<ListBranchesResponse> {
        self.up().await?;
        let branches = self.branches.lock().unwrap();
        let branch = |name: &String| Branch { name: name.clone(), ..Branch::default() };
        let branches = branches.iter().map(branch).collect();
        Ok(Response::new(ListBranchesResponse { branches, ..ListBranchesResponse::default() }))
    }

    async fn watch_repositories(&self, request: Request<WatchRepositoriesRequest>) -> Answer<FrameStream> {
        self.up().await?;
        let request = request.into_inner();
        Ok(Response::new(self.items.watch(&request.organization_id, 0, request.options)))
    }

    async fn list_work_changes(&self, _: Request<ListWorkChangesRequest>) -> Answer<ListWorkChangesResponse> {
        self.up().await?;
        let change =
            FileChange { path: "a.txt".into(), kind: FileChangeKind::Added.into(), ..FileChange::default() };
        Ok(Response::new(ListWorkChangesResponse {
            changes: vec![change],
            ..ListWorkChangesResponse::default()
        }))
    }

    async fn get_work_patch(&self, request: Request<GetWorkPatchRequest>) -> Answer<GetWorkPatchResponse> {
        self.up().await?;
        let GetWorkPatchRequest { path, since_version, whole, .. } = request.into_inner();
        self.asked.lock().unwrap().push((since_version, whole));
        if path.starts_with("unchanged") {
            return Err(Error::not_found("changed file", &path).into());
        }
        if let Some(answer) = self.patches.lock().unwrap().get(&path) {
            return Ok(Response::new(answer.clone()));
        }
        let change = FileChange { path, ..FileChange::default() };
        Ok(Response::new(GetWorkPatchResponse {
            change: Some(change),
            patch: b"diff".to_vec().into(),
            version: 1,
        }))
    }

    async fn list_work_tree(&self, request: Request<ListWorkTreeRequest>) -> Answer<ListWorkTreeResponse> {
        self.up().await?;
        let request = request.into_inner();
        if request.path == "absent" {
            return Err(Error::not_found("path", &request.path).into());
        }
        let path = format!("{}a.txt", request.path);
        let entry = TreeEntry { path, kind: TreeEntryKind::Symlink.into(), size: 5, executable: false };
        Ok(Response::new(ListWorkTreeResponse {
            entries: vec![entry],
            next_page_token: "next".into(),
            version: 3,
            ..ListWorkTreeResponse::default()
        }))
    }

    async fn get_work_file(&self, request: Request<GetWorkFileRequest>) -> Answer<GetWorkFileResponse> {
        self.up().await?;
        let path = request.into_inner().path;
        if path == "dir" {
            let e = Error::new(Code::InvalidArgument, "PATH_WRONG_KIND", "dir is a directory");
            return Err(e.into());
        }
        let kind = TreeEntryKind::File.into();
        Ok(Response::new(GetWorkFileResponse {
            entry: Some(TreeEntry { path, kind, size: 5, executable: true }),
            content: b"hello".to_vec().into(),
            version: 3,
            ..GetWorkFileResponse::default()
        }))
    }

    async fn run_repository_action(
        &self,
        request: Request<RunRepositoryActionRequest>,
    ) -> Answer<RunRepositoryActionResponse> {
        self.up().await?;
        let request = request.into_inner();
        let mut jobs = self.jobs.lock().unwrap();
        let before = jobs.iter().find(|(id, _)| *id == request.request_id).map(|(_, job)| job.clone());
        let job = before.unwrap_or_else(|| {
            let job = Job {
                job_id: format!("job_{}", jobs.len()),
                repository_id: request.repository_id.clone(),
                kind: request.kind,
                state: JobState::Queued.into(),
                branches: vec![JobBranch { branch: request.branch.clone(), ..JobBranch::default() }],
                ..Job::default()
            };
            jobs.push((request.request_id.clone(), job.clone()));
            job
        });
        Ok(Response::new(RunRepositoryActionResponse { job: Some(job), rev: 1 }))
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Answer<GetJobResponse> {
        self.up().await?;
        let id = request.into_inner().job_id;
        let found = self.jobs.lock().unwrap().iter().find(|(_, j)| j.job_id == id).map(|(_, j)| j.clone());
        let found = found.ok_or_else(|| Status::not_found("no such job"))?;
        Ok(Response::new(GetJobResponse { job: Some(found) }))
    }

    not_needed! {
        create_repository: CreateRepositoryRequest => CreateRepositoryResponse;
        list_repositories: ListRepositoriesRequest => ListRepositoriesResponse;
        delete_repository: DeleteRepositoryRequest => DeleteRepositoryResponse;
        check_branch_names: CheckBranchNamesRequest => CheckBranchNamesResponse;
        create_repository_credential: CreateRepositoryCredentialRequest => CreateRepositoryCredentialResponse;
        list_repository_credentials: ListRepositoryCredentialsRequest => ListRepositoryCredentialsResponse;
        delete_repository_credential: DeleteRepositoryCredentialRequest => DeleteRepositoryCredentialResponse;
        test_repository_credential: TestRepositoryCredentialRequest => TestRepositoryCredentialResponse;
        create_repository_webhook: CreateRepositoryWebhookRequest => CreateRepositoryWebhookResponse;
        list_repository_webhooks: ListRepositoryWebhooksRequest => ListRepositoryWebhooksResponse;
        delete_repository_webhook: DeleteRepositoryWebhookRequest => DeleteRepositoryWebhookResponse;
        receive_webhook: ReceiveWebhookRequest => ReceiveWebhookResponse;
        get_repository_overview: GetRepositoryOverviewRequest => GetRepositoryOverviewResponse;
        request_repository_refresh: RequestRepositoryRefreshRequest => RequestRepositoryRefreshResponse;
        watch_repository: WatchRepositoryRequest => FrameStream;
        get_clone_source: GetCloneSourceRequest => GetCloneSourceResponse;
        release_clone: ReleaseCloneRequest => ReleaseCloneResponse;
        import_work: Streaming<ImportWorkRequest> => ImportWorkResponse;
        get_work: GetWorkRequest => GetWorkResponse;
        publish_branch: PublishBranchRequest => PublishBranchResponse;
        undo_job: UndoJobRequest => UndoJobResponse;
        publish_pull_request: PublishPullRequestRequest => PublishPullRequestResponse;
        list_jobs: ListJobsRequest => ListJobsResponse;
        cancel_job: CancelJobRequest => CancelJobResponse;
        watch_jobs: WatchJobsRequest => FrameStream;
        serve_fetch: ServeFetchRequest => Empty<ServeFetchResponse>;
        stream_work_patch: StreamWorkPatchRequest => Empty<StreamWorkPatchResponse>;
    }
}
