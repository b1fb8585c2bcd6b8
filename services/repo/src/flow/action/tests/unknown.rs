//! Pushes whose end is not known: the remote takes them, and the connection is lost.

use std::time::Duration;

use foundry_core::Error;
use foundry_flow::Flow;
use foundry_flow::proofs::prove;

use super::turns::at;
use super::*;
use crate::context::Context;
use crate::flow::action::ACTION;
use crate::flow::action::settle::SETTLE;
use crate::flow::tests::proofs::{self, Case, Of, engine_of, refs};

/// The remote ends the connection once the refs have changed.
const LOST: &str = "cat >/dev/null; [ $1 != committed ] || kill -9 $PPID";

async fn passes(s: &Stacked, each: Duration) {
    for _ in 0..10 {
        s.f.env.clock.advance(each);
        s.f.engine.run_until_idle().await.unwrap();
    }
}

/// A restack that has arrived and cannot know it: the remote is gone since.
async fn lost(s: &Stacked) -> Job {
    s.main_moves();
    s.hook("reference-transaction", LOST);
    let before = s.tip("s1");
    let id = s.begin(s.request(JobKind::RestackRepo, "")).await;
    s.f.engine.run_until_idle().await.unwrap();
    assert_ne!(s.tip("s1"), before, "the push has arrived");
    at(s, "https://foundry-no-such-host.invalid/x").await;
    passes(s, Duration::from_secs(61)).await;
    s.hook("reference-transaction", "exit 0");
    let job = s.job(&id).await;
    assert_eq!(job.state(), JobState::Failed);
    assert_eq!(states(&job), "s1=PUSHING s2=PUSHING");
    assert!(message(&job).ends_with("the remote may have the new commits"), "{}", message(&job));
    job
}

#[tokio::test]
async fn a_push_that_has_arrived_unknown_is_recorded_once_the_remote_is_back() {
    let s = Stacked::of(2).await;
    let before = s.refs();
    let job = lost(&s).await;
    at(&s, s.remote.to_str().unwrap()).await;
    passes(&s, Duration::from_secs(3601)).await;
    let job = s.job(&job.job_id).await;
    assert_eq!((job.state(), states(&job)), (JobState::Failed, "s1=PUSHED s2=PUSHED".into()));
    assert!(message(&job).ends_with("the remote has the new commits of 2 branches"), "{}", message(&job));
    let id = s.repository.parse().unwrap();
    let known = crate::store::branches::find(&s.f.cx.store, &id, "s2").await.unwrap().unwrap();
    assert_eq!(known.commit_id, s.tip("s2"));
    let undo = s.undo(&job).await;
    let main = s.tip("main");
    let at_main =
        |refs: String| refs.lines().filter(|l| !l.contains(&main)).map(str::to_owned).collect::<Vec<_>>();
    let before: Vec<String> = at_main(before).into_iter().filter(|l| !l.contains("/main ")).collect();
    assert_eq!((state(&undo), at_main(s.refs())), ((JobState::Done, ""), before));
}

#[tokio::test]
async fn a_push_of_unknown_end_can_be_undone_at_once() {
    let s = Stacked::of(2).await;
    let before = [s.tip("s1"), s.tip("s2")];
    let job = lost(&s).await;
    at(&s, s.remote.to_str().unwrap()).await;
    let undo = s.undo(&job).await;
    assert_eq!(state(&undo), (JobState::Done, ""), "{}", message(&undo));
    assert_eq!([s.tip("s1"), s.tip("s2")], before);
}

#[tokio::test]
async fn a_push_of_unknown_end_that_has_not_arrived_has_nothing_to_undo() {
    let s = Stacked::of(2).await;
    s.main_moves();
    let before = s.refs();
    s.hook("pre-receive", "cat >/dev/null; kill -9 $PPID");
    let id = s.begin(s.request(JobKind::RestackRepo, "")).await;
    passes(&s, Duration::from_secs(61)).await;
    let job = s.job(&id).await;
    assert_eq!((job.state(), states(&job)), (JobState::Failed, "s1=PUSHING s2=PUSHING".into()));
    s.hook("pre-receive", "cat >/dev/null");
    let undo = s.undo(&job).await;
    assert_eq!((state(&undo), s.refs()), ((JobState::Done, ""), before));
    assert_eq!(states(&undo), "s1=SKIPPED s2=SKIPPED");
}

