//! The service's tables, one file each.

pub mod base_requests;
pub mod branches;
pub mod changes;
pub mod clones;
pub mod repositories;
pub mod works;

use foundry_proto::common::v1::{Condition, MergedParts, WorkNotices};
use foundry_proto::repo::v1::FileChange;
use foundry_store::{Encoded, Migrations, step};

/// All columns with encoded values, for `foundry verify`.
pub static ENCODED: [Encoded; 6] = [
    Encoded::message::<Condition>(&repositories::REPOSITORIES, "condition"),
    Encoded::message::<Condition>(&works::WORKS, "condition"),
    Encoded::message::<WorkNotices>(&works::WORKS, "notices"),
    Encoded::message::<MergedParts>(&works::WORKS, "merged_from"),
    Encoded::message::<FileChange>(&changes::WORK_CHANGES, "change"),
    Encoded::message::<FileChange>(&changes::WORK_WHOLE_CHANGES, "change"),
];

/// The service's schema.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "repo",
    steps: &[
        step!("0001_repo"),
        step!("0002_clones"),
        step!("0003_notices"),
        step!("0004_work_branches"),
        step!("0005_fresh_base"),
        step!("0006_clone_mark"),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn has_the_same_tables_on_sqlite_and_on_postgresql() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = format!("sqlite:{}", dir.path().join("x.db").display());
        let postgres = foundry_testkit::PostgresDatabase::create().await.unwrap().url;
        foundry_service::proofs::has_the_same_tables_on_both_databases(
            &[&MIGRATIONS, &foundry_flow::MIGRATIONS],
            &sqlite,
            &postgres,
        )
        .await;
    }
}
