//! Table `repository_credentials`: credentials for private repositories, their secrets encrypted.

use foundry_core::{
    Error, OrganizationId, PageRequest, PageToken, RepositoryCredentialId, RepositoryId, Result,
};
use foundry_forge::AppInstallation;
use foundry_proto::common::v1::Condition;
use foundry_secrets::Sealed;
use foundry_service::{SecretColumn, stored_condition};
use foundry_store::{Guard, Reader, RevRef, Row, Scope, Table, Value, WriteSet};
use prost::Message as _;

use crate::domain::credential::{Credential, HostKey, Kind, State};

pub const CREDENTIALS: Table = Table::new(
    "repository_credentials",
    &[
        "credential_id",
        "organization_id",
        "rev",
        "target",
        "repository_id",
        "origin",
        "kind",
        "username",
        "hint",
        "public_key",
        "host_keys",
        "state",
        "condition",
        "test_time",
        "create_time",
        "secret",
        "app_id",
        "installation_id",
    ],
    &["credential_id"],
);

/// Most credentials of an organization.
const MAX_CREDENTIALS: i64 = 500;
/// Kind of a tombstone.
pub const KIND: &str = "repository_credential";

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT credential_id, organization_id, rev, target, repository_id, origin, kind, username, hint, public_key, ",
            "host_keys, state, condition, test_time, create_time, secret, app_id, installation_id FROM repository_credentials ",
            $rest
        )
    };
}

/// Rows of an organization by revision, for watches.
pub const BY_REV: &str = select!("WHERE organization_id = $1 AND rev > $2 ORDER BY rev LIMIT $3");

/// The secrets, to encrypt them with another key.
pub const SECRETS: SecretColumn = SecretColumn {
    service: "repo",
    table: &CREDENTIALS,
    key: "credential_id",
    column: "secret",
    rows: select!("WHERE credential_id > $1 ORDER BY credential_id LIMIT $2"),
    bound_to: |row| read(row).map(|credential| credential.binding()),
};

/// Reads a row.
pub fn read(row: &Row) -> Result<Credential> {
    let id = row.text("credential_id")?;
    let repository_id = match row.text("repository_id")? {
        "" => None,
        id => Some(id.parse::<RepositoryId>()?),
    };
    Ok(Credential {
        credential_id: id.parse()?,
        organization_id: row.text("organization_id")?.parse()?,
        rev: row.int("rev")?,
        repository_id,
        origin: row.text("origin")?.to_owned(),
        kind: Kind::parse(row.text("kind")?)?,
        username: row.text("username")?.to_owned(),
        hint: row.text("hint")?.to_owned(),
        public_key: row.text("public_key")?.to_owned(),
        host_keys: row.json("host_keys").unwrap_or_else(|_| vec![HostKey::damaged()]),
        state: State::parse(row.text("state")?),
        condition: stored_condition(row, "condition", id)?,
        test_time: row.opt_time("test_time")?,
        create_time: row.time("create_time")?,
        app: app(row)?,
        sealed: row.blob("secret")?,
    })
}

fn app(row: &Row) -> Result<Option<AppInstallation>> {
    let app_id = row.text("app_id")?;
    let installation_id = u64::try_from(row.int("installation_id")?).unwrap_or_default();
    Ok((!app_id.is_empty()).then(|| AppInstallation { app_id: app_id.to_owned(), installation_id }))
}

/// Whether the column holds an encrypted secret, for `foundry verify`.
///
/// # Errors
/// When it does not.
pub fn is_sealed(row: &Row, column: &str) -> Result<()> {
    let sealed = Sealed::from_bytes(row.blob(column)?.as_ref());
    sealed.key_id().map(drop).ok_or_else(|| Error::internal("it is no encrypted secret of a known format"))
}

/// The credential with this id, in any organization; the caller checks access.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn find(from: &impl Reader, id: &RepositoryCredentialId) -> Result<Option<Credential>> {
    let rows = from.query(select!("WHERE credential_id = $1"), &[id.as_str().into()]).await?;
    rows.first().map(read).transpose()
}

/// The organization's credential for a repository's id or an origin.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn find_for(
    from: &impl Reader,
    organization: &OrganizationId,
    target: &str,
) -> Result<Option<Credential>> {
    let params = [organization.as_str().into(), target.into()];
    let rows = from.query(select!("WHERE organization_id = $1 AND target = $2"), &params).await?;
    rows.first().map(read).transpose()
}

