//! A fake repo service: a mirror to clone, and a place for bundles.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::Error;
use foundry_proto::Frame;
use foundry_proto::common::v1::{Base, Condition, Publication};
use foundry_proto::repo::v1 as p;
use foundry_proto::repo::v1::import_work_request::Part;
use foundry_proto::repo::v1::repo_service_server::{RepoService, RepoServiceServer};
use foundry_server::Upstream;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

/// Runs git and returns what it prints.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// A bundle that was handed over.
#[derive(Clone, Debug)]
pub struct Imported {
    pub header: p::ImportWorkHeader,
    pub bundle: Vec<u8>,
}

/// The fake; cloning shares it.
#[derive(Clone)]
pub struct FakeRepo {
    pub dir: PathBuf,
    pub base: String,
    pub ready: Arc<Mutex<bool>>,
    /// How often it answers that the base is being fetched, and what it says of the base then.
    pub fetching: Arc<Mutex<u32>>,
    pub notices: Arc<Mutex<Vec<Condition>>>,
    pub imported: Arc<Mutex<Vec<Imported>>>,
    /// Ids of the sandboxes whose clones were asked for, and of those whose clones were released.
    pub clones: Arc<Mutex<(Vec<String>, Vec<String>)>>,
    pub down: Arc<Mutex<bool>>,
    /// Whether it says that it has refused the newest work.
    pub refused: Arc<Mutex<bool>>,
    /// Where it says that the work is published.
    pub publication: Arc<Mutex<Option<Publication>>>,
}

impl FakeRepo {
    /// With a mirror of one commit.
    pub fn new(dir: &Path) -> Self {
        let origin = dir.join("origin");
        std::fs::create_dir(&origin).unwrap();
        git(&origin, &["init", "-q"]);
        std::fs::write(origin.join("README.md"), "hello\n").unwrap();
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "-q", "-m", "first"]);
        let base = git(&origin, &["rev-parse", "HEAD"]);
        git(dir, &["clone", "-q", "--mirror", "origin", "mirror.git"]);
        Self {
            dir: dir.to_owned(),
            base,
            ready: Arc::new(Mutex::new(true)),
            fetching: Arc::default(),
            notices: Arc::default(),
            imported: Arc::default(),
            clones: Arc::default(),
            down: Arc::default(),
            refused: Arc::default(),
            publication: Arc::default(),
        }
    }

    pub fn upstream(&self) -> Upstream {
        Upstream::from_service(RepoServiceServer::new(self.clone()))
    }

    pub fn imports(&self) -> Vec<Imported> {
        self.imported.lock().unwrap().clone()
    }

    /// The content of a file in the newest handed-over work.
    pub fn content(&self, file: &str) -> Option<String> {
        let newest = self.imports().pop()?;
        if newest.bundle.is_empty() {
            return None;
        }
        let bundle = self.dir.join("work.bundle");
        std::fs::write(&bundle, &newest.bundle).unwrap();
        let tree = self.dir.join("origin");
        git(&tree, &["fetch", "-q", bundle.to_str().unwrap(), "+refs/foundry/work/*:refs/foundry/work/*"]);
        let out = Command::new("git")
            .args(["show", &format!("{}:{file}", newest.header.head_commit)])
            .current_dir(&tree)
            .output()
            .unwrap();
        out.status.success().then(|| String::from_utf8(out.stdout).unwrap())
    }
}

fn absent<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this fake"))
}

#[tonic::async_trait]
impl RepoService for FakeRepo {
    async fn get_clone_source(
        &self,
        request: Request<p::GetCloneSourceRequest>,
    ) -> Result<Response<p::GetCloneSourceResponse>, Status> {
        if !*self.ready.lock().unwrap() {
            return Err(Error::precondition("REPOSITORY_NOT_READY", "repository", "no mirror yet").into());
        }
        let left = self.fetching.lock().unwrap().checked_sub(1);
        if let Some(left) = left {
            *self.fetching.lock().unwrap() = left;
            let error = Error::precondition("BASE_BEING_FETCHED", "repository", "it is being fetched");
            return Err(error.retry_after(Duration::from_millis(40)).into());
        }
        let request = request.into_inner();
        self.clones.lock().unwrap().0.push(request.sandbox_id);
        let branch = request.base_branch;
        if !branch.is_empty() && branch != "main" {
            return Err(Error::precondition("BRANCH_NOT_FOUND", "branch", "no such branch").into());
        }
        Ok(Response::new(p::GetCloneSourceResponse {
            mirror_path: self.dir.join("mirror.git").display().to_string(),
            base_branch: "main".into(),
            base_commit: self.base.clone(),
            url: String::new(),
            work_commit: String::new(),
            base: Some(Base { notices: self.notices.lock().unwrap().clone(), ..Base::default() }),
        }))
    }

