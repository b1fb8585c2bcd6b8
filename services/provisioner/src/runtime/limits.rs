//! Limits that a sandbox has reached: noted once on the sandbox and in its transcripts, and shown as the condition of
//! its sessions for as long as they last.

use foundry_core::{Error, Timestamp};
use foundry_proto::common::v1::{Condition, NoticeKind, TranscriptPart};
use foundry_sandbox::{LimitReport, ReachedLimit};
use foundry_store::WriteSet;

use super::output;
use crate::domain::fold::notice;
use crate::domain::{
    OutputLimit, Sandbox, SandboxState, Session, SessionState, reached_condition, says_limit,
};
use crate::shared::Shared;
use crate::store::{Set, cleared, condition_value, events, sandboxes, sessions};

/// Applies what the provider reports of a sandbox's limits. Writes only changes.
///
/// # Errors
/// When the database fails.
pub async fn take_in(shared: &Shared, seen: &Sandbox, report: &LimitReport) -> Result<(), Error> {
    let of_sandbox = sessions::of_sandbox(&shared.store, &seen.sandbox_id).await?;
    if is_known(seen, report) && of_sandbox.iter().all(|s| change(s, &report.reached).is_none()) {
        return Ok(());
    }
    let decide = || async {
        let mut ws = WriteSet::new();
        let sandbox = sandboxes::find(&shared.store, &seen.sandbox_id).await?;
        let same =
            |s: &Sandbox| s.state == SandboxState::Ready && s.runtime_instance == seen.runtime_instance;
        let Some(sandbox) = sandbox.filter(same) else { return Ok((ws, ())) };
        let now = shared.env.clock.now();
        if !is_known(&sandbox, report) {
            let mut set = vec![("reached_limits", sandboxes::reached_value(&report.reached)?)];
            if !report.limits.is_empty() {
                set.push(("limits", report.limits.as_str().into()));
            }
            sandboxes::update(&mut ws, &sandbox, set);
        }
        let new: Vec<&ReachedLimit> = report.reached.iter().filter(|r| !is_reported(&sandbox, r)).collect();
        let all = sessions::of_sandbox(&shared.store, &sandbox.sandbox_id).await?;
        let any_runs = all.iter().any(|s| s.state == SessionState::Running);
        for session in all.iter().filter(|s| s.state.is_living()) {
            let concerned = !any_runs || session.state == SessionState::Running;
            let notices = if concerned { new.as_slice() } else { &[] };
            let mut condition = change(session, &report.reached);
            if let Some(none) = condition.as_mut().filter(|c| c.reason.is_empty())
                && let Some(limited) = output::standing(shared, session).await?
            {
                *none = Condition { waiting_on: std::mem::take(&mut none.waiting_on), ..limited };
            }
            write(&mut ws, session, notices, condition, now);
        }
        Ok((ws, ()))
    };
    shared.store.retry_on_conflict(decide).await?;
    Ok(())
}

/// Whether the report is what is stored. The amount in use changes all the time and does not count.
fn is_known(sandbox: &Sandbox, report: &LimitReport) -> bool {
    let key = |r: &ReachedLimit| (r.kind, r.since, r.ended);
    let stored = sandbox.reached.iter().map(key);
    (report.limits.is_empty() || sandbox.limits == report.limits) && stored.eq(report.reached.iter().map(key))
}

fn is_reported(sandbox: &Sandbox, reached: &ReachedLimit) -> bool {
    sandbox.reached.iter().any(|r| (r.kind, r.since) == (reached.kind, reached.since))
}

/// The condition that a session gets from this; none = it keeps its own. Any other condition has precedence, but for a
/// limit of stored output: the turn goes on beyond it, and fails at a limit of the sandbox.
fn change(session: &Session, reached: &[ReachedLimit]) -> Option<Condition> {
    let says = says_limit(&session.condition);
    let gives_way = session.condition.reason.is_empty() || OutputLimit::is_shown_by(&session.condition);
    if !session.state.is_living() || session.pending_permission.is_some() || !(says || gives_way) {
        return None;
    }
    match reached.first() {
        Some(first) if session.condition.reason != first.kind.reason() => {
            let waiting_on = session.condition.waiting_on.clone();
            Some(Condition { waiting_on, ..reached_condition(first) })
        }
        None if says => {
            let waiting_on = session.condition.waiting_on.clone();
            Some(Condition { waiting_on, ..Condition::default() })
        }
        _ => None,
    }
}

