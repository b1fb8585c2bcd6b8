//! The words for notices about a work, the same in the CLI and in an explanation.

use foundry_core::counted;
use foundry_proto::common::v1::{
    ChecksState, MergedFrom, Publication, PullRequest, PullRequestReview, PullRequestState, WorkNotice,
    WorkNoticeKind,
};

/// Largest file of a work in bytes (`foundry_git::MAX_WORK_FILE`); a test compares them.
pub const MAX_FILE: i64 = 64 << 20;

/// What saves a file that no hand-over takes. An ignored one is lost with the sandbox too, so that is no advice.
const KEEP_LARGE: &str =
    "ask the agent to make it smaller, or to copy it to where it is kept; it ends with the sandbox";

/// What a notice says, and what to do about it; nothing to do is empty. Both contain texts of the agent, so they are
/// made inert before they are printed.
pub fn notice_words(notice: &WorkNotice) -> (String, String) {
    let WorkNotice { path, branch, count, detail, .. } = notice;
    let count = *count;
    match notice.kind() {
        WorkNoticeKind::RepositoryLost => {
            let next = "continue in a new task if the agent needs the history";
            (lost_words(detail), next.to_owned())
        }
        WorkNoticeKind::LinkedWorktree => {
            let on = if branch.is_empty() { String::new() } else { format!(" on branch `{branch}`") };
            let merge = "ask the agent to commit there and merge it into the task's branch";
            (format!("the linked worktree `{path}`{on} is not part of the work"), merge.to_owned())
        }
        WorkNoticeKind::SubmoduleAbsent => (
            format!("the submodule `{path}` is not checked out in the sandbox"),
            "what is written below it is not part of the work".to_owned(),
        ),
        WorkNoticeKind::SubmoduleChanged => {
            let next =
                "ask the agent to push them to the submodule's own repository, or to copy them elsewhere";
            let what = if count == 0 { "new commits".to_owned() } else { counted(count, "changed file") };
            let are = if count == 1 { "is" } else { "are" };
            (format!("{what} below the submodule `{path}` {are} not part of the work"), next.to_owned())
        }
        WorkNoticeKind::OtherBranch => branch_words(branch, count),
        WorkNoticeKind::Stash => {
            let what = if count == 1 { "1 stash is".to_owned() } else { format!("{count} stashes are") };
            (format!("{what} not part of the work"), "ask the agent to apply what it has stashed".to_owned())
        }
        WorkNoticeKind::Unreadable => (
            format!("`{path}` cannot be read, so its changes are not part of the work"),
            "ask the agent to make it readable".to_owned(),
        ),
        WorkNoticeKind::TooLarge | WorkNoticeKind::LargeIgnored | WorkNoticeKind::OverTotal => {
            (size_words(notice), KEEP_LARGE.to_owned())
        }
        WorkNoticeKind::IgnoredByWork => ignored_words(notice),
        WorkNoticeKind::LfsObjects | WorkNoticeKind::LfsPointers => lfs_words(notice),
        WorkNoticeKind::Operation => {
            let conflicts = match count {
                0 => String::new(),
                n => format!(", {} in conflict", counted(n, "file")),
            };
            (
                format!("{detail} in progress{conflicts}"),
                "ask the agent to finish or abort it; until then the work is the tree as it is".to_owned(),
            )
        }
        WorkNoticeKind::NestedRepository => {
            (format!("the repository inside the tree, `{path}`, is taken as plain files"), String::new())
        }
        WorkNoticeKind::HistoryRewritten => {
            ("the history was rewritten: the work does not descend from its base".to_owned(), String::new())
        }
        WorkNoticeKind::HistoryLeftOut => (
            "the tree is part of the work, but not the agent's own commits: what they contain is too large"
                .to_owned(),
            "ask the agent to remove large files from its commits".to_owned(),
        ),
        WorkNoticeKind::ManyFiles => many_files_words(path, count, detail),
        WorkNoticeKind::LineEndings if count == 1 => {
            (format!("`{path}` differs in line endings alone"), String::new())
        }
        WorkNoticeKind::LineEndings => {
            let files = counted(count, "file");
            (format!("{files} differ in line endings alone, the first is `{path}`"), String::new())
        }
        WorkNoticeKind::More => (format!("{} not shown", counted(count, "further notice")), String::new()),
        // From a newer version.
        WorkNoticeKind::Unspecified => (format!("a notice about `{path}{branch}`"), String::new()),
    }
}

