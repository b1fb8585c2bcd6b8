//! Maps the service's rpcs to ops, one line each.

use std::sync::Arc;

use foundry_authn::Caller;
use foundry_proto::repo::v1::*;
use tonic::{Request, Response, Status, Streaming};

use crate::context::Context;
use crate::ops;
use crate::serving::Answers;

/// Implements the generated server trait.
pub struct Rpc(pub Arc<Context>);

foundry_service::rpcs! {
    impl repo_service_server::RepoService for Rpc;
    calls {
        create_repository: CreateRepositoryRequest => CreateRepositoryResponse;
        get_repository: GetRepositoryRequest => GetRepositoryResponse;
        list_repositories: ListRepositoriesRequest => ListRepositoriesResponse;
        delete_repository: DeleteRepositoryRequest => DeleteRepositoryResponse;
        create_repository_credential: CreateRepositoryCredentialRequest => CreateRepositoryCredentialResponse;
        list_repository_credentials: ListRepositoryCredentialsRequest => ListRepositoryCredentialsResponse;
        delete_repository_credential: DeleteRepositoryCredentialRequest => DeleteRepositoryCredentialResponse;
        test_repository_credential: TestRepositoryCredentialRequest => TestRepositoryCredentialResponse;
        create_repository_webhook: CreateRepositoryWebhookRequest => CreateRepositoryWebhookResponse;
        list_repository_webhooks: ListRepositoryWebhooksRequest => ListRepositoryWebhooksResponse;
        delete_repository_webhook: DeleteRepositoryWebhookRequest => DeleteRepositoryWebhookResponse;
        receive_webhook: ReceiveWebhookRequest => ReceiveWebhookResponse;
        list_branches: ListBranchesRequest => ListBranchesResponse;
        get_repository_overview: GetRepositoryOverviewRequest => GetRepositoryOverviewResponse;
        request_repository_refresh: RequestRepositoryRefreshRequest => RequestRepositoryRefreshResponse;
        get_clone_source: GetCloneSourceRequest => GetCloneSourceResponse;
        check_branch_names: CheckBranchNamesRequest => CheckBranchNamesResponse;
        release_clone: ReleaseCloneRequest => ReleaseCloneResponse;
        get_work: GetWorkRequest => GetWorkResponse;
        list_work_changes: ListWorkChangesRequest => ListWorkChangesResponse;
        get_work_patch: GetWorkPatchRequest => GetWorkPatchResponse;
        list_work_tree: ListWorkTreeRequest => ListWorkTreeResponse;
        get_work_file: GetWorkFileRequest => GetWorkFileResponse;
        publish_branch: PublishBranchRequest => PublishBranchResponse;
        publish_pull_request: PublishPullRequestRequest => PublishPullRequestResponse;
        run_repository_action: RunRepositoryActionRequest => RunRepositoryActionResponse;
        undo_job: UndoJobRequest => UndoJobResponse;
        get_job: GetJobRequest => GetJobResponse;
        list_jobs: ListJobsRequest => ListJobsResponse;
        cancel_job: CancelJobRequest => CancelJobResponse;
        import_work: Streaming<ImportWorkRequest> => ImportWorkResponse;
    }
    watches {
        watch_repositories: WatchRepositoriesRequest => WatchRepositoriesStream, "WatchRepositories";
        watch_repository: WatchRepositoryRequest => WatchRepositoryStream, "WatchRepository";
        watch_jobs: WatchJobsRequest => WatchJobsStream, "WatchJobs";
    }
    also {
        type ServeFetchStream = Answers<ServeFetchResponse>;

        async fn serve_fetch(
            &self,
            request: Request<ServeFetchRequest>,
        ) -> Result<Response<Self::ServeFetchStream>, Status> {
            let caller = Caller::of(&request)?;
            foundry_service::answer(ops::serve_fetch::serve_fetch(&self.0, &caller, request.into_inner()).await)
        }

        type StreamWorkPatchStream = Answers<StreamWorkPatchResponse>;

        async fn stream_work_patch(
            &self,
            request: Request<StreamWorkPatchRequest>,
        ) -> Result<Response<Self::StreamWorkPatchStream>, Status> {
            let caller = Caller::of(&request)?;
            let request = request.into_inner();
            foundry_service::answer(ops::stream_work_patch::stream_work_patch(&self.0, &caller, request).await)
        }
    }
}

#[cfg(test)]
mod tests {
    use foundry_authn::Caller;
    use foundry_proto::repo::v1::repo_service_server::RepoService as _;
    use foundry_proto::watch::v1::{AuthorizeWatchRequest, WatchOptions};
    use foundry_service::proofs::{answers_for_each_watch_that_users_may_open, asking, authorize};
    use foundry_testkit::called_by;
    use futures::StreamExt as _;
    use prost::Message;
    use tonic::Code;

    use super::*;
    use crate::testing::Fixture;

    fn of(method: &str, request: &impl Message) -> AuthorizeWatchRequest {
        asking(repo_service_server::SERVICE_NAME, method, request)
    }

    #[tokio::test]
    async fn answers_for_each_watch_that_users_may_open_and_for_no_other_method() {
        let f = Fixture::new().await;
        let rpc = Rpc(Arc::clone(&f.cx));
        let service = repo_service_server::SERVICE_NAME;
        answers_for_each_watch_that_users_may_open(&rpc, service, &f.member).await;
    }

    #[tokio::test]
    async fn a_service_opens_the_watch_by_the_request_that_a_member_was_told_and_a_stranger_is_not() {
        let f = Fixture::new().await;
        let rpc = Rpc(Arc::clone(&f.cx));
        let id = f.mirrored().await.repository_id;
        let options = Some(WatchOptions { resume_token: "t".into(), ..WatchOptions::default() });
        let one =
            of("WatchRepository", &WatchRepositoryRequest { repository_id: id, options: options.clone() });
        let all = WatchRepositoriesRequest { organization_id: f.organization.to_string(), options };
        let all = of("WatchRepositories", &all);
        let edge = Caller::service("gateway");
        let mut views = Vec::new();
        for asked in [&one, &all] {
            let stranger = authorize(&rpc, &f.stranger, asked.clone()).await.unwrap_err();
            assert_eq!(stranger.code(), Code::NotFound);
            let answer = authorize(&rpc, &f.member, asked.clone()).await.unwrap();
            assert_eq!(answer.organization_id, f.organization.as_str());
            views.push(answer.view);
            let stream = if asked.method.ends_with("Repositories") {
                let wanted = WatchRepositoriesRequest::decode(answer.request).unwrap();
                assert_eq!(wanted.options, None);
                rpc.watch_repositories(called_by(&edge, wanted)).await
            } else {
                let wanted = WatchRepositoryRequest::decode(answer.request).unwrap();
                assert_eq!(wanted.options, None);
                rpc.watch_repository(called_by(&edge, wanted)).await
            };
            stream.unwrap().into_inner().next().await.unwrap().unwrap();
        }
        assert_ne!(views[0], views[1]);
        assert!(views.iter().all(|v| !v.is_empty()));
    }
}
