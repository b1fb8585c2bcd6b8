//! A row that cannot be decoded harms its own entity only.

use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1 as p;
use foundry_proto::provisioner::v1::sandbox_item::Item;
use foundry_store::{DialectSql, Value};
use foundry_watch::Op;
use foundry_watch_hub::View as _;
use prost::Message as _;

use super::*;
use crate::testing::Fixture;
use crate::testing::profiles::{profile_settings, user};
use crate::{store, view};

const REASON: &str = "STORED_DATA_DAMAGED";

async fn damage(f: &Fixture, sql: &'static str, value: impl Into<Value>, id: &str) {
    let sql = DialectSql { sqlite: sql, postgres: sql };
    f.shared.store.write(sql, &[value.into(), id.into()]).await.unwrap();
}

fn garbage() -> Vec<u8> {
    vec![0xff; 3]
}

#[tokio::test]
async fn a_damaged_sandbox_or_session_is_shown_and_all_others_are_as_they_were() {
    let f = Fixture::new().await;
    let (bad, good) = (f.ensure().await, f.ensure().await);
    let (broken, whole) = (f.session(&good).await, f.session(&good).await);
    damage(&f, "UPDATE sandboxes SET facts = $1 WHERE sandbox_id = $2", garbage(), bad.sandbox_id.as_str())
        .await;
    damage(&f, "UPDATE agent_sessions SET fold = $1 WHERE session_id = $2", "{", broken.session_id.as_str())
        .await;
    let request =
        p::ListSandboxesRequest { organization_id: f.organization.to_string(), ..Default::default() };
    let listed = list_sandboxes::list_sandboxes(&f.shared, &f.task, request).await.unwrap().sandboxes;
    let reason = |c: &Option<foundry_proto::common::v1::Condition>| c.clone().unwrap_or_default().reason;
    for sandbox in &listed {
        let damaged = sandbox.sandbox_id == bad.sandbox_id.as_str();
        assert_eq!(reason(&sandbox.condition) == REASON, damaged, "{sandbox:?}");
    }
    assert_eq!(listed.len(), 2);
    let snapshot = f.shared.store.snapshot().await.unwrap();
    let rows = view::sandboxes(&f.organization).rows_after(&snapshot, 0, 100).await.unwrap().changes;
    let mut damaged = Vec::new();
    for row in &rows {
        let Op::Upsert(item) = &row.op else { panic!("{row:?}") };
        let condition = match p::SandboxItem::decode(item.clone()).unwrap().item.unwrap() {
            Item::Sandbox(sandbox) => sandbox.condition,
            Item::AgentSession(session) => session.condition,
        };
        if reason(&condition) == REASON {
            damaged.push(row.key.clone());
        }
    }
    assert_eq!(rows.len(), 4);
    assert_eq!(damaged, [format!("sandbox/{}", bad.sandbox_id), format!("session/{}", broken.session_id)]);
    let living = store::sandboxes::living(&f.shared.store).await.unwrap();
    assert_eq!(living.iter().map(|s| &s.sandbox_id).collect::<Vec<_>>(), [&good.sandbox_id]);
    let sessions = store::sessions::of_sandbox(&f.shared.store, &good.sandbox_id).await.unwrap();
    assert_eq!(sessions.iter().map(|s| &s.session_id).collect::<Vec<_>>(), [&whole.session_id]);
    let refused = store::sessions::find(&f.shared.store, &broken.session_id).await.unwrap_err();
    assert_eq!(refused.reason(), REASON);
    let gone = p::DestroySandboxRequest { sandbox_id: good.sandbox_id.to_string(), ..Default::default() };
    destroy_sandbox::destroy_sandbox(&f.shared, &f.task, gone).await.unwrap();
}

#[tokio::test]
async fn a_damaged_condition_is_replaced_by_one_about_the_damage() {
    let f = Fixture::new().await;
    let sandbox = f.ensure().await;
    let id = sandbox.sandbox_id.as_str();
    damage(&f, "UPDATE sandboxes SET condition = $1 WHERE sandbox_id = $2", garbage(), id).await;
    assert_eq!(f.sandbox(id).await.condition.reason, REASON);
    f.run().await;
    assert_eq!(f.sandbox(id).await.condition.reason, "", "the next state has its own");
}

#[tokio::test]
async fn a_damaged_profile_or_model_provider_is_listed_with_its_name() {
    let f = Fixture::new().await;
    let provider = f.model_provider("work", "key").await;
    let profile = f.profile(profile_settings("fast", &provider.model_provider_id)).await;
    f.profile(profile_settings("slow", &provider.model_provider_id)).await;
    let (provider_id, profile_id) = (provider.model_provider_id.as_str(), profile.profile_id.as_str());
    damage(&f, "UPDATE model_providers SET view = $1 WHERE model_provider_id = $2", garbage(), provider_id)
        .await;
    damage(&f, "UPDATE agent_profiles SET view = $1 WHERE profile_id = $2", garbage(), profile_id).await;
    let (viewer, organization_id) = (user(&f, Role::Viewer), f.organization.to_string());
    let request =
        p::ListAgentProfilesRequest { organization_id: organization_id.clone(), ..Default::default() };
    let profiles =
        list_agent_profiles::list_agent_profiles(&f.shared, &viewer, request).await.unwrap().profiles;
    let names = profiles.iter().map(|p| p.settings.as_ref().unwrap().name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["fast", "slow"]);
    assert_eq!(profiles[0].profile_id, profile.profile_id);
    let request = p::ListModelProvidersRequest { organization_id, ..Default::default() };
    let listed = list_model_providers::list_model_providers(&f.shared, &viewer, request).await.unwrap();
    assert!(listed.model_providers.iter().any(|m| m.model_provider_id == provider_id && m.name == "work"));
    let request = p::GetAgentProfileRequest { profile_id: profile.profile_id.clone() };
    let refused = get_agent_profile::get_agent_profile(&f.shared, &viewer, request).await.unwrap_err();
    assert_eq!(refused.reason(), REASON);
}
