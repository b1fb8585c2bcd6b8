//! A live list of an organization's tasks.

use std::process::ExitCode;

use foundry_core::Env;
use foundry_proto::task::v1::{
    OrganizationItem, TaskSummary, WatchOrganizationRequest, organization_item::Item,
};
use foundry_watch::{Change, Consumer, ConsumerConfig, Event, Op};

use crate::cli::Output;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// Header of a table of tasks.
pub const HEADER: &[&str] = &["id", "state", "reason", "sessions", "changes", "branch", "title"];

/// A task as a row.
pub fn row(t: &TaskSummary) -> Vec<String> {
    vec![
        t.task_id.clone(),
        output::state(t.state().as_str_name(), "TASK_STATE_"),
        t.reason.clone(),
        t.sessions.len().to_string(),
        format!("{} +{} -{}", t.files_changed, t.additions, t.deletions),
        t.branch.clone(),
        t.title.clone(),
    ]
}

/// Prints every change of a task until interrupted.
///
/// # Errors
/// When the watch is refused.
pub async fn organization(gateway: &Gateway, output: Output) -> Result<ExitCode, Failure> {
    let organization_id = gateway.organization().await?;
    super::until_interrupted("all tasks continue", follow(gateway, output, organization_id)).await
}

async fn follow(gateway: &Gateway, output: Output, organization_id: String) -> Result<ExitCode, Failure> {
    let tasks = super::tasks();
    let client = gateway.task();
    let mut watch: Consumer<OrganizationItem> =
        Consumer::start(&tasks, Env::system(), ConsumerConfig::new("organization"), move |options| {
            let (mut client, organization_id) = (client.clone(), organization_id.clone());
            async move {
                let request = WatchOrganizationRequest { options: Some(options), organization_id };
                Ok(client.watch_organization(request).await?.into_inner())
            }
        });
    loop {
        let event = watch.next().await?;
        super::tell_connection(&event);
        if let Event::Snapshot { rows: changes, .. } | Event::Delta { changes, .. } = event {
            changes.iter().try_for_each(|change| print(output, change))?;
        }
    }
}

fn print(output: Output, change: &Change<OrganizationItem>) -> Result<(), Failure> {
    match &change.op {
        Op::Upsert(OrganizationItem { item: Some(Item::Task(task)) }) => {
            output::one(output, task, |task| output::line(&output::inert(&row(task).join("  "))))
        }
        Op::Upsert(item) if output == Output::Json => output::one(output, item, |_| ()),
        Op::Upsert(_) => Ok(()),
        Op::Deleted | Op::LeftView => {
            if output == Output::Table {
                output::line(&format!("{}  removed", change.key));
            }
            Ok(())
        }
    }
}
