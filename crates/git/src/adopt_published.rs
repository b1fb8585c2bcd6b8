//! The script with which a sandbox moves its branch to what was published of its work. It gets its parameters from the
//! environment; nothing is pasted into its text.

use std::path::PathBuf;

use foundry_core::Timestamp;

use crate::{BranchName, CommitId};

/// The POSIX shell script; run it as `sh -c "$script"` in the sandbox with [`AdoptPublished::env`] while no turn is
/// running there. It prints `moved`, or why the branch stays where it is.
pub const ADOPT_PUBLISHED_SCRIPT: &str = include_str!("adopt_published.sh");

/// The parameters of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptPublished {
    /// The work tree, inside the sandbox.
    pub tree: PathBuf,
    /// The head of the hand-over that was published.
    pub work: CommitId,
    /// The commit that was made of it.
    pub published: CommitId,
    /// The tree of the hand-over, in hex, if the published commit has other files, as after a restack; empty otherwise.
    pub work_tree: String,
    /// The branch of `origin` that has this commit.
    pub branch: BranchName,
    /// The time of the hand-over's commit, as in [`WorkBundle`](crate::WorkBundle).
    pub time: Timestamp,
}

impl AdoptPublished {
    /// The environment for the script.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let seconds = self.time.as_micros().max(0) / 1_000_000;
        vec![
            ("FOUNDRY_TREE", self.tree.display().to_string()),
            ("FOUNDRY_WORK", self.work.to_string()),
            ("FOUNDRY_PUBLISHED", self.published.to_string()),
            ("FOUNDRY_WORK_TREE", self.work_tree.clone()),
            ("FOUNDRY_BRANCH", self.branch.to_string()),
            ("FOUNDRY_DATE", seconds.to_string()),
        ]
    }
}
