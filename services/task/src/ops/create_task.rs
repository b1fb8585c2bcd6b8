//! Creates a task with its first session and prompt; provisioning follows in the background.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, MessageId, OrganizationId, Result, SessionId, TaskId};
use foundry_flow::{Starter, enqueue};
use foundry_proto::common::v1::{Attachment, Role};
use foundry_proto::repo::v1::RepositoryState;
use foundry_proto::task::v1::{CreateTaskRequest, CreateTaskResponse};
use foundry_service::{RequestKey, audit};
use foundry_store::{CommitError, Scope, WriteSet};

use crate::attachments;
use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::domain::session::{Message, Session};
use crate::domain::task::{AgentChoice, FlowFacts, Task, TaskSpec};
use crate::domain::{naming, validate};
use crate::flow::{self, task::Asked};
use crate::projection::organization;
use crate::store::branch_names::BranchNames;
use crate::store::{aggregate, messages, prompts, sessions, summary, tasks};

/// How often a branch name is derived when others keep taking it.
const MAX_NAMES: u32 = 8;

/// Validates, then writes task, session, message, flows, summary, audit and answer at once.
///
/// # Errors
/// `INVALID_ARGUMENT` for a bad field, `NOT_FOUND` for an unknown repository, `ALREADY_EXISTS` for a branch of another
/// task, `FAILED_PRECONDITION` for one that the remote has no room for, or for an existing one that another task works on, `UNAVAILABLE` when an unknown repository cannot be looked up now.
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
    let mut spec = check(cx, caller, organization, &request)?;
    let (default_branch, names) = known_repository(cx, &spec).await?;
    if spec.follows_default_branch {
        spec.base_branch = default_branch;
    }
    cx.followed.ensure(&spec.organization_id);
    let session_id = SessionId::generate(&cx.env);
    let files = attachments::hold(cx, &spec.organization_id, &session_id, &request.attachment_ids).await?;
    let wanted = wanted_branch(names.as_ref(), &request)?;
    let is_pending = matches!(wanted, WantedBranch::Existing { is_known: false, .. });
    let mut tries = 0;
    loop {
        tries += 1;
        let branch = match branch(cx, &spec, &wanted, tries).await {
            Ok(branch) => branch,
            // Unless it was this very request that has taken it.
            Err(e) => {
                let refused = Err(CommitError::Refused(e));
                let (answer, rev) = key.settle::<CreateTaskResponse>(&cx.store, None, refused).await?;
                return Ok(CreateTaskResponse { rev, ..answer });
            }
        };
        let (aggregate, message) = aggregate_of(cx, &spec, (&branch, is_pending), &session_id, &files);
        let mut ws = WriteSet::new();
        let scope = Scope::organization(&spec.organization_id);
        ws.scope(scope.clone());
        let asked = Asked { branch_chosen: !request.branch.is_empty() };
        write(&mut ws, &cx.starter, &aggregate, &message, &request.prompt, asked)?;
        let subject = aggregate.task.task_id.as_str();
        ws.audit(audit(&spec.organization_id, caller, "", "task.create", subject, &request.request_id));
        let session = aggregate.sessions.first().map(|s| s.view.clone());
        let answer = CreateTaskResponse { task: Some(aggregate.task.view.clone()), session, rev: 0 };
        key.remember_create(&mut ws, &answer);
        let committed = cx.store.commit(ws).await;
        if committed.is_err() {
            cx.starter.forget(&aggregate.task.flow.flow_id);
        }
        let committed = match committed {
            // The next look at an existing branch finds the task that was faster.
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
        .next_action("choose another branch, or leave it empty to get a generated one")
}

fn has_task(branch: &str, task: &TaskId) -> Error {
    let text = format!("the task {task} works on the branch {branch}, and is open");
    Error::precondition("BRANCH_HAS_TASK", task.as_str(), text)
        .with("task_id", task.as_str())
        .next_action("send that task a message, or archive or kill it first")
}

fn check<'a>(
    cx: &Context,
    caller: &Caller,
    organization_id: OrganizationId,
    request: &'a CreateTaskRequest,
) -> Result<TaskSpec<'a>> {
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
    if !request.on_branch.is_empty() {
        naming::check_branch("on_branch", &request.on_branch)?;
        if !request.branch.is_empty() || !request.base_branch.is_empty() {
            let text = "stands in place of `branch` and `base_branch`, which must be empty";
            return Err(Error::invalid_field("on_branch", text));
        }
    }
    let existing_branch = !request.on_branch.is_empty();
    let base_branch = if existing_branch { &request.on_branch } else { &request.base_branch };
    let (agent, profile) = validate::agent(&request.agent, &request.profile, &cx.agents)?;
    Ok(TaskSpec {
        organization_id,
        repository_id: request.repository_id.parse()?,
        title,
        prompt: &request.prompt,
        base_branch: base_branch.clone(),
        follows_default_branch: base_branch.is_empty(),
        existing_branch,
        provider: validate::plain_name("provider", &request.provider, &cx.default_provider, &cx.providers)?,
        choice: AgentChoice {
            agent,
            profile,
            policy: validate::policy(request.permission_policy)?.into(),
            start: validate::settings(request.settings.clone())?,
        },
        created_by: caller.on_behalf_of().map(ToString::to_string).unwrap_or_default(),
    })
}

