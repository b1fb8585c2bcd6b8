//! What is known of a pull request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whether a pull request can still be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Neither merged nor closed.
    Open,
    /// Its commits are in the base, as they were or squashed.
    Merged,
    /// Closed without being merged.
    Closed,
}

/// A pull request, or merge request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// Number in the repository.
    pub number: u64,
    /// The branch with the commits.
    pub head: String,
    /// Commit at the head of that branch.
    pub head_commit: String,
    /// Whether that branch is in the same repository, not in a fork.
    pub is_own: bool,
    /// The branch that it is to be merged into.
    pub base: String,
    /// Its title, as the host shows it.
    pub title: String,
    /// Its description in Markdown; may be empty.
    pub body: String,
    /// Where people see it.
    pub url: String,
    /// Whether it is open.
    pub state: State,
    /// Whether it is marked as not ready.
    pub draft: bool,
    /// Whether somebody was asked for a review and has not given one.
    pub review_requested: bool,
}

/// What a pull request is created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPullRequest {
    /// The branch with the commits, in the same repository.
    pub head: String,
    /// The branch that it is to be merged into.
    pub base: String,
    /// Title; empty leaves that of an existing one.
    pub title: String,
    /// Description in Markdown; empty leaves that of an existing one.
    pub body: String,
    /// Whether to mark it as not ready. It is not changed later.
    pub draft: bool,
    /// What makes a new one known as the one of this request, see [`mark`](crate::mark); empty = nothing.
    pub mark: String,
}

/// Which parts of a pull request somebody has chosen; the others are proposals, for a new one alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The title replaces that of a pull request that exists.
    pub title: bool,
    /// The text replaces that of a pull request that exists.
    pub body: bool,
    /// A pull request of another base is another one.
    pub base: bool,
}

/// A page of pull requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The pull requests.
    pub items: Vec<PullRequest>,
    /// Whether there may be another page.
    pub more: bool,
}

/// Whether anything has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Whether it may have.
    pub changed: bool,
    /// What to ask with next time.
    pub mark: String,
}

/// How the checks of a pull request stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChecksState {
    /// Not read, or hidden from the credential.
    #[default]
    Unknown,
    /// There are none.
    None,
    /// Some have not ended, and none has failed.
    Pending,
    /// At least one has failed.
    Failed,
    /// All have passed.
    Passed,
}

/// The checks of the newest commit of a pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// How they stand together.
    pub state: ChecksState,
    /// Those that passed, or were skipped.
    pub passed: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that have not ended.
    pub pending: u32,
    /// Names of those that failed, at most ten.
    pub failing: Vec<String>,
}

impl Checks {
    /// The checks with these names and results; a result of `None` is one that has not ended.
    pub(crate) fn of(results: impl IntoIterator<Item = (String, Option<bool>)>) -> Self {
        let mut checks = Self::default();
        for (name, passed) in results {
            match passed {
                Some(true) => checks.passed += 1,
                None => checks.pending += 1,
                Some(false) => {
                    checks.failed += 1;
                    if checks.failing.len() < 10 {
                        checks.failing.push(crate::error::words(&name).chars().take(100).collect());
                    }
                }
            }
        }
        checks.state = match (checks.failed, checks.pending, checks.passed) {
            (0, 0, 0) => ChecksState::None,
            (0, 0, _) => ChecksState::Passed,
            (0, ..) => ChecksState::Pending,
            _ => ChecksState::Failed,
        };
        checks
    }
}

/// How the reviews of a pull request stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Review {
    /// The reviews have not been read yet.
    #[default]
    Unknown,
    /// Nobody was asked, and nobody has reviewed it.
    None,
    /// Somebody was asked and has not answered.
    Required,
    /// At least one reviewer approves, and none wants changes.
    Approved,
    /// At least one reviewer wants changes.
    ChangesRequested,
}

impl Review {
    /// Those whose last word is that they want changes.
    pub(crate) fn wanting(reviews: &[(String, Option<bool>)]) -> Vec<String> {
        let mut last = BTreeMap::new();
        for (reviewer, approves) in reviews {
            last.insert(reviewer.clone(), *approves);
        }
        last.into_iter().filter(|(_, approves)| *approves == Some(false)).map(|(who, _)| who).collect()
    }

