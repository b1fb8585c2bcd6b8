//! Receives a bundle of the work of a task; its import follows in the background.

use std::path::{Path, PathBuf};

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, OrganizationId, Result, TaskId, Timestamp};
use foundry_flow::{NewFlow, Status};
use foundry_git::CommitId;
use foundry_proto::common::v1::{Condition, Role, WorkNotice};
use foundry_proto::repo::v1::{
    ImportWorkHeader, ImportWorkRequest, ImportWorkResponse, import_work_request::Part,
};
use foundry_server::RequestContext;
use foundry_store::{Guard, Scope, WriteSet};
use futures::{Stream, StreamExt as _};
use tokio::io::AsyncWriteExt as _;

use crate::context::Context;
use crate::domain::work::{State, Work, bounded};
use crate::flow::import;
use crate::store::{repositories, work_versions, works};

/// Largest chunk in bytes.
const MAX_CHUNK: usize = 256 << 10;

/// Stores the bundle on disk, then writes the work's row and the import in one transaction.
///
/// # Errors
/// `INVALID_ARGUMENT` for a stream without header, of another size than announced, or over the limit; `NOT_FOUND` for
/// the repository. A stream that breaks off leaves nothing.
pub async fn import_work<S>(cx: &Context, caller: &Caller, parts: S) -> Result<ImportWorkResponse>
where
    S: Stream<Item = std::result::Result<ImportWorkRequest, tonic::Status>> + Send,
{
    let mut parts = std::pin::pin!(parts);
    let Some(Part::Header(header)) = next(&mut parts).await? else {
        return Err(Error::invalid_field("header", "must come first"));
    };
    let arrived = Arrival::check(cx, caller, header).await?;
    if arrived.unchanged {
        return record(cx, caller, &arrived, None).await;
    }
    let mut name = [0u8; 8];
    cx.env.random.fill(&mut name);
    let temporary = Temporary(cx.incoming.join(format!("{}.{}.tmp", arrived.task, hex::encode(name))));
    receive(&mut parts, &temporary.0, arrived.size).await?;
    record(cx, caller, &arrived, Some(temporary)).await
}

async fn next<S>(parts: &mut S) -> Result<Option<Part>>
where
    S: Stream<Item = std::result::Result<ImportWorkRequest, tonic::Status>> + Unpin,
{
    match parts.next().await {
        None => Ok(None),
        Some(Ok(request)) => Ok(request.part),
        Some(Err(status)) => {
            Err(Error::new(foundry_core::Code::Aborted, "STREAM_BROKEN", "the bundle is incomplete")
                .caused_by(status))
        }
    }
}

/// A file that is removed on drop.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // If this fails, the sweep at the next start removes it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A validated header.
struct Arrival {
    organization: OrganizationId,
    task: TaskId,
    branch: String,
    existing_branch: bool,
    repository: foundry_core::RepositoryId,
    base: String,
    size: u64,
    unchanged: bool,
    notices: Vec<WorkNotice>,
    began: Option<Timestamp>,
}

impl Arrival {
    async fn check(cx: &Context, caller: &Caller, header: ImportWorkHeader) -> Result<Self> {
        let organization: OrganizationId = header.organization_id.parse()?;
        let task: TaskId = header.task_id.parse()?;
        let repository = cx.repository(caller, &header.repository_id, Role::Viewer).await?;
        if repository.organization_id != organization {
            return Err(Error::not_found("repository", repository.repository_id.as_str()));
        }
        let commit = |field: &str, text: &str| {
            CommitId::parse(text).map_err(|e| Error::invalid_field(field, e.message()))
        };
        let (base, head) = (
            commit("header.base_commit", &header.base_commit)?,
            commit("header.head_commit", &header.head_commit)?,
        );
        let size = u64::try_from(header.bundle_size).unwrap_or(u64::MAX);
        if size > cx.max_bundle_bytes {
            return Err(Error::quota("bundle size in bytes", task.as_str(), size, cx.max_bundle_bytes));
        }
        Ok(Self {
            organization,
            task,
            branch: header.branch,
            existing_branch: header.existing_branch,
            repository: repository.repository_id,
            unchanged: base == head,
            base: base.to_string(),
            size,
            began: header.hand_over_time.as_ref().map(Timestamp::from_proto),
            notices: bounded(header.notices),
        })
    }
}