    async fn create_repository_credential(
        &self,
        _: Request<p::CreateRepositoryCredentialRequest>,
    ) -> Result<Response<p::CreateRepositoryCredentialResponse>, Status> {
        absent()
    }

    async fn list_repository_credentials(
        &self,
        _: Request<p::ListRepositoryCredentialsRequest>,
    ) -> Result<Response<p::ListRepositoryCredentialsResponse>, Status> {
        absent()
    }

    async fn delete_repository_credential(
        &self,
        _: Request<p::DeleteRepositoryCredentialRequest>,
    ) -> Result<Response<p::DeleteRepositoryCredentialResponse>, Status> {
        absent()
    }

    async fn create_repository_webhook(
        &self,
        _: Request<p::CreateRepositoryWebhookRequest>,
    ) -> Result<Response<p::CreateRepositoryWebhookResponse>, Status> {
        absent()
    }

    async fn list_repository_webhooks(
        &self,
        _: Request<p::ListRepositoryWebhooksRequest>,
    ) -> Result<Response<p::ListRepositoryWebhooksResponse>, Status> {
        absent()
    }

    async fn delete_repository_webhook(
        &self,
        _: Request<p::DeleteRepositoryWebhookRequest>,
    ) -> Result<Response<p::DeleteRepositoryWebhookResponse>, Status> {
        absent()
    }

    async fn receive_webhook(
        &self,
        _: Request<p::ReceiveWebhookRequest>,
    ) -> Result<Response<p::ReceiveWebhookResponse>, Status> {
        absent()
    }

    async fn test_repository_credential(
        &self,
        _: Request<p::TestRepositoryCredentialRequest>,
    ) -> Result<Response<p::TestRepositoryCredentialResponse>, Status> {
        absent()
    }

    async fn check_branch_names(
        &self,
        _: Request<p::CheckBranchNamesRequest>,
    ) -> Result<Response<p::CheckBranchNamesResponse>, Status> {
        absent()
    }

    async fn release_clone(
        &self,
        request: Request<p::ReleaseCloneRequest>,
    ) -> Result<Response<p::ReleaseCloneResponse>, Status> {
        if *self.down.lock().unwrap() {
            return Err(Status::unavailable("down"));
        }
        self.clones.lock().unwrap().1.push(request.into_inner().sandbox_id);
        Ok(Response::new(p::ReleaseCloneResponse {}))
    }

    async fn import_work(
        &self,
        request: Request<Streaming<p::ImportWorkRequest>>,
    ) -> Result<Response<p::ImportWorkResponse>, Status> {
        let mut parts = request.into_inner();
        let (mut header, mut bundle) = (None, Vec::new());
        while let Some(message) = parts.message().await? {
            match message.part {
                Some(Part::Header(h)) => header = Some(h),
                Some(Part::Chunk(c)) => bundle.extend_from_slice(&c),
                None => {}
            }
        }
        let header = header.ok_or_else(|| Status::invalid_argument("no header"))?;
        assert_eq!(header.bundle_size, i64::try_from(bundle.len()).unwrap());
        self.imported.lock().unwrap().push(Imported { header, bundle });
        Ok(Response::new(p::ImportWorkResponse::default()))
    }

    async fn get_work_file(
        &self,
        _: Request<p::GetWorkFileRequest>,
    ) -> Result<Response<p::GetWorkFileResponse>, Status> {
        absent()
    }

    type ServeFetchStream = BoxStream<'static, Result<p::ServeFetchResponse, Status>>;
    type StreamWorkPatchStream = BoxStream<'static, Result<p::StreamWorkPatchResponse, Status>>;

    async fn serve_fetch(
        &self,
        _: Request<p::ServeFetchRequest>,
    ) -> Result<Response<Self::ServeFetchStream>, Status> {
        absent()
    }

    async fn stream_work_patch(
        &self,
        _: Request<p::StreamWorkPatchRequest>,
    ) -> Result<Response<Self::StreamWorkPatchStream>, Status> {
        absent()
    }

