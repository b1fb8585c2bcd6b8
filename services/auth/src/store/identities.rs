//! Table `identities`: maps a provider's immutable user ids to users.

use foundry_core::{Result, UserId};
use foundry_store::{Store, Table, WriteSet};

use super::users::User;
use crate::domain::proof::Subject;

pub(crate) const TABLE: Table =
    Table::new("identities", &["provider", "subject", "user_id"], &["provider", "subject"]);

pub(crate) fn insert(set: &mut WriteSet, subject: &Subject, user: &UserId) {
    set.insert(&TABLE, [subject.provider.into(), (&subject.subject).into(), user.into()]);
}

/// The user who has signed in as this subject before.
pub(crate) async fn user_of(store: &Store, subject: &Subject) -> Result<Option<User>> {
    const SQL: &str = "SELECT u.user_id, u.login, u.display_name, u.created_at, u.active_organization_id FROM identities i \
         JOIN users u ON u.user_id = i.user_id WHERE i.provider = $1 AND i.subject = $2";
    let rows = store.query(SQL, &[subject.provider.into(), (&subject.subject).into()]).await?;
    rows.first().map(User::read).transpose()
}
