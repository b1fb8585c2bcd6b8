//! Serves one request of a `git fetch`: the exception to law 1 with a bulkhead of its own (ADR 0018).

use foundry_authn::Caller;
use foundry_core::{Code, Error, OrganizationId, RepositoryId, Result, TaskId, Timestamp};
use foundry_git::{BranchName, CommitId, FetchProtocol, ServedWork, WorkName};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ServeFetchRequest, ServeFetchResponse};
use foundry_store::WriteSet;
use futures::StreamExt as _;

use super::scheduling;
use crate::context::Context;
use crate::domain::base::{self, Refresh};
use crate::domain::repository::{Repository, State};
use crate::serving::{Answers, Serving};
use crate::store::{repositories, works};

/// Pause between two looks at a synchronization that is awaited.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// Starts `git upload-pack` on what the caller may see of the mirror. The answer ends when it does.
///
/// # Errors
/// `NOT_FOUND` for the repository; `PERMISSION_DENIED` for a user with a task; `FAILED_PRECONDITION` while there is no mirror; `INVALID_ARGUMENT` for a request
/// that no client of git sends, or that wants other objects than those served; `UNAVAILABLE` when too many are served.
pub async fn serve_fetch(
    cx: &Context,
    caller: &Caller,
    request: ServeFetchRequest,
) -> Result<Answers<ServeFetchResponse>> {
    let repository = find(cx, caller, &request).await?;
    if !request.task_id.is_empty() && caller.service_name().is_none() {
        let text = "only a service may fetch as the sandbox of a task";
        return Err(Error::new(Code::PermissionDenied, "PERMISSION_DENIED", text));
    }
    repository.require_mirror()?;
    let task = match request.task_id.as_str() {
        "" => None,
        task => Some(task.parse::<TaskId>()?),
    };
    // Without a place to wait, the fetch shows the mirror as it is.
    if let Some(task) = task.as_ref().filter(|_| request.advertise)
        && let Some(_waits) = cx.serving.refresh(&repository.organization_id, task)
    {
        refreshed(cx, caller, &repository).await;
    }
    let place = cx.serving.place(&repository.organization_id, task.as_ref()).await?;
    let mirror = cx.mirror(&repository.repository_id).await?;
    let works = works_of(cx, &repository.repository_id, task.as_ref()).await?;
    let served = mirror.served_refs(&works, task.is_none()).await?;
    let protocol = FetchProtocol::offered(&request.protocol);
    let (scratch, limits) = (&cx.serving.scratch, Serving::limits());
    let piped = if request.advertise {
        mirror.advertise(&served, protocol, scratch, limits).await?
    } else {
        mirror.answer_fetch(&served, protocol, &request.body, scratch, limits).await?
    };
    let pieces = cx.serving.answer(place, piped);
    Ok(pieces.map(|piece| piece.map(|data| ServeFetchResponse { data })).boxed())
}

/// The repository, by id or by name.
async fn find(cx: &Context, caller: &Caller, request: &ServeFetchRequest) -> Result<Repository> {
    let organization: OrganizationId = request.organization_id.parse()?;
    let named = &request.repository;
    caller.require_for(&organization, Role::Viewer, "repository", named)?;
    let by_id = match named.parse::<RepositoryId>() {
        Ok(id) => repositories::find(&cx.store, &id).await?.filter(|r| r.organization_id == organization),
        Err(_) => None,
    };
    let found = match by_id {
        Some(found) => Some(found),
        None => repositories::find_by_name(&cx.store, &organization, named).await?,
    };
    found.ok_or_else(|| Error::not_found("repository", named))
}

/// An agent fetches because it expects something new, so the remote is read again first, as long as that takes no longer
/// than [`Context::fetch_wait`]. Otherwise it gets what the mirror has, and the next fetch has the rest.
async fn refreshed(cx: &Context, caller: &Caller, repository: &Repository) {
    let until = cx.env.clock.now().plus(cx.fetch_wait);
    loop {
        let asked = cx.store.retry_on_conflict(|| ask(cx, caller, repository)).await;
        let in_time = cx.env.clock.now() < until;
        match asked {
            Ok((_, Asked::Begins)) => return ended(cx, repository, until).await,
            // It may have listed the remote before the agent asked.
            Ok((_, Asked::Runs)) if in_time => ended(cx, repository, until).await,
            Ok((_, Asked::TooEarly)) if in_time => cx.env.clock.sleep(PAUSE).await,
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(repository = %repository.repository_id, %error, "no refresh was scheduled");
                return;
            }
        }
    }
}

/// What becomes of the wish for a synchronization.
enum Asked {
    Begins,
    Runs,
    /// The last one is too recent: agents cannot cause more of them than that.
    TooEarly,
    Refused,
}

