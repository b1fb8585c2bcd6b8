//! Actions on a stack of branches of a real remote, with real interference.

mod over;
mod parents;
mod plans;
mod proofs;
mod tasks;
mod turns;
mod unknown;

use std::path::PathBuf;

use foundry_proto::repo::v1::{
    CancelJobRequest, GetJobRequest, Job, JobBranch, JobKind, JobState, RequestRepositoryRefreshRequest,
    RunRepositoryActionRequest, UndoJobRequest,
};

use crate::ops::cancel_job::cancel_job;
use crate::ops::get_job::get_job;
use crate::ops::request_repository_refresh::request_repository_refresh;
use crate::ops::run_repository_action::run_repository_action;
use crate::ops::undo_job::undo_job;
use crate::testing::{Fixture, git};

/// Names of the stack, the lowest first.
const NAMES: [&str; 6] = ["s1", "s2", "s3", "s4", "s5", "s6"];

/// A service, and a bare remote with a stack of branches: each adds a file of its name with two commits.
struct Stacked {
    f: Fixture,
    repository: String,
    remote: PathBuf,
    tree: tempfile::TempDir,
}

impl Stacked {
    async fn new() -> Self {
        Self::of(6).await
    }

    /// A stack of so many branches, at a local path.
    async fn of(count: usize) -> Self {
        let f = Fixture::new().await;
        let url = f.path().join("remote.git").to_str().unwrap().to_owned();
        Self::at(f, url, count).await
    }

    /// With the remote registered by this URL.
    async fn at(f: Fixture, url: String, count: usize) -> Self {
        let remote = f.path().join("remote.git");
        git(f.path(), &["clone", "-q", "--bare", f.origin.to_str().unwrap(), remote.to_str().unwrap()]);
        std::fs::create_dir_all(remote.join("hooks")).unwrap();
        let tree = tempfile::tempdir_in(f.path()).unwrap();
        git(tree.path(), &["clone", "-q", remote.to_str().unwrap(), "."]);
        let this = Self { f, repository: String::new(), remote, tree };
        for name in &NAMES[..count] {
            this.sh(&format!(
                "git checkout -q -b {name}; echo one > {name}; git add .; {C} -m '{name} one'; \
                 echo two >> {name}; {C} -a -m '{name} two'"
            ));
        }
        this.sh(&format!("git push -q origin {}", NAMES[..count].join(" ")));
        let request = foundry_proto::repo::v1::CreateRepositoryRequest { url, ..this.f.create() };
        let created = crate::ops::create_repository::create_repository(&this.f.cx, &this.f.member, request)
            .await
            .unwrap();
        this.f.in_the_background().await;
        let repository = created.repository.unwrap().repository_id;
        let this = Self { repository, ..this };
        this.hook("post-receive", "cat >> pushes");
        this
    }

