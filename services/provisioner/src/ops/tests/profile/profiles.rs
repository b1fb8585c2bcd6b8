//! Agent profiles.

use foundry_core::Code;
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1 as p;

use super::{call, mask};
use crate::testing::Fixture;
use crate::testing::profiles::{profile_settings, settings, user};

fn update(
    profile: &p::AgentProfile,
    paths: &[&str],
    change: p::AgentProfileSettings,
) -> p::UpdateAgentProfileRequest {
    p::UpdateAgentProfileRequest {
        profile_id: profile.profile_id.clone(),
        settings: Some(change),
        update_mask: mask(paths),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_organization_has_one_default_whichever_profile_took_it_last() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    let with = |name: &str, is_default| p::AgentProfileSettings { is_default, ..profile_settings(name, "") };
    let a = f.profile(with("a", true)).await;
    f.profile(with("b", true)).await;
    let c = f.profile(with("c", false)).await;
    let defaults = async || {
        let list =
            p::ListAgentProfilesRequest { organization_id: f.organization.to_string(), ..Default::default() };
        let all = call!(f, &f.member, list_agent_profiles, list).unwrap().profiles;
        let settings = all.into_iter().filter_map(|p| p.settings);
        settings.filter(|s| s.is_default).map(|s| s.name).collect::<Vec<_>>()
    };
    assert_eq!(defaults().await, ["b"]);
    let is_default = p::AgentProfileSettings { is_default: true, ..Default::default() };
    call!(f, &admin, update_agent_profile, update(&c, &["is_default"], is_default.clone())).unwrap();
    assert_eq!(defaults().await, ["c"]);
    // Losing the default to another profile gives the profile a new revision too.
    let stale =
        p::UpdateAgentProfileRequest { expected_rev: a.rev, ..update(&a, &["is_default"], is_default) };
    let refused = call!(f, &admin, update_agent_profile, stale).unwrap_err();
    assert_eq!(refused.reason(), "REVISION_CHANGED");
    let none = p::AgentProfileSettings::default();
    call!(f, &admin, update_agent_profile, update(&c, &["is_default"], none)).unwrap();
    assert!(defaults().await.is_empty());
}

#[tokio::test]
async fn a_profile_names_an_agent_that_there_is_and_a_provider_of_its_own_organization() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    let theirs = p::CreateModelProviderRequest {
        organization_id: f.stranger.memberships()[0].organization_id.to_string(),
        settings: Some(settings("theirs", "key-canary-0000000000")),
        ..Default::default()
    };
    let theirs = call!(f, &f.stranger, create_model_provider, theirs).unwrap().model_provider.unwrap();
    let ours =
        p::ModelProviderSettings { models: vec!["m1".into()], ..settings("ours", "key-canary-0000000000") };
    let request = p::CreateModelProviderRequest {
        organization_id: f.organization.to_string(),
        settings: Some(ours),
        ..Default::default()
    };
    let ours =
        call!(f, &admin, create_model_provider, request).unwrap().model_provider.unwrap().model_provider_id;
    let good = p::AgentProfileSettings { model: "m1".into(), ..profile_settings("night", &ours) };
    let bad = [
        ("settings.agent", p::AgentProfileSettings { agent: "hal".into(), ..good.clone() }),
        ("settings.agent", p::AgentProfileSettings { agent: String::new(), ..good.clone() }),
        (
            "settings.model_provider_id",
            p::AgentProfileSettings { model_provider_id: theirs.model_provider_id, ..good.clone() },
        ),
        (
            "settings.model_provider_id",
            p::AgentProfileSettings { model_provider_id: "ours".into(), ..good.clone() },
        ),
        ("settings.model", p::AgentProfileSettings { model: "m2".into(), ..good.clone() }),
        ("settings.name", p::AgentProfileSettings { name: String::new(), ..good.clone() }),
    ];
    let create = |settings| p::CreateAgentProfileRequest {
        organization_id: f.organization.to_string(),
        settings: Some(settings),
        ..Default::default()
    };
    for (field, settings) in bad {
        let refused = call!(f, &admin, create_agent_profile, create(settings)).unwrap_err();
        assert_eq!((refused.code(), refused.violations()[0].field.as_str()), (Code::InvalidArgument, field));
    }
    let made = call!(f, &admin, create_agent_profile, create(good.clone())).unwrap().profile.unwrap();
    let taken = call!(f, &admin, create_agent_profile, create(good)).unwrap_err();
    assert_eq!(taken.reason(), "ALREADY_EXISTS");
    // An update is checked as a whole: the model remains, but its provider is removed.
    let none = p::AgentProfileSettings::default();
    let refused = call!(f, &admin, update_agent_profile, update(&made, &["model_provider_id"], none.clone()))
        .unwrap_err();
    assert_eq!(refused.violations()[0].field, "settings.model");
    let both = update(&made, &["model_provider_id", "model"], none);
    let answer = call!(f, &admin, update_agent_profile, both).unwrap().profile.unwrap();
    assert_eq!(answer.settings.unwrap().environment.len(), 1, "what the mask does not name stays");
}

#[tokio::test]
async fn a_provider_cannot_leave_while_a_profile_takes_it_up() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    for _ in 0..8 {
        let id = f.model_provider("work", "key-canary-0000000000").await.model_provider_id;
        let create = p::CreateAgentProfileRequest {
            organization_id: f.organization.to_string(),
            settings: Some(profile_settings("night", &id)),
            ..Default::default()
        };
        let delete = p::DeleteModelProviderRequest { model_provider_id: id.clone(), ..Default::default() };
        let (made, gone) = tokio::join!(async { call!(f, &admin, create_agent_profile, create) }, async {
            call!(f, &admin, delete_model_provider, delete)
        });
        assert!(made.is_ok() != gone.is_ok(), "{made:?} {gone:?}");
        if let Ok(made) = made {
            let profile_id = made.profile.unwrap().profile_id;
            call!(
                f,
                &admin,
                delete_agent_profile,
                p::DeleteAgentProfileRequest { profile_id, ..Default::default() }
            )
            .unwrap();
            let delete = p::DeleteModelProviderRequest { model_provider_id: id, ..Default::default() };
            call!(f, &admin, delete_model_provider, delete).unwrap();
        }
    }
}

#[tokio::test]
async fn a_profile_takes_only_a_provider_whose_api_its_agent_supports() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    // Of the kind openai-compatible.
    let provider = f.model_provider("work", "key-canary-0000000000").await.model_provider_id;
    let with =
        |agent: &str| p::AgentProfileSettings { agent: agent.into(), ..profile_settings("night", &provider) };
    let create = p::CreateAgentProfileRequest {
        organization_id: f.organization.to_string(),
        settings: Some(with("claude")),
        ..Default::default()
    };
    let refused = call!(f, &admin, create_agent_profile, create).unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::FailedPrecondition, "AGENT_MODEL_UNSUITABLE"));
    let words = refused.message();
    assert!(words.contains("openai-compatible") && words.contains("supports: anthropic"), "{words}");

    let made = f.profile(with("qwen")).await;
    let refused =
        call!(f, &admin, update_agent_profile, update(&made, &["agent"], with("gemini"))).unwrap_err();
    assert_eq!(refused.reason(), "AGENT_MODEL_UNSUITABLE");
    // The demo agent has no model, so it takes any.
    call!(f, &admin, update_agent_profile, update(&made, &["agent"], with("demo"))).unwrap();
}
