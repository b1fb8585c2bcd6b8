//! Records how far a user has read a session.

use foundry_authn::Caller;
use foundry_core::{Error, Result, SessionId};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{MarkReadRequest, MarkReadResponse, ReadMark};
use foundry_store::WriteSet;

use crate::context::Context;
use crate::store::sessions;
use crate::store::user_state::{self, Owner};

/// How often it is decided when the same user marks from several places at once.
const MAX_DECISIONS: u32 = 10;

/// A mark only goes forward, and not past the newest entry; one that does not move is not written.
///
/// # Errors
/// `NOT_FOUND`, `INVALID_ARGUMENT` for a negative offset, `ABORTED` when others kept moving the mark.
pub async fn mark_read(cx: &Context, caller: &Caller, request: MarkReadRequest) -> Result<MarkReadResponse> {
    let id: SessionId = request.session_id.parse()?;
    let session = sessions::find(&cx.store, &id).await?;
    let session = session.ok_or_else(|| Error::not_found("session", id.as_str()))?;
    caller.require_for(&session.organization_id, Role::Viewer, "session", id.as_str())?;
    if request.offset < 0 {
        return Err(Error::invalid_field("offset", "must not be negative"));
    }
    let offset = request.offset.min(session.view.last_offset);
    let owner = Owner { organization: session.organization_id, user: caller.require_user()?.user_id.clone() };
    let mark =
        |offset| Some(ReadMark { session_id: id.to_string(), task_id: session.task_id.to_string(), offset });
    let mut tries = 0;
    loop {
        tries += 1;
        let before = user_state::mark(&cx.store, &owner, &id).await?;
        match before.as_ref() {
            Some(before) if before.entity.offset >= offset => {
                return Ok(MarkReadResponse { read_mark: mark(before.entity.offset), rev: before.rev });
            }
            None if offset == 0 => {
                let rev = cx.store.head(&owner.scope()).await?;
                return Ok(MarkReadResponse { read_mark: mark(0), rev });
            }
            _ => {}
        }
        let mut ws = WriteSet::new();
        let rev = ws.scope(owner.scope());
        let before = before.map(|b| b.entity.offset);
        user_state::put_mark(&mut ws, rev, &owner, (&id, &session.task_id), before, offset);
        match cx.store.commit(ws).await {
            Ok(committed) => {
                return Ok(MarkReadResponse { read_mark: mark(offset), rev: committed.rev(rev) });
            }
            Err(e) if e.is_concurrent_change() && tries < MAX_DECISIONS => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use foundry_core::Code;
    use foundry_proto::common::v1::TurnOutcome;
    use foundry_proto::task::v1::SessionState;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn goes_forward_only_and_not_past_the_newest_entry_and_writes_when_it_moves() {
        let world = World::new().await;
        let (tenant, other) = (world.tenant(Role::Member).await, world.tenant(Role::Owner).await);
        let running = world.start().await;
        let created = running.create(&tenant, "x").await;
        let (task, id) = (created.task.unwrap().task_id, created.session.unwrap().session_id);
        running.until_session(&tenant, &task, &id, |s| s.state() == SessionState::Running).await;
        world.provisioner.say(&id, "a").await;
        world.provisioner.end_turn(&id, TurnOutcome::Completed).await;
        running.until_session(&tenant, &task, &id, |s| s.last_offset == 3).await;
        let to = async |offset| {
            let request = MarkReadRequest { session_id: id.clone(), offset };
            let answer = mark_read(&running.cx, &tenant.caller, request).await.unwrap();
            (answer.read_mark.unwrap().offset, answer.rev)
        };
        assert_eq!(to(0).await, (0, 0));
        assert_eq!(to(2).await, (2, 1));
        assert_eq!(to(1).await, (2, 1), "never back");
        assert_eq!(to(99).await, (3, 2), "not past the newest entry");
        assert_eq!(to(99).await, (3, 2), "no write");
        let foreign = MarkReadRequest { session_id: id.clone(), offset: 1 };
        let e = mark_read(&running.cx, &other.caller, foreign).await.unwrap_err();
        assert_eq!(e.code(), Code::NotFound);
        let negative = MarkReadRequest { session_id: id.clone(), offset: -1 };
        let e = mark_read(&running.cx, &tenant.caller, negative).await.unwrap_err();
        assert_eq!(e.code(), Code::InvalidArgument);
        running.stop().await;
    }

    #[tokio::test]
    async fn ends_at_the_farthest_of_many_marks_that_come_at_once() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
        let created = running.create(&tenant, "x").await;
        let (task, id) = (created.task.unwrap().task_id, created.session.unwrap().session_id);
        running.until_session(&tenant, &task, &id, |s| s.state() == SessionState::Running).await;
        for n in 0..7 {
            world.provisioner.say(&id, &n.to_string()).await;
        }
        running.until_session(&tenant, &task, &id, |s| s.last_offset == 8).await;
        let marks = [3, 8, 1, 5, 7, 2, 6, 4].map(|offset| {
            mark_read(&running.cx, &tenant.caller, MarkReadRequest { session_id: id.clone(), offset })
        });
        for answer in futures::future::join_all(marks).await {
            answer.unwrap();
        }
        let request = MarkReadRequest { session_id: id.clone(), offset: 0 };
        let last = mark_read(&running.cx, &tenant.caller, request).await.unwrap();
        assert_eq!(last.read_mark.unwrap().offset, 8);
        running.stop().await;
    }
}
