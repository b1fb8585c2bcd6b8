//! Table `repositories`: each repository and the state of its mirror.

use foundry_core::{OrganizationId, PageRequest, PageToken, RepositoryId, Result};
use foundry_proto::common::v1::Condition;
use foundry_service::stored_condition;
use foundry_store::{RevRef, Row, Store, Table, Value, WriteSet};
use prost::Message as _;

use crate::domain::name::RepositoryName;
use crate::domain::repository::{Repository, State};

pub const REPOSITORIES: Table = Table::new(
    "repositories",
    &[
        "repository_id",
        "organization_id",
        "rev",
        "name",
        "name_key",
        "url",
        "state",
        "condition",
        "default_branch",
        "branch_count",
        "sync_time",
        "create_time",
        "refresh_wanted",
        "listed_time",
        "listing",
        "empty_commit",
    ],
    &["repository_id"],
);

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT repository_id, organization_id, rev, name, url, state, condition, default_branch, branch_count, ",
            "sync_time, create_time, refresh_wanted, listed_time, listing, empty_commit FROM repositories ",
            $rest
        )
    };
}

/// Rows of an organization by revision, for watches.
pub const BY_REV: &str = select!("WHERE organization_id = $1 AND rev > $2 ORDER BY rev LIMIT $3");
/// One repository by revision, for watches.
pub const ONE_BY_REV: &str =
    select!("WHERE organization_id = $1 AND repository_id = $2 AND rev > $3 ORDER BY rev LIMIT $4");

/// Reads a row.
pub fn read(row: &Row) -> Result<Repository> {
    Ok(Repository {
        repository_id: row.text("repository_id")?.parse()?,
        organization_id: row.text("organization_id")?.parse()?,
        rev: row.int("rev")?,
        name: row.text("name")?.to_owned(),
        url: row.text("url")?.to_owned(),
        state: State::parse(row.text("state")?),
        condition: stored_condition(row, "condition", row.text("repository_id")?)?,
        default_branch: row.text("default_branch")?.to_owned(),
        branch_count: row.int("branch_count")?,
        sync_time: row.opt_time("sync_time")?,
        create_time: row.time("create_time")?,
        refresh_wanted: row.bool("refresh_wanted")?,
        listed_time: row.time("listed_time")?,
        listing: row.text("listing")?.to_owned(),
        empty_commit: row.text("empty_commit")?.to_owned(),
    })
}

/// The repository with this id, in any organization.
pub async fn find(store: &Store, id: &RepositoryId) -> Result<Option<Repository>> {
    store
        .query(select!("WHERE repository_id = $1"), &[id.as_str().into()])
        .await?
        .first()
        .map(read)
        .transpose()
}

/// The organization's repository of this name, without regard to case.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn find_by_name(
    store: &Store,
    organization: &OrganizationId,
    name: &str,
) -> Result<Option<Repository>> {
    let params = [organization.as_str().into(), name.to_lowercase().into()];
    let rows = store.query(select!("WHERE organization_id = $1 AND name_key = $2"), &params).await?;
    rows.first().map(read).transpose()
}

/// A page of an organization's repositories, sorted by name.
pub async fn list(
    store: &Store,
    organization: &OrganizationId,
    page: &PageRequest,
) -> Result<(Vec<Repository>, Option<PageToken>)> {
    let after = page.begins_after(String::new(), |name| Some(name.to_owned()))?;
    let params = [organization.as_str().into(), after.into(), page.limit().into()];
    let rows = store
        .query(select!("WHERE organization_id = $1 AND name_key > $2 ORDER BY name_key LIMIT $3"), &params)
        .await?;
    let found = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(page.cut(found, |r| r.name.to_lowercase()))
}

/// Adds a new repository.
pub fn insert(ws: &mut WriteSet, rev: RevRef, r: &Repository, name: &RepositoryName) {
    let values: Vec<Value> = vec![
        r.repository_id.as_str().into(),
        r.organization_id.as_str().into(),
        rev.into(),
        name.as_str().into(),
        name.key().into(),
        r.url.as_str().into(),
        r.state.as_str().into(),
        r.condition.encode_to_vec().into(),
        r.default_branch.as_str().into(),
        r.branch_count.into(),
        r.sync_time.into(),
        r.create_time.into(),
        r.refresh_wanted.into(),
        r.listed_time.into(),
        r.listing.as_str().into(),
        r.empty_commit.as_str().into(),
    ];
    ws.insert(&REPOSITORIES, values);
}

/// Changes columns of a row; fails if its revision is no longer the loaded one.
pub fn update(ws: &mut WriteSet, rev: RevRef, r: &Repository, set: Vec<(&'static str, Value)>) {
    let mut set = set;
    set.push(("rev", rev.into()));
    ws.update(&REPOSITORIES, &[r.repository_id.as_str().into()], &set, &[("rev", r.rev.into())]);
}

/// A condition as a column value.
pub fn condition(condition: &Condition) -> Value {
    condition.encode_to_vec().into()
}
