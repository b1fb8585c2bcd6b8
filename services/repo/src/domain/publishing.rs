//! When the work of a task may be pushed to a branch, and what to do about a refusal.

use foundry_core::Error;
use foundry_proto::common::v1::{Condition, Publication, WorkNotice, WorkNoticeKind};
use foundry_proto::repo::v1::{JobBranch, PublishSettings};

/// What is known of a branch before a push.
#[derive(Clone, Copy, Debug)]
pub struct Branch<'a> {
    /// Name without `refs/heads/`.
    pub name: &'a str,
    /// Where the remote has it now.
    pub tip: Option<&'a str>,
    /// Where it was at the last synchronization.
    pub recorded: Option<&'a str>,
    /// Whether it is the default branch.
    pub is_default: bool,
    /// Whether the task has published to it before.
    pub is_owned: bool,
    /// Whether the task was created to work on it.
    pub is_worked_on: bool,
    /// Whether the tip is a commit that was made of the work of the task.
    pub is_ours: bool,
    /// Whether the request makes a branch again that was deleted.
    pub remakes: bool,
    /// Whether the request names it.
    pub is_named: bool,
    /// Where the requester has seen it.
    pub seen: Option<&'a str>,
    /// Whether commits that the requester must have seen may be replaced.
    pub replaces: bool,
}

/// Why a push is not tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub reason: &'static str,
    pub message: String,
}

impl Refused {
    /// As a plan shows it.
    pub fn shown(&self) -> Condition {
        Condition {
            reason: self.reason.to_owned(),
            message: self.message.clone(),
            next_action: next_action(self.reason).to_owned(),
            ..Condition::default()
        }
    }
}

/// The default branch is pushed to only by tasks that were created to work on it.
pub fn default_branch(name: &str) -> Error {
    let refused = is_default(name);
    Error::precondition(refused.reason, name, refused.message).next_action(next_action(refused.reason))
}

fn is_default(name: &str) -> Refused {
    let message = format!("{name} is the default branch of the repository, which Foundry does not push to");
    Refused { reason: "DEFAULT_BRANCH_REFUSED", message }
}

/// Commits of the default branch are never replaced.
pub fn default_rewritten(name: &str) -> Refused {
    let message = format!(
        "{name} is the default branch of the repository, and the work would replace commits of it, which Foundry does not do"
    );
    Refused { reason: "DEFAULT_BRANCH_REFUSED", message }
}

/// A task without changes.
pub fn nothing_to_publish(task: &str) -> Error {
    Error::precondition("NOTHING_TO_PUBLISH", task, "the work of the task has no changes")
        .next_action(next_action("NOTHING_TO_PUBLISH"))
}

/// Why a work is not published as its hand-over has left it, unless that is allowed: files with conflict markers, at which
/// an operation of git stopped, by `allow_conflicts` alone; pointers of Git LFS whose files the remote does not have, by
/// `force`.
pub fn unfinished(settings: &PublishSettings, notices: &[WorkNotice]) -> Vec<Refused> {
    let stopped = |n: &&WorkNotice| n.kind() == WorkNoticeKind::Operation && n.count > 0;
    let stopped = notices.iter().find(stopped).filter(|_| !settings.allow_conflicts).map(|notice| {
        let message = format!("the work is not finished: {}", foundry_service::notice_words(notice).0);
        Refused { reason: "WORK_IN_CONFLICT", message }
    });
    stopped.into_iter().collect()
}

/// Why a task does not publish to the branch of another one that is open, unless it is forced to.
pub fn has_task(settings: &PublishSettings, branch: &str, owner: Option<&str>) -> Option<Refused> {
    let owner = owner.filter(|_| !settings.force)?;
    let message = format!("the task {owner}, which is open, has the branch {branch}; nothing was pushed");
    Some(Refused { reason: "BRANCH_HAS_TASK", message })
}

/// That the remote has a branch beside which it cannot have this one, as their names are paths of files.
pub fn in_the_way(branch: &str, other: &str) -> Refused {
    let message = format!("the remote has the branch {other}, and cannot have {branch} beside it");
    Refused { reason: "BRANCH_CONFLICT", message }
}

