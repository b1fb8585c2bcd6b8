//! Making a mirror and updating it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::contents::Contents;
use super::{Mirror, MirrorLimits, blocking, remove_tree, sync_parent, with_suffix};
use crate::lock::Lock;
use crate::network::Trace;
use crate::remote::Endpoint;
use crate::{BranchName, Git, GitCommand, GitError, GitErrorKind, RemoteUrl, Result, RunLimits};

/// Every branch of the remote except option-like names and one that would shadow `HEAD`.
const REFSPECS: [&str; 3] = ["+refs/heads/*:refs/heads/*", "^refs/heads/-*", "^refs/heads/HEAD"];

/// What a fetch may write to one file although the mirror has its largest size: lists of refs.
const SMALLEST_FILE: u64 = 1 << 20;

/// Variables for configuration that contains a secret: the header of a credential, and the proxy.
const HIDDEN: [(&str, &str); 2] =
    [("GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"), ("GIT_CONFIG_KEY_1", "GIT_CONFIG_VALUE_1")];

/// Most characters of a refused name in an error.
const MAX_SHOWN: usize = 100;

/// In the mirror: the digest of the remote's listing after the last complete fetch. Without it, the next fetch is a
/// whole one.
pub(super) const LISTED: &str = "foundry-listed";

/// What a fetch found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchReport {
    /// Branches of the remote that were taken.
    pub branches: u64,
    /// Branches of the remote left out because of their names.
    pub skipped: u64,
    /// Tags of the remote; the mirror has those that a branch reaches. 0 when there are more than `max_tags`, and then
    /// the mirror has none.
    pub tags: u64,
    /// Whether the remote has changed since the last complete fetch. If not, nothing was fetched.
    pub changed: bool,
    /// Digest of the names and ids that the remote lists.
    pub digest: String,
}

/// The remote's branches and HEAD, listed before anything is fetched.
struct Listing {
    branches: u64,
    skipped: u64,
    /// The first branch that is left out, and why; of the remote's HEAD if that is one of them.
    refused: Option<(String, String)>,
    head: Option<BranchName>,
    first: Option<BranchName>,
    sha256: bool,
    /// Object ids by the full names of tags.
    tags: BTreeMap<String, String>,
    /// Of all that the remote has listed.
    digest: String,
}

impl Mirror {
    /// Makes the mirror of a remote, or opens the existing one. `dir` appears only when the mirror is complete; the
    /// remains of a crash are removed on the next attempt.
    pub async fn create(
        git: &Git,
        dir: impl Into<PathBuf>,
        remote: &RemoteUrl,
        limits: MirrorLimits,
    ) -> Result<Self> {
        let dir = dir.into();
        let mirror = Self { git: git.clone(), dir: dir.clone(), limits, quarantine: None };
        if !dir.is_absolute() {
            return Err(GitError::failed("the mirror path must be absolute"));
        }
        if let Some(parent) = dir.parent() {
            tokio::fs::create_dir_all(parent)
                .await
                .map_err(|e| GitError::io("cannot create the directory of mirrors", &e))?;
        }
        let _lock = Lock::acquire(&dir, limits.lock_wait).await?;
        if let Ok(there) = Self::open(git, &dir, limits).await {
            return Ok(there);
        }
        let temporary = with_suffix(&dir, ".creating");
        remove_tree(&temporary).await?;
        let made = mirror.fill(&temporary, remote).await;
        if let Err(e) = made {
            // The first error is the one to report; the next attempt removes what is left here.
            let _ = remove_tree(&temporary).await;
            return Err(e);
        }
        tokio::fs::rename(&temporary, &dir)
            .await
            .map_err(|e| GitError::io("cannot move the mirror into place", &e))?;
        sync_parent(&dir).await?;
        Ok(mirror)
    }

    /// Updates branches and tags: those deleted at the remote are deleted here, `refs/foundry` stays.
    pub async fn fetch(&self, remote: &RemoteUrl) -> Result<FetchReport> {
        // A slow remote is resolved before the lock is taken, since imports wait for the lock.
        let endpoint = remote.pin().await?;
        let listing = self.list(&endpoint).await?;
        let _lock = self.lock().await?;
        if tokio::fs::read_to_string(self.dir.join(LISTED)).await.is_ok_and(|d| d == listing.digest) {
            return Ok(listing.report(false));
        }
        let before = Contents::of(self).await?;
        let fetched = self.fetch_into(&self.dir, &endpoint, listing, before.size).await;
        if let Err(e) = &fetched {
            // The first error is the one to report; the next operation removes what is left here.
            let _ = match e.reason() {
                "GIT_DUMB_HTTP_REFUSED" => before.restore(self).await,
                _ => self.clear_stale().await,
            };
        }
        fetched
    }

    /// Asks a remote for its HEAD, to see whether it can be reached and lets us in.
    pub async fn check_remote(git: &Git, remote: &RemoteUrl, limits: MirrorLimits) -> Result<()> {
        let endpoint = remote.pin().await?;
        let listed = remote_command(git.command("ls-remote"), &endpoint, limits.listing(1 << 16))
            .args(["--quiet"])
            .operands([endpoint.operand.as_os_str()])
            .operands(["HEAD"])
            .run()
            .await;
        listed.map_err(|e| endpoint.explain(e))?;
        endpoint.check_protocol().await
    }

