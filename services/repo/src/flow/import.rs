//! Imports a received bundle into the mirror and stores the changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Env, Error, FlowId, Result, TaskId};
use foundry_flow::{
    Flow, FlowStatus, NewFlow, Outcome, Projection, Retry, Stage, StageContext, Transition, stage,
};
use foundry_git::{
    BranchName, CommitId, GitError, GitErrorKind, ImportLimits, LfsLeftOut, Merged, Mirror, MirrorLimits,
    PublishedWork, WorkName,
};
use foundry_proto::common::v1::{Condition, MergedFrom, Publication, WorkNotice, WorkNoticeKind};
use foundry_proto::repo::v1;
use foundry_store::{CommitError, Scope, WriteSet};

use crate::context::Context;
use crate::domain::work::{State, Work, bounded};
use crate::store::changes::{self, Against};
use crate::store::{publications, repositories, work_versions, works};
use crate::view::changes::with_patch;

/// Key and subject are the task's id.
pub static IMPORT: Flow<Context> = Flow::new(
    "work_import",
    &[Stage::new(
        IMPORTING,
        Duration::from_secs(10 * 60),
        Retry {
            initial: Duration::from_millis(500),
            factor: 2,
            max_delay: Duration::from_secs(30),
            // Nothing else would retry it: the provisioner has handed the work over.
            budget: u32::MAX,
        },
        |cx, flow| stage(import(cx, flow)),
    )],
)
.concurrency(4);

const IMPORTING: &str = "importing";
/// Files whose changes are stored in one commit.
const FILES_PER_COMMIT: usize = 200;
/// Failures, at most 30 s apart, after which an ambiguous error counts as the bundle's fault.
const MAX_DOUBTS: u32 = 20;
/// Bytes of patches that are stored in one commit.
const BYTES_PER_COMMIT: usize = 4 << 20;

/// The key that is signalled when an import has ended.
pub fn imported_key(task: &TaskId) -> String {
    format!("work/{task}")
}

/// File in which the bundle of a version waits for its import.
pub fn bundle_path(incoming: &Path, task: &TaskId, version: i64) -> PathBuf {
    incoming.join(format!("{task}-{version}.bundle"))
}

