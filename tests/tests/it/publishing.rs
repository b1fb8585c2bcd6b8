//! The work of a task leaves as a branch: by the command line, again after more work, and through a kill of the mesh.

use std::path::{Path, PathBuf};

use foundry_proto::repo::v1::{CancelJobRequest, Job, JobState, PublishBranchRequest};
use foundry_proto::task::v1::{Task, TaskState};
use foundry_tests::origin::git;
use foundry_tests::story::{await_job, await_task, create_task, get_task, register, send};
use foundry_tests::{Caller, Mesh, Origin, Shape};

/// Makes the origin a bare repository with a working copy of nobody.
fn bare(origin: &Origin) -> PathBuf {
    let path = origin.path().to_owned();
    git(&path, &["config", "receive.denyCurrentBranch", "refuse"]);
    path
}

async fn idle(caller: &Caller, task: &str, files: i32) -> Task {
    await_task(caller, task, |t| {
        t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == files)
    })
    .await
}

fn hook(origin: &Path, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = origin.join(".git/hooks");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_published_by_the_command_line_and_again_after_more_work() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let origin = Origin::create(mesh.dir());
    let path = bare(&origin);
    let repository = register(&caller, &origin).await;
    let (task, session) = create_task(&caller, &repository, "write docs/hello.md: Hello.").await;
    let task = idle(&caller, &task.task_id, 1).await;
    let (id, branch) = (task.task_id.as_str(), task.branch.as_str());

    let plan = mesh.cli_ok(&["task", "publish", id, "--plan"]);
    assert!(plan.contains("new branch") && plan.contains("1 file"), "{plan}");
    assert_eq!(git(&path, &["branch", "--list", branch]), "");
    let refused = mesh.cli(&["task", "publish", id, "--to", "main"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("default branch"), "{refused:?}");

    let out = mesh.cli_ok(&["task", "publish", id, "--message", "Greet people"]);
    let tip = git(&path, &["rev-parse", branch]);
    assert!(out.contains(&format!("{branch} is at {tip} on {}", path.display())), "{out}");
    assert_eq!(git(&path, &["log", "-1", "--format=%s", branch]), "Greet people");
    let trailer = git(&path, &["log", "-1", "--format=%(trailers:key=Co-authored-by,valueonly)", branch]);
    assert!(trailer.contains("agent@foundry.invalid"), "{trailer}");
    assert_eq!(git(&path, &["show", &format!("{branch}:docs/hello.md")]), "Hello.");

    let shown = |more: &[&str]| mesh.cli_ok(&[&["task"], more, &[id]].concat());
    let published =
        await_task(&caller, id, |t| t.changes.as_ref().is_some_and(|c| c.publication.is_some())).await;
    assert_eq!(published.changes.unwrap().publication.unwrap().commit, tip);
    let words = format!("published at {} on {branch}", &tip[..12]);
    assert!(shown(&["show"]).contains(&words));
    assert!(shown(&["explain"]).contains(&words));

    send(&caller, &session.session_id, "write docs/more.md: More.").await;
    let more = idle(&caller, id, 2).await;
    assert_eq!(more.changes.unwrap().publication.unwrap().commits_since, 1);
    assert!(shown(&["show"]).contains("1 commit since"));
    mesh.cli_ok(&["task", "publish", id]);
    assert_eq!(git(&path, &["rev-parse", &format!("{branch}^")]), tip);
    let jobs = mesh.cli_ok(&["repo", "jobs", "list"]);
    assert_eq!(jobs.matches("publish_branch").count(), 3, "{jobs}");

    hook(&path, "pre-receive", "echo 'error: GH006: Protected branch update failed'; exit 1");
    let declined = mesh.cli(&["task", "publish", id, "--squash", "--to", "squashed"]);
    let said = String::from_utf8_lossy(&declined.stderr).into_owned();
    assert!(
        !declined.status.success() && said.contains("BRANCH_PROTECTED") && said.contains("GH006"),
        "{said}"
    );
    let killed = mesh.cli_ok(&["task", "kill", id]);
    assert!(killed.contains("published at"), "{killed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_merges_what_others_push_to_the_branch_of_its_work() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let origin = Origin::create(mesh.dir());
    let path = bare(&origin);
    let repository = register(&caller, &origin).await;
    let (task, session) = create_task(&caller, &repository, "write docs/hello.md: Hello.").await;
    let task = idle(&caller, &task.task_id, 1).await;
    mesh.cli_ok(&["task", "publish", &task.task_id]);
    let colleague = mesh.dir().join("colleague");
    git(&path, &["clone", "-q", "-b", &task.branch, ".", colleague.to_str().unwrap()]);
    std::fs::write(colleague.join("docs/hello.md"), "Hello, you.\n").unwrap();
    git(&colleague, &["commit", "-q", "-a", "-m", "Say to whom"]);
    git(&colleague, &["push", "-q", "origin", &task.branch]);
    let pull = format!("run git pull -q --no-rebase origin {}\nwrite docs/more.md: More.", task.branch);
    send(&caller, &session.session_id, &pull).await;
    idle(&caller, &task.task_id, 2).await;
    mesh.cli_ok(&["task", "publish", &task.task_id]);
    let published = |file: &str| git(&path, &["show", &format!("{}:docs/{file}", task.branch)]);
    assert_eq!((published("hello.md"), published("more.md")), ("Hello, you.".into(), "More.".into()));
    assert_eq!(git(&path, &["log", "-1", "--format=%s", &format!("{}^", task.branch)]), "Say to whom");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_survives_a_kill_of_the_mesh_during_the_push() {
    let mut mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    let origin = Origin::create(mesh.dir());
    let path = bare(&origin);
    let repository = register(&caller, &origin).await;
    let (task, _) = create_task(&caller, &repository, "write docs/hello.md: Hello.").await;
    let task = idle(&caller, &task.task_id, 1).await;
    let (begun, pushes) = (path.join("begun"), path.join("pushes"));
    for (moment, script) in [
        ("before", format!("touch {}; sleep 2; cat > /dev/null", begun.display())),
        ("after", format!("touch {}; sleep 2", begun.display())),
    ] {
        let name = if moment == "before" { "pre-receive" } else { "post-receive" };
        hook(&path, name, &script);
        hook(&path, "update", &format!("echo $1 >> {}", pushes.display()));
        let request = PublishBranchRequest {
            task_id: task.task_id.clone(),
            to_branch: format!("killed/{moment}"),
            message: "Greet".into(),
            ..PublishBranchRequest::default()
        };
        let begin = caller.repo().publish_branch(request).await.unwrap().into_inner().job.unwrap();
        while !begun.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        mesh.crash_and_restart();
        std::fs::remove_file(&begun).unwrap();
        std::fs::remove_file(path.join(".git/hooks").join(name)).unwrap();
        let ended = await_job(&caller, &begin.job_id, |j| j.end_time.is_some()).await;
        assert_eq!(ended.state(), JobState::Done, "{moment}: {ended:?}");
        let tip = git(&path, &["rev-parse", &format!("killed/{moment}")]);
        assert_eq!(ended.branches[0].new_commit, tip);
        git(&path, &["fsck", "--no-dangling"]);
    }
    let task = get_task(&caller, &task.task_id).await;
    assert_eq!(task.changes.unwrap().publication.unwrap().branch, "killed/after");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_publications_run_in_order_and_a_hanging_one_is_cancelled() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    let origin = Origin::create(mesh.dir());
    let path = bare(&origin);
    let repository = register(&caller, &origin).await;
    let (task, _) = create_task(&caller, &repository, "write docs/hello.md: Hello.").await;
    let task = idle(&caller, &task.task_id, 1).await;
    let gate = path.join("gate");
    hook(&path, "pre-receive", &format!("while [ ! -e {} ]; do sleep 0.1; done", gate.display()));
    let publish = async || {
        let request =
            PublishBranchRequest { task_id: task.task_id.clone(), ..PublishBranchRequest::default() };
        caller.repo().publish_branch(request).await.unwrap().into_inner().job.unwrap().job_id
    };
    let (first, second) = (publish().await, publish().await);
    let pushing = |j: &Job| j.branches.iter().any(|b| !b.new_commit.is_empty());
    await_job(&caller, &first, pushing).await;
    let waits = await_job(&caller, &second, |j| !j.condition.as_ref().unwrap().message.is_empty()).await;
    assert_eq!(waits.state(), JobState::Queued);
    assert!(waits.condition.unwrap().message.contains(&first));
    let cancel = CancelJobRequest { job_id: first.clone(), ..CancelJobRequest::default() };
    caller.repo().cancel_job(cancel).await.unwrap();
    let ended = await_job(&caller, &first, |j| j.end_time.is_some()).await;
    assert_eq!(ended.state(), JobState::Cancelled);
    std::fs::write(&gate, "").unwrap();
    let ended = await_job(&caller, &second, |j| j.end_time.is_some()).await;
    assert_eq!(ended.state(), JobState::Done, "{ended:?}");
    assert_eq!(git(&path, &["rev-parse", &task.branch]), ended.branches[0].new_commit);
}
