//! The gRPC face: one line per method.

use std::sync::Arc;

use foundry_authn::Caller;
use foundry_proto::provisioner::v1 as p;
use foundry_proto::provisioner::v1::provisioner_service_server::ProvisionerService;
use foundry_proto::watch::v1::watch_authorization_service_server::WatchAuthorizationService;
use foundry_proto::watch::v1::{AuthorizeWatchRequest, AuthorizeWatchResponse};
use foundry_watch::FrameStream;
use tonic::{Request, Response, Status};

use crate::ops;
use crate::shared::Shared;

/// The service.
pub struct Rpc(pub Arc<Shared>);

type Answer<T> = Result<Response<T>, Status>;

macro_rules! call {
    ($self:ident, $request:ident, $op:path) => {{
        let caller = Caller::of(&$request)?;
        Ok(Response::new($op(&$self.0, &caller, $request.into_inner()).await?))
    }};
}

#[tonic::async_trait]
impl ProvisionerService for Rpc {
    async fn ensure_sandbox(&self, r: Request<p::EnsureSandboxRequest>) -> Answer<p::EnsureSandboxResponse> {
        call!(self, r, ops::ensure_sandbox::ensure_sandbox)
    }

    async fn get_sandbox(&self, r: Request<p::GetSandboxRequest>) -> Answer<p::GetSandboxResponse> {
        call!(self, r, ops::get_sandbox::get_sandbox)
    }

    async fn list_sandboxes(&self, r: Request<p::ListSandboxesRequest>) -> Answer<p::ListSandboxesResponse> {
        call!(self, r, ops::list_sandboxes::list_sandboxes)
    }

    async fn retry_sandbox(&self, r: Request<p::RetrySandboxRequest>) -> Answer<p::RetrySandboxResponse> {
        call!(self, r, ops::retry_sandbox::retry_sandbox)
    }

    async fn destroy_sandbox(
        &self,
        r: Request<p::DestroySandboxRequest>,
    ) -> Answer<p::DestroySandboxResponse> {
        call!(self, r, ops::destroy_sandbox::destroy_sandbox)
    }

    type WatchSandboxesStream = FrameStream;

    async fn watch_sandboxes(&self, r: Request<p::WatchSandboxesRequest>) -> Answer<FrameStream> {
        let caller = Caller::of(&r)?;
        Ok(Response::new(ops::watch::watch_sandboxes(&self.0, &caller, r.into_inner())?))
    }

    type WatchSandboxStream = FrameStream;

    async fn watch_sandbox(&self, r: Request<p::WatchSandboxRequest>) -> Answer<FrameStream> {
        call!(self, r, ops::watch::watch_sandbox)
    }

    async fn list_providers(&self, _: Request<p::ListProvidersRequest>) -> Answer<p::ListProvidersResponse> {
        Ok(Response::new(ops::list_providers::list_providers(&self.0)?))
    }

    async fn list_agents(&self, _: Request<p::ListAgentsRequest>) -> Answer<p::ListAgentsResponse> {
        Ok(Response::new(ops::list_agents::list_agents(&self.0)?))
    }

    async fn create_agent_session(
        &self,
        r: Request<p::CreateAgentSessionRequest>,
    ) -> Answer<p::CreateAgentSessionResponse> {
        call!(self, r, ops::create_agent_session::create_agent_session)
    }

    async fn retry_agent_session(
        &self,
        r: Request<p::RetryAgentSessionRequest>,
    ) -> Answer<p::RetryAgentSessionResponse> {
        call!(self, r, ops::retry_agent_session::retry_agent_session)
    }

    async fn resume_agent_session(
        &self,
        r: Request<p::ResumeAgentSessionRequest>,
    ) -> Answer<p::ResumeAgentSessionResponse> {
        call!(self, r, ops::resume_agent_session::resume_agent_session)
    }

    async fn prompt_agent_session(
        &self,
        r: Request<p::PromptAgentSessionRequest>,
    ) -> Answer<p::PromptAgentSessionResponse> {
        call!(self, r, ops::prompt_agent_session::prompt_agent_session)
    }

    async fn cancel_prompt(&self, r: Request<p::CancelPromptRequest>) -> Answer<p::CancelPromptResponse> {
        call!(self, r, ops::cancel_prompt::cancel_prompt)
    }

    async fn respond_to_permission(
        &self,
        r: Request<p::RespondToPermissionRequest>,
    ) -> Answer<p::RespondToPermissionResponse> {
        call!(self, r, ops::respond_to_permission::respond_to_permission)
    }

    async fn respond_to_elicitation(
        &self,
        r: Request<p::RespondToElicitationRequest>,
    ) -> Answer<p::RespondToElicitationResponse> {
        call!(self, r, ops::respond_to_elicitation::respond_to_elicitation)
    }

    async fn set_agent_session_option(
        &self,
        r: Request<p::SetAgentSessionOptionRequest>,
    ) -> Answer<p::SetAgentSessionOptionResponse> {
        call!(self, r, ops::set_agent_session_option::set_agent_session_option)
    }

    async fn close_agent_session(
        &self,
        r: Request<p::CloseAgentSessionRequest>,
    ) -> Answer<p::CloseAgentSessionResponse> {
        call!(self, r, ops::close_agent_session::close_agent_session)
    }

    type WatchAgentSessionStream = FrameStream;

    async fn watch_agent_session(&self, r: Request<p::WatchAgentSessionRequest>) -> Answer<FrameStream> {
        call!(self, r, ops::watch::watch_agent_session)
    }

    async fn list_processes(&self, r: Request<p::ListProcessesRequest>) -> Answer<p::ListProcessesResponse> {
        call!(self, r, ops::list_processes::list_processes)
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
