//! The names of what has an id, for people: without them, or where they cannot be read, the id is shown.

use std::collections::HashMap;

use foundry_proto::auth::v1::ListMembersRequest;
use foundry_proto::repo::v1::{GetRepositoryOverviewRequest, Job};
use foundry_proto::task::v1::{ListTasksRequest, TaskState, TaskSummary};

use crate::client::Gateway;

/// Entries of a page.
const PAGE: i32 = 500;

/// The titles of the tasks of a repository, by their ids.
pub async fn tasks(gateway: &Gateway, organization_id: &str, repository_id: &str) -> HashMap<String, String> {
    let all = all_tasks(gateway, organization_id, repository_id, true).await;
    all.into_iter().map(|t| (t.task_id, t.title)).collect()
}

/// The open tasks of a repository, and whose its branches are by the overview.
#[derive(Default)]
pub struct AtWork {
    tasks: Vec<TaskSummary>,
    owners: HashMap<String, String>,
}

impl AtWork {
    /// Those of the repository of a job, without the task whose work the job publishes.
    pub async fn of(gateway: &Gateway, job: &Job) -> Self {
        let mut tasks = open_tasks(gateway, &job.organization_id, &job.repository_id).await;
        tasks.retain(|task| task.task_id != job.task_id);
        Self { tasks, owners: owners(gateway, &job.repository_id).await }
    }

    /// A line for each task that has this branch: it is theirs, or its owner by the overview.
    pub fn on(&self, branch: &str) -> Vec<String> {
        let owner = self.owners.get(branch);
        let has = |t: &&TaskSummary| t.branch == branch || owner == Some(&t.task_id);
        let line = |t: &TaskSummary| format!("  the open task {} ({}) has this branch", t.title, t.task_id);
        self.tasks.iter().filter(has).map(line).collect()
    }
}

/// The tasks of a repository that have not ended.
async fn open_tasks(gateway: &Gateway, organization_id: &str, repository_id: &str) -> Vec<TaskSummary> {
    let mut all = all_tasks(gateway, organization_id, repository_id, false).await;
    all.retain(|t| !matches!(t.state(), TaskState::Archived | TaskState::Killed));
    all
}

/// The tasks that have branches of a repository, by the names of these: also those that have published to one of another name.
async fn owners(gateway: &Gateway, repository_id: &str) -> HashMap<String, String> {
    let (mut owners, mut page_token) = (HashMap::new(), String::new());
    loop {
        let repository_id = repository_id.to_owned();
        let request = GetRepositoryOverviewRequest { repository_id, page_size: PAGE, page_token };
        let Ok(page) = gateway.repo().get_repository_overview(request).await else { return owners };
        let page = page.into_inner();
        owners.extend(page.branches.into_iter().map(|b| (b.name, b.task_id)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return owners;
        }
    }
}

async fn all_tasks(
    gateway: &Gateway,
    organization_id: &str,
    repository_id: &str,
    show_archived: bool,
) -> Vec<TaskSummary> {
    let (mut tasks, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTasksRequest {
            organization_id: organization_id.to_owned(),
            repository_id: repository_id.to_owned(),
            show_archived,
            page_size: PAGE,
            page_token,
        };
        let Ok(page) = gateway.task().list_tasks(request).await else { return tasks };
        let page = page.into_inner();
        tasks.extend(page.tasks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return tasks;
        }
    }
}

/// The sign-in names of the members of an organization, by their ids.
pub async fn members(gateway: &Gateway, organization_id: &str) -> HashMap<String, String> {
    let (mut logins, mut page_token) = (HashMap::new(), String::new());
    loop {
        let request =
            ListMembersRequest { organization_id: organization_id.to_owned(), page_size: PAGE, page_token };
        let Ok(page) = gateway.auth().list_members(request).await else { return logins };
        let page = page.into_inner();
        logins.extend(page.members.into_iter().map(|m| (m.user_id, m.login)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return logins;
        }
    }
}

/// The name of one of them, or its id.
pub fn of<'a>(names: &'a HashMap<String, String>, id: &'a str) -> &'a str {
    names.get(id).filter(|name| !name.is_empty()).map_or(id, String::as_str)
}

/// A name that is cut where a column would be too wide.
pub fn short(name: &str) -> String {
    const WIDTH: usize = 40;
    if name.chars().count() <= WIDTH {
        return name.to_owned();
    }
    let cut: String = name.chars().take(WIDTH - 1).collect();
    format!("{}…", cut.trim_end())
}

#[cfg(test)]
impl AtWork {
    /// Tasks on these branches.
    pub fn with(tasks: &[(&str, &str)]) -> Self {
        let task = |(id, branch): &(&str, &str)| TaskSummary {
            task_id: (*id).to_owned(),
            title: "Fix it".to_owned(),
            branch: (*branch).to_owned(),
            ..TaskSummary::default()
        };
        Self { tasks: tasks.iter().map(task).collect(), owners: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_the_open_tasks_that_have_a_branch() {
        let of = |id: &str, branch: &str| TaskSummary {
            task_id: id.into(),
            title: "Fix it".into(),
            branch: branch.into(),
            ..TaskSummary::default()
        };
        let tasks = vec![of("task_1", "s1"), of("task_2", "own")];
        let owners = [("s1", "task_1"), ("s2", "task_2"), ("s3", ""), ("s4", "task_ended")];
        let owners = owners.into_iter().map(|(name, id)| (name.to_owned(), id.to_owned())).collect();
        let at_work = AtWork { tasks, owners };
        let named = |branch: &str| at_work.on(branch);
        assert_eq!(named("s1"), ["  the open task Fix it (task_1) has this branch"]);
        assert_eq!(named("s2"), ["  the open task Fix it (task_2) has this branch"]);
        assert!(named("s3").is_empty() && named("s4").is_empty() && named("s5").is_empty());
    }

    #[test]
    fn what_has_no_name_is_shown_by_its_id_and_a_long_name_is_cut() {
        let names = HashMap::from([("a".to_owned(), "Ada".to_owned()), ("b".to_owned(), String::new())]);
        assert_eq!((of(&names, "a"), of(&names, "b"), of(&names, "c")), ("Ada", "b", "c"));
        assert_eq!(short("Fix it"), "Fix it");
        assert_eq!(short(&"é".repeat(41)), format!("{}…", "é".repeat(39)));
    }
}
