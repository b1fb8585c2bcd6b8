//! Fetches the files of Git LFS and the submodules of bases that sandboxes wait for.

use std::collections::BTreeSet;
use std::time::Duration;

use foundry_core::{FlowId, RepositoryId, Result, Timestamp, counted};
use foundry_flow::{Flow, NewFlow, Outcome, Retry, Stage, StageContext, enqueue, stage};
use foundry_git::{CommitId, GitError, Mirror, MirrorLimits, RemoteUrl};
use foundry_store::WriteSet;

use crate::broker;
use crate::context::Context;
use crate::domain::base;
use crate::domain::repository::{Repository, State};
use crate::store::{base_requests, branches, repositories};

/// The subject is the repository's id.
pub static BASE_FILES: Flow<Context> = Flow::new(
    "base_files",
    &[Stage::new(
        "fetching",
        Duration::from_secs(10 * 60),
        Retry { initial: Duration::from_secs(1), factor: 2, max_delay: Duration::from_secs(10), budget: 2 },
        |cx, flow| stage(fetch(cx, flow)),
    )],
)
// Most of them wait for a remote, and a slow one must not hold the tasks of others.
.concurrency(16)
.kept_for(super::KEPT);

/// After this time nothing else is begun. With the last fetch, it is well below the limit of the stage, which would record
/// nothing.
const WAIT: Duration = Duration::from_secs(6 * 60);
/// Most bases of one fetch.
const MAX_BASES: usize = 50;
/// Most submodules of a base that are fetched.
const MAX_SUBMODULES: usize = 20;
/// Most characters of a cause.
const MAX_CAUSE: usize = 300;

/// A branch that sandboxes wait for, and what the mirror lacks of its tip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// As it was asked for; empty = the default one.
    pub branch: String,
    /// Whether files of Git LFS are not here.
    pub lfs: bool,
    /// Whether submodules are not here.
    pub submodules: bool,
}

/// Adds a fetch, after a synchronization that has found commits whose files are not here, unless one is on its way. Until
/// that has ended, this is what a sandbox learns that waits no longer.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn schedule(
    cx: &Context,
    ws: &mut WriteSet,
    repository: &Repository,
    wanted: &[Wanted],
) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let id = &repository.repository_id;
    for Wanted { branch, lfs, submodules } in wanted {
        let said = |is_lacking: bool| if is_lacking { "they are still being fetched" } else { "" };
        base_requests::note(ws, id, branch, (said(*lfs), said(*submodules)));
    }
    if foundry_flow::unfinished(&cx.store, &BASE_FILES, id.as_str()).await?.is_empty() {
        let flow = NewFlow::new(&BASE_FILES, FlowId::generate(&cx.env), id.as_str(), id.as_str());
        enqueue(ws, flow.organization(&repository.organization_id));
    }
    Ok(())
}

/// For which bases sandboxes wait whose files of Git LFS or submodules are not in the mirror.
///
/// # Errors
/// When git fails on the mirror itself; a base that cannot be examined counts as one that lacks files.
pub async fn are_wanted(
    cx: &Context,
    repository: &Repository,
    mirror: &Mirror,
) -> Result<Vec<Wanted>, GitError> {
    let since = since(cx);
    let asked = base_requests::branches(&cx.store, &repository.repository_id, since).await;
    let mut wanted = Vec::new();
    for branch in asked.unwrap_or_default() {
        let name = match branch.as_str() {
            "" => mirror.default_branch().await?,
            name => foundry_git::BranchName::parse(name).ok(),
        };
        let Some(name) = name else { continue };
        let Ok(commit) = mirror.resolve(&foundry_git::Revision::Branch(name)).await else { continue };
        // The fetch says what is wrong with it.
        let lacks = |found: Result<bool, GitError>| {
            found.unwrap_or_else(|e| {
                tracing::warn!(repository = %repository.repository_id, reason = e.reason(), stderr = e.stderr(), "a base was not examined");
                true
            })
        };
        let lfs = lacks(mirror.lacks_lfs_of(&commit).await);
        let submodules = lacks(mirror.lacks_submodules_of(&commit).await);
        if lfs || submodules {
            wanted.push(Wanted { branch, lfs, submodules });
        }
    }
    Ok(wanted)
}