/// Why the work must not be pushed to this branch; none if it may.
pub fn refused(branch: Branch<'_>) -> Option<Refused> {
    if branch.is_default && !branch.is_worked_on {
        return Some(is_default(branch.name));
    }
    let is_gone = branch.tip.is_none() && (branch.is_owned || branch.is_worked_on);
    if is_gone && !branch.remakes {
        let has = if branch.is_owned { "has published to" } else { "works on" };
        let message = format!(
            "the task {has} the branch {}, and the remote does not have it any more: it was merged or deleted \
             there",
            branch.name
        );
        return Some(Refused { reason: "BRANCH_DELETED", message });
    }
    if branch.tip != branch.recorded && !branch.is_ours && !is_gone {
        return Some(moved(branch.name, branch.recorded, branch.tip));
    }
    let must_be_seen = branch.seen.is_some() || (branch.replaces && branch.tip.is_some());
    if must_be_seen && branch.tip != branch.seen && !branch.is_ours {
        return Some(unseen(branch.name, branch.seen, branch.tip));
    }
    if branch.tip.is_some() && !branch.is_owned && !branch.is_worked_on && !branch.is_named {
        let message = format!("the remote has a branch {} that this task has not published", branch.name);
        return Some(Refused { reason: "BRANCH_NOT_OWNED", message });
    }
    None
}

/// The branch is not where it was expected.
pub fn moved(name: &str, expected: Option<&str>, found: Option<&str>) -> Refused {
    Refused {
        reason: "BRANCH_MOVED",
        message: format!("{}; nothing was pushed", elsewhere(name, expected, found)),
    }
}

/// That a branch is not where it was expected.
pub fn elsewhere(name: &str, expected: Option<&str>, found: Option<&str>) -> String {
    let place = |commit: Option<&str>| commit.map_or("absent".to_owned(), |commit| format!("at {commit}"));
    format!(
        "the branch {name} was {} when the repository was last synchronized, and is {} at the remote now",
        place(expected),
        place(found)
    )
}

/// The branch is not where the requester has seen it; a background synchronization may know it already.
fn unseen(name: &str, seen: Option<&str>, found: Option<&str>) -> Refused {
    let seen = seen.map_or("was not seen by the requester".to_owned(), |c| format!("was seen at {c}"));
    let found = found.map_or("absent".to_owned(), |c| format!("at {c}, which is not work of this task"));
    let message = format!("the branch {name} {seen}, and is {found}; nothing was pushed");
    Refused { reason: "BRANCH_MOVED", message }
}

/// Whether a branch came from the base of a work to where it is by nothing but actions: each move, the oldest first, is from
/// a commit to another one.
pub fn restacked_from(moves: &[(String, String)], base: &str, tip: &str) -> bool {
    let at = moves.iter().fold(base, |at, (from, to)| if from == at { to } else { at });
    at != base && at == tip
}

/// Whether the work is published as a single commit: as asked, or as it last was on this branch.
pub fn squashes(settings: &PublishSettings, before: Option<&Publication>) -> bool {
    settings.squash || (!settings.keep_commits && before.is_some_and(|before| before.squash))
}

/// What is to be known about a plan besides its figures; empty = nothing.
///
/// `squashed`: whether a single commit was wanted and made.
pub fn note(
    settings: &PublishSettings,
    before: Option<&Publication>,
    (planned, squashed): (&JobBranch, bool),
) -> String {
    let was_single = before.is_some_and(|p| p.squash);
    if settings.squash && !was_single && !squashed && planned.old_commit == planned.new_commit {
        return "the remote has the work already, so its commits stay as they are; with force they become one".to_owned();
    }
    if squashes(settings, before) && !settings.squash {
        return "as a single commit, as it was published before".to_owned();
    }
    String::new()
}

/// What is noteworthy of a branch, with that newer work of the task has arrived, is not imported yet, and so is not in it.
pub fn without_newest(note: &str) -> String {
    let text = "newer work of the task is still being imported, and is not in it: publish again afterwards";
    if note.is_empty() { text.to_owned() } else { format!("{note}; {text}") }
}

