//! Submodules of a commit: what `.gitmodules` says of them, and their commits, each in a small repository beside the mirror,
//! in `modules`. `.gitmodules` is data from the commit: git reads it as a file of settings, without following
//! any, and nothing of it reaches a command line but an address that the one parser has accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::fetch::remote_command;
use super::{EntryKind, Mirror, MirrorLimits, blocking};
use crate::url_policy::UrlError;
use crate::{CommitId, GitError, GitErrorKind, ObjectId, RemoteUrl, RepoPath, Result, RunLimits};

/// Most bytes of a `.gitmodules`.
const MAX_SETTINGS: u64 = 1 << 20;
/// Wall clock of the fetch of one submodule.
const FETCH_WALL: Duration = Duration::from_secs(120);
/// Bytes of the files of one submodule, and of its objects.
const MAX_BYTES: u64 = 1 << 30;
/// Files of one submodule.
const MAX_FILES: u64 = 100_000;
/// What no task can get any more goes after this time.
const KEPT: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// What keeps a commit until it is examined.
const FETCHED: &str = "refs/foundry/fetched";

/// A submodule that sandboxes get, as it is recorded beside the mirror.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Recorded {
    /// In the text form of [`RepoPath`].
    path: String,
    commit: String,
    /// The directory of its repository, in `modules`.
    store: String,
    /// Its address, as sandboxes see it.
    origin: Option<String>,
}

/// What is known of the submodules of a commit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    submodules: Vec<Recorded>,
    /// Whether nothing is left to be tried again.
    complete: bool,
}

/// A submodule of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submodule {
    /// Where it is in the tree.
    pub path: RepoPath,
    /// The commit that is recorded.
    pub commit: CommitId,
    /// Its address as it is written; `None` if `.gitmodules` has none.
    pub url: Option<String>,
}

impl Submodule {
    /// Its address: one that the policy accepts, or one relative to that of its repository. A path of this host is accepted
    /// only relative to another one, below the same directory: who wrote the commit has no right to read here.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn remote(&self, of: &RemoteUrl) -> Result<RemoteUrl, UrlError> {
        let text = self.url.as_deref().ok_or(UrlError::Malformed("is not in .gitmodules"))?;
        let is_relative = text.starts_with("./") || text.starts_with("../");
        let text = if is_relative { resolved(&of.display(), text)? } else { text.to_owned() };
        let remote = RemoteUrl::parse(&text, of.policy())?;
        let is_beside = || {
            let (base, found) = (of.display(), remote.display());
            let (base, found) = (Path::new(base.trim_end_matches('/')), Path::new(&found));
            let climbs = found.components().any(|part| part == Component::ParentDir);
            !climbs && base.parent().is_some_and(|parent| found.starts_with(parent))
        };
        if remote.is_local() && !(is_relative && of.is_local() && is_beside()) {
            return Err(UrlError::PathNotAllowed);
        }
        Ok(remote)
    }
}

/// A relative address, as git resolves it against that of the repository.
fn resolved(base: &str, relative: &str) -> Result<String, UrlError> {
    const ABOVE: UrlError = UrlError::Malformed("leads above the host");
    let mut base = base.trim_end_matches('/');
    // What is before the path stays.
    let host = match base.find("://") {
        Some(at) => at + 3 + base[at + 3..].find('/').ok_or(ABOVE)?,
        None => base.find(':').unwrap_or(0),
    };
    let mut rest = relative;
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            let end = base[host..].rfind(['/', ':']).ok_or(ABOVE)?;
            base = &base[..host + end];
            rest = after;
        } else {
            break;
        }
    }
    let between = if base.len() == host && base[host..].is_empty() && !base.contains("://") && host > 0 {
        ":"
    } else {
        "/"
    };
    Ok(format!("{base}{between}{rest}"))
}

