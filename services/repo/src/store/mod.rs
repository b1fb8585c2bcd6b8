//! The service's tables, one file each.

pub mod base_requests;
pub mod branch_overviews;
pub mod branch_parents;
pub mod branch_places;
pub mod branches;
pub mod changes;
pub mod clones;
pub mod credentials;
pub mod jobs;
pub mod publications;
pub mod pull_requests;
pub mod remote_hosts;
pub mod repositories;
pub mod webhooks;
pub mod work_versions;
pub mod works;

use foundry_proto::common::v1::{Condition, MergedParts, Publication, PullRequest, WorkNotices};
use foundry_proto::repo::v1::{ActionSettings, JobBranches, PublishSettings, PullRequestSync};
use foundry_service::SecretColumn;
use foundry_store::{Encoded, Migrations, Reference, step};

use crate::domain::credential::HostKey;
use crate::domain::pull_request::Kept;

/// All columns with secrets, to encrypt them with another key.
pub static SECRETS: [SecretColumn; 2] = [credentials::SECRETS, webhooks::SECRETS];

/// All columns with encoded values, for `foundry verify`.
pub static ENCODED: [Encoded; 21] = [
    Encoded::message::<Condition>(&repositories::REPOSITORIES, "condition"),
    Encoded::message::<PullRequestSync>(&repositories::REPOSITORIES, "pull_sync"),
    Encoded::message::<PullRequest>(&pull_requests::PULL_REQUESTS, "pull_request"),
    Encoded::json::<Kept>(&pull_requests::PULL_REQUESTS, "known"),
    Encoded::message::<Condition>(&credentials::CREDENTIALS, "condition"),
    Encoded::json::<Vec<HostKey>>(&credentials::CREDENTIALS, "host_keys"),
    Encoded::entity(&credentials::CREDENTIALS, "secret", credentials::is_sealed),
    Encoded::message::<Condition>(&webhooks::WEBHOOKS, "notice"),
    Encoded::entity(&webhooks::WEBHOOKS, "secret", credentials::is_sealed),
    Encoded::message::<Condition>(&works::WORKS, "condition"),
    Encoded::message::<WorkNotices>(&works::WORKS, "notices"),
    Encoded::message::<MergedParts>(&works::WORKS, "merged_from"),
    Encoded::message::<Publication>(&works::WORKS, "publication"),
    Encoded::message::<Publication>(&publications::PUBLICATIONS, "publication"),
    Encoded::message::<Condition>(&jobs::JOBS, "condition"),
    Encoded::message::<JobBranches>(&jobs::JOBS, "branches"),
    Encoded::message::<PublishSettings>(&jobs::JOBS, "publish"),
    Encoded::message::<ActionSettings>(&jobs::JOBS, "settings"),
    Encoded::entity(&branch_overviews::BRANCH_OVERVIEWS, "overview", |row, _| {
        branch_overviews::decoded(row).map(drop)
    }),
    Encoded::entity(&changes::WORK_CHANGES, "change", |row, _| changes::decoded(row).map(drop)),
    Encoded::entity(&changes::WORK_WHOLE_CHANGES, "change", |row, _| changes::decoded(row).map(drop)),
];

/// Rows that others of this service name.
pub static REFERENCES: [Reference; 10] = [
    Reference {
        table: "repositories",
        sql: "SELECT DISTINCT repository_id AS id, 'it has works' AS why FROM works w \
              WHERE NOT EXISTS (SELECT 1 FROM repositories r WHERE r.repository_id = w.repository_id)",
    },
    Reference {
        table: "repositories",
        sql: "SELECT DISTINCT repository_id AS id, 'it has branches' AS why FROM branches b \
              WHERE NOT EXISTS (SELECT 1 FROM repositories r WHERE r.repository_id = b.repository_id)",
    },
    Reference {
        table: "repositories",
        sql: "SELECT DISTINCT repository_id AS id, 'it has jobs' AS why FROM jobs j \
              WHERE NOT EXISTS (SELECT 1 FROM repositories r WHERE r.repository_id = j.repository_id)",
    },
    Reference {
        table: "repositories",
        sql: "SELECT DISTINCT repository_id AS id, 'it has a credential' AS why FROM repository_credentials c \
              WHERE repository_id <> '' AND NOT EXISTS \
              (SELECT 1 FROM repositories r WHERE r.repository_id = c.repository_id)",
    },
    Reference {
        table: "repositories",
        sql: "SELECT DISTINCT repository_id AS id, 'it has a webhook' AS why FROM repository_webhooks w \
              WHERE repository_id <> '' AND NOT EXISTS \
              (SELECT 1 FROM repositories r WHERE r.repository_id = w.repository_id)",
    },
    Reference {
        table: "branches",
        sql: "SELECT repository_id AS id, 'the repository has ' || CAST(branch_count AS TEXT) || ' branches' AS why \
              FROM repositories r WHERE branch_count > \
              (SELECT COUNT(*) FROM branches b WHERE b.repository_id = r.repository_id)",
    },
    Reference {
        table: "repositories",
        sql: "SELECT DISTINCT repository_id AS id, 'it has an overview' AS why FROM branch_overviews o \
              WHERE NOT EXISTS (SELECT 1 FROM repositories r WHERE r.repository_id = o.repository_id)",
    },
    Reference {
        table: "repositories",
        sql: "SELECT DISTINCT repository_id AS id, 'it has pull requests' AS why FROM pull_requests p \
              WHERE NOT EXISTS (SELECT 1 FROM repositories r WHERE r.repository_id = p.repository_id)",
    },
    Reference {
        table: "repositories",
        sql: "SELECT DISTINCT repository_id AS id, 'it has publications' AS why FROM publications p \
              WHERE NOT EXISTS (SELECT 1 FROM repositories r WHERE r.repository_id = p.repository_id)",
    },
    Reference {
        table: "works",
        sql: "SELECT DISTINCT task_id AS id, 'it has changed files' AS why FROM work_changes c \
              WHERE NOT EXISTS (SELECT 1 FROM works w WHERE w.task_id = c.task_id)",
    },
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
        step!("0007_credentials"),
        step!("0008_overview"),
        step!("0009_jobs"),
        step!("0010_branches_time"),
        step!("0011_job_kinds"),
        step!("0016_work_versions"),
        step!("0017_branch_parents"),
        step!("0018_pull_requests"),
        step!("0019_webhooks"),
        step!("0022_unfinished_jobs"),
        step!("0023_branch_places"),
        step!("0024_publications"),
        step!("0025_existing_branches"),
        step!("0026_refused_deliveries"),
        step!("0027_github_apps"),
        step!("0028_base_files"),
        step!("0029_base_submodules"),
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