    async fn fill(&self, temporary: &Path, remote: &RemoteUrl) -> Result<()> {
        let endpoint = remote.pin().await?;
        let listing = self.list(&endpoint).await?;
        let format = if listing.sha256 { "--object-format=sha256" } else { "--object-format=sha1" };
        self.git
            .command("init")
            .args(["--quiet", "--bare", "--template=", "--initial-branch=main", format])
            .operands([temporary])
            .run()
            .await?;
        self.fetch_into(temporary, &endpoint, listing, 0).await.map(drop)
    }

    /// Lists the names first: their number is limited, and none reaches a command line unchecked.
    async fn list(&self, endpoint: &Endpoint) -> Result<Listing> {
        let mut listing = match self.list_names(endpoint, &["HEAD", "refs/heads/*", "refs/tags/*"]).await {
            // Tags are of less use than branches: too many of them are left out.
            Err(e) if e.kind() == GitErrorKind::TooLarge => {
                self.list_names(endpoint, &["HEAD", "refs/heads/*"]).await?
            }
            listed => listed?,
        };
        if listing.tags.len() as u64 > self.limits.max_tags {
            listing.tags.clear();
        }
        if listing.branches + listing.skipped > self.limits.max_refs {
            let found = listing.branches + listing.skipped;
            return Err(GitError::too_large("branches of the remote", found, self.limits.max_refs));
        }
        // It is not empty, but there is nothing in it to work on.
        match &listing.refused {
            Some((name, why)) if listing.branches == 0 => Err(only_refused(name, why)),
            _ => Ok(listing),
        }
    }

    async fn list_names(&self, endpoint: &Endpoint, patterns: &[&str]) -> Result<Listing> {
        let names = self.limits.max_refs.saturating_add(self.limits.max_tags.saturating_mul(2));
        let limits = self.limits.listing(names.saturating_mul(400).saturating_add(1 << 16));
        let out = remote_command(self.git.command("ls-remote"), endpoint, limits)
            .args(["--quiet", "--symref"])
            .operands([endpoint.operand.as_os_str()])
            .operands(patterns)
            .run()
            .await
            .map_err(|e| endpoint.explain(e))?;
        endpoint.check_protocol().await?;
        Ok(read_listing(&out.stdout))
    }

    /// `size` is what the mirror takes on disk already.
    async fn fetch_into(
        &self,
        dir: &Path,
        endpoint: &Endpoint,
        listing: Listing,
        size: u64,
    ) -> Result<FetchReport> {
        let limits = RunLimits {
            wall: self.limits.fetch_wall,
            stdout: 1 << 20,
            file: Some(self.limits.max_bytes.saturating_sub(size).max(SMALLEST_FILE)),
            memory: Some(self.limits.fetch_memory),
        };
        let listed = dir.join(LISTED);
        remove_if_there(&listed).await?;
        let here = Self { dir: dir.to_owned(), ..self.clone() };
        here.drop_changed_tags(&listing.tags).await?;
        // Git takes the tags of what it fetches, and of what is here already.
        let no_tags = listing.tags.is_empty().then_some("--no-tags");
        let fetch = remote_command(self.git.command("fetch"), endpoint, limits)
            .git_dir(dir)
            // Harmless old errors that many real histories contain.
            .config("fetch.fsck.badTimezone", "ignore")
            .config("fetch.fsck.missingSpaceBeforeDate", "ignore")
            .config("fetch.fsck.zeroPaddedFilemode", "ignore")
            .config("core.logAllRefUpdates", "false")
            .args(no_tags)
            .args(["--quiet", "--prune", "--no-write-fetch-head", "--no-recurse-submodules"])
            // A source that is a shallow clone has only a part of the history, which then is all that there is.
            .args(["--no-auto-maintenance", "--force", "--update-shallow"])
            .operands([endpoint.operand.clone()])
            .operands(REFSPECS);
        let allowed = endpoint.allowed.iter();
        let fetch = allowed.fold(fetch, |f, check| f.config(format!("fetch.fsck.{check}"), "ignore"));
        fetch.run().await.map_err(|e| endpoint.explain(e))?;
        endpoint.check_protocol().await?;
        self.check_size(dir).await?;
        here.point_head(&listing).await?;
        tokio::fs::write(&listed, &listing.digest)
            .await
            .map_err(|e| GitError::io("cannot record what was fetched", &e))?;
        Ok(listing.report(true))
    }