fn since(cx: &Context) -> Timestamp {
    let now = cx.env.clock.now().as_micros();
    let window = i64::try_from(base::SAME_START.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.saturating_sub(window))
}

async fn fetch(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let id: RepositoryId = flow.subject_id().parse()?;
    let found = repositories::find(&cx.store, &id).await?.filter(|r| r.state != State::Deleting);
    let Some(repository) = found else { return Ok(Outcome::done()) };
    flow.progress("fetching files of Git LFS and submodules").await;
    let mirror = Mirror::open(&cx.git, cx.mirror_path(&id), MirrorLimits::default()).await?;
    let until = cx.env.clock.now().plus(WAIT);
    let mut done = BTreeSet::new();
    // Sandboxes may ask for more while this runs.
    while let Some((branch, commit)) = next(cx, &repository, &done).await? {
        let both = async {
            let lfs = fetched(cx, &repository, &mirror, &commit, until).await;
            (lfs, submodules(cx, &repository, &mirror, &commit, until).await)
        };
        let (lfs, submodules) = tokio::select! {
            both = Box::pin(both) => both,
            () = flow.cancellation().cancelled() => return Ok(Outcome::retry("STOPPED", "the fetch was stopped")),
        };
        let bounded = |text: String| text.chars().take(MAX_CAUSE).collect::<String>();
        let mut ws = WriteSet::new();
        base_requests::note(&mut ws, &id, &branch, (&bounded(lfs), &bounded(submodules)));
        cx.store.commit(ws).await?;
        done.insert((branch, commit));
    }
    Ok(Outcome::done())
}

/// The first branch that is asked for, as it is now, and that is not done.
async fn next(
    cx: &Context,
    repository: &Repository,
    done: &BTreeSet<(String, CommitId)>,
) -> Result<Option<(String, CommitId)>> {
    let id = &repository.repository_id;
    for branch in base_requests::branches(&cx.store, id, since(cx)).await? {
        let name = if branch.is_empty() { repository.default_branch.as_str() } else { branch.as_str() };
        let Some(row) = branches::find(&cx.store, id, name).await? else { continue };
        let next = (branch, CommitId::parse(&row.commit_id)?);
        if done.len() < MAX_BASES && !done.contains(&next) {
            return Ok(Some(next));
        }
    }
    Ok(None)
}

/// Why files of a commit are not here; empty when all are. A task starts without them, and the next one tries again.
async fn fetched(
    cx: &Context,
    repository: &Repository,
    mirror: &Mirror,
    commit: &CommitId,
    until: Timestamp,
) -> String {
    let within = until.since(cx.env.clock.now()).min(base::FILES_WAIT);
    if within.is_zero() {
        let is_lacking = mirror.lacks_lfs_of(commit).await.unwrap_or(true);
        return if is_lacking { "there was no time left".to_owned() } else { String::new() };
    }
    let remote: Result<RemoteUrl> = broker::remote(cx, repository).await.map(|remote| remote.url);
    let remote = match remote {
        Ok(remote) => remote,
        Err(e) => return e.message().to_owned(),
    };
    match Box::pin(mirror.fetch_lfs(&remote, commit, within)).await {
        Ok(report) if report.missing == 0 => String::new(),
        Ok(report) => {
            let missing = i64::try_from(report.missing).unwrap_or(i64::MAX);
            format!("{} missing: {}", counted(missing, "file"), report.why)
        }
        Err(e) => {
            tracing::warn!(repository = %repository.repository_id, reason = e.reason(), stderr = e.stderr(), "files of Git LFS were not fetched");
            e.message().to_owned()
        }
    }
}

