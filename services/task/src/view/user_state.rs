//! Drafts and read marks of a user in an organization, and the user's review of one task.

use foundry_core::TaskId;
use foundry_proto::task::v1::UserStateItem;
use foundry_proto::task::v1::user_state_item::Item;
use foundry_watch::Change;
use foundry_watch_hub::{Fingerprint, Source, TableView};

use crate::store::reviews;
use crate::store::user_state::{self, Owner};

/// The view of `WatchUserState`.
pub fn of_user(owner: &Owner) -> TableView {
    let fingerprint = Fingerprint::new("WatchUserState", 1)
        .filter("organization", owner.organization.as_str())
        .filter("user", owner.user.as_str());
    let params = || vec![(&owner.organization).into(), (&owner.user).into()];
    TableView::new("WatchUserState", owner.scope(), fingerprint)
        .source(
            Source::new(user_state::DRAFTS_BY_REV, params(), |row| {
                let found = user_state::read_draft(row)?;
                let key = format!("draft/{}", found.entity.subject);
                Ok(Change::upsert(key, found.rev, &UserStateItem { item: Some(Item::Draft(found.entity)) }))
            })
            .tombstones(user_state::DRAFT, "draft/"),
        )
        .source(Source::new(user_state::READ_MARKS_BY_REV, params(), |row| {
            let found = user_state::read_mark(row)?;
            let key = format!("read/{}", found.entity.session_id);
            Ok(Change::upsert(key, found.rev, &UserStateItem { item: Some(Item::ReadMark(found.entity)) }))
        }))
}

/// The view of `WatchUserState` for the review of one task.
pub fn of_review(owner: &Owner, task: &TaskId) -> TableView {
    let fingerprint = Fingerprint::new("WatchUserState", 1)
        .filter("organization", owner.organization.as_str())
        .filter("user", owner.user.as_str())
        .filter("task", task.as_str());
    let params = || vec![(&owner.organization).into(), (&owner.user).into(), task.into()];
    TableView::new("WatchUserState", owner.scope(), fingerprint)
        .source(
            Source::new(reviews::COMMENTS_BY_REV, params(), |row| {
                let found = reviews::read_comment(row)?;
                let key = format!("comment/{}", found.entity.comment_id);
                let item = UserStateItem { item: Some(Item::ReviewComment(found.entity)) };
                Ok(Change::upsert(key, found.rev, &item))
            })
            .tombstones(reviews::comment_kind(task.as_str()), "comment/"),
        )
        .source(
            Source::new(reviews::VIEWED_BY_REV, params(), |row| {
                let found = reviews::read_viewed(row)?;
                let key = format!("viewed/{}", found.entity.path);
                let item = UserStateItem { item: Some(Item::ViewedFile(found.entity)) };
                Ok(Change::upsert(key, found.rev, &item))
            })
            .tombstones(reviews::viewed_kind(task.as_str()), "viewed/"),
        )
}
