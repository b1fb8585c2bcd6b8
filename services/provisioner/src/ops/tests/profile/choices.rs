//! Sandboxes and sessions by profile.

use foundry_core::{Code, SessionId};
use foundry_proto::common::v1::{PermissionPolicy, Role};
use foundry_proto::provisioner::v1 as p;

use super::call;
use crate::profiles::{ModelCredential, set_up};
use crate::testing::Fixture;
use crate::testing::profiles::{profile_settings, user};

const KEY: &str = "sk-canary-0123456789-last";

fn session(f: &Fixture, sandbox_id: &str) -> p::CreateAgentSessionRequest {
    p::CreateAgentSessionRequest {
        sandbox_id: sandbox_id.to_owned(),
        session_id: SessionId::generate(&f.env.env).to_string(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_session_is_started_with_everything_that_its_profile_says() {
    let f = Fixture::new().await;
    let provider = f.model_provider("work", KEY).await;
    let settings = p::AgentProfileSettings {
        permission_policy: PermissionPolicy::Allow.into(),
        ..profile_settings("night", &provider.model_provider_id)
    };
    let profile = f.profile(settings).await;
    for named in [&profile.profile_id, "night"] {
        let wanted = p::EnsureSandboxRequest { profile_id: named.to_owned(), ..f.wanted() };
        let sandbox = call!(f, &f.task, ensure_sandbox, wanted).unwrap().sandbox.unwrap();
        assert_eq!((&sandbox.profile_id, sandbox.agent.as_str()), (&profile.profile_id, "demo"));
        let made = call!(f, &f.task, create_agent_session, session(&f, &sandbox.sandbox_id)).unwrap();
        let made = made.agent_session.unwrap();
        assert_eq!(made.profile_id, profile.profile_id, "that of the sandbox");
        assert_eq!(made.permission_policy(), PermissionPolicy::Allow);
        let asking = p::CreateAgentSessionRequest {
            permission_policy: PermissionPolicy::Ask.into(),
            ..session(&f, &sandbox.sandbox_id)
        };
        let asking = call!(f, &f.task, create_agent_session, asking).unwrap().agent_session.unwrap();
        assert_eq!(asking.permission_policy(), PermissionPolicy::Ask, "what was asked for counts more");

        let id = made.session_id.parse().unwrap();
        let stored = crate::store::sessions::find(&f.shared.store, &id).await.unwrap().unwrap();
        let found = set_up(&f.shared, &stored.organization_id, &stored.profile_id).await;
        let set_up = found.unwrap().unwrap();
        let model = set_up.model.as_ref().unwrap();
        assert!(matches!(&model.credential, Some(ModelCredential::Key(k)) if k.expose_str() == Some(KEY)));
        assert_eq!(model.headers[0].1.expose_str(), Some("tenant-canary-4444"));
        assert_eq!(set_up.environment[0].1.expose_str(), Some("environment-canary-5555"));
        assert_eq!(set_up.mcp_servers[0].1[0].1.expose_str(), Some("mcp-canary-6666"));
        let printed = format!("{set_up:?}");
        assert!(!printed.contains("canary"), "{printed}");
    }
}

#[tokio::test]
async fn neither_profile_nor_agent_means_the_default_profile_and_then_the_default_agent() {
    let f = Fixture::new().await;
    let plain = f.ensure().await;
    assert_eq!((plain.agent.as_str(), plain.profile_id.as_str()), ("demo", ""));
    let settings =
        p::AgentProfileSettings { is_default: true, agent: "codex".into(), ..profile_settings("night", "") };
    let profile = f.profile(settings).await;
    let sandbox = f.ensure().await;
    assert_eq!((sandbox.agent.as_str(), &sandbox.profile_id), ("codex", &profile.profile_id));
    let named = p::EnsureSandboxRequest { agent: "demo".into(), ..f.wanted() };
    let named = call!(f, &f.task, ensure_sandbox, named).unwrap().sandbox.unwrap();
    assert_eq!(named.profile_id, "", "an agent that was named is taken without a profile");
    let session = p::CreateAgentSessionRequest { agent: "demo".into(), ..session(&f, &named.sandbox_id) };
    let made = call!(f, &f.task, create_agent_session, session).unwrap().agent_session.unwrap();
    assert_eq!(made.profile_id, "");
}

#[tokio::test]
async fn a_profile_that_is_not_there_or_not_ours_is_a_typed_error() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    let profile = f.profile(profile_settings("night", "")).await;
    let sandbox = p::EnsureSandboxRequest { profile_id: "night".into(), ..f.wanted() };
    let sandbox = call!(f, &f.task, ensure_sandbox, sandbox).unwrap().sandbox.unwrap();
    let gone = p::DeleteAgentProfileRequest { profile_id: profile.profile_id.clone(), ..Default::default() };
    call!(f, &admin, delete_agent_profile, gone).unwrap();
    let refused = call!(f, &f.task, create_agent_session, session(&f, &sandbox.sandbox_id)).unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::FailedPrecondition, "PROFILE_NOT_FOUND"));

    let theirs = p::CreateAgentProfileRequest {
        organization_id: f.stranger.memberships()[0].organization_id.to_string(),
        settings: Some(profile_settings("theirs", "")),
        ..Default::default()
    };
    let theirs = call!(f, &f.stranger, create_agent_profile, theirs).unwrap().profile.unwrap();
    for named in ["theirs", &theirs.profile_id, &profile.profile_id, "-x"] {
        let wanted = p::EnsureSandboxRequest { profile_id: named.to_owned(), ..f.wanted() };
        let refused = call!(f, &f.task, ensure_sandbox, wanted).unwrap_err();
        assert_eq!(refused.reason(), "PROFILE_NOT_FOUND", "{named}");
    }
    f.profile(profile_settings("again", "")).await;
    let both = p::EnsureSandboxRequest { profile_id: "again".into(), agent: "codex".into(), ..f.wanted() };
    assert_eq!(call!(f, &f.task, ensure_sandbox, both).unwrap_err().violations()[0].field, "agent");
}

#[tokio::test]
async fn a_profile_whose_provider_left_the_environment_is_a_typed_error() {
    let f = Fixture::new().await;
    let provider = f.model_provider("work", KEY).await.model_provider_id;
    f.profile(profile_settings("night", &provider)).await;
    // As after a start without the variables: the profile's row names a provider that does not exist.
    let both = foundry_store::DialectSql {
        sqlite: "DELETE FROM model_providers RETURNING 1 AS n",
        postgres: "DELETE FROM model_providers RETURNING 1 AS n",
    };
    f.shared.store.write(both, &[]).await.unwrap();
    let wanted = p::EnsureSandboxRequest { profile_id: "night".into(), ..f.wanted() };
    let refused = call!(f, &f.task, ensure_sandbox, wanted).unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::FailedPrecondition, "MODEL_PROVIDER_NOT_FOUND"));
}
