//! Says whether a caller may see a watch of this service, and by which request the edge subscribes.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::task::v1::{
    WatchOrganizationRequest, WatchSessionRequest, WatchTaskRequest, WatchUserStateRequest,
};
use foundry_proto::watch::v1::{AuthorizeWatchRequest, AuthorizeWatchResponse};
use foundry_watch::{asked, unknown_watch};

use super::{watch_organization, watch_session, watch_task, watch_user_state};
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
        "/foundry.task.v1.TaskService/WatchTask" => {
            let wanted = asked(&request.request, |r: &mut WatchTaskRequest| r.options.take())?;
            Ok(watch_task::grant(cx, caller, &wanted).await?.answer(&wanted))
        }
        "/foundry.task.v1.TaskService/WatchOrganization" => {
            let wanted = asked(&request.request, |r: &mut WatchOrganizationRequest| r.options.take())?;
            Ok(watch_organization::grant(cx, caller, &wanted)?.answer(&wanted))
        }
        "/foundry.task.v1.TaskService/WatchSession" => {
            let wanted = asked(&request.request, |r: &mut WatchSessionRequest| r.options.take())?;
            Ok(watch_session::grant(cx, caller, &wanted).await?.answer(&wanted))
        }
        "/foundry.task.v1.TaskService/WatchUserState" => {
            let mut wanted = asked(&request.request, |r: &mut WatchUserStateRequest| r.options.take())?;
            Ok(watch_user_state::grant(caller, &mut wanted)?.answer(&wanted))
        }
        _ => Err(unknown_watch()),
    }
}

#[cfg(test)]
mod tests {
    use foundry_authn::MethodPolicies;
    use foundry_core::Code;
    use foundry_proto::common::v1::Role;
    use foundry_proto::options::v1::Access;
    use futures::StreamExt as _;
    use prost::Message;

    use super::*;
    use crate::testing::World;

    fn of(method: &str, request: &impl Message) -> AuthorizeWatchRequest {
        let method = format!("/foundry.task.v1.TaskService/{method}");
        AuthorizeWatchRequest { method, request: request.encode_to_vec().into() }
    }

    #[tokio::test]
    async fn answers_for_each_watch_that_users_may_open_and_for_no_other_method() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Viewer).await, world.start().await);
        for method in MethodPolicies::shared().unwrap().methods() {
            let policy = method.policy.clone().unwrap();
            let ours = method.path.starts_with("/foundry.task.v1.");
            let expected = ours && method.server_streaming && policy.access != Access::Service as i32;
            let request = AuthorizeWatchRequest { method: method.path.clone(), ..Default::default() };
            let e = authorize_watch(&running.cx, &tenant.caller, request).await.unwrap_err();
            let known = e.violations().first().is_none_or(|v| v.field != "method");
            assert_eq!((e.code(), known), (Code::InvalidArgument, expected), "{}", method.path);
            if expected {
                assert!(policy.services.contains(&"gateway".to_owned()), "{}", method.path);
            }
        }
        running.stop().await;
    }

    #[tokio::test]
    async fn a_service_opens_the_watch_by_the_request_that_a_viewer_was_told_and_a_stranger_is_not() {
        let world = World::new().await;
        let (tenant, stranger) = (world.tenant(Role::Member).await, world.tenant(Role::Owner).await);
        let running = world.start().await;
        let created = running.create(&tenant, "x").await;
        let task_id = created.task.unwrap().task_id;
        let session_id = created.session.unwrap().session_id;
        let organization_id = tenant.organization.to_string();
        let asked = [
            of("WatchTask", &WatchTaskRequest { task_id, options: Some(Default::default()) }),
            of("WatchOrganization", &WatchOrganizationRequest { organization_id, options: None }),
            of("WatchSession", &WatchSessionRequest { session_id: session_id.clone(), ..Default::default() }),
            of("WatchSession", &WatchSessionRequest { session_id, after_offset: 7, options: None }),
        ];
        let mut views = std::collections::BTreeSet::new();
        let (cx, edge) = (&running.cx, Caller::service("gateway"));
        for asked in asked {
            let refused = authorize_watch(cx, &stranger.caller, asked.clone()).await.unwrap_err();
            assert_eq!(refused.code(), Code::NotFound);
            let answer = authorize_watch(cx, &tenant.caller, asked.clone()).await.unwrap();
            assert_eq!(answer.organization_id, tenant.organization.as_str());
            views.insert(answer.view);
            match asked.method.rsplit('/').next() {
                Some("WatchTask") => {
                    let wanted = WatchTaskRequest::decode(answer.request).unwrap();
                    assert_eq!(wanted.options, None);
                    let mut stream = watch_task::watch_task(cx, &edge, wanted).await.unwrap();
                    stream.next().await.unwrap().unwrap();
                }
                Some("WatchOrganization") => {
                    let wanted = WatchOrganizationRequest::decode(answer.request).unwrap();
                    let mut stream = watch_organization::watch_organization(cx, &edge, wanted).unwrap();
                    stream.next().await.unwrap().unwrap();
                }
                _ => {
                    let wanted = WatchSessionRequest::decode(answer.request).unwrap();
                    let mut stream = watch_session::watch_session(cx, &edge, wanted).await.unwrap();
                    stream.next().await.unwrap().unwrap();
                }
            }
        }
        assert_eq!(views.len(), 4, "each shows something else");
        running.stop().await;
    }
}