/// Whether what a notice names is in the sandbox alone, and so is lost with it.
pub fn is_only_in_sandbox(notice: &WorkNotice) -> bool {
    match notice.kind() {
        WorkNoticeKind::LinkedWorktree
        | WorkNoticeKind::SubmoduleChanged
        | WorkNoticeKind::OtherBranch
        | WorkNoticeKind::Stash
        | WorkNoticeKind::Unreadable
        | WorkNoticeKind::TooLarge
        | WorkNoticeKind::LargeIgnored
        | WorkNoticeKind::OverTotal
        | WorkNoticeKind::IgnoredByWork
        | WorkNoticeKind::LfsObjects
        | WorkNoticeKind::Operation
        | WorkNoticeKind::RepositoryLost
        | WorkNoticeKind::HistoryLeftOut
        // What a newer version or a cut list means is not known here.
        | WorkNoticeKind::More
        | WorkNoticeKind::Unspecified => true,
        WorkNoticeKind::ManyFiles => !notice.detail.is_empty(),
        WorkNoticeKind::SubmoduleAbsent
        | WorkNoticeKind::LfsPointers
        | WorkNoticeKind::NestedRepository
        | WorkNoticeKind::HistoryRewritten
        | WorkNoticeKind::LineEndings => false,
    }
}

fn many_files_words(path: &str, count: i64, detail: &str) -> (String, String) {
    let left_out = if detail.is_empty() { "" } else { ", which are not part of the work" };
    let files = counted(count, "new file");
    let text = format!("the directory `{path}` contains {files}{left_out}");
    let rule = format!("if it can be built again, ignore it with the line `/{path}/` in `.gitignore`");
    let kept = "otherwise ask the agent to pack it into fewer files, or to copy it to where it is kept";
    (text, if detail.is_empty() { rule } else { format!("{rule}; {kept}") })
}

fn size_words(notice: &WorkNotice) -> String {
    let (path, size) = (&notice.path, size(notice.count));
    match notice.kind() {
        WorkNoticeKind::LargeIgnored => {
            format!("`{path}` ({size}) is ignored by git and in the sandbox alone")
        }
        WorkNoticeKind::OverTotal => {
            format!("`{path}` ({size}) is not part of the work, which is too large with it")
        }
        _ => {
            let limit = self::size(MAX_FILE);
            format!("`{path}` is too large ({size}, the limit is {limit}) and not part of the work")
        }
    }
}

fn ignored_words(notice: &WorkNotice) -> (String, String) {
    let WorkNotice { path, count, detail, .. } = notice;
    let files = match count {
        1 => format!("`{path}` is ignored"),
        _ => format!("{}, the first is `{path}`, are ignored", counted(*count, "file")),
    };
    let text =
        format!("{files} by a rule in `{detail}` that the base does not have, and in the sandbox alone");
    let next = "if it can be built again, nothing is lost; otherwise ask the agent to take the rule out";
    (text, next.to_owned())
}

fn lfs_words(notice: &WorkNotice) -> (String, String) {
    let WorkNotice { path, count, detail, .. } = notice;
    let files = match count {
        1 => format!("`{path}`"),
        _ => format!("{}, the first is `{path}`", counted(*count, "file")),
    };
    if notice.kind() == WorkNoticeKind::LfsPointers {
        let text = format!(
            "the repository uses Git LFS, and these have pointers in place of their content in the sandbox: {files}"
        );
        return (text, String::new());
    }
    let why = match detail.as_str() {
        "not kept" => "could not be kept, as they are damaged or there is no room for them",
        _ => "are too large for the hand-over",
    };
    let text = format!(
        "files of Git LFS {why}; the work has their pointers, and the sandbox their content: {files}"
    );
    (text, "ask the agent to store less in them, or copy them out of the sandbox".to_owned())
}

