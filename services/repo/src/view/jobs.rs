//! The jobs of an organization, or of one repository.

use foundry_core::{OrganizationId, RepositoryId};
use foundry_proto::repo::v1::{JobItem, job_item::Item};
use foundry_store::{Row, Scope};
use foundry_watch::Change;
use foundry_watch_hub::{Fingerprint, Source, TableView};

use crate::store::jobs;

/// Kind of a job's tombstone.
pub const JOB: &str = "job";

/// The view of `WatchJobs`.
pub fn of(organization: &OrganizationId, repository: Option<&RepositoryId>) -> TableView {
    let fingerprint = Fingerprint::new("WatchJobs", 1).filter("organization", organization.as_str());
    let (fingerprint, source) = match repository {
        None => {
            let source = Source::new(jobs::BY_REV, [organization.as_str().into()], change);
            (fingerprint, source.tombstones(JOB, "job/"))
        }
        Some(repository) => {
            let params = [organization.as_str().into(), repository.as_str().into()];
            let source = Source::new(jobs::OF_REPOSITORY_BY_REV, params, change);
            let fingerprint = fingerprint.filter("repository", repository.as_str());
            (fingerprint, source.tombstones(format!("{JOB}/{repository}"), "job/"))
        }
    };
    TableView::new("WatchJobs", Scope::organization(organization), fingerprint).source(source)
}

fn change(row: &Row) -> foundry_core::Result<Change> {
    let job = jobs::read(row)?;
    let item = JobItem { item: Some(Item::Job(job.to_proto())) };
    Ok(Change::upsert(format!("job/{}", job.job_id), job.rev, &item))
}