    fn hook(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.remote.join("hooks").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script in the clone of somebody else.
    fn sh(&self, script: &str) -> String {
        let out = std::process::Command::new("sh")
            .args(["-ec", script])
            .current_dir(self.tree.path())
            .env("GIT_AUTHOR_NAME", "Ada")
            .env("GIT_AUTHOR_EMAIL", "ada@example.com")
            .env("GIT_COMMITTER_NAME", "Ada")
            .env("GIT_COMMITTER_EMAIL", "ada@example.com")
            .output()
            .unwrap();
        assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// A commit on main that adds a file.
    fn main_moves(&self) {
        self.sh(&format!(
            "git checkout -q main; echo main > main.txt; git add .; {C} -m 'main moves'; git push -q origin main"
        ));
    }

    /// Merges what a branch has into main as one commit, as hosts do.
    fn squash_merge(&self, branch: &str) {
        self.sh(&format!(
            "git checkout -q main; git merge -q --squash {branch}; {C} -m 'squashed {branch}'; \
             echo later >> later.txt; git add .; {C} -m later; git push -q origin main"
        ));
    }

    async fn refresh(&self) {
        let request = RequestRepositoryRefreshRequest {
            repository_id: self.repository.clone(),
            ..RequestRepositoryRefreshRequest::default()
        };
        request_repository_refresh(&self.f.cx, &self.f.member, request).await.unwrap();
        self.f.engine.run_until_idle().await.unwrap();
    }

    fn request(&self, kind: JobKind, branch: &str) -> RunRepositoryActionRequest {
        RunRepositoryActionRequest {
            repository_id: self.repository.clone(),
            kind: kind.into(),
            branch: branch.to_owned(),
            committer_name: "Grace".to_owned(),
            committer_email: "grace@example.com".to_owned(),
            ..RunRepositoryActionRequest::default()
        }
    }

    async fn begin(&self, request: RunRepositoryActionRequest) -> String {
        run_repository_action(&self.f.cx, &self.f.member, request).await.unwrap().job.unwrap().job_id
    }

    async fn job(&self, job_id: &str) -> Job {
        let request = GetJobRequest { job_id: job_id.to_owned() };
        get_job(&self.f.cx, &self.f.member, request).await.unwrap().job.unwrap()
    }

    /// The job after everything that is due.
    async fn run_request(&self, request: RunRepositoryActionRequest) -> Job {
        let id = self.begin(request).await;
        self.f.engine.run_until_idle().await.unwrap();
        self.job(&id).await
    }

    async fn run(&self, kind: JobKind, branch: &str) -> Job {
        self.run_request(self.request(kind, branch)).await
    }

    async fn undo(&self, job: &Job) -> Job {
        self.undo_of(job, &[]).await
    }

    /// Of these branches alone.
    async fn undo_of(&self, job: &Job, branches: &[&str]) -> Job {
        let branches = branches.iter().map(|name| (*name).to_owned()).collect();
        let request = UndoJobRequest { job_id: job.job_id.clone(), branches, ..UndoJobRequest::default() };
        let id = undo_job(&self.f.cx, &self.f.member, request).await.unwrap().job.unwrap().job_id;
        self.f.engine.run_until_idle().await.unwrap();
        self.job(&id).await
    }

    fn refs(&self) -> String {
        git(&self.remote, &["for-each-ref", "--format=%(refname) %(objectname)"])
    }

    fn tip(&self, branch: &str) -> String {
        git(&self.remote, &["rev-parse", &format!("refs/heads/{branch}")])
    }

    /// The subjects of the commits that a branch has and another one does not, the oldest first.
    fn own(&self, branch: &str, without: &str) -> String {
        git(&self.remote, &["log", "--reverse", "--format=%s", branch, &format!("^{without}")])
            .replace('\n', ", ")
    }

    fn files(&self, branch: &str) -> String {
        git(&self.remote, &["ls-tree", "--name-only", branch]).replace('\n', " ")
    }

    /// Whether each branch stands exactly on the one before it, with its own two commits.
    fn is_stack(&self, names: &[&str]) -> bool {
        let own = |branch: &str| format!("{branch} one, {branch} two");
        names.windows(2).all(|pair| {
            git(&self.remote, &["merge-base", pair[0], pair[1]]) == self.tip(pair[0])
                && self.own(pair[1], pair[0]) == own(pair[1])
        })
    }

    fn kept(&self, job: &Job, branch: &JobBranch) -> String {
        let mirror = self.f.cx.mirror_path(&self.repository.parse().unwrap());
        let nth = job.branches.iter().position(|b| b.branch == branch.branch).unwrap();
        git(&mirror, &["rev-parse", &format!("refs/foundry/jobs/{}/{nth}/old", job.job_id)])
    }
}

const C: &str = "git commit -q";

fn state(job: &Job) -> (JobState, &str) {
    (job.state(), job.condition.as_ref().map_or("", |c| c.reason.as_str()))
}

fn message(job: &Job) -> String {
    job.condition.clone().unwrap_or_default().message
}

fn states(job: &Job) -> String {
    let state =
        |b: &JobBranch| format!("{}={}", b.branch, b.state().as_str_name().rsplit('_').next().unwrap());
    job.branches.iter().map(state).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_stack_is_brought_onto_the_new_main_and_back() {
    let s = Stacked::new().await;
    let before = s.refs();
    assert_eq!(state(&s.run(JobKind::RestackRepo, "").await), (JobState::Done, ""));
    assert_eq!(s.refs(), before, "everything is in its place");
    s.main_moves();
    let before = s.refs();
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    assert_eq!(states(&job), "s1=PUSHED s2=PUSHED s3=PUSHED s4=PUSHED s5=PUSHED s6=PUSHED");
    assert!(s.is_stack(&["main", "s1", "s2", "s3", "s4", "s5", "s6"]), "{}", s.refs());
    assert!(s.files("s6").contains("main.txt"));
    let who = git(&s.remote, &["log", "-1", "--format=%an %ae %cn %ce", "s3"]);
    assert_eq!(who, "Ada ada@example.com Grace grace@example.com");
    for branch in &job.branches {
        assert!(before.contains(&format!("{} {}", branch.branch, branch.old_commit)));
        assert_eq!(
            (s.kept(&job, branch), s.tip(&branch.branch)),
            (branch.old_commit.clone(), branch.new_commit.clone())
        );
    }
    let undo = s.undo(&job).await;
    assert_eq!((state(&undo), s.refs()), ((JobState::Done, ""), before));
    // An undo is a job that can be undone.
    let again = s.undo(&undo).await;
    assert_eq!(state(&again), (JobState::Done, ""));
    assert_eq!(s.tip("s6"), job.branches[5].new_commit);
    assert_eq!(s.f.damaged().await, []);
}

#[tokio::test]
async fn a_plan_changes_nothing_and_a_run_of_it_fails_once_somebody_has_pushed() {
    let s = Stacked::new().await;
    s.main_moves();
    let before = s.refs();
    let plan = |kind| RunRepositoryActionRequest { plan_only: true, ..s.request(kind, "s3") };
    let plan = s.run_request(plan(JobKind::RestackSubtree)).await;
    assert_eq!((state(&plan), s.refs()), ((JobState::Done, ""), before));
    // s3 stands on s2, which is not brought onto main by this.
    assert_eq!(states(&plan), "s3=SKIPPED s4=SKIPPED s5=SKIPPED s6=SKIPPED");
    let moved = RunRepositoryActionRequest {
        parent: "main".into(),
        plan_only: true,
        ..s.request(JobKind::ReparentBranch, "s3")
    };
    let plan = s.run_request(moved.clone()).await;
    assert_eq!(states(&plan), "s3=PLANNED s4=PLANNED s5=PLANNED s6=PLANNED");
    s.sh(&format!("git checkout -q s5; {C} --allow-empty -m more; git push -q origin s5"));
    let before = s.refs();
    let run = RunRepositoryActionRequest { plan_only: false, plan_job_id: plan.job_id.clone(), ..moved };
    let outdated = s.run_request(run.clone()).await;
    assert_eq!((state(&outdated), s.refs()), ((JobState::Failed, "PLAN_OUTDATED"), before));
    assert!(message(&outdated).ends_with("to s5"), "{}", message(&outdated));
    let run = s.run_request(RunRepositoryActionRequest { plan_job_id: String::new(), ..run }).await;
    assert_eq!(state(&run), (JobState::Done, ""));
    assert_eq!(s.own("s3", "main"), "s3 one, s3 two");
    assert_eq!(s.own("s5", "s4"), "s5 one, s5 two, more");
    let parents =
        crate::store::branch_parents::all(&s.f.cx.store, &s.repository.parse().unwrap()).await.unwrap();
    assert_eq!(parents.get("s3").map(String::as_str), Some("main"));
}

#[tokio::test]
async fn a_branch_that_was_squashed_into_main_is_skipped_and_its_children_stand_on_main() {
    let s = Stacked::new().await;
    // s3 is merged with all below it, and its branch is left.
    s.squash_merge("s3");
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    assert_eq!(states(&job), "s1=SKIPPED s2=SKIPPED s3=SKIPPED s4=PUSHED s5=PUSHED s6=PUSHED");
    assert_eq!(job.branches[2].note, "it is merged into main");
    assert!(s.is_stack(&["main", "s4", "s5", "s6"]));
}

#[tokio::test]
async fn a_branch_that_was_squashed_and_deleted_at_the_remote_is_not_made_again() {
    let s = Stacked::new().await;
    s.squash_merge("s3");
    // What it had is changed on main since, so that its commits would not apply.
    s.sh(&format!(
        "git checkout -q main; echo changed > s3; {C} -a -m 'change s3'; git push -q origin main :s1 :s2 :s3"
    ));
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    assert_eq!(states(&job), "s4=PUSHED s5=PUSHED s6=PUSHED");
    assert!(s.is_stack(&["main", "s4", "s5", "s6"]));
    assert_eq!(git(&s.remote, &["show", "s6:s3"]), "changed");
}

#[tokio::test]
async fn a_branch_that_was_squashed_into_its_parent_leaves_its_children_on_that() {
    let s = Stacked::new().await;
    s.sh(&format!(
        "git checkout -q s2; git merge -q --squash s3; {C} -m 'squashed s3'; git push -q origin s2"
    ));
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(states(&job), "s1=SKIPPED s2=SKIPPED s3=SKIPPED s4=PUSHED s5=PUSHED s6=PUSHED");
    assert_eq!(job.branches[2].note, "it is merged into s2");
    assert!(s.is_stack(&["s2", "s4", "s5", "s6"]));
}

#[tokio::test]
async fn a_conflict_in_the_middle_names_its_files_and_leaves_every_ref_as_it_was() {
    let s = Stacked::new().await;
    s.sh(&format!(
        "git checkout -q main; echo other > s4; git add .; {C} -m 'main has s4'; git push -q origin main"
    ));
    let before = s.refs();
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!((state(&job), s.refs()), ((JobState::Failed, "RESTACK_CONFLICT"), before));
    assert_eq!(states(&job), "s1=PLANNED s2=PLANNED s3=PLANNED s4=CONFLICT s5=PENDING s6=PENDING");
    let conflict = &job.branches[3];
    assert_eq!(conflict.conflict_files, ["s4"]);
    assert_eq!(git(&s.remote, &["log", "-1", "--format=%s", &conflict.conflict_commit]), "s4 one");
    let condition = job.condition.clone().unwrap();
    assert!(
        condition.message.contains("1 file in conflict: s4") && !condition.next_action.is_empty(),
        "{condition:?}"
    );
    assert_eq!(
        undo_job(&s.f.cx, &s.f.member, UndoJobRequest { job_id: job.job_id, ..Default::default() })
            .await
            .unwrap_err()
            .reason(),
        "JOB_NOT_UNDOABLE"
    );
}

#[tokio::test]
async fn a_push_by_somebody_else_after_the_plan_leaves_every_ref_as_it_was() {
    let s = Stacked::new().await;
    s.main_moves();
    let other = s.tip("main");
    // The remote moves s4 itself while the push is on its way.
    s.hook(
        "pre-receive",
        &format!("env -u GIT_QUARANTINE_PATH git update-ref refs/heads/s4 {other}; cat >/dev/null"),
    );
    let before = s.refs();
    let old = s.tip("s4");
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Failed, "BRANCH_MOVED"), "{}", message(&job));
    assert!(message(&job).contains(&old) && message(&job).contains(&other), "{}", message(&job));
    assert_eq!(s.refs(), before.replace(&format!("refs/heads/s4 {old}"), &format!("refs/heads/s4 {other}")));
    assert_eq!(job.branches[3].found_commit, other);
}

#[tokio::test]
async fn a_branch_that_was_deleted_in_the_middle_after_the_plan_leaves_every_ref_as_it_was() {
    let s = Stacked::new().await;
    s.main_moves();
    s.hook("pre-receive", "env -u GIT_QUARANTINE_PATH git update-ref -d refs/heads/s3; cat >/dev/null");
    let before = s.refs();
    let old = s.tip("s3");
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Failed, "BRANCH_MOVED"), "{}", message(&job));
    assert!(message(&job).contains("is absent"), "{}", message(&job));
    assert_eq!(s.refs(), before.replace(&format!("refs/heads/s3 {old}\n"), ""));
}