impl Mirror {
    /// The submodules of a commit, by path.
    ///
    /// # Errors
    /// When git fails; a `.gitmodules` that is none, is too large or is a link counts as one without addresses.
    pub async fn submodules(&self, commit: &CommitId) -> Result<Vec<Submodule>> {
        let settings = self.command("ls-tree").args(["-l", "--full-tree"]).operands([commit.as_str()]);
        let settings = settings.paths([".gitmodules"]).run().await?;
        let settings = String::from_utf8_lossy(&settings.stdout).into_owned();
        let mut words = settings.split_ascii_whitespace();
        if !words.next().is_some_and(|mode| mode.starts_with("100")) {
            return Ok(Vec::new());
        }
        let size: u64 = words.nth(2).and_then(|size| size.parse().ok()).unwrap_or(u64::MAX);
        let addresses = if size <= MAX_SETTINGS { self.addresses(commit).await? } else { BTreeMap::new() };
        let mut links = Vec::new();
        let mut rest = Vec::new();
        let mut sink = |piece: &[u8]| {
            rest.extend_from_slice(piece);
            let whole = rest.iter().rposition(|b| *b == 0).map_or(0, |end| end + 1);
            links.extend(rest[..whole].split(|b| *b == 0).filter_map(link));
            rest.drain(..whole);
            Ok(())
        };
        self.command("ls-tree")
            .args(["-r", "-z", "--full-tree"])
            .operands([commit.as_str()])
            .limits(RunLimits { stdout: u64::MAX, ..self.local(0) })
            .stream(&mut sink)
            .await?;
        let found = links.into_iter().map(|(path, commit)| {
            let url = addresses.get(&path.to_string()).cloned();
            Submodule { path, commit, url }
        });
        Ok(found.collect())
    }

