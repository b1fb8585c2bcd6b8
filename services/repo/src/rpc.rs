//! The rpcs: one line each.

use std::sync::Arc;

use foundry_proto::repo::v1::*;
use tonic::Streaming;

use crate::context::Context;
use crate::ops;

/// The rpcs over a context.
pub struct Rpc(pub Arc<Context>);

foundry_service::rpcs! {
    impl repo_service_server::RepoService for Rpc;
    calls {
        create_repository: CreateRepositoryRequest => CreateRepositoryResponse;
        get_repository: GetRepositoryRequest => GetRepositoryResponse;
        list_repositories: ListRepositoriesRequest => ListRepositoriesResponse;
        delete_repository: DeleteRepositoryRequest => DeleteRepositoryResponse;
        list_branches: ListBranchesRequest => ListBranchesResponse;
        request_repository_refresh: RequestRepositoryRefreshRequest => RequestRepositoryRefreshResponse;
        get_clone_source: GetCloneSourceRequest => GetCloneSourceResponse;
        get_work: GetWorkRequest => GetWorkResponse;
        list_work_changes: ListWorkChangesRequest => ListWorkChangesResponse;
        get_work_patch: GetWorkPatchRequest => GetWorkPatchResponse;
        list_work_tree: ListWorkTreeRequest => ListWorkTreeResponse;
        get_work_file: GetWorkFileRequest => GetWorkFileResponse;
        import_work: Streaming<ImportWorkRequest> => ImportWorkResponse;
    }
    watches {
        watch_repositories: WatchRepositoriesRequest => WatchRepositoriesStream, "WatchRepositories";
        watch_repository: WatchRepositoryRequest => WatchRepositoryStream, "WatchRepository";
    }
}

#[cfg(test)]
mod tests {
    use foundry_authn::{Caller, MethodPolicies};
    use foundry_proto::options::v1::Access;
    use foundry_proto::repo::v1::repo_service_server::RepoService as _;
    use foundry_proto::watch::v1::watch_authorization_service_server::WatchAuthorizationService as _;
    use foundry_proto::watch::v1::{AuthorizeWatchRequest, AuthorizeWatchResponse, WatchOptions};
    use foundry_testkit::called_by;
    use futures::StreamExt as _;
    use prost::Message;
    use tonic::{Code, Response, Status};
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::testing::Fixture;

    fn of(method: &str, request: &impl Message) -> AuthorizeWatchRequest {
        let method = format!("/foundry.repo.v1.RepoService/{method}");
        AuthorizeWatchRequest { method, request: request.encode_to_vec().into() }
    }

    async fn authorize(
        rpc: &Rpc,
        caller: &Caller,
        asked: AuthorizeWatchRequest,
    ) -> Result<AuthorizeWatchResponse, Status> {
        rpc.authorize_watch(called_by(caller, asked)).await.map(Response::into_inner)
    }

    /// Whether a refusal is about the method rather than about its request.
    fn is_unknown(refusal: &Status) -> bool {
        let bad = refusal.get_details_bad_request();
        bad.is_some_and(|b| b.field_violations.iter().any(|v| v.field == "method"))
    }

    #[tokio::test]
    async fn answers_for_each_watch_that_users_may_open_and_for_no_other_method() {
        let f = Fixture::new().await;
        let rpc = Rpc(Arc::clone(&f.cx));
        for method in MethodPolicies::shared().unwrap().methods() {
            let policy = method.policy.clone().unwrap();
            let ours = method.path.starts_with("/foundry.repo.v1.");
            let expected = ours && method.server_streaming && policy.access != Access::Service as i32;
            let request = AuthorizeWatchRequest { method: method.path.clone(), ..Default::default() };
            let refusal = authorize(&rpc, &f.member, request).await.unwrap_err();
            assert_eq!(
                (refusal.code(), !is_unknown(&refusal)),
                (Code::InvalidArgument, expected),
                "{}",
                method.path
            );
            if expected {
                assert!(policy.services.contains(&"gateway".to_owned()), "{}", method.path);
            }
        }
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