/// Enqueues imports for waiting bundles that have none: an older version of this program gave up on theirs.
///
/// # Errors
/// When the database fails.
pub async fn enqueue_waiting(cx: &Context) -> Result<()> {
    for work in works::waiting(&cx.store).await? {
        let task = work.task_id.as_str();
        if foundry_flow::unfinished(&cx.store, &IMPORT, task).await?.is_empty() {
            let mut ws = WriteSet::new();
            let flow = NewFlow::new(&IMPORT, FlowId::generate(&cx.env), task, task);
            foundry_flow::enqueue(&mut ws, flow.organization(&work.organization_id));
            match cx.store.commit(ws).await {
                // Another process was faster.
                Ok(_) | Err(CommitError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

/// Imports the newest bundle, stores its changes and patches, and makes them readable.
async fn import(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let Ok(task) = &flow.subject_id().parse::<TaskId>() else {
        return Ok(Outcome::fail("INTERNAL", "the subject of an import is not a task"));
    };
    let Some(work) = works::find(&cx.store, task).await? else { return Ok(Outcome::done()) };
    if work.received == work.version {
        return Ok(Outcome::done().recording(nothing_left(cx, work)));
    }
    let version = work.received;
    let bundle = bundle_path(&cx.incoming, task, version);
    forget_older_bundles(cx, task, version).await;
    let publications = publications::of_work(&cx.store, &work).await?;
    let imported = match examine(cx, &work, &publications, &bundle).await {
        Ok(imported) => imported,
        // Only errors of the bundle itself refuse it; after a full disk or a killed git, the import is retried.
        Err(e) if is_the_bundle_s_fault(&e, flow.flow().failures) => {
            tracing::warn!(%task, reason = e.reason(), stderr = e.stderr(), "bundle rejected");
            return refuse(cx, task, version, &e).await;
        }
        Err(e) => {
            tracing::warn!(%task, reason = e.reason(), stderr = e.stderr(), "import failed");
            return Ok(Outcome::retry(e.reason(), e.message()));
        }
    };
    flow.progress(format!("storing {} files", imported.files.len())).await;
    // An attempt that was cut off may have stored other ones: the branches, and so what was merged, may have changed.
    let mut ws = WriteSet::new();
    changes::forget(&mut ws, task, version);
    cx.store.commit(ws).await?;
    store_changes(cx, Against::Merged, (task, version), &imported.files).await?;
    store_changes(cx, Against::Base, (task, version), &imported.whole).await?;
    show(cx, task, version, imported).await
}

/// An ambiguous error counts as the bundle's fault after many attempts, since each attempt keeps git and mirror busy.
fn is_the_bundle_s_fault(e: &GitError, failures: u32) -> bool {
    match e.kind() {
        GitErrorKind::Corrupt | GitErrorKind::Invalid | GitErrorKind::TooLarge => true,
        GitErrorKind::Host | GitErrorKind::Busy => false,
        _ => failures >= MAX_DOUBTS,
    }
}

struct Imported {
    head: String,
    files: Vec<(v1::FileChange, Bytes)>,
    /// What was merged from other branches, and then all files that differ from the base.
    merged: Vec<MergedFrom>,
    whole: Vec<(v1::FileChange, Bytes)>,
    /// Commits since the last publication.
    since: i32,
    /// Files of Git LFS that were handed over and could not be kept.
    left_out: Option<WorkNotice>,
    /// Whether a collection may make room for them.
    wants_collection: bool,
}

async fn examine(
    cx: &Context,
    work: &Work,
    publications: &[Publication],
    bundle: &Path,
) -> std::result::Result<Imported, GitError> {
    let mirror = Mirror::open(&cx.git, cx.mirror_path(&work.repository_id), MirrorLimits::default()).await?;
    let base = CommitId::parse(&work.base_commit)?;
    let name = WorkName::from(&work.task_id);
    let limits = ImportLimits { bundle_bytes: cx.max_bundle_bytes, ..ImportLimits::default() };
    let imported = mirror.import_bundle(&name, bundle, &base, &limits).await?;
    // What an earlier import found stays merged, whatever became of its branch.
    let known: Vec<_> = work.merged_from.iter().filter_map(known).collect();
    let published: Vec<_> = publications.iter().filter_map(published).collect();
    let own = work.existing_branch.then(|| BranchName::parse(&work.branch).ok()).flatten();
    let separated = mirror.merged_base(&base, &imported.head, &known, &published, own.as_ref());
    let merged = match separated.await {
        Ok(merged) => merged,
        Err(e) if e.retryable() => return Err(e),
        Err(e) => {
            // Everything counts as the work's own then.
            tracing::warn!(task = %work.task_id, reason = e.reason(), stderr = e.stderr(), "merges not separated");
            None
        }
    };
    let against = async |commit: &CommitId| -> std::result::Result<_, GitError> {
        let files = mirror.file_patches(commit, &imported.head).await?;
        Ok(files.into_iter().map(|(change, patch)| with_patch(&change, patch)).collect())
    };
    let (files, whole) = match &merged {
        Some(merged) => (against(&merged.commit).await?, against(&base).await?),
        None => (against(&base).await?, Vec::new()),
    };
    let shown = |m: Merged| MergedFrom {
        branch: m.branch.to_string(),
        commit: m.commit.to_string(),
        files_changed: i32::try_from(m.files).unwrap_or(i32::MAX),
    };
    let merged = merged.map(|m| m.merged.into_iter().map(shown).collect()).unwrap_or_default();
    let since = super::publish::commits_since(&mirror, work.publication.as_ref(), &imported.head).await?;
    let left_out = imported.lfs_left_out.map(left_out);
    let wants_collection = left_out.is_some() && mirror.wants_collection().await?;
    let head = imported.head.to_string();
    Ok(Imported { head, files, merged, whole, since, left_out, wants_collection })
}

fn left_out(files: LfsLeftOut) -> WorkNotice {
    WorkNotice {
        kind: WorkNoticeKind::LfsObjects.into(),
        path: files.path.chars().map(|c| if c.is_control() { '?' } else { c }).take(100).collect(),
        count: i64::try_from(files.count).unwrap_or(i64::MAX),
        detail: "not kept".to_owned(),
        ..WorkNotice::default()
    }
}

fn known(merged: &MergedFrom) -> Option<(BranchName, CommitId)> {
    Some((BranchName::parse(&merged.branch).ok()?, CommitId::parse(&merged.commit).ok()?))
}

fn published(publication: &Publication) -> Option<PublishedWork> {
    let branch = BranchName::parse(&publication.branch).ok()?;
    Some(PublishedWork { branch, commit: CommitId::parse(&publication.commit).ok()? })
}

/// Stores the changes in bounded commits. They become visible when the work's row names their version.
async fn store_changes(
    cx: &Context,
    against: Against,
    of: (&TaskId, i64),
    files: &[(v1::FileChange, Bytes)],
) -> Result<()> {
    let mut ws = WriteSet::new();
    let (mut rows, mut bytes) = (0, 0);
    for (position, (change, patch)) in files.iter().enumerate() {
        let position = i64::try_from(position).map_err(Error::internal)?;
        changes::put(&mut ws, against, of, position, (change, patch.clone()));
        rows += 1;
        bytes += patch.len();
        if rows == FILES_PER_COMMIT || bytes >= BYTES_PER_COMMIT {
            cx.store.commit(std::mem::take(&mut ws)).await?;
            (rows, bytes) = (0, 0);
        }
    }
    if rows > 0 {
        cx.store.commit(ws).await?;
    }
    Ok(())
}

/// Makes the version the readable one, and continues with a newer bundle if one has arrived.
async fn show(cx: &Context, task: &TaskId, version: i64, imported: Imported) -> Result<Outcome> {
    let Some(mut work) = works::find(&cx.store, task).await? else { return Ok(Outcome::done()) };
    let mut ws = WriteSet::new();
    if work.version > version {
        // A later hand-over without changes, which needs no import, has made this one obsolete.
        changes::forget(&mut ws, task, version);
        if work.received > work.version {
            return Ok(Outcome::goto(IMPORTING).recording(ws));
        }
        ws.merge(nothing_left(cx, work));
        return Ok(Outcome::done().recording(ws));
    }
    let rev = ws.scope(Scope::organization(&work.organization_id));
    let now = cx.env.clock.now();
    // Versions that were superseded before they became readable are removed too.
    (work.version..version).for_each(|older| changes::forget(&mut ws, task, older));
    work_versions::add(&mut ws, (task, work.version, version), &imported.head, now);
    let newer = work.received != version;
    work.state = if newer { State::Importing } else { State::Ready };
    work.condition = Condition { since_time: Some(now.to_proto()), ..Condition::default() };
    work.head_commit = imported.head;
    work.version = version;
    work.files_changed = i64::try_from(imported.files.len()).unwrap_or(i64::MAX);
    work.additions = imported.files.iter().map(|(c, _)| c.additions).sum();
    work.deletions = imported.files.iter().map(|(c, _)| c.deletions).sum();
    work.import_time = Some(now);
    work.merged_from = imported.merged;
    // The notices are those of the newest hand-over, which sends all of them again.
    if let Some(notice) = imported.left_out.filter(|_| !newer) {
        let same = work.notices.iter_mut().find(|n| n.kind() == WorkNoticeKind::LfsObjects);
        match same {
            Some(same) => same.count = same.count.saturating_add(notice.count),
            None => work.notices.insert(0, notice),
        }
        work.notices = bounded(work.notices);
    }
    if imported.wants_collection
        && let Some(repository) = repositories::find(&cx.store, &work.repository_id).await?
    {
        super::collect::schedule(cx, &mut ws, &repository).await?;
    }
    if let Some(publication) = &mut work.publication {
        publication.commits_since = imported.since;
    }
    works::save(&mut ws, rev, &work);
    foundry_flow::signal(&mut ws, &cx.env, &imported_key(task));
    super::overview::want(cx, &mut ws, &work.repository_id);
    let outcome = if newer { Outcome::goto(IMPORTING) } else { Outcome::done() };
    Ok(outcome.recording(ws))
}

/// All received bundles are imported. Changes the revision, so that a concurrent hand-over, which still counts on this
/// flow, conflicts and enqueues a flow of its own.
fn nothing_left(cx: &Context, mut work: Work) -> WriteSet {
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&work.organization_id));
    if work.state == State::Importing {
        // A failed attempt may have left this state behind.
        work.state = State::Ready;
        work.condition =
            Condition { since_time: Some(cx.env.clock.now().to_proto()), ..Condition::default() };
    }
    works::save(&mut ws, rev, &work);
    foundry_flow::signal(&mut ws, &cx.env, &imported_key(&work.task_id));
    ws
}

async fn refuse(cx: &Context, task: &TaskId, version: i64, e: &GitError) -> Result<Outcome> {
    let Some(mut work) = works::find(&cx.store, task).await? else { return Ok(Outcome::done()) };
    if work.received != version {
        return Ok(Outcome::goto(IMPORTING));
    }
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&work.organization_id));
    work.state = State::Error;
    work.received = work.version;
    work.condition = Condition {
        reason: e.reason().to_owned(),
        message: e.message().to_owned(),
        since_time: Some(cx.env.clock.now().to_proto()),
        next_action: "the previous work stays readable; the agent's next change, or the end of the task, delivers a new bundle".to_owned(),
        ..Condition::default()
    };
    works::save(&mut ws, rev, &work);
    foundry_flow::signal(&mut ws, &cx.env, &imported_key(task));
    Ok(Outcome::done().recording(ws))
}

/// Removes bundles of older versions. They must outlive the commit that makes them unnecessary, so they are removed at
/// the task's next import or at the next start.
async fn forget_older_bundles(cx: &Context, task: &TaskId, version: i64) {
    let ours = format!("{task}-");
    let Ok(mut entries) = tokio::fs::read_dir(&cx.incoming).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|n| n.strip_prefix(&ours)?.strip_suffix(".bundle")?.parse::<i64>().ok());
        if number.is_some_and(|n| n < version)
            && let Err(e) = tokio::fs::remove_file(entry.path()).await
        {
            tracing::warn!(error = %e, "a bundle could not be removed");
        }
    }
}

