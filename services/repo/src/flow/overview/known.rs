//! The branches that an overview shows: those of the mirror, and tasks' branches that exist only as work in Foundry.

use std::collections::{BTreeMap, HashMap, HashSet};

use foundry_core::Timestamp;
use foundry_git::{BranchName, CommitId};

use crate::domain::repository::OverviewFacts;
use crate::domain::stack::{Before, Known, Placed};
use crate::domain::work::TaskWork;
use crate::store::branch_overviews::Basis;
use crate::store::branches::BranchRow;

/// Most branches of an overview.
pub const MAX_BRANCHES: usize = 10_000;

/// A branch that is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    pub known: Known,
    /// The task whose branch it is; empty = of none.
    pub task_id: String,
    /// Whether it exists only as work in Foundry.
    pub work_only: bool,
    /// The newest work of the task if the branch is elsewhere; empty otherwise.
    pub work_commit: String,
    /// Whether its task has nothing of its own in it: no change in its work, or nothing published there by an open task.
    pub is_empty: bool,
    /// When its head was committed; the epoch where that is not known yet.
    pub time: Timestamp,
}

/// What is shown of a repository, the default branch first, and how many branches are left out.
pub fn collect(
    branches: Vec<BranchRow>,
    (works, worked_on): (&[TaskWork], &[(String, String)]),
    default: &str,
    stored: &HashMap<String, Basis>,
    (given, placed): (&HashMap<String, String>, &HashMap<String, Placed>),
) -> (Vec<Shown>, usize) {
    let mut by_name: BTreeMap<String, Shown> = BTreeMap::new();
    for branch in branches {
        let Ok(head) = CommitId::parse(&branch.commit_id) else { continue };
        let known = Known {
            given: given.get(&branch.name).cloned(),
            name: branch.name,
            head,
            started_from: None,
            before: None,
        };
        let shown = Shown {
            known,
            task_id: String::new(),
            work_only: false,
            work_commit: String::new(),
            is_empty: false,
            time: branch.commit_time,
        };
        by_name.insert(shown.known.name.clone(), shown);
    }
    let at_remote: HashSet<String> = by_name.keys().cloned().collect();
    // The newest task on a branch owns it: earlier ones have ended.
    for (branch, task) in worked_on {
        if let Some(remote) = by_name.get_mut(branch) {
            remote.task_id.clone_from(task);
        }
    }
    let (existing, own): (Vec<_>, Vec<_>) = works.iter().partition(|work| work.existing_branch);
    for work in existing.into_iter().rev().chain(own) {
        add_work(&mut by_name, &at_remote, default, work);
    }
    let mut all: Vec<Shown> = by_name.into_values().collect();
    // The newest ones are computed first, and kept when there are too many.
    let rank = |s: &Shown| (s.known.name != default, !s.work_only, std::cmp::Reverse(s.time));
    all.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.known.name.cmp(&b.known.name)));
    let left_out = all.len().saturating_sub(MAX_BRANCHES);
    all.truncate(MAX_BRANCHES);
    for shown in &mut all {
        let known = &mut shown.known;
        let seen = stored.get(&known.name).map(|basis| (basis.parent.as_str(), basis.fork.as_str()));
        known.before = Before::of(&known.head, default, placed.get(&known.name), seen);
    }
    (all, left_out)
}

