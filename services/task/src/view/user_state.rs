//! Drafts and read marks of a user in an organization.

use foundry_proto::task::v1::UserStateItem;
use foundry_proto::task::v1::user_state_item::Item;
use foundry_watch::Change;
use foundry_watch_hub::{Fingerprint, Source, TableView};

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
