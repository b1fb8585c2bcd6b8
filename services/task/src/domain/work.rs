//! The work of a task as its view shows it: complete up to when, and why newer work is not saved.

use foundry_core::Timestamp;
use foundry_proto::common::v1::Condition;
use foundry_proto::provisioner::v1::{Sandbox, SandboxState};
use foundry_proto::repo::v1::{Work, WorkState};
use foundry_proto::task::v1::Changes;

/// What a task shows of its work; nothing before the first import, unless that failed.
pub fn shown(work: Option<&Work>, sandbox: Option<&Sandbox>) -> Option<Changes> {
    let ended = sandbox.is_none_or(|s| s.state() == SandboxState::Destroyed);
    let not_saved = sandbox.and_then(not_saved).or_else(|| refused(work?, ended));
    let Some(work) = work else {
        return not_saved.map(|why| Changes { not_saved: Some(why), ..Changes::default() });
    };
    Some(Changes { as_of_time: as_of(work, sandbox), not_saved, ..changes(work) })
}

/// Up to when the imported work is complete; none while something newer was sent.
fn as_of(work: &Work, sandbox: Option<&Sandbox>) -> Option<prost_types::Timestamp> {
    if work.state() != WorkState::Ready {
        return None;
    }
    let time = |t: Option<&prost_types::Timestamp>| t.map(Timestamp::from_proto);
    let Some(received) = time(work.hand_over_time.as_ref()) else { return work.import_time };
    let sent = time(sandbox.and_then(|s| s.work_sent_time.as_ref()));
    let handed = time(sandbox.and_then(|s| s.work_time.as_ref()));
    sent.is_none_or(|sent| sent <= received).then(|| handed.map_or(received, |h| h.max(received)).to_proto())
}

/// Why the sandbox's newest work is not saved, with the time up to which it is.
fn not_saved(sandbox: &Sandbox) -> Option<Condition> {
    let why = sandbox.work_not_saved.clone()?;
    Some(Condition { since_time: sandbox.work_time.or(sandbox.create_time), ..why })
}

/// Why the newest bundle was not imported; after the end of the sandbox no other one comes.
fn refused(work: &Work, ended: bool) -> Option<Condition> {
    let mut why = work.condition.clone().filter(|_| work.state() == WorkState::Error)?;
    if ended {
        "its sandbox is gone: continue in a new task from the previous work, which stays readable"
            .clone_into(&mut why.next_action);
    }
    Some(Condition { attempt_time: why.since_time, since_time: work.import_time, ..why })
}

/// A work as lists show it.
pub fn changes(work: &Work) -> Changes {
    Changes {
        version: work.version,
        base_commit: work.base_commit.clone(),
        head_commit: work.head_commit.clone(),
        files_changed: work.files_changed,
        additions: work.additions,
        deletions: work.deletions,
        import_time: work.import_time,
        condition: work.condition.clone(),
        notices: work.notices.clone(),
        as_of_time: None,
        not_saved: None,
        merged_from: work.merged_from.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn work(received: i64, state: WorkState) -> Work {
        Work { state: state.into(), hand_over_time: at(received), import_time: at(1), ..Work::default() }
    }

    fn sandbox(sent: i64, handed: i64) -> Sandbox {
        Sandbox { work_sent_time: at(sent), work_time: at(handed), ..Sandbox::default() }
    }

    fn complete(work: &Work, sandbox: Option<&Sandbox>) -> Option<i64> {
        shown(Some(work), sandbox)?.as_of_time.map(|t| t.seconds)
    }

    #[test]
    fn a_work_is_complete_up_to_the_last_hand_over_that_brought_nothing_new() {
        let ready = work(5, WorkState::Ready);
        assert_eq!(complete(&ready, Some(&sandbox(5, 9))), Some(9));
        assert_eq!(
            complete(&ready, Some(&sandbox(7, 9))),
            None,
            "newer work was sent and has not arrived here"
        );
        assert_eq!(complete(&work(7, WorkState::Ready), Some(&sandbox(5, 5))), Some(7));
        assert_eq!(complete(&work(5, WorkState::Importing), Some(&sandbox(5, 9))), None);
        // In a new sandbox nothing was handed over yet.
        assert_eq!(complete(&ready, Some(&Sandbox::default())), Some(5));
        // Works of an older version carry no such time.
        let old = Work { hand_over_time: None, ..ready };
        assert_eq!(complete(&old, Some(&sandbox(5, 9))), Some(1));
    }

    #[test]
    fn work_that_is_not_saved_says_since_when_also_before_the_first_import() {
        let why = Condition { reason: "WORK_BUNDLE_FAILED".into(), ..Condition::default() };
        let failing = Sandbox { work_not_saved: Some(why), create_time: at(3), ..Sandbox::default() };
        let since = |s: &Sandbox| shown(None, Some(s))?.not_saved?.since_time.map(|t| t.seconds);
        assert_eq!(since(&failing), Some(3));
        assert_eq!(since(&Sandbox { work_time: at(8), ..failing }), Some(8));
        assert_eq!(shown(None, Some(&sandbox(5, 9))), None);
        let refused =
            Condition { reason: "BUNDLE_REFUSED".into(), next_action: "wait".into(), ..Condition::default() };
        let refused = Work { condition: Some(refused), ..work(5, WorkState::Error) };
        let shown = |sandbox: SandboxState| {
            let sandbox = Sandbox { state: sandbox.into(), ..Sandbox::default() };
            shown(Some(&refused), Some(&sandbox)).unwrap().not_saved.unwrap()
        };
        assert_eq!(shown(SandboxState::Ready).reason, "BUNDLE_REFUSED");
        assert_eq!(shown(SandboxState::Ready).next_action, "wait");
        // After the end of the sandbox no other bundle comes.
        assert!(shown(SandboxState::Destroyed).next_action.contains("its sandbox is gone"));
    }
}
