//! What is known of a pull request.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{ForgeError, ForgeErrorKind, Result};

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
    /// Name of the account that has opened it; empty if the host does not say.
    pub author: String,
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
                        checks.failing.push(cut(&crate::error::words(&name), MAX_NAME));
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
    /// The last review of each reviewer that approves, by its place in the list: what they wrote before it is settled.
    pub(crate) fn approvals<'a>(
        reviews: impl IntoIterator<Item = (&'a str, Option<bool>)>,
    ) -> BTreeMap<&'a str, usize> {
        let all = reviews.into_iter().enumerate();
        all.filter(|(_, (_, approves))| *approves == Some(true)).map(|(at, (who, _))| (who, at)).collect()
    }

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

/// Largest answer that is kept, in bytes: anybody can write at a public host.
const MAX_KEPT: usize = 64 << 10;
/// Most bytes of all answers about one pull request that are kept. What is not is read again in full.
const MAX_KNOWN: usize = 128 << 10;

impl Known {
    /// Keeps an answer, unless that is too much.
    pub(crate) fn keep(&mut self, path: &str, mark: String, value: serde_json::Value) {
        let size = |value: &serde_json::Value| value.to_string().len();
        let new = size(&value);
        if new > MAX_KEPT || new + self.0.values().map(|(_, kept)| size(kept)).sum::<usize>() > MAX_KNOWN {
            return;
        }
        self.0.insert(path.to_owned(), (mark, value));
    }

    /// Keeps what was known of a path that need not be asked for now.
    pub(crate) fn carry(&mut self, path: &str, known: &Self) {
        if let Some((mark, value)) = known.0.get(path).filter(|_| !self.0.contains_key(path)) {
            self.keep(path, mark.clone(), value.clone());
        }
    }
}

/// Reads a text that people have written, as far as a remark can show it; null is empty.
pub(crate) fn written<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<String, D::Error> {
    let text = Option::<String>::deserialize(from)?.unwrap_or_default();
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c.is_control());
    // Line breaks and control characters become shorter.
    Ok(cut(text, 2 * MAX_REMARK_BYTES))
}

/// What a reviewer has written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Name of the reviewer at the host.
    pub reviewer: String,
    /// Text of bounded length, with line breaks and no other control characters.
    pub text: String,
    /// The file that it is about; empty = the whole.
    pub path: String,
    /// The line of the file, which moves with the commits; 0 = none.
    pub line: u32,
    /// What the host knows it by; empty = nothing.
    pub id: String,
    /// Whether the host says that its author may write to the repository, and is neither a program nor who opened the pull
    /// request: what those write may be an answer to what we did.
    pub trusted: bool,
    /// Whether its author wants changes, rather than comments.
    pub wants_changes: bool,
}

/// Whether an account belongs to a program, as far as its name says: an app at GitHub, a service account or the token of a
/// project or group at GitLab, the actions of Gitea or Forgejo.
pub(crate) fn is_program(name: &str) -> bool {
    let is_token = |begin: &str| {
        name.strip_prefix(begin).is_some_and(|rest| {
            let end = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            end.len() < rest.len() && end.starts_with("_bot")
        })
    };
    name.ends_with("[bot]")
        || name.starts_with("service_account_")
        || matches!(name, "gitea-actions" | "forgejo-actions")
        || is_token("project_")
        || is_token("group_")
}

/// Most remarks of a pull request that are kept: the newest.
const MAX_REMARKS: usize = 8;
/// Longest text of one, in characters.
const MAX_REMARK: usize = 600;
/// Longest text of one, in bytes.
const MAX_REMARK_BYTES: usize = 1_200;
/// Longest path of one, in bytes.
const MAX_PATH: usize = 300;
/// Longest name of a reviewer or a check, in bytes.
const MAX_NAME: usize = 100;
/// Most bytes of all that is kept of remarks: they are part of every work and task.
const MAX_REMARKS_BYTES: usize = 4 << 10;

/// The longest beginning with at most so many bytes.
pub(crate) fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

impl Remark {
    /// One with the texts of a host, cut to what is kept.
    pub(crate) fn new(reviewer: &str, text: &str, path: &str, line: Option<u32>) -> Self {
        let text: String = text
            .replace("\r\n", "\n")
            .chars()
            .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
            .collect();
        Self {
            reviewer: cut(&crate::error::words(reviewer), MAX_NAME),
            text: cut(&text.trim().chars().take(MAX_REMARK).collect::<String>(), MAX_REMARK_BYTES),
            path: cut(&crate::error::words(path), MAX_PATH),
            line: line.unwrap_or_default(),
            ..Self::default()
        }
    }

    /// The same with what the host knows it by, and whether its author is trusted.
    pub(crate) fn known_as(self, id: String, trusted: bool) -> Self {
        Self { id, trusted, ..self }
    }

    /// The same of an author who wants changes, or does not.
    pub(crate) fn wanting(self, wants_changes: bool) -> Self {
        Self { wants_changes, ..self }
    }

    fn size(&self) -> usize {
        self.reviewer.len() + self.text.len() + self.path.len() + self.id.len()
    }

