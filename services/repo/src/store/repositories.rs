//! Table `repositories`: each repository and the state of its mirror.

use std::collections::HashMap;

use foundry_core::{OrganizationId, PageRequest, PageToken, RepositoryId, Result, Timestamp};
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1::PullRequestSync;
use foundry_service::{readable, stored_condition};
use foundry_store::{RevRef, Row, Store, Table, Value, WriteSet};
use prost::Message as _;

use crate::domain::name::RepositoryName;
use crate::domain::pull_request::PullFacts;
use crate::domain::repository::{OverviewFacts, Repository, State};
use crate::domain::sync::{Source, SyncFacts};

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
            "sync_time, create_time, refresh_wanted, listed_time, listing, empty_commit, sync_source, wanted_source, ",
            "next_sync_time, sync_failures, stale_since, stale_reason, stale_message, held_host, held_since, use_time, overview_owner, ",
            "overview_done, overview_total, overview_time, overview_reason, overview_message, branches_time, pull_sync, pull_next_time, pull_failures, ",
            "pull_mark, pull_source, announced, announce_time FROM repositories ",
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
        branches_time: row.time("branches_time")?,
        sync: sync_facts(row)?,
        overview: OverviewFacts {
            owner: row.text("overview_owner")?.to_owned(),
            done: row.int("overview_done")?,
            total: row.int("overview_total")?,
            complete: row.time("overview_time")?,
            left_out: (row.text("overview_reason")?.to_owned(), row.text("overview_message")?.to_owned()),
        },
        pulls: PullFacts {
            sync: readable::<PullRequestSync>(row, "pull_sync", row.text("repository_id")?)?
                .filter(|sync| sync.status != 0),
            next: row.time("pull_next_time")?,
            failures: u32::try_from(row.int("pull_failures")?).unwrap_or(u32::MAX),
            mark: row.text("pull_mark")?.to_owned(),
            source: row.text("pull_source")?.to_owned(),
        },
    })
}

