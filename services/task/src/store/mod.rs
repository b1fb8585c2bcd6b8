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
use foundry_store::{Encoded, Migrations, step};

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
        step!("0001_task"),
        step!("0002_held_for"),
        step!("0003_user_state"),
        step!("0004_asked"),
        step!("0005_attachments"),
        step!("0006_released"),
        step!("0007_transcript_deletion"),
        step!("0010_ended_tasks"),
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