    /// The addresses in `.gitmodules`, by path.
    async fn addresses(&self, commit: &CommitId) -> Result<BTreeMap<String, String>> {
        let read = self
            .command("config")
            .args(["--no-includes".to_owned(), "-z".to_owned(), format!("--blob={commit}:.gitmodules")])
            .args(["--get-regexp", r"^submodule\..*\.(path|url)$"])
            .run_any()
            .await?;
        if read.code != 0 {
            return Ok(BTreeMap::new());
        }
        let (mut paths, mut urls) = (BTreeMap::new(), BTreeMap::new());
        for entry in String::from_utf8_lossy(&read.stdout).split('\0') {
            let Some((key, value)) = entry.split_once('\n') else { continue };
            if let Some(name) = key.strip_prefix("submodule.").and_then(|key| key.strip_suffix(".path")) {
                paths.insert(name.to_owned(), value.to_owned());
            } else if let Some(name) = key.strip_prefix("submodule.").and_then(|key| key.strip_suffix(".url"))
            {
                urls.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(paths.into_iter().filter_map(|(name, path)| Some((path, urls.remove(&name)?))).collect())
    }

    /// Whether a commit has submodules that are still to be fetched, or to be tried again. Reads one file for a commit whose
    /// submodules are known.
    ///
    /// # Errors
    /// When git fails.
    pub async fn lacks_submodules_of(&self, commit: &CommitId) -> Result<bool> {
        if self.record(commit).await.is_some_and(|record| record.complete) {
            return Ok(false);
        }
        Ok(!self.submodules(commit).await?.is_empty())
    }

    /// Records which submodules of a commit clones get from now on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn record_submodules(
        &self,
        commit: &CommitId,
        fetched: &[(Submodule, RemoteUrl)],
        complete: bool,
    ) -> Result<()> {
        let recorded = fetched.iter().map(|(submodule, remote)| Recorded {
            path: submodule.path.to_string(),
            commit: submodule.commit.to_string(),
            store: store_name(remote),
            origin: remote.display_in_sandbox(),
        });
        let record = Record { submodules: recorded.collect(), complete };
        let text =
            serde_json::to_vec(&record).map_err(|_| GitError::failed("submodules cannot be recorded"))?;
        let path = self.record_path(commit);
        let written = blocking(move || {
            let dir = path.parent().unwrap_or(&path);
            std::fs::create_dir_all(dir)?;
            let temporary = tempfile::NamedTempFile::new_in(dir)?;
            std::fs::write(temporary.path(), text)?;
            temporary.persist(&path).map(drop).map_err(|e| e.error)
        });
        written.await?.map_err(|e| GitError::io("cannot record the submodules", &e))
    }

    fn record_path(&self, commit: &CommitId) -> PathBuf {
        self.dir.join(super::MODULES).join(format!("{commit}.json"))
    }

    async fn record(&self, commit: &CommitId) -> Option<Record> {
        let text = tokio::fs::read(self.record_path(commit)).await.ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Checks out the submodules that are recorded for `base` in a clone of `head`, where both have the same commit of it.
    /// The clone is not yet an agent's.
    pub(crate) async fn check_out_submodules(
        &self,
        base: &CommitId,
        head: &CommitId,
        tree: &Path,
    ) -> Result<()> {
        let record = self.record(base).await.unwrap_or_default();
        for Recorded { path, commit, store, origin } in record.submodules {
            let Ok(path) = RepoPath::parse(&path) else { continue };
            let commit = CommitId::parse(&commit)?;
            let same = self.entry(head, &path).await.is_ok_and(|entry| {
                entry.kind == EntryKind::Submodule && entry.object.as_str() == commit.as_str()
            });
            let dir = tree.join(path.as_os_str());
            if !same || !is_empty_below(tree, &path) {
                continue;
            }
            let store = self.submodule_store_at(&store);
            match Box::pin(self.check_out_submodule(&store, &commit, &dir, origin.as_deref())).await {
                Err(e) if !matches!(e.kind(), GitErrorKind::Host | GitErrorKind::Busy) => {
                    // The repository is whole without it, and a hand-over names it as absent.
                    tracing::warn!(%path, reason = e.reason(), stderr = e.stderr(), "a submodule was not checked out");
                    super::remove_tree(&dir).await?;
                    let made = tokio::fs::create_dir(&dir).await;
                    made.map_err(|e| GitError::io("cannot empty the directory of a submodule", &e))?;
                }
                checked_out => checked_out?,
            }
        }
        Ok(())
    }

    /// Makes the repository of one submodule in an empty directory.
    async fn check_out_submodule(
        &self,
        store: &Self,
        commit: &CommitId,
        dir: &Path,
        origin: Option<&str>,
    ) -> Result<()> {
        store.check_checkout(commit).await?;
        let format = if commit.as_str().len() == 64 { "sha256" } else { "sha1" };
        self.git
            .command("init")
            .args(["--quiet", "--template=", "--initial-branch=main"])
            .args([format!("--object-format={format}")])
            .operands([dir])
            .run()
            .await?;
        let inside = |subcommand| self.git.command(subcommand).git_dir(dir.join(".git"));
        let limits =
            RunLimits { wall: FETCH_WALL, memory: Some(self.limits.fetch_memory), ..RunLimits::default() };
        inside("fetch")
            .protocols("file")
            .limits(limits)
            .config("transfer.fsckObjects", "false")
            .args(["--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"])
            .args(["--no-auto-maintenance", "--update-shallow"])
            .operands([store.dir.as_os_str()])
            .operands([reference(commit)])
            .run()
            .await?;
        if let Some(origin) = origin {
            for (key, value) in [
                ("remote.origin.url", origin),
                ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
            ] {
                inside("config").args(["--local"]).operands([key, value]).run().await?;
            }
        }
        inside("checkout")
            .work_tree(dir)
            .limits(limits)
            .config("core.bare", "false")
            .args(["--quiet", "--detach", "--no-recurse-submodules", commit.as_str(), "--"])
            .run()
            .await
            .map(drop)
    }

    /// Fetches the commit of a submodule alone, without its history.
    ///
    /// # Errors
    /// When the remote cannot be reached, lets nobody in, or does not give the commit; when that is too large.
    pub async fn fetch_submodule(&self, remote: &RemoteUrl, commit: &CommitId) -> Result<()> {
        let store = self.submodule_store_at(&store_name(remote));
        if store.has(commit).await {
            return Ok(());
        }
        let (all, most) = (self.dir.join(super::MODULES), self.limits.max_bytes);
        let made = tokio::fs::create_dir_all(&all).await;
        made.map_err(|e| GitError::io("cannot make the directory of the submodules", &e))?;
        // A fetch that was killed leaves locks, which would end all later ones, and parts of packs.
        let _lock = store.lock().await?;
        if store.has(commit).await {
            return Ok(());
        }
        let size = blocking(move || super::tree_size(&all)).await??;
        if size > most {
            return Err(GitError::too_large("size of the submodules in bytes", size, most));
        }
        let endpoint = remote.pin().await?;
        let format = if commit.as_str().len() == 64 { "sha256" } else { "sha1" };
        self.git
            .command("init")
            .args(["--quiet", "--bare", "--template=", "--initial-branch=main"])
            .args([format!("--object-format={format}")])
            .operands([&store.dir])
            .run()
            .await?;
        let limits = RunLimits {
            wall: FETCH_WALL,
            stdout: 1 << 20,
            file: Some(MAX_BYTES),
            memory: Some(self.limits.fetch_memory),
        };
        let fetched = remote_command(self.git.command("fetch"), &endpoint, limits)
            .git_dir(&store.dir)
            .config("fetch.fsck.badTimezone", "ignore")
            .config("fetch.fsck.missingSpaceBeforeDate", "ignore")
            .config("fetch.fsck.zeroPaddedFilemode", "ignore")
            .args(["--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"])
            .args(["--no-auto-maintenance", "--update-shallow"])
            .operands([endpoint.operand.clone()])
            .operands([format!("+{commit}:{FETCHED}")])
            .run()
            .await;
        let fetched = match fetched.map_err(|e| endpoint.explain(e)) {
            Ok(_) => endpoint.check_protocol().await,
            Err(e) => Err(e),
        };
        let kept = match fetched {
            Ok(()) => store.keep(commit).await,
            Err(e) => Err(e),
        };
        // What is not kept is not used. The first error is the one to report.
        let _ = store.command("update-ref").args(["-d", FETCHED]).run_any().await;
        if let Err(e) = kept {
            return Err(
                match e.stderr().contains("not our ref") || e.stderr().contains("unadvertised object") {
                    true => {
                        let text = "the remote does not have the recorded commit, or gives no single commits";
                        GitError::new(GitErrorKind::NotFound, "COMMIT_NOT_FOUND", text)
                            .with_stderr(e.stderr())
                    }
                    false => e,
                },
            );
        }
        Ok(())
    }

    /// Removes what is recorded of commits that are neither kept nor the tip of a branch, and repositories of submodules that
    /// no record names. Only what is older than two weeks: younger ones may be about to be recorded.
    pub(super) async fn collect_submodules(&self, keep: &BTreeSet<ObjectId>) -> Result<()> {
        let tips = self.command("for-each-ref").args(["--format=%(objectname)", "refs/heads/"]).run().await?;
        let mut kept: BTreeSet<String> = keep.iter().map(ToString::to_string).collect();
        kept.extend(String::from_utf8_lossy(&tips.stdout).lines().map(str::to_owned));
        let dir = self.dir.join(super::MODULES);
        let unused = blocking(move || unused(&dir, &kept)).await?;
        for name in unused.map_err(|e| GitError::io("cannot look through the submodules", &e))? {
            let store = self.submodule_store_at(&name);
            let _lock = store.lock().await?;
            super::remove_tree(&store.dir).await?;
        }
        Ok(())
    }

    /// A repository with the commits of one address.
    fn submodule_store_at(&self, name: &str) -> Self {
        let dir = self.dir.join(super::MODULES).join(name);
        let limits = MirrorLimits {
            checkout_files: MAX_FILES,
            checkout_bytes: MAX_BYTES,
            lock_wait: FETCH_WALL,
            ..self.limits
        };
        Self { git: self.git.clone(), dir, limits, quarantine: None }
    }

    /// Gives a commit that was fetched the name that it is used by, unless it is too large. A fetch that is cut off before
    /// has left nothing that is used.
    async fn keep(&self, commit: &CommitId) -> Result<()> {
        self.check_checkout(commit).await?;
        self.command("update-ref")
            .operands([reference(commit).as_str(), commit.as_str()])
            .run()
            .await
            .map(drop)
    }

    async fn has(&self, commit: &CommitId) -> bool {
        let is_there = tokio::fs::metadata(self.dir.join("HEAD")).await.is_ok();
        is_there
            && self
                .command("rev-parse")
                .args(["--verify", "--quiet", "--end-of-options", &reference(commit)])
                .run()
                .await
                .is_ok()
    }
}

/// The name of the repository with the commits of one address.
fn store_name(remote: &RemoteUrl) -> String {
    format!("{}.git", hex::encode(&Sha256::digest(remote.display())[..16]))
}

/// Removes old records, and returns the old repositories that no other record names.
fn unused(dir: &Path, kept: &BTreeSet<String>) -> std::io::Result<Vec<String>> {
    let is_old = |path: &Path| {
        let changed = std::fs::metadata(path).and_then(|meta| meta.modified());
        changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > KEPT))
    };
    // Each fetch makes and removes a ref.
    let is_unchanged = |store: &Path| {
        ["refs", "refs/foundry"].iter().map(|at| store.join(at)).all(|at| is_old(&at) || !at.exists())
    };
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let (mut named, mut stores) = (BTreeSet::new(), Vec::new());
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(commit) = name.strip_suffix(".json") {
            if is_old(&path) && !kept.contains(commit) {
                std::fs::remove_file(&path)?;
                continue;
            }
            let record: Record = serde_json::from_slice(&std::fs::read(&path)?).unwrap_or_default();
            named.extend(record.submodules.into_iter().map(|submodule| submodule.store));
        } else if path.extension().is_some_and(|end| end == "git") && is_unchanged(&path) {
            stores.push(name.to_owned());
        }
    }
    stores.retain(|store| !named.contains(store));
    Ok(stores)
}