fn write(
    ws: &mut WriteSet,
    session: &Session,
    notices: &[&ReachedLimit],
    condition: Option<Condition>,
    now: Timestamp,
) {
    let mut set = Set::new();
    if let Some(condition) = condition {
        let since_time = condition.since_time.or(cleared(now).since_time);
        set.push(("condition", condition_value(&Condition { since_time, ..condition })));
    }
    if !notices.is_empty() {
        let part = |r: &&ReachedLimit| TranscriptPart {
            message_id: session.message_id.clone(),
            body: Some(notice(NoticeKind::LimitReached, reached_condition(r).message)),
            ..TranscriptPart::default()
        };
        let revs = sessions::revs(ws, &session.organization_id, &session.session_id);
        let parts = notices.iter().map(part).collect();
        set.extend(events::append(ws, session, revs.session, now, parts).columns());
    }
    if !set.is_empty() {
        sessions::update(ws, session, set);
    }
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::transcript_part::Body;
    use foundry_sandbox::LimitKind;

    use super::*;
    use crate::runtime::check_all;
    use crate::testing::Fixture;

    fn reached(kind: LimitKind, since: i64) -> ReachedLimit {
        ReachedLimit {
            kind,
            used: 9 << 20,
            limit: 8 << 20,
            since: Timestamp::from_micros(since),
            ended: true,
        }
    }

    async fn notices(f: &Fixture, session: &Session) -> Vec<String> {
        let parts = events::newest(&f.shared.store, &session.session_id).await.unwrap();
        let text = |p: TranscriptPart| match p.body {
            Some(Body::Notice(n)) if n.kind() == NoticeKind::LimitReached => Some(n.message),
            _ => None,
        };
        parts.into_iter().filter_map(text).collect()
    }

    #[tokio::test]
    async fn a_reached_limit_is_told_once_and_cleared_when_it_is_over() {
        let f = Fixture::new().await;
        let sandbox = f.ensure().await;
        f.run().await;
        let session = f.session(&sandbox).await;
        let session = f.made_ready(&session).await;
        let id = sandbox.sandbox_id.to_string();

        let report = |limits: &str, reached: Vec<ReachedLimit>| {
            f.provider.host().limits = LimitReport { limits: limits.to_owned(), reached };
        };
        report("8.0 MiB of memory; measured", vec![reached(LimitKind::Memory, 5)]);
        check_all(&f.shared).await;
        let (shown, reported) = (f.sandbox(&id).await, f.again(&session).await);
        let conditions = shown.to_proto().reached_limits;
        assert_eq!((conditions.len(), conditions[0].reason.as_str()), (1, "SANDBOX_MEMORY_LIMIT"));
        assert!(conditions[0].next_action.contains("limits.memory_bytes"), "{conditions:?}");
        assert_eq!(shown.limits, "8.0 MiB of memory; measured");
        assert_eq!(reported.condition.reason, "SANDBOX_MEMORY_LIMIT");
        assert!(reported.condition.message.contains("8.0 MiB of memory"), "{:?}", reported.condition);
        assert_eq!(notices(&f, &session).await.len(), 1);

        // The same limit with a higher amount in use: nothing is written.
        let more = ReachedLimit { used: 11 << 20, ..reached(LimitKind::Memory, 5) };
        report("8.0 MiB of memory; measured", vec![more]);
        check_all(&f.shared).await;
        check_all(&f.shared).await;
        assert_eq!((f.sandbox(&id).await.rev, f.again(&session).await.rev), (shown.rev, reported.rev));

        report(
            "8.0 MiB of memory; measured",
            vec![reached(LimitKind::Memory, 5), reached(LimitKind::DiskFiles, 7)],
        );
        check_all(&f.shared).await;
        assert_eq!(notices(&f, &session).await.len(), 2);
        report("8.0 MiB of memory; measured", vec![]);
        check_all(&f.shared).await;
        let (shown, reported) = (f.sandbox(&id).await, f.again(&session).await);
        assert!(shown.reached.is_empty());
        assert_eq!(reported.condition.reason, "");
        assert_eq!(notices(&f, &session).await.len(), 2, "what happened stays written");
        report("8.0 MiB of memory; measured", vec![reached(LimitKind::Memory, 9)]);
        check_all(&f.shared).await;
        assert_eq!(notices(&f, &session).await.len(), 3, "another time");
    }
}