#[tokio::test]
async fn a_branch_that_was_deleted_before_the_plan_leaves_its_commits_with_its_children() {
    let s = Stacked::new().await;
    s.main_moves();
    s.sh("git push -q origin :s3");
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    assert!(s.is_stack(&["main", "s1", "s2"]) && s.is_stack(&["s4", "s5", "s6"]));
    assert_eq!(s.own("s4", "s2"), "s3 one, s3 two, s4 one, s4 two");
}

#[tokio::test]
async fn an_undo_names_who_was_pushed_to_since_and_changes_nothing() {
    let s = Stacked::new().await;
    s.main_moves();
    let job = s.run(JobKind::RestackRepo, "").await;
    s.sh(&format!(
        "git fetch -q; git checkout -q -B s2 origin/s2; {C} --allow-empty -m more; git push -q origin s2"
    ));
    let before = s.refs();
    let undo = s.undo(&job).await;
    assert_eq!((state(&undo), s.refs()), ((JobState::Failed, "BRANCH_MOVED"), before));
    assert!(message(&undo).contains("the branch s2 was at"), "{}", message(&undo));
    assert!(states(&undo).starts_with("s1=PLANNED s2=REFUSED s3=PLANNED"));
}

#[tokio::test]
async fn an_undo_names_a_branch_that_was_deleted_since_as_deleted() {
    let s = Stacked::of(2).await;
    s.main_moves();
    let job = s.run(JobKind::RestackRepo, "").await;
    s.sh("git fetch -q; git push -q origin :s2");
    let before = s.refs();
    let undo = s.undo(&job).await;
    assert_eq!((state(&undo), s.refs()), ((JobState::Failed, "BRANCH_DELETED"), before));
    assert!(message(&undo).contains("was deleted since; nothing was changed"), "{}", message(&undo));
    // What the condition says to do is enough.
    s.sh(&format!("git push -q origin {0}:refs/heads/s2", job.branches[1].new_commit));
    assert_eq!(state(&s.undo(&job).await), (JobState::Done, ""));
}