#[tokio::test]
async fn what_has_arrived_one_by_one_is_recorded_whatever_ends_the_job() {
    let s = Stacked::of(4).await;
    git(&s.remote, &["config", "receive.advertiseAtomic", "false"]);
    s.main_moves();
    s.hook("update", "[ $1 != refs/heads/s3 ] || kill -9 $PPID");
    let id = s.begin(s.request(JobKind::RestackRepo, "")).await;
    passes(&s, Duration::from_secs(61)).await;
    passes(&s, Duration::from_secs(61)).await;
    let job = s.job(&id).await;
    assert_eq!(job.state(), JobState::Failed);
    assert_eq!(states(&job), "s1=PUSHED s2=PUSHED s3=PUSHING s4=PLANNED");
    let repository = s.repository.parse().unwrap();
    let known = crate::store::branches::find(&s.f.cx.store, &repository, "s2").await.unwrap().unwrap();
    assert_eq!(known.commit_id, s.tip("s2"));
    s.hook("update", "exit 0");
    let undo = s.undo(&job).await;
    assert_eq!(state(&undo), (JobState::Done, ""), "{}", message(&undo));
    assert_eq!(states(&undo), "s1=PUSHED s2=PUSHED s3=SKIPPED");
    assert_eq!(s.tip("s1"), job.branches[0].old_commit);
}

#[tokio::test]
async fn an_arrived_stack_that_somebody_has_pushed_onto_since_is_not_torn() {
    let s = Stacked::of(2).await;
    s.main_moves();
    s.hook("reference-transaction", LOST);
    let id = s.begin(s.request(JobKind::RestackRepo, "")).await;
    s.f.engine.run_until_idle().await.unwrap();
    s.hook("reference-transaction", "exit 0");
    s.sh(&format!(
        "git fetch -q; git checkout -q -B s2 origin/s2; {C} --allow-empty -m more; git push -q origin s2"
    ));
    let before = s.refs();
    passes(&s, Duration::from_secs(61)).await;
    let job = s.job(&id).await;
    assert_eq!((state(&job), states(&job)), ((JobState::Done, ""), "s1=PUSHED s2=PUSHED".into()));
    assert_eq!(job.branches[1].found_commit, s.tip("s2"));
    let undo = s.undo(&job).await;
    assert_eq!((state(&undo), s.refs()), ((JobState::Failed, "BRANCH_MOVED"), before));
    assert!(message(&undo).contains("the branch s2 was at"), "{}", message(&undo));
}

#[tokio::test]
async fn only_the_plan_that_was_seen_is_run() {
    let s = Stacked::of(2).await;
    s.main_moves();
    let plan = RunRepositoryActionRequest { plan_only: true, ..s.request(JobKind::RestackRepo, "") };
    let other = RunRepositoryActionRequest { plan_only: true, ..s.request(JobKind::RebaseBranch, "s1") };
    let (plan, other) = (s.run_request(plan).await, s.run_request(other).await);
    let of = |plan: &Job| RunRepositoryActionRequest {
        plan_job_id: plan.job_id.clone(),
        ..s.request(JobKind::RestackRepo, "")
    };
    let before = s.refs();
    let refused = s.run_request(of(&other)).await;
    assert_eq!((state(&refused), s.refs()), ((JobState::Failed, "PLAN_OUTDATED"), before));
    // The branches are where they were, but what they stand on is not.
    s.sh(&format!(
        "git checkout -q main; echo 2 > second.txt; git add .; {C} -m second; git push -q origin main"
    ));
    let before = s.refs();
    let outdated = s.run_request(of(&plan)).await;
    assert_eq!((state(&outdated), s.refs()), ((JobState::Failed, "PLAN_OUTDATED"), before));
}

