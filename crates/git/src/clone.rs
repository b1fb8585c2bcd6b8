//! A full, independent clone of a mirror for a sandbox. It is made before any agent touches the
//! tree; afterwards the host never runs git in it.

use std::path::{Path, PathBuf};

use crate::lfs::SMUDGE;
use crate::lock::Lock;
use crate::mirror::{Mirror, Revision, blocking, remove_tree, sync_parent, with_suffix};
use crate::{BranchName, CommitId, GitCommand, GitError, GitErrorKind, Result, RunLimits};

/// Written last, inside `.git`, to mark a complete clone. Only its presence is checked; it is never run.
const MARKER: &str = "foundry-clone";

/// The e-mail address that agents commit under, unless they choose another.
pub const AGENT_EMAIL: &str = "agent@foundry.invalid";

/// What to clone and where to.
#[derive(Clone, Debug)]
pub struct CloneSpec {
    /// Where the work starts.
    pub base: CommitId,
    /// The branch to create at `base` and check out.
    pub branch: BranchName,
    /// The directory to make; it or an empty directory.
    pub destination: PathBuf,
    /// The URL of `origin`, see [`crate::RemoteUrl::display_in_sandbox`]; `None` leaves `origin` out.
    pub origin: Option<String>,
    /// Where `git lfs` finds the files of `origin`, if that is not at its URL; the repository's own settings take precedence.
    pub lfs: Option<String>,
    /// Whether files of LFS are checked out with their content, as far as the mirror has it: the sandbox has `git lfs`, without
    /// which its git would take them for changes.
    pub lfs_content: bool,
    /// The commit whose fetched submodules are checked out, where `base` has the same ones.
    pub submodules_of: Option<CommitId>,
    /// Name and e-mail address that the agent commits under.
    pub identity: (String, String),
}