/// The default branch of the repository, if it exists in the organization, and the names of its branches as far as they
/// are known.
async fn known_repository(cx: &Context, spec: &TaskSpec<'_>) -> Result<(String, Option<BranchNames>)> {
    let unknown = || Error::not_found("repository", spec.repository_id.as_str());
    let found = cx.repository_and_branches(&spec.repository_id).await?;
    let (known, names) = found.ok_or_else(unknown)?;
    if known.organization_id != spec.organization_id.as_str() || known.state() == RepositoryState::Deleting {
        return Err(unknown());
    }
    Ok((known.default_branch, names))
}

/// The branch of a task before it is compared with those of other tasks.
enum WantedBranch {
    /// As requested; the remote has room for it.
    Given(String),
    /// Derived from the prompt. `taken`: the remote has it, so it needs a suffix.
    Derived { name: String, taken: bool },
    /// One of the remote, as requested. `is_known`: the remote had it at the last synchronization.
    Existing { name: String, is_known: bool },
}

/// Compares the branch with those that the remote had at the last synchronization that was copied here: a handler does not
/// wait for the repo service. The sandbox compares it once more, after it has fetched the base.
fn wanted_branch(names: Option<&BranchNames>, request: &CreateTaskRequest) -> Result<WantedBranch> {
    if !request.on_branch.is_empty() {
        let is_known = names.is_some_and(|names| names.has(&request.on_branch));
        return Ok(WantedBranch::Existing { name: request.on_branch.clone(), is_known });
    }
    let conflict = |name: &str| names.and_then(|names| names.conflict(name));
    if !request.branch.is_empty() {
        return match conflict(&request.branch) {
            Some(taken_by) => Err(no_room(&request.branch, taken_by)),
            None => Ok(WantedBranch::Given(request.branch.clone())),
        };
    }
    let name = naming::branch(&request.prompt);
    let name = match conflict(&name) {
        Some(above) if name.starts_with(&format!("{above}/")) => naming::without_directory(&name),
        _ => name,
    };
    let taken = conflict(&name).is_some();
    Ok(WantedBranch::Derived { name, taken })
}

fn no_room(branch: &str, taken_by: &str) -> Error {
    let message = match branch == taken_by {
        true => format!("the remote has a branch {branch} already"),
        false => format!("the remote has a branch {taken_by}, beside which git cannot have {branch}"),
    };
    Error::precondition("BRANCH_CONFLICT", branch, message)
        .next_action("choose another branch, or leave it empty to get a generated one")
}

async fn branch(cx: &Context, spec: &TaskSpec<'_>, wanted: &WantedBranch, tries: u32) -> Result<String> {
    let (plain, has_room) = match wanted {
        WantedBranch::Given(name) => {
            let taken_by_task = tasks::branch_taken(&cx.store, &spec.repository_id, name).await?;
            return if taken_by_task { Err(taken(name)) } else { Ok(name.clone()) };
        }
        WantedBranch::Existing { name, .. } => {
            let open = tasks::open_on(&cx.store, &spec.repository_id, name).await?;
            return open.map_or_else(|| Ok(name.clone()), |task| Err(has_task(name, &task)));
        }
        WantedBranch::Derived { name, taken } => (name, !taken && tries == 1),
    };
    if has_room && !tasks::branch_taken(&cx.store, &spec.repository_id, plain).await? {
        return Ok(plain.clone());
    }
    // A random suffix, so that concurrent requests for the same name do not race for the next number.
    let mut random = [0; 3];
    cx.env.random.fill(&mut random);
    let [a, b, c] = random;
    Ok(format!("{plain}-{a:02x}{b:02x}{c:02x}"))
}

/// The aggregate of the new task, and the message that holds its prompt.
fn aggregate_of(
    cx: &Context,
    spec: &TaskSpec<'_>,
    (branch, is_pending): (&str, bool),
    session_id: &SessionId,
    files: &[Attachment],
) -> (Box<Aggregate>, Message) {
    let (env, now) = (&cx.env, cx.env.clock.now());
    let (task_id, flow_id) = (TaskId::generate(env), FlowId::generate(env));
    let flow = if is_pending { FlowFacts::pending_branch(flow_id) } else { FlowFacts::fresh(flow_id) };
    let task = Task::new(task_id, session_id.clone(), flow, spec, branch, aggregate::fence(env), now);
    let flow_id = FlowId::generate(env);
    let session = Session::new(&task, session_id.clone(), flow_id, "main", &spec.choice, now);
    let message_id = MessageId::generate(env);
    let message = Message::new(&session, message_id, spec.prompt, files, spec.created_by.clone(), now);
    let mut aggregate = Box::new(Aggregate::new(task, session, message.clone()));
    aggregate.refresh(now);
    (aggregate, message)
}

fn write(
    ws: &mut WriteSet,
    starter: &Starter,
    aggregate: &Aggregate,
    message: &Message,
    prompt: &str,
    asked: Asked,
) -> Result<()> {
    let task = &aggregate.task;
    let rev = ws.scope(Scope::organization(&task.organization_id));
    tasks::insert(ws, rev, task);
    prompts::insert(ws, &task.task_id, prompt);
    // A brief flow shows nothing when it begins.
    let _ = starter.enqueue(ws, flow::task::new(task, asked, &task.view.created_by)?);
    for session in &aggregate.sessions {
        let feed = ws.scope(Scope::session(&session.session_id));
        sessions::insert(ws, rev, feed, session);
        messages::insert(ws, feed, message, prompt);
        enqueue(ws, flow::session::new(session, None, &task.view.created_by)?);
    }
    summary::put(ws, rev, &task.organization_id, &organization::of_task(aggregate));
    Ok(())
}