fn branch_words(branch: &str, count: i64) -> (String, String) {
    let is = if count == 1 { "is" } else { "are" };
    if branch.is_empty() {
        let branches =
            if count == 1 { "1 further branch".to_owned() } else { format!("{count} further branches") };
        let text = format!("{branches} {is} not compared with the work");
        return (text, "ask the agent to delete branches that it does not need".to_owned());
    }
    let text = format!("{} on branch `{branch}` {is} not part of the work", counted(count, "commit"));
    (text, format!("ask the agent to merge `{branch}` into the task's branch"))
}

fn lost_words(how: &str) -> String {
    let lost = match how {
        "missing" => "the repository (.git) is missing",
        "replaced" => "the repository (.git) was replaced by one without the base commit",
        _ => "the repository (.git) is damaged",
    };
    format!(
        "{lost}: the tree is compared with the base, and the agent's own commits are not part of the work"
    )
}

/// What a work has merged, as in `30 files merged from develop`.
pub fn merged_words(merged: &MergedFrom) -> String {
    format!("{} merged from {}", counted(merged.files_changed, "file"), merged.branch)
}

/// A pull request in words, as in `pull request #7, draft, 1 of 3 checks failed, changes requested`.
pub fn pull_request_words(p: &PullRequest) -> String {
    let mut words = vec![format!("pull request #{}", p.number)];
    match p.state() {
        PullRequestState::Merged => words.push("merged".to_owned()),
        PullRequestState::Closed => words.push("closed".to_owned()),
        _ if p.draft => words.push("draft".to_owned()),
        _ => words.push("open".to_owned()),
    }
    if p.state() != PullRequestState::Open {
        return words.join(", ");
    }
    let checks = p.checks.clone().unwrap_or_default();
    let all = checks.passed.saturating_add(checks.failed).saturating_add(checks.pending);
    match checks.state() {
        ChecksState::Failed => words.push(format!("{} of {all} checks failed", checks.failed)),
        ChecksState::Pending => words.push(format!("{} of {all} checks pending", checks.pending)),
        ChecksState::Passed => words.push("checks passed".to_owned()),
        ChecksState::None => words.push("no checks".to_owned()),
        ChecksState::Unspecified => {}
    }
    match p.review() {
        PullRequestReview::Approved => words.push("approved".to_owned()),
        PullRequestReview::ChangesRequested => words.push("changes requested".to_owned()),
        PullRequestReview::Required => words.push("review requested".to_owned()),
        PullRequestReview::None | PullRequestReview::Unspecified => {}
    }
    words.join(", ")
}

/// Where a work is published, as in `published at 0123456789ab on feat/x, 2 commits since`.
pub fn publication_words(publication: &Publication) -> String {
    let commit = publication.commit.get(..12).unwrap_or(&publication.commit);
    let since = match publication.commits_since {
        0 => String::new(),
        count => format!(", {} since", counted(count, "commit")),
    };
    let pull_request = publication.pull_request.as_ref().map(|p| format!("; {}", pull_request_words(p)));
    let replaced = match publication.replaced_by.as_str() {
        "" => String::new(),
        task => format!("; replaced there since by the work of {task}"),
    };
    let branch = &publication.branch;
    format!("published at {commit} on {branch}{since}{replaced}{}", pull_request.unwrap_or_default())
}

