//! Table `accounts`: accounts at identity providers, by issuer and subject. They stay as long as their user.

use foundry_core::{AccountId, Result, Timestamp, UserId};
use foundry_secrets::{Column, Sealed};
use foundry_service::SecretColumn;
use foundry_store::{Row, Store, Table, Value, WriteSet};

use super::id;
use super::users::User;
use crate::domain::account::{AdmittedBy, Identified};

pub(crate) const TABLE: Table = Table::new(
    "accounts",
    &[
        "account_id",
        "issuer",
        "subject",
        "user_id",
        "provider",
        "login",
        "display_name",
        "email",
        "picture_url",
        "admitted_by",
        "token",
        "created_at",
        "seen_at",
    ],
    &["account_id"],
);

/// The tokens, to encrypt them with another key.
pub(crate) const SECRETS: SecretColumn = SecretColumn {
    service: crate::NAME,
    table: &TABLE,
    key: "account_id",
    column: "token",
    rows: "SELECT account_id, token FROM accounts WHERE account_id > $1 AND token IS NOT NULL \
           ORDER BY account_id LIMIT $2",
    bound_to: |row| row.text("account_id").map(str::to_owned),
};

/// What the encryption of a token is bound to.
pub(crate) fn bound_to(account: &AccountId) -> Column<'_> {
    Column { service: crate::NAME, table: "accounts", row: account.as_str(), column: "token" }
}

/// A stored account and its user.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) account_id: AccountId,
    pub(crate) admitted_by: AdmittedBy,
    pub(crate) user: User,
}

impl Account {
    fn read(row: &Row) -> Result<Self> {
        let account_id = id(row, "account_id")?;
        let admitted_by = AdmittedBy::parse(row.text("admitted_by")?);
        Ok(Self { account_id, admitted_by, user: User::read(row)? })
    }
}

/// The account that this subject has here.
pub(crate) async fn of_subject(store: &Store, issuer: &str, subject: &str) -> Result<Option<Account>> {
    const SQL: &str = "SELECT a.account_id, a.admitted_by, u.user_id, u.login, u.display_name, u.created_at, \
         u.active_organization_id FROM accounts a JOIN users u ON u.user_id = a.user_id \
         WHERE a.issuer = $1 AND a.subject = $2";
    store.query(SQL, &[issuer.into(), subject.into()]).await?.first().map(Account::read).transpose()
}

/// Whether a user has an account at all: those of the development sign-in have none.
pub(crate) async fn has_one(store: &Store, user: &UserId) -> Result<bool> {
    const SQL: &str = "SELECT account_id FROM accounts WHERE user_id = $1 LIMIT 1";
    Ok(!store.query(SQL, &[user.into()]).await?.is_empty())
}

/// Adds an account of a user; a conflict if the subject has one.
pub(crate) fn insert(
    set: &mut WriteSet,
    (account, user): (&AccountId, &UserId),
    (provider, who): (&str, &Identified),
    admitted_by: AdmittedBy,
    token: &Sealed,
    now: Timestamp,
) {
    let values = [
        account.into(),
        (&who.issuer).into(),
        (&who.subject).into(),
        user.into(),
        provider.into(),
        (&who.login).into(),
        (&who.display_name).into(),
        (&who.email).into(),
        (&who.picture_url).into(),
        admitted_by.as_str().into(),
        token.as_bytes().to_vec().into(),
        now.into(),
        now.into(),
    ];
    set.insert(&TABLE, values);
}

/// Records what the provider says now.
pub(crate) fn refresh(
    set: &mut WriteSet,
    account: &AccountId,
    who: &Identified,
    admitted_by: AdmittedBy,
    token: &Sealed,
    now: Timestamp,
) {
    let changes: [(&'static str, Value); 7] = [
        ("login", (&who.login).into()),
        ("display_name", (&who.display_name).into()),
        ("email", (&who.email).into()),
        ("picture_url", (&who.picture_url).into()),
        ("admitted_by", admitted_by.as_str().into()),
        ("token", token.as_bytes().to_vec().into()),
        ("seen_at", now.into()),
    ];
    set.update_where(&TABLE, &[("account_id", account.into())], &changes);
}