async fn receive<S>(parts: &mut S, path: &Path, size: u64) -> Result<()>
where
    S: Stream<Item = std::result::Result<ImportWorkRequest, tonic::Status>> + Unpin,
{
    let mut file = tokio::fs::File::create(path).await.map_err(Error::internal)?;
    let mut received: u64 = 0;
    while let Some(part) = next(parts).await? {
        let Part::Chunk(chunk) = part else {
            return Err(Error::invalid_field("header", "must be sent only once"));
        };
        received += chunk.len() as u64;
        if chunk.len() > MAX_CHUNK || received > size {
            return Err(Error::invalid_field(
                "chunk",
                "is larger than 256 KiB, or the bundle is larger than announced",
            ));
        }
        file.write_all(&chunk).await.map_err(Error::internal)?;
    }
    if received != size {
        return Err(Error::invalid_field("chunk", format!("received {received} bytes, expected {size}")));
    }
    file.sync_all().await.map_err(Error::internal)
}

async fn record(
    cx: &Context,
    caller: &Caller,
    arrived: &Arrival,
    bundle: Option<Temporary>,
) -> Result<ImportWorkResponse> {
    let scope = Scope::organization(&arrived.organization);
    let (committed, work) = cx
        .store
        .retry_on_conflict(|| async {
            // The repository may have been deleted during the upload.
            cx.repository(caller, arrived.repository.as_str(), Role::Viewer).await?;
            let found = works::find(&cx.store, &arrived.task).await?;
            let mut work = found.unwrap_or_else(|| new_work(arrived));
            if work.organization_id != arrived.organization || work.repository_id != arrived.repository {
                return Err(Error::not_found("task", arrived.task.as_str()));
            }
            work.base_commit.clone_from(&arrived.base);
            work.branch.clone_from(&arrived.branch);
            work.existing_branch = arrived.existing_branch;
            work.received += 1;
            work.notices.clone_from(&arrived.notices);
            work.hand_over_time = arrived.began;
            let mut ws = WriteSet::new();
            let there = [("repository_id", arrived.repository.as_str().into())];
            ws.guard(Guard::exists(&repositories::REPOSITORIES, &there));
            let rev = ws.scope(scope.clone());
            let now = cx.env.clock.now();
            if let Some(file) = &bundle {
                // File first: a crash before the commit leaves a file to sweep, never a row without its file.
                let path = import::bundle_path(&cx.incoming, &arrived.task, work.received);
                tokio::fs::copy(&file.0, &path).await.map_err(Error::internal)?;
                tokio::fs::File::open(&path)
                    .await
                    .map_err(Error::internal)?
                    .sync_all()
                    .await
                    .map_err(Error::internal)?;
                work.state = State::Importing;
                work.condition = Condition {
                    waiting_on: "import".to_owned(),
                    since_time: Some(now.to_proto()),
                    ..Condition::default()
                };
                schedule(cx, caller, arrived, &mut ws).await?;
            } else {
                crate::store::changes::forget(&mut ws, &arrived.task, work.version);
                work.state = State::Ready;
                work.condition = Condition { since_time: Some(now.to_proto()), ..Condition::default() };
                work.head_commit.clone_from(&arrived.base);
                let versions = (&arrived.task, work.version, work.received);
                work_versions::add(&mut ws, versions, &work.head_commit, now);
                work.version = work.received;
                (work.files_changed, work.additions, work.deletions) = (0, 0, 0);
                work.import_time = Some(now);
                work.merged_from.clear();
                if let Some(publication) = &mut work.publication {
                    publication.commits_since = 0;
                }
                crate::flow::overview::want(cx, &mut ws, &arrived.repository);
            }
            works::save(&mut ws, rev, &work);
            Ok((ws, work))
        })
        .await?;
    Ok(ImportWorkResponse {
        work: Some(work.to_proto()),
        rev: committed.scope_rev(&scope).unwrap_or_default(),
    })
}

fn new_work(arrived: &Arrival) -> Work {
    Work {
        task_id: arrived.task.clone(),
        organization_id: arrived.organization.clone(),
        repository_id: arrived.repository.clone(),
        rev: 0,
        branch: arrived.branch.clone(),
        state: State::Importing,
        condition: Condition::default(),
        base_commit: arrived.base.clone(),
        head_commit: String::new(),
        version: 0,
        received: 0,
        files_changed: 0,
        additions: 0,
        deletions: 0,
        import_time: None,
        notices: Vec::new(),
        hand_over_time: None,
        merged_from: Vec::new(),
        publication: None,
        existing_branch: arrived.existing_branch,
    }
}

