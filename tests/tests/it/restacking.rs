//! A stack is restacked and the restack undone, each through a kill of the mesh in the middle of the push.

use std::path::{Path, PathBuf};
use std::time::Duration;

use foundry_proto::repo::v1::{
    CreateRepositoryRequest, Job, JobBranchState, JobKind, JobState, Repository, RunRepositoryActionRequest,
    UndoJobRequest,
};
use foundry_testkit::GitHttp;
use foundry_tests::origin::git;
use foundry_tests::story::{PATIENCE, await_job, await_mirror, until_answered};
use foundry_tests::{Caller, Mesh, Origin, Shape};

const NAMES: [&str; 3] = ["s1", "s2", "s3"];

/// A bare remote with a stack of branches, and a clone of somebody who pushes to it.
struct Remote {
    path: PathBuf,
    clone: PathBuf,
}

impl Remote {
    fn create(parent: &Path) -> Self {
        let (path, clone) = (parent.join("remote.git"), parent.join("colleague"));
        let origin = Origin::create(parent);
        git(parent, &["clone", "-q", "--bare", origin.path().to_str().unwrap(), path.to_str().unwrap()]);
        git(&path, &["config", "http.receivepack", "true"]);
        git(parent, &["clone", "-q", path.to_str().unwrap(), clone.to_str().unwrap()]);
        let this = Self { path, clone };
        for name in NAMES {
            git(&this.clone, &["checkout", "-q", "-b", name]);
            this.commit(name);
        }
        git(&this.clone, &["push", "-q", "origin", "s1", "s2", "s3"]);
        this
    }

    fn commit(&self, file: &str) {
        std::fs::write(self.clone.join(file), format!("{file}\n")).unwrap();
        git(&self.clone, &["add", "."]);
        git(&self.clone, &["commit", "-q", "-m", file]);
    }

    fn main_moves(&self, file: &str) {
        git(&self.clone, &["checkout", "-q", "main"]);
        self.commit(file);
        git(&self.clone, &["push", "-q", "origin", "main"]);
    }

    fn tips(&self) -> Vec<String> {
        NAMES.iter().map(|name| git(&self.path, &["rev-parse", &format!("refs/heads/{name}")])).collect()
    }

    /// Whether each branch is one commit ahead of the one before it, the first one of main.
    fn is_stack(&self) -> bool {
        let below = |name: &str| git(&self.path, &["rev-parse", &format!("refs/heads/{name}")]);
        let on = |name: &str, below: &str| {
            git(&self.path, &["rev-parse", &format!("refs/heads/{name}^")]) == below
        };
        on("s1", &below("main")) && on("s2", &below("s1")) && on("s3", &below("s2"))
    }

