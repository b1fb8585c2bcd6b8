//! A session, its queue, and its transcript after an offset.

use foundry_core::SessionId;
use foundry_proto::task::v1::SessionItem;
use foundry_proto::task::v1::session_item::Item;
use foundry_store::Scope;
use foundry_watch::Change;
use foundry_watch_hub::{Fingerprint, Source, TableView};

use super::wrapped;
use crate::domain::session::MessageState;
use crate::store::{messages, sessions, transcript};

/// The view of `WatchSession`. It sends every version: transcript entries are a log.
pub fn of_session(session: &SessionId, after_offset: i64) -> TableView {
    let fingerprint = Fingerprint::new("WatchSession", 1)
        .filter("session", session.as_str())
        .filter("after_offset", &after_offset.to_string());
    TableView::new("WatchSession", Scope::session(session), fingerprint)
        .source(Source::new(sessions::ONE_BY_REV, [session.into()], |row| {
            let key = format!("session/{}", row.text("session_id")?);
            Ok(wrapped(1, key, row.int("feed_rev")?, &sessions::shown(row)?))
        }))
        .source(Source::new(messages::BY_REV, [session.into()], |row| {
            let message = messages::read(row)?;
            let (key, rev) = (format!("message/{}", message.message_id), row.int("rev")?);
            Ok(match message.state {
                MessageState::Delivered => Change::left_view(key, rev),
                MessageState::Removed => Change::deleted(key, rev),
                _ => Change::upsert(key, rev, &SessionItem { item: Some(Item::Message(message.to_proto())) }),
            })
        }))
        .source(Source::new(transcript::BY_REV, [session.into(), after_offset.into()], |row| {
            let entry = transcript::read(row)?;
            let (key, rev) = (format!("entry/{:012}", entry.offset), row.int("rev")?);
            Ok(Change::upsert(key, rev, &SessionItem { item: Some(Item::Entry(entry)) }))
        }))
        .never_conflate()
}