/// One import per task runs at a time; a running one continues with the newer bundle by itself.
async fn schedule(cx: &Context, caller: &Caller, arrived: &Arrival, ws: &mut WriteSet) -> Result<()> {
    let flows = foundry_flow::list_by_subject(&cx.store, arrived.task.as_str()).await?;
    let ended = |s: Status| matches!(s, Status::Done | Status::Failed | Status::Cancelled);
    if flows.iter().any(|f| f.kind == import::IMPORT.kind && !ended(f.status)) {
        return Ok(());
    }
    let flow = NewFlow::new(
        &import::IMPORT,
        FlowId::generate(&cx.env),
        arrived.task.as_str(),
        arrived.task.as_str(),
    )
    .organization(&arrived.organization)
    .on_behalf_of(caller.actor())
    .traced(RequestContext::current_traceparent());
    foundry_flow::enqueue(ws, flow);
    Ok(())
}

#[cfg(test)]
mod tests {
    use foundry_proto::repo::v1::{GetWorkPatchRequest, ListWorkChangesRequest, WorkState};

    use super::*;
    use crate::ops::{get_work_patch, list_work_changes};
    use crate::testing::{Fixture, git, stream};

    async fn changes(f: &Fixture, task: &TaskId) -> foundry_proto::repo::v1::ListWorkChangesResponse {
        let request =
            ListWorkChangesRequest { task_id: task.to_string(), ..ListWorkChangesRequest::default() };
        list_work_changes::list_work_changes(&f.cx, &f.member, request).await.unwrap()
    }

