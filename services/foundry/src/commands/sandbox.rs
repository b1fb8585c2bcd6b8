//! `foundry sandbox`: the sandboxes of an organization's tasks.

use std::process::ExitCode;

use foundry_proto::provisioner::v1::{
    DestroySandboxRequest, GetSandboxRequest, ListProcessesRequest, ListSandboxesRequest,
    Sandbox as SandboxEntity,
};

use crate::cli::{Output, Sandbox};
use crate::client::{Gateway, request_id};
use crate::commands::follow;
use crate::failure::Failure;
use crate::output;

/// Runs one command of the group.
pub async fn run(gateway: &Gateway, output: Output, command: Sandbox) -> Result<ExitCode, Failure> {
    match command {
        Sandbox::List { all } => list(gateway, output, all).await?,
        Sandbox::Show { sandbox_id } => show(gateway, output, sandbox_id).await?,
        Sandbox::Processes { sandbox_id } => processes(gateway, output, sandbox_id).await?,
        Sandbox::Destroy { sandbox_id } => {
            let request =
                DestroySandboxRequest { request_id: request_id(), sandbox_id, user_id: String::new() };
            let answer = gateway.provisioner().destroy_sandbox(request).await?.into_inner();
            output::one(output, &answer, |_| output::line("destruction scheduled"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(gateway: &Gateway, output: Output, all: bool) -> Result<(), Failure> {
    let organization_id = gateway.organization().await?;
    let mut sandboxes: Vec<SandboxEntity> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSandboxesRequest {
            organization_id: organization_id.clone(),
            show_destroyed: all,
            page_size: 0,
            page_token,
        };
        let page = gateway.provisioner().list_sandboxes(request).await?.into_inner();
        sandboxes.extend(page.sandboxes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if output == Output::Json {
        return sandboxes.iter().try_for_each(|s| output::json(s).map(|text| output::line(&text)));
    }
    let rows = sandboxes.iter().map(|s| {
        let reason = s.condition.as_ref().map(|c| c.reason.clone()).unwrap_or_default();
        vec![
            s.sandbox_id.clone(),
            output::state(s.state().as_str_name(), "SANDBOX_STATE_"),
            reason,
            s.provider.clone(),
            s.isolation.clone(),
            // The policy's name only; its meaning is in `--output json` and on the page.
            s.network.split(':').next().unwrap_or_default().to_owned(),
            s.task_id.clone(),
            output::time(s.create_time.as_ref()),
        ]
    });
    output::table(
        &["id", "state", "reason", "provider", "isolation", "network", "task", "created"],
        rows.collect(),
    );
    Ok(())
}

async fn show(gateway: &Gateway, output: Output, sandbox_id: String) -> Result<(), Failure> {
    let answer = gateway.provisioner().get_sandbox(GetSandboxRequest { sandbox_id }).await?.into_inner();
    output::one(output, &answer, |answer| {
        let s = answer.sandbox.clone().unwrap_or_default();
        output::line(&s.sandbox_id);
        output::line(&format!("  state   {}", output::state(s.state().as_str_name(), "SANDBOX_STATE_")));
        follow::print_condition(s.condition.as_ref());
        output::line(&format!("  task    {}", s.task_id));
        output::line(&format!("  provider {}, isolation: {}", s.provider, output::inert(&s.isolation)));
        if !s.limits.is_empty() {
            output::line(&format!("  limits  {}", output::inert(&s.limits)));
        }
        for reached in &s.reached_limits {
            output::line(&format!("  reached since {}", output::time(reached.since_time.as_ref())));
            follow::print_condition(Some(reached));
        }
    })
}

async fn processes(gateway: &Gateway, output: Output, sandbox_id: String) -> Result<(), Failure> {
    let answer =
        gateway.provisioner().list_processes(ListProcessesRequest { sandbox_id }).await?.into_inner();
    output::one(output, &answer, |answer| {
        let rows = answer.processes.iter().map(|p| {
            vec![
                p.pid.to_string(),
                p.parent_pid.to_string(),
                p.state.clone(),
                format!("{}.{:03} s", p.cpu_millis / 1_000, p.cpu_millis % 1_000),
                format!("{} KiB", p.rss_bytes / 1_024),
                output::time(p.start_time.as_ref()),
                p.command.clone(),
            ]
        });
        output::table(&["pid", "parent", "state", "cpu", "memory", "started", "command"], rows.collect());
        if answer.truncated {
            output::line("the list is truncated");
        }
    })
}