/// Whether a path of a tree is an empty directory below directories: a link would lead out of the tree.
fn is_empty_below(tree: &Path, path: &RepoPath) -> bool {
    let mut at = tree.to_owned();
    for part in Path::new(path.as_os_str()).components() {
        at.push(part);
        if !std::fs::symlink_metadata(&at).is_ok_and(|meta| meta.is_dir()) {
            return false;
        }
    }
    std::fs::read_dir(&at).is_ok_and(|mut entries| entries.next().is_none())
}

/// What keeps a commit in its repository.
fn reference(commit: &CommitId) -> String {
    format!("refs/foundry/submodules/{commit}")
}

/// Path and commit of a submodule in a record of `ls-tree`.
fn link(record: &[u8]) -> Option<(RepoPath, CommitId)> {
    let tab = record.iter().position(|b| *b == b'\t')?;
    let id = std::str::from_utf8(&record[..tab]).ok()?.strip_prefix("160000 commit ")?;
    Some((RepoPath::from_bytes(&record[tab + 1..]).ok()?, CommitId::parse(id).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UrlPolicy;

    fn address(of: &str, url: &str) -> std::result::Result<String, &'static str> {
        let policy = UrlPolicy { allow_local: true, ..UrlPolicy::default() };
        let of = RemoteUrl::parse(of, &policy).unwrap();
        let path = RepoPath::parse("lib").unwrap();
        let commit = CommitId::parse(&"ab".repeat(20)).unwrap();
        let submodule = Submodule { path, commit, url: Some(url.to_owned()) };
        submodule.remote(&of).map(|remote| remote.display()).map_err(|e| e.reason())
    }

    #[test]
    fn an_address_is_resolved_against_that_of_the_repository() {
        for (of, url, resolved) in [
            ("https://host.example/a/b.git", "../c", "https://host.example/a/c"),
            ("https://host.example/a/b/", "../../x/c.git", "https://host.example/x/c.git"),
            ("https://host.example/a/b", "./c", "https://host.example/a/b/c"),
            ("https://host.example/a/b", "https://other.example/c", "https://other.example/c"),
            ("git@host.example:a/b.git", "../c", "git@host.example:a/c"),
            ("ssh://git@host.example/a/b", "../c", "ssh://git@host.example/a/c"),
            ("/srv/a/b", "../c", "/srv/a/c"),
        ] {
            assert_eq!(address(of, url).as_deref(), Ok(resolved), "{of} {url}");
        }
    }

    #[test]
    fn an_address_that_leads_elsewhere_is_refused() {
        for (of, url) in [
            ("https://host.example/a/b", "../../../../x"),
            ("https://host.example/a/b", "../../.."),
            ("https://host.example/a/b", "../x/../../y"),
            ("https://host.example/a/b", "file:///etc"),
            ("https://host.example/a/b", "/etc"),
            ("https://host.example/a/b", "http://host.example/a/c"),
            ("https://host.example/a/b", "https://127.0.0.1/c"),
            ("https://host.example/a/b", "https://user:secret@host.example/c"),
            ("https://host.example/a/b", "ext::sh -c id"),
            ("https://host.example/a/b", "--upload-pack=id"),
            ("https://host.example/a/b", "-oProxyCommand=id:x"),
            ("https://host.example/a/b", "git@-oProxyCommand=id:x"),
            ("https://host.example/a/b", "c"),
            ("https://host.example/a/b", ""),
            ("https://host.example/a/b", "./\u{1b}[31m"),
            ("/srv/a/b", "/srv/a/secret"),
            ("/srv/a/b", "file:///srv/a/secret"),
            ("/srv/a/b", "../../other/secret"),
            ("/srv/a/b", "../../ab"),
            ("/srv/a/b", "../c/../../secret"),
            ("/srv/a/b", "../../../../../etc"),
        ] {
            assert!(address(of, url).is_err(), "{of} {url}: {:?}", address(of, url));
        }
    }
}