/// A branch of the remote with the name of a task's branch is that branch; other work is shown under its own name, or
/// under `foundry/TASK` where another task has that name.
fn add_work(
    by_name: &mut BTreeMap<String, Shown>,
    at_remote: &HashSet<String>,
    default: &str,
    work: &TaskWork,
) {
    let (Ok(head), Ok(base)) = (CommitId::parse(&work.head), CommitId::parse(&work.base)) else { return };
    // Work that was published to another branch than its own is that branch.
    let published = work.published_to.as_str();
    let published = Some(published).filter(|name| *name != default && at_remote.contains(*name));
    let usual = BranchName::parse(published.unwrap_or(&work.branch)).ok();
    let usual = usual.filter(|name| work.existing_branch || name.as_str() != default);
    if let Some(remote) = usual.as_ref().and_then(|name| by_name.get_mut(name.as_str()))
        && (remote.task_id.is_empty() || remote.task_id == work.task_id)
    {
        remote.task_id.clone_from(&work.task_id);
        if remote.known.head != head {
            remote.work_commit.clone_from(&work.head);
        }
        return;
    }
    // It was published to this very branch, which a later task has now.
    if work.existing_branch && at_remote.contains(&work.branch) && work.published_to == work.branch {
        return;
    }
    let free =
        usual.map(String::from).filter(|name| !by_name.contains_key(name) && !at_remote.contains(name));
    let name = free.unwrap_or_else(|| format!("foundry/{}", work.task_id));
    if by_name.contains_key(&name) {
        return;
    }
    let known = Known { name: name.clone(), head, started_from: Some(base), before: None, given: None };
    let shown = Shown {
        known,
        task_id: work.task_id.clone(),
        work_only: true,
        work_commit: String::new(),
        is_empty: work.is_empty,
        time: Timestamp::default(),
    };
    by_name.insert(name, shown);
}

