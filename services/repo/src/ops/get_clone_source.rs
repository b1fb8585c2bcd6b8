//! Returns the mirror and commit from which the provisioner clones a sandbox.

use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result, SandboxId, TaskId, Timestamp};
use foundry_proto::common::v1::{Base, Condition, Role};
use foundry_proto::repo::v1::{GetCloneSourceRequest, GetCloneSourceResponse};
use foundry_store::WriteSet;

use super::scheduling;
use crate::context::Context;
use crate::domain::base::{self, Freshness};
use crate::domain::repository::Repository;
use crate::domain::work::{State, Work};
use crate::flow::base_files;
use crate::store::base_requests::Asked;
use crate::store::{base_requests, branches, clones, works};

/// Shortest and longest pause before a sandbox should ask again whether its base is fetched.
const PAUSES: (Duration, Duration) = (Duration::from_millis(30), Duration::from_secs(1));

/// What a task has produced before, or the branch as the remote has it: the answer waits, for [`Context::base_wait`] at
/// most, for a synchronization that began after the sandbox first asked, and starts one if none runs. A task whose
/// sandbox was destroyed continues with its work; without it, the next hand-over would replace the work by nothing. The
/// sandbox counts as having a clone from the answer on, until `ReleaseClone`.
///
/// # Errors
/// `NOT_FOUND` for the repository or the branch; `FAILED_PRECONDITION` while there is no mirror yet, the base is being
/// fetched, the task's work is being imported, or the repository is being deleted.
pub async fn get_clone_source(
    cx: &Context,
    caller: &Caller,
    request: GetCloneSourceRequest,
) -> Result<GetCloneSourceResponse> {
    let decided = cx.store.retry_on_conflict(|| async {
        let repository = repository(cx, caller, &request).await?;
        decide(cx, caller, &repository, &request).await
    });
    decided.await?.1
}

async fn decide(
    cx: &Context,
    caller: &Caller,
    repository: &Repository,
    request: &GetCloneSourceRequest,
) -> Result<(WriteSet, Result<GetCloneSourceResponse>)> {
    let mut ws = WriteSet::new();
    let work = work(cx, repository, request).await?;
    let mut notices = Vec::new();
    if work.is_none() && !request.sandbox_id.is_empty() {
        let now = cx.env.clock.now();
        let asked = asked(cx, repository, request, now, &mut ws).await?;
        let syncs = scheduling::syncs(cx, repository).await?;
        let (lfs, submodules, asked) = (asked.lfs, asked.submodules, asked.at);
        match base::freshness(repository, &syncs, asked, now, cx.base_wait) {
            Freshness::Fresh if files_are_being_fetched(cx, repository, asked, now).await? => {
                return Ok((ws, Err(being_fetched(repository, FILES, now.since(asked)))));
            }
            Freshness::Fresh => {}
            Freshness::Stale(why) => notices.push(base::not_fetched(repository, asked, &why)),
            Freshness::Awaited(refresh) => {
                scheduling::refresh(cx, caller, &mut ws, repository, refresh)?;
                return Ok((ws, Err(being_fetched(repository, NEWEST, now.since(asked)))));
            }
        }
        if !lfs.is_empty() {
            notices.push(base::files_not_fetched(asked, &lfs));
        }
        if !submodules.is_empty() {
            notices.push(base::submodules_left_out(asked, &submodules));
        }
        notices.extend(conflict(cx, repository, request, now).await?);
        if let Some(taken) = notices.iter().find(|n| n.reason == "BRANCH_CONFLICT" && request.branch_chosen) {
            let error = Error::precondition("BRANCH_CONFLICT", &request.branch, taken.message.clone());
            // When the sandbox first asked is kept, so that a retry does not start from the beginning.
            return Ok((ws, Err(error.next_action("choose another branch"))));
        }
    }
    let answer = match source(cx, repository, request, work, notices).await {
        Err(e) if e.reason() == "BRANCH_NOT_FOUND" && !request.sandbox_id.is_empty() => {
            // A retry reads the remote again: the branch may have been made there.
            let (sandbox, id) = (request.sandbox_id.parse()?, &repository.repository_id);
            base_requests::put(&mut ws, &sandbox, id, &request.base_branch, cx.env.clock.now());
            return Ok((ws, Err(e)));
        }
        answer => answer?,
    };
    hold(cx, repository, request, &answer.base_commit, &mut ws).await?;
    Ok((ws, Ok(answer)))
}

