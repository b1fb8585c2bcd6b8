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
use foundry_proto::common::v1::{Condition, ElicitationRequest, PermissionRequest, TranscriptPart};
use foundry_proto::provisioner::v1 as proto;
use foundry_sandbox::{ReachedLimit, RuntimeFacts};
use foundry_store::{Encoded, Migration, Migrations, Value};
use prost::Message as _;

use crate::domain::Offer;
use crate::domain::fold::Fold;

/// All columns with encoded values, for `foundry verify`.
pub static ENCODED: [Encoded; 17] = [
    Encoded::message::<Condition>(&sandboxes::SANDBOXES, "condition"),
    Encoded::json::<RuntimeFacts>(&sandboxes::SANDBOXES, "facts"),
    Encoded::json::<Vec<ReachedLimit>>(&sandboxes::SANDBOXES, "reached_limits"),
    Encoded::message::<Condition>(&sessions::SESSIONS, "condition"),
    Encoded::message::<Condition>(&sessions::SESSIONS, "model_condition"),
    Encoded::json::<foundry_sandbox::TapCursor>(&sessions::SESSIONS, "cursor"),
    Encoded::json::<Fold>(&sessions::SESSIONS, "fold"),
    Encoded::json::<Offer>(&sessions::SESSIONS, "offer"),
    Encoded::message::<PermissionRequest>(&sessions::SESSIONS, "pending_permission"),
    Encoded::message::<ElicitationRequest>(&sessions::SESSIONS, "pending_elicitation"),
    Encoded::message::<TranscriptPart>(&events::EVENTS, "part"),
    Encoded::message::<PermissionRequest>(&permissions::PERMISSIONS, "request"),
    Encoded::json::<serde_json::Value>(&permissions::PERMISSIONS, "acp_id"),
    Encoded::message::<ElicitationRequest>(&elicitations::ELICITATIONS, "request"),
    Encoded::json::<serde_json::Value>(&elicitations::ELICITATIONS, "acp_id"),
    Encoded::message::<proto::AgentProfile>(&agent_profiles::AGENT_PROFILES, "view"),
    Encoded::message::<proto::ModelProvider>(&model_providers::MODEL_PROVIDERS, "view"),
];

/// The provisioner's schema, in steps that are applied once each and never changed.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "provisioner",
    steps: &[
        Migration {
            version: 1,
            name: "provisioner",
            sqlite: include_str!("../../migrations/sqlite/0001_provisioner.sql"),
            postgres: include_str!("../../migrations/postgres/0001_provisioner.sql"),
        },
        Migration {
            version: 2,
            name: "sandboxes_by_task",
            sqlite: include_str!("../../migrations/sqlite/0002_sandboxes_by_task.sql"),
            postgres: include_str!("../../migrations/postgres/0002_sandboxes_by_task.sql"),
        },
        Migration {
            version: 3,
            name: "profiles",
            sqlite: include_str!("../../migrations/sqlite/0003_profiles.sql"),
            postgres: include_str!("../../migrations/postgres/0003_profiles.sql"),
        },
        Migration {
            version: 4,
            name: "models",
            sqlite: include_str!("../../migrations/sqlite/0004_models.sql"),
            postgres: include_str!("../../migrations/postgres/0004_models.sql"),
        },
        Migration {
            version: 5,
            name: "limits",
            sqlite: include_str!("../../migrations/sqlite/0005_limits.sql"),
            postgres: include_str!("../../migrations/postgres/0005_limits.sql"),
        },
        Migration {
            version: 6,
            name: "offers",
            sqlite: include_str!("../../migrations/sqlite/0006_offers.sql"),
            postgres: include_str!("../../migrations/postgres/0006_offers.sql"),
        },
        Migration {
            version: 7,
            name: "attachments",
            sqlite: include_str!("../../migrations/sqlite/0007_attachments.sql"),
            postgres: include_str!("../../migrations/postgres/0007_attachments.sql"),
        },
        Migration {
            version: 8,
            name: "model_waits_and_limits",
            sqlite: include_str!("../../migrations/sqlite/0008_model_waits_and_limits.sql"),
            postgres: include_str!("../../migrations/postgres/0008_model_waits_and_limits.sql"),
        },
        Migration {
            version: 9,
            name: "network",
            sqlite: include_str!("../../migrations/sqlite/0009_network.sql"),
            postgres: include_str!("../../migrations/postgres/0009_network.sql"),
        },
        Migration {
            version: 10,
            name: "estimated_usage",
            sqlite: include_str!("../../migrations/sqlite/0010_estimated_usage.sql"),
            postgres: include_str!("../../migrations/postgres/0010_estimated_usage.sql"),
        },
        Migration {
            version: 11,
            name: "output",
            sqlite: include_str!("../../migrations/sqlite/0011_output.sql"),
            postgres: include_str!("../../migrations/postgres/0011_output.sql"),
        },
        Migration {
            version: 12,
            name: "released",
            sqlite: include_str!("../../migrations/sqlite/0012_released.sql"),
            postgres: include_str!("../../migrations/postgres/0012_released.sql"),
        },
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