#[tokio::test]
async fn a_parent_that_was_pushed_by_force_takes_its_children_along() {
    let s = Stacked::new().await;
    s.sh(&format!("git checkout -q s2; {C} --amend -a -m 's2 two'; git reset -q --hard HEAD; echo x > amended; git add .; {C} --amend -m 's2 two'; git push -q -f origin s2"));
    s.refresh().await;
    let job = s.run(JobKind::RestackSubtree, "s2").await;
    assert_eq!(states(&job), "s2=SKIPPED s3=PUSHED s4=PUSHED s5=PUSHED s6=PUSHED", "{}", message(&job));
    assert!(s.is_stack(&["s1", "s2", "s3", "s4", "s5", "s6"]));
    assert!(s.files("s6").contains("amended"));
}

#[tokio::test]
async fn signed_commits_are_made_again_only_when_that_is_allowed() {
    let s = Stacked::of(2).await;
    // A commit with a signature that nobody can check.
    s.sh("git checkout -q s2; id=$(git cat-file commit HEAD | sed '/^committer/a gpgsig -----BEGIN PGP SIGNATURE-----\\n \\n x\\n -----END PGP SIGNATURE-----' | git hash-object -t commit -w --stdin); git push -q -f origin $id:refs/heads/s2");
    s.main_moves();
    let before = s.refs();
    let refused = s.run(JobKind::RestackSubtree, "s1").await;
    assert_eq!((state(&refused), s.refs()), ((JobState::Failed, "COMMITS_SIGNED"), before));
    let allowed =
        RunRepositoryActionRequest { drop_signatures: true, ..s.request(JobKind::RestackSubtree, "s1") };
    assert_eq!(state(&s.run_request(allowed).await), (JobState::Done, ""));
    assert!(!git(&s.remote, &["cat-file", "commit", "s2"]).contains("gpgsig"));
}

