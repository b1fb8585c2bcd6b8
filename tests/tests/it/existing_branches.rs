//! A task on a branch that somebody else has begun: from a host that does not answer, through a kill of the mesh, to its publication.

use std::path::Path;

use foundry_proto::repo::v1::{CreateRepositoryRequest, GetRepositoryOverviewRequest, Repository};
use foundry_proto::task::v1::{CreateTaskRequest, Task, TaskState};
use foundry_testkit::GitHttp;
use foundry_tests::origin::git;
use foundry_tests::story::{await_mirror, await_task, get_task, send, task_request, until_answered};
use foundry_tests::{Caller, Mesh, Origin, Shape};

const SETTINGS: [&str; 2] = ["repo.allow_private_addresses=true", "repo.allow_http=true"];

/// A clone of somebody else.
struct Colleague<'a>(&'a Path);

impl Colleague<'_> {
    /// Pushes a new file to a branch, which it makes if need be; the commit.
    fn pushes(&self, branch: &str, file: &str) -> String {
        let (has, _) = (format!("origin/{branch}"), git(self.0, &["fetch", "-q", "origin"]));
        let start = match git(self.0, &["branch", "-r", "--list", &has]).is_empty() {
            true => "origin/main",
            false => has.as_str(),
        };
        git(self.0, &["checkout", "-q", "-B", branch, start]);
        std::fs::write(self.0.join(file), "theirs\n").unwrap();
        git(self.0, &["add", "."]);
        git(self.0, &["commit", "-q", "-m", "theirs"]);
        git(self.0, &["push", "-q", "origin", branch]);
        git(self.0, &["rev-parse", "HEAD"])
    }
}

fn on(caller: &Caller, repository: &Repository, branch: &str) -> CreateTaskRequest {
    let prompt = "run test -f theirs.md\nwrite docs/mine.md: Mine.";
    CreateTaskRequest { on_branch: branch.to_owned(), ..task_request(caller, repository, prompt) }
}

async fn idle(caller: &Caller, task: &str, files: i32) -> Task {
    await_task(caller, task, |t| {
        t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == files)
    })
    .await
}

/// Waits until the overview shows this owner of a branch.
async fn owned(caller: &Caller, repository: &Repository, branch: &str, task: &str) {
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let request = GetRepositoryOverviewRequest {
            repository_id: repository.repository_id.clone(),
            ..GetRepositoryOverviewRequest::default()
        };
        let overview = until_answered("overview", || {
            let (mut repo, request) = (caller.repo(), request.clone());
            async move { repo.get_repository_overview(request).await }
        });
        let branches = overview.await.branches;
        if branches.iter().any(|b| b.name == branch && b.task_id == task && !b.work_only) {
            return;
        }
        assert!(tokio::time::Instant::now() < limit, "{branches:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_on_with_a_branch_that_somebody_has_begun_and_publishes_there() {
    let mut mesh = Mesh::start(Shape::Embedded, &SETTINGS);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let served = tempfile::tempdir().unwrap();
    let origin = Origin::create(served.path());
    git(origin.path(), &["config", "http.receivepack", "true"]);
    let host = GitHttp::start(served.path());
    let request = CreateRepositoryRequest {
        organization_id: caller.organization_id.clone(),
        url: host.url("origin/.git"),
        ..CreateRepositoryRequest::default()
    };
    let created = caller.repo().create_repository(request).await.unwrap().into_inner();
    let repository = await_mirror(&caller, created.repository.unwrap().repository_id).await;
    let clone = mesh.dir().join("colleague");
    git(served.path(), &["clone", "-q", origin.path().to_str().unwrap(), clone.to_str().unwrap()]);
    let colleague = Colleague(&clone);
    let theirs = colleague.pushes("feature-x", "theirs.md");

    // The branch is not known, its host does not answer, and the mesh is killed.
    host.hold(true);
    let begun = caller.task().create_task(on(&caller, &repository, "feature-x")).await.unwrap().into_inner();
    let (task, session) = (begun.task.unwrap(), begun.session.unwrap());
    assert_eq!(task.state(), TaskState::PendingBranch);
    let id = task.task_id.as_str();
    assert!(mesh.cli_ok(&["task", "explain", id]).contains("is waiting for its branch"));
    mesh.crash_and_restart();
    assert_eq!(get_task(&caller, id).await.state(), TaskState::PendingBranch);
    host.hold(false);
    let task = idle(&caller, id, 1).await;
    assert_eq!(task.base.as_ref().map(|base| base.commit.as_str()), Some(theirs.as_str()));
    assert!(mesh.cli_ok(&["task", "show", id]).contains("feature-x, which the remote had before"));
    owned(&caller, &repository, "feature-x", id).await;

    // It is the only one on the branch.
    let refused = mesh.cli(&["task", "create", "--on-branch", "feature-x", "say x"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("BRANCH_HAS_TASK") && said.contains(id), "{said}");

    // It is published there, unnamed and unforced; what somebody has pushed in between is not replaced.
    mesh.cli_ok(&["task", "publish", id]);
    assert_eq!(git(origin.path(), &["rev-parse", "feature-x^"]), theirs);
    assert_eq!(git(origin.path(), &["show", "feature-x:docs/mine.md"]), "Mine.");
    let newer = colleague.pushes("feature-x", "newer.md");
    send(&caller, &session.session_id, "write docs/more.md: More.").await;
    idle(&caller, id, 2).await;
    let refused = mesh.cli(&["task", "publish", id]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    // Which one depends on whether the push is known here already.
    let is_typed = said.contains("BRANCH_MOVED") || said.contains("PUBLISH_NEEDS_FORCE");
    assert!(!refused.status.success() && is_typed && said.contains(&newer), "{said}");
    assert_eq!(git(origin.path(), &["rev-parse", "feature-x"]), newer);

    // The next one has it once this one has ended, and starts at its newest tip.
    mesh.cli_ok(&["task", "kill", id]);
    await_task(&caller, id, |t| t.state() == TaskState::Killed).await;
    let next = CreateTaskRequest {
        prompt: "write docs/third.md: Third.".to_owned(),
        ..on(&caller, &repository, "feature-x")
    };
    let next = caller.task().create_task(next).await.unwrap().into_inner();
    let next = idle(&caller, &next.task.unwrap().task_id, 1).await;
    assert_eq!(next.base.unwrap().commit, newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_on_a_branch_that_nobody_has_pushed_yet_says_so_and_goes_on_when_it_is_there() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let origin = Origin::create(mesh.dir());
    let repository = foundry_tests::story::register(&caller, &origin).await;
    let clone = mesh.dir().join("colleague");
    git(mesh.dir(), &["clone", "-q", origin.path().to_str().unwrap(), clone.to_str().unwrap()]);
    let failed =
        mesh.cli(&["task", "create", "--on-branch", "later", "write docs/mine.md: Mine.", "--allow"]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("BRANCH_NOT_AT_REMOTE"), "{said}");
    assert!(said.contains("push the branch and retry the task"), "{said}");
    let list = mesh.cli_ok(&["task", "list"]);
    let id = list.split_whitespace().find(|word| word.starts_with("task_")).unwrap().to_owned();
    let theirs = Colleague(&clone).pushes("later", "theirs.md");
    mesh.cli_ok(&["task", "retry", &id]);
    let task = idle(&caller, &id, 1).await;
    assert_eq!(task.base.unwrap().commit, theirs);
    owned(&caller, &repository, "later", &id).await;
}