fn sync_facts(row: &Row) -> Result<SyncFacts> {
    let (host, since) = (row.text("held_host")?, row.time("held_since")?);
    let (stale_since, text) = (row.time("stale_since")?, |column| row.text(column).map(str::to_owned));
    Ok(SyncFacts {
        source: Source::parse(row.text("sync_source")?),
        wanted_source: Source::parse(row.text("wanted_source")?),
        next: row.time("next_sync_time")?,
        failures: u32::try_from(row.int("sync_failures")?).unwrap_or(u32::MAX),
        stale: (stale_since.as_micros() > 0)
            .then(|| {
                Ok::<_, foundry_core::Error>((stale_since, text("stale_reason")?, text("stale_message")?))
            })
            .transpose()?,
        held: (!host.is_empty()).then(|| (host.to_owned(), since)),
        used: row.time("use_time")?,
        announced: row.bool("announced")?,
        announce_time: row.time("announce_time")?,
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

/// Repositories of which a synchronization is wanted that is to follow another one.
pub async fn refresh_wanted(store: &Store, limit: u32) -> Result<Vec<Repository>> {
    let sql = select!("WHERE refresh_wanted = 1 AND state <> 'deleting' ORDER BY repository_id LIMIT $1");
    store.query(sql, &[limit.into()]).await?.iter().map(read).collect()
}

/// Repositories whose next synchronization in the background is to be planned.
pub async fn unplanned(store: &Store, limit: u32) -> Result<Vec<Repository>> {
    let sql = select!(
        "WHERE polling = 0 AND next_sync_time <= 0 AND state IN ('ready', 'error') ORDER BY next_sync_time LIMIT $1"
    );
    store.query(sql, &[limit.into()]).await?.iter().map(read).collect()
}

/// Repositories whose synchronization in the background is due, the first `each` of every organization: first those of each
/// whose changes were announced, then the longest due; of all organizations the first, then the second of each.
pub async fn due(store: &Store, now: Timestamp, each: u32, limit: u32) -> Result<Vec<Repository>> {
    let sql = select!(
        "JOIN (SELECT repository_id AS due_id, ROW_NUMBER() OVER (PARTITION BY organization_id ORDER BY announced DESC, next_sync_time) AS turn \
         FROM repositories WHERE polling = 0 AND next_sync_time > 0 AND next_sync_time <= $1 AND state IN ('ready', 'error')) d \
         ON due_id = repository_id WHERE turn <= $2 ORDER BY turn, announced DESC, next_sync_time LIMIT $3"
    );
    store.query(sql, &[now.into(), each.into(), limit.into()]).await?.iter().map(read).collect()
}

/// Repositories with an announced change whose next synchronization is planned for later, at most `limit`, the earliest last.
pub async fn announced_but_not_due(store: &Store, now: Timestamp, limit: u32) -> Result<Vec<Repository>> {
    let sql = select!(
        "WHERE announced = 1 AND polling = 0 AND next_sync_time > $1 AND state IN ('ready', 'error') \
         ORDER BY next_sync_time DESC LIMIT $2"
    );
    store.query(sql, &[now.into(), limit.into()]).await?.iter().map(read).collect()
}

/// The registered repositories of an organization with their remotes, without any that is being deleted.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn remotes(store: &Store, organization: &OrganizationId) -> Result<Vec<(RepositoryId, String)>> {
    let sql =
        "SELECT repository_id, url FROM repositories WHERE organization_id = $1 AND state <> 'deleting'";
    let rows = store.query(sql, &[organization.as_str().into()]).await?;
    rows.iter().map(|row| Ok((row.text("repository_id")?.parse()?, row.text("url")?.to_owned()))).collect()
}

/// Records that a webhook announced a change of branches. An unchanged revision: the synchronization that follows shows it.
pub fn announce(ws: &mut WriteSet, id: &RepositoryId, now: Timestamp) {
    let set = [("announced", true.into()), ("announce_time", now.into())];
    ws.update_where(&REPOSITORIES, &[("repository_id", id.as_str().into())], &set);
}

/// When the next synchronization in the background is due.
pub async fn next_due(store: &Store, after: Timestamp) -> Result<Option<Timestamp>> {
    let sql = "SELECT MIN(next_sync_time) AS next FROM repositories \
               WHERE polling = 0 AND next_sync_time > $1 AND state IN ('ready', 'error')";
    store.query(sql, &[after.into()]).await?.first().map_or(Ok(None), |row| row.opt_time("next"))
}

/// How many synchronizations in the background run, by organization.
pub async fn polling(store: &Store) -> Result<HashMap<String, usize>> {
    let sql =
        "SELECT organization_id, COUNT(*) AS n FROM repositories WHERE polling = 1 GROUP BY organization_id";
    let rows = store.query(sql, &[]).await?;
    let count = |row: &Row| {
        Ok((row.text("organization_id")?.to_owned(), usize::try_from(row.int("n")?).unwrap_or_default()))
    };
    rows.iter().map(count).collect()
}

/// The repositories whose synchronizations in the background count as running.
pub async fn polled(store: &Store) -> Result<Vec<String>> {
    let rows = store.query("SELECT repository_id FROM repositories WHERE polling = 1", &[]).await?;
    rows.iter().map(|row| Ok(row.text("repository_id")?.to_owned())).collect()
}

/// Repositories whose pull requests are due to be read, the first `each` of every organization, as [`due`].
pub async fn pulls_due(store: &Store, now: Timestamp, each: u32, limit: u32) -> Result<Vec<Repository>> {
    let sql = select!(
        "JOIN (SELECT repository_id AS due_id, ROW_NUMBER() OVER (PARTITION BY organization_id ORDER BY pull_next_time) AS turn \
         FROM repositories WHERE pull_polling = 0 AND pull_next_time > 0 AND pull_next_time <= $1 AND sync_time IS NOT NULL \
         AND state <> 'deleting') d ON due_id = repository_id WHERE turn <= $2 ORDER BY turn, pull_next_time LIMIT $3"
    );
    store.query(sql, &[now.into(), each.into(), limit.into()]).await?.iter().map(read).collect()
}

/// When pull requests are due to be read next.
pub async fn pulls_due_next(store: &Store, after: Timestamp) -> Result<Option<Timestamp>> {
    let sql = "SELECT MIN(pull_next_time) AS next FROM repositories \
               WHERE pull_polling = 0 AND pull_next_time > $1 AND sync_time IS NOT NULL AND state <> 'deleting'";
    store.query(sql, &[after.into()]).await?.first().map_or(Ok(None), |row| row.opt_time("next"))
}

/// The repositories whose pull requests count as being read, with their organizations.
pub async fn pulls_polled(store: &Store) -> Result<Vec<(String, String)>> {
    let sql = "SELECT repository_id, organization_id FROM repositories WHERE pull_polling = 1";
    let rows = store.query(sql, &[]).await?;
    let text = |row: &Row, column| row.text(column).map(str::to_owned);
    rows.iter().map(|row| Ok((text(row, "repository_id")?, text(row, "organization_id")?))).collect()
}

/// Repositories whose overview is to be computed, organizations in turns.
pub async fn overview_wanted(store: &Store, limit: u32) -> Result<Vec<Repository>> {
    let sql = select!(
        "JOIN (SELECT repository_id AS wanted_id, ROW_NUMBER() OVER (PARTITION BY organization_id ORDER BY overview_time) AS turn \
         FROM repositories WHERE overview_wanted = 1 AND overview_owner = '' AND sync_time IS NOT NULL \
         AND state <> 'deleting') w ON wanted_id = repository_id ORDER BY turn, overview_time LIMIT $1"
    );
    store.query(sql, &[limit.into()]).await?.iter().map(read).collect()
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