/// Fetches the submodules of a commit, and records which sandboxes get. Returns which they do not, and why.
async fn submodules(
    cx: &Context,
    repository: &Repository,
    mirror: &Mirror,
    commit: &CommitId,
    until: Timestamp,
) -> String {
    let found = match mirror.submodules(commit).await {
        Ok(found) => found,
        Err(e) => return e.message().to_owned(),
    };
    if found.is_empty() {
        return String::new();
    }
    let of = match RemoteUrl::parse(&repository.url, &cx.urls) {
        Ok(of) => of,
        Err(e) => return e.to_string(),
    };
    let until = cx.env.clock.now().plus(base::FILES_WAIT).min(until);
    let (mut there, mut left, mut complete) = (Vec::new(), Vec::new(), true);
    for (nth, submodule) in found.into_iter().enumerate() {
        let path = submodule.path.to_string();
        if nth >= MAX_SUBMODULES {
            left.push(format!("{path}: there are more than {MAX_SUBMODULES}"));
            continue;
        }
        let remote = match submodule.remote(&of) {
            Ok(remote) => remote,
            // It stays so, whatever is tried again.
            Err(e) => {
                left.push(format!("{path}: {e}"));
                continue;
            }
        };
        match Box::pin(fetch_submodule(cx, repository, mirror, remote.clone(), &submodule.commit, until))
            .await
        {
            Ok(()) => there.push((submodule, remote)),
            Err(why) => {
                complete = false;
                left.push(format!("{path}: {why}"));
            }
        }
    }
    if let Err(e) = mirror.record_submodules(commit, &there, complete).await {
        tracing::warn!(repository = %repository.repository_id, reason = e.reason(), stderr = e.stderr(), "submodules were not recorded");
    }
    left.join("; ")
}

