//! Creates a task with its first session and prompt; provisioning follows in the background.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, MessageId, OrganizationId, RepositoryId, Result, SessionId, TaskId};
use foundry_flow::enqueue;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{GetRepositoryRequest, RepositoryState};
use foundry_proto::task::v1::{self as pb, CreateTaskRequest, CreateTaskResponse};
use foundry_service::{RequestKey, audit};
use foundry_store::{CommitError, Scope, WriteSet};

use crate::attachments;
use crate::context::Context;
use crate::domain::asked::{Asked, Start};
use crate::domain::derive::Aggregate;
use crate::domain::session::{Message, MessageState, PREVIEW, Session};
use crate::domain::task::{FlowFacts, Lifecycle, Task};
use crate::domain::{naming, validate};
use crate::flow;
use crate::projection::organization;
use crate::store::{aggregate, messages, prompts, sessions, summary, tasks, upstream};

/// How often a branch name is derived when others keep taking it.
const MAX_NAMES: u32 = 8;

/// The validated request.
struct Wanted {
    organization: OrganizationId,
    repository: RepositoryId,
    title: String,
    base_branch: String,
    agent: String,
    profile: String,
    provider: String,
    policy: i32,
    start: Start,
}

/// Validates, then writes task, session, message, flows, summary, audit and answer at once.
///
/// # Errors
/// `INVALID_ARGUMENT` for a bad field, `NOT_FOUND` for an unknown repository, `ALREADY_EXISTS` for a
/// branch that is taken, `UNAVAILABLE` when an unknown repository cannot be looked up now.
pub async fn create_task(
    cx: &Context,
    caller: &Caller,
    request: CreateTaskRequest,
) -> Result<CreateTaskResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Member)?;
    let key = RequestKey::new(organization.as_str(), caller, "CreateTask", &request.request_id, &request)?;
    if let Some((answer, rev)) = key.first_answer::<CreateTaskResponse>(&cx.store).await? {
        return Ok(CreateTaskResponse { rev, ..answer });
    }
    let mut wanted = check(cx, organization, &request)?;
    let default_branch = known_repository(cx, &wanted).await?;
    if wanted.base_branch.is_empty() {
        wanted.base_branch = default_branch;
    }
    cx.followed.ensure(&wanted.organization);
    let session_id = SessionId::generate(&cx.env);
    let files = attachments::hold(cx, &wanted.organization, &session_id, &request.attachment_ids).await?;
    let mut tries = 0;
    loop {
        tries += 1;
        let branch = branch(cx, &wanted, &request, tries).await?;
        let (aggregate, mut message) = new_task(cx, caller, &wanted, &request, &branch, session_id.clone());
        message.attachments.clone_from(&files);
        let mut ws = WriteSet::new();
        let scope = Scope::organization(&wanted.organization);
        ws.scope(scope.clone());
        write(&mut ws, &aggregate, &message, &request.prompt)?;
        let subject = aggregate.task.task_id.as_str();
        ws.audit(audit(&wanted.organization, caller, "", "task.create", subject, &request.request_id));
        let session = aggregate.sessions.first().map(|s| s.view.clone());
        let answer = CreateTaskResponse { task: Some(aggregate.task.view.clone()), session, rev: 0 };
        key.remember_create(&mut ws, &answer);
        let committed = match cx.store.commit(ws).await {
            Err(CommitError::Conflict { .. }) if request.branch.is_empty() && tries < MAX_NAMES => continue,
            Err(CommitError::Conflict { .. }) => Err(CommitError::Refused(taken(&branch))),
            other => other.map(|committed| (committed, answer)),
        };
        let (answer, rev) = key.settle(&cx.store, Some(&scope), committed).await?;
        return Ok(CreateTaskResponse { rev, ..answer });
    }
}

fn taken(branch: &str) -> Error {
    Error::already_exists("task on branch", branch)
        .next_action("choose another branch, or leave it empty to derive one")
}

fn check(cx: &Context, organization: OrganizationId, request: &CreateTaskRequest) -> Result<Wanted> {
    validate::text("prompt", &request.prompt)?;
    let title = if request.title.is_empty() {
        naming::title(&request.prompt)
    } else {
        naming::check_name("title", &request.title, naming::MAX_TITLE)?
    };
    if !request.branch.is_empty() {
        naming::check_branch("branch", &request.branch)?;
    }
    if !request.base_branch.is_empty() {
        naming::check_branch("base_branch", &request.base_branch)?;
    }
    let (agent, profile) = validate::agent(&request.agent, &request.profile, &cx.agents)?;
    Ok(Wanted {
        organization,
        repository: request.repository_id.parse()?,
        title,
        base_branch: request.base_branch.clone(),
        agent,
        profile,
        provider: validate::plain_name("provider", &request.provider, &cx.default_provider, &cx.providers)?,
        policy: validate::policy(request.permission_policy)?.into(),
        start: validate::settings(request.settings.clone())?,
    })
}

/// The default branch of the repository, if it exists in the organization: from the replica, or by one read of the repo
/// service for a repository that was just registered.
async fn known_repository(cx: &Context, wanted: &Wanted) -> Result<String> {
    let unknown = || Error::not_found("repository", wanted.repository.as_str());
    let known = match upstream::repository(&cx.store, &wanted.repository).await? {
        Some(told) => told.entity,
        None => {
            let request = GetRepositoryRequest { repository_id: wanted.repository.to_string() };
            let answer = cx.read_repo(cx.repo.clone().get_repository(request)).await;
            match answer {
                Ok(answer) => answer.repository.ok_or_else(unknown)?,
                Err(e) if e.code == tonic::Code::NotFound => return Err(unknown()),
                Err(e) => return Err(e.of_repo()),
            }
        }
    };
    if known.organization_id != wanted.organization.as_str() || known.state() == RepositoryState::Deleting {
        return Err(unknown());
    }
    Ok(known.default_branch)
}