    #[tokio::test]
    async fn stored_patches_apply_in_a_clone_of_the_real_repository() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let parts = f.work(&repository, &task, &[("README.md", "hello\nworld\n"), ("new.txt", "no newline")]);
        let service = Caller::service("provisioner");
        let answer = import_work(&f.cx, &service, stream(parts)).await.unwrap();
        assert_eq!(answer.work.unwrap().state(), WorkState::Importing);
        f.engine.run_until_idle().await.unwrap();
        let listed = changes(&f, &task).await;
        let work = listed.work.unwrap();
        assert_eq!((work.state(), work.files_changed, work.additions), (WorkState::Ready, 2, 2));
        let mut patch = Vec::new();
        for change in &listed.changes {
            let request = GetWorkPatchRequest {
                task_id: task.to_string(),
                path: change.path.clone(),
                version: work.version,
                ..GetWorkPatchRequest::default()
            };
            patch.extend(get_work_patch::get_work_patch(&f.cx, &f.member, request).await.unwrap().patch);
        }
        let clone = f.path().join("clone");
        git(f.path(), &["clone", "-q", f.origin.to_str().unwrap(), "clone"]);
        std::fs::write(clone.join("work.patch"), patch).unwrap();
        git(&clone, &["apply", "work.patch"]);
        assert_eq!(std::fs::read_to_string(clone.join("README.md")).unwrap(), "hello\nworld\n");
        assert_eq!(std::fs::read_to_string(clone.join("new.txt")).unwrap(), "no newline");
        // The bundle outlives the commit that makes it unnecessary; the task's next import removes it.
        let again = f.work(&repository, &task, &[("b.txt", "b")]);
        import_work(&f.cx, &service, stream(again)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        assert_eq!(std::fs::read_dir(&f.cx.incoming).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn work_that_is_undone_while_an_older_import_runs_stays_undone() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let service = Caller::service("provisioner");
        let parts = f.work(&repository, &task, &[("a.txt", "a\n")]);
        import_work(&f.cx, &service, stream(parts)).await.unwrap();
        let base = git(&f.origin, &["rev-parse", "HEAD"]);
        let nothing = f.handed_over(&repository, &task, &base, &base, Vec::new());
        import_work(&f.cx, &service, stream(nothing)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let listed = changes(&f, &task).await;
        let work = listed.work.unwrap();
        assert_eq!((work.state(), work.version, listed.changes.len()), (WorkState::Ready, 2, 0));
    }

    #[tokio::test]
    async fn notices_arrive_with_the_work_bounded_and_also_when_nothing_changed() {
        use foundry_proto::common::v1::WorkNoticeKind;

        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let service = Caller::service("provisioner");
        let notice = |path: String| WorkNotice {
            kind: WorkNoticeKind::Stash.into(),
            count: 1,
            path,
            ..WorkNotice::default()
        };
        let base = git(&f.origin, &["rev-parse", "HEAD"]);
        let mut parts = f.handed_over(&repository, &task, &base, &base, Vec::new());
        let Some(Part::Header(header)) = &mut parts[0].part else { panic!("no header") };
        header.notices = vec![notice(String::new()), notice("x".repeat(10_000))];
        header.notices.extend((0..100).map(|_| notice(String::new())));
        header.hand_over_time = Some(Timestamp::from_micros(7_000_000).to_proto());
        import_work(&f.cx, &service, stream(parts)).await.unwrap();
        let work = changes(&f, &task).await.work.unwrap();
        assert_eq!(work.notices.len(), foundry_git::MAX_NOTICES - 1, "the one that is too long is dropped");
        assert_eq!(work.hand_over_time.unwrap().seconds, 7);
        // The next hand-over has none.
        let parts = f.work(&repository, &task, &[("a.txt", "a\n")]);
        import_work(&f.cx, &service, stream(parts)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        assert!(changes(&f, &task).await.work.unwrap().notices.is_empty());
    }

    #[tokio::test]
    async fn a_failure_of_this_machine_is_not_taken_for_a_hostile_bundle() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let service = Caller::service("provisioner");
        let parts = f.work(&repository, &task, &[("a.txt", "a\n")]);
        import_work(&f.cx, &service, stream(parts)).await.unwrap();
        let bundle = import::bundle_path(&f.cx.incoming, &task, 1);
        let away = f.path().join("away");
        std::fs::rename(&bundle, &away).unwrap();
        for _ in 0..20 {
            f.engine.run_until_idle().await.unwrap();
            f.env.clock.advance(std::time::Duration::from_secs(60));
        }
        let work = works::find(&f.cx.store, &task).await.unwrap().unwrap();
        assert_eq!((work.received, work.state), (1, State::Importing), "the bundle was given up");
        std::fs::rename(&away, &bundle).unwrap();
        f.env.clock.advance(std::time::Duration::from_secs(60));
        f.engine.run_until_idle().await.unwrap();
        assert_eq!(changes(&f, &task).await.work.unwrap().state(), WorkState::Ready);
    }

    #[tokio::test]
    async fn a_hostile_bundle_leaves_the_older_work_readable() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let service = Caller::service("provisioner");
        let good = f.work(&repository, &task, &[("a.txt", "a\n")]);
        import_work(&f.cx, &service, stream(good)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let base = git(&f.origin, &["rev-parse", "HEAD"]);
        let bad =
            f.handed_over(&repository, &task, &base, &"1".repeat(40), b"# v2 git bundle\nrubbish".to_vec());
        import_work(&f.cx, &service, stream(bad)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let listed = changes(&f, &task).await;
        let work = listed.work.unwrap();
        assert_eq!((work.state(), listed.changes.len(), work.version), (WorkState::Error, 1, 1));
        assert_eq!(work.condition.unwrap().reason, "BUNDLE_REFUSED");
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_or_lies_about_its_size_leaves_nothing() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let service = Caller::service("provisioner");
        let parts = f.work(&repository, &task, &[("a.txt", "a\n")]);
        let broken = futures::stream::iter([Ok(parts[0].clone()), Err(tonic::Status::cancelled("gone"))]);
        assert_eq!(import_work(&f.cx, &service, broken).await.unwrap_err().reason(), "STREAM_BROKEN");
        let short = stream(parts[..1].to_vec());
        assert_eq!(import_work(&f.cx, &service, short).await.unwrap_err().reason(), "INVALID_FIELD");
        assert_eq!(std::fs::read_dir(&f.cx.incoming).unwrap().count(), 0);
        assert!(works::find(&f.cx.store, &task).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn work_that_changes_nothing_is_ready_at_once() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let base = git(&f.origin, &["rev-parse", "HEAD"]);
        let parts = f.handed_over(&repository, &task, &base, &base, Vec::new());
        let answer = import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
        let work = answer.work.unwrap();
        assert_eq!((work.state(), work.files_changed, work.version), (WorkState::Ready, 0, 1));
    }
}
