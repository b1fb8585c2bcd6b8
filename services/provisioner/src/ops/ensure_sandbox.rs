//! EnsureSandbox: returns the living sandbox of a task, or records a new one that flows will make.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, RepositoryId, SandboxId, TaskId, Timestamp};
use foundry_git::BranchName;
use foundry_proto::common::v1::{Condition, Role, WorkNotices};
use foundry_proto::provisioner::v1::{EnsureSandboxRequest, EnsureSandboxResponse};
use foundry_server::RequestContext;
use foundry_store::WriteSet;

use super::{Command, audit, behalf};
use crate::domain::{Sandbox, SandboxState};
use crate::flow;
use crate::profiles::{Choice, check_agent, choose};
use crate::shared::Shared;
use crate::store::sandboxes;

/// The checked request.
struct Wanted {
    organization: OrganizationId,
    task: TaskId,
    repository: RepositoryId,
    provider: String,
    user_id: String,
}

fn validate(shared: &Shared, caller: &Caller, r: &EnsureSandboxRequest) -> Result<Wanted, Error> {
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    let branch = |field: &str, name: &str| {
        BranchName::parse(name).map(drop).map_err(|e| Error::invalid_field(field, e.to_string()))
    };
    branch("branch", &r.branch)?;
    if !r.base_branch.is_empty() {
        branch("base_branch", &r.base_branch)?;
    }
    if r.existing_branch && r.base_branch != r.branch {
        return Err(Error::invalid_field("base_branch", "must be the branch, as that exists"));
    }
    let wanted = Wanted {
        organization: r.organization_id.parse()?,
        task: r.task_id.parse()?,
        repository: r.repository_id.parse()?,
        provider: or(&r.provider, &shared.config.default_provider),
        user_id: behalf(caller, &r.user_id)?,
    };
    caller.require(&wanted.organization, Role::Member)?;
    if let Err(e) = shared.providers.get(&wanted.provider)
        && e.reason() == "PROVIDER_UNKNOWN"
    {
        return Err(Error::invalid_field("provider", e.message().to_owned()));
    }
    Ok(wanted)
}

/// Returns the living sandbox of the task, or asks for one.
pub async fn ensure_sandbox(
    shared: &Shared,
    caller: &Caller,
    request: EnsureSandboxRequest,
) -> Result<EnsureSandboxResponse, Error> {
    let wanted = validate(shared, caller, &request)?;
    let body = EnsureSandboxRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &wanted.organization, "EnsureSandbox", &request.request_id, &body)?;
    command
        .run(|| async {
            let mut ws = WriteSet::new();
            if let Some(living) = sandboxes::find_living(&shared.store, wanted.task.as_str()).await? {
                if living.organization_id != wanted.organization {
                    return Err(Error::not_found("task", wanted.task.as_str()));
                }
                return Ok((ws, EnsureSandboxResponse { sandbox: Some(living.to_proto()), rev: 0 }));
            }
            let (profile, agent) = (&request.profile_id, &request.agent);
            let choice = choose(shared, &wanted.organization, profile, agent, None).await?;
            check_agent(shared, "agent", &choice.agent)?;
            let flow_id = shared.flow_id();
            let mut sandbox = fresh(shared, &wanted, &request, &choice, flow_id.to_string());
            // A session may be moved to this sandbox: the runtime's number keeps its blocks and permissions apart.
            sandbox.runtime_instance =
                1 + sandboxes::last_instance(&shared.store, wanted.task.as_str()).await?;
            let traceparent = RequestContext::current_traceparent();
            let asked = flow::sandbox::Asked { branch_chosen: request.branch_chosen };
            flow::sandbox::enqueue_new(&mut ws, shared, &mut sandbox, flow_id, asked, &traceparent)?;
            sandboxes::insert(&mut ws, &sandbox);
            let id = sandbox.sandbox_id.as_str();
            ws.audit(audit(
                &wanted.organization,
                caller,
                &wanted.user_id,
                "sandbox.create",
                id,
                &request.request_id,
            ));
            Ok((ws, EnsureSandboxResponse { sandbox: Some(sandbox.to_proto()), rev: 0 }))
        })
        .await
}

fn fresh(
    shared: &Shared,
    wanted: &Wanted,
    request: &EnsureSandboxRequest,
    choice: &Choice,
    flow_id: String,
) -> Sandbox {
    let now = shared.env.clock.now();
    Sandbox {
        sandbox_id: SandboxId::generate(&shared.env),
        organization_id: wanted.organization.clone(),
        task_id: wanted.task.to_string(),
        repository_id: wanted.repository.to_string(),
        provider: wanted.provider.clone(),
        state: SandboxState::Queued,
        condition: Condition {
            waiting_on: "sandbox_allocated".to_owned(),
            since_time: Some(now.to_proto()),
            next_action: "none needed: it starts when a worker is free".to_owned(),
            ..Condition::default()
        },
        branch: request.branch.clone(),
        existing_branch: request.existing_branch,
        base_branch: request.base_branch.clone(),
        base_commit: String::new(),
        base: None,
        agent: choice.agent.clone(),
        profile_id: choice.profile_id(),
        isolation: String::new(),
        limits: String::new(),
        reached: Vec::new(),
        network: String::new(),
        runtime_instance: 1,
        facts: None,
        flow_id,
        user_id: wanted.user_id.clone(),
        create_time: now,
        destroy_time: None,
        work_time: Timestamp::default(),
        work_head: String::new(),
        work_sent_time: Timestamp::default(),
        work_notices: WorkNotices::default(),
        work_not_saved: Condition::default(),
        stages: Vec::new(),
        rev: 0,
    }
}