    /// A hook that says that it runs, and then holds the push up until it is let go, and for two seconds more: a push that
    /// was cut off may still arrive while the next mesh begins. `name` is that of the push, so that no other one is taken
    /// for it.
    fn hold(&self, moment: &Moment, name: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let hook = self.path.join("hooks").join(moment.hook);
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        let (only, begun, go) = (moment.only, self.said(name, "begun"), self.said(name, "go"));
        let script = format!(
            "#!/bin/sh\ncat > /dev/null\n{only} || exit 0\ntouch {}\nn=0\n\
             while [ ! -e {} ] && [ $n -lt 900 ]; do sleep 0.1; n=$((n + 1)); done\nsleep 2\n",
            begun.display(),
            go.display()
        );
        std::fs::write(&hook, script).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The file by which the hook or the test says something about a push.
    fn said(&self, name: &str, word: &str) -> PathBuf {
        self.path.join(format!("{word}-{name}"))
    }

    /// The push that is held up goes on.
    fn let_go(&self, name: &str) {
        std::fs::write(self.said(name, "go"), "").unwrap();
    }

    /// The next push is not held up.
    fn hold_no_more(&self, moment: &Moment) {
        std::fs::remove_file(self.path.join("hooks").join(moment.hook)).unwrap();
    }
}

/// When the mesh is killed.
struct Moment {
    hook: &'static str,
    /// The condition under which the hook holds the push up.
    only: &'static str,
}

const MOMENTS: [Moment; 3] = [
    Moment { hook: "pre-receive", only: "true" },
    // The branches are locked, and none has moved.
    Moment { hook: "reference-transaction", only: "[ $1 = prepared ]" },
    Moment { hook: "post-receive", only: "true" },
];

async fn registered(caller: &Caller, url: String) -> Repository {
    let request = CreateRepositoryRequest {
        organization_id: caller.organization_id.clone(),
        url,
        ..CreateRepositoryRequest::default()
    };
    let created = caller.repo().create_repository(request).await.unwrap().into_inner();
    await_mirror(caller, created.repository.unwrap().repository_id).await
}

async fn restack(caller: &Caller, repository: &Repository) -> String {
    let request = RunRepositoryActionRequest {
        repository_id: repository.repository_id.clone(),
        kind: JobKind::RestackRepo.into(),
        committer_name: "Grace".into(),
        committer_email: "grace@example.com".into(),
        ..RunRepositoryActionRequest::default()
    };
    let begin = until_answered("the restack", || {
        let (mut repo, request) = (caller.repo(), request.clone());
        async move { repo.run_repository_action(request).await }
    });
    begin.await.job.unwrap().job_id
}

async fn undo(caller: &Caller, job_id: &str) -> String {
    let request = UndoJobRequest { job_id: job_id.to_owned(), ..UndoJobRequest::default() };
    caller.repo().undo_job(request).await.unwrap().into_inner().job.unwrap().job_id
}

/// The job after its end. What it says of its branches is so at the remote, and every tip that it records is in the mirror by its
/// id.
async fn ended(mesh: &Mesh, caller: &Caller, remote: &Remote, id: &str) -> Job {
    let job = await_job(caller, id, |job| job.end_time.is_some()).await;
    assert_eq!(job.state(), JobState::Done, "{job:?}\n{}", mesh.log_tail());
    assert_eq!(job.branches.len(), NAMES.len(), "{job:?}");
    let mirror = mesh.data().join("repo/mirrors").join(format!("{}.git", job.repository_id));
    for (nth, branch) in job.branches.iter().enumerate() {
        let tip = git(&remote.path, &["rev-parse", &format!("refs/heads/{}", branch.branch)]);
        assert_eq!((branch.state(), &branch.new_commit), (JobBranchState::Pushed, &tip), "{}", branch.branch);
        assert_eq!(git(&mirror, &["cat-file", "-t", &branch.old_commit]), "commit");
        let kept = git(&mirror, &["rev-parse", &format!("refs/foundry/jobs/{id}/{nth}/old")]);
        assert_eq!(kept, branch.old_commit);
    }
    git(&remote.path, &["fsck", "--no-dangling"]);
    job
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Kills the mesh once the hook holds the push of a job up, and starts it again.
async fn killed_during(mesh: &mut Mesh, remote: &Remote, (moment, name): (&Moment, &str)) {
    until("the push", || remote.said(name, "begun").exists()).await;
    mesh.crash();
    remote.let_go(name);
    mesh.start_again();
    remote.hold_no_more(moment);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restack_and_its_undo_survive_a_kill_of_the_mesh_in_the_middle_of_the_push() {
    let mut mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    let remote = Remote::create(mesh.dir());
    let repository = registered(&caller, remote.path.to_str().unwrap().to_owned()).await;
    for moment in &MOMENTS {
        remote.main_moves(moment.hook);
        let before = remote.tips();
        let name = format!("{}-restack", moment.hook);
        remote.hold(moment, &name);
        let job = restack(&caller, &repository).await;
        killed_during(&mut mesh, &remote, (moment, &name)).await;
        let job = ended(&mesh, &caller, &remote, &job).await;
        assert!(remote.is_stack(), "{}: {job:?}", moment.hook);
        let name = format!("{}-undo", moment.hook);
        remote.hold(moment, &name);
        let undone = undo(&caller, &job.job_id).await;
        killed_during(&mut mesh, &remote, (moment, &name)).await;
        ended(&mesh, &caller, &remote, &undone).await;
        assert_eq!(remote.tips(), before, "{}", moment.hook);
    }
}

/// The host has taken the whole push of the killed mesh, and begins with it when the mesh runs again.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_arrives_after_the_kill_of_its_mesh_is_not_torn_by_the_next_one() {
    let served = tempfile::tempdir().unwrap();
    let remote = Remote::create(served.path());
    let host = GitHttp::start(served.path());
    let settings = ["repo.allow_private_addresses=true", "repo.allow_http=true"];
    let mut mesh = Mesh::start(Shape::Embedded, &settings);
    let caller = mesh.sign_in("ada").await;
    let repository = registered(&caller, host.url("remote.git")).await;
    remote.main_moves("late");
    let before = remote.tips();
    let pushes = || host.requests().iter().filter(|(path, _)| path.ends_with("/git-receive-pack")).count();
    let held = async |mesh: &mut Mesh, known: usize| {
        until("the push", || pushes() > known).await;
        mesh.crash_and_restart();
        host.hold_pushes(false);
    };
    let known = pushes();
    host.hold_pushes(true);
    let job = restack(&caller, &repository).await;
    held(&mut mesh, known).await;
    let job = ended(&mesh, &caller, &remote, &job).await;
    assert!(remote.is_stack(), "{job:?}");
    let known = pushes();
    host.hold_pushes(true);
    let undone = undo(&caller, &job.job_id).await;
    held(&mut mesh, known).await;
    ended(&mesh, &caller, &remote, &undone).await;
    assert_eq!(remote.tips(), before);
}
