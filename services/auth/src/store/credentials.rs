//! Table `credentials`: sessions (see `sessions.rs`) and personal access tokens.

use foundry_core::{AccessTokenId, Error, OrganizationId, Result, Timestamp, UserId};
use foundry_proto::auth::v1::AccessToken;
use foundry_proto::common::v1::Role;
use foundry_store::{Guard, Row, Store, Table, Value, WriteSet};

use super::{Reach, id, memberships};

pub(crate) const TABLE: Table = Table::new(
    "credentials",
    &[
        "credential_id",
        "kind",
        "secret_hash",
        "user_id",
        "organization_id",
        "name",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
        "device",
        "means",
        "provider",
        "address",
    ],
    &["credential_id"],
);

const ACCESS_TOKEN: &str = "access_token";

/// Most valid personal access tokens of one user in one organization.
pub(crate) const MAX_TOKENS: i64 = 50;

/// A personal access token without the hash of its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) token_id: AccessTokenId,
    pub(crate) user_id: UserId,
    pub(crate) organization_id: OrganizationId,
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
    pub(crate) last_used_at: Option<Timestamp>,
}

impl Token {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            token_id: id(row, "credential_id")?,
            user_id: id(row, "user_id")?,
            organization_id: id(row, "organization_id")?,
            name: row.text("name")?.to_owned(),
            created_at: row.time("created_at")?,
            expires_at: row.opt_time("expires_at")?,
            revoked_at: row.opt_time("revoked_at")?,
            last_used_at: row.opt_time("last_used_at")?,
        })
    }

    /// Inserts the token; fails at commit if the user has reached the limit in the organization.
    pub(crate) fn insert(&self, set: &mut WriteSet, secret_hash: [u8; 32]) {
        let good = [
            ("user_id", (&self.user_id).into()),
            ("organization_id", (&self.organization_id).into()),
            ("kind", ACCESS_TOKEN.into()),
            ("revoked_at", Value::Null),
        ];
        set.guard(Guard::count_below(&TABLE, &good, MAX_TOKENS, "access_tokens_per_user"));
        let values = [
            (&self.token_id).into(),
            ACCESS_TOKEN.into(),
            Value::from(&secret_hash[..]),
            (&self.user_id).into(),
            (&self.organization_id).into(),
            (&self.name).into(),
            self.created_at.into(),
            self.expires_at.into(),
            self.revoked_at.into(),
            self.last_used_at.into(),
            "".into(),
            "".into(),
            "".into(),
            "".into(),
        ];
        set.insert(&TABLE, values);
    }

    pub(crate) fn message(&self) -> AccessToken {
        AccessToken {
            access_token_id: self.token_id.to_string(),
            user_id: self.user_id.to_string(),
            organization_id: self.organization_id.to_string(),
            name: self.name.clone(),
            create_time: Some(self.created_at.to_proto()),
            expire_time: self.expires_at.map(Timestamp::to_proto),
            revoke_time: self.revoked_at.map(Timestamp::to_proto),
            last_use_time: self.last_used_at.map(Timestamp::to_proto),
        }
    }
}

/// Revokes a credential; fails at commit if it is revoked already.
pub(crate) fn revoke(set: &mut WriteSet, credential_id: &str, now: Timestamp) {
    let key = [credential_id.into()];
    set.update(&TABLE, &key, &[("revoked_at", now.into())], &[("revoked_at", Value::Null)]);
}

/// Whether a credential is revoked; none if there is no such credential.
pub(crate) async fn is_revoked(store: &Store, credential_id: &str) -> Result<Option<bool>> {
    const SQL: &str = "SELECT revoked_at FROM credentials WHERE credential_id = $1";
    let rows = store.query(SQL, &[credential_id.into()]).await?;
    rows.first().map(|row| Ok(row.opt_time("revoked_at")?.is_some())).transpose()
}

/// Revokes all valid personal access tokens of a user in an organization.
pub(crate) fn revoke_tokens_in(
    set: &mut WriteSet,
    user: &UserId,
    organization: &OrganizationId,
    now: Timestamp,
) {
    let good = [
        ("user_id", user.into()),
        ("organization_id", organization.into()),
        ("kind", ACCESS_TOKEN.into()),
        ("revoked_at", Value::Null),
    ];
    set.update_where(&TABLE, &good, &[("revoked_at", now.into())]);
}

/// Stores when a credential was last used; does nothing if it is gone.
pub(crate) fn used(set: &mut WriteSet, credential_id: &str, at: Timestamp) {
    set.update_where(&TABLE, &[("credential_id", credential_id.into())], &[("last_used_at", at.into())]);
}