    /// The newest of them that fit, the oldest first, without those that say nothing; and how many did not fit. Each is cut
    /// by itself, so that others do not change it, and nobody can drive out what those wrote who are trusted, nor a comment
    /// what those wrote who want changes and are trusted as much.
    pub(crate) fn newest(all: Vec<Self>) -> (Vec<Self>, u32) {
        let all: Vec<Self> = all.into_iter().filter(|remark| !remark.text.is_empty()).collect();
        let (count, mut bytes) = (all.len(), 0);
        let mut newest: Vec<(usize, Self)> = all.into_iter().enumerate().rev().collect();
        newest.sort_by_key(|(_, remark)| (!remark.trusted, !remark.wants_changes));
        let fitting = newest.into_iter().take(MAX_REMARKS).take_while(|(_, remark)| {
            bytes += remark.size();
            bytes <= MAX_REMARKS_BYTES
        });
        let mut kept: Vec<(usize, Self)> = fitting.collect();
        kept.sort_by_key(|(at, _)| *at);
        let left_out = u32::try_from(count - kept.len()).unwrap_or(u32::MAX);
        (kept.into_iter().map(|(_, remark)| remark).collect(), left_out)
    }
}

/// Checks and reviews of a pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// How its checks stand, with those that failed.
    pub checks: Checks,
    /// How its reviews stand, all reviewers taken together.
    pub review: Review,
    /// What reviewers have written and not settled since, the oldest first.
    pub remarks: Vec<Remark>,
    /// How many of them are not among these, as they did not fit.
    pub remarks_left_out: u32,
    /// Whether one of the reviewers who want changes is trusted.
    pub trusted_changes_requested: bool,
    /// Why some of it was not read, if the credential may not: the rest is as the host has it.
    pub denied: Option<ForgeError>,
    /// For the next call.
    pub known: Known,
}

impl Facts {
    /// What a call has read, or nothing if the credential may not, which is noted.
    pub(crate) fn permitted<T: Default>(read: Result<T>, denied: &mut Option<ForgeError>) -> Result<T> {
        match read {
            Err(e) if e.kind() == ForgeErrorKind::Forbidden => {
                denied.get_or_insert(e);
                Ok(T::default())
            }
            read => read,
        }
    }
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
    fn remarks_are_kept_by_bytes_the_newest_of_them_and_the_rest_is_counted() {
        let long = |n: usize| {
            let text = format!("{n}{}", "漢".repeat(600));
            Remark::new(&"漢".repeat(100), &text, &"漢".repeat(300), None).known_as(n.to_string(), true)
        };
        let one = long(3);
        assert!(one.text.len() > 1_190 && one.size() <= 1_601, "{}", one.size());
        let (kept, left_out) = Remark::newest((0..8).map(long).collect());
        let ids: Vec<&str> = kept.iter().map(|remark| remark.id.as_str()).collect();
        assert_eq!((ids, left_out), (vec!["6", "7"], 6));
        assert_eq!(kept[1], long(7), "what is kept is not cut for the others");
        let short = (0..10).map(|n| Remark::new("ann", &format!("{n}"), "", None)).collect();
        let (kept, left_out) = Remark::newest(short);
        assert_eq!((kept.len(), left_out, kept[0].text.as_str()), (8, 2, "2"));
        let of_a_stranger = |n: usize| long(n).known_as(n.to_string(), n == 0);
        let (kept, _) = Remark::newest((0..8).map(of_a_stranger).collect());
        assert_eq!(kept.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["0", "7"]);
        let comment = |n: usize| long(n).wanting(n == 0);
        let (kept, _) = Remark::newest((0..8).map(comment).collect());
        assert_eq!(
            kept.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(),
            ["0", "7"],
            "a comment drives no wish out"
        );
        let failing = Checks::of([("漢".repeat(100), Some(false))]).failing;
        assert_eq!(failing[0].len(), 99);
    }

    #[test]
    fn a_remark_is_the_same_of_a_text_that_was_cut_when_it_was_read() {
        for text in ["\u{1}\r\n Why?".to_owned(), "\u{85}é\r\n".repeat(2_000), "漢".repeat(1 << 20)] {
            let read = written(serde_json::Value::from(text.clone())).unwrap();
            assert!(read.len() <= 2 * MAX_REMARK_BYTES);
            assert_eq!(Remark::new("ann", &read, "", None), Remark::new("ann", &text, "", None));
        }
        assert_eq!(written(serde_json::Value::Null).unwrap(), "");
    }

    #[test]
    fn what_is_kept_of_answers_is_bounded() {
        let mut known = Known::default();
        known.keep("large", "a".to_owned(), "x".repeat(MAX_KEPT).into());
        assert_eq!(known, Known::default());
        for n in 0..100 {
            known.keep(&n.to_string(), "a".to_owned(), "x".repeat(10_000).into());
        }
        assert_eq!(known.0.len(), MAX_KNOWN / 10_002);
    }

    #[test]
    fn accounts_of_programs_are_known_by_their_names() {
        for name in [
            "renovate[bot]",
            "project_12_bot",
            "group_3_bot_0a1b",
            "service_account_group_3_0a1b",
            "gitea-actions",
        ] {
            assert!(is_program(name), "{name}");
        }
        for name in ["ann", "project_bot", "project_x_bot", "robot", "my_project_1_bot"] {
            assert!(!is_program(name), "{name}");
        }
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
