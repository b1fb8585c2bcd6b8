//! `foundry repo restack|rebase|reparent|register|sync|undo`: actions on branches of a remote.

use std::process::ExitCode;

use foundry_core::counted;
use foundry_proto::repo::v1::{
    GetJobRequest, Job, JobBranch, JobBranchState, JobKind, JobState, ParentSource,
    RunRepositoryActionRequest, UndoJobRequest,
};
use foundry_proto::task::v1::{
    CreateTaskRequest, GetTaskRequest, SendMessageRequest, Session, SessionState, Task,
};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::cli::Output;
use crate::cli::action::Action;
use crate::client::{Gateway, request_id};
use crate::commands::names::AtWork;
use crate::commands::{follow, losing, publish, repo};
use crate::failure::Failure;
use crate::output;

/// Runs one action: plan, consent, push.
///
/// # Errors
/// When the action is refused or fails, or the user does not want it.
pub async fn run(gateway: &Gateway, output: Output, action: Action) -> Result<ExitCode, Failure> {
    let (kind, branch, parent, how) = match action {
        Action::Undo { job_id, branches, plan, yes } => {
            return undo(gateway, output, (job_id, branches), plan, yes).await;
        }
        Action::Sync { repository } => {
            return at_once(gateway, output, JobKind::SyncRepo, repository.as_deref(), Default::default())
                .await;
        }
        Action::Register { branch, parent, repo } => {
            let kind = JobKind::RegisterExistingBranch;
            return at_once(gateway, output, kind, repo.as_deref(), (branch, parent)).await;
        }
        Action::Restack { branch: Some(branch), how } => {
            (JobKind::RestackSubtree, branch, String::new(), how)
        }
        Action::Restack { branch: None, how } => (JobKind::RestackRepo, String::new(), String::new(), how),
        Action::Rebase { branch, onto, how } => (JobKind::RebaseBranch, branch, onto, how),
        Action::Reparent { branch, parent, how } => (JobKind::ReparentBranch, branch, parent, how),
    };
    let mut request = request(gateway, kind, how.repo.as_deref(), (branch, parent)).await?;
    request.drop_signatures = how.drop_signatures;
    request.plan_only = true;
    let planned = ran(gateway, request.clone()).await?;
    if how.resolve && planned.branches.iter().any(|b| b.state() == JobBranchState::Conflict) {
        return resolve(gateway, output, &planned).await;
    }
    if how.plan {
        return shown(gateway, output, &planned).await;
    }
    if !agreed(gateway, &planned, how.yes).await? {
        return ended(output, &planned, &AtWork::default());
    }
    let request = RunRepositoryActionRequest {
        request_id: request_id(),
        plan_only: false,
        plan_job_id: planned.job_id,
        ..request
    };
    ended(output, &ran(gateway, request).await?, &AtWork::default())
}

async fn request(
    gateway: &Gateway,
    kind: JobKind,
    repository: Option<&str>,
    (branch, parent): (String, String),
) -> Result<RunRepositoryActionRequest, Failure> {
    let repository_id = repo::resolve(gateway, repository).await?.repository_id;
    let (committer_name, committer_email) = publish::author(gateway).await?;
    Ok(RunRepositoryActionRequest {
        request_id: request_id(),
        repository_id,
        kind: kind.into(),
        branch,
        parent,
        committer_name,
        committer_email,
        ..RunRepositoryActionRequest::default()
    })
}

/// Those that change nothing at the remote.
async fn at_once(
    gateway: &Gateway,
    output: Output,
    kind: JobKind,
    repository: Option<&str>,
    branches: (String, String),
) -> Result<ExitCode, Failure> {
    let request = request(gateway, kind, repository, branches).await?;
    ended(output, &ran(gateway, request).await?, &AtWork::default())
}

async fn ran(gateway: &Gateway, request: RunRepositoryActionRequest) -> Result<Job, Failure> {
    let begun = gateway.repo().run_repository_action(request).await?.into_inner().job.unwrap_or_default();
    whole(gateway, follow::job(gateway, &begun).await?).await
}

/// The job with all its branches: a watch shows the first ones.
async fn whole(gateway: &Gateway, job: Job) -> Result<Job, Failure> {
    if usize::try_from(job.branch_count).is_ok_and(|count| count <= job.branches.len()) {
        return Ok(job);
    }
    let request = GetJobRequest { job_id: job.job_id.clone() };
    Ok(gateway.repo().get_job(request).await?.into_inner().job.unwrap_or(job))
}

