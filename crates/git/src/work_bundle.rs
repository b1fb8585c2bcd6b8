//! The script that a sandbox runs to hand over its work. It gets its parameters from the environment; nothing is pasted
//! into its text.

use std::path::PathBuf;

use foundry_core::Timestamp;

use crate::{CommitId, WorkName};

/// The POSIX shell script; run it as `sh -c "$script"` in the sandbox with [`WorkBundle::env`].
/// It prints the head commit. Equal to the base means that nothing changed and no bundle exists.
pub const WORK_BUNDLE_SCRIPT: &str = include_str!("work_bundle.sh");

/// The parameters of the script, as paths inside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkBundle {
    /// The work tree.
    pub tree: PathBuf,
    /// The recorded base.
    pub base: CommitId,
    /// Names the one ref of the bundle.
    pub work: WorkName,
    /// The file to write.
    pub bundle: PathBuf,
    /// Author and committer time: the same tree at the same time gives the same commit.
    pub time: Timestamp,
}

impl WorkBundle {
    /// The environment for the script.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let seconds = self.time.as_micros().max(0) / 1_000_000;
        vec![
            ("FOUNDRY_TREE", self.tree.display().to_string()),
            ("FOUNDRY_BASE", self.base.to_string()),
            ("FOUNDRY_REF", self.work.work_ref()),
            ("FOUNDRY_BUNDLE", self.bundle.display().to_string()),
            ("FOUNDRY_DATE", seconds.to_string()),
        ]
    }
}

/// Why the script ended, by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkBundleExit {
    /// The head commit was printed.
    Done,
    /// A parameter is malformed: a defect of the caller.
    BadParameters,
    /// There is no git in the sandbox.
    GitMissing,
    /// The agent deleted or damaged the repository.
    RepositoryGone,
    /// The recorded base is not in the repository any more.
    BaseGone,
    /// Anything else; standard error has the details.
    Failed,
}

impl WorkBundleExit {
    /// From the exit code.
    pub fn from_code(code: i32) -> Self {
        match code {
            0 => Self::Done,
            64 => Self::BadParameters,
            65 => Self::GitMissing,
            66 => Self::RepositoryGone,
            67 => Self::BaseGone,
            _ => Self::Failed,
        }
    }
}
