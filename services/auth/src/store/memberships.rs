//! Table `memberships`: the role of each user in each of its organizations.

use foundry_core::{Error, OrganizationId, Result, Timestamp, UserId};
use foundry_proto::auth::v1::Membership as MembershipMessage;
use foundry_proto::common::v1::Role;
use foundry_store::{Guard, Row, Scope, Store, Table, Value, WriteSet};

use super::{Reach, id};

pub(crate) const TABLE: Table = Table::new(
    "memberships",
    &["organization_id", "user_id", "role", "created_at", "rev"],
    &["organization_id", "user_id"],
);

/// Kind of a lost membership's tombstone in the user's scope; the key is the organization's id.
pub(crate) const LOST: &str = "membership";

/// Kind of the tombstone for watches that cover only this organization.
pub(crate) fn lost_in(organization: &OrganizationId) -> String {
    format!("{LOST}/{organization}")
}

/// Most organizations of one user, as an access token names all of them.
pub(crate) const MAX_PER_USER: i64 = 64;
/// Most members of one organization.
pub(crate) const MAX_PER_ORGANIZATION: i64 = 10_000;

/// A membership with the names that go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) organization_id: OrganizationId,
    pub(crate) organization_name: String,
    pub(crate) user_id: UserId,
    pub(crate) login: String,
    pub(crate) role: Role,
}

impl Membership {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            organization_id: id(row, "organization_id")?,
            organization_name: row.text("organization_name")?.to_owned(),
            user_id: id(row, "user_id")?,
            login: row.text("login")?.to_owned(),
            role: role(row)?,
        })
    }

    pub(crate) fn message(&self) -> MembershipMessage {
        MembershipMessage {
            organization_id: self.organization_id.to_string(),
            organization_name: self.organization_name.clone(),
            user_id: self.user_id.to_string(),
            login: self.login.clone(),
            role: self.role.into(),
        }
    }
}

/// The role column of a row.
pub(crate) fn role(row: &Row) -> Result<Role> {
    let number = i32::try_from(row.int("role")?).map_err(Error::internal)?;
    Role::try_from(number).map_err(Error::internal)
}

fn number(role: Role) -> Value {
    Value::from(i32::from(role))
}

/// Adds a member, within the limits of the user and of the organization.
pub(crate) fn insert(
    set: &mut WriteSet,
    organization: &OrganizationId,
    user: &UserId,
    role: Role,
    now: Timestamp,
) {
    let of_user = [("user_id", user.into())];
    set.guard(Guard::count_below(&TABLE, &of_user, MAX_PER_USER, "organizations_per_user"));
    let of_organization = [("organization_id", organization.into())];
    let limit =
        Guard::count_below(&TABLE, &of_organization, MAX_PER_ORGANIZATION, "members_per_organization");
    set.guard(limit);
    let rev = set.scope(Scope::user(user));
    set.insert(&TABLE, [organization.into(), user.into(), number(role), now.into(), rev.into()]);
}

/// Changes a role; fails at commit if it is no longer `from`.
pub(crate) fn update(set: &mut WriteSet, organization: &OrganizationId, user: &UserId, from: Role, to: Role) {
    let rev = set.scope(Scope::user(user));
    let key = [organization.into(), user.into()];
    set.update(&TABLE, &key, &[("role", number(to)), ("rev", rev.into())], &[("role", number(from))]);
}

/// Removes a member and leaves tombstones; fails at commit if its role is no longer `from`.
pub(crate) fn delete(set: &mut WriteSet, organization: &OrganizationId, user: &UserId, from: Role) {
    let rev = set.scope(Scope::user(user));
    set.delete(&TABLE, &[organization.into(), user.into()], &[("role", number(from))]);
    set.tombstone(rev, LOST, organization.as_str());
    set.tombstone(rev, &lost_in(organization), organization.as_str());
}

/// Guards a write set: the user must still have this role at commit.
pub(crate) fn still(set: &mut WriteSet, organization: &OrganizationId, user: &UserId, role: Role) {
    let row = [("organization_id", organization.into()), ("user_id", user.into()), ("role", number(role))];
    set.guard(Guard::exists(&TABLE, &row));
}

const SELECT_ONE: &str = "SELECT m.organization_id, o.name AS organization_name, m.user_id, u.login, m.role \
     FROM memberships m JOIN organizations o ON o.organization_id = m.organization_id \
     JOIN users u ON u.user_id = m.user_id WHERE m.organization_id = $1 AND m.user_id = $2";

pub(crate) async fn get(
    store: &Store,
    organization: &OrganizationId,
    user: &UserId,
) -> Result<Option<Membership>> {
    let rows = store.query(SELECT_ONE, &[organization.into(), user.into()]).await?;
    rows.first().map(Membership::read).transpose()
}

/// Up to two owners of an organization: enough to find one other than a given user.
pub(crate) async fn two_owners(store: &Store, organization: &OrganizationId) -> Result<Vec<UserId>> {
    const SQL: &str = "SELECT user_id FROM memberships \
         WHERE organization_id = $1 AND role = $2 ORDER BY user_id LIMIT 2";
    let rows = store.query(SQL, &[organization.into(), number(Role::Owner)]).await?;
    rows.iter().map(|row| id(row, "user_id")).collect()
}

/// A page of an organization's members, sorted by login.
pub(crate) async fn of_organization(
    store: &Store,
    organization: &OrganizationId,
    after: &str,
    limit: u32,
) -> Result<Vec<Membership>> {
    const SQL: &str = "SELECT m.organization_id, o.name AS organization_name, m.user_id, u.login, m.role \
         FROM memberships m JOIN organizations o ON o.organization_id = m.organization_id \
         JOIN users u ON u.user_id = m.user_id \
         WHERE m.organization_id = $1 AND u.login > $2 ORDER BY u.login LIMIT $3";
    let rows = store.query(SQL, &[organization.into(), after.into(), limit.into()]).await?;
    rows.iter().map(Membership::read).collect()
}

/// A user's memberships that its token covers, sorted by organization name.
pub(crate) async fn of_user(store: &Store, user: &UserId, reach: &Reach) -> Result<Vec<Membership>> {
    const SQL: &str = "SELECT m.organization_id, o.name AS organization_name, m.user_id, u.login, m.role \
         FROM memberships m JOIN organizations o ON o.organization_id = m.organization_id \
         JOIN users u ON u.user_id = m.user_id \
         WHERE m.user_id = $1 AND ($2 = '' OR m.organization_id = $2) ORDER BY o.name";
    store.query(SQL, &[user.into(), reach.value()]).await?.iter().map(Membership::read).collect()
}