async fn undo(
    gateway: &Gateway,
    output: Output,
    (job_id, branches): (String, Vec<String>),
    plan: bool,
    yes: bool,
) -> Result<ExitCode, Failure> {
    let undone = async |plan_only| {
        let (job_id, branches) = (job_id.clone(), branches.clone());
        let request = UndoJobRequest { request_id: request_id(), job_id, plan_only, branches };
        let begun = gateway.repo().undo_job(request).await?.into_inner().job.unwrap_or_default();
        whole(gateway, follow::job(gateway, &begun).await?).await
    };
    let planned = undone(true).await?;
    let goes_on = !plan && agreed(gateway, &planned, yes).await?;
    let undone = if goes_on { undone(false).await? } else { planned };
    let others = others(&undone);
    let at_work = if plan { AtWork::of(gateway, &undone).await } else { AtWork::default() };
    ended(output, &undone, &at_work).map_err(|failure| match others {
        Some(others) => {
            let next = format!("to bring back the others alone: foundry repo undo {job_id} {others}");
            failure.next(output::inert(&next))
        }
        None => failure,
    })
}

/// The branches that a refused undo could bring back without those that have moved, as arguments; none if it can not.
fn others(undone: &Job) -> Option<String> {
    let of = |state: JobBranchState| undone.branches.iter().filter(move |b| b.state() == state);
    let names: Vec<String> =
        of(JobBranchState::Planned).map(|b| format!("--branch {}", quoted(&b.branch))).collect();
    let is_refused = undone.state() == JobState::Failed && of(JobBranchState::Refused).next().is_some();
    (is_refused && !names.is_empty()).then(|| names.join(" "))
}

/// Whether there is something to push, and the user wants it; the question names the open tasks that have the branches.
async fn agreed(gateway: &Gateway, planned: &Job, yes: bool) -> Result<bool, Failure> {
    let is_planned = |b: &&JobBranch| b.state() == JobBranchState::Planned;
    let moved: Vec<&JobBranch> = planned.branches.iter().filter(is_planned).collect();
    if planned.state() != JobState::Done || moved.is_empty() {
        return Ok(false);
    }
    let at_work = AtWork::of(gateway, planned).await;
    let lines: Vec<String> = moved.iter().flat_map(|branch| described(branch, &at_work)).collect();
    let why = format!("this replaces {} at the remote", branches(moved.len()));
    losing::consent_by(&lines, &why, yes, "look at the plan, then repeat the command with --yes")?;
    Ok(true)
}

fn branches(count: usize) -> String {
    if count == 1 { "1 branch".to_owned() } else { format!("{count} branches") }
}

/// Prints a plan, with the open tasks that have the branches which it would replace.
async fn shown(gateway: &Gateway, output: Output, planned: &Job) -> Result<ExitCode, Failure> {
    ended(output, planned, &AtWork::of(gateway, planned).await)
}

/// What becomes of a branch, and the open tasks that have it if it is to be replaced.
fn described(branch: &JobBranch, at_work: &AtWork) -> Vec<String> {
    let tasks = match branch.state() {
        JobBranchState::Planned => at_work.on(&branch.branch),
        _ => Vec::new(),
    };
    std::iter::once(describe(branch)).chain(tasks).collect()
}

/// Prints what has become of each branch; a failure when the job has failed.
fn ended(output: Output, job: &Job, at_work: &AtWork) -> Result<ExitCode, Failure> {
    output::one(output, job, |job| {
        let lines = job.branches.iter().flat_map(|b| described(b, at_work));
        lines.for_each(|line| output::line(&output::inert(&line)));
        if job.kind() == JobKind::RestackRepo && job.state() == JobState::Done && job.branches.is_empty() {
            output::line(
                "nothing to restack: no branch is known to stand on another one (`foundry repo overview` shows them)",
            );
        }
        if job.state() == JobState::Done && job.branches.iter().any(|b| b.state() == JobBranchState::Pushed) {
            output::line(&format!("to undo it: foundry repo undo {}", job.job_id));
        }
    })?;
    publish::failure(job).map_or(Ok(ExitCode::SUCCESS), Err)
}

/// What becomes of a branch, in one line.
pub fn describe(branch: &JobBranch) -> String {
    let short = |commit: &str| commit.get(..12).unwrap_or(commit).to_owned();
    let name = &branch.branch;
    let note = if branch.note.is_empty() { String::new() } else { format!("; {}", branch.note) };
    match branch.state() {
        JobBranchState::Planned | JobBranchState::Pushing | JobBranchState::Pushed => {
            let onto =
                if branch.parent.is_empty() { String::new() } else { format!(" on {}", branch.parent) };
            let made = match branch.commit_count {
                0 => String::new(),
                count => format!(", {} made again", counted(count, "commit")),
            };
            let (old, new) = (short(&branch.old_commit), short(&branch.new_commit));
            format!("{name}: {old} -> {new}{onto}{}{made}{note}", source(branch))
        }
        JobBranchState::Skipped => format!("{name}: stays{note}"),
        JobBranchState::Conflict => format!(
            "{name}: the commit {} is in conflict with {} in {}",
            short(&branch.conflict_commit),
            branch.parent,
            branch.conflict_files.join(", ")
        ),
        JobBranchState::Refused => format!("{name}: refused{note}"),
        JobBranchState::Pending | JobBranchState::Unspecified => format!("{name}: not planned"),
    }
}

