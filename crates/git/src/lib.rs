//! The git engine: bare mirrors of remote repositories, import of the work that comes out of a
//! sandbox, and bounded reads of both. No database and no gRPC.
//!
//! `git` always runs as a child process under [`Git`], which fixes its environment, its configuration and its limits.
//! Whatever comes from a user, a remote or a sandbox is data: it is parsed into [`RemoteUrl`], [`BranchName`],
//! [`RepoPath`], [`WorkName`], [`CommitId`] before it reaches a command line, where it stands behind
//! `--end-of-options`. Git never runs in a tree that an agent can write: a sandbox runs [`WORK_BUNDLE_SCRIPT`] itself
//! and hands over a bundle, which [`Mirror::import_bundle`] examines in quarantine.

mod access;
mod address;
mod adopt_published;
mod allowed_host;
mod clone;
mod command;
mod error;
mod lfs;
mod lock;
mod mirror;
mod name;
mod network;
mod path;
mod process;
mod remote;
mod ssh_url;
mod url_policy;
mod work_bundle;

pub use access::Access;
pub use adopt_published::{ADOPT_PUBLISHED_SCRIPT, AdoptPublished};
pub use allowed_host::{AllowedHost, AllowedHostError};
pub use clone::{AGENT_EMAIL, CloneSpec};
pub use command::{Git, GitCommand, GitVersion};
pub use error::{GitError, GitErrorKind};
pub use mirror::{
    Absorbed, Branch, BranchPush, Branches, ChangeKind, ChangeTotals, CommitSummary, EntryKind,
    FetchProtocol, FetchReport, FileChange, FileContent, History, ImportLimits, ImportedWork, LfsFetch,
    LfsLeftOut, LfsUpload, Merged, MergedBase, Mirror, MirrorLimits, Object, ObjectKind, Patch, PublishSpec,
    Publishable, PublishedWork, Pushed, PushedAll, Refusal, RemoteTip, ReplaySpec, Replayed, Revision,
    ServedRefs, ServedWork, Submodule, TreeEntry, TreePage, TrialMerge,
};
pub use name::{BranchName, BranchNameError, CommitId, ObjectId, WorkName};
pub use network::Network;
pub use path::{PathError, RepoPath};
pub use process::{Output, Piped, RunLimits};
pub use remote::RemoteUrl;
pub use url_policy::{UrlError, UrlPolicy};
pub use work_bundle::{
    MAX_NOTICE_BYTES, MAX_NOTICES, MAX_WORK_BUNDLE, MAX_WORK_FILE, Notice, NoticeKind, WORK_BUNDLE_SCRIPT,
    WorkBundle, WorkBundleExit, WorkBundleOutput,
};

/// A result with this crate's error.
pub type Result<T, E = GitError> = std::result::Result<T, E>;
