//! The service's tables, one file each, and the task aggregate that is read and written as one.

pub mod aggregate;
mod auto_fix;
pub mod branch_names;
pub mod messages;
pub mod positions;
pub mod prompts;
pub mod reviews;
pub mod session_end;
pub mod sessions;
pub mod summary;
pub mod tasks;
pub mod transcript;
pub mod upstream;
pub mod user_state;

use foundry_proto::common::v1::{Condition, UserMessage};
use foundry_proto::provisioner::v1::{AgentSession, Sandbox};
use foundry_proto::repo::v1::{Repository, Work};
use foundry_proto::task::v1::AutoFixRecord;
use foundry_service::transcript_part;
use foundry_store::{Encoded, Migrations, Reference, step};

use crate::domain::asked::Asked;

/// All columns with encoded values, for `foundry verify`.
pub static ENCODED: [Encoded; 13] = [
    Encoded::entity(&tasks::TASKS, "view", |row, _| tasks::decoded(row).map(drop)),
    Encoded::message::<Condition>(&tasks::TASKS, "flow_condition"),
    Encoded::message::<AutoFixRecord>(&tasks::TASKS, "auto_fix"),
    Encoded::entity(&sessions::SESSIONS, "view", |row, _| sessions::decoded(row).map(drop)),
    Encoded::message::<Condition>(&sessions::SESSIONS, "flow_condition"),
    Encoded::json::<Asked>(&sessions::SESSIONS, "asked"),
    Encoded::message::<UserMessage>(&messages::MESSAGES, "attachments"),
    Encoded::entity(&transcript::ENTRIES, "part", |row, column| transcript_part(row, column).map(drop)),
    Encoded::entity(&upstream::REPOSITORIES, "data", |row, _| upstream::decoded::<Repository>(row).map(drop)),
    Encoded::entity(&upstream::SANDBOXES, "data", |row, _| upstream::decoded::<Sandbox>(row).map(drop)),
    Encoded::entity(&upstream::AGENT_SESSIONS, "data", |row, _| {
        upstream::decoded::<AgentSession>(row).map(drop)
    }),
    Encoded::entity(&upstream::WORKS, "data", |row, _| upstream::decoded::<Work>(row).map(drop)),
    Encoded::entity(&summary::SUMMARY, "item", |row, _| summary::decoded(row).map(drop)),
];

/// Rows that others of this service name. What a flow of an ended task was is not kept, nor the transcript of a task that
/// was killed long ago.
pub static REFERENCES: [Reference; 12] = [
    Reference {
        table: "tasks",
        sql: "SELECT DISTINCT task_id AS id, 'it has sessions' AS why FROM sessions s \
              WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.task_id = s.task_id)",
    },
    Reference {
        table: "tasks",
        sql: "SELECT substr(key, 6) AS id, 'it is listed' AS why FROM summary_rows r WHERE kind = 'task' \
              AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.task_id = substr(r.key, 6))",
    },
    Reference {
        table: "tasks",
        sql: "SELECT DISTINCT subject_id AS id, 'a flow works on it' AS why FROM flows f \
              WHERE kind IN ('task_provision', 'task_teardown') AND finished_time IS NULL \
              AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.task_id = f.subject_id)",
    },
    Reference {
        table: "sessions",
        sql: "SELECT DISTINCT subject_id AS id, 'a flow works on it' AS why FROM flows f \
              WHERE kind = 'task_session' AND finished_time IS NULL \
              AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.session_id = f.subject_id)",
    },
    Reference {
        table: "task_prompts",
        sql: "SELECT task_id AS id, 'the task is there' AS why FROM tasks t \
              WHERE NOT EXISTS (SELECT 1 FROM task_prompts p WHERE p.task_id = t.task_id)",
    },
    Reference {
        table: "summary_rows",
        sql: "SELECT organization_id || '/task/' || task_id AS id, 'the task is there' AS why FROM tasks t \
              WHERE NOT EXISTS (SELECT 1 FROM summary_rows r WHERE r.organization_id = t.organization_id \
              AND r.key = 'task/' || t.task_id)",
    },
    Reference {
        table: "summary_rows",
        sql: "SELECT organization_id || '/repository/' || repository_id AS id, 'its copy is there' AS why \
              FROM repositories c WHERE upstream_rev < 9223372036854775807 AND NOT EXISTS (SELECT 1 FROM summary_rows r \
              WHERE r.organization_id = c.organization_id AND r.key = 'repository/' || c.repository_id)",
    },
    Reference {
        table: "sessions",
        sql: "SELECT first_session_id AS id, 'it is the first of ' || task_id AS why FROM tasks t \
              WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.session_id = t.first_session_id)",
    },
    Reference {
        table: "sessions",
        sql: "SELECT DISTINCT session_id AS id, 'it has messages' AS why FROM messages m \
              WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.session_id = m.session_id)",
    },
    Reference {
        table: "transcript_entries",
        sql: "SELECT e.session_id AS id, 'there are gaps before entry ' || CAST(MAX(entry_offset) AS TEXT) AS why \
              FROM transcript_entries e JOIN sessions s ON s.session_id = e.session_id \
              JOIN tasks t ON t.task_id = s.task_id WHERE t.transcript_deletion = 0 \
              GROUP BY e.session_id HAVING COUNT(*) < MAX(entry_offset)",
    },
    Reference {
        table: "flows",
        sql: "SELECT flow_id AS id, 'it is the flow of ' || task_id AS why FROM tasks t \
              WHERE lifecycle = 'active' AND flow_status IN ('', 'ready', 'running', 'waiting', 'parked') \
              AND NOT EXISTS (SELECT 1 FROM flows f WHERE f.flow_id = t.flow_id)",
    },
    Reference {
        table: "flows",
        sql: "SELECT s.flow_id AS id, 'it is the flow of ' || s.session_id AS why FROM sessions s \
              JOIN tasks t ON t.task_id = s.task_id WHERE t.lifecycle = 'active' AND s.closed = 0 \
              AND s.flow_status IN ('', 'ready', 'running', 'waiting', 'parked') \
              AND NOT EXISTS (SELECT 1 FROM flows f WHERE f.flow_id = s.flow_id)",
    },
];

/// The service's schema.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "task",
    steps: &[
        step!("0001_task"),
        step!("0002_held_for"),
        step!("0003_user_state"),
        step!("0004_asked"),
        step!("0005_attachments"),
        step!("0006_released"),
        step!("0007_transcript_deletion"),
        step!("0010_ended_tasks"),
        step!("0012_branch_names"),
        step!("0016_reviews"),
        step!("0017_auto_fix"),
        step!("0018_existing_branches"),
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