    /// Git adds tags, but neither moves nor deletes them.
    async fn drop_changed_tags(&self, listed: &BTreeMap<String, String>) -> Result<()> {
        let format = "--format=%(objectname) %(refname)";
        let out = self.command("for-each-ref").args([format, "refs/tags/"]).limits(self.local(64 << 20));
        let out = String::from_utf8_lossy(&out.run().await?.stdout).into_owned();
        let ours = out.lines().filter_map(|line| line.split_once(' '));
        let script: String = ours
            .filter(|(id, name)| listed.get(*name).is_none_or(|theirs| theirs != id))
            .map(|(_, name)| format!("delete {name}\n"))
            .collect();
        if script.is_empty() {
            return Ok(());
        }
        self.command("update-ref").args(["--no-deref", "--stdin"]).stdin(script).run().await.map(drop)
    }

    /// The mirror's HEAD follows the remote's; a remote without one gets `main`, `master` or its first branch.
    async fn point_head(&self, listing: &Listing) -> Result<()> {
        let names = self.branches().await?;
        let has = |name: &BranchName| names.items.iter().any(|b| b.name == *name);
        let usual = ["main", "master"].map(|n| BranchName::parse(n).ok());
        let candidates = [listing.head.clone(), usual[0].clone(), usual[1].clone(), listing.first.clone()];
        let Some(name) = candidates.into_iter().flatten().find(has) else { return Ok(()) };
        self.command("symbolic-ref").operands(["HEAD".to_owned(), name.to_ref()]).run().await.map(drop)
    }
}

impl Listing {
    fn report(self, changed: bool) -> FetchReport {
        let tags = self.tags.len() as u64;
        FetchReport { branches: self.branches, skipped: self.skipped, tags, changed, digest: self.digest }
    }
}

pub(super) async fn remove_if_there(path: &Path) -> Result<()> {
    let path = path.to_owned();
    blocking(move || super::remove_if_there(&path))
        .await?
        .map_err(|e| GitError::io("cannot record what is fetched", &e))
}

pub(super) fn remote_command(command: GitCommand, endpoint: &Endpoint, limits: RunLimits) -> GitCommand {
    let command = command.protocols(endpoint.protocols).limits(limits);
    let command = endpoint.env.iter().fold(command, |c, (name, value)| c.env(name, value));
    let command =
        endpoint.trace.iter().map(Trace::variable).fold(command, |c, (name, value)| c.env(name, value));
    // In the environment, for arguments can be seen by others on this host.
    let count = endpoint.hidden.len().min(HIDDEN.len());
    let command = command.env("GIT_CONFIG_COUNT", count.to_string());
    let hidden = HIDDEN.iter().zip(&endpoint.hidden);
    let command = hidden
        .fold(command, |c, ((name, value), (key, secret))| c.env(name, key.as_str()).env(value, secret));
    endpoint.config.iter().fold(command, |c, (key, value)| c.config(key, value.clone()))
}

fn read_listing(stdout: &[u8]) -> Listing {
    let mut listing = Listing {
        branches: 0,
        skipped: 0,
        refused: None,
        head: None,
        first: None,
        sha256: false,
        tags: BTreeMap::new(),
        digest: Sha256::digest(stdout).iter().map(|b| format!("{b:02x}")).collect(),
    };
    for line in stdout.split(|b| *b == b'\n') {
        let Some(tab) = line.iter().position(|b| *b == b'\t') else { continue };
        let (left, right) = (&line[..tab], &line[tab + 1..]);
        let branch = |full: &[u8]| full.strip_prefix(b"refs/heads/").map(branch_name);
        if let Some(target) = left.strip_prefix(b"ref: ") {
            if right == b"HEAD" {
                match branch(target) {
                    Some(Ok(name)) => listing.head = Some(name),
                    Some(Err(refused)) => listing.refused = Some(refused),
                    None => {}
                }
            }
            continue;
        }
        listing.sha256 |= left.len() == 64;
        match branch(right) {
            None => {
                // A name with `^{}` shows what the tag of that name points at.
                let tag = std::str::from_utf8(right).ok().filter(|name| is_tag(name));
                if let (Some(tag), Ok(id)) = (tag, std::str::from_utf8(left)) {
                    listing.tags.insert(tag.to_owned(), id.to_owned());
                }
            }
            Some(Err(refused)) => {
                listing.skipped += 1;
                listing.refused.get_or_insert(refused);
            }
            Some(Ok(name)) => {
                listing.branches += 1;
                listing.first.get_or_insert(name);
            }
        }
    }
    listing
}

fn is_tag(full: &str) -> bool {
    full.starts_with("refs/tags/") && !full.ends_with("^{}")
}

/// A branch of the remote; or its name as text, and the rule that it breaks.
fn branch_name(name: &[u8]) -> std::result::Result<BranchName, (String, String)> {
    let why = match std::str::from_utf8(name).map(BranchName::parse) {
        Ok(Ok(name)) => return Ok(name),
        Ok(Err(error)) => GitError::from(error).message().to_owned(),
        Err(_) => "a branch name must be UTF-8".to_owned(),
    };
    let shown = String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
    Err((shown, why))
}

fn only_refused(name: &str, why: &str) -> GitError {
    let text = format!("every branch of the remote has a name that is refused, such as `{name}`: {why}");
    GitError::new(GitErrorKind::Invalid, "BRANCH_NAME_INVALID", text)
}
