//! The rpcs: one line each.

use std::sync::Arc;

use foundry_authn::Caller;
use foundry_proto::repo::v1::repo_service_server::RepoService;
use foundry_proto::repo::v1::*;
use foundry_proto::watch::v1::watch_authorization_service_server::WatchAuthorizationService;
use foundry_proto::watch::v1::{AuthorizeWatchRequest, AuthorizeWatchResponse};
use foundry_watch::FrameStream;
use tonic::{Request, Response, Status, Streaming};

use crate::context::Context;
use crate::ops;

/// The rpcs over a context.
pub struct Rpc(pub Arc<Context>);

macro_rules! unary {
    ($self:ident, $request:ident, $op:ident) => {{
        let caller = Caller::of(&$request)?;
        Ok(Response::new(ops::$op::$op(&$self.0, &caller, $request.into_inner()).await?))
    }};
}

#[tonic::async_trait]
impl RepoService for Rpc {
    type WatchRepositoriesStream = FrameStream;
    type WatchRepositoryStream = FrameStream;

    async fn create_repository(
        &self,
        request: Request<CreateRepositoryRequest>,
    ) -> Result<Response<CreateRepositoryResponse>, Status> {
        unary!(self, request, create_repository)
    }

    async fn get_repository(
        &self,
        request: Request<GetRepositoryRequest>,
    ) -> Result<Response<GetRepositoryResponse>, Status> {
        unary!(self, request, get_repository)
    }

    async fn list_repositories(
        &self,
        request: Request<ListRepositoriesRequest>,
    ) -> Result<Response<ListRepositoriesResponse>, Status> {
        unary!(self, request, list_repositories)
    }

    async fn delete_repository(
        &self,
        request: Request<DeleteRepositoryRequest>,
    ) -> Result<Response<DeleteRepositoryResponse>, Status> {
        unary!(self, request, delete_repository)
    }

    async fn list_branches(
        &self,
        request: Request<ListBranchesRequest>,
    ) -> Result<Response<ListBranchesResponse>, Status> {
        unary!(self, request, list_branches)
    }

    async fn request_repository_refresh(
        &self,
        request: Request<RequestRepositoryRefreshRequest>,
    ) -> Result<Response<RequestRepositoryRefreshResponse>, Status> {
        unary!(self, request, request_repository_refresh)
    }

    async fn get_clone_source(
        &self,
        request: Request<GetCloneSourceRequest>,
    ) -> Result<Response<GetCloneSourceResponse>, Status> {
        unary!(self, request, get_clone_source)
    }

    async fn get_work(&self, request: Request<GetWorkRequest>) -> Result<Response<GetWorkResponse>, Status> {
        unary!(self, request, get_work)
    }

    async fn list_work_changes(
        &self,
        request: Request<ListWorkChangesRequest>,
    ) -> Result<Response<ListWorkChangesResponse>, Status> {
        unary!(self, request, list_work_changes)
    }

    async fn get_work_patch(
        &self,
        request: Request<GetWorkPatchRequest>,
    ) -> Result<Response<GetWorkPatchResponse>, Status> {
        unary!(self, request, get_work_patch)
    }

    async fn list_work_tree(
        &self,
        request: Request<ListWorkTreeRequest>,
    ) -> Result<Response<ListWorkTreeResponse>, Status> {
        unary!(self, request, list_work_tree)
    }

    async fn get_work_file(
        &self,
        request: Request<GetWorkFileRequest>,
    ) -> Result<Response<GetWorkFileResponse>, Status> {
        unary!(self, request, get_work_file)
    }

    async fn import_work(
        &self,
        request: Request<Streaming<ImportWorkRequest>>,
    ) -> Result<Response<ImportWorkResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(ops::import_work::import_work(&self.0, &caller, request.into_inner()).await?))
    }

    async fn watch_repositories(
        &self,
        request: Request<WatchRepositoriesRequest>,
    ) -> Result<Response<FrameStream>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(ops::watch_repositories::watch_repositories(
            &self.0,
            &caller,
            request.into_inner(),
        )?))
    }

    async fn watch_repository(
        &self,
        request: Request<WatchRepositoryRequest>,
    ) -> Result<Response<FrameStream>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(
            ops::watch_repository::watch_repository(&self.0, &caller, request.into_inner()).await?,
        ))
    }
}

#[tonic::async_trait]
impl WatchAuthorizationService for Rpc {
    async fn authorize_watch(
        &self,
        request: Request<AuthorizeWatchRequest>,
    ) -> Result<Response<AuthorizeWatchResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = ops::authorize_watch::authorize_watch(&self.0, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }
}