async fn fetch_submodule(
    cx: &Context,
    repository: &Repository,
    mirror: &Mirror,
    remote: RemoteUrl,
    commit: &CommitId,
    until: Timestamp,
) -> std::result::Result<(), String> {
    if cx.env.clock.now() >= until {
        return Err("there was no time left".to_owned());
    }
    let remote = broker::at_host(cx, &repository.organization_id, remote).await;
    let remote = remote.map_err(|e| e.message().to_owned())?;
    mirror.fetch_submodule(&remote.url, commit).await.map_err(|e| {
        tracing::warn!(repository = %repository.repository_id, reason = e.reason(), stderr = e.stderr(), "a submodule was not fetched");
        e.message().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use foundry_authn::Caller;
    use foundry_core::{SandboxId, TaskId};
    use foundry_proto::repo::v1::{GetCloneSourceRequest, Repository};

    use super::*;
    use crate::ops::get_clone_source::get_clone_source;
    use crate::testing::{Fixture, git};

    /// Asks for a sandbox until there is an answer; the reasons of waiting, and those of the notices.
    async fn start(f: &Fixture, repository: &Repository) -> (Vec<String>, Vec<(String, String)>) {
        // What was synchronized before it asks is not new enough.
        f.env.clock.advance(Duration::from_secs(1));
        let request = GetCloneSourceRequest {
            organization_id: f.organization.to_string(),
            repository_id: repository.repository_id.clone(),
            task_id: TaskId::generate(&f.env.env).to_string(),
            sandbox_id: SandboxId::generate(&f.env.env).to_string(),
            ..GetCloneSourceRequest::default()
        };
        let mut waited = Vec::new();
        loop {
            match get_clone_source(&f.cx, &Caller::service("provisioner"), request.clone()).await {
                Ok(answer) => {
                    let notices = answer.base.unwrap().notices.into_iter();
                    return (waited, notices.map(|n| (n.reason, n.message)).collect());
                }
                Err(e) => waited.push(format!("{}: {}", e.reason(), e.message())),
            }
            f.engine.run_until_idle().await.unwrap();
        }
    }

    fn pointer(f: &Fixture, content: &str) {
        use sha2::{Digest as _, Sha256};
        let id = hex::encode(Sha256::digest(content));
        let text =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{id}\nsize {}\n", content.len());
        std::fs::write(f.origin.join("a.bin"), text).unwrap();
        std::fs::write(f.origin.join(".gitattributes"), "*.bin filter=lfs\n").unwrap();
        git(&f.origin, &["add", "-A"]);
        git(&f.origin, &["commit", "-q", "-m", "a file of LFS"]);
        let dir = f.origin.join(format!(".git/lfs/objects/{}/{}", &id[..2], &id[2..4]));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(&id), content).unwrap();
    }

    #[tokio::test]
    async fn a_task_starts_when_the_files_of_its_base_are_there_or_says_why_they_are_not() {
        let f = Fixture::new().await;
        let repository = f.mirrored().await;
        let (waited, notices) = start(&f, &repository).await;
        assert_eq!((waited.len(), notices.len()), (1, 0), "a base without such files waits for none");
        pointer(&f, "the content");
        let (_, notices) = start(&f, &repository).await;
        assert_eq!(notices, []);
        let mirror = f.cx.mirror_path(&repository.repository_id.parse().unwrap());
        let mirror = Mirror::open(&f.cx.git, mirror, MirrorLimits::default()).await.unwrap();
        let head = CommitId::parse(&git(&f.origin, &["rev-parse", "HEAD"])).unwrap();
        assert!(mirror.has_lfs_of(&head).await);
        pointer(&f, "another content");
        std::fs::remove_dir_all(f.origin.join(".git/lfs")).unwrap();
        let (_, notices) = start(&f, &repository).await;
        assert_eq!(notices[0].0, "LFS_OBJECTS_NOT_FETCHED");
        assert!(notices[0].1.contains("1 file missing"), "{notices:?}");
    }

    #[tokio::test]
    async fn a_sandbox_waits_while_files_are_fetched_and_not_for_ever() {
        let f = Fixture::new().await;
        let repository = f.mirrored().await;
        let id: RepositoryId = repository.repository_id.parse().unwrap();
        let request = GetCloneSourceRequest {
            organization_id: f.organization.to_string(),
            repository_id: repository.repository_id.clone(),
            task_id: TaskId::generate(&f.env.env).to_string(),
            sandbox_id: SandboxId::generate(&f.env.env).to_string(),
            ..GetCloneSourceRequest::default()
        };
        f.env.clock.advance(Duration::from_secs(1));
        let service = Caller::service("provisioner");
        let ask = || get_clone_source(&f.cx, &service, request.clone());
        ask().await.unwrap_err();
        f.engine.run_until_idle().await.unwrap();
        let row = repositories::find(&f.cx.store, &id).await.unwrap().unwrap();
        let mut ws = WriteSet::new();
        let lfs = Wanted { branch: String::new(), lfs: true, submodules: false };
        schedule(&f.cx, &mut ws, &row, std::slice::from_ref(&lfs)).await.unwrap();
        f.cx.store.commit(ws).await.unwrap();
        let waits = ask().await.unwrap_err();
        assert_eq!(waits.reason(), "BASE_BEING_FETCHED");
        assert!(waits.message().contains("Git LFS"), "{}", waits.message());
        // One is enough for all who wait.
        let mut ws = WriteSet::new();
        schedule(&f.cx, &mut ws, &row, &[lfs]).await.unwrap();
        f.cx.store.commit(ws).await.unwrap();
        assert_eq!(foundry_flow::unfinished(&f.cx.store, &BASE_FILES, id.as_str()).await.unwrap().len(), 1);
        f.env.clock.advance(base::FILES_WAIT);
        let notices = ask().await.unwrap().base.unwrap().notices;
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert_eq!(notices[0].reason, "LFS_OBJECTS_NOT_FETCHED");
        assert!(notices[0].message.contains("still being fetched"), "{notices:?}");
    }

    #[tokio::test]
    async fn a_submodule_beside_the_repository_is_fetched_and_one_that_is_not_allowed_is_named() {
        let f = Fixture::new().await;
        let lib = f.path().join("lib");
        git(f.path(), &["clone", "-q", f.origin.to_str().unwrap(), "lib"]);
        let commit = git(&lib, &["rev-parse", "HEAD"]);
        let settings = "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib\n\
            [submodule \"evil\"]\n\tpath = evil\n\turl = file:///etc\n";
        std::fs::write(f.origin.join(".gitmodules"), settings).unwrap();
        git(&f.origin, &["add", ".gitmodules"]);
        for path in ["lib", "evil"] {
            git(&f.origin, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
        }
        git(&f.origin, &["commit", "-q", "-m", "submodules"]);
        let repository = f.mirrored().await;
        let (_, notices) = start(&f, &repository).await;
        assert_eq!(notices.len(), 1, "{notices:?}");
        let (reason, message) = &notices[0];
        assert!(
            reason == "SUBMODULES_LEFT_OUT" && message.contains("evil: ") && !message.contains("lib: "),
            "{message}"
        );
        let mirror = f.cx.mirror_path(&repository.repository_id.parse().unwrap());
        let mirror = Mirror::open(&f.cx.git, mirror, MirrorLimits::default()).await.unwrap();
        let head = CommitId::parse(&git(&f.origin, &["rev-parse", "HEAD"])).unwrap();
        assert!(!mirror.lacks_submodules_of(&head).await.unwrap(), "what is not allowed is not tried again");
    }
}
