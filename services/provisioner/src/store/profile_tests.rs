//! Model providers and agent profiles on both databases, and rows of the schema before them.

use foundry_core::{Code, Error, ModelProviderId, OrganizationId, ProfileId};
use foundry_proto::provisioner::v1 as proto;
use foundry_store::{DialectSql, Migrations, Store, StoreOptions, WriteSet};
use foundry_testkit::{PostgresDatabase, test_env};

use super::{MIGRATIONS, agent_profiles, model_providers, sandboxes};
use crate::domain::{ModelProvider, Profile};

const BEFORE: Migrations = Migrations { owner: MIGRATIONS.owner, steps: MIGRATIONS.steps.split_at(2).0 };
const OLD_SANDBOX: &str = "INSERT INTO sandboxes (sandbox_id, organization_id, task_id, repository_id, provider, state, \
     condition, branch, base_branch, base_commit, agent, isolation, runtime_instance, flow_id, user_id, create_time, \
     living, work_time, work_head, rev) VALUES ('sbx_0000000000000000000000000000000a', $1, 't', 'r', 'local', 'ready', \
     $2, 'b', '', '', 'demo', '', 1, 'f', '', 1, 1, 0, '', 1) RETURNING 1 AS n";

fn profile(
    env: &foundry_core::Env,
    organization: &OrganizationId,
    name: &str,
    provider: &str,
    default: bool,
) -> Profile {
    let settings = proto::AgentProfileSettings {
        name: name.to_owned(),
        model_provider_id: provider.to_owned(),
        is_default: default,
        ..Default::default()
    };
    let profile_id = ProfileId::generate(env);
    Profile {
        organization_id: organization.clone(),
        view: proto::AgentProfile {
            profile_id: profile_id.to_string(),
            settings: Some(settings),
            ..Default::default()
        },
        profile_id,
        sealed: Some(vec![1, 2, 3].into()),
    }
}

async fn commit(store: &Store, fill: impl FnOnce(&mut WriteSet)) -> Result<(), Error> {
    let mut ws = WriteSet::new();
    fill(&mut ws);
    store.commit(ws).await.map(drop).map_err(Error::from)
}

async fn keeps_them(url: &str) {
    let env = test_env().env;
    let (ours, theirs) = (OrganizationId::generate(&env), OrganizationId::generate(&env));
    let old = Store::connect(url, &[&BEFORE], &env, StoreOptions::default()).await.unwrap();
    let sql = DialectSql { sqlite: OLD_SANDBOX, postgres: OLD_SANDBOX };
    old.write(sql, &[(&ours).into(), Vec::<u8>::new().into()]).await.unwrap();
    old.close().await;
    let store = Store::connect(url, &[&MIGRATIONS], &env, StoreOptions::default()).await.unwrap();
    let sandbox = sandboxes::living(&store).await.unwrap().remove(0);
    assert_eq!((sandbox.agent.as_str(), sandbox.profile_id.as_str()), ("demo", ""), "made without a profile");

    let provider = |organization: &OrganizationId| {
        let model_provider_id = ModelProviderId::generate(&env);
        ModelProvider {
            view: proto::ModelProvider {
                model_provider_id: model_provider_id.to_string(),
                name: "work".to_owned(),
                ..Default::default()
            },
            model_provider_id,
            organization_id: Some(organization.clone()),
            sealed: None,
        }
    };
    let (work, foreign) = (provider(&ours), provider(&theirs));
    commit(&store, |ws| model_providers::insert(ws, &ours, &work)).await.unwrap();
    commit(&store, |ws| model_providers::insert(ws, &theirs, &foreign)).await.unwrap();
    let twice = provider(&ours);
    commit(&store, |ws| model_providers::insert(ws, &ours, &twice)).await.unwrap_err();
    let listed = model_providers::list(&store, &ours, "", 10).await.unwrap();
    assert_eq!(listed.iter().map(|p| &p.model_provider_id).collect::<Vec<_>>(), [&work.model_provider_id]);

    let id = work.model_provider_id.as_str();
    let foreign_use = commit(&store, |ws| model_providers::must_exist(ws, &theirs, id)).await;
    assert!(foreign_use.is_err(), "one of another organization does not count");
    let (a, b) = (profile(&env, &ours, "a", id, true), profile(&env, &ours, "b", "", true));
    commit(&store, |ws| {
        model_providers::must_exist(ws, &ours, id);
        agent_profiles::insert(ws, &a);
    })
    .await
    .unwrap();
    commit(&store, |ws| agent_profiles::insert(ws, &b)).await.unwrap();
    let default = agent_profiles::find_default(&store, &ours).await.unwrap().unwrap();
    assert_eq!(default.profile_id, b.profile_id);
    assert_eq!(default.sealed, b.sealed);
    assert!(agent_profiles::find_default(&store, &theirs).await.unwrap().is_none());
    let old = agent_profiles::find(&store, &a.profile_id).await.unwrap().unwrap();
    assert!(
        !old.settings().is_default && old.view.rev > 0,
        "what is stored beside the column does not count"
    );

    assert_eq!(agent_profiles::names_using(&store, id).await.unwrap(), ["a"]);
    let used = commit(&store, |ws| agent_profiles::none_uses(ws, id)).await.unwrap_err();
    assert_ne!(used.code(), Code::Ok);
    let stale =
        Profile { view: proto::AgentProfile { rev: old.view.rev - 1, ..old.view.clone() }, ..old.clone() };
    commit(&store, |ws| agent_profiles::delete(ws, &stale)).await.unwrap_err();
    commit(&store, |ws| agent_profiles::delete(ws, &old)).await.unwrap();
    commit(&store, |ws| agent_profiles::none_uses(ws, id)).await.unwrap();
    assert!(agent_profiles::find_by_name(&store, &ours, "a").await.unwrap().is_none());
    store.close().await;
}

#[tokio::test]
async fn keeps_providers_and_profiles_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    keeps_them(&format!("sqlite:{}", dir.path().join("p.db").display())).await;
}

#[tokio::test]
async fn keeps_providers_and_profiles_on_postgres() {
    keeps_them(&PostgresDatabase::create().await.unwrap().url).await;
}