/// What a user can do about a publication that failed.
pub fn next_action(reason: &str) -> &'static str {
    match reason {
        "BRANCH_MOVED" => {
            "refresh the repository (`foundry repo refresh`), look at what was pushed, then publish again"
        }
        "BRANCH_HAS_TASK" => {
            "choose another branch, or archive or kill that task; or publish with force to push to its branch anyway"
        }
        "BRANCH_NOT_OWNED" => "name the branch explicitly to push to it, or choose another one",
        "BRANCH_CONFLICT" => "choose another branch",
        "BRANCH_DELETED" => "publish to another branch, or with force to make the branch again",
        "BRANCH_PROTECTED" => "publish to another branch, or have its rules changed at the host",
        "DEFAULT_BRANCH_REFUSED" => "publish to another branch, and merge it at the host",
        "NOTHING_TO_PUBLISH" => "let the agent change something first",
        "PUBLISH_NEEDS_FORCE" => {
            "have the agent pull the branch from origin to keep what others have pushed, and publish again; or publish with force \
             to replace the commits of the branch, or to another branch"
        }
        "RESTACKED_WORK_CONFLICT" => {
            "have the agent fetch the branch from origin and rebase its work onto it, then publish again"
        }
        "WORK_IN_CONFLICT" => {
            "have the agent finish or abort it, then publish; or publish the files with their markers: `--conflicts`, or the box in the dialog"
        }
        "LFS_OBJECTS_LEFT_OUT" => {
            "have the agent get the files, make them smaller, or store them without LFS; with force the pointers are published, and the \
             files are missing"
        }
        "LFS_UPLOAD_REFUSED" => "do what the host says, then publish again",
        "LFS_HOST_NOT_ALLOWED" => "have an operator allow the host (`repo.lfs_hosts`), then publish again",
        "PUSH_LFS_OBJECTS_MISSING" => "have the agent store the files without LFS, then publish again",
        "PUSH_NOT_FAST_FORWARD" => "publish to another branch: the host does not let commits be replaced",
        "PUSH_SECRET_FOUND" => {
            "have the agent remove the secret from all commits, then publish squashed; and revoke the secret"
        }
        "PUSH_UNSIGNED" => "the host wants signed commits: fetch the work, and push it signed",
        "PUSH_WORKFLOW_REFUSED" => {
            "publish with a credential that may change workflows, or without those files"
        }
        "PUSH_TOO_LARGE" => "have the agent remove large files from all commits, or make room at the host",
        "PUSH_FORBIDDEN" => "give Foundry write access to the repository",
        "PUSH_DECLINED" => "do what the host says, then publish again",
        "GIT_AUTH_REQUIRED" => "give Foundry access to the repository",
        "GIT_REMOTE_NOT_FOUND" => "check the URL of the repository",
        "REPOSITORY_REMOVED" => "register the repository again, and begin another task on it",
        "WORK_MISSING" => "start a turn of the task: its end brings the work again",
        _ => ANYTHING_ELSE,
    }
}

const ANYTHING_ELSE: &str = "publish again";

