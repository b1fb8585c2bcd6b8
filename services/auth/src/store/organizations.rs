//! Table `organizations`: the tenants and their names.

use foundry_core::{OrganizationId, Result, Timestamp, UserId};
use foundry_proto::auth::v1::Organization as OrganizationMessage;
use foundry_store::{Row, Store, Table, WriteSet};

use super::{Reach, id};

pub(crate) const TABLE: Table =
    Table::new("organizations", &["organization_id", "name", "created_at"], &["organization_id"]);

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
        set.insert(&TABLE, [(&self.organization_id).into(), (&self.name).into(), self.created_at.into()]);
    }

    pub(crate) fn message(&self) -> OrganizationMessage {
        OrganizationMessage {
            organization_id: self.organization_id.to_string(),
            name: self.name.clone(),
            create_time: Some(self.created_at.to_proto()),
        }
    }
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