/// Whether files of Git LFS and submodules of bases are being fetched, and the sandbox has time to wait for them.
async fn files_are_being_fetched(
    cx: &Context,
    repository: &Repository,
    asked: Timestamp,
    now: Timestamp,
) -> Result<bool> {
    if now >= asked.plus(base::FILES_WAIT) {
        return Ok(false);
    }
    let running =
        foundry_flow::unfinished(&cx.store, &base_files::BASE_FILES, repository.repository_id.as_str())
            .await?;
    Ok(!running.is_empty())
}

/// When the sandbox first asked, and what was not fetched for it since. Recorded, so that it does not wait for ever for a
/// synchronization that is newer still.
async fn asked(
    cx: &Context,
    repository: &Repository,
    request: &GetCloneSourceRequest,
    now: Timestamp,
    ws: &mut WriteSet,
) -> Result<Asked> {
    let (sandbox, id) = (request.sandbox_id.parse::<SandboxId>()?, &repository.repository_id);
    let before = base_requests::find(&cx.store, &sandbox, id).await?;
    if let Some(before) = before.filter(|before| now.since(before.at) < base::SAME_START) {
        return Ok(before);
    }
    base_requests::put(ws, &sandbox, id, &request.base_branch, now);
    Ok(Asked { at: now, lfs: String::new(), submodules: String::new() })
}

const NEWEST: &str = "the newest commit of the base is being fetched";
const FILES: &str = "files of Git LFS and submodules of the base are being fetched";

fn being_fetched(repository: &Repository, text: &str, waited: Duration) -> Error {
    Error::precondition("BASE_BEING_FETCHED", repository.repository_id.as_str(), text)
        .retry_after((waited / 4).clamp(PAUSES.0, PAUSES.1))
}

/// The notice of a branch that the remote has no room for.
async fn conflict(
    cx: &Context,
    repository: &Repository,
    request: &GetCloneSourceRequest,
    now: Timestamp,
) -> Result<Option<Condition>> {
    if request.branch.is_empty() || request.existing_branch {
        return Ok(None);
    }
    let found = branches::conflict(&cx.store, &repository.repository_id, &request.branch).await?;
    Ok(found.map(|taken_by| base::branch_conflict(&request.branch, &taken_by, now)))
}

/// Records the clone, unless it was recorded before; fails if the repository has changed its state since it was read.
async fn hold(
    cx: &Context,
    repository: &Repository,
    request: &GetCloneSourceRequest,
    base: &str,
    ws: &mut WriteSet,
) -> Result<()> {
    if request.sandbox_id.is_empty() {
        return Ok(());
    }
    let (sandbox, task): (SandboxId, TaskId) = (request.sandbox_id.parse()?, request.task_id.parse()?);
    let id = &repository.repository_id;
    if clones::held(&cx.store, &sandbox, id).await?.is_none_or(|before| before != base) {
        let branch = if request.existing_branch { request.branch.as_str() } else { "" };
        clones::hold(ws, (&sandbox, &task), repository, (base, branch));
        if !branch.is_empty() {
            // It names the owner of the branch.
            crate::flow::overview::want(cx, ws, id);
        }
    }
    Ok(())
}

async fn repository(cx: &Context, caller: &Caller, request: &GetCloneSourceRequest) -> Result<Repository> {
    let organization: OrganizationId = request.organization_id.parse()?;
    if request.existing_branch && request.branch != request.base_branch {
        return Err(Error::invalid_field("base_branch", "must be the branch, as that exists"));
    }
    let repository = cx.repository(caller, &request.repository_id, Role::Viewer).await?;
    let id = repository.repository_id.as_str();
    if repository.organization_id != organization {
        return Err(Error::not_found("repository", id));
    }
    repository.require_mirror()?;
    Ok(repository)
}

/// What the task has produced before in this repository.
async fn work(
    cx: &Context,
    repository: &Repository,
    request: &GetCloneSourceRequest,
) -> Result<Option<Work>> {
    let work = match request.task_id.as_str() {
        "" => None,
        task => works::find(&cx.store, &task.parse()?).await?,
    };
    let work = work.filter(|w| {
        w.organization_id == repository.organization_id && w.repository_id == repository.repository_id
    });
    if work.as_ref().is_some_and(|w| w.state == State::Importing) {
        return Err(Error::precondition(
            "REPOSITORY_NOT_READY",
            repository.repository_id.as_str(),
            "the earlier work of the task is being imported",
        )
        .retry_after(Duration::from_secs(1)));
    }
    Ok(work.filter(|w| !w.head_commit.is_empty()))
}

