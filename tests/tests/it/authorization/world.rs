//! One user with one entity of each kind.

use foundry_proto::auth::v1::{CreateAccessTokenRequest, GetUserRequest, ListSessionsRequest};
use foundry_proto::common::v1::{PermissionPolicy, SecretText};
use foundry_proto::edge::v1::edge_service_client::EdgeServiceClient;
use foundry_proto::edge::v1::watch_response::Body;
use foundry_proto::edge::v1::{WatchRequest, WatchResponse};
use foundry_proto::provisioner::v1::{
    AgentProfileSettings, CreateAgentProfileRequest, CreateModelProviderRequest, ModelProviderKind,
    ModelProviderSettings, PutAttachmentRequest,
};
use foundry_proto::repo::v1::create_repository_credential_request::Target as CredentialTarget;
use foundry_proto::repo::v1::create_repository_webhook_request::Target as WebhookTarget;
use foundry_proto::repo::v1::{
    CreateRepositoryCredentialRequest, CreateRepositoryWebhookRequest, PublishBranchRequest,
    RepositoryCredentialKind, RepositoryWebhookForge,
};
use foundry_proto::task::v1::{CreateTaskRequest, PutReviewCommentRequest, ReviewSide, TaskState};
use foundry_tests::story::{
    await_session, await_task, await_turns, register, send, task_request, until_answered,
};
use foundry_tests::{Caller, Mesh, Origin};
use tonic::Streaming;

use super::ids::{Ids, Kind};

/// A user, and what is theirs.
pub struct World {
    pub caller: Caller,
    pub user_id: String,
    pub ids: Ids,
    /// The secret of the webhook.
    pub webhook_secret: String,
    /// Keeps the user's stream open, which is one of the entities.
    _stream: Streaming<WatchResponse>,
}

impl World {
    pub fn id(&self, kind: Kind) -> String {
        self.ids[&kind].clone()
    }

    /// A user with a task whose agent waits for a permission, with a message behind it.
    pub async fn of(mesh: &Mesh, login: &str) -> Self {
        let caller = mesh.sign_in(login).await;
        let user = caller.auth().get_user(GetUserRequest {}).await.unwrap().into_inner().user.unwrap();
        let dir = mesh.dir().join(login);
        std::fs::create_dir(&dir).unwrap();
        let repository = register(&caller, &Origin::create(&dir)).await;
        let mut ids = Ids::from([
            (Kind::Organization, caller.organization_id.clone()),
            (Kind::Repository, repository.repository_id.clone()),
            (Kind::User, user.user_id.clone()),
        ]);
        let request = CreateTaskRequest {
            request_id: "matrix".to_owned(),
            permission_policy: PermissionPolicy::Ask.into(),
            ..task_request(&caller, &repository, "write notes.md: hello")
        };
        let made = until_answered("task", || {
            let (mut client, request) = (caller.task(), request.clone());
            async move { client.create_task(request).await }
        });
        let made = made.await;
        let (task, session) = (made.task.unwrap(), made.session.unwrap());
        await_turns(&caller, &session.session_id, 1).await;
        let rests = |t: &foundry_proto::task::v1::Task| {
            let has_work = t.changes.as_ref().is_some_and(|changes| changes.files_changed > 0);
            t.state() == TaskState::Idle && has_work
        };
        let task = await_task(&caller, &task.task_id, rests).await;
        ids.insert(Kind::ReviewComment, comment_on(&caller, &task.task_id, login).await);
        ids.insert(Kind::Job, plan_of(&caller, &task.task_id).await);
        send(&caller, &session.session_id, "ask for permission").await;
        let asks = await_session(&caller, &session.session_id, |s| s.pending_permission.is_some()).await;
        ids.insert(Kind::Permission, asks.pending_permission.unwrap().permission_id);
        ids.insert(Kind::Message, send(&caller, &session.session_id, "say later").await);
        ids.insert(Kind::Task, task.task_id);
        ids.insert(Kind::Session, session.session_id);
        ids.insert(Kind::Sandbox, task.sandbox_id);
        Box::pin(Self::with_settings(caller, user.user_id, ids)).await
    }

