//! Maps the service's rpcs to ops, one line each.

use std::sync::Arc;

use foundry_proto::task::v1::*;

use crate::context::Context;
use crate::ops;

/// Implements the generated server trait.
pub struct Rpc(pub Arc<Context>);

foundry_service::rpcs! {
    impl task_service_server::TaskService for Rpc;
    calls {
        create_task: CreateTaskRequest => CreateTaskResponse;
        get_task: GetTaskRequest => GetTaskResponse;
        list_tasks: ListTasksRequest => ListTasksResponse;
        update_task: UpdateTaskRequest => UpdateTaskResponse;
        archive_task: ArchiveTaskRequest => ArchiveTaskResponse;
        kill_task: KillTaskRequest => KillTaskResponse;
        retry_task: RetryTaskRequest => RetryTaskResponse;
        explain_task: ExplainTaskRequest => ExplainTaskResponse;
        get_task_prompt: GetTaskPromptRequest => GetTaskPromptResponse;
        get_organization_summary: GetOrganizationSummaryRequest => GetOrganizationSummaryResponse;
        create_session: CreateSessionRequest => CreateSessionResponse;
        rename_session: RenameSessionRequest => RenameSessionResponse;
        close_session: CloseSessionRequest => CloseSessionResponse;
        send_message: SendMessageRequest => SendMessageResponse;
        update_queued_message: UpdateQueuedMessageRequest => UpdateQueuedMessageResponse;
        remove_queued_message: RemoveQueuedMessageRequest => RemoveQueuedMessageResponse;
        resume_queue: ResumeQueueRequest => ResumeQueueResponse;
        stop_turn: StopTurnRequest => StopTurnResponse;
        respond_to_permission: RespondToPermissionRequest => RespondToPermissionResponse;
        respond_to_elicitation: RespondToElicitationRequest => RespondToElicitationResponse;
        set_session_option: SetSessionOptionRequest => SetSessionOptionResponse;
        list_transcript: ListTranscriptRequest => ListTranscriptResponse;
        list_file_changes: ListFileChangesRequest => ListFileChangesResponse;
        get_file_diff: GetFileDiffRequest => GetFileDiffResponse;
        list_file_tree: ListFileTreeRequest => ListFileTreeResponse;
        get_file: GetFileRequest => GetFileResponse;
        get_queued_message: GetQueuedMessageRequest => GetQueuedMessageResponse;
        update_draft: UpdateDraftRequest => UpdateDraftResponse;
        mark_read: MarkReadRequest => MarkReadResponse;
        put_review_comment: PutReviewCommentRequest => PutReviewCommentResponse;
        delete_review_comment: DeleteReviewCommentRequest => DeleteReviewCommentResponse;
        list_review_comments: ListReviewCommentsRequest => ListReviewCommentsResponse;
        submit_review: SubmitReviewRequest => SubmitReviewResponse;
        mark_file_viewed: MarkFileViewedRequest => MarkFileViewedResponse;
        list_audit_events: ListAuditEventsRequest => ListAuditEventsResponse;
        propose_publication: ProposePublicationRequest => ProposePublicationResponse;
        request_fix: RequestFixRequest => RequestFixResponse;
        set_auto_fix: SetAutoFixRequest => SetAutoFixResponse;
    }
    watches {
        watch_task: WatchTaskRequest => WatchTaskStream, "WatchTask";
        watch_organization: WatchOrganizationRequest => WatchOrganizationStream, "WatchOrganization";
        watch_session: WatchSessionRequest => WatchSessionStream, "WatchSession";
        watch_user_state: WatchUserStateRequest => WatchUserStateStream, "WatchUserState";
    }
}

#[cfg(test)]
mod tests {
    use foundry_authn::Caller;
    use foundry_proto::common::v1::Role;
    use foundry_proto::task::v1::task_service_server::TaskService as _;
    use foundry_proto::watch::v1::AuthorizeWatchRequest;
    use foundry_service::proofs::{answers_for_each_watch_that_users_may_open, asking, authorize};
    use foundry_testkit::called_by;
    use futures::StreamExt as _;
    use prost::Message;
    use tonic::Code;

    use super::*;
    use crate::testing::World;

    fn of(method: &str, request: &impl Message) -> AuthorizeWatchRequest {
        asking(task_service_server::SERVICE_NAME, method, request)
    }

    #[tokio::test]
    async fn answers_for_each_watch_that_users_may_open_and_for_no_other_method() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Viewer).await, world.start().await);
        let rpc = Rpc(Arc::clone(&running.cx));
        let service = task_service_server::SERVICE_NAME;
        answers_for_each_watch_that_users_may_open(&rpc, service, &tenant.caller).await;
        running.stop().await;
    }

    #[tokio::test]
    async fn a_service_opens_the_watch_by_the_request_that_a_viewer_was_told_and_a_stranger_is_not() {
        let world = World::new().await;
        let (tenant, stranger) = (world.tenant(Role::Member).await, world.tenant(Role::Owner).await);
        let running = world.start().await;
        let rpc = Rpc(Arc::clone(&running.cx));
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
        let edge = Caller::service("gateway");
        for asked in asked {
            let refused = authorize(&rpc, &stranger.caller, asked.clone()).await.unwrap_err();
            assert_eq!(refused.code(), Code::NotFound);
            let answer = authorize(&rpc, &tenant.caller, asked.clone()).await.unwrap();
            assert_eq!(answer.organization_id, tenant.organization.as_str());
            views.insert(answer.view);
            let stream = match asked.method.rsplit('/').next() {
                Some("WatchTask") => {
                    let wanted = WatchTaskRequest::decode(answer.request).unwrap();
                    assert_eq!(wanted.options, None);
                    rpc.watch_task(called_by(&edge, wanted)).await
                }
                Some("WatchOrganization") => {
                    let wanted = WatchOrganizationRequest::decode(answer.request).unwrap();
                    rpc.watch_organization(called_by(&edge, wanted)).await
                }
                _ => {
                    let wanted = WatchSessionRequest::decode(answer.request).unwrap();
                    rpc.watch_session(called_by(&edge, wanted)).await
                }
            };
            stream.unwrap().into_inner().next().await.unwrap().unwrap();
        }
        assert_eq!(views.len(), 4, "each shows something else");
        running.stop().await;
    }
}
