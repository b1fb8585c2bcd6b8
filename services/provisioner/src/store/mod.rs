//! The service's tables.

pub mod agent_profiles;
pub mod attachments;
pub mod elicitations;
pub mod events;
pub mod model_limits;
pub mod model_providers;
pub mod model_totals;
pub mod model_usage;
pub mod model_waits;
pub mod permissions;
#[cfg(test)]
mod profile_tests;
pub mod sandboxes;
pub mod sessions;
pub mod stages;
pub mod turns;

use foundry_core::Error;
use foundry_proto::common::v1::{Base, Condition, ElicitationRequest, PermissionRequest, WorkNotices};
use foundry_sandbox::{ReachedLimit, RuntimeFacts};
use foundry_service::transcript_part;
use foundry_store::{Encoded, Migrations, Reference, Value, step};
use prost::Message as _;

use crate::domain::Offer;
use crate::domain::fold::Fold;

/// All columns with encoded values, for `foundry verify`.
pub static ENCODED: [Encoded; 20] = [
    Encoded::message::<Condition>(&sandboxes::SANDBOXES, "condition"),
    Encoded::message::<Base>(&sandboxes::SANDBOXES, "base"),
    Encoded::json::<RuntimeFacts>(&sandboxes::SANDBOXES, "facts"),
    Encoded::json::<Vec<ReachedLimit>>(&sandboxes::SANDBOXES, "reached_limits"),
    Encoded::message::<WorkNotices>(&sandboxes::SANDBOXES, "work_notices"),
    Encoded::message::<Condition>(&sandboxes::SANDBOXES, "work_not_saved"),
    Encoded::message::<Condition>(&sessions::SESSIONS, "condition"),
    Encoded::message::<Condition>(&sessions::SESSIONS, "model_condition"),
    Encoded::json::<foundry_sandbox::TapCursor>(&sessions::SESSIONS, "cursor"),
    Encoded::json::<Fold>(&sessions::SESSIONS, "fold"),
    Encoded::json::<Offer>(&sessions::SESSIONS, "offer"),
    Encoded::message::<PermissionRequest>(&sessions::SESSIONS, "pending_permission"),
    Encoded::message::<ElicitationRequest>(&sessions::SESSIONS, "pending_elicitation"),
    Encoded::entity(&events::EVENTS, "part", |row, column| transcript_part(row, column).map(drop)),
    Encoded::entity(&permissions::PERMISSIONS, "request", |row, _| permissions::decoded(row).map(drop)),
    Encoded::json::<serde_json::Value>(&permissions::PERMISSIONS, "acp_id"),
    Encoded::entity(&elicitations::ELICITATIONS, "request", |row, _| elicitations::decoded(row).map(drop)),
    Encoded::json::<serde_json::Value>(&elicitations::ELICITATIONS, "acp_id"),
    Encoded::entity(&agent_profiles::AGENT_PROFILES, "view", |row, _| agent_profiles::decoded(row).map(drop)),
    Encoded::entity(&model_providers::MODEL_PROVIDERS, "view", |row, _| {
        model_providers::decoded(row).map(drop)
    }),
];

/// Rows that others of this service name. A session whose events were given back to the task service has none.
pub static REFERENCES: [Reference; 6] = [
    Reference {
        table: "sandboxes",
        sql: "SELECT DISTINCT sandbox_id AS id, 'it has sessions' AS why FROM agent_sessions a \
              WHERE NOT EXISTS (SELECT 1 FROM sandboxes b WHERE b.sandbox_id = a.sandbox_id)",
    },
    Reference {
        table: "agent_sessions",
        sql: "SELECT DISTINCT session_id AS id, 'it has turns' AS why FROM turns t \
              WHERE NOT EXISTS (SELECT 1 FROM agent_sessions a WHERE a.session_id = t.session_id)",
    },
    Reference {
        table: "agent_sessions",
        sql: "SELECT DISTINCT session_id AS id, 'it has events' AS why FROM agent_events e \
              WHERE NOT EXISTS (SELECT 1 FROM agent_sessions a WHERE a.session_id = e.session_id)",
    },
    Reference {
        table: "agent_events",
        sql: "SELECT session_id AS id, 'the session has had ' || CAST(last_offset AS TEXT) || ' events' AS why \
              FROM agent_sessions a WHERE released = 0 AND last_offset > \
              (SELECT COUNT(*) FROM agent_events e WHERE e.session_id = a.session_id)",
    },
    Reference {
        table: "turns",
        sql: "SELECT session_id || '/' || message_id AS id, 'it is the last of its session' AS why \
              FROM agent_sessions a WHERE message_id <> '' AND NOT EXISTS \
              (SELECT 1 FROM turns t WHERE t.session_id = a.session_id AND t.message_id = a.message_id)",
    },
    Reference {
        table: "flows",
        sql: "SELECT flow_id AS id, 'it moves ' || sandbox_id AS why FROM sandboxes b WHERE state IN \
              ('queued', 'allocating', 'preparing_repo', 'installing_agent', 'starting_agent', 'destroying') \
              AND NOT EXISTS (SELECT 1 FROM flows f WHERE f.flow_id = b.flow_id)",
    },
];

/// The provisioner's schema, in steps that are applied once each and never changed.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "provisioner",
    steps: &[
        step!("0001_provisioner"),
        step!("0002_sandboxes_by_task"),
        step!("0003_profiles"),
        step!("0004_models"),
        step!("0005_limits"),
        step!("0006_offers"),
        step!("0007_attachments"),
        step!("0008_model_waits_and_limits"),
        step!("0009_network"),
        step!("0010_estimated_usage"),
        step!("0011_output"),
        step!("0012_released"),
        step!("0013_hand_overs"),
        step!("0014_base"),
        step!("0015_existing_branches"),
    ],
};

/// Columns that an update sets, with their values.
pub type Set = Vec<(&'static str, Value)>;

/// A condition as it is stored. Watches send it, so its texts are cut to size.
pub fn condition_value(condition: &Condition) -> Value {
    let mut condition = condition.clone();
    for text in [&mut condition.message, &mut condition.next_action, &mut condition.waiting_on] {
        let (kept, cut) = crate::domain::head(text, 2_000);
        if cut {
            *text = kept.to_owned();
        }
    }
    condition.encode_to_vec().into()
}

/// A condition with nothing but its time.
pub fn cleared(now: foundry_core::Timestamp) -> Condition {
    Condition { since_time: Some(now.to_proto()), ..Condition::default() }
}

fn id<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|e: Error| Error::internal(e.to_string()))
}

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
