//! `foundry task publish`: the work of a task as a branch of the remote.

use std::process::ExitCode;

use foundry_core::counted;
use foundry_proto::auth::v1::GetUserRequest;
use foundry_proto::common::v1::{Condition, PullRequest};
use foundry_proto::repo::v1::{
    GetRepositoryRequest, Job, JobBranch, JobBranchState, JobState, PublishBranchRequest,
    PublishPullRequestRequest, PullRequestSettings,
};
use foundry_proto::task::v1::{GetTaskRequest, ProposePublicationRequest, Task, TaskState};
use foundry_service::{notice_words, pull_request_words};
use tokio::process::Command;

use crate::cli::Output;
use crate::cli::publish::PublishTask;
use crate::client::{Gateway, request_id};
use crate::commands::names::AtWork;
use crate::commands::{follow, losing};
use crate::failure::Failure;
use crate::output;

/// Publishes and follows that to its end.
///
/// # Errors
/// When the publication is refused or fails.
pub async fn run(gateway: &Gateway, output: Output, args: PublishTask) -> Result<ExitCode, Failure> {
    let request = GetTaskRequest { task_id: args.task_id.clone() };
    let task = gateway.task().get_task(request).await?.into_inner().task.unwrap_or_default();
    let task = follow::handed_over(gateway, task).await?;
    let (author_name, author_email) = author(gateway).await?;
    let left_out = left_out(&task);
    let pull_request = args.pull_request.then_some(PullRequestSettings {
        title: args.title,
        body: args.body,
        draft: args.draft,
        base: args.base,
        given: false,
        base_given: false,
    });
    let proposed = if args.message.is_empty() { Some(proposed(gateway, &task).await?) } else { None };
    let shown = before_the_push(left_out, proposed.as_deref());
    let message = proposed.unwrap_or(args.message);
    let mut request = PublishBranchRequest {
        request_id: request_id(),
        task_id: args.task_id,
        to_branch: args.to.unwrap_or_default(),
        squash: args.squash,
        message,
        force: args.force,
        plan_only: args.plan,
        author_name,
        author_email,
        agent: task.agent,
        expected_commit: String::new(),
        keep_commits: args.keep_commits,
        allow_conflicts: args.conflicts,
    };
    if request.plan_only {
        shown.iter().for_each(|text| eprintln!("{}", output::inert(text)));
    } else {
        losing::publishing(&shown, args.yes)?;
    }
    if request.force && !request.plan_only {
        request.expected_commit = expected(gateway, &request, args.yes).await?;
    }
    let begun = match pull_request {
        Some(wanted) => {
            gateway.repo().publish_pull_request(with_pull_request(request, wanted)).await?.into_inner().job
        }
        None => gateway.repo().publish_branch(request).await?.into_inner().job,
    }
    .unwrap_or_default();
    if args.detach {
        let branch = begun.branches.first().map(|b| b.branch.clone()).unwrap_or_default();
        output::one(output, &begun, |job| {
            output::line(&format!("{}  publishes to {}", job.job_id, output::inert(&branch)));
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let job = follow::job(gateway, &begun).await?;
    let is_plan = job.publish.as_ref().is_some_and(|publish| publish.plan_only);
    let tasks = if is_plan { with_tasks(gateway, &job, Vec::new()).await } else { Vec::new() };
    let request = GetRepositoryRequest { repository_id: job.repository_id.clone() };
    let remote =
        gateway.repo().get_repository(request).await?.into_inner().repository.unwrap_or_default().url;
    output::one(output, &job, |job| {
        for branch in &job.branches {
            plan(branch).iter().chain(&tasks).for_each(|text| output::line(&output::inert(text)));
            pushed(job, branch, &remote).iter().for_each(|text| output::line(&output::inert(text)));
            if let Some(pull_request) = &branch.pull_request {
                output::line(&output::inert(&pull_request_line(pull_request)));
            }
        }
    })?;
    failure(&job).map_or(Ok(ExitCode::SUCCESS), Err)
}

/// The message that the service proposes.
async fn proposed(gateway: &Gateway, task: &Task) -> Result<String, Failure> {
    let request = ProposePublicationRequest { task_id: task.task_id.clone() };
    let texts = gateway.task().propose_publication(request).await?.into_inner();
    Ok(match (texts.title.as_str(), texts.body.as_str()) {
        (title, "") => title.to_owned(),
        (title, body) => format!("{title}\n\n{body}"),
    })
}

/// What is shown, and asked about in a terminal, before anything is pushed. A proposed message has the agent's words, which
/// may mention people or close issues at the host.
fn before_the_push(mut left_out: Vec<String>, proposed: Option<&str>) -> Vec<String> {
    left_out.extend(proposed.map(|_| "message, unless one is given with --message:".to_owned()));
    left_out.extend(proposed.into_iter().flat_map(str::lines).map(|line| format!("  {line}")));
    left_out
}

/// The same, with a pull request.
fn with_pull_request(branch: PublishBranchRequest, wanted: PullRequestSettings) -> PublishPullRequestRequest {
    PublishPullRequestRequest {
        request_id: branch.request_id,
        task_id: branch.task_id,
        to_branch: branch.to_branch,
        squash: branch.squash,
        message: branch.message,
        force: branch.force,
        plan_only: branch.plan_only,
        author_name: branch.author_name,
        author_email: branch.author_email,
        agent: branch.agent,
        expected_commit: branch.expected_commit,
        keep_commits: branch.keep_commits,
        allow_conflicts: branch.allow_conflicts,
        title: wanted.title,
        body: wanted.body,
        draft: wanted.draft,
        base: wanted.base,
    }
}

/// A pull request with its address.
pub fn pull_request_line(p: &PullRequest) -> String {
    format!("{} {}", pull_request_words(p), p.url)
}

/// What is not in the branch, although somebody may look for it there.
fn left_out(task: &Task) -> Vec<String> {
    let changes = task.changes.clone().unwrap_or_default();
    let mut lines: Vec<_> =
        changes.notices.iter().map(|n| format!("notice: {}", notice_words(n).0)).collect();
    if task.state() == TaskState::Running {
        lines.push(
            "the agent is working: what it has changed since its work was last taken is not in it".to_owned(),
        );
    }
    lines.extend(follow::outstanding(task).map(|ended| {
        format!(
            "what the agent changed last, until {}, has not arrived yet and is not in it",
            output::time(Some(&ended.to_proto()))
        )
    }));
    lines.extend(changes.not_saved.as_ref().map(follow::not_saved_words));
    lines
}

/// Where the branch is by a plan, which is printed: what `--force` replaces must be what the user is shown.
/// Commits are replaced only with consent.
async fn expected(gateway: &Gateway, request: &PublishBranchRequest, yes: bool) -> Result<String, Failure> {
    let request = PublishBranchRequest { request_id: request_id(), plan_only: true, ..request.clone() };
    let begun = gateway.repo().publish_branch(request).await?.into_inner().job.unwrap_or_default();
    let job = follow::job(gateway, &begun).await?;
    if let Some(failure) = failure(&job) {
        return Err(failure);
    }
    let planned = job.branches.first().cloned().unwrap_or_default();
    if planned.new_commit.is_empty() {
        return Err(Failure::new("detached from the plan: nothing was pushed"));
    }
    let lines = with_tasks(gateway, &job, plan(&planned)).await;
    if planned.rewrites {
        losing::replacing(&lines, yes)?;
    } else {
        lines.iter().for_each(|text| eprintln!("{}", output::inert(text)));
    }
    Ok(planned.old_commit)
}

/// With the other open tasks that have the branch of a plan: their work is replaced, or continued without them.
async fn with_tasks(gateway: &Gateway, job: &Job, mut lines: Vec<String>) -> Vec<String> {
    let at_work = AtWork::of(gateway, job).await;
    lines.extend(job.branches.iter().flat_map(|branch| at_work.on(&branch.branch)));
    lines
}

/// Where a branch is after a push, how to get what that has replaced, and what the remote said about it.
fn pushed(job: &Job, branch: &JobBranch, remote: &str) -> Vec<String> {
    if branch.state() != JobBranchState::Pushed {
        return Vec::new();
    }
    let mut lines = vec![format!("{} is at {} on {remote}", branch.branch, branch.new_commit)];
    if branch.rewrites {
        let Job { job_id, task_id, .. } = job;
        lines.push(format!(
            "what it replaced, {}, is kept as refs/foundry/replaced/{job_id}; to get it as a branch of your clone: \
             foundry task fetch {task_id} --replaced {job_id}",
            short(&branch.old_commit)
        ));
    }
    lines.extend(branch.remote_message.lines().map(|said| format!("remote: {said}")));
    lines
}

/// Why a job has no effect; none while it runs, or when it is done.
pub fn failure(job: &Job) -> Option<Failure> {
    if !matches!(job.state(), JobState::Failed | JobState::Cancelled) {
        return None;
    }
    let condition = job.condition.clone().unwrap_or_default();
    let mut lines = vec![format!("{} ({})", condition.message, condition.reason)];
    for said in job.branches.iter().map(|b| &b.remote_message).filter(|said| said.contains('\n')) {
        lines.push("the remote said:".to_owned());
        lines.extend(said.lines().map(str::to_owned));
    }
    let lines: Vec<String> = lines.iter().map(|line| output::inert(line)).collect();
    Some(Failure::new(lines.join("\n")).next(condition.next_action))
}

/// What a job pushes, or has pushed, to a branch; nothing before it is planned.
pub fn plan(branch: &JobBranch) -> Vec<String> {
    if branch.new_commit.is_empty() {
        return Vec::new();
    }
    let from = match branch.old_commit.as_str() {
        "" => "new branch".to_owned(),
        old if old == branch.new_commit => "the remote has it already".to_owned(),
        old if branch.rewrites => format!("replaces {}", short(old)),
        old => format!("continues {}", short(old)),
    };
    let mut lines = vec![format!(
        "{}: {} ({from}), {}, {}, +{} -{}",
        branch.branch,
        short(&branch.new_commit),
        counted(branch.commit_count, "commit"),
        counted(branch.files_changed, "file"),
        branch.additions,
        branch.deletions
    )];
    lines.extend(branch.commits.iter().map(|c| format!("  {} {}", short(&c.commit), c.subject)));
    let more = branch.commit_count - i64::try_from(branch.commits.len()).unwrap_or(i64::MAX);
    lines.extend((more > 0).then(|| format!("  and {} more", counted(more, "commit"))));
    if branch.lost_count > 0 {
        lines.push(format!("  lost at the remote: {}", counted(branch.lost_count, "commit")));
        lines.extend(branch.lost_commits.iter().map(|c| format!("    {} {}", short(&c.commit), c.subject)));
        let more = branch.lost_count - i64::try_from(branch.lost_commits.len()).unwrap_or(i64::MAX);
        lines.extend((more > 0).then(|| format!("    and {} more", counted(more, "commit"))));
    }
    lines.extend((!branch.note.is_empty()).then(|| format!("  {}", branch.note)));
    let refused =
        |c: &Condition| format!("  would be refused: {} ({}); {}", c.message, c.reason, c.next_action);
    lines.extend(branch.refusals.iter().map(refused));
    lines
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// Name and address for the commits: as the person's own git has them, from its variables before its settings, or of the
/// account.
///
/// # Errors
/// When the account cannot be read.
pub async fn author(gateway: &Gateway) -> Result<(String, String), Failure> {
    let name = own(std::env::var("GIT_AUTHOR_NAME").ok(), &["author.name", "user.name"]).await;
    let email = own(std::env::var("GIT_AUTHOR_EMAIL").ok(), &["author.email", "user.email"]).await;
    if let (Some(name), Some(email)) = (&name, &email) {
        return Ok((name.clone(), email.clone()));
    }
    let user = gateway.auth().get_user(GetUserRequest {}).await?.into_inner().user.unwrap_or_default();
    let address = if user.login.contains('@') { user.login } else { format!("{}@localhost", user.login) };
    Ok((name.unwrap_or(user.display_name), email.unwrap_or(address)))
}

/// What a variable says, or else the first of these settings that is set.
async fn own(variable: Option<String>, settings: &[&str]) -> Option<String> {
    let given = variable.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    if given.is_some() {
        return given;
    }
    for key in settings {
        if let Some(text) = configured(key).await {
            return Some(text);
        }
    }
    None
}

/// A setting of the person's git; none if it is not set, or there is no git.
async fn configured(key: &str) -> Option<String> {
    let found = Command::new("git").args(["config", "--get", key]).output().await.ok()?;
    let text = String::from_utf8(found.stdout).ok()?.trim().to_owned();
    (found.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use foundry_proto::repo::v1::JobCommit;

    use super::*;

    #[tokio::test]
    async fn the_variables_of_git_go_before_its_settings() {
        let unset = ["foundry.no-such-setting"];
        assert_eq!(own(Some(" Ada ".into()), &unset).await.as_deref(), Some("Ada"));
        assert_eq!(own(Some(" ".into()), &unset).await, None);
        assert_eq!(own(None, &unset).await, None);
    }

    #[test]
    fn a_message_that_nobody_has_chosen_is_asked_about_before_the_push() {
        let message = "Add a parser\n\nCloses #1, @team.";
        let shown = before_the_push(vec!["notice: x".to_owned()], Some(message));
        assert_eq!(shown[0], "notice: x");
        assert_eq!(shown[2..], ["  Add a parser", "  ", "  Closes #1, @team."]);
        // Then there is no question.
        assert!(before_the_push(Vec::new(), None).is_empty());
    }

    #[test]
    fn a_plan_says_what_becomes_of_the_branch() {
        let branch = JobBranch {
            branch: "feat/x".into(),
            new_commit: "b".repeat(40),
            commit_count: 21,
            files_changed: 1,
            additions: 2,
            ..JobBranch::default()
        };
        assert_eq!(plan(&branch)[0], "feat/x: bbbbbbbbbbbb (new branch), 21 commits, 1 file, +2 -0");
        assert_eq!(plan(&branch).last().unwrap(), "  and 21 commits more");
        let old = JobBranch { old_commit: "a".repeat(40), rewrites: true, ..branch.clone() };
        assert!(plan(&old)[0].contains("(replaces aaaaaaaaaaaa)"));
        let lost = JobBranch {
            lost_count: 3,
            lost_commits: vec![JobCommit { commit: "c".repeat(40), subject: "Review".into() }],
            ..old
        };
        let expected =
            ["  lost at the remote: 3 commits", "    cccccccccccc Review", "    and 2 commits more"];
        assert_eq!(plan(&lost)[2..], expected);
        let refusal = Condition {
            reason: "WORK_IN_CONFLICT".into(),
            message: "the work is not finished".into(),
            next_action: "finish it".into(),
            ..Condition::default()
        };
        let refused = JobBranch { refusals: vec![refusal], ..branch.clone() };
        let line = "  would be refused: the work is not finished (WORK_IN_CONFLICT); finish it";
        assert_eq!(plan(&refused).last().unwrap(), line);
        let same = JobBranch { old_commit: branch.new_commit.clone(), ..branch };
        assert!(plan(&same)[0].contains("has it already"));
        assert!(plan(&JobBranch::default()).is_empty());
    }

    #[test]
    fn what_the_remote_says_about_a_push_is_printed() {
        let branch = JobBranch {
            branch: "feat/x".into(),
            state: JobBranchState::Pushed.into(),
            new_commit: "b".into(),
            remote_message: "Create a pull request:\nhttps://git.example/new".into(),
            ..JobBranch::default()
        };
        let job = Job { job_id: "job_1".into(), task_id: "task_1".into(), ..Job::default() };
        let printed = pushed(&job, &branch, "https://git.example/x");
        assert_eq!(printed[1..], ["remote: Create a pull request:", "remote: https://git.example/new"]);
        assert!(pushed(&job, &JobBranch::default(), "x").is_empty());
        let forced = JobBranch { rewrites: true, old_commit: "a".repeat(40), ..branch };
        let kept = "what it replaced, aaaaaaaaaaaa, is kept as refs/foundry/replaced/job_1; to get it as a branch of your \
                    clone: foundry task fetch task_1 --replaced job_1";
        assert_eq!(pushed(&job, &forced, "x")[1], kept);
    }

    #[test]
    fn a_refusal_is_printed_with_the_words_of_the_host_and_without_escapes() {
        let job = Job {
            state: JobState::Failed.into(),
            condition: Some(Condition {
                reason: "BRANCH_PROTECTED".into(),
                message: "refused".into(),
                next_action: "publish elsewhere".into(),
                ..Condition::default()
            }),
            branches: vec![JobBranch {
                remote_message: "GH006\nno\u{1b}[31m".into(),
                ..JobBranch::default()
            }],
            ..Job::default()
        };
        let failure = failure(&job).unwrap();
        assert!(
            failure.message.starts_with("refused (BRANCH_PROTECTED)") && failure.message.contains("GH006")
        );
        assert!(failure.message.contains("\nGH006\nno"), "{}", failure.message);
        assert!(!failure.message.contains('\u{1b}') && failure.next_action == "publish elsewhere");
    }
}