    /// The same with what belongs to no task.
    async fn with_settings(caller: Caller, user_id: String, mut ids: Ids) -> Self {
        let organization_id = caller.organization_id.clone();
        let token = CreateAccessTokenRequest {
            organization_id: organization_id.clone(),
            name: "matrix".to_owned(),
            ..Default::default()
        };
        let token = caller.auth().create_access_token(token).await.unwrap().into_inner();
        ids.insert(Kind::AccessToken, token.access_token.unwrap().access_token_id);
        let listed = caller.auth().list_sessions(ListSessionsRequest::default()).await.unwrap();
        ids.insert(Kind::SignInSession, listed.into_inner().sessions.remove(0).credential_id);
        let attachment = PutAttachmentRequest {
            organization_id: organization_id.clone(),
            name: "a.txt".to_owned(),
            content: b"a".to_vec().into(),
            ..Default::default()
        };
        let attachment = caller.attachments().put_attachment(attachment).await.unwrap().into_inner();
        ids.insert(Kind::Attachment, attachment.attachment.unwrap().attachment_id);
        let (provider, profile) = profile_of(&caller).await;
        ids.insert(Kind::ModelProvider, provider);
        ids.insert(Kind::Profile, profile);
        let credential = CreateRepositoryCredentialRequest {
            organization_id: organization_id.clone(),
            target: Some(CredentialTarget::Host("git.example".to_owned())),
            kind: RepositoryCredentialKind::Token.into(),
            secret: Some(SecretText { value: "a-token-of-the-matrix".to_owned() }),
            ..Default::default()
        };
        let credential = caller.repo().create_repository_credential(credential).await.unwrap().into_inner();
        let credential = credential.repository_credential.unwrap().repository_credential_id;
        ids.insert(Kind::Credential, credential);
        let webhook = CreateRepositoryWebhookRequest {
            organization_id,
            target: Some(WebhookTarget::RepositoryId(ids[&Kind::Repository].clone())),
            forge: RepositoryWebhookForge::Github.into(),
            ..Default::default()
        };
        let webhook = caller.repo().create_repository_webhook(webhook).await.unwrap().into_inner();
        ids.insert(Kind::Webhook, webhook.repository_webhook.unwrap().repository_webhook_id);
        let mut edge = EdgeServiceClient::new(caller.channel());
        let mut stream = edge.watch(WatchRequest::default()).await.unwrap().into_inner();
        let Some(Body::Hello(hello)) = stream.message().await.unwrap().unwrap().body else {
            panic!("no hello")
        };
        ids.insert(Kind::Stream, hello.stream_id);
        Self { caller, user_id, ids, webhook_secret: webhook.secret.unwrap().value, _stream: stream }
    }
}

async fn comment_on(caller: &Caller, task_id: &str, login: &str) -> String {
    let number: u32 = login.bytes().map(u32::from).sum();
    let comment = PutReviewCommentRequest {
        task_id: task_id.to_owned(),
        comment_id: format!("rvc_{number:032x}"),
        path: "notes.md".to_owned(),
        side: ReviewSide::New.into(),
        start_line: 1,
        text: "Why?".to_owned(),
        ..Default::default()
    };
    caller.task().put_review_comment(comment).await.unwrap().into_inner().comment.unwrap().comment_id
}

/// A job that only says what a publication would do.
async fn plan_of(caller: &Caller, task_id: &str) -> String {
    let request = PublishBranchRequest {
        task_id: task_id.to_owned(),
        message: "Notes".to_owned(),
        plan_only: true,
        ..Default::default()
    };
    caller.repo().publish_branch(request).await.unwrap().into_inner().job.unwrap().job_id
}

/// A model provider, and an agent profile that uses it.
async fn profile_of(caller: &Caller) -> (String, String) {
    let settings = ModelProviderSettings {
        name: "work".to_owned(),
        kind: ModelProviderKind::Anthropic.into(),
        ..Default::default()
    };
    let request = CreateModelProviderRequest {
        organization_id: caller.organization_id.clone(),
        settings: Some(settings),
        ..Default::default()
    };
    let made = caller.profiles().create_model_provider(request).await.unwrap().into_inner();
    let model_provider_id = made.model_provider.unwrap().model_provider_id;
    let settings = AgentProfileSettings {
        name: "night".to_owned(),
        agent: "demo".to_owned(),
        model_provider_id: model_provider_id.clone(),
        ..Default::default()
    };
    let request = CreateAgentProfileRequest {
        organization_id: caller.organization_id.clone(),
        settings: Some(settings),
        ..Default::default()
    };
    let made = caller.profiles().create_agent_profile(request).await.unwrap().into_inner();
    (model_provider_id, made.profile.unwrap().profile_id)
}
