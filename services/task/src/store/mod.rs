//! The service's tables, one file each, and the task aggregate that is read and written as one.

pub mod aggregate;
pub mod messages;
pub mod positions;
pub mod prompts;
pub mod session_end;
pub mod sessions;
pub mod summary;
pub mod tasks;
pub mod transcript;
pub mod upstream;
pub mod user_state;

use foundry_proto::common::v1::{Condition, TranscriptPart, UserMessage};
use foundry_proto::provisioner::v1::{AgentSession, Sandbox};
use foundry_proto::repo::v1::{Repository, Work};
use foundry_proto::task::v1 as pb;
use foundry_store::{Encoded, Migration, Migrations};

use crate::domain::asked::Asked;

/// All columns with encoded values, for `foundry verify`.
pub static ENCODED: [Encoded; 12] = [
    Encoded::message::<pb::Task>(&tasks::TASKS, "view"),
    Encoded::message::<Condition>(&tasks::TASKS, "flow_condition"),
    Encoded::message::<pb::Session>(&sessions::SESSIONS, "view"),
    Encoded::message::<Condition>(&sessions::SESSIONS, "flow_condition"),
    Encoded::json::<Asked>(&sessions::SESSIONS, "asked"),
    Encoded::message::<UserMessage>(&messages::MESSAGES, "attachments"),
    Encoded::message::<TranscriptPart>(&transcript::ENTRIES, "part"),
    Encoded::message::<Repository>(&upstream::REPOSITORIES, "data"),
    Encoded::message::<Sandbox>(&upstream::SANDBOXES, "data"),
    Encoded::message::<AgentSession>(&upstream::AGENT_SESSIONS, "data"),
    Encoded::message::<Work>(&upstream::WORKS, "data"),
    Encoded::message::<pb::OrganizationItem>(&summary::SUMMARY, "item"),
];

/// The service's schema.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "task",
    steps: &[
        Migration {
            version: 1,
            name: "task",
            sqlite: include_str!("../../migrations/sqlite/0001_task.sql"),
            postgres: include_str!("../../migrations/postgres/0001_task.sql"),
        },
        Migration {
            version: 2,
            name: "held_for",
            sqlite: include_str!("../../migrations/sqlite/0002_held_for.sql"),
            postgres: include_str!("../../migrations/postgres/0002_held_for.sql"),
        },
        Migration {
            version: 3,
            name: "user_state",
            sqlite: include_str!("../../migrations/sqlite/0003_user_state.sql"),
            postgres: include_str!("../../migrations/postgres/0003_user_state.sql"),
        },
        Migration {
            version: 4,
            name: "asked",
            sqlite: include_str!("../../migrations/sqlite/0004_asked.sql"),
            postgres: include_str!("../../migrations/postgres/0004_asked.sql"),
        },
        Migration {
            version: 5,
            name: "attachments",
            sqlite: include_str!("../../migrations/sqlite/0005_attachments.sql"),
            postgres: include_str!("../../migrations/postgres/0005_attachments.sql"),
        },
        Migration {
            version: 6,
            name: "released",
            sqlite: include_str!("../../migrations/sqlite/0006_released.sql"),
            postgres: include_str!("../../migrations/postgres/0006_released.sql"),
        },
        Migration {
            version: 7,
            name: "transcript_deletion",
            sqlite: include_str!("../../migrations/sqlite/0007_transcript_deletion.sql"),
            postgres: include_str!("../../migrations/postgres/0007_transcript_deletion.sql"),
        },
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