impl Mirror {
    /// Makes the clone: all branches under `refs/remotes/origin`, the mirror's tags, objects copied, no link or alternate into the mirror,
    /// no path of the host. Succeeds at once if the clone is complete already; the remains of a crash are removed
    /// first.
    pub async fn clone_into(&self, spec: &CloneSpec) -> Result<()> {
        let dest = &spec.destination;
        if !dest.is_absolute() {
            return Err(GitError::failed("the clone destination must be absolute"));
        }
        if let Some(parent) = dest.parent() {
            tokio::fs::create_dir_all(parent)
                .await
                .map_err(|e| GitError::io("cannot create the directory of the clone", &e))?;
        }
        let _lock = Lock::acquire(dest, self.limits().lock_wait).await?;
        if tokio::fs::symlink_metadata(dest.join(".git").join(MARKER)).await.is_ok() {
            return Ok(());
        }
        let temporary = with_suffix(dest, ".cloning");
        remove_tree(&temporary).await?;
        let mut made = self.populate(&temporary, spec).await;
        if spec.lfs_content && made.as_ref().is_err_and(|e| e.kind() == GitErrorKind::Timeout) {
            tracing::warn!(
                "a clone starts with pointers, as it has too many files of LFS to check out in time"
            );
            remove_tree(&temporary).await?;
            let pointers = CloneSpec { lfs_content: false, ..spec.clone() };
            made = Box::pin(self.populate(&temporary, &pointers)).await;
        }
        if let Err(e) = made {
            // The first error is the one to report; the next attempt removes what is left here.
            let _ = remove_tree(&temporary).await;
            return Err(e);
        }
        // Replaces an empty directory, but nothing else.
        tokio::fs::rename(&temporary, dest).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::NotADirectory => GitError::new(
                GitErrorKind::Failed,
                "CLONE_DESTINATION_TAKEN",
                "the clone destination is not empty",
            ),
            _ => GitError::io("cannot move the clone into place", &e),
        })?;
        sync_parent(dest).await
    }

    async fn populate(&self, dir: &Path, spec: &CloneSpec) -> Result<()> {
        self.resolve(&Revision::Commit(spec.base.clone())).await?;
        self.check_checkout(&spec.base).await?;
        let format = if spec.base.as_str().len() == 64 { "sha256" } else { "sha1" };
        self.git()
            .command("init")
            .args(["--quiet", "--template=", "--initial-branch=main"])
            .args([format!("--object-format={format}")])
            .operands([dir])
            .run()
            .await?;
        let dot_git = dir.join(".git");
        let in_clone = |subcommand| self.git().command(subcommand).git_dir(&dot_git);
        // A fetch, not `git clone`: it makes no hard links even on one file system, includes the base when its branch
        // has moved, and leaves the mirror's path in neither the reflog nor FETCH_HEAD.
        in_clone("fetch")
            .protocols("file")
            .limits(RunLimits { wall: self.limits().fetch_wall, ..RunLimits::default() })
            .config("transfer.fsckObjects", "false")
            .config("core.logAllRefUpdates", "false")
            .args(["--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"])
            .args(["--no-auto-maintenance", "--update-shallow"])
            .operands([self.dir().as_os_str(), "+refs/heads/*:refs/remotes/origin/*".as_ref()])
            .operands(["+refs/tags/*:refs/tags/*", "^refs/tags/-*"])
            .operands([spec.base.as_str()])
            .run()
            .await?;
        if let Some(default) = self.default_branch().await? {
            let target = format!("refs/remotes/origin/{default}");
            in_clone("symbolic-ref").operands(["refs/remotes/origin/HEAD".to_owned(), target]).run().await?;
        }
        self.configure(spec, &in_clone).await?;
        let objects = dot_git.join("lfs/objects");
        let has_files = spec.lfs_content && self.copy_lfs(&spec.base, &objects).await?;
        let (checkout, limits) = (in_clone("checkout"), self.limits());
        let (checkout, wall) = match has_files {
            true => (checkout.smudge(SMUDGE), limits.lfs_checkout_wall),
            false => (checkout, limits.fetch_wall),
        };
        checkout
            .work_tree(dir)
            .env("FOUNDRY_LFS_OBJECTS", objects)
            .env("FOUNDRY_BASE", spec.base.as_str())
            .limits(RunLimits { wall, memory: Some(limits.fetch_memory), ..RunLimits::default() })
            .config("core.bare", "false")
            .args(["--quiet", "--no-track", "--no-recurse-submodules", "-b", spec.branch.as_str()])
            .args([spec.base.as_str(), "--"])
            .run()
            .await?;
        if let Some(recorded) = &spec.submodules_of {
            Box::pin(self.check_out_submodules(recorded, &spec.base, dir)).await?;
        }
        let text = format!("{} {}\n", spec.branch, spec.base);
        tokio::fs::write(dot_git.join(MARKER), text)
            .await
            .map_err(|e| GitError::io("cannot mark the clone as complete", &e))
    }

    /// Copies the objects of LFS that a commit needs and the mirror has; returns whether there are any.
    async fn copy_lfs(&self, commit: &CommitId, to: &Path) -> Result<bool> {
        let (store, to) = (self.lfs_store(), to.to_owned());
        let mut pointers = self.pointers(commit).await?;
        pointers.retain(|pointer, _| store.has(pointer));
        if pointers.is_empty() {
            return Ok(false);
        }
        // Each object is copied once, and then written for each of its files, beside all others.
        let tree = self.check_checkout(commit).await?;
        let bytes = pointers.iter().fold(tree, |all, (pointer, files)| {
            all.saturating_add(pointer.size.saturating_mul(files.saturating_add(1)))
        });
        let most = self.limits().checkout_bytes;
        if bytes > most {
            return Err(GitError::too_large("bytes of the files of Git LFS", bytes, most));
        }
        let copied = blocking(move || {
            pointers.keys().try_for_each(|pointer| {
                let path = pointer.below(&to);
                std::fs::create_dir_all(path.parent().unwrap_or(&to))?;
                // Copied and never linked: the sandbox can write to its own.
                std::fs::copy(store.path(pointer), path).map(drop)
            })
        });
        copied.await?.map_err(|e| GitError::io("cannot copy the files of Git LFS", &e))?;
        Ok(true)
    }

    /// Refuses a tree that would fill this host: a few objects can stand for any number of files of any size. Returns the
    /// bytes of its files.
    pub(crate) async fn check_checkout(&self, base: &CommitId) -> Result<u64> {
        let limits = *self.limits();
        let (mut files, mut bytes, mut rest) = (0_u64, 0_u64, Vec::new());
        let mut sink = |piece: &[u8]| {
            rest.extend_from_slice(piece);
            let whole = rest.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
            for line in String::from_utf8_lossy(&rest[..whole]).lines() {
                files += 1;
                // A submodule has none.
                bytes = bytes.saturating_add(line.parse().unwrap_or(0));
            }
            rest.drain(..whole);
            if files > limits.checkout_files {
                let found = format!("more than {}", limits.checkout_files);
                return Err(GitError::too_large("files of the tree", found, limits.checkout_files));
            }
            if bytes > limits.checkout_bytes {
                return Err(GitError::too_large(
                    "bytes of the files of the tree",
                    bytes,
                    limits.checkout_bytes,
                ));
            }
            Ok(())
        };
        self.command("ls-tree")
            .args(["-r", "--full-tree", "--format=%(objectsize)"])
            .operands([base.as_str()])
            .limits(RunLimits {
                wall: limits.fetch_wall,
                stdout: u64::MAX,
                file: None,
                memory: Some(limits.memory),
            })
            .stream(&mut sink)
            .await?;
        Ok(bytes)
    }

    async fn configure(
        &self,
        spec: &CloneSpec,
        in_clone: &impl Fn(&'static str) -> GitCommand,
    ) -> Result<()> {
        let mut values =
            vec![("user.name", spec.identity.0.as_str()), ("user.email", spec.identity.1.as_str())];
        if let Some(origin) = &spec.origin {
            values.push(("remote.origin.url", origin));
            values.push(("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"));
        }
        if let Some(lfs) = &spec.lfs {
            values.push(("remote.origin.lfsurl", lfs));
        }
        for (key, value) in values {
            in_clone("config").args(["--local"]).operands([key, value]).run().await?;
        }
        Ok(())
    }
}
