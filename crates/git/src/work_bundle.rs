//! The script that a sandbox runs to hand over its work. It gets its parameters from the environment; nothing is pasted
//! into its text.

use std::path::PathBuf;

use foundry_core::Timestamp;

use crate::{CommitId, WorkName};

/// The POSIX shell script; run it as `sh -c "$script"` in the sandbox with [`WorkBundle::env`].
/// It prints the head commit, then notices ([`WorkBundleOutput`]). A head equal to the base means that nothing changed
/// and no bundle exists.
pub const WORK_BUNDLE_SCRIPT: &str = concat!(
    include_str!("work_bundle_lfs.sh"),
    include_str!("work_bundle_size.sh"),
    include_str!("work_bundle_ignored.sh"),
    include_str!("work_bundle.sh"),
);

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
    /// Largest bundle in bytes; the largest new files are left out beyond that.
    pub max_bytes: u64,
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
            ("FOUNDRY_MAX_FILE", MAX_WORK_FILE.to_string()),
            ("FOUNDRY_MAX_FILES", MAX_WORK_FILES.to_string()),
            // Objects of LFS go before the bundle, with a list of them.
            ("FOUNDRY_MAX_LFS", (self.max_bytes - self.max_bytes / 32).to_string()),
            ("FOUNDRY_MAX_BUNDLE", self.max_bytes.to_string()),
        ]
    }
}

/// Largest file that is taken, in bytes; an import refuses larger ones.
pub const MAX_WORK_FILE: u64 = 64 << 20;
/// Largest bundle that is taken, in bytes, unless an operator chooses another limit.
pub const MAX_WORK_BUNDLE: u64 = 256 << 20;
/// Most new files that are taken; directories with very many are left out beyond that.
const MAX_WORK_FILES: u64 = 40_000;
/// Most notices of a work.
pub const MAX_NOTICES: usize = 50;
/// Bytes of the texts of all notices of a work.
pub const MAX_NOTICE_BYTES: usize = 4 << 10;

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// A linked worktree is left out.
    LinkedWorktree,
    /// A submodule is not checked out.
    SubmoduleAbsent,
    /// Files below a submodule are left out.
    SubmoduleChanged,
    /// Commits of another branch are left out.
    OtherBranch,
    /// Stashes are left out.
    Stash,
    /// A file or directory cannot be read.
    Unreadable,
    /// A file is over [`MAX_WORK_FILE`].
    TooLarge,
    /// A new file is left out, as all together are too large for a bundle; a changed one is as in the base.
    OverTotal,
    /// Files are ignored by a rule that the base does not have.
    IgnoredByWork,
    /// A file over [`MAX_WORK_FILE`] is ignored, and no rule of the base ignores a directory above it.
    LargeIgnored,
    /// Files of Git LFS are too large to be handed over: they are in the sandbox alone, the work has their pointers.
    LfsObjects,
    /// Files of Git LFS are pointers in the sandbox.
    LfsPointers,
    /// A git operation is unfinished.
    Operation,
    /// The tree was compared without its history.
    RepositoryLost,
    /// A repository inside the tree is taken as plain files.
    NestedRepository,
    /// The work does not descend from its base.
    HistoryRewritten,
    /// The agent's commits are left out, as they contain a file over [`MAX_WORK_FILE`] or are too large for a bundle.
    HistoryLeftOut,
    /// A directory has very many new files.
    ManyFiles,
    /// Files differ in their line endings alone.
    LineEndings,
    /// Further notices were left out.
    More,
}

impl NoticeKind {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "linked_worktree" => Self::LinkedWorktree,
            "submodule_absent" => Self::SubmoduleAbsent,
            "submodule_changed" => Self::SubmoduleChanged,
            "other_branch" => Self::OtherBranch,
            "stash" => Self::Stash,
            "unreadable" => Self::Unreadable,
            "too_large" => Self::TooLarge,
            "large_ignored" => Self::LargeIgnored,
            "over_total" => Self::OverTotal,
            "ignored_by_work" => Self::IgnoredByWork,
            "lfs_objects" => Self::LfsObjects,
            "lfs_pointers" => Self::LfsPointers,
            "operation" => Self::Operation,
            "repository_lost" => Self::RepositoryLost,
            "nested_repository" => Self::NestedRepository,
            "history_rewritten" => Self::HistoryRewritten,
            "history_left_out" => Self::HistoryLeftOut,
            "many_files" => Self::ManyFiles,
            "line_endings" => Self::LineEndings,
            "more" => Self::More,
            _ => return None,
        })
    }
}

/// Something that the script noticed. Its texts were written by the agent: data, without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub kind: NoticeKind,
    /// Commits, files or bytes.
    pub count: i64,
    /// Name of a branch; may be empty.
    pub branch: String,
    /// Path in the tree; may be empty.
    pub path: String,
    /// A word that depends on the kind; may be empty.
    pub detail: String,
}

/// What the script printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkBundleOutput {
    /// The head commit.
    pub head: CommitId,
    /// At most [`MAX_NOTICES`].
    pub notices: Vec<Notice>,
}

impl WorkBundleOutput {
    /// Reads standard output, which a hostile sandbox may have written. Only the head must be there: a line that is no
    /// notice is dropped, and what exceeds the limits is counted in a last notice.
    ///
    /// # Errors
    /// When the first line is not a commit id.
    pub fn parse(stdout: &str) -> crate::Result<Self> {
        let mut lines = stdout.lines();
        let head = CommitId::parse(lines.next().unwrap_or_default().trim())?;
        let (mut notices, mut bytes, mut more) = (Vec::new(), 0, 0_i64);
        for notice in lines.filter_map(notice) {
            let size = notice.branch.len() + notice.path.len() + notice.detail.len();
            if notice.kind == NoticeKind::More {
                more = more.saturating_add(notice.count);
            } else if notices.len() + 1 >= MAX_NOTICES || bytes + size > MAX_NOTICE_BYTES {
                more = more.saturating_add(1);
            } else if !notices.contains(&notice) {
                bytes += size;
                notices.push(notice);
            }
        }
        if more > 0 {
            let (branch, path, detail) = (String::new(), String::new(), String::new());
            notices.push(Notice { kind: NoticeKind::More, count: more, branch, path, detail });
        }
        Ok(Self { head, notices })
    }
}

fn notice(line: &str) -> Option<Notice> {
    let mut fields = line.split('\t');
    let mut next = |most: usize| -> Option<String> {
        let text: String = fields.next()?.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        Some(first_bytes(&text, most))
    };
    let kind = NoticeKind::parse(&next(40)?)?;
    let count = next(20)?.trim().parse().ok().filter(|n| *n >= 0)?;
    Some(Notice { kind, count, branch: next(200)?, path: next(400)?, detail: next(100)? })
}

/// The first bytes of a text, cut between characters.
fn first_bytes(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
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
    /// The agent deleted the work tree.
    TreeGone,
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
            66 => Self::TreeGone,
            _ => Self::Failed,
        }
    }
}