/// Where the parent is known from, and which one it was if the action gives the branch another one; empty = not known.
fn source(branch: &JobBranch) -> String {
    let by = match branch.parent_source() {
        ParentSource::Unspecified => return String::new(),
        ParentSource::Commits => "by its commits",
        ParentSource::User => "given by a user",
        ParentSource::GitSpice => "by git-spice",
    };
    match branch.old_parent == branch.parent {
        true => format!(" (parent {by})"),
        false => format!(" (before on {}, {by})", branch.old_parent),
    }
}

/// Has an agent resolve the conflict of a plan: that of the open task which has the branch, or of a new one.
async fn resolve(gateway: &Gateway, output: Output, planned: &Job) -> Result<ExitCode, Failure> {
    let Some(branch) = planned.branches.iter().find(|b| b.state() == JobBranchState::Conflict) else {
        return ended(output, planned, &AtWork::default());
    };
    let below = planned.branches.iter().find(|b| b.branch == branch.parent);
    if let Some(below) = below.filter(|b| b.state() == JobBranchState::Planned) {
        let text = format!("{} is in conflict with {} as that will be", branch.branch, below.branch);
        let next = format!("bring what is below it there first: `foundry repo rebase {}`", below.branch);
        return Err(Failure::new(output::inert(&text)).next(output::inert(&next)));
    }
    let request = CreateTaskRequest {
        request_id: request_id(),
        organization_id: planned.organization_id.clone(),
        repository_id: planned.repository_id.clone(),
        on_branch: branch.branch.clone(),
        title: format!("Resolve conflicts of {}", branch.branch),
        prompt: prompt(branch),
        ..CreateTaskRequest::default()
    };
    let task = match gateway.task().create_task(request).await {
        Ok(created) => created.into_inner().task.unwrap_or_default(),
        Err(refused) => match owner(&refused) {
            Some(owner) => ask(gateway, &owner, prompt(branch)).await?,
            None => return Err(refused.into()),
        },
    };
    output::one(output, &task, |task| {
        output::line(&format!("{}  resolves the conflict", task.task_id));
        output::line(&format!("when it is done: foundry task publish {} --force", task.task_id));
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The open task that has the branch on which another one was refused, often the one that made it.
fn owner(refused: &Status) -> Option<String> {
    let details = refused.get_error_details();
    let taken = details.error_info().filter(|info| info.reason == "BRANCH_HAS_TASK");
    taken.and_then(|info| info.metadata.get("task_id").cloned())
}

/// Sends a message to the newest open session of a task.
async fn ask(gateway: &Gateway, task_id: &str, text: String) -> Result<Task, Failure> {
    let request = GetTaskRequest { task_id: task_id.to_owned() };
    let found = gateway.task().get_task(request).await?.into_inner();
    let is_open = |s: &&Session| s.state() != SessionState::Closed;
    let Some(session) = found.sessions.iter().rev().find(is_open) else {
        let next = "archive or kill it, or open a session in it, then run this again";
        return Err(
            Failure::new(format!("the task {task_id} has the branch, and no open session")).next(next)
        );
    };
    let session_id = session.session_id.clone();
    let message =
        SendMessageRequest { request_id: request_id(), session_id, text, ..SendMessageRequest::default() };
    gateway.task().send_message(message).await?;
    Ok(found.task.unwrap_or_default())
}

fn prompt(branch: &JobBranch) -> String {
    let onto = quoted(&format!("origin/{}", branch.parent));
    let rebase = match branch.from_commit.as_str() {
        "" => format!("git rebase {onto}"),
        // The history below belongs to what the branch stood on.
        from => format!("git rebase --onto {onto} {from}"),
    };
    format!(
        "The branch {0} cannot be brought onto {1}: its commit {2} is in conflict with it in these files:\n{3}\n\n\
         You work on {0}, or on a branch that starts there. Run `git fetch origin`, then `{rebase}`, which takes along only the commits \
         that are the branch's own. Resolve the conflicts so that what both sides want is kept, go on until the rebase has \
         ended, and check the result. Do not push.",
        branch.branch,
        branch.parent,
        branch.conflict_commit,
        branch.conflict_files.iter().map(|f| format!("- {f}")).collect::<Vec<_>>().join("\n")
    )
}

/// A word for a shell, in quotes if it needs them: names of branches may have almost any character.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/+-@".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_a_branch_is_said_in_one_line() {
        let of = |state: JobBranchState| JobBranch {
            branch: "s4".into(),
            state: state.into(),
            parent: "s3".into(),
            old_commit: "a".repeat(40),
            new_commit: "b".repeat(40),
            commit_count: 2,
            conflict_commit: "c".repeat(40),
            conflict_files: vec!["x".into(), "y".into()],
            note: "it is merged into main".into(),
            ..JobBranch::default()
        };
        for (state, line) in [
            (
                JobBranchState::Pushed,
                "s4: aaaaaaaaaaaa -> bbbbbbbbbbbb on s3, 2 commits made again; it is merged into main",
            ),
            (JobBranchState::Skipped, "s4: stays; it is merged into main"),
            (JobBranchState::Conflict, "s4: the commit cccccccccccc is in conflict with s3 in x, y"),
            (JobBranchState::Pending, "s4: not planned"),
        ] {
            assert_eq!(describe(&of(state)), line);
        }
        let planned = |source: ParentSource, old_parent: &str| {
            let branch = JobBranch {
                old_parent: old_parent.into(),
                note: String::new(),
                ..of(JobBranchState::Planned)
            };
            describe(&JobBranch { parent_source: source.into(), ..branch })
        };
        let line = "s4: aaaaaaaaaaaa -> bbbbbbbbbbbb on s3 (parent by git-spice), 2 commits made again";
        assert_eq!(planned(ParentSource::GitSpice, "s3"), line);
        let line =
            "s4: aaaaaaaaaaaa -> bbbbbbbbbbbb on s3 (before on s2, given by a user), 2 commits made again";
        assert_eq!(planned(ParentSource::User, "s2"), line);
    }

    #[test]
    fn a_refused_undo_offers_the_branches_that_have_not_moved() {
        let of = |branch: &str, state: JobBranchState| JobBranch {
            branch: branch.into(),
            state: state.into(),
            ..JobBranch::default()
        };
        let (moved, free) = (JobBranchState::Refused, JobBranchState::Planned);
        let job = |branches| Job { state: JobState::Failed.into(), branches, ..Job::default() };
        let all = job(vec![of("s1", moved), of("s2,s3", free), of("it's", free)]);
        assert_eq!(others(&all).as_deref(), Some(r"--branch 's2,s3' --branch 'it'\''s'"));
        assert_eq!(others(&job(vec![of("s1", moved)])), None);
        assert_eq!(others(&Job { state: JobState::Done.into(), ..all }), None);
    }

    #[test]
    fn a_plan_names_the_open_tasks_on_branches_that_it_replaces_and_on_no_others() {
        let at_work = AtWork::with(&[("task_1", "s1"), ("task_2", "s2")]);
        let of = |branch: &str, state: JobBranchState| {
            described(
                &JobBranch { branch: branch.into(), state: state.into(), ..JobBranch::default() },
                &at_work,
            )
        };
        let planned = of("s1", JobBranchState::Planned);
        assert_eq!(planned[1..], ["  the open task Fix it (task_1) has this branch"]);
        assert_eq!(of("s2", JobBranchState::Skipped).len(), 1);
    }

    #[test]
    fn the_owner_of_a_taken_branch_is_known_from_the_refusal_and_from_no_other() {
        let refused = |reason| {
            let refused = foundry_core::Error::precondition(reason, "task_1", "the task task_1 works on it");
            owner(&refused.with("task_id", "task_1").into_status())
        };
        assert_eq!(refused("BRANCH_HAS_TASK").as_deref(), Some("task_1"));
        assert_eq!(refused("REPOSITORY_REMOVED"), None);
    }

    #[test]
    fn an_agent_is_asked_to_rebase_the_own_commits_of_the_branch_alone() {
        let conflict = |parent: &str, from: &str| JobBranch {
            branch: "s4".into(),
            parent: parent.into(),
            from_commit: from.into(),
            conflict_files: vec!["x".into(), "y".into()],
            ..JobBranch::default()
        };
        let text = prompt(&conflict("s3", "abc123"));
        assert!(
            text.contains("`git rebase --onto origin/s3 abc123`") && text.contains("- x\n- y\n"),
            "{text}"
        );
        let text = prompt(&conflict("it's $(id)", "abc123"));
        assert!(text.contains(r"`git rebase --onto 'origin/it'\''s $(id)' abc123`"), "{text}");
        // Planned by an older version.
        assert!(prompt(&conflict("s3", "")).contains("`git rebase origin/s3`"));
    }
}