fn size(bytes: i64) -> String {
    match bytes {
        0..=1023 => counted(bytes, "byte"),
        1024..=1_048_575 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::PullRequestChecks;

    use super::*;

    #[test]
    fn a_publication_names_its_pull_request_and_how_that_stands() {
        let mut p = PullRequest {
            number: 7,
            state: PullRequestState::Open.into(),
            draft: true,
            review: PullRequestReview::ChangesRequested.into(),
            checks: Some(PullRequestChecks {
                state: ChecksState::Failed.into(),
                passed: 2,
                failed: 1,
                ..PullRequestChecks::default()
            }),
            ..PullRequest::default()
        };
        let publication = |p: &PullRequest| Publication {
            branch: "feat/x".into(),
            commit: "a".repeat(40),
            pull_request: Some(p.clone()),
            ..Publication::default()
        };
        let replaced = Publication { replaced_by: "task_2".into(), pull_request: None, ..publication(&p) };
        let words = publication_words(&replaced);
        assert_eq!(words, "published at aaaaaaaaaaaa on feat/x; replaced there since by the work of task_2");
        let said = publication_words(&publication(&p));
        let expected = "published at aaaaaaaaaaaa on feat/x; pull request #7, draft, 1 of 3 checks failed, changes requested";
        assert_eq!(said, expected);
        p.state = PullRequestState::Merged.into();
        assert!(publication_words(&publication(&p)).ends_with("; pull request #7, merged"));
    }

    fn words(kind: WorkNoticeKind, count: i64) -> (String, String) {
        notice_words(&WorkNotice {
            kind: kind.into(),
            path: "vendor/lib".into(),
            branch: "other".into(),
            count,
            detail: "rebase".into(),
        })
    }

    #[test]
    fn a_notice_says_what_is_left_out_and_what_to_do() {
        assert_eq!(
            words(WorkNoticeKind::OtherBranch, 1),
            (
                "1 commit on branch `other` is not part of the work".to_owned(),
                "ask the agent to merge `other` into the task's branch".to_owned()
            )
        );
        assert_eq!(words(WorkNoticeKind::Operation, 1).0, "rebase in progress, 1 file in conflict");
        assert_eq!(words(WorkNoticeKind::Stash, 2).0, "2 stashes are not part of the work");
        assert_eq!(
            words(WorkNoticeKind::TooLarge, 70 << 20).0,
            "`vendor/lib` is too large (70 MiB, the limit is 64 MiB) and not part of the work"
        );
        let unnamed =
            WorkNotice { kind: WorkNoticeKind::OtherBranch.into(), count: 2, ..WorkNotice::default() };
        assert_eq!(notice_words(&unnamed).0, "2 further branches are not compared with the work");
        assert_eq!(
            words(WorkNoticeKind::ManyFiles, 3000).0,
            "the directory `vendor/lib` contains 3000 new files, which are not part of the work"
        );
    }

    #[test]
    fn what_was_left_out_is_lost_with_the_sandbox_and_what_was_taken_is_not() {
        let only = |kind: WorkNoticeKind, detail: &str| {
            let detail = detail.to_owned();
            is_only_in_sandbox(&WorkNotice { kind: kind.into(), detail, ..WorkNotice::default() })
        };
        assert!(only(WorkNoticeKind::Stash, "") && only(WorkNoticeKind::ManyFiles, "left out"));
        assert!(only(WorkNoticeKind::TooLarge, "") && only(WorkNoticeKind::LargeIgnored, ""));
        assert!(only(WorkNoticeKind::OverTotal, "") && only(WorkNoticeKind::IgnoredByWork, ".gitignore"));
        assert!(!only(WorkNoticeKind::ManyFiles, "") && !only(WorkNoticeKind::LineEndings, ""));
    }

    #[test]
    fn nothing_that_only_the_sandbox_has_is_to_be_ignored_unless_it_can_be_built_again() {
        for kind in (1..).map_while(|n| WorkNoticeKind::try_from(n).ok()) {
            let notice = WorkNotice { kind: kind.into(), detail: "left out".into(), ..WorkNotice::default() };
            let next = notice_words(&notice).1;
            let is_safe = !next.contains("ignore") || next.contains("if it can be built again");
            assert!(!is_only_in_sandbox(&notice) || is_safe, "{kind:?}: {next}");
        }
    }

    #[test]
    fn every_kind_has_words_of_its_own() {
        let kinds = (1..).map_while(|n| WorkNoticeKind::try_from(n).ok());
        let texts: std::collections::HashSet<_> = kinds.clone().map(|kind| words(kind, 3).0).collect();
        assert_eq!(texts.len(), kinds.count());
    }
}
