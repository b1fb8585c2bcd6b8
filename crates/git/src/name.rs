//! Names from outside: branches, commits, and the refs under which work is kept.

use std::fmt;
use std::str::FromStr;

use crate::{GitError, GitErrorKind};

/// Longest branch name; a loose ref is a file whose name must fit the file system.
const MAX_BRANCH_BYTES: usize = 244;

/// Why a branch name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("BRANCH_NAME_INVALID: a branch name {0}")]
pub struct BranchNameError(&'static str);

impl From<BranchNameError> for GitError {
    fn from(e: BranchNameError) -> Self {
        GitError::new(GitErrorKind::Invalid, "BRANCH_NAME_INVALID", format!("a branch name {}", e.0))
    }
}

impl From<BranchNameError> for foundry_core::Error {
    fn from(e: BranchNameError) -> Self {
        GitError::from(e).into()
    }
}

/// A branch name by git's own rules (`git check-ref-format --branch`), UTF-8, never option-like. It may still hold
/// `$(id)`, `;` or quotes: it is data and never passed to a shell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchName(String);

impl BranchName {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, BranchNameError> {
        let refuse = |why| Err(BranchNameError(why));
        if name.is_empty() || name.len() > MAX_BRANCH_BYTES {
            return refuse("must be 1 to 244 bytes");
        }
        if name.starts_with('-') {
            return refuse("must not start with '-'");
        }
        if name.starts_with("refs/") {
            return refuse("must be that of a branch alone, without refs/heads/");
        }
        if name == "HEAD" || name == "@" {
            return refuse("must not be HEAD or @");
        }
        if name.bytes().any(|b| b <= b' ' || b == 0x7f || b"~^:?*[\\".contains(&b)) {
            return refuse("must not contain spaces, control characters or any of ~^:?*[\\");
        }
        if name.contains("..") || name.contains("@{") || name.ends_with('.') {
            return refuse("must not contain '..' or '@{', and must not end with '.'");
        }
        if name.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock")) {
            return refuse("must not have a component that is empty, starts with '.' or ends with '.lock'");
        }
        Ok(Self(name.to_owned()))
    }

    /// The name without `refs/heads/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full ref name.
    pub fn to_ref(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

/// The name under which one task's work is kept: `refs/foundry/work/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkName(String);

impl WorkName {
    /// 1 to 64 of `A-Z a-z 0-9 _`; a task id qualifies.
    pub fn parse(name: &str) -> Result<Self, GitError> {
        let ok =
            (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !ok {
            return Err(GitError::new(
                GitErrorKind::Invalid,
                "WORK_NAME_INVALID",
                "a work name must be 1 to 64 letters, digits or underscores",
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name without `refs/foundry/work/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ref that holds the newest imported work.
    pub fn work_ref(&self) -> String {
        format!("refs/foundry/work/{}", self.0)
    }

    /// The ref that keeps the recorded base alive.
    pub fn base_ref(&self) -> String {
        format!("refs/foundry/base/{}", self.0)
    }

    /// The ref that keeps the work that was published last.
    pub fn published_ref(&self) -> String {
        format!("refs/foundry/published/{}", self.0)
    }

    /// The beginning of the refs that a job keeps; the name is that of the job.
    pub fn job_ref(&self) -> String {
        format!("refs/foundry/jobs/{}", self.0)
    }

    /// The ref that keeps a tip that a push has replaced; the name is that of the push.
    pub fn replaced_ref(&self) -> String {
        format!("refs/foundry/replaced/{}", self.0)
    }
}

impl From<&foundry_core::TaskId> for WorkName {
    fn from(id: &foundry_core::TaskId) -> Self {
        Self(id.as_str().to_owned())
    }
}

/// The id of any object: 40 (SHA-1) or 64 (SHA-256) lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(String);

/// The id of a commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

impl CommitId {
    /// The same id as that of an object.
    pub fn to_object(&self) -> ObjectId {
        ObjectId(self.0.clone())
    }
}

macro_rules! textual {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<$name> for String {
            fn from(v: $name) -> String {
                v.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}
textual!(BranchName, WorkName, ObjectId, CommitId);

macro_rules! object_ids {
    ($($name:ident),*) => {$(
        impl $name {
            /// Checks the shape, not whether the object exists.
            pub fn parse(text: &str) -> Result<Self, GitError> {
                let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if hex && matches!(text.len(), 40 | 64) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(GitError::new(
                        GitErrorKind::Invalid,
                        "OBJECT_ID_INVALID",
                        "an object id must be 40 or 64 lowercase hex digits",
                    ))
                }
            }

            /// The hex digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = GitError;
            fn from_str(s: &str) -> Result<Self, GitError> {
                Self::parse(s)
            }
        }
        impl TryFrom<String> for $name {
            type Error = GitError;
            fn try_from(s: String) -> Result<Self, GitError> {
                Self::parse(&s)
            }
        }
    )*};
}
object_ids!(ObjectId, CommitId);

impl TryFrom<String> for BranchName {
    type Error = BranchNameError;
    fn try_from(s: String) -> Result<Self, BranchNameError> {
        Self::parse(&s)
    }
}

impl TryFrom<String> for WorkName {
    type Error = GitError;
    fn try_from(s: String) -> Result<Self, GitError> {
        Self::parse(&s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_hostile_but_legal_branch_names_as_data() {
        for name in ["main", "feat/x", "$(id)", "a;b", "'", "\"", "é/日本", "a/-b", "`x`", "a&b|c", "x@y"]
        {
            assert!(BranchName::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn refuses_what_git_refuses_and_option_like_names() {
        for name in [
            "",
            "-x",
            "--upload-pack=x",
            "a b",
            "a..b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "a~",
            "a^",
            "a:b",
            "a?b",
            "a*",
            "a[b",
            "a\\b",
            "@",
            "a@{b",
            "HEAD",
            "a\nb",
            "a\u{7f}b",
            "refs/heads/x",
        ] {
            assert!(BranchName::parse(name).is_err(), "{name:?}");
        }
        assert!(BranchName::parse(&"x".repeat(245)).is_err());
    }

    #[test]
    fn keeps_paths_and_refs_out_of_work_names_and_ids() {
        for name in ["", "a/b", "..", "a b", "-a", "é"] {
            assert!(WorkName::parse(name).is_err(), "{name:?}");
        }
        for id in ["", "HEAD", "-c", &"g".repeat(40), &"A".repeat(40), &"a".repeat(41)] {
            assert!(CommitId::parse(id).is_err(), "{id:?}");
        }
    }
}
