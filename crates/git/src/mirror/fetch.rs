//! Making a mirror and updating it.

use std::path::{Path, PathBuf};

use super::{Mirror, MirrorLimits, remove_tree, sync_parent, with_suffix};
use crate::lock::Lock;
use crate::remote::Endpoint;
use crate::{BranchName, Git, GitCommand, GitError, GitErrorKind, RemoteUrl, Result, RunLimits};

/// Every branch of the remote except option-like names and one that would shadow `HEAD`.
const REFSPECS: [&str; 3] = ["+refs/heads/*:refs/heads/*", "^refs/heads/-*", "^refs/heads/HEAD"];

/// Most characters of a refused name in an error.
const MAX_SHOWN: usize = 100;

/// What a fetch found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchReport {
    /// Branches of the remote that were taken.
    pub branches: u64,
    /// Branches of the remote left out because of their names.
    pub skipped: u64,
    /// The remote's default branch, if it names one that exists.
    pub default_branch: Option<BranchName>,
    /// Size of the mirror on disk in bytes.
    pub size: u64,
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

    /// Updates the branches: those deleted at the remote are deleted here, `refs/foundry` stays.
    pub async fn fetch(&self, remote: &RemoteUrl) -> Result<FetchReport> {
        // A slow remote is resolved before the lock is taken, since imports wait for the lock.
        let endpoint = remote.pin().await?;
        let listing = self.list(&endpoint).await?;
        let _lock = self.lock().await?;
        self.fetch_into(&self.dir, &endpoint, listing).await
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
        self.fetch_into(temporary, &endpoint, listing).await.map(drop)
    }

    /// Lists the names first: their number is limited, and none reaches a command line unchecked.
    async fn list(&self, endpoint: &Endpoint) -> Result<Listing> {
        let limits = RunLimits {
            wall: self.limits.fetch_wall,
            stdout: self.limits.max_refs.saturating_mul(400).saturating_add(1 << 16),
            file: None,
            memory: Some(self.limits.memory),
        };
        let out = remote_command(self.git.command("ls-remote"), endpoint, limits)
            .args(["--quiet", "--symref"])
            .operands([endpoint.operand.as_os_str(), "HEAD".as_ref(), "refs/heads/*".as_ref()])
            .run()
            .await?;
        let listing = read_listing(&out.stdout);
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

    async fn fetch_into(&self, dir: &Path, endpoint: &Endpoint, listing: Listing) -> Result<FetchReport> {
        let limits = RunLimits {
            wall: self.limits.fetch_wall,
            stdout: 1 << 20,
            file: Some(self.limits.max_bytes),
            memory: None,
        };
        let fetch = remote_command(self.git.command("fetch"), endpoint, limits)
            .git_dir(dir)
            // Harmless old errors that many real histories contain.
            .config("fetch.fsck.badTimezone", "ignore")
            .config("fetch.fsck.missingSpaceBeforeDate", "ignore")
            .config("fetch.fsck.zeroPaddedFilemode", "ignore")
            .config("core.logAllRefUpdates", "false")
            .args(["--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"])
            .args(["--no-auto-maintenance", "--force"])
            .operands([endpoint.operand.clone()])
            .operands(REFSPECS);
        fetch.run().await?;
        let size = self.check_size(dir).await?;
        let default_branch = self.point_head(dir, &listing).await?;
        Ok(FetchReport { branches: listing.branches, skipped: listing.skipped, default_branch, size })
    }

    /// The mirror's HEAD follows the remote's; a remote without one gets `main`, `master` or its first branch.
    async fn point_head(&self, dir: &Path, listing: &Listing) -> Result<Option<BranchName>> {
        let here = Self { dir: dir.to_owned(), ..self.clone() };
        let names = here.branches().await?;
        let has = |name: &BranchName| names.items.iter().any(|b| b.name == *name);
        let usual = ["main", "master"].map(|n| BranchName::parse(n).ok());
        let candidates = [listing.head.clone(), usual[0].clone(), usual[1].clone(), listing.first.clone()];
        let Some(name) = candidates.into_iter().flatten().find(has) else { return Ok(None) };
        here.command("symbolic-ref").operands(["HEAD".to_owned(), name.to_ref()]).run().await?;
        Ok(Some(name))
    }
}

fn remote_command(command: GitCommand, endpoint: &Endpoint, limits: RunLimits) -> GitCommand {
    let command = command.protocols(endpoint.protocols).limits(limits);
    endpoint.config.iter().fold(command, |c, (key, value)| c.config(*key, value.clone()))
}

fn read_listing(stdout: &[u8]) -> Listing {
    let mut listing =
        Listing { branches: 0, skipped: 0, refused: None, head: None, first: None, sha256: false };
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
            None => {}
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
