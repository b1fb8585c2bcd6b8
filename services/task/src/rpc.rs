//! The tonic trait: one line per method.

use std::sync::Arc;

use foundry_authn::Caller;
use foundry_proto::task::v1::task_service_server::TaskService;
use foundry_proto::task::v1::*;
use foundry_proto::watch::v1::watch_authorization_service_server::WatchAuthorizationService;
use foundry_proto::watch::v1::{AuthorizeWatchRequest, AuthorizeWatchResponse};
use foundry_watch::FrameStream;
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::ops;

/// The service's rpcs.
pub struct Rpc(pub Arc<Context>);

macro_rules! unary {
    ($($name:ident: $request:ident -> $response:ident;)*) => {
        #[async_trait::async_trait]
        impl TaskService for Rpc {
            type WatchTaskStream = FrameStream;
            type WatchOrganizationStream = FrameStream;
            type WatchSessionStream = FrameStream;
            type WatchUserStateStream = FrameStream;

            $(async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                let caller = Caller::of(&request).map_err(foundry_core::Error::into_status)?;
                let answer = Box::pin(ops::$name::$name(&self.0, &caller, request.into_inner())).await;
                answer.map(Response::new).map_err(foundry_core::Error::into_status)
            })*

            async fn watch_task(&self, request: Request<WatchTaskRequest>) -> Result<Response<FrameStream>, Status> {
                let caller = Caller::of(&request).map_err(foundry_core::Error::into_status)?;
                let stream = ops::watch_task::watch_task(&self.0, &caller, request.into_inner()).await;
                stream.map(Response::new).map_err(foundry_core::Error::into_status)
            }

            async fn watch_organization(
                &self,
                request: Request<WatchOrganizationRequest>,
            ) -> Result<Response<FrameStream>, Status> {
                let caller = Caller::of(&request).map_err(foundry_core::Error::into_status)?;
                let stream = ops::watch_organization::watch_organization(&self.0, &caller, request.into_inner());
                stream.map(Response::new).map_err(foundry_core::Error::into_status)
            }

            async fn watch_session(
                &self,
                request: Request<WatchSessionRequest>,
            ) -> Result<Response<FrameStream>, Status> {
                let caller = Caller::of(&request).map_err(foundry_core::Error::into_status)?;
                let stream = ops::watch_session::watch_session(&self.0, &caller, request.into_inner()).await;
                stream.map(Response::new).map_err(foundry_core::Error::into_status)
            }

            async fn watch_user_state(
                &self,
                request: Request<WatchUserStateRequest>,
            ) -> Result<Response<FrameStream>, Status> {
                let caller = Caller::of(&request).map_err(foundry_core::Error::into_status)?;
                let stream = ops::watch_user_state::watch_user_state(&self.0, &caller, request.into_inner());
                stream.map(Response::new).map_err(foundry_core::Error::into_status)
            }
        }
    };
}

unary! {
    create_task: CreateTaskRequest -> CreateTaskResponse;
    get_task: GetTaskRequest -> GetTaskResponse;
    list_tasks: ListTasksRequest -> ListTasksResponse;
    update_task: UpdateTaskRequest -> UpdateTaskResponse;
    archive_task: ArchiveTaskRequest -> ArchiveTaskResponse;
    kill_task: KillTaskRequest -> KillTaskResponse;
    retry_task: RetryTaskRequest -> RetryTaskResponse;
    explain_task: ExplainTaskRequest -> ExplainTaskResponse;
    get_task_prompt: GetTaskPromptRequest -> GetTaskPromptResponse;
    get_organization_summary: GetOrganizationSummaryRequest -> GetOrganizationSummaryResponse;
    create_session: CreateSessionRequest -> CreateSessionResponse;
    rename_session: RenameSessionRequest -> RenameSessionResponse;
    close_session: CloseSessionRequest -> CloseSessionResponse;
    send_message: SendMessageRequest -> SendMessageResponse;
    update_queued_message: UpdateQueuedMessageRequest -> UpdateQueuedMessageResponse;
    remove_queued_message: RemoveQueuedMessageRequest -> RemoveQueuedMessageResponse;
    resume_queue: ResumeQueueRequest -> ResumeQueueResponse;
    stop_turn: StopTurnRequest -> StopTurnResponse;
    respond_to_permission: RespondToPermissionRequest -> RespondToPermissionResponse;
    respond_to_elicitation: RespondToElicitationRequest -> RespondToElicitationResponse;
    set_session_option: SetSessionOptionRequest -> SetSessionOptionResponse;
    list_transcript: ListTranscriptRequest -> ListTranscriptResponse;
    list_file_changes: ListFileChangesRequest -> ListFileChangesResponse;
    get_file_diff: GetFileDiffRequest -> GetFileDiffResponse;
    list_file_tree: ListFileTreeRequest -> ListFileTreeResponse;
    get_file: GetFileRequest -> GetFileResponse;
    get_queued_message: GetQueuedMessageRequest -> GetQueuedMessageResponse;
    update_draft: UpdateDraftRequest -> UpdateDraftResponse;
    mark_read: MarkReadRequest -> MarkReadResponse;
    list_audit_events: ListAuditEventsRequest -> ListAuditEventsResponse;
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