/// Projects the failures of an import to the work's row, and wakes those who wait for its end.
pub struct Shown(pub Env);

impl Projection for Shown {
    fn project(&self, flow: &FlowStatus) -> WriteSet {
        let mut ws = WriteSet::new();
        let state = match flow.transition {
            Some(Transition::Failed) => State::Error,
            Some(Transition::Retrying) => State::Importing,
            _ => return ws,
        };
        let Some(organization) = &flow.organization_id else { return ws };
        let rev = ws.scope(Scope::organization(organization));
        let condition = repositories::condition(&foundry_flow::condition(&IMPORT, flow));
        ws.update_where(
            &works::WORKS,
            &[("task_id", flow.subject_id.as_str().into())],
            &[("rev", rev.into()), ("condition", condition), ("state", state.as_str().into())],
        );
        if state == State::Error
            && let Ok(task) = flow.subject_id.parse()
        {
            foundry_flow::signal(&mut ws, &self.0, &imported_key(&task));
        }
        ws
    }
}

#[cfg(test)]
mod tests {
    use foundry_authn::Caller;
    use foundry_proto::repo::v1::WorkState;

    use super::*;
    use crate::ops::import_work::import_work;
    use crate::testing::{Fixture, git, stream};

    #[tokio::test]
    async fn an_import_that_was_overtaken_goes_on_with_the_bundle_that_came_after() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let service = Caller::service("provisioner");
        let first = f.work(&repository, &task, &[("a.txt", "a\n")]);
        import_work(&f.cx, &service, stream(first)).await.unwrap();
        let work = works::find(&f.cx.store, &task).await.unwrap().unwrap();
        let imported = examine(&f.cx, &work, &[], &bundle_path(&f.cx.incoming, &task, 1)).await.unwrap();
        // During the import, the agent reverts its change and then makes another one.
        let base = git(&f.origin, &["rev-parse", "HEAD"]);
        let nothing = f.handed_over(&repository, &task, &base, &base, Vec::new());
        import_work(&f.cx, &service, stream(nothing)).await.unwrap();
        let second = f.work(&repository, &task, &[("b.txt", "b\n")]);
        import_work(&f.cx, &service, stream(second)).await.unwrap();
        let outcome = show(&f.cx, &task, 1, imported).await.unwrap();
        assert!(format!("{outcome:?}").contains(IMPORTING), "{outcome:?}");
        f.engine.run_until_idle().await.unwrap();
        let work = works::find(&f.cx.store, &task).await.unwrap().unwrap().to_proto();
        assert_eq!((work.state(), work.version, work.files_changed), (WorkState::Ready, 3, 1));
    }

    #[tokio::test]
    async fn what_was_merged_is_listed_apart_from_the_works_own_files() {
        use foundry_proto::repo::v1::{GetWorkPatchRequest, ListWorkChangesRequest};

        use crate::ops::{get_work_patch::get_work_patch, list_work_changes::list_work_changes};

        let f = Fixture::new().await;
        git(&f.origin, &["checkout", "-q", "-b", "develop"]);
        std::fs::write(f.origin.join("theirs.txt"), "theirs\n").unwrap();
        git(&f.origin, &["add", "-A"]);
        git(&f.origin, &["commit", "-q", "-m", "theirs"]);
        git(&f.origin, &["checkout", "-q", "-"]);
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let service = Caller::service("provisioner");
        let parts = f.work_merging(&repository, &task, Some("develop"), &[("mine.txt", "mine\n")]);
        import_work(&f.cx, &service, stream(parts)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let list = async |whole: bool| {
            let request = ListWorkChangesRequest {
                task_id: task.to_string(),
                whole,
                ..ListWorkChangesRequest::default()
            };
            let listed = list_work_changes(&f.cx, &f.member, request).await.unwrap();
            let paths: Vec<_> = listed.changes.iter().map(|c| c.path.clone()).collect();
            (listed.work.unwrap(), paths)
        };
        let (work, own) = list(false).await;
        assert_eq!((work.files_changed, own), (1, vec!["mine.txt".to_owned()]));
        assert_eq!((work.merged_from[0].branch.as_str(), work.merged_from[0].files_changed), ("develop", 1));
        assert_eq!(list(true).await.1, ["mine.txt", "theirs.txt"]);
        let patch = |whole| GetWorkPatchRequest {
            task_id: task.to_string(),
            path: "theirs.txt".to_owned(),
            whole,
            ..GetWorkPatchRequest::default()
        };
        assert!(!get_work_patch(&f.cx, &f.member, patch(true)).await.unwrap().patch.is_empty());
        get_work_patch(&f.cx, &f.member, patch(false)).await.unwrap_err();
        // The branch is deleted at the remote, and the agent goes on.
        let mirror = f.cx.mirror_path(&repository.repository_id.parse().unwrap());
        git(&mirror, &["update-ref", "-d", "refs/heads/develop"]);
        let parts =
            f.work_merging(&repository, &task, Some("develop"), &[("mine.txt", "mine\n"), ("b.txt", "b\n")]);
        import_work(&f.cx, &service, stream(parts)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let (work, own) = list(false).await;
        assert_eq!((work.version, own), (2, vec!["b.txt".to_owned(), "mine.txt".to_owned()]));
        // A work without merges is the same in both.
        let parts = f.work(&repository, &task, &[("mine.txt", "mine\n")]);
        import_work(&f.cx, &service, stream(parts)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let (work, own) = list(true).await;
        assert!(work.merged_from.is_empty() && own == ["mine.txt"], "{own:?}");
    }

    #[tokio::test]
    async fn what_changed_since_a_version_says_when_what_was_merged_with_conflicts_is_listed_too() {
        use foundry_proto::repo::v1::ListWorkChangesRequest;

        use crate::ops::list_work_changes::list_work_changes;

        let f = Fixture::new().await;
        git(&f.origin, &["checkout", "-q", "-b", "develop"]);
        std::fs::write(f.origin.join("theirs.txt"), "theirs\n").unwrap();
        git(&f.origin, &["add", "-A"]);
        git(&f.origin, &["commit", "-q", "-m", "theirs"]);
        git(&f.origin, &["checkout", "-q", "-"]);
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let list = async |earlier: &[(&str, &str)]| {
            let service = Caller::service("provisioner");
            import_work(&f.cx, &service, stream(f.work(&repository, &task, earlier))).await.unwrap();
            f.engine.run_until_idle().await.unwrap();
            let since_version = works::find(&f.cx.store, &task).await.unwrap().unwrap().version;
            let parts = f.work_merging(&repository, &task, Some("develop"), &[("mine.txt", "mine\n")]);
            import_work(&f.cx, &service, stream(parts)).await.unwrap();
            f.engine.run_until_idle().await.unwrap();
            let request =
                ListWorkChangesRequest { task_id: task.to_string(), since_version, ..Default::default() };
            let listed = list_work_changes(&f.cx, &f.member, request).await.unwrap();
            (listed.with_merged, listed.changes.iter().any(|c| c.path == "theirs.txt"))
        };
        assert_eq!(list(&[("mine.txt", "m\n")]).await, (false, false));
        assert_eq!(list(&[("theirs.txt", "other\n")]).await, (true, true));
    }

    #[tokio::test]
    async fn nothing_is_left_of_an_attempt_that_was_cut_off_after_it_had_stored_other_files() {
        use foundry_proto::repo::v1::ListWorkChangesRequest;

        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let service = Caller::service("provisioner");
        import_work(&f.cx, &service, stream(f.work(&repository, &task, &[("a.txt", "a\n")]))).await.unwrap();
        let other = v1::FileChange { path: "theirs.txt".to_owned(), ..v1::FileChange::default() };
        let stored = [(other, Bytes::new())];
        store_changes(&f.cx, Against::Merged, (&task, 1), &stored).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let request = ListWorkChangesRequest { task_id: task.to_string(), ..Default::default() };
        let list = crate::ops::list_work_changes::list_work_changes;
        let listed = list(&f.cx, &f.member, request).await.unwrap();
        let paths: Vec<_> = listed.changes.iter().map(|c| c.path.as_str()).collect();
        assert_eq!(paths, ["a.txt"]);
    }

    #[tokio::test]
    async fn an_import_does_not_end_while_a_bundle_comes_that_counts_on_it() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let service = Caller::service("provisioner");
        import_work(&f.cx, &service, stream(f.work(&repository, &task, &[("a.txt", "a\n")]))).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let seen = works::find(&f.cx.store, &task).await.unwrap().unwrap();
        // Both saw the same row; the second writer must fail.
        f.cx.store.commit(nothing_left(&f.cx, seen.clone())).await.unwrap();
        f.cx.store.commit(nothing_left(&f.cx, seen)).await.unwrap_err();
    }

    #[tokio::test]
    async fn what_failed_before_there_was_nothing_left_to_import_is_not_shown_any_more() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let service = Caller::service("provisioner");
        import_work(&f.cx, &service, stream(f.work(&repository, &task, &[("a.txt", "a\n")]))).await.unwrap();
        let bundle = bundle_path(&f.cx.incoming, &task, 1);
        std::fs::remove_file(&bundle).unwrap();
        f.engine.run_until_idle().await.unwrap();
        let base = git(&f.origin, &["rev-parse", "HEAD"]);
        let nothing = f.handed_over(&repository, &task, &base, &base, Vec::new());
        import_work(&f.cx, &service, stream(nothing)).await.unwrap();
        // The attempt that was running then fails afterwards and writes that to the row.
        let mut work = works::find(&f.cx.store, &task).await.unwrap().unwrap();
        work.state = State::Importing;
        let mut ws = WriteSet::new();
        let rev = ws.scope(Scope::organization(&work.organization_id));
        works::save(&mut ws, rev, &work);
        f.cx.store.commit(ws).await.unwrap();
        f.env.clock.advance(Duration::from_secs(60));
        f.engine.run_until_idle().await.unwrap();
        let work = works::find(&f.cx.store, &task).await.unwrap().unwrap();
        assert_eq!((work.state, work.version), (State::Ready, 2));
    }

    #[test]
    fn a_bundle_is_refused_in_the_end_for_what_may_be_its_fault_and_never_for_what_the_host_did() {
        let kinds = |failures: u32| {
            [GitErrorKind::Corrupt, GitErrorKind::Timeout, GitErrorKind::NotFound, GitErrorKind::Host]
                .map(|kind| is_the_bundle_s_fault(&GitError::new(kind, "GIT_FAILED", "x"), failures))
        };
        assert_eq!(kinds(0), [true, false, false, false]);
        assert_eq!(kinds(MAX_DOUBTS), [true, true, true, false]);
    }

    #[tokio::test]
    async fn a_bundle_whose_import_was_given_up_is_imported_after_the_next_start() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let service = Caller::service("provisioner");
        import_work(&f.cx, &service, stream(f.work(&repository, &task, &[("a.txt", "a\n")]))).await.unwrap();
        for flow in foundry_flow::unfinished(&f.cx.store, &IMPORT, task.as_str()).await.unwrap() {
            let mut ws = WriteSet::new();
            foundry_flow::request_cancel(&mut ws, &flow);
            f.cx.store.commit(ws).await.unwrap();
        }
        f.engine.run_until_idle().await.unwrap();
        assert_eq!(works::find(&f.cx.store, &task).await.unwrap().unwrap().version, 0);
        enqueue_waiting(&f.cx).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        assert_eq!(works::find(&f.cx.store, &task).await.unwrap().unwrap().version, 1);
        enqueue_waiting(&f.cx).await.unwrap();
        assert!(foundry_flow::unfinished(&f.cx.store, &IMPORT, task.as_str()).await.unwrap().is_empty());
    }
}
