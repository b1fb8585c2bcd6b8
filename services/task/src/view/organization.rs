//! The summary of an organization.

use foundry_core::OrganizationId;
use foundry_store::Scope;
use foundry_watch::{Change, Op};
use foundry_watch_hub::{Fingerprint, Source, TableView};

use crate::store::summary;

/// Name of the view, the same as its rpc's.
pub const NAME: &str = "WatchOrganization";

/// The view of `WatchOrganization`, from the summary rows alone.
pub fn of_organization(organization: &OrganizationId) -> TableView {
    let fingerprint = Fingerprint::new(NAME, 1).filter("organization", organization.as_str());
    let source = Source::new(summary::BY_REV, [organization.into()], |row| {
        let (key, version) = (row.text("key")?.to_owned(), row.int("rev")?);
        if !row.bool("listed")? {
            return Ok(Change::left_view(key, version));
        }
        Ok(Change { key, version, op: Op::Upsert(summary::shown(row)?) })
    });
    TableView::new(NAME, Scope::organization(organization), fingerprint)
        .source(source.tombstones(summary::REPOSITORY, "repository/"))
}