pub(crate) async fn token(store: &Store, token: &AccessTokenId) -> Result<Option<Token>> {
    const SQL: &str = "SELECT credential_id, user_id, organization_id, name, created_at, expires_at, \
         revoked_at, last_used_at FROM credentials WHERE credential_id = $1 AND kind = 'access_token'";
    store.query(SQL, &[token.into()]).await?.first().map(Token::read).transpose()
}

/// A user's personal access tokens that the caller's token covers, newest first. Starts below the id `before`, or at
/// the newest if that is empty.
pub(crate) async fn tokens_of(
    store: &Store,
    user: &UserId,
    reach: &Reach,
    before: &str,
    limit: u32,
) -> Result<Vec<Token>> {
    const SQL: &str = "SELECT credential_id, user_id, organization_id, name, created_at, expires_at, \
         revoked_at, last_used_at FROM credentials WHERE user_id = $1 AND kind = 'access_token' \
         AND ($2 = '' OR organization_id = $2) AND ($3 = '' OR credential_id < $3) \
         ORDER BY credential_id DESC LIMIT $4";
    let rows = store.query(SQL, &[user.into(), reach.value(), before.into(), limit.into()]).await?;
    rows.iter().map(Token::read).collect()
}

/// Ids of expired credentials that are not revoked yet.
pub(crate) async fn expired(store: &Store, now: Timestamp, limit: u32) -> Result<Vec<String>> {
    const SQL: &str = "SELECT credential_id FROM credentials \
         WHERE expires_at <= $1 AND revoked_at IS NULL ORDER BY expires_at LIMIT $2";
    let rows = store.query(SQL, &[now.into(), limit.into()]).await?;
    rows.iter().map(|row| Ok(row.text("credential_id")?.to_owned())).collect()
}

/// Credentials of users without an account at a provider that are not revoked yet, each with the organization that its
/// end is audited in: the token's own, or the active one of the user.
pub(crate) async fn without_account(
    store: &Store,
    limit: u32,
) -> Result<Vec<(String, Option<OrganizationId>)>> {
    const SQL: &str = "SELECT c.credential_id, coalesce(c.organization_id, u.active_organization_id) AS place \
         FROM credentials c JOIN users u ON u.user_id = c.user_id WHERE c.revoked_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.user_id = c.user_id) \
         ORDER BY c.credential_id LIMIT $1";
    let rows = store.query(SQL, &[limit.into()]).await?;
    let read = |row: &Row| {
        let place = if row.text("place")?.is_empty() { None } else { Some(id(row, "place")?) };
        Ok((row.text("credential_id")?.to_owned(), place))
    };
    rows.iter().map(read).collect()
}

/// A credential, with the contents of an access token made from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) credential_id: String,
    pub(crate) user_id: UserId,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
    pub(crate) last_used_at: Option<Timestamp>,
    pub(crate) roles: Vec<(OrganizationId, Role)>,
    /// Revision of the revocations up to which `roles` is current.
    pub(crate) revocations_rev: i64,
}

/// Reads in one statement, so at one moment: a membership is missing if and only if the revision includes its
/// revocation. For the same reason the revision is read here, from the store's own table.
pub(crate) async fn by_secret(store: &Store, secret_hash: [u8; 32]) -> Result<Option<Exchange>> {
    const SQL: &str = "SELECT c.credential_id, c.user_id, c.expires_at, c.revoked_at, c.last_used_at, \
         m.organization_id, m.role, \
         coalesce((SELECT rev FROM store_scopes WHERE scope = 'service/revocations'), 0) AS revocations_rev \
         FROM credentials c LEFT JOIN memberships m ON m.user_id = c.user_id \
         AND (c.organization_id IS NULL OR m.organization_id = c.organization_id) WHERE c.secret_hash = $1";
    let rows = store.query(SQL, &[Value::from(&secret_hash[..])]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let mut roles = Vec::new();
    for row in &rows {
        if let Some(organization) = row.opt_text("organization_id")? {
            let organization = organization.parse().map_err(|e: Error| Error::internal(e.to_string()))?;
            roles.push((organization, memberships::role(row)?));
        }
    }
    Ok(Some(Exchange {
        credential_id: first.text("credential_id")?.to_owned(),
        user_id: id(first, "user_id")?,
        expires_at: first.opt_time("expires_at")?,
        revoked_at: first.opt_time("revoked_at")?,
        last_used_at: first.opt_time("last_used_at")?,
        roles,
        revocations_rev: first.int("revocations_rev")?,
    }))
}
