//! The rpcs: one line each.

use std::sync::Arc;

use foundry_proto::provisioner::v1::*;

use crate::ops;
use crate::shared::Shared;

/// The service of sandboxes and agent sessions.
pub struct Rpc(pub Arc<Shared>);

foundry_service::rpcs! {
    impl provisioner_service_server::ProvisionerService for Rpc;
    calls {
        ensure_sandbox: EnsureSandboxRequest => EnsureSandboxResponse;
        get_sandbox: GetSandboxRequest => GetSandboxResponse;
        list_sandboxes: ListSandboxesRequest => ListSandboxesResponse;
        retry_sandbox: RetrySandboxRequest => RetrySandboxResponse;
        destroy_sandbox: DestroySandboxRequest => DestroySandboxResponse;
        list_providers: ListProvidersRequest => ListProvidersResponse;
        list_agents: ListAgentsRequest => ListAgentsResponse;
        create_agent_session: CreateAgentSessionRequest => CreateAgentSessionResponse;
        retry_agent_session: RetryAgentSessionRequest => RetryAgentSessionResponse;
        resume_agent_session: ResumeAgentSessionRequest => ResumeAgentSessionResponse;
        prompt_agent_session: PromptAgentSessionRequest => PromptAgentSessionResponse;
        cancel_prompt: CancelPromptRequest => CancelPromptResponse;
        respond_to_permission: RespondToPermissionRequest => RespondToPermissionResponse;
        respond_to_elicitation: RespondToElicitationRequest => RespondToElicitationResponse;
        set_agent_session_option: SetAgentSessionOptionRequest => SetAgentSessionOptionResponse;
        close_agent_session: CloseAgentSessionRequest => CloseAgentSessionResponse;
        release_agent_events: ReleaseAgentEventsRequest => ReleaseAgentEventsResponse;
        list_processes: ListProcessesRequest => ListProcessesResponse;
    }
    watches {
        watch_sandboxes: WatchSandboxesRequest => WatchSandboxesStream, "WatchSandboxes";
        watch_sandbox: WatchSandboxRequest => WatchSandboxStream, "WatchSandbox";
        watch_agent_session: WatchAgentSessionRequest => WatchAgentSessionStream;
    }
}

/// The service of stored files.
pub struct AttachmentRpc(pub Arc<Shared>);

foundry_service::rpcs! {
    impl attachment_service_server::AttachmentService for AttachmentRpc;
    calls {
        put_attachment: PutAttachmentRequest => PutAttachmentResponse;
        get_attachment: GetAttachmentRequest => GetAttachmentResponse;
        list_attachments: ListAttachmentsRequest => ListAttachmentsResponse;
        delete_attachment: DeleteAttachmentRequest => DeleteAttachmentResponse;
        hold_attachments: HoldAttachmentsRequest => HoldAttachmentsResponse;
    }
}

/// The service of model providers, agent profiles, usage and limits.
pub struct ProfileRpc(pub Arc<Shared>);

foundry_service::rpcs! {
    impl profile_service_server::ProfileService for ProfileRpc;
    calls {
        create_model_provider: CreateModelProviderRequest => CreateModelProviderResponse;
        get_model_provider: GetModelProviderRequest => GetModelProviderResponse;
        list_model_providers: ListModelProvidersRequest => ListModelProvidersResponse;
        update_model_provider: UpdateModelProviderRequest => UpdateModelProviderResponse;
        delete_model_provider: DeleteModelProviderRequest => DeleteModelProviderResponse;
        test_model_provider: TestModelProviderRequest => TestModelProviderResponse;
        create_agent_profile: CreateAgentProfileRequest => CreateAgentProfileResponse;
        get_agent_profile: GetAgentProfileRequest => GetAgentProfileResponse;
        list_agent_profiles: ListAgentProfilesRequest => ListAgentProfilesResponse;
        update_agent_profile: UpdateAgentProfileRequest => UpdateAgentProfileResponse;
        delete_agent_profile: DeleteAgentProfileRequest => DeleteAgentProfileResponse;
        list_model_usage: ListModelUsageRequest => ListModelUsageResponse;
        set_model_limit: SetModelLimitRequest => SetModelLimitResponse;
        list_model_limits: ListModelLimitsRequest => ListModelLimitsResponse;
    }
}

#[cfg(test)]
mod tests {
    use foundry_authn::Caller;
    use foundry_proto::provisioner::v1::provisioner_service_server::ProvisionerService as _;
    use foundry_proto::watch::v1::AuthorizeWatchRequest;
    use foundry_service::proofs::{answers_for_each_watch_that_users_may_open, asking, authorize};
    use foundry_testkit::called_by;
    use futures::StreamExt as _;
    use prost::Message;
    use tonic::Code;

    use super::*;
    use crate::testing::Fixture;

    fn of(method: &str, request: &impl Message) -> AuthorizeWatchRequest {
        asking(provisioner_service_server::SERVICE_NAME, method, request)
    }

    #[tokio::test]
    async fn answers_for_each_watch_that_users_may_open_and_for_no_other_method() {
        let f = Fixture::new().await;
        let rpc = Rpc(Arc::clone(&f.shared));
        let service = provisioner_service_server::SERVICE_NAME;
        answers_for_each_watch_that_users_may_open(&rpc, service, &f.stranger).await;
    }

    #[tokio::test]
    async fn a_service_opens_the_watch_by_the_request_that_a_member_was_told_and_a_stranger_is_not() {
        let f = Fixture::new().await;
        let (rpc, edge) = (Rpc(Arc::clone(&f.shared)), Caller::service("gateway"));
        let sandbox_id = f.ensure().await.sandbox_id.to_string();
        let one = of("WatchSandbox", &WatchSandboxRequest { sandbox_id, options: Some(Default::default()) });
        let stranger = authorize(&rpc, &f.stranger, one.clone()).await.unwrap_err();
        assert_eq!(stranger.code(), Code::NotFound);
        let answer = authorize(&rpc, &f.member, one).await.unwrap();
        assert_eq!(answer.organization_id, f.organization.as_str());
        let request = WatchSandboxRequest::decode(answer.request).unwrap();
        assert_eq!(request.options, None);
        let stream = rpc.watch_sandbox(called_by(&edge, request)).await;
        stream.unwrap().into_inner().next().await.unwrap().unwrap();

        let all = WatchSandboxesRequest { organization_id: f.organization.to_string(), options: None };
        let asked = of("WatchSandboxes", &all);
        let stranger = authorize(&rpc, &f.stranger, asked.clone()).await.unwrap_err();
        assert_eq!(stranger.code(), Code::NotFound);
        let whole = authorize(&rpc, &f.member, asked).await.unwrap();
        assert_ne!(whole.view, answer.view);
        let stream = rpc.watch_sandboxes(called_by(&edge, all)).await;
        stream.unwrap().into_inner().next().await.unwrap().unwrap();
    }
}