/// A page of an organization's credentials, oldest first: their ids begin with the time.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn list(
    from: &impl Reader,
    organization: &OrganizationId,
    page: &PageRequest,
) -> Result<(Vec<Credential>, Option<PageToken>)> {
    let after = page.begins_after(String::new(), |id| Some(id.to_owned()))?;
    let params = [organization.as_str().into(), after.into(), page.limit().into()];
    let sql = select!("WHERE organization_id = $1 AND credential_id > $2 ORDER BY credential_id LIMIT $3");
    let found = from.query(sql, &params).await?.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(page.cut(found, |c| c.credential_id.to_string()))
}

/// Adds a credential; refused when the organization has 500.
///
/// # Errors
/// `INTERNAL` when it cannot be encoded.
pub fn insert(ws: &mut WriteSet, rev: RevRef, c: &Credential) -> Result<()> {
    let ours = [("organization_id", c.organization_id.as_str().into())];
    ws.guard(Guard::count_below(&CREDENTIALS, &ours, MAX_CREDENTIALS, "repository_credentials"));
    let values: Vec<Value> = vec![
        c.credential_id.as_str().into(),
        c.organization_id.as_str().into(),
        rev.into(),
        c.target().into(),
        c.repository_id.as_ref().map_or("", RepositoryId::as_str).into(),
        c.origin.as_str().into(),
        c.kind.as_str().into(),
        c.username.as_str().into(),
        c.hint.as_str().into(),
        c.public_key.as_str().into(),
        host_keys(&c.host_keys)?,
        c.state.as_str().into(),
        c.condition.encode_to_vec().into(),
        c.test_time.into(),
        c.create_time.into(),
        c.sealed.clone().into(),
        c.app.as_ref().map_or("", |app| &app.app_id).into(),
        c.app.as_ref().map_or(0, |app| i64::try_from(app.installation_id).unwrap_or_default()).into(),
    ];
    ws.insert(&CREDENTIALS, values);
    Ok(())
}

/// Changes columns of a row; fails if its revision is no longer the loaded one.
pub fn update(ws: &mut WriteSet, c: &Credential, mut set: Vec<(&'static str, Value)>) {
    let rev = ws.scope(Scope::organization(&c.organization_id));
    set.push(("rev", rev.into()));
    ws.update(&CREDENTIALS, &[c.credential_id.as_str().into()], &set, &[("rev", c.rev.into())]);
}

/// Records what a use has shown, unless the row has changed since it was loaded.
///
/// # Errors
/// `INTERNAL` when it cannot be encoded.
pub fn record(ws: &mut WriteSet, loaded_rev: i64, c: &Credential) -> Result<()> {
    let rev = ws.scope(Scope::organization(&c.organization_id));
    let is = [("credential_id", c.credential_id.as_str().into()), ("rev", loaded_rev.into())];
    let set = [
        ("rev", rev.into()),
        ("host_keys", host_keys(&c.host_keys)?),
        ("state", c.state.as_str().into()),
        ("condition", c.condition.encode_to_vec().into()),
        ("test_time", c.test_time.into()),
    ];
    ws.update_where(&CREDENTIALS, &is, &set);
    Ok(())
}

/// Ends a test that is under way in a failure.
pub fn fail(ws: &mut WriteSet, organization: &OrganizationId, id: &str, condition: &Condition) {
    let rev = ws.scope(Scope::organization(organization));
    let is = [("credential_id", id.into()), ("state", State::Testing.as_str().into())];
    let set = [
        ("rev", rev.into()),
        ("state", State::Failed.as_str().into()),
        ("condition", condition.encode_to_vec().into()),
    ];
    ws.update_where(&CREDENTIALS, &is, &set);
}

/// Deletes a credential that is as it was loaded; anything else is a conflict.
pub fn delete(ws: &mut WriteSet, c: &Credential) {
    let rev = ws.scope(Scope::organization(&c.organization_id));
    ws.delete(&CREDENTIALS, &[c.credential_id.as_str().into()], &[("rev", c.rev.into())]);
    ws.tombstone(rev, KIND, c.credential_id.as_str());
}

/// Keys of a host as a column value.
///
/// # Errors
/// `INTERNAL` when they cannot be encoded.
pub fn host_keys(keys: &[HostKey]) -> Result<Value> {
    Ok(serde_json::to_string(keys).map_err(Error::internal)?.into())
}