    /// The outcome of reviews, the oldest first: the last word of each reviewer counts, `None` takes it back.
    pub(crate) fn of(reviews: impl IntoIterator<Item = (String, Option<bool>)>, requested: bool) -> Self {
        let mut last = BTreeMap::new();
        for (reviewer, approves) in reviews {
            last.insert(reviewer, approves);
        }
        if last.values().any(|a| *a == Some(false)) {
            Self::ChangesRequested
        } else if last.values().any(|a| *a == Some(true)) {
            Self::Approved
        } else if requested {
            Self::Required
        } else {
            Self::None
        }
    }
}

/// Answers of the host with their marks, which make the next call cheap; opaque to everyone else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known(pub(crate) BTreeMap<String, (String, serde_json::Value)>);

/// What a reviewer has written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Name of the reviewer at the host.
    pub reviewer: String,
    /// Text of bounded length, with line breaks and no other control characters.
    pub text: String,
    /// The file that it is about; empty = the whole.
    pub path: String,
    /// The line of the file; 0 = none.
    pub line: u32,
}

/// Most remarks of a pull request that are kept: the newest.
const MAX_REMARKS: usize = 8;
/// Longest text of one, in characters.
const MAX_REMARK: usize = 600;
/// Longest path of one, in characters.
const MAX_PATH: usize = 300;

impl Remark {
    /// One with the texts of a host, cut to what is kept.
    pub(crate) fn new(reviewer: &str, text: &str, path: &str, line: Option<u32>) -> Self {
        let text: String = text
            .replace("\r\n", "\n")
            .chars()
            .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
            .collect();
        Self {
            reviewer: crate::error::words(reviewer).chars().take(100).collect(),
            text: text.trim().chars().take(MAX_REMARK).collect(),
            path: crate::error::words(path).chars().take(MAX_PATH).collect(),
            line: line.unwrap_or_default(),
        }
    }

    /// The newest of them, the oldest first, without those that say nothing.
    pub(crate) fn newest(all: Vec<Self>) -> Vec<Self> {
        let mut all: Vec<Self> = all.into_iter().filter(|remark| !remark.text.is_empty()).collect();
        all.drain(..all.len().saturating_sub(MAX_REMARKS));
        all
    }
}

/// Checks and reviews of a pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// How its checks stand, with those that failed.
    pub checks: Checks,
    /// How its reviews stand, all reviewers taken together.
    pub review: Review,
    /// What reviewers who want changes have written, the oldest first.
    pub remarks: Vec<Remark>,
    /// For the next call.
    pub known: Known,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_check_is_a_failure_and_one_that_runs_keeps_the_rest_waiting() {
        let of = |results: &[Option<bool>]| {
            Checks::of(results.iter().map(|passed| ("a check".to_owned(), *passed))).state
        };
        assert_eq!(of(&[]), ChecksState::None);
        assert_eq!(of(&[Some(true), Some(true)]), ChecksState::Passed);
        assert_eq!(of(&[Some(true), None]), ChecksState::Pending);
        assert_eq!(of(&[Some(true), None, Some(false)]), ChecksState::Failed);
        let failing = Checks::of((0..12).map(|n| (format!("check\n{n}"), Some(false))));
        assert_eq!((failing.failed, failing.failing.len(), failing.failing[3].as_str()), (12, 10, "check 3"));
    }

    #[test]
    fn the_last_word_of_each_reviewer_counts() {
        let of = |reviews: &[(&str, Option<bool>)], requested| {
            Review::of(reviews.iter().map(|(who, said)| ((*who).to_owned(), *said)), requested)
        };
        assert_eq!(of(&[], false), Review::None);
        assert_eq!(of(&[], true), Review::Required);
        assert_eq!(of(&[("a", Some(false)), ("a", Some(true))], true), Review::Approved);
        assert_eq!(of(&[("a", Some(true)), ("b", Some(false))], false), Review::ChangesRequested);
        assert_eq!(of(&[("a", Some(false)), ("a", None)], false), Review::None);
    }
}