/// Whether a publication that failed with this reason has certainly not changed the remote.
pub fn is_refusal(reason: &str) -> bool {
    next_action(reason) != ANYTHING_ELSE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(settings: &PublishSettings, notices: &[WorkNotice]) -> Option<(&'static str, String)> {
        unfinished(settings, notices).into_iter().next().map(|refused| (refused.reason, refused.message))
    }

    #[test]
    fn files_with_conflict_markers_are_published_by_a_consent_of_their_own_alone() {
        let notice = |kind: WorkNoticeKind, count| WorkNotice {
            kind: kind.into(),
            count,
            detail: "rebase".to_owned(),
            ..WorkNotice::default()
        };
        let others = [notice(WorkNoticeKind::Operation, 0), notice(WorkNoticeKind::Stash, 2)];
        let plain = PublishSettings::default();
        assert_eq!(refusal(&plain, &others), None);
        let stopped = [notice(WorkNoticeKind::Operation, 1)];
        let text = "the work is not finished: rebase in progress, 1 file in conflict".to_owned();
        for force in [false, true] {
            let settings = PublishSettings { force, ..plain.clone() };
            assert_eq!(refusal(&settings, &stopped), Some(("WORK_IN_CONFLICT", text.clone())), "{force}");
        }
        assert_eq!(refusal(&PublishSettings { allow_conflicts: true, ..plain }, &stopped), None);
    }

    #[test]
    fn the_branch_of_an_open_task_is_another_tasks_only_by_force() {
        let plain = PublishSettings::default();
        assert_eq!(has_task(&plain, "feat/x", None), None);
        let refused = has_task(&plain, "feat/x", Some("task_1")).unwrap();
        assert_eq!(refused.reason, "BRANCH_HAS_TASK");
        assert!(refused.message.contains("task_1") && !refused.shown().next_action.is_empty(), "{refused:?}");
        let forced = PublishSettings { force: true, ..plain };
        assert_eq!(has_task(&forced, "feat/x", Some("task_1")), None);
    }

    const OWN: Branch<'_> = Branch {
        name: "feat/x",
        tip: None,
        recorded: None,
        is_default: false,
        is_owned: false,
        is_worked_on: false,
        is_ours: false,
        remakes: false,
        is_named: false,
        seen: None,
        replaces: false,
    };

    fn reason(branch: Branch<'_>) -> &'static str {
        refused(branch).map_or("", |r| r.reason)
    }

    #[test]
    fn a_new_branch_and_a_published_one_may_be_pushed() {
        assert_eq!(reason(OWN), "");
        let there = Branch { tip: Some("a"), recorded: Some("a"), ..OWN };
        assert_eq!(reason(Branch { is_owned: true, ..there }), "");
        assert_eq!(reason(Branch { is_named: true, ..there }), "");
        assert_eq!(reason(there), "BRANCH_NOT_OWNED");
    }

    #[test]
    fn a_branch_that_has_moved_is_refused_even_if_named_unless_we_have_moved_it() {
        let both = Branch { is_named: true, ..OWN };
        for (tip, recorded) in [(Some("b"), Some("a")), (Some("b"), None), (None, Some("a"))] {
            let moved = Branch { tip, recorded, ..both };
            assert_eq!(reason(moved), "BRANCH_MOVED", "{moved:?}");
            let message = refused(moved).unwrap().message;
            for commit in [tip, recorded] {
                assert!(
                    message.contains(&commit.map_or("absent".into(), |c| format!("at {c}"))),
                    "{message}"
                );
            }
        }
        assert_eq!(reason(Branch { tip: Some("b"), is_ours: true, ..both }), "");
    }

    #[test]
    fn a_published_branch_that_is_gone_is_made_again_only_when_asked() {
        for recorded in [None, Some("a")] {
            let gone = Branch { recorded, is_owned: true, is_named: true, ..OWN };
            assert_eq!(reason(gone), "BRANCH_DELETED");
            assert!(refused(gone).unwrap().message.contains("merged or deleted"));
            assert_eq!(reason(Branch { remakes: true, replaces: true, ..gone }), "");
        }
    }

    #[test]
    fn commits_of_others_are_replaced_only_where_the_requester_has_seen_them() {
        let there = Branch { tip: Some("b"), recorded: Some("b"), is_owned: true, replaces: true, ..OWN };
        assert_eq!(reason(there), "BRANCH_MOVED");
        assert_eq!(reason(Branch { seen: Some("a"), ..there }), "BRANCH_MOVED");
        assert_eq!(reason(Branch { seen: Some("b"), ..there }), "");
        assert_eq!(reason(Branch { is_ours: true, ..there }), "");
        assert_eq!(reason(Branch { seen: Some("a"), replaces: false, ..there }), "BRANCH_MOVED");
        assert_eq!(reason(Branch { replaces: true, ..OWN }), "");
        assert_eq!(reason(Branch { seen: Some("a"), ..OWN }), "BRANCH_MOVED");
    }

    #[test]
    fn the_branch_that_a_task_works_on_is_pushed_to_unnamed_and_is_not_made_again_unasked() {
        let there = Branch { tip: Some("a"), recorded: Some("a"), is_worked_on: true, ..OWN };
        assert_eq!(reason(there), "");
        assert_eq!(reason(Branch { tip: Some("b"), ..there }), "BRANCH_MOVED");
        let gone = Branch { tip: None, recorded: None, ..there };
        assert_eq!(reason(gone), "BRANCH_DELETED");
        assert!(refused(gone).unwrap().message.starts_with("the task works on the branch feat/x"));
        assert_eq!(reason(Branch { remakes: true, ..gone }), "");
    }

    #[test]
    fn the_default_branch_is_refused_unless_the_task_was_created_to_work_on_it() {
        let all = Branch { is_default: true, is_owned: true, is_named: true, is_ours: true, ..OWN };
        assert_eq!(reason(all), "DEFAULT_BRANCH_REFUSED");
        assert_eq!(reason(Branch { is_worked_on: true, ..all }), "BRANCH_DELETED");
        let there = Branch { tip: Some("a"), recorded: Some("a"), is_worked_on: true, ..all };
        assert_eq!(reason(there), "");
    }
}
