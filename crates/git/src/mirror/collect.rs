//! Garbage collection: few packs instead of many, and no objects that nothing reaches any more.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Mirror, blocking};
use crate::{CommitId, GitError, ObjectId, Result, RunLimits};

/// Packs beyond which a collection is worth its time, as for `gc.autoPackLimit`.
const MANY_PACKS: usize = 50;
/// Files in one of the 256 directories of loose objects that stand for 6,700 in all, as for `gc.auto`.
const MANY_LOOSE: usize = 27;

impl Mirror {
    /// Whether there are so many packs, loose objects or files of Git LFS that a collection is worth its time.
    pub async fn wants_collection(&self) -> Result<bool> {
        let objects = self.dir.join("objects");
        let many = blocking(move || {
            let packs = count(&objects.join("pack"), ".pack")?;
            Ok(packs > MANY_PACKS || count(&objects.join("17"), "")? > MANY_LOOSE)
        });
        let many = many
            .await?
            .map_err(|e: std::io::Error| GitError::io("cannot count the objects of the mirror", &e))?;
        Ok(many || self.wants_lfs_collection().await?)
    }

    /// Packs objects and drops unreachable ones older than two weeks, so that none goes that a clone or fetch is just
    /// reading. All refs keep what they reach, and so do the commits in `keep`, from which tasks have started: a work
    /// without changes has no ref. Then drops files of Git LFS that nothing in the mirror points to, and submodules of
    /// commits that no task starts from. Holds the mirror's lock, for the time of a few fetches at most.
    pub async fn collect_garbage(&self, keep: &[CommitId]) -> Result<()> {
        let _lock = self.lock().await?;
        let listed = self.command("for-each-ref").args(["--format=delete %(refname)", "refs/foundry/keep/"]);
        let mut script = String::from_utf8_lossy(&listed.run().await?.stdout).into_owned();
        self.command("update-ref").args(["--no-deref", "--stdin"]).stdin(script.clone()).run().await?;
        script.clear();
        let keep: BTreeSet<ObjectId> = keep.iter().map(CommitId::to_object).collect();
        let missing = self.missing(keep.iter().cloned()).await?;
        for commit in keep.difference(&missing) {
            script.push_str(&format!("update refs/foundry/keep/{commit} {commit}\n"));
        }
        self.command("update-ref").args(["--no-deref", "--stdin"]).stdin(script).run().await?;
        let limits = RunLimits { wall: self.limits.fetch_wall, ..RunLimits::default() };
        let gc = self.command("gc").args(["--quiet", "--no-detach", "--prune=2.weeks.ago"]).limits(limits);
        gc.run().await?;
        if let Err(e) = Box::pin(self.collect_lfs()).await {
            tracing::warn!(reason = e.reason(), stderr = e.stderr(), "files of Git LFS were not collected");
        }
        if let Err(e) = Box::pin(self.collect_submodules(&keep)).await {
            tracing::warn!(reason = e.reason(), stderr = e.stderr(), "submodules were not collected");
        }
        Ok(())
    }
}

/// Files in a directory whose names end like this; none if there is no such directory.
fn count(dir: &Path, end: &str) -> std::io::Result<usize> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let counts = |entry: &std::fs::DirEntry| entry.file_name().as_encoded_bytes().ends_with(end.as_bytes());
    Ok(entries.filter_map(std::result::Result::ok).filter(counts).count())
}
