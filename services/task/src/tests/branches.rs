//! Tasks on branches that exist.

use std::sync::atomic::Ordering;
use std::time::Duration;

use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{JobKind, JobState};
use foundry_proto::task::v1::*;
use tonic_types::StatusExt as _;

use crate::ops;
use crate::testing::{Running, Tenant, World};

/// A service that knows the branches `main` and `feature-x`.
async fn started(world: &World) -> (Tenant, Running) {
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    *world.repo.branches.lock().unwrap() = ["main", "feature-x"].map(str::to_owned).to_vec();
    running.cx.follow(&tenant.organization).await.unwrap();
    crate::consume::branch_names::copy_outdated(&running.cx).await.unwrap();
    (tenant, running)
}

fn on(tenant: &Tenant, branch: &str) -> CreateTaskRequest {
    CreateTaskRequest {
        organization_id: tenant.organization.to_string(),
        repository_id: tenant.repository.to_string(),
        prompt: "go on".into(),
        on_branch: branch.into(),
        ..CreateTaskRequest::default()
    }
}

async fn create(running: &Running, tenant: &Tenant, request: CreateTaskRequest) -> Result<Task> {
    let created = ops::create_task::create_task(&running.cx, &tenant.caller, request);
    let created = tokio::time::timeout(Duration::from_secs(20), created).await;
    created.expect("it waits for the repo service").map(|created| created.task.unwrap())
}

async fn reaches(running: &Running, tenant: &Tenant, task: &Task, state: TaskState) -> Task {
    let reached = |t: &GetTaskResponse| t.task.as_ref().unwrap().state() == state;
    running.until(tenant, &task.task_id, reached).await.task.unwrap()
}

async fn kill(running: &Running, tenant: &Tenant, task: &Task) {
    let request = KillTaskRequest { task_id: task.task_id.clone(), request_id: String::new() };
    ops::kill_task::kill_task(&running.cx, &tenant.caller, request).await.unwrap();
    reaches(running, tenant, task, TaskState::Killed).await;
}

async fn retry(running: &Running, tenant: &Tenant, task: &Task) -> Result<()> {
    let request = RetryTaskRequest { task_id: task.task_id.clone(), request_id: String::new() };
    ops::retry_task::retry_task(&running.cx, &tenant.caller, request).await.map(drop)
}