    type WatchRepositoriesStream = BoxStream<'static, Result<Frame, Status>>;
    type WatchRepositoryStream = BoxStream<'static, Result<Frame, Status>>;
    type WatchJobsStream = BoxStream<'static, Result<Frame, Status>>;

    async fn watch_repositories(
        &self,
        _: Request<p::WatchRepositoriesRequest>,
    ) -> Result<Response<Self::WatchRepositoriesStream>, Status> {
        absent()
    }

    async fn watch_repository(
        &self,
        _: Request<p::WatchRepositoryRequest>,
    ) -> Result<Response<Self::WatchRepositoryStream>, Status> {
        absent()
    }

    async fn publish_branch(
        &self,
        _: Request<p::PublishBranchRequest>,
    ) -> Result<Response<p::PublishBranchResponse>, Status> {
        absent()
    }

    async fn run_repository_action(
        &self,
        _: Request<p::RunRepositoryActionRequest>,
    ) -> Result<Response<p::RunRepositoryActionResponse>, Status> {
        absent()
    }

    async fn undo_job(&self, _: Request<p::UndoJobRequest>) -> Result<Response<p::UndoJobResponse>, Status> {
        absent()
    }

    async fn publish_pull_request(
        &self,
        _: Request<p::PublishPullRequestRequest>,
    ) -> Result<Response<p::PublishPullRequestResponse>, Status> {
        absent()
    }

    async fn get_job(&self, _: Request<p::GetJobRequest>) -> Result<Response<p::GetJobResponse>, Status> {
        absent()
    }

    async fn list_jobs(
        &self,
        _: Request<p::ListJobsRequest>,
    ) -> Result<Response<p::ListJobsResponse>, Status> {
        absent()
    }

    async fn cancel_job(
        &self,
        _: Request<p::CancelJobRequest>,
    ) -> Result<Response<p::CancelJobResponse>, Status> {
        absent()
    }

    async fn watch_jobs(
        &self,
        _: Request<p::WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        absent()
    }

    async fn create_repository(
        &self,
        _: Request<p::CreateRepositoryRequest>,
    ) -> Result<Response<p::CreateRepositoryResponse>, Status> {
        absent()
    }

    async fn get_repository(
        &self,
        _: Request<p::GetRepositoryRequest>,
    ) -> Result<Response<p::GetRepositoryResponse>, Status> {
        absent()
    }

    async fn list_repositories(
        &self,
        _: Request<p::ListRepositoriesRequest>,
    ) -> Result<Response<p::ListRepositoriesResponse>, Status> {
        absent()
    }

    async fn delete_repository(
        &self,
        _: Request<p::DeleteRepositoryRequest>,
    ) -> Result<Response<p::DeleteRepositoryResponse>, Status> {
        absent()
    }

    async fn list_branches(
        &self,
        _: Request<p::ListBranchesRequest>,
    ) -> Result<Response<p::ListBranchesResponse>, Status> {
        absent()
    }

    async fn get_repository_overview(
        &self,
        _: Request<p::GetRepositoryOverviewRequest>,
    ) -> Result<Response<p::GetRepositoryOverviewResponse>, Status> {
        absent()
    }

    async fn request_repository_refresh(
        &self,
        _: Request<p::RequestRepositoryRefreshRequest>,
    ) -> Result<Response<p::RequestRepositoryRefreshResponse>, Status> {
        absent()
    }

    async fn get_work(&self, _: Request<p::GetWorkRequest>) -> Result<Response<p::GetWorkResponse>, Status> {
        let state = if *self.refused.lock().unwrap() { p::WorkState::Error } else { p::WorkState::Ready };
        let publication = self.publication.lock().unwrap().clone();
        let work = p::Work { state: state.into(), publication, ..p::Work::default() };
        Ok(Response::new(p::GetWorkResponse { work: Some(work) }))
    }

    async fn list_work_changes(
        &self,
        _: Request<p::ListWorkChangesRequest>,
    ) -> Result<Response<p::ListWorkChangesResponse>, Status> {
        absent()
    }

    async fn get_work_patch(
        &self,
        _: Request<p::GetWorkPatchRequest>,
    ) -> Result<Response<p::GetWorkPatchResponse>, Status> {
        absent()
    }

    async fn list_work_tree(
        &self,
        _: Request<p::ListWorkTreeRequest>,
    ) -> Result<Response<p::ListWorkTreeResponse>, Status> {
        absent()
    }
}