#[tokio::test]
async fn a_refusal_of_one_branch_leaves_all_and_keeps_the_words_of_the_host() {
    let s = Stacked::new().await;
    s.main_moves();
    s.hook(
        "update",
        "[ $1 != refs/heads/s3 ] || { echo 'error: GH006: Protected branch update failed'; exit 1; }",
    );
    let before = s.refs();
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!((state(&job), s.refs()), ((JobState::Failed, "BRANCH_PROTECTED"), before));
    assert!(states(&job).contains("s3=REFUSED"), "{}", states(&job));
    assert!(job.branches[2].remote_message.contains("GH006"));
}

#[tokio::test]
async fn a_remote_that_cannot_do_all_or_nothing_is_pushed_to_branch_by_branch() {
    let s = Stacked::new().await;
    git(&s.remote, &["config", "receive.advertiseAtomic", "false"]);
    s.main_moves();
    s.hook("update", "[ $1 != refs/heads/s3 ]");
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Failed, "PUSH_DECLINED"), "{}", message(&job));
    let next = job.condition.as_ref().map(|c| c.next_action.as_str());
    assert_eq!(next, Some("do what the host says, then run the action again"));
    assert_eq!(states(&job), "s1=PUSHED s2=PUSHED s3=REFUSED s4=PLANNED s5=PLANNED s6=PLANNED");
    assert!(s.is_stack(&["main", "s1", "s2"]));
    let undo = s.undo(&job).await;
    assert_eq!((state(&undo), states(&undo)), ((JobState::Done, ""), "s1=PUSHED s2=PUSHED".into()));
    assert_eq!(s.tip("s1"), job.branches[0].old_commit);
    s.hook("update", "exit 0");
    assert_eq!(state(&s.run(JobKind::RestackRepo, "").await), (JobState::Done, ""));
    assert!(s.is_stack(&["main", "s1", "s2", "s3", "s4", "s5", "s6"]));
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused() {
    let s = Stacked::of(2).await;
    for (kind, branch, parent, reason) in [
        (JobKind::RestackRepo, "s1", "", "INVALID_FIELD"),
        (JobKind::RestackSubtree, "", "", "INVALID_FIELD"),
        (JobKind::RestackSubtree, "s1", "s2", "INVALID_FIELD"),
        (JobKind::ReparentBranch, "s1", "", "INVALID_FIELD"),
        (JobKind::RebaseBranch, "--force", "", "INVALID_FIELD"),
        (JobKind::PublishBranch, "s1", "", "INVALID_FIELD"),
        (JobKind::Undo, "", "", "INVALID_FIELD"),
        (JobKind::RegisterExistingBranch, "s1", "s1", "STACK_CIRCLE"),
        (JobKind::ReparentBranch, "s1", "s1", "STACK_CIRCLE"),
        (JobKind::RebaseBranch, "main", "", "DEFAULT_BRANCH_REFUSED"),
    ] {
        let request = RunRepositoryActionRequest { parent: parent.into(), ..s.request(kind, branch) };
        let refused = run_repository_action(&s.f.cx, &s.f.member, request).await.unwrap_err();
        assert_eq!(refused.reason(), reason, "{kind:?} {branch} {parent}");
    }
    for (kind, branch, parent, reason) in [
        (JobKind::RebaseBranch, "gone", "", "BRANCH_NOT_AT_REMOTE"),
        (JobKind::ReparentBranch, "s1", "gone", "PARENT_NOT_AT_REMOTE"),
        (JobKind::ReparentBranch, "s1", "s2", "STACK_CIRCLE"),
        (JobKind::RegisterExistingBranch, "gone", "", "BRANCH_NOT_AT_REMOTE"),
        (JobKind::RegisterExistingBranch, "s1", "s2", "STACK_CIRCLE"),
    ] {
        let request = RunRepositoryActionRequest { parent: parent.into(), ..s.request(kind, branch) };
        assert_eq!(
            state(&s.run_request(request).await),
            (JobState::Failed, reason),
            "{kind:?} {branch} {parent}"
        );
    }
}

#[tokio::test]
async fn a_branch_that_was_pushed_just_now_is_known_after_it_is_registered() {
    let s = Stacked::of(2).await;
    s.sh(&format!("git checkout -q -b late s2; {C} --allow-empty -m late; git push -q origin late"));
    let id = s.repository.parse().unwrap();
    let known =
        async || crate::store::branches::find(&s.f.cx.store, &id, "late").await.unwrap().map(|b| b.commit_id);
    assert_eq!(known().await, None);
    let request = RunRepositoryActionRequest {
        parent: "s1".into(),
        ..s.request(JobKind::RegisterExistingBranch, "late")
    };
    let job = s.run_request(request).await;
    assert_eq!((state(&job), known().await), ((JobState::Done, ""), Some(s.tip("late"))));
    let overview = crate::store::branch_overviews::bases(&s.f.cx.store, &id).await.unwrap();
    assert_eq!(overview["late"].parent, "s1");
    assert_eq!(state(&s.run(JobKind::SyncRepo, "").await), (JobState::Done, ""));
}