#[tokio::test]
async fn a_known_branch_is_the_task_s_own_from_the_start_until_it_ends() {
    let world = World::new().await;
    let (tenant, running) = started(&world).await;
    // No call is needed for it.
    world.repo.hangs.store(true, Ordering::SeqCst);
    let first = create(&running, &tenant, on(&tenant, "feature-x")).await.unwrap();
    assert_eq!(first.state(), TaskState::Queued);
    assert_eq!((first.branch.as_str(), first.base_branch.as_str()), ("feature-x", "feature-x"));
    assert!(first.existing_branch && !first.follows_default_branch);
    let second = create(&running, &tenant, on(&tenant, "feature-x")).await.unwrap_err();
    assert_eq!(second.reason(), "BRANCH_HAS_TASK");
    assert!(second.message().contains(&first.task_id), "{}", second.message());
    let details = second.into_status().get_error_details();
    // By which clients find it.
    assert_eq!(details.error_info().unwrap().metadata.get("task_id"), Some(&first.task_id));
    // Others are free, also the default branch.
    create(&running, &tenant, on(&tenant, "main")).await.unwrap();
    let after = reaches(&running, &tenant, &first, TaskState::Running).await;
    assert!(after.existing_branch);
    kill(&running, &tenant, &first).await;
    let third = create(&running, &tenant, on(&tenant, "feature-x")).await.unwrap();
    assert_ne!(third.task_id, first.task_id);
    assert!(world.repo.jobs.lock().unwrap().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn of_two_tasks_that_are_created_on_a_branch_at_once_one_is_refused() {
    let world = World::new().await;
    let (tenant, running) = started(&world).await;
    for round in 0..5 {
        let branch = format!("unknown/{round}");
        let (one, two) = tokio::join!(
            create(&running, &tenant, on(&tenant, &branch)),
            create(&running, &tenant, on(&tenant, &branch))
        );
        let (made, refused) = match (one, two) {
            (Ok(made), Err(refused)) | (Err(refused), Ok(made)) => (made, refused),
            both => panic!("{both:?}"),
        };
        assert_eq!(refused.reason(), "BRANCH_HAS_TASK");
        assert!(refused.message().contains(&made.task_id), "{}", refused.message());
        // A repeat of one request is no second task.
        let branch = format!("repeated/{round}");
        let request = || CreateTaskRequest { request_id: branch.clone(), ..on(&tenant, &branch) };
        let (one, two) =
            tokio::join!(create(&running, &tenant, request()), create(&running, &tenant, request()));
        assert_eq!(one.unwrap().task_id, two.unwrap().task_id);
    }
    running.stop().await;
}

#[tokio::test]
async fn an_unknown_branch_is_looked_for_by_one_job_whatever_crashes() {
    let world = World::new().await;
    let (tenant, running) = started(&world).await;
    world.repo.down.store(true, Ordering::SeqCst);
    let task = create(&running, &tenant, on(&tenant, "feature-y")).await.unwrap();
    assert_eq!(task.state(), TaskState::PendingBranch);
    let condition = task.condition.clone().unwrap();
    assert!(condition.message.contains("feature-y"), "{condition:?}");
    assert!(condition.next_action.contains("goes on by itself") && condition.since_time.is_some());
    // Nothing is lost with the process, before and after the job was requested.
    running.crash().await;
    world.repo.down.store(false, Ordering::SeqCst);
    let running = world.start().await;
    let requested = async |least: usize| {
        while world.repo.jobs.lock().unwrap().len() < least {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), requested(1)).await.unwrap();
    running.crash().await;
    let running = world.start().await;
    let explained = ops::explain_task::explain_task(
        &running.cx,
        &tenant.caller,
        ExplainTaskRequest { task_id: task.task_id.clone() },
    );
    let summary = explained.await.unwrap().summary;
    assert!(summary.contains("is waiting for its branch"), "{summary}");
    assert!(world.provisioner.sandbox_states().is_empty());
    world.repo.end_jobs(JobState::Done, "");
    reaches(&running, &tenant, &task, TaskState::Running).await;
    let jobs = world.repo.jobs.lock().unwrap().clone();
    let [(_, job)] = jobs.as_slice() else { panic!("{jobs:?}") };
    assert_eq!((job.kind(), job.branches[0].branch.as_str()), (JobKind::RegisterExistingBranch, "feature-y"));
    running.stop().await;
}

#[tokio::test]
async fn a_branch_that_is_not_there_fails_the_task_until_a_retry_finds_it() {
    let world = World::new().await;
    let (tenant, running) = started(&world).await;
    let task = create(&running, &tenant, on(&tenant, "feature-y")).await.unwrap();
    for (reason, next) in
        [("BRANCH_NOT_AT_REMOTE", "push the branch"), ("GIT_REMOTE_UNREACHABLE", "retry the task")]
    {
        let count = world.repo.jobs.lock().unwrap().len();
        let has_job = async {
            while world.repo.jobs.lock().unwrap().last().is_none_or(|(_, j)| j.state() != JobState::Queued) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), has_job).await.unwrap();
        assert!(world.repo.jobs.lock().unwrap().len() <= count + 1);
        world.repo.end_jobs(JobState::Failed, reason);
        let failed = reaches(&running, &tenant, &task, TaskState::Error).await.condition.unwrap();
        assert_eq!(failed.reason, reason);
        assert!(
            failed.next_action.contains(next) && failed.message.contains("as the job says"),
            "{failed:?}"
        );
        // Nobody else gets the branch in between.
        let refused = create(&running, &tenant, on(&tenant, "feature-y")).await.unwrap_err();
        assert_eq!(refused.reason(), "BRANCH_HAS_TASK");
        retry(&running, &tenant, &task).await.unwrap();
        reaches(&running, &tenant, &task, TaskState::PendingBranch).await;
    }
    let again = async {
        while world.repo.jobs.lock().unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.unwrap();
    world.repo.end_jobs(JobState::Done, "");
    reaches(&running, &tenant, &task, TaskState::Running).await;
    running.stop().await;
}

#[tokio::test]
async fn a_task_is_killed_while_nobody_answers_where_its_branch_is_and_leaves_it_to_others() {
    let world = World::new().await;
    let (tenant, running) = started(&world).await;
    world.repo.hangs.store(true, Ordering::SeqCst);
    let task = create(&running, &tenant, on(&tenant, "feature-y")).await.unwrap();
    assert_eq!(task.state(), TaskState::PendingBranch);
    kill(&running, &tenant, &task).await;
    assert!(world.provisioner.sandbox_states().is_empty());
    create(&running, &tenant, on(&tenant, "feature-y")).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn hostile_names_and_contradictions_are_refused_and_odd_names_are_names() {
    let world = World::new().await;
    let (tenant, running) = started(&world).await;
    for name in ["--upload-pack=touch x", "-x", "a..b", "refs/heads/main", "a\u{7}", "HEAD", "a b"] {
        let refused = create(&running, &tenant, on(&tenant, name)).await.unwrap_err();
        assert_eq!(refused.reason(), "INVALID_FIELD", "{name}");
    }
    let both = CreateTaskRequest { branch: "new".into(), ..on(&tenant, "feature-x") };
    assert_eq!(create(&running, &tenant, both).await.unwrap_err().reason(), "INVALID_FIELD");
    let both = CreateTaskRequest { base_branch: "main".into(), ..on(&tenant, "feature-x") };
    assert_eq!(create(&running, &tenant, both).await.unwrap_err().reason(), "INVALID_FIELD");
    for name in ["$(id)", "a;b", "it's"] {
        let task = create(&running, &tenant, on(&tenant, name)).await.unwrap();
        assert_eq!((task.branch.as_str(), task.state()), (name, TaskState::PendingBranch));
    }
    running.stop().await;
}
