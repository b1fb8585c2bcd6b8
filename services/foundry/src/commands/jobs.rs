//! `foundry repo jobs`: what is done to branches of a repository's remote.

use std::collections::HashMap;

use foundry_proto::repo::v1::{CancelJobRequest, GetJobRequest, Job, JobState, ListJobsRequest};

use crate::cli::{Jobs, Output};
use crate::client::{Gateway, request_id};
use crate::commands::{action, follow, names, publish, repo};
use crate::failure::Failure;
use crate::output;

/// Runs one command of the group.
///
/// # Errors
/// When the call fails.
pub async fn run(gateway: &Gateway, output: Output, command: Jobs) -> Result<(), Failure> {
    match command {
        Jobs::List { repository } => list(gateway, output, repository.as_deref()).await,
        Jobs::Show { job_id } => {
            let answer = gateway.repo().get_job(GetJobRequest { job_id }).await?.into_inner();
            let job = answer.job.unwrap_or_default();
            if output == Output::Json {
                return output::one(output, &job, |_| {});
            }
            let tasks = names::tasks(gateway, &job.organization_id, &job.repository_id).await;
            let members = names::members(gateway, &job.organization_id).await;
            let repository = repo::resolve(gateway, Some(&job.repository_id)).await.unwrap_or_default().name;
            show(&job, &named(&job, &tasks), names::of(&members, &job.created_by), &repository);
            Ok(())
        }
        Jobs::Cancel { job_id } => {
            let request = CancelJobRequest { request_id: request_id(), job_id };
            let job = gateway.repo().cancel_job(request).await?.into_inner().job.unwrap_or_default();
            output::one(output, &job, |job| output::line(&cancelled(job)))
        }
    }
}

/// What a request to cancel a job that is in this state has done.
fn cancelled(job: &Job) -> String {
    match job.state() {
        JobState::Done => {
            "nothing to cancel: the job is done already (`foundry repo undo` takes it back)".to_owned()
        }
        JobState::Failed => "nothing to cancel: the job has failed already".to_owned(),
        JobState::Cancelled => "nothing to cancel: the job is cancelled already".to_owned(),
        JobState::Unspecified | JobState::Queued | JobState::Running => "cancel scheduled".to_owned(),
    }
}

/// The task of a job by its title, with the id that other commands take; empty for a job about none.
fn named(job: &Job, tasks: &HashMap<String, String>) -> String {
    match names::of(tasks, &job.task_id) {
        id if id == job.task_id => id.to_owned(),
        title => format!("{} ({})", output::inert(title), job.task_id),
    }
}

fn show(job: &Job, task: &str, by: &str, repository: &str) {
    output::line(&format!("{}  {}", job.job_id, state(job)));
    output::line(&format!("  kind    {}", kind(job)));
    if !repository.is_empty() {
        output::line(&format!("  on      {}", output::inert(repository)));
    }
    if !task.is_empty() {
        output::line(&format!("  task    {task}"));
    }
    let at = output::time(job.create_time.as_ref());
    output::line(&format!("  by      {} at {at}", output::inert(by)));
    follow::print_condition(job.condition.as_ref());
    for branch in &job.branches {
        let state = output::state(branch.state().as_str_name(), "JOB_BRANCH_STATE_");
        output::line(&format!("  branch  {} {state}", output::inert(&branch.branch)));
        let lines = if job.action.is_some() { vec![action::describe(branch)] } else { publish::plan(branch) };
        lines.iter().for_each(|text| output::line(&format!("          {}", output::inert(text))));
        if let Some(pull_request) = &branch.pull_request {
            output::line(&format!("          {}", output::inert(&publish::pull_request_line(pull_request))));
        }
        branch
            .remote_message
            .lines()
            .for_each(|said| output::line(&format!("  remote  {}", output::inert(said))));
    }
}

/// A plan looks like what it plans in everything else.
fn kind(job: &Job) -> String {
    let kind = output::state(job.kind().as_str_name(), "JOB_KIND_");
    let is_plan = job.publish.as_ref().is_some_and(|publish| publish.plan_only);
    if is_plan { format!("{kind} (plan)") } else { kind }
}

fn state(job: &Job) -> String {
    output::state(job.state().as_str_name(), "JOB_STATE_")
}

async fn list(gateway: &Gateway, output: Output, repository: Option<&str>) -> Result<(), Failure> {
    let repository = repo::resolve(gateway, repository).await?;
    let repository_id = repository.repository_id;
    let (mut jobs, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListJobsRequest {
            repository_id: repository_id.clone(),
            task_id: String::new(),
            page_size: 0,
            page_token,
        };
        let page = gateway.repo().list_jobs(request).await?.into_inner();
        jobs.extend(page.jobs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if output == Output::Json {
        return jobs.iter().try_for_each(|j| output::json(j).map(|text| output::line(&text)));
    }
    let tasks = names::tasks(gateway, &repository.organization_id, &repository_id).await;
    let members = names::members(gateway, &repository.organization_id).await;
    let rows = jobs.iter().map(|job| {
        let mut branches: Vec<String> = job.branches.iter().map(|b| b.branch.clone()).collect();
        let shown = i32::try_from(branches.len()).unwrap_or(i32::MAX);
        if job.branch_count > shown {
            branches.push(format!("and {} more", job.branch_count - shown));
        }
        vec![
            job.job_id.clone(),
            kind(job),
            state(job),
            output::inert(&branches.join(" ")),
            output::inert(&names::short(names::of(&tasks, &job.task_id))),
            output::inert(names::of(&members, &job.created_by)),
            output::time(job.create_time.as_ref()),
            job.condition.as_ref().map(|c| c.reason.clone()).unwrap_or_default(),
        ]
    });
    output::table(&["id", "kind", "state", "branch", "task", "by", "requested", "reason"], rows.collect());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_of_a_job_that_has_ended_says_so() {
        let of = |state: JobState| cancelled(&Job { state: state.into(), ..Job::default() });
        assert_eq!(of(JobState::Running), "cancel scheduled");
        for ended in [JobState::Done, JobState::Failed, JobState::Cancelled] {
            assert!(of(ended).starts_with("nothing to cancel"), "{ended:?}");
        }
    }
}
