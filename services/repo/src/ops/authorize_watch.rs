//! Says whether a caller may see a watch of this service, and by which request the edge subscribes.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::repo::v1::{WatchRepositoriesRequest, WatchRepositoryRequest};
use foundry_proto::watch::v1::{AuthorizeWatchRequest, AuthorizeWatchResponse};
use foundry_watch::{asked, unknown_watch};

use super::{watch_repositories, watch_repository};
use crate::context::Context;

/// Decides as the watch itself would.
///
/// # Errors
/// `INVALID_ARGUMENT` for a method that is no watch of this service or a request that is not its own;
/// those of the watch.
pub async fn authorize_watch(
    cx: &Context,
    caller: &Caller,
    request: AuthorizeWatchRequest,
) -> Result<AuthorizeWatchResponse> {
    match request.method.as_str() {
        "/foundry.repo.v1.RepoService/WatchRepositories" => {
            let wanted = asked(&request.request, |r: &mut WatchRepositoriesRequest| r.options.take())?;
            Ok(watch_repositories::grant(caller, &wanted)?.answer(&wanted))
        }
        "/foundry.repo.v1.RepoService/WatchRepository" => {
            let wanted = asked(&request.request, |r: &mut WatchRepositoryRequest| r.options.take())?;
            Ok(watch_repository::grant(cx, caller, &wanted).await?.answer(&wanted))
        }
        _ => Err(unknown_watch()),
    }
}

#[cfg(test)]
mod tests {
    use foundry_authn::MethodPolicies;
    use foundry_core::Code;
    use foundry_proto::options::v1::Access;
    use foundry_proto::watch::v1::WatchOptions;
    use futures::StreamExt as _;
    use prost::Message as _;

    use super::*;
    use crate::testing::Fixture;

    fn of(method: &str, request: &impl prost::Message) -> AuthorizeWatchRequest {
        let method = format!("/foundry.repo.v1.RepoService/{method}");
        AuthorizeWatchRequest { method, request: request.encode_to_vec().into() }
    }

    #[tokio::test]
    async fn answers_for_each_watch_that_users_may_open_and_for_no_other_method() {
        let f = Fixture::new().await;
        for method in MethodPolicies::shared().unwrap().methods() {
            let policy = method.policy.clone().unwrap();
            let ours = method.path.starts_with("/foundry.repo.v1.");
            let expected = ours && method.server_streaming && policy.access != Access::Service as i32;
            let request = AuthorizeWatchRequest { method: method.path.clone(), ..Default::default() };
            let e = authorize_watch(&f.cx, &f.member, request).await.unwrap_err();
            let known = e.violations().first().is_none_or(|v| v.field != "method");
            assert_eq!((e.code(), known), (Code::InvalidArgument, expected), "{}", method.path);
            if expected {
                assert!(policy.services.contains(&"gateway".to_owned()), "{}", method.path);
            }
        }
    }

    #[tokio::test]
    async fn a_service_opens_the_watch_by_the_request_that_a_member_was_told_and_a_stranger_is_not() {
        let f = Fixture::new().await;
        let id = f.mirrored().await.repository_id;
        let options = Some(WatchOptions { resume_token: "t".into(), ..WatchOptions::default() });
        let one =
            of("WatchRepository", &WatchRepositoryRequest { repository_id: id, options: options.clone() });
        let all = WatchRepositoriesRequest { organization_id: f.organization.to_string(), options };
        let all = of("WatchRepositories", &all);
        let mut views = Vec::new();
        for asked in [&one, &all] {
            let stranger = authorize_watch(&f.cx, &f.stranger, asked.clone()).await.unwrap_err();
            assert_eq!(stranger.code(), Code::NotFound);
            let answer = authorize_watch(&f.cx, &f.member, asked.clone()).await.unwrap();
            assert_eq!(answer.organization_id, f.organization.as_str());
            views.push(answer.view);
            let edge = Caller::service("gateway");
            if asked.method.ends_with("Repositories") {
                let wanted = WatchRepositoriesRequest::decode(answer.request).unwrap();
                assert_eq!(wanted.options, None);
                let mut stream = watch_repositories::watch_repositories(&f.cx, &edge, wanted).unwrap();
                stream.next().await.unwrap().unwrap();
            } else {
                let wanted = WatchRepositoryRequest::decode(answer.request).unwrap();
                assert_eq!(wanted.options, None);
                let mut stream = watch_repository::watch_repository(&f.cx, &edge, wanted).await.unwrap();
                stream.next().await.unwrap().unwrap();
            }
        }
        assert_ne!(views[0], views[1]);
        assert!(views.iter().all(|v| !v.is_empty()));
    }
}