async fn ask(cx: &Context, caller: &Caller, repository: &Repository) -> Result<(WriteSet, Asked)> {
    let mut ws = WriteSet::new();
    let found = repositories::find(&cx.store, &repository.repository_id).await?;
    let Some(repository) = found.filter(|r| r.state != State::Deleting) else {
        return Ok((ws, Asked::Refused));
    };
    let syncs = scheduling::syncs(cx, &repository).await?;
    if base::is_due(&repository, &syncs, cx.env.clock.now()) {
        scheduling::refresh(cx, caller, &mut ws, &repository, Refresh::Start)?;
        return Ok((ws, Asked::Begins));
    }
    let runs = syncs.iter().any(|sync| !sync.status.is_finished());
    Ok((ws, if runs { Asked::Runs } else { Asked::TooEarly }))
}

/// Waits until no synchronization runs, or until then.
async fn ended(cx: &Context, repository: &Repository, until: Timestamp) {
    while cx.env.clock.now() < until {
        cx.env.clock.sleep(PAUSE).await;
        let runs = scheduling::syncs(cx, repository).await;
        if !runs.is_ok_and(|syncs| syncs.iter().any(|sync| !sync.status.is_finished())) {
            return;
        }
    }
}

/// The works of all tasks, or of one.
async fn works_of(cx: &Context, repository: &RepositoryId, only: Option<&TaskId>) -> Result<Vec<ServedWork>> {
    let mut heads = works::heads(&cx.store, repository).await?;
    heads.retain(|(task, ..)| only.is_none_or(|only| task == only));
    let served = |(task, branch, head): &(foundry_core::TaskId, String, String)| {
        let head = CommitId::parse(head).ok()?;
        Some(ServedWork { name: WorkName::from(task), branch: BranchName::parse(branch).ok(), head })
    };
    Ok(heads.iter().filter_map(served).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::import_work::import_work;
    use crate::testing::{Fixture, git, stream};
    use bytes::Bytes;

    fn line(text: &str) -> String {
        format!("{:04x}{text}", text.len() + 4)
    }

    fn listing() -> Bytes {
        Bytes::from(format!("{}0001{}0000", line("command=ls-refs"), line("symrefs")))
    }

    fn wanting(id: &str) -> Bytes {
        let want = line(&format!("want {id}"));
        Bytes::from(format!("{}0001{want}{}0000", line("command=fetch"), line("done")))
    }

    async fn ask(f: &Fixture, caller: &Caller, named: &str, body: Bytes) -> Result<Vec<u8>> {
        ask_for(f, caller, named, body, String::new()).await
    }

    /// As a sandbox of the task sees it.
    async fn ask_for(
        f: &Fixture,
        caller: &Caller,
        named: &str,
        body: Bytes,
        task_id: String,
    ) -> Result<Vec<u8>> {
        let request = ServeFetchRequest {
            organization_id: f.organization.to_string(),
            repository: named.to_owned(),
            protocol: "version=2".to_owned(),
            advertise: body.is_empty(),
            body,
            task_id,
        };
        let mut answers = serve_fetch(&f.cx, caller, request).await?;
        let mut out = Vec::new();
        while let Some(answer) = answers.next().await {
            out.extend_from_slice(&answer.unwrap().data);
        }
        Ok(out)
    }

    #[tokio::test]
    async fn serves_branches_and_the_work_of_tasks_by_the_id_of_the_repository_and_by_its_name() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let parts = f.work(&repository, &task, &[("a.txt", "a\n")]);
        import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let head = f.cx.work(&f.member, task.as_str(), Role::Viewer).await.unwrap().head_commit;
        for named in [repository.repository_id.as_str(), "origin", "Origin"] {
            let listed = ask(&f, &f.member, named, listing()).await.unwrap();
            let listed = String::from_utf8(listed).unwrap();
            assert!(listed.contains(&format!("{head} refs/foundry/tasks/{task}")), "{listed}");
            assert!(listed.contains(&format!("{head} refs/heads/feat/work")), "{listed}");
            assert!(listed.contains("refs/heads/main"), "{listed}");
        }
        assert!(ask(&f, &f.member, "origin", Bytes::new()).await.unwrap().starts_with(b"000eversion 2"));
        let pack = ask(&f, &f.member, "origin", wanting(&head)).await.unwrap();
        assert!(pack.windows(4).any(|w| w == b"PACK"));
        let hidden = git(&f.origin, &["commit-tree", "-m", "elsewhere", "HEAD^{tree}"]);
        let refused = ask(&f, &f.member, "origin", wanting(&hidden)).await.unwrap_err();
        assert_eq!(refused.reason(), "OBJECT_NOT_ADVERTISED");
    }

    #[tokio::test]
    async fn a_sandbox_sees_the_branches_of_the_remote_and_the_work_of_its_own_task_alone() {
        let f = Fixture::new().await;
        let repository = f.mirrored().await;
        let tasks = [TaskId::generate(&f.env.env), TaskId::generate(&f.env.env)];
        for (task, file) in tasks.iter().zip(["a.txt", "b.txt"]) {
            let parts = f.work(&repository, task, &[(file, "a\n")]);
            import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
            f.engine.run_until_idle().await.unwrap();
        }
        let (caller, id) = (Caller::service("provisioner"), repository.repository_id.as_str());
        let ask = |task: &TaskId, body| ask_for(&f, &caller, id, body, task.to_string());
        let listed = String::from_utf8(ask(&tasks[0], listing()).await.unwrap()).unwrap();
        let names: Vec<_> = listed.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(
            names,
            ["HEAD", &format!("refs/foundry/tasks/{}", tasks[0]), "refs/heads/main"],
            "{listed}"
        );
        let other = f.cx.work(&f.member, tasks[1].as_str(), Role::Viewer).await.unwrap().head_commit;
        let refused = ask(&tasks[0], wanting(&other)).await.unwrap_err();
        assert_eq!(refused.reason(), "OBJECT_NOT_ADVERTISED");
        assert!(ask(&tasks[1], wanting(&other)).await.is_ok());
        let user = ask_for(&f, &f.member, id, listing(), tasks[0].to_string()).await.unwrap_err();
        assert_eq!(user.reason(), "PERMISSION_DENIED");
    }

    #[tokio::test]
    async fn a_fetch_in_a_sandbox_has_the_remote_read_again_but_no_more_often_than_that() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let (caller, id) = (Caller::service("provisioner"), repository.repository_id.as_str());
        let running = async || {
            let found = repositories::find(&f.cx.store, &id.parse().unwrap()).await.unwrap().unwrap();
            let syncs = scheduling::syncs(&f.cx, &found).await.unwrap();
            syncs.iter().filter(|sync| !sync.status.is_finished()).count()
        };
        let fetch = async || {
            ask_for(&f, &caller, id, Bytes::new(), task.to_string()).await.unwrap();
            running().await
        };
        assert_eq!(fetch().await, 0, "it was read a moment ago");
        f.env.clock.advance(std::time::Duration::from_secs(31));
        ask(&f, &f.member, "origin", Bytes::new()).await.unwrap();
        assert_eq!(running().await, 0, "a user asks for a refresh instead");
        assert_eq!((fetch().await, fetch().await), (1, 1));
        std::fs::rename(&f.origin, f.origin.with_extension("gone")).unwrap();
        for _ in 0..20 {
            f.engine.run_until_idle().await.unwrap();
            f.env.clock.advance(std::time::Duration::from_secs(60));
        }
        assert_eq!(running().await, 0);
        assert_eq!((fetch().await, fetch().await), (1, 1), "a failure is no reason to give up");
    }

    #[tokio::test]
    async fn a_foreign_repository_is_no_different_from_an_absent_one() {
        let f = Fixture::new().await;
        f.mirrored().await;
        let foreign = ask(&f, &f.stranger, "origin", listing()).await.unwrap_err();
        let absent = ask(&f, &f.member, "other", listing()).await.unwrap_err();
        assert_eq!((foreign.code(), absent.code()), (Code::NotFound, Code::NotFound));
        assert_eq!(foreign.message().replace("origin", "other"), absent.message());
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_leaves_no_process_and_no_file() {
        let f = Fixture::new().await;
        // More than what the channel and the pipe hold.
        let noise: String =
            (0..200_000u32).map(|n| format!("{:x}\n", n.wrapping_mul(2_654_435_761))).collect();
        std::fs::write(f.origin.join("noise"), noise).unwrap();
        git(&f.origin, &["add", "."]);
        git(&f.origin, &["commit", "-q", "-m", "noise"]);
        f.mirrored().await;
        let head = git(&f.origin, &["rev-parse", "HEAD"]);
        let request = ServeFetchRequest {
            organization_id: f.organization.to_string(),
            repository: "origin".to_owned(),
            protocol: "version=2".to_owned(),
            advertise: false,
            body: wanting(&head),
            task_id: String::new(),
        };
        let mut answers = serve_fetch(&f.cx, &f.member, request).await.unwrap();
        assert!(answers.next().await.unwrap().is_ok());
        assert_eq!(std::fs::read_dir(&f.cx.serving.scratch).unwrap().count(), 1);
        drop(answers);
        f.tasks_end().await;
        assert_eq!(std::fs::read_dir(&f.cx.serving.scratch).unwrap().count(), 0);
    }
}