async fn source(
    cx: &Context,
    repository: &Repository,
    request: &GetCloneSourceRequest,
    work: Option<Work>,
    mut notices: Vec<Condition>,
) -> Result<GetCloneSourceResponse> {
    let wanted =
        if request.base_branch.is_empty() { &repository.default_branch } else { &request.base_branch };
    let mut empty = false;
    let (base_commit, work_commit) = match work {
        // Its base is recorded, although the branch may be gone.
        Some(work) => (work.base_commit, work.head_commit),
        None => match branches::find(&cx.store, &repository.repository_id, wanted).await? {
            Some(branch) => (branch.commit_id, String::new()),
            None if wanted.is_empty() && !repository.empty_commit.is_empty() => {
                empty = true;
                notices.push(base::is_empty(cx.env.clock.now()));
                (repository.empty_commit.clone(), String::new())
            }
            None => return Err(no_branch(wanted)),
        },
    };
    let as_of = repository.sync_time.filter(|_| work_commit.is_empty()).map(Timestamp::to_proto);
    Ok(GetCloneSourceResponse {
        mirror_path: cx.mirror_path(&repository.repository_id).to_string_lossy().into_owned(),
        base_branch: wanted.clone(),
        base: Some(Base { commit: base_commit.clone(), as_of, empty, notices }),
        base_commit,
        url: repository.url.clone(),
        work_commit,
    })
}

fn no_branch(wanted: &str) -> Error {
    let text = match wanted {
        "" => "the repository has no branch yet".to_owned(),
        wanted => format!("the repository has no branch {wanted:?}"),
    };
    Error::new(foundry_core::Code::NotFound, "BRANCH_NOT_FOUND", text)
        .next_action("choose a branch from `ListBranches`, or refresh the repository")
}

#[cfg(test)]
mod tests {
    use foundry_proto::repo::v1::Repository;

    use super::*;
    use crate::ops::import_work::import_work;
    use crate::testing::{Fixture, git, stream};

    #[tokio::test]
    async fn a_task_continues_with_its_stored_work_on_the_commit_that_it_is_based_on() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let source = |task_id: &str| {
            let request = GetCloneSourceRequest {
                organization_id: f.organization.to_string(),
                repository_id: repository.repository_id.clone(),
                task_id: task_id.to_owned(),
                ..GetCloneSourceRequest::default()
            };
            get_clone_source(&f.cx, &f.member, request)
        };
        let base = git(&f.origin, &["rev-parse", "HEAD"]);
        let fresh = source(task.as_str()).await.unwrap();
        assert_eq!((fresh.base_commit.as_str(), fresh.work_commit.as_str()), (base.as_str(), ""));

        let parts = f.work(&repository, &task, &[("new.txt", "kept\n")]);
        import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
        assert_eq!(source(task.as_str()).await.unwrap_err().reason(), "REPOSITORY_NOT_READY");
        f.engine.run_until_idle().await.unwrap();
        let continued = source(task.as_str()).await.unwrap();
        assert_eq!(continued.base_commit, base);
        let mirror = std::path::Path::new(&continued.mirror_path);
        assert_eq!(git(mirror, &["show", &format!("{}:new.txt", continued.work_commit)]), "kept");
        assert_eq!(source("").await.unwrap().work_commit, "");