async fn branch(cx: &Context, wanted: &Wanted, request: &CreateTaskRequest, tries: u32) -> Result<String> {
    if !request.branch.is_empty() {
        if tasks::branch_taken(&cx.store, &wanted.repository, &request.branch).await? {
            return Err(taken(&request.branch));
        }
        return Ok(request.branch.clone());
    }
    let plain = naming::branch(&request.prompt);
    if tries == 1 && !tasks::branch_taken(&cx.store, &wanted.repository, &plain).await? {
        return Ok(plain);
    }
    // A random suffix, so that concurrent requests for the same name do not race for the next number.
    let mut random = [0; 3];
    cx.env.random.fill(&mut random);
    let [a, b, c] = random;
    Ok(format!("{plain}-{a:02x}{b:02x}{c:02x}"))
}

fn new_task(
    cx: &Context,
    caller: &Caller,
    wanted: &Wanted,
    request: &CreateTaskRequest,
    branch: &str,
    session_id: SessionId,
) -> (Aggregate, Message) {
    let now = cx.env.clock.now();
    let task_id = TaskId::generate(&cx.env);
    let created_by = caller.on_behalf_of().map(ToString::to_string).unwrap_or_default();
    let view = pb::Task {
        task_id: task_id.to_string(),
        organization_id: wanted.organization.to_string(),
        repository_id: wanted.repository.to_string(),
        title: wanted.title.clone(),
        branch: branch.to_owned(),
        base_branch: wanted.base_branch.clone(),
        prompt_preview: validate::prefix(&request.prompt, PREVIEW).to_owned(),
        prompt_size: i64::try_from(request.prompt.len()).unwrap_or(i64::MAX),
        agent: wanted.agent.clone(),
        profile: wanted.profile.clone(),
        provider: wanted.provider.clone(),
        permission_policy: wanted.policy,
        created_by: created_by.clone(),
        create_time: Some(now.to_proto()),
        ..pb::Task::default()
    };
    let task = Task {
        task_id: task_id.clone(),
        organization_id: wanted.organization.clone(),
        repository_id: wanted.repository.clone(),
        first_session_id: session_id.clone(),
        create_time: now,
        rev: 0,
        fence: aggregate::fence(&cx.env),
        stale: false,
        lifecycle: Lifecycle::Active,
        lifecycle_time: now,
        flow: FlowFacts::fresh(FlowId::generate(&cx.env)),
        destroy_sent: String::new(),
        retry_rev: 0,
        view,
    };
    let mut message = Message {
        message_id: MessageId::generate(&cx.env),
        session_id: session_id.clone(),
        task_id,
        position: now.as_micros(),
        state: MessageState::Queued,
        created_by,
        create_time: now,
        preview: String::new(),
        text_size: 0,
        attachments: Vec::new(),
    };
    message.describe(&request.prompt);
    let asked = (wanted.agent.as_str(), wanted.profile.as_str());
    let mut session = new_session(&task, session_id, "main", asked, wanted.policy, &cx.env);
    session.asked.start.clone_from(&wanted.start);
    let messages = vec![message.clone()];
    let mut aggregate = Aggregate {
        task,
        sessions: vec![session],
        sandbox: None,
        agents: std::collections::BTreeMap::new(),
        work: None,
        messages,
    };
    aggregate.refresh(now);
    (aggregate, message)
}

/// A new session that uses this agent or profile.
pub(super) fn new_session(
    task: &Task,
    session_id: SessionId,
    name: &str,
    (agent, profile): (&str, &str),
    policy: i32,
    env: &foundry_core::Env,
) -> Session {
    let now = env.clock.now();
    let view = pb::Session {
        session_id: session_id.to_string(),
        task_id: task.task_id.to_string(),
        organization_id: task.organization_id.to_string(),
        name: name.to_owned(),
        agent: agent.to_owned(),
        profile: profile.to_owned(),
        permission_policy: policy,
        create_time: Some(now.to_proto()),
        ..pb::Session::default()
    };
    Session {
        session_id,
        task_id: task.task_id.clone(),
        organization_id: task.organization_id.clone(),
        create_time: now,
        rev: 0,
        feed_rev: 0,
        flow: FlowFacts::fresh(FlowId::generate(env)),
        closed: false,
        close_sent: false,
        event_offset: 0,
        held_for: String::new(),
        spoken_for: String::new(),
        spoken_here: false,
        answered: String::new(),
        retry_rev: 0,
        follows: false,
        asked: Asked::default(),
        view,
    }
}

fn write(ws: &mut WriteSet, aggregate: &Aggregate, message: &Message, prompt: &str) -> Result<()> {
    let task = &aggregate.task;
    let rev = ws.scope(Scope::organization(&task.organization_id));
    tasks::insert(ws, rev, task);
    prompts::insert(ws, &task.task_id, prompt);
    enqueue(ws, flow::task::new(task, &task.view.created_by));
    for session in &aggregate.sessions {
        let feed = ws.scope(Scope::session(&session.session_id));
        sessions::insert(ws, rev, feed, session);
        messages::insert(ws, feed, message, prompt);
        enqueue(ws, flow::session::new(session, &task.view.created_by)?);
    }
    summary::put(ws, rev, &task.organization_id, &organization::of_task(aggregate));
    Ok(())
}
