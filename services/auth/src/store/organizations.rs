//! Table `organizations`: the tenants and their names.

use foundry_core::{OrganizationId, Result, Timestamp, UserId};
use foundry_proto::auth::v1::Organization as OrganizationMessage;
use foundry_proto::common::v1::Role;
use foundry_store::{Row, Store, Table, Value, WriteSet};

use super::{Reach, id};

pub(crate) const TABLE: Table = Table::new(
    "organizations",
    &["organization_id", "name", "created_at", "set_up_at"],
    &["organization_id"],
);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Organization {
    pub(crate) organization_id: OrganizationId,
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
}

impl Organization {
    pub(crate) fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            organization_id: id(row, "organization_id")?,
            name: row.text("name")?.to_owned(),
            created_at: row.time("created_at")?,
        })
    }

    pub(crate) fn insert(&self, set: &mut WriteSet) {
        let (id, name) = ((&self.organization_id).into(), (&self.name).into());
        set.insert(&TABLE, [id, name, self.created_at.into(), Value::Null]);
    }

    pub(crate) fn message(&self) -> OrganizationMessage {
        OrganizationMessage {
            organization_id: self.organization_id.to_string(),
            name: self.name.clone(),
            create_time: Some(self.created_at.to_proto()),
        }
    }
}

/// Records that the set-up secret made somebody an owner of this organization.
pub(crate) fn set_up(set: &mut WriteSet, organization: &OrganizationId, now: Timestamp) {
    set.update(&TABLE, &[organization.into()], &[("set_up_at", now.into())], &[]);
}

/// The organization that was set up first and still has an owner with an account at a provider; none while the set-up is
/// to be done. An organization that somebody made in another way, such as with the development sign-in, is none of these.
pub(crate) async fn home(store: &Store) -> Result<Option<OrganizationId>> {
    const SQL: &str = "SELECT o.organization_id FROM organizations o WHERE o.set_up_at IS NOT NULL \
         AND EXISTS (SELECT 1 FROM memberships m JOIN accounts a ON a.user_id = m.user_id \
         WHERE m.organization_id = o.organization_id AND m.role = $1) \
         ORDER BY o.set_up_at, o.organization_id LIMIT 1";
    let rows = store.query(SQL, &[i32::from(Role::Owner).into()]).await?;
    rows.first().map(|row| id(row, "organization_id")).transpose()
}

pub(crate) async fn by_name(store: &Store, name: &str) -> Result<Option<Organization>> {
    const SQL: &str = "SELECT organization_id, name, created_at FROM organizations WHERE name = $1";
    store.query(SQL, &[name.into()]).await?.first().map(Organization::read).transpose()
}

pub(crate) async fn by_id(store: &Store, id: &OrganizationId) -> Result<Option<Organization>> {
    const SQL: &str =
        "SELECT organization_id, name, created_at FROM organizations WHERE organization_id = $1";
    store.query(SQL, &[id.into()]).await?.first().map(Organization::read).transpose()
}

/// A page of a user's organizations that its token covers, sorted by name.
pub(crate) async fn of_user(
    store: &Store,
    user: &UserId,
    reach: &Reach,
    after: &str,
    limit: u32,
) -> Result<Vec<Organization>> {
    const SQL: &str = "SELECT o.organization_id, o.name, o.created_at FROM memberships m \
         JOIN organizations o ON o.organization_id = m.organization_id \
         WHERE m.user_id = $1 AND ($2 = '' OR m.organization_id = $2) AND o.name > $3 \
         ORDER BY o.name LIMIT $4";
    let rows = store.query(SQL, &[user.into(), reach.value(), after.into(), limit.into()]).await?;
    rows.iter().map(Organization::read).collect()
}