#[tokio::test]
async fn a_squash_that_was_taken_back_on_main_is_made_again_for_its_children() {
    let s = Stacked::of(3).await;
    s.sh(&format!(
        "git checkout -q main; git merge -q --squash s2; {C} -m 'squashed s2'; git revert --no-edit HEAD >/dev/null; \
         git push -q origin main"
    ));
    let job = s.run(JobKind::RestackRepo, "").await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    assert!(s.files("s3").contains("s1 s2 s3"), "{}", s.files("s3"));
    assert!(s.is_stack(&["main", "s1", "s2", "s3"]), "{}", states(&job));
}

#[tokio::test]
async fn the_parent_that_was_asked_for_a_merged_branch_is_recorded() {
    let s = Stacked::of(3).await;
    s.squash_merge("s2");
    let request =
        RunRepositoryActionRequest { parent: "s1".into(), ..s.request(JobKind::ReparentBranch, "s2") };
    let job = s.run_request(request).await;
    assert_eq!(state(&job), (JobState::Done, ""), "{}", message(&job));
    let parents =
        crate::store::branch_parents::all(&s.f.cx.store, &s.repository.parse().unwrap()).await.unwrap();
    assert_eq!(parents.get("s2").map(String::as_str), Some("s1"));
}

#[tokio::test]
async fn each_job_about_a_whole_repository_counts_for_its_organization() {
    let s = Stacked::of(1).await;
    let mut last = String::new();
    for _ in 0..4 {
        last = s.begin(s.request(JobKind::SyncRepo, "")).await;
    }
    let job = crate::store::jobs::find(&s.f.cx.store, &last.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(crate::store::jobs::heads_before(&s.f.cx.store, &job).await.unwrap(), 3);
}

/// A restack that was cancelled while nobody could know that its push had arrived; the remote has not been asked since.
struct Arrived {
    s: Stacked,
    job: String,
}

impl Arrived {
    async fn new() -> Of<Self> {
        let s = Stacked::of(2).await;
        s.main_moves();
        s.hook("reference-transaction", LOST);
        let job = s.begin(s.request(JobKind::RestackRepo, "")).await;
        let engine = engine_of(&s.f, &ACTION);
        engine.run_until_idle().await.unwrap();
        s.hook("reference-transaction", "exit 0");
        let cancel = CancelJobRequest { job_id: job.clone(), ..CancelJobRequest::default() };
        cancel_job(&s.f.cx, &s.f.member, cancel).await.unwrap();
        engine.run_until_idle().await.unwrap();
        let cancelled = s.job(&job).await;
        assert_eq!(state(&cancelled), (JobState::Cancelled, "CANCELLED"));
        assert_eq!(states(&cancelled), "s1=PUSHING s2=PUSHING");
        Of(Self { s, job })
    }
}

#[tonic::async_trait]
impl Case for Arrived {
    fn flow(&self) -> &'static Flow<Context> {
        &SETTLE
    }
    fn fixture(&self) -> &Fixture {
        &self.s.f
    }
    async fn begin(&self) -> Result<String, Error> {
        Ok(self.job.clone())
    }
    async fn effects(&self) -> Vec<String> {
        let mirror = self.s.f.cx.mirror_path(&self.s.repository.parse().unwrap());
        let mut all: Vec<_> = [refs(&self.s.remote, "refs/heads/"), refs(&mirror, "refs/")].concat();
        all.iter_mut().for_each(|line| *line = line.replace(&self.job, ""));
        all.push(proofs::synchronizations(&self.s.f, &self.s.repository).await);
        all
    }
    async fn shown(&self) -> String {
        let job = self.s.job(&self.job).await;
        let audited = "SELECT action AS line FROM store_audit WHERE action = 'branch.push'";
        let known = "SELECT name || ' ' || subject AS line FROM branches ORDER BY name";
        let (audited, known) =
            (proofs::lines(&self.s.f, audited).await, proofs::lines(&self.s.f, known).await);
        format!("{:?} {} {} {audited:?} {known:?}", state(&job), states(&job), message(&job))
    }
}

#[tokio::test]
async fn asking_what_has_become_of_a_push_passes_all_proofs() {
    prove(&SETTLE, Arrived::new).await;
}
