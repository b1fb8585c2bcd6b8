//! `foundry repo`: repositories of an organization.

mod overview;

use std::process::ExitCode;
use std::time::Duration;

use foundry_proto::repo::v1::{
    CreateRepositoryRequest, DeleteRepositoryRequest, GetRepositoryRequest, ListRepositoriesRequest,
    Repository, RepositoryState, RequestRepositoryRefreshRequest, RequestRepositoryRefreshResponse,
};
use foundry_proto::task::v1::{ListTasksRequest, TaskState, TaskSummary};

use crate::cli::{Output, Repo};
use crate::client::{Gateway, request_id};
use crate::commands::{action, credential, follow, jobs, losing, webhook};
use crate::failure::Failure;
use crate::output;

/// Runs one command of the group.
pub async fn run(gateway: &Gateway, output: Output, command: Repo) -> Result<ExitCode, Failure> {
    match command {
        Repo::Add { url, name, no_wait } => add(gateway, output, url, name, no_wait).await?,
        Repo::Credential(command) => return credential::run(gateway, output, command).await,
        Repo::Webhook(command) => return webhook::run(gateway, output, command).await,
        Repo::List => list(gateway, output).await?,
        Repo::Overview { repository, watch } => {
            return overview::run(gateway, output, repository.as_deref(), watch).await;
        }
        Repo::Refresh { repository, no_wait } => refresh(gateway, output, &repository, no_wait).await?,
        Repo::Remove { repository, force, no_wait } => {
            remove(gateway, output, &repository, force, no_wait).await?;
        }
        Repo::Jobs(command) => jobs::run(gateway, output, command).await?,
        Repo::Action(command) => return action::run(gateway, output, command).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(
    gateway: &Gateway,
    output: Output,
    url: String,
    name: Option<String>,
    no_wait: bool,
) -> Result<(), Failure> {
    let organization_id = gateway.organization().await?;
    let url = absolute(&url);
    let request = CreateRepositoryRequest {
        request_id: request_id(),
        organization_id,
        url,
        name: name.unwrap_or_default(),
    };
    let mut repository =
        gateway.repo().create_repository(request).await?.into_inner().repository.unwrap_or_default();
    if !no_wait {
        let settled = |r: &Repository| matches!(r.state(), RepositoryState::Ready | RepositoryState::Error);
        repository = follow::repository(gateway, &repository.repository_id, LIMIT, settled).await?;
    }
    print(output, repository)
}

/// How long to wait for a synchronization or a removal.
const LIMIT: Duration = Duration::from_secs(600);

/// Prints a repository with its state; a failure when its last synchronization failed.
fn print(output: Output, repository: Repository) -> Result<(), Failure> {
    output::one(output, &repository, |r| {
        output::line(&format!(
            "{}  {}  {}",
            r.repository_id,
            r.name,
            output::state(r.state().as_str_name(), "REPOSITORY_STATE_")
        ));
    })?;
    if repository.state() == RepositoryState::Error {
        let condition = repository.condition.unwrap_or_default();
        let again = format!("`foundry repo refresh {0}` or `foundry repo remove {0}`", repository.name);
        return Err(Failure::new(format!("{} ({})", condition.message, condition.reason))
            .next(format!("{}: {again}", condition.next_action)));
    }
    Ok(())
}

async fn refresh(gateway: &Gateway, output: Output, wanted: &str, no_wait: bool) -> Result<(), Failure> {
    let before = resolve(gateway, Some(wanted)).await?;
    if no_wait {
        let answer = request_refresh(gateway, &before).await?;
        return output::one(output, &answer, |_| output::line("refresh scheduled"));
    }
    print(output, refreshed(gateway, &before, LIMIT).await?)
}

async fn request_refresh(
    gateway: &Gateway,
    repository: &Repository,
) -> Result<RequestRepositoryRefreshResponse, Failure> {
    let repository_id = repository.repository_id.clone();
    let request = RequestRepositoryRefreshRequest { request_id: request_id(), repository_id };
    Ok(gateway.repo().request_repository_refresh(request).await?.into_inner())
}

/// The repository after a synchronization that began now, whether that succeeded or not.
///
/// # Errors
/// When it takes longer than `limit`.
pub async fn refreshed(
    gateway: &Gateway,
    before: &Repository,
    limit: Duration,
) -> Result<Repository, Failure> {
    let id = &before.repository_id;
    // As it was when the refresh was scheduled: one that ran before may have ended since.
    let before = request_refresh(gateway, before).await?.repository.unwrap_or_default();
    follow::repository(gateway, id, limit, |now| is_refreshed(&before, now)).await
}

/// Whether a synchronization has ended since the repository was as before.
fn is_refreshed(before: &Repository, now: &Repository) -> bool {
    match now.state() {
        RepositoryState::Ready => now.sync_time != before.sync_time,
        RepositoryState::Error => now.condition != before.condition,
        state => state == RepositoryState::Deleting,
    }
}

async fn remove(
    gateway: &Gateway,
    output: Output,
    wanted: &str,
    force: bool,
    no_wait: bool,
) -> Result<(), Failure> {
    let repository = resolve(gateway, Some(wanted)).await?;
    let stored = stored_work(gateway, &repository, force).await?;
    let why = "removing the repository ends the work of these tasks on it, or destroys their stored changes";
    losing::consent(&stored, why, force)?;
    let repository_id = repository.repository_id;
    let request =
        DeleteRepositoryRequest { request_id: request_id(), repository_id: repository_id.clone(), force };
    let answer = gateway.repo().delete_repository(request).await?.into_inner();
    if no_wait {
        return output::one(output, &answer, |_| output::line("removal scheduled"));
    }
    follow::removal(gateway, &repository_id, LIMIT).await?;
    output::one(output, &answer, |_| output::line("removed"))
}

/// Most tasks that are named before their work is destroyed.
const NAMED_TASKS: usize = 20;

/// What a task loses with its repository; none = nothing. Without force, a repository is not removed while tasks work on it.
fn lost_with(task: &TaskSummary, force: bool) -> Option<String> {
    let lives = force && !matches!(task.state(), TaskState::Archived | TaskState::Killed);
    let now_on = "it has not ended, and what its agent does from now on is not saved";
    let files = foundry_core::counted(task.files_changed, "file");
    let saves = format!("`foundry task fetch {}` saves it", task.task_id);
    let lost = match (task.files_changed > 0, lives) {
        (false, false) => return None,
        (false, true) => now_on.to_owned(),
        (true, false) => format!("{files}; {saves}"),
        (true, true) => format!("{files}; {saves}; {now_on}"),
    };
    Some(format!("{} {}: {lost}", task.task_id, task.title))
}

/// A line for each task that loses something: those with living sandboxes, and ended ones whose changes are stored.
async fn stored_work(
    gateway: &Gateway,
    repository: &Repository,
    force: bool,
) -> Result<Vec<String>, Failure> {
    let (mut lines, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTasksRequest {
            organization_id: repository.organization_id.clone(),
            repository_id: repository.repository_id.clone(),
            show_archived: true,
            page_size: 0,
            page_token,
        };
        let page = gateway.task().list_tasks(request).await?.into_inner();
        lines.extend(page.tasks.iter().filter_map(|task| lost_with(task, force)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let more = i64::try_from(lines.len().saturating_sub(NAMED_TASKS)).unwrap_or(i64::MAX);
    lines.truncate(NAMED_TASKS);
    lines.extend((more > 0).then(|| format!("and those of {}", foundry_core::counted(more, "more task"))));
    Ok(lines)
}

/// Makes a local path absolute; leaves anything else unchanged.
fn absolute(url: &str) -> String {
    let path = std::path::Path::new(url);
    if url.contains("://") || url.starts_with('-') || !path.exists() {
        return url.to_owned();
    }
    std::fs::canonicalize(path).map_or_else(|_| url.to_owned(), |p| p.to_string_lossy().into_owned())
}

async fn list(gateway: &Gateway, output: Output) -> Result<(), Failure> {
    let repositories = all(gateway).await?;
    if output == Output::Json {
        return repositories.iter().try_for_each(|r| output::json(r).map(|text| output::line(&text)));
    }
    let rows = repositories.iter().map(|r| {
        vec![
            r.repository_id.clone(),
            r.name.clone(),
            state_of(r),
            r.default_branch.clone(),
            output::time(r.sync_time.as_ref()),
            r.url.clone(),
        ]
    });
    output::table(&["id", "name", "state", "default branch", "synchronized", "url"], rows.collect());
    Ok(())
}

/// The state of a repository for a list.
fn state_of(r: &Repository) -> String {
    let reason = r.condition.as_ref().map_or("", |c| c.reason.as_str());
    if r.state() == RepositoryState::Error && reason.starts_with("REPOSITORY_CREDENTIALS_") {
        return "needs a credential".to_owned();
    }
    output::state(r.state().as_str_name(), "REPOSITORY_STATE_")
}

/// All repositories of the organization.
///
/// # Errors
/// When they cannot be listed.
pub async fn all(gateway: &Gateway) -> Result<Vec<Repository>, Failure> {
    let organization_id = gateway.organization().await?;
    let mut repositories = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListRepositoriesRequest { organization_id: organization_id.clone(), page_size: 0, page_token };
        let page = gateway.repo().list_repositories(request).await?.into_inner();
        repositories.extend(page.repositories);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(repositories);
        }
    }
}

/// Finds a repository by its id or name; without either, the only one.
///
/// # Errors
/// When none or several match.
pub async fn resolve(gateway: &Gateway, wanted: Option<&str>) -> Result<Repository, Failure> {
    if let Some(id) = wanted.filter(|w| w.starts_with("repo_")) {
        let request = GetRepositoryRequest { repository_id: id.to_owned() };
        return Ok(gateway.repo().get_repository(request).await?.into_inner().repository.unwrap_or_default());
    }
    let all = all(gateway).await?;
    let mut matching = all.iter().filter(|r| wanted.is_none_or(|name| name == r.name));
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one.clone()),
        (None, _) => Err(absent(wanted, &all)),
        (Some(_), Some(_)) => {
            let names: Vec<_> = all.iter().take(NAMED).map(|r| r.name.as_str()).collect();
            let more = if all.len() > NAMED { ", …" } else { "" };
            let next = format!("name one of them: {}{more}", names.join(", "));
            Err(Failure::new("there are several repositories").next(next).exit(2))
        }
    }
}

/// The repository with this id or name, if there is one.
///
/// # Errors
/// When they cannot be listed.
pub async fn find(gateway: &Gateway, wanted: &str) -> Result<Option<Repository>, Failure> {
    Ok(all(gateway).await?.into_iter().find(|r| r.repository_id == wanted || r.name == wanted))
}

/// How many repositories are named to a person whose name matches none.
const NAMED: usize = 5;

/// The failure to find a repository, with the names of those that there are.
fn absent(wanted: Option<&str>, all: &[Repository]) -> Failure {
    let add = "register one with `foundry repo add URL`";
    let next = match all {
        [] => add.to_owned(),
        all => {
            let names: Vec<_> = all.iter().take(NAMED).map(|r| r.name.as_str()).collect();
            let more = if all.len() > NAMED { ", …" } else { "" };
            format!("choose one of: {}{more}; or {add}", names.join(", "))
        }
    };
    let message = wanted.map_or_else(
        || "no such repository: there are no repositories yet".to_owned(),
        |name| format!("no such repository: {name}"),
    );
    Failure::new(message).next(next).exit(4)
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::Condition;

    use super::*;

    #[test]
    fn a_name_that_matches_nothing_is_answered_with_those_that_there_are() {
        let named = |n: usize| Repository { name: format!("r{n}"), ..Repository::default() };
        let seven: Vec<_> = (1..=7).map(named).collect();
        let failure = absent(Some("rx"), &seven[..2]);
        assert_eq!(failure.message, "no such repository: rx");
        assert_eq!(failure.next_action, "choose one of: r1, r2; or register one with `foundry repo add URL`");
        assert!(absent(Some("rx"), &seven).next_action.starts_with("choose one of: r1, r2, r3, r4, r5, …;"));
        assert_eq!(absent(None, &[]).next_action, "register one with `foundry repo add URL`");
    }

    #[test]
    fn a_refresh_is_over_with_a_newer_synchronization_or_another_failure() {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let as_of = |state: RepositoryState, sync: i64, failed: i64| Repository {
            state: state.into(),
            sync_time: time(sync),
            condition: Some(Condition { since_time: time(failed), ..Condition::default() }),
            ..Repository::default()
        };
        let before = as_of(RepositoryState::Error, 1, 2);
        for (now, over) in [
            (before.clone(), false),
            (as_of(RepositoryState::Syncing, 1, 3), false),
            // One more synchronization follows the one that was running.
            (as_of(RepositoryState::Syncing, 3, 3), false),
            (as_of(RepositoryState::Error, 1, 3), true),
            (as_of(RepositoryState::Ready, 3, 3), true),
        ] {
            assert_eq!(is_refreshed(&before, &now), over, "{now:?}");
        }
        assert!(!is_refreshed(&as_of(RepositoryState::Ready, 1, 1), &as_of(RepositoryState::Ready, 1, 1)));
    }
}
