//! The repositories and works of an organization, and one repository.

use foundry_core::{OrganizationId, RepositoryId};
use foundry_proto::repo::v1::{RepositoryItem, repository_item::Item};
use foundry_store::Scope;
use foundry_watch::Change;
use foundry_watch_hub::{Fingerprint, Source, TableView};

use crate::store::{branch_overviews, credentials, repositories, works};

/// Kind of a repository's tombstone.
pub const REPOSITORY: &str = "repository";
/// Kind of a work's tombstone.
pub const WORK: &str = "work";

/// The view of `WatchRepositories`: all repositories, works and credentials of an organization.
pub fn of_organization(organization: &OrganizationId) -> TableView {
    let fingerprint = Fingerprint::new("WatchRepositories", 1).filter("organization", organization.as_str());
    TableView::new("WatchRepositories", Scope::organization(organization), fingerprint)
        .source(
            Source::new(repositories::BY_REV, [organization.as_str().into()], |row| {
                let r = repositories::read(row)?;
                let item = RepositoryItem { item: Some(Item::Repository(r.to_proto())) };
                Ok(Change::upsert(format!("repository/{}", r.repository_id), r.rev, &item))
            })
            .tombstones(REPOSITORY, "repository/"),
        )
        .source(
            Source::new(works::BY_REV, [organization.as_str().into()], |row| {
                let w = works::read(row)?;
                let item = RepositoryItem { item: Some(Item::Work(w.to_proto())) };
                Ok(Change::upsert(format!("work/{}", w.task_id), w.rev, &item))
            })
            .tombstones(WORK, "work/"),
        )
        .source(
            Source::new(credentials::BY_REV, [organization.as_str().into()], |row| {
                let c = credentials::read(row)?;
                let item = RepositoryItem { item: Some(Item::RepositoryCredential(c.to_proto())) };
                Ok(Change::upsert(format!("credential/{}", c.credential_id), c.rev, &item))
            })
            .tombstones(credentials::KIND, "credential/"),
        )
}

/// The view of `WatchRepository`: the repository and its branches.
pub fn of_repository(organization: &OrganizationId, repository: &RepositoryId) -> TableView {
    let fingerprint = Fingerprint::new("WatchRepository", 2).filter("repository", repository.as_str());
    let params = [organization.as_str().into(), repository.as_str().into()];
    let branches = Source::new(branch_overviews::BY_REV, params.clone(), |row| {
        let branch = branch_overviews::read(row)?;
        let (key, rev) = (format!("branch/{}", branch.name), row.int("rev")?);
        Ok(Change::upsert(key, rev, &RepositoryItem { item: Some(Item::Branch(branch)) }))
    });
    let source = Source::new(repositories::ONE_BY_REV, params, |row| {
        let r = repositories::read(row)?;
        let item = RepositoryItem { item: Some(Item::Repository(r.to_proto())) };
        Ok(Change::upsert(format!("repository/{}", r.repository_id), r.rev, &item))
    });
    TableView::new("WatchRepository", Scope::organization(organization), fingerprint)
        .source(source.tombstones(format!("{REPOSITORY}/{repository}"), ""))
        .source(branches.tombstones(branch_overviews::kind(repository), ""))
}
