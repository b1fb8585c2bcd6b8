//! Table `users`.

use foundry_core::{Result, Timestamp, UserId};
use foundry_proto::auth::v1::User as UserMessage;
use foundry_store::{Row, Store, Table, WriteSet};

use super::id;

pub(crate) const TABLE: Table =
    Table::new("users", &["user_id", "login", "display_name", "created_at"], &["user_id"]);

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) user_id: UserId,
    pub(crate) login: String,
    pub(crate) display_name: String,
    pub(crate) created_at: Timestamp,
}

impl User {
    pub(crate) fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            user_id: id(row, "user_id")?,
            login: row.text("login")?.to_owned(),
            display_name: row.text("display_name")?.to_owned(),
            created_at: row.time("created_at")?,
        })
    }

    pub(crate) fn insert(&self, set: &mut WriteSet) {
        let (login, name) = ((&self.login).into(), (&self.display_name).into());
        set.insert(&TABLE, [(&self.user_id).into(), login, name, self.created_at.into()]);
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

pub(crate) async fn by_id(store: &Store, user: &UserId) -> Result<Option<User>> {
    const SQL: &str = "SELECT user_id, login, display_name, created_at FROM users WHERE user_id = $1";
    store.query(SQL, &[user.into()]).await?.first().map(User::read).transpose()
}

pub(crate) async fn by_login(store: &Store, login: &str) -> Result<Option<User>> {
    const SQL: &str = "SELECT user_id, login, display_name, created_at FROM users WHERE login = $1";
    store.query(SQL, &[login.into()]).await?.first().map(User::read).transpose()
}
