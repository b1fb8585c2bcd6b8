//! Table `users`: the people who have signed in.

use foundry_core::{OrganizationId, Result, Timestamp, UserId};
use foundry_proto::auth::v1::User as UserMessage;
use foundry_store::{Guard, Row, Scope, Store, Table, Value, WriteSet};

use super::id;

pub(crate) const TABLE: Table = Table::new(
    "users",
    &["user_id", "login", "display_name", "created_at", "active_organization_id", "rev"],
    &["user_id"],
);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) user_id: UserId,
    pub(crate) login: String,
    pub(crate) display_name: String,
    pub(crate) created_at: Timestamp,
    /// The active organization, which all clients of the user show; none if the user is in none.
    pub(crate) active: Option<OrganizationId>,
}

impl User {
    pub(crate) fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            user_id: id(row, "user_id")?,
            login: row.text("login")?.to_owned(),
            display_name: row.text("display_name")?.to_owned(),
            created_at: row.time("created_at")?,
            active: active(row)?,
        })
    }

    pub(crate) fn insert(&self, set: &mut WriteSet) {
        let rev = set.scope(Scope::user(&self.user_id));
        let (login, name) = ((&self.login).into(), (&self.display_name).into());
        let active = text(self.active.as_ref());
        set.insert(&TABLE, [(&self.user_id).into(), login, name, self.created_at.into(), active, rev.into()]);
    }

    /// Makes an organization the active one, or none; fails at commit if another one became active in between.
    pub(crate) fn activate(&self, set: &mut WriteSet, organization: Option<&OrganizationId>) {
        let rev = set.scope(Scope::user(&self.user_id));
        let changes = [("active_organization_id", text(organization)), ("rev", rev.into())];
        let was = [("active_organization_id", text(self.active.as_ref()))];
        set.update(&TABLE, &[(&self.user_id).into()], &changes, &was);
    }

    /// Takes over what the user is called at the identity provider.
    pub(crate) fn rename(&self, set: &mut WriteSet, login: &str, display_name: &str) {
        let rev = set.scope(Scope::user(&self.user_id));
        let changes = [("login", login.into()), ("display_name", display_name.into()), ("rev", rev.into())];
        set.update(&TABLE, &[(&self.user_id).into()], &changes, &[]);
    }

    /// Guards a write set: the active organization must still be the same at commit.
    pub(crate) fn still_active(&self, set: &mut WriteSet) {
        let active = ("active_organization_id", text(self.active.as_ref()));
        set.guard(Guard::exists(&TABLE, &[("user_id", (&self.user_id).into()), active]));
    }

    pub(crate) fn message(&self) -> UserMessage {
        UserMessage {
            user_id: self.user_id.to_string(),
            login: self.login.clone(),
            display_name: self.display_name.clone(),
            create_time: Some(self.created_at.to_proto()),
        }
    }
}

/// The active organization's column of a row.
pub(crate) fn active(row: &Row) -> Result<Option<OrganizationId>> {
    if row.text("active_organization_id")?.is_empty() {
        return Ok(None);
    }
    id(row, "active_organization_id").map(Some)
}

fn text(organization: Option<&OrganizationId>) -> Value {
    organization.map_or_else(|| "".into(), Value::from)
}

pub(crate) async fn by_id(store: &Store, user: &UserId) -> Result<Option<User>> {
    const SQL: &str = "SELECT user_id, login, display_name, created_at, active_organization_id FROM users WHERE user_id = $1";
    store.query(SQL, &[user.into()]).await?.first().map(User::read).transpose()
}

/// How many logins [`taken`] looks for.
pub(crate) const CANDIDATES: usize = 16;

/// Which of these logins belong to somebody.
pub(crate) async fn taken(store: &Store, logins: &[String; CANDIDATES]) -> Result<Vec<String>> {
    const SQL: &str = "SELECT login FROM users WHERE login IN \
         ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    let logins: Vec<Value> = logins.iter().map(Value::from).collect();
    store.query(SQL, &logins).await?.iter().map(|row| Ok(row.text("login")?.to_owned())).collect()
}

pub(crate) async fn by_login(store: &Store, login: &str) -> Result<Option<User>> {
    const SQL: &str =
        "SELECT user_id, login, display_name, created_at, active_organization_id FROM users WHERE login = $1";
    store.query(SQL, &[login.into()]).await?.first().map(User::read).transpose()
}
