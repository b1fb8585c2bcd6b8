//! AuthorizeWatch: whether a caller may see a watch of this service, and by which request the edge subscribes.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::provisioner::v1::{WatchSandboxRequest, WatchSandboxesRequest};
use foundry_proto::watch::v1::{AuthorizeWatchRequest, AuthorizeWatchResponse};
use foundry_watch::{asked, unknown_watch};

use super::watch;
use crate::shared::Shared;

/// Decides as the watch itself would; the watch of agent sessions is for services only.
pub async fn authorize_watch(
    shared: &Shared,
    caller: &Caller,
    request: AuthorizeWatchRequest,
) -> Result<AuthorizeWatchResponse, Error> {
    match request.method.as_str() {
        "/foundry.provisioner.v1.ProvisionerService/WatchSandboxes" => {
            let wanted = asked(&request.request, |r: &mut WatchSandboxesRequest| r.options.take())?;
            Ok(watch::grant_sandboxes(caller, &wanted)?.answer(&wanted))
        }
        "/foundry.provisioner.v1.ProvisionerService/WatchSandbox" => {
            let wanted = asked(&request.request, |r: &mut WatchSandboxRequest| r.options.take())?;
            Ok(watch::grant_sandbox(shared, caller, &wanted).await?.answer(&wanted))
        }
        _ => Err(unknown_watch()),
    }
}

#[cfg(test)]
mod tests {
    use foundry_authn::MethodPolicies;
    use foundry_core::Code;
    use foundry_proto::options::v1::Access;
    use foundry_proto::provisioner::v1 as p;
    use futures::StreamExt as _;
    use prost::Message as _;

    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn answers_for_each_watch_that_users_may_open_and_for_no_other_method() {
        let f = Fixture::new().await;
        for method in MethodPolicies::shared().unwrap().methods() {
            let policy = method.policy.clone().unwrap();
            let ours = method.path.starts_with("/foundry.provisioner.v1.");
            let expected = ours && method.server_streaming && policy.access != Access::Service as i32;
            let request = AuthorizeWatchRequest { method: method.path.clone(), ..Default::default() };
            let e = authorize_watch(&f.shared, &f.stranger, request).await.unwrap_err();
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
        let sandbox_id = f.ensure().await.sandbox_id.to_string();
        let wanted = p::WatchSandboxRequest { sandbox_id, options: Some(Default::default()) };
        let asked = AuthorizeWatchRequest {
            method: "/foundry.provisioner.v1.ProvisionerService/WatchSandbox".into(),
            request: wanted.encode_to_vec().into(),
        };
        let stranger = authorize_watch(&f.shared, &f.stranger, asked.clone()).await.unwrap_err();
        assert_eq!(stranger.code(), Code::NotFound);
        let answer = authorize_watch(&f.shared, &f.member, asked).await.unwrap();
        assert_eq!(answer.organization_id, f.organization.as_str());
        let told = p::WatchSandboxRequest::decode(answer.request).unwrap();
        assert_eq!(told.options, None);
        let mut stream = watch::watch_sandbox(&f.shared, &Caller::service("gateway"), told).await.unwrap();
        stream.next().await.unwrap().unwrap();
        let all = p::WatchSandboxesRequest { organization_id: f.organization.to_string(), options: None };
        let asked = AuthorizeWatchRequest {
            method: "/foundry.provisioner.v1.ProvisionerService/WatchSandboxes".into(),
            request: all.encode_to_vec().into(),
        };
        let stranger = authorize_watch(&f.shared, &f.stranger, asked.clone()).await.unwrap_err();
        assert_eq!(stranger.code(), Code::NotFound);
        let whole = authorize_watch(&f.shared, &f.member, asked).await.unwrap();
        assert_ne!(whole.view, answer.view);
        let mut stream = watch::watch_sandboxes(&f.shared, &Caller::service("gateway"), all).unwrap();
        stream.next().await.unwrap().unwrap();
    }
}