        // Its branch may be deleted at the remote.
        git(&f.origin, &["branch", "-m", "main", "trunk"]);
        let refresh = foundry_proto::repo::v1::RequestRepositoryRefreshRequest {
            repository_id: repository.repository_id.clone(),
            ..Default::default()
        };
        let refreshed = crate::ops::request_repository_refresh::request_repository_refresh;
        refreshed(&f.cx, &f.member, refresh).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let on_main = |task_id: &str| GetCloneSourceRequest {
            base_branch: "main".into(),
            task_id: task_id.into(),
            sandbox_id: String::new(),
            ..asking(&f, &repository)
        };
        assert_eq!(ask(&f, &on_main("")).await.unwrap_err().reason(), "BRANCH_NOT_FOUND");
        let answer = ask(&f, &on_main(task.as_str())).await.unwrap();
        assert_eq!(answer.work_commit, continued.work_commit);
    }

    /// A request for a sandbox of a new task.
    fn asking(f: &Fixture, repository: &Repository) -> GetCloneSourceRequest {
        GetCloneSourceRequest {
            organization_id: f.organization.to_string(),
            repository_id: repository.repository_id.clone(),
            task_id: TaskId::generate(&f.env.env).to_string(),
            sandbox_id: SandboxId::generate(&f.env.env).to_string(),
            ..GetCloneSourceRequest::default()
        }
    }

    async fn ask(f: &Fixture, request: &GetCloneSourceRequest) -> Result<GetCloneSourceResponse> {
        get_clone_source(&f.cx, &Caller::service("provisioner"), request.clone()).await
    }

    /// The reasons of the notices of an answer.
    fn notices(answer: &GetCloneSourceResponse) -> Vec<&str> {
        answer.base.as_ref().unwrap().notices.iter().map(|n| n.reason.as_str()).collect()
    }

    async fn syncs(f: &Fixture) -> usize {
        let sql = "SELECT flow_id FROM flows WHERE kind = 'repository_sync'";
        f.cx.store.query(sql, &[]).await.unwrap().len()
    }

    #[tokio::test]
    async fn a_commit_that_was_pushed_before_the_task_is_its_base_and_tasks_share_the_fetch() {
        let f = Fixture::new().await;
        let repository = f.mirrored().await;
        f.env.clock.advance(Duration::from_secs(60));
        git(&f.origin, &["commit", "-q", "--allow-empty", "-m", "second"]);
        let (one, two) = (asking(&f, &repository), asking(&f, &repository));
        for request in [&one, &two, &one] {
            assert_eq!(ask(&f, request).await.unwrap_err().reason(), "BASE_BEING_FETCHED");
            f.env.clock.advance(Duration::from_millis(100));
        }
        assert_eq!(syncs(&f).await, 2, "the first one, and one for both tasks");
        f.engine.run_until_idle().await.unwrap();
        for request in [&one, &two] {
            let answer = ask(&f, request).await.unwrap();
            assert_eq!(answer.base_commit, git(&f.origin, &["rev-parse", "HEAD"]));
            assert_eq!((notices(&answer).len(), answer.base.unwrap().empty), (0, false));
        }
        assert_eq!(syncs(&f).await, 2);
    }

    #[tokio::test]
    async fn a_synchronization_that_began_before_is_followed_by_another() {
        let f = Fixture::new().await;
        let repository = f.mirrored().await;
        f.env.clock.advance(Duration::from_secs(60));
        let refresh = foundry_proto::repo::v1::RequestRepositoryRefreshRequest {
            repository_id: repository.repository_id.clone(),
            ..Default::default()
        };
        let refreshed = crate::ops::request_repository_refresh::request_repository_refresh;
        refreshed(&f.cx, &f.member, refresh).await.unwrap();
        f.env.clock.advance(Duration::from_secs(1));
        let request = asking(&f, &repository);
        ask(&f, &request).await.unwrap_err();
        let row = f.cx.repository(&f.member, &repository.repository_id, Role::Viewer).await.unwrap();
        assert!(row.refresh_wanted);
        f.engine.run_until_idle().await.unwrap();
        assert_eq!(notices(&ask(&f, &request).await.unwrap()), [""; 0]);
    }

    #[tokio::test]
    async fn a_remote_that_refuses_or_hangs_leaves_the_base_as_it_is_and_says_why() {
        let f = Fixture::new().await;
        let repository = f.mirrored().await;
        let base = git(&f.origin, &["rev-parse", "HEAD"]);
        f.env.clock.advance(Duration::from_secs(725));
        let hangs = asking(&f, &repository);
        ask(&f, &hangs).await.unwrap_err();
        f.env.clock.advance(Duration::from_secs(16));
        let answer = ask(&f, &hangs).await.unwrap();
        assert_eq!(
            (answer.base_commit.as_str(), notices(&answer)),
            (base.as_str(), vec!["BASE_NOT_FETCHED"])
        );
        let message = answer.base.unwrap().notices[0].message.clone();
        assert!(message.contains("12 minutes old") && message.ends_with("within 15 seconds"), "{message}");

        f.engine.run_until_idle().await.unwrap();
        f.env.clock.advance(Duration::from_secs(60));
        std::fs::rename(&f.origin, f.path().join("gone")).unwrap();
        let refuses = asking(&f, &repository);
        ask(&f, &refuses).await.unwrap_err();
        f.engine.run_until_idle().await.unwrap();
        let answer = ask(&f, &refuses).await.unwrap();
        let message = answer.base.unwrap().notices[0].message.clone();
        assert!(message.contains("(GIT_REMOTE_NOT_FOUND)"), "{message}");
        // Minutes later, it is a new start.
        f.env.clock.advance(base::SAME_START);
        assert_eq!(ask(&f, &refuses).await.unwrap_err().reason(), "BASE_BEING_FETCHED");
    }

    #[tokio::test]
    async fn a_retry_finds_a_branch_that_the_remote_did_not_have_before() {
        let f = Fixture::new().await;
        let repository = f.mirrored().await;
        let named = GetCloneSourceRequest { base_branch: "late".into(), ..asking(&f, &repository) };
        f.env.clock.advance(Duration::from_secs(1));
        assert_eq!(ask(&f, &named).await.unwrap_err().reason(), "BASE_BEING_FETCHED");
        f.engine.run_until_idle().await.unwrap();
        f.env.clock.advance(Duration::from_millis(1));
        assert_eq!(ask(&f, &named).await.unwrap_err().reason(), "BRANCH_NOT_FOUND");
        git(&f.origin, &["branch", "late"]);
        f.env.clock.advance(Duration::from_secs(1));
        assert_eq!(ask(&f, &named).await.unwrap_err().reason(), "BASE_BEING_FETCHED");
        f.engine.run_until_idle().await.unwrap();
        assert_eq!(ask(&f, &named).await.unwrap().base_branch, "late");
    }

    #[tokio::test]
    async fn a_repository_without_a_commit_has_a_base_without_files_until_it_gets_one() {
        let f = Fixture::new().await;
        std::fs::remove_dir_all(f.origin.join(".git")).unwrap();
        git(&f.origin, &["init", "-q"]);
        let repository = f.mirrored().await;
        let answer = ask(&f, &asking(&f, &repository)).await.unwrap();
        assert_eq!((answer.base_branch.as_str(), notices(&answer)), ("", vec!["REPOSITORY_EMPTY"]));
        let mirror = std::path::Path::new(&answer.mirror_path);
        assert_eq!(git(mirror, &["ls-tree", &answer.base_commit]), "");
        let named = GetCloneSourceRequest { base_branch: "main".into(), ..asking(&f, &repository) };
        assert_eq!(ask(&f, &named).await.unwrap_err().reason(), "BRANCH_NOT_FOUND");

        git(&f.origin, &["add", "."]);
        git(&f.origin, &["commit", "-q", "-m", "first"]);
        f.env.clock.advance(Duration::from_secs(1));
        let later = asking(&f, &repository);
        ask(&f, &later).await.unwrap_err();
        f.engine.run_until_idle().await.unwrap();
        let answer = ask(&f, &later).await.unwrap();
        assert_eq!((answer.base_branch.as_str(), notices(&answer).len()), ("main", 0));
    }

    #[tokio::test]
    async fn a_branch_that_the_remote_has_no_room_for_is_a_notice_and_an_error_if_a_user_chose_it() {
        let f = Fixture::new().await;
        git(&f.origin, &["branch", "feature/x"]);
        let repository = f.mirrored().await;
        let request = GetCloneSourceRequest { branch: "feature".into(), ..asking(&f, &repository) };
        let answer = ask(&f, &request).await.unwrap();
        assert_eq!(notices(&answer), ["BRANCH_CONFLICT"]);
        assert!(answer.base.unwrap().notices[0].message.contains("feature/x"));

        let chosen = GetCloneSourceRequest { branch_chosen: true, ..request };
        let refused = ask(&f, &chosen).await.unwrap_err();
        assert_eq!(refused.reason(), "BRANCH_CONFLICT");
        assert!(refused.message().contains("feature/x"), "{refused}");
        let free = GetCloneSourceRequest { branch: "features".into(), ..chosen };
        assert_eq!(notices(&ask(&f, &free).await.unwrap()).len(), 0);
    }
}
