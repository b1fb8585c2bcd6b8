//! Whether the base of a task is as new as its remote, and the notices when it is not.

use std::time::Duration;

use foundry_core::{Timestamp, counted};
use foundry_flow::{FlowStatus, Status};
use foundry_proto::common::v1::Condition;

use super::repository::Repository;

/// Failed attempts of a synchronization after which a task no longer waits for the next one.
const ATTEMPTS: u32 = 2;

/// A sandbox that asks again after this time is a new start of its task, which wants a fresh base again.
pub const SAME_START: Duration = Duration::from_secs(300);
/// How long the start of a task waits for the files of Git LFS and the submodules of its base.
pub const FILES_WAIT: Duration = Duration::from_secs(240);

/// What is known about the base that a sandbox asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The remote was listed after the request.
    Fresh,
    /// Not yet; a synchronization that began after the request is running, or is started by this.
    Awaited(Refresh),
    /// The mirror is used as it is, because of this.
    Stale(String),
}

/// What makes a synchronization begin after the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// One is on its way already, for this request or for others.
    OnItsWay,
    /// None runs.
    Start,
    /// The running one may have listed the remote before the request.
    Another,
}

/// Judges the base of a sandbox that asked for it at `asked` and waits at most for `wait`.
pub fn freshness(
    repository: &Repository,
    syncs: &[FlowStatus],
    asked: Timestamp,
    now: Timestamp,
    wait: Duration,
) -> Freshness {
    if repository.listed_time >= asked {
        return Freshness::Fresh;
    }
    let running = syncs.iter().find(|s| !s.status.is_finished());
    let late = now >= asked.plus(wait);
    match running {
        Some(sync) if sync.failures >= ATTEMPTS || (late && sync.failures > 0) => {
            Freshness::Stale(failure(sync))
        }
        _ if late => Freshness::Stale(format!(
            "the remote was not read within {}",
            counted(i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), "second")
        )),
        Some(sync) if sync.started_time >= asked || repository.refresh_wanted => {
            Freshness::Awaited(Refresh::OnItsWay)
        }
        Some(_) => Freshness::Awaited(Refresh::Another),
        None => {
            let failed =
                |s: &&FlowStatus| s.status == Status::Failed && s.finished_time.is_some_and(|at| at >= asked);
            match syncs.iter().find(failed) {
                Some(sync) => Freshness::Stale(failure(sync)),
                None => Freshness::Awaited(Refresh::Start),
            }
        }
    }
}

/// A fetch inside a sandbox has the remote read again after this time: so often, whatever agents do.
const FETCHED_AGAIN: Duration = Duration::from_secs(1);

/// Whether a fetch inside a sandbox is a reason to synchronize: none runs, and the last one was some time ago.
pub fn is_due(repository: &Repository, syncs: &[FlowStatus], now: Timestamp) -> bool {
    let recent = |at: Timestamp| now.since(at) < FETCHED_AGAIN;
    let ended = syncs.iter().map(|sync| sync.finished_time);
    !recent(repository.listed_time) && ended.into_iter().all(|at| at.is_some_and(|at| !recent(at)))
}

fn failure(sync: &FlowStatus) -> String {
    format!("{} ({})", sync.message, sync.reason)
}

/// The notice of a task that starts on an old base.
pub fn not_fetched(repository: &Repository, asked: Timestamp, why: &str) -> Condition {
    let age = repository.sync_time.map_or_else(|| "of unknown age".to_owned(), |at| age(asked.since(at)));
    Condition {
        reason: "BASE_NOT_FETCHED".to_owned(),
        message: format!("the base is {age}, because the newest one could not be fetched: {why}"),
        since_time: Some(asked.to_proto()),
        next_action: format!(
            "check that `foundry repo refresh {}` succeeds; tasks created after that start on the newest commit, and in this one \
             the agent can run `git fetch origin` and rebase its work",
            repository.name
        ),
        ..Condition::default()
    }
}

/// The notice of a task whose base has pointers of Git LFS in place of files.
pub fn files_not_fetched(asked: Timestamp, why: &str) -> Condition {
    Condition {
        reason: "LFS_OBJECTS_NOT_FETCHED".to_owned(),
        message: format!(
            "files of Git LFS are pointers in the sandbox, because they could not be fetched: {why}"
        ),
        since_time: Some(asked.to_proto()),
        next_action: "mend the cause; tasks created after that have the files".to_owned(),
        ..Condition::default()
    }
}

/// The notice of a task whose base has submodules that are not checked out.
pub fn submodules_left_out(asked: Timestamp, why: &str) -> Condition {
    Condition {
        reason: "SUBMODULES_LEFT_OUT".to_owned(),
        message: format!("submodules are not checked out in the sandbox: {why}"),
        since_time: Some(asked.to_proto()),
        next_action: "mend the cause, or store a credential for the host; tasks created after that have them"
            .to_owned(),
        ..Condition::default()
    }
}

/// The notice of a task in a repository without a commit.
pub fn is_empty(asked: Timestamp) -> Condition {
    Condition {
        reason: "REPOSITORY_EMPTY".to_owned(),
        message: "the repository is empty; the work will be its first commit".to_owned(),
        since_time: Some(asked.to_proto()),
        ..Condition::default()
    }
}

/// The notice of a task whose branch the remote has no room for.
pub fn branch_conflict(branch: &str, taken_by: &str, asked: Timestamp) -> Condition {
    let message = match branch == taken_by {
        true => format!("the remote has a branch {branch} already"),
        false => format!("the remote has a branch {taken_by}, beside which git cannot have {branch}"),
    };
    Condition {
        reason: "BRANCH_CONFLICT".to_owned(),
        message,
        since_time: Some(asked.to_proto()),
        next_action: "choose another name when you push the work".to_owned(),
        ..Condition::default()
    }
}

/// An age in its largest unit, for people.
fn age(age: Duration) -> String {
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    let age = match seconds {
        0 => "less than a second".to_owned(),
        1..60 => counted(seconds, "second"),
        60..3_600 => counted(seconds / 60, "minute"),
        3_600..172_800 => counted(seconds / 3_600, "hour"),
        _ => counted(seconds / 86_400, "day"),
    };
    format!("{age} old")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_shown_in_its_largest_unit() {
        let shown = |seconds| age(Duration::from_secs(seconds));
        assert_eq!(shown(0), "less than a second old");
        assert_eq!(shown(1), "1 second old");
        assert_eq!(shown(725), "12 minutes old");
        assert_eq!(shown(7_300), "2 hours old");
        assert_eq!(shown(400_000), "4 days old");
    }

    #[test]
    fn a_conflict_names_both_branches() {
        let message = |a, b| branch_conflict(a, b, Timestamp::default()).message;
        assert_eq!(message("x", "x"), "the remote has a branch x already");
        assert!(
            message("feature", "feature/x")
                .contains("a branch feature/x, beside which git cannot have feature")
        );
    }
}