/// What is left out, as shown to users.
pub fn left_out(branches: usize, missing: usize) -> Option<(&'static str, String)> {
    let mut parts = Vec::new();
    if branches > 0 {
        let number =
            if branches == 1 { "1 older branch".to_owned() } else { format!("{branches} older branches") };
        parts.push(format!("{number}, beyond the {MAX_BRANCHES} that are shown"));
    }
    if missing > 0 {
        let number = if missing == 1 { "1 branch".to_owned() } else { format!("{missing} branches") };
        parts.push(format!("{number} whose commit the mirror does not have"));
    }
    let reason = OverviewFacts::reason_left_out();
    (!parts.is_empty()).then(|| (reason, format!("left out: {}", parts.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(n: u32) -> String {
        format!("{n:040x}")
    }

    fn branch_row(name: &str, n: u32) -> BranchRow {
        BranchRow {
            name: name.to_owned(),
            commit_id: commit(n),
            commit_time: Timestamp::from_micros(i64::from(n)),
            subject: String::new(),
        }
    }

    fn work(task: &str, branch: &str, head: u32) -> TaskWork {
        TaskWork {
            task_id: task.to_owned(),
            branch: branch.to_owned(),
            published_to: String::new(),
            base: commit(1),
            head: commit(head),
            existing_branch: false,
            is_empty: false,
        }
    }

    #[test]
    fn a_branch_of_a_task_is_shown_once_with_its_owner() {
        let works = [
            work("t1", "feat/a", 9),
            work("t2", "feat/a", 8),
            work("t3", "", 7),
            work("t4", "main", 6),
            work("t5", "feat/b", 5),
        ];
        let (shown, left) = collect(
            vec![branch_row("main", 1), branch_row("feat/a", 3)],
            (&works, &[]),
            "main",
            &HashMap::new(),
            (&HashMap::new(), &HashMap::new()),
        );
        let mut rows: Vec<_> = shown
            .iter()
            .map(|s| (s.known.name.as_str(), s.task_id.as_str(), s.work_only, !s.work_commit.is_empty()))
            .collect();
        assert_eq!(rows.remove(0), ("main", "", false, false));
        rows.sort_unstable();
        let expected = [
            ("feat/a", "t1", false, true),
            ("feat/b", "t5", true, false),
            ("foundry/t2", "t2", true, false),
            ("foundry/t3", "t3", true, false),
            ("foundry/t4", "t4", true, false),
        ];
        assert_eq!((rows.as_slice(), left), (&expected[..], 0));
    }

    #[test]
    fn the_newest_task_on_an_existing_branch_owns_it_with_or_without_work() {
        let on =
            |task: &str, branch: &str, head| TaskWork { existing_branch: true, ..work(task, branch, head) };
        let works =
            [work("t1", "feat/a", 9), on("t2", "feat/a", 8), on("t3", "feat/a", 7), on("t4", "main", 6)];
        let branches = || vec![branch_row("main", 1), branch_row("feat/a", 7)];
        let owners = |worked_on: &[(String, String)]| {
            let none = (&HashMap::new(), &HashMap::new());
            let (shown, _) = collect(branches(), (&works, worked_on), "main", &HashMap::new(), none);
            let owner = |name: &str| {
                let found = shown.iter().find(|s| s.known.name == name).unwrap();
                (found.task_id.clone(), !found.work_commit.is_empty())
            };
            (owner("main"), owner("feat/a"))
        };
        let is = |task: &str, elsewhere| (task.to_owned(), elsewhere);
        // The head of t3 is where the branch is.
        assert_eq!(owners(&[]), (is("t4", true), is("t3", false)));
        let begun = [("gone".to_owned(), "t0".to_owned()), ("feat/a".to_owned(), "t5".to_owned())];
        assert_eq!(owners(&begun), (is("t4", true), is("t5", false)));
        let has_work = [("feat/a".to_owned(), "t2".to_owned())];
        assert_eq!(owners(&has_work), (is("t4", true), is("t2", true)));
    }

    #[test]
    fn of_ended_tasks_on_an_existing_branch_only_work_that_was_not_published_there_is_a_row() {
        let on = |task: &str, to: &str, head| TaskWork {
            existing_branch: true,
            published_to: to.to_owned(),
            ..work(task, "feat/a", head)
        };
        let works = [on("t1", "feat/a", 5), on("t2", "feat/a", 6), on("t3", "", 7), on("t4", "feat/a", 8)];
        let rows = |branches: Vec<BranchRow>| {
            let none = (&HashMap::new(), &HashMap::new());
            let (shown, _) = collect(branches, (&works, &[]), "main", &HashMap::new(), none);
            let mut rows: Vec<_> = shown.iter().map(|s| format!("{} {}", s.known.name, s.task_id)).collect();
            rows.sort_unstable();
            rows
        };
        let there = rows(vec![branch_row("main", 1), branch_row("feat/a", 8)]);
        assert_eq!(there, ["feat/a t4", "foundry/t3 t3", "main "]);
        // What they published is gone with the branch.
        assert_eq!(rows(vec![branch_row("main", 1)]).len(), 5);
    }

    #[test]
    fn work_that_was_published_to_another_branch_is_that_branch() {
        let to = |branch: &str| TaskWork { published_to: branch.to_owned(), ..work("t1", "resolve-a", 9) };
        for (branch, expected) in
            [("feat/a", vec!["main ", "feat/a t1"]), ("gone", vec!["main ", "resolve-a t1", "feat/a "])]
        {
            let branches = vec![branch_row("main", 1), branch_row("feat/a", 3)];
            let none = (&HashMap::new(), &HashMap::new());
            let (shown, _) = collect(branches, (&[to(branch)], &[]), "main", &HashMap::new(), none);
            let rows: Vec<_> = shown.iter().map(|s| format!("{} {}", s.known.name, s.task_id)).collect();
            assert_eq!(rows, expected, "{branch}");
        }
    }

    #[test]
    fn of_too_many_branches_the_newest_are_kept_and_the_default_one() {
        let many = u32::try_from(MAX_BRANCHES + 5).unwrap();
        let branches = (0..many).map(|n| branch_row(&format!("b{n}"), n)).collect();
        let (shown, left) =
            collect(branches, (&[], &[]), "b0", &HashMap::new(), (&HashMap::new(), &HashMap::new()));
        assert_eq!((shown.len(), left), (MAX_BRANCHES, 5));
        assert_eq!(shown[0].known.name, "b0");
        assert_eq!(shown[1].known.name, format!("b{}", many - 1));
        assert!(left_out(left, 0).unwrap().1.contains("5 older branches, beyond the 10000"));
        assert_eq!(left_out(0, 0), None);
    }
}
