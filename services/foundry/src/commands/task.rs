//! `foundry task`: tasks and their work.

use std::process::ExitCode;

use foundry_proto::common::v1::{Condition, PermissionPolicy, StageState};
use foundry_proto::task::v1::{
    ArchiveTaskRequest, Changes, CreateTaskRequest, CreateTaskResponse, ExplainTaskRequest, FileChange,
    GetTaskRequest, KillTaskRequest, ListFileChangesRequest, ListTasksRequest, RetryTaskRequest,
    Task as TaskEntity, TaskSummary,
};

use foundry_service::publication_words;

use crate::cli::{CreateTask, Output, Task};
use crate::client::{Gateway, request_id};
use crate::commands::{
    attachment, checks, fetch, files, fix, follow, losing, publish, repo, review, text_or_stdin,
};
use crate::failure::Failure;
use crate::output;

/// Exit code of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Runs one command of the group.
pub async fn run(gateway: &Gateway, output: Output, command: Task) -> Result<ExitCode, Failure> {
    match command {
        Task::Create(args) => return Box::pin(create(gateway, output, *args)).await,
        Task::List { all } => list(gateway, output, all).await?,
        Task::Watch { task_id: Some(id) } => return follow::task(gateway, output, &id).await,
        Task::Watch { task_id: None } => return follow::organization(gateway, output).await,
        Task::Show { task_id } => show(gateway, output, task_id).await?,
        Task::Diff { task_id, patch, merged } => diff(gateway, output, task_id, patch, merged).await?,
        Task::Fetch { task_id, into, replaced } => {
            fetch::fetch(gateway, output, &task_id, (into, replaced)).await?;
        }
        Task::Bundle { task_id, file } => fetch::bundle(gateway, &task_id, &file).await?,
        Task::Publish(args) => return Box::pin(publish::run(gateway, output, *args)).await,
        Task::Fix(args) => fix::run(gateway, output, args).await?,
        Task::Review(args) => Box::pin(review::run(gateway, output, *args)).await?,
        Task::Files { task_id, path } => files::list(gateway, output, task_id, path).await?,
        Task::Cat { task_id, path } => files::print(gateway, output, task_id, path).await?,
        Task::Explain { task_id } => explain(gateway, output, task_id).await?,
        Task::Archive { task_id, force } => {
            losing::with_sandbox(gateway, &task_id, "archiving", force).await?;
            let answer =
                gateway.task().archive_task(ArchiveTaskRequest { request_id: request_id(), task_id }).await?;
            scheduled(output, answer.into_inner().task)?;
        }
        Task::Kill { task_id, force } => {
            losing::with_sandbox(gateway, &task_id, "killing", force).await?;
            let answer =
                gateway.task().kill_task(KillTaskRequest { request_id: request_id(), task_id }).await?;
            scheduled(output, answer.into_inner().task)?;
        }
        Task::Retry { task_id, detach } => return Box::pin(retry(gateway, output, task_id, detach)).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(gateway: &Gateway, output: Output, args: CreateTask) -> Result<ExitCode, Failure> {
    let detach = args.detach;
    let answer = tokio::select! {
        answer = request_task(gateway, args) => answer?,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\ninterrupted before the answer; `foundry task list` shows whether there is a new task");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let (task, session) =
        (answer.task.clone().unwrap_or_default(), answer.session.clone().unwrap_or_default());
    if detach {
        output::one(output, &answer, |_| {
            output::line(&format!("{}  {}  {}", task.task_id, session.session_id, task.branch))
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    follow::creation(gateway, output, &task, &session).await
}

async fn request_task(gateway: &Gateway, args: CreateTask) -> Result<CreateTaskResponse, Failure> {
    let organization_id = gateway.organization().await?;
    let repository = repo::resolve(gateway, args.repo.as_deref()).await?;
    // Unspecified: the profile determines the policy.
    let policy = if args.allow { PermissionPolicy::Allow } else { PermissionPolicy::Unspecified };
    checks::base_branch(gateway, &repository, &args.base).await?;
    let (agent, profile, model) = (args.agent.as_str(), args.profile.as_str(), args.settings.model.as_str());
    checks::agent(gateway, &organization_id, &checks::Wanted { agent, profile, model, otherwise: None })
        .await?;
    let attachment_ids = attachment::put_all(gateway, &organization_id, &args.attach).await?;
    let request = CreateTaskRequest {
        request_id: request_id(),
        organization_id,
        repository_id: repository.repository_id,
        prompt: text_or_stdin(args.prompt)?,
        title: args.title,
        branch: args.branch,
        base_branch: args.base,
        agent: args.agent,
        provider: String::new(),
        permission_policy: policy.into(),
        profile: args.profile,
        settings: args.settings.to_proto(),
        attachment_ids,
        on_branch: args.on_branch.unwrap_or_default(),
    };
    Ok(gateway.task().create_task(request).await?.into_inner())
}

async fn retry(
    gateway: &Gateway,
    output: Output,
    task_id: String,
    detach: bool,
) -> Result<ExitCode, Failure> {
    let before = gateway.task().get_task(GetTaskRequest { task_id: task_id.clone() }).await?.into_inner();
    let request = RetryTaskRequest { request_id: request_id(), task_id };
    let answer = gateway.task().retry_task(request).await?.into_inner();
    if detach {
        output::one(output, &answer.task.unwrap_or_default(), |_| output::line("retry scheduled"))?;
        return Ok(ExitCode::SUCCESS);
    }
    follow::retry(gateway, output, &before).await
}

fn scheduled(output: Output, task: Option<TaskEntity>) -> Result<(), Failure> {
    output::one(output, &task.unwrap_or_default(), |t| {
        output::line(&output::state(t.state().as_str_name(), "TASK_STATE_"));
        if let Some(publication) = t.changes.as_ref().and_then(|c| c.publication.as_ref()) {
            output::line(&format!("its work is {}", output::inert(&publication_words(publication))));
        }
    })
}

async fn list(gateway: &Gateway, output: Output, all: bool) -> Result<(), Failure> {
    let organization_id = gateway.organization().await?;
    let mut tasks: Vec<TaskSummary> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListTasksRequest {
            organization_id: organization_id.clone(),
            repository_id: String::new(),
            show_archived: all,
            page_size: 0,
            page_token,
        };
        let page = gateway.task().list_tasks(request).await?.into_inner();
        tasks.extend(page.tasks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if output == Output::Json {
        return tasks.iter().try_for_each(|t| output::json(t).map(|text| output::line(&text)));
    }
    output::table(follow::SUMMARY_HEADER, tasks.iter().map(follow::summary_row).collect());
    Ok(())
}

async fn show(gateway: &Gateway, output: Output, task_id: String) -> Result<(), Failure> {
    let answer = gateway.task().get_task(GetTaskRequest { task_id }).await?.into_inner();
    output::one(output, &answer, |answer| {
        let task = answer.task.clone().unwrap_or_default();
        output::line(&format!("{}  {}", task.task_id, output::inert(&task.title)));
        output::line(&format!("  state   {}", output::state(task.state().as_str_name(), "TASK_STATE_")));
        follow::print_condition(task.condition.as_ref());
        let from = match task.base_branch.as_str() {
            "" => String::new(),
            _ if task.existing_branch => ", which the remote had before".to_owned(),
            base => format!(" from {}", output::inert(base)),
        };
        output::line(&format!("  branch  {}{from}", output::inert(&task.branch)));
        if let Some(base) = &task.base {
            let commit = base.commit.get(..12).unwrap_or(&base.commit);
            let as_of = base.as_of.as_ref().map(|at| format!(" as of {}", output::time(Some(at))));
            output::line(&format!("  base    {commit}{}", as_of.unwrap_or_default()));
            base.notices.iter().for_each(follow::print_notice);
        }
        output::line(&format!("  agent   {}", task.agent));
        if !task.profile.is_empty() {
            output::line(&format!("  profile {}", task.profile));
        }
        if let Some(c) = &task.changes {
            let files = foundry_core::counted(c.files_changed, "file");
            output::line(&format!("  changes {files}, +{} -{}", c.additions, c.deletions));
            follow::about_work(c).iter().for_each(|text| output::line(&format!("          {text}")));
        }
        if let Some(rule) = &task.auto_fix {
            output::line(&format!("  fixes   {}", output::inert(&fix::words(rule))));
        }
        let stages = task.stages.iter().map(|s| {
            let state = StageState::try_from(s.state).unwrap_or_default();
            vec![
                format!("  {}", s.name),
                output::state(state.as_str_name(), "STAGE_STATE_"),
                s.attempts.to_string(),
                s.reason.clone(),
                s.message.clone(),
            ]
        });
        output::table(&["  stage", "state", "attempts", "reason", "message"], stages.collect());
        let sessions = answer.sessions.iter().map(|s| {
            vec![
                format!("  {}", s.session_id),
                s.name.clone(),
                output::state(s.state().as_str_name(), "SESSION_STATE_"),
                format!("{}{}", s.queue_length, if s.queue_held { " (paused)" } else { "" }),
                s.last_offset.to_string(),
                s.condition.as_ref().map(|c| c.reason.clone()).unwrap_or_default(),
            ]
        });
        output::table(&["  session", "name", "state", "queued", "entries", "reason"], sessions.collect());
    })
}

/// A task's work in its newest version, and all its changed files; since an earlier version, unless that is 0.
///
/// # Errors
/// The service's error.
pub async fn changed_files(
    gateway: &Gateway,
    task_id: &str,
    whole: bool,
    since_version: i64,
) -> Result<(Changes, Vec<FileChange>), Failure> {
    let mut files: Vec<FileChange> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListFileChangesRequest {
            task_id: task_id.to_owned(),
            page_size: 500,
            page_token,
            whole,
            since_version,
        };
        let page = gateway.task().list_file_changes(request).await?.into_inner();
        files.extend(page.files);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            compared_notes(since_version, page.since_version, page.with_merged)
                .iter()
                .for_each(|text| eprintln!("{text}"));
            return Ok((page.changes.unwrap_or_default(), files));
        }
    }
}

/// What is to be said of a comparison that is not quite the one that was asked for.
fn compared_notes(asked: i64, since: i64, with_merged: bool) -> Vec<String> {
    let older = since < asked;
    let older = older.then(|| format!("version {asked} is not kept any more: compared with version {since}"));
    let merged = with_merged.then(|| {
        "what was merged from other branches since is listed too: it was merged with conflicts".to_owned()
    });
    older.into_iter().chain(merged).collect()
}

async fn diff(
    gateway: &Gateway,
    output: Output,
    task_id: String,
    patch: bool,
    whole: bool,
) -> Result<(), Failure> {
    let (changes, files) = changed_files(gateway, &task_id, whole, 0).await?;
    if changes.version == 0 && changes.not_saved.is_none() {
        eprintln!("no work has been imported yet");
    }
    if output == Output::Table || patch {
        follow::about_work(&changes).iter().for_each(|text| eprintln!("{text}"));
    }
    if patch {
        if !whole && !changes.merged_from.is_empty() {
            eprintln!("{}", follow::applies_where(&task_id));
        }
        return fetch::print_patch(gateway, task_id, whole).await;
    }
    if output == Output::Json {
        return files.iter().try_for_each(|f| output::json(f).map(|text| output::line(&text)));
    }
    let rows = files.iter().map(|f| {
        let name =
            if f.old_path.is_empty() { f.path.clone() } else { format!("{} -> {}", f.old_path, f.path) };
        let size = if f.binary { "binary".to_owned() } else { format!("+{} -{}", f.additions, f.deletions) };
        vec![f.kind.clone(), size, name]
    });
    output::table(&["change", "lines", "file"], rows.collect());
    Ok(())
}

async fn explain(gateway: &Gateway, output: Output, task_id: String) -> Result<(), Failure> {
    let answer = gateway.task().explain_task(ExplainTaskRequest { task_id }).await?.into_inner();
    output::one(output, &answer, |answer| {
        output::line(&output::inert(&answer.summary));
        for finding in &answer.findings {
            output::line(&format!(
                "- {} [{}] {}",
                finding.subject,
                finding.state,
                output::inert(&finding.explanation)
            ));
            let untold = finding.condition.as_ref().filter(|c| !tells(&finding.explanation, c));
            follow::print_condition(untold);
            let since = finding.condition.as_ref().and_then(|c| c.since_time.as_ref());
            if let (None, Some(since)) = (untold, since) {
                output::line(&format!("  since   {}", output::time(Some(since))));
            }
        }
    })
}

/// Whether an explanation has the words of a condition, which are not repeated then.
fn tells(explanation: &str, condition: &Condition) -> bool {
    let Condition { message, reason, waiting_on, next_action, .. } = condition;
    let is_step = !next_action.is_empty() && !next_action.starts_with("none needed");
    (message.is_empty() || explanation.contains(message.trim_end_matches('.')))
        && (reason.is_empty() || explanation.contains(reason.as_str()))
        && (waiting_on.is_empty() || explanation.contains("waiting for"))
        && (!is_step || explanation.contains(next_action.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_explanation_says_is_not_said_again() {
        let condition = Condition {
            reason: "PERMISSION_WANTED".into(),
            message: "the agent asks.".into(),
            waiting_on: "a user".into(),
            next_action: "answer it".into(),
            ..Condition::default()
        };
        let told = "It is running and is waiting for a user: the agent asks (PERMISSION_WANTED). Next step: answer it.";
        assert!(tells(told, &condition) && tells("", &Condition::default()));
        for untold in
            ["It is running.", "The agent asks (PERMISSION_WANTED).", &told.replace("answer", "wait")]
        {
            assert!(!tells(untold, &condition), "{untold}");
        }
    }
}
