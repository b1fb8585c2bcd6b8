//! The gRPC face of model providers and agent profiles: one line per method.

use std::sync::Arc;

use foundry_authn::Caller;
use foundry_proto::provisioner::v1 as p;
use foundry_proto::provisioner::v1::profile_service_server::ProfileService;
use tonic::{Request, Response, Status};

use crate::ops;
use crate::shared::Shared;

/// `ProfileService` over gRPC; each rpc calls its op.
pub struct ProfileRpc(pub Arc<Shared>);

type Answer<T> = Result<Response<T>, Status>;

macro_rules! methods {
    ($($name:ident: $request:ident => $response:ident;)*) => {
        #[tonic::async_trait]
        impl ProfileService for ProfileRpc {
            $(async fn $name(&self, r: Request<p::$request>) -> Answer<p::$response> {
                let caller = Caller::of(&r)?;
                Ok(Response::new(ops::$name::$name(&self.0, &caller, r.into_inner()).await?))
            })*
        }
    };
}

methods! {
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
