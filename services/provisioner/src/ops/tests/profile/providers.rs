//! Model providers.

use foundry_core::Code;
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1 as p;

use super::{call, mask};
use crate::testing::Fixture;
use crate::testing::profiles::{ENVIRONMENT_KEY, profile_settings, settings, user};

const KEY: &str = "sk-canary-0123456789-last";

fn create(
    f: &Fixture,
    request_id: &str,
    settings: p::ModelProviderSettings,
) -> p::CreateModelProviderRequest {
    p::CreateModelProviderRequest {
        request_id: request_id.to_owned(),
        organization_id: f.organization.to_string(),
        settings: Some(settings),
    }
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_a_taken_name_is_refused() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    let request = create(&f, "r1", settings("work", KEY));
    let first = call!(f, &admin, create_model_provider, request.clone()).unwrap();
    let view = first.model_provider.clone().unwrap();
    assert!(first.rev > 0 && view.rev == first.rev);
    assert_eq!(view.credential.unwrap().last_four, "last");
    assert_eq!(call!(f, &admin, create_model_provider, request).unwrap(), first);
    let other = create(&f, "r1", settings("work", "sk-canary-another-key-00"));
    let reused = call!(f, &admin, create_model_provider, other).unwrap_err();
    assert_eq!(reused.reason(), "REQUEST_ID_REUSED");
    let taken = call!(f, &admin, create_model_provider, create(&f, "", settings("work", KEY))).unwrap_err();
    assert_eq!(taken.reason(), "ALREADY_EXISTS");
    // Names are unique within an organization only.
    let theirs = p::CreateModelProviderRequest {
        organization_id: f.stranger.memberships()[0].organization_id.to_string(),
        ..create(&f, "", settings("work", KEY))
    };
    call!(f, &f.stranger, create_model_provider, theirs).unwrap();
}

#[tokio::test]
async fn an_update_changes_what_the_mask_names_and_a_rename_can_collide() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    let work = f.model_provider("work", KEY).await;
    f.model_provider("home", KEY).await;
    let update = |paths: &[&str], change: p::ModelProviderSettings| p::UpdateModelProviderRequest {
        model_provider_id: work.model_provider_id.clone(),
        settings: Some(change),
        update_mask: mask(paths),
        ..Default::default()
    };
    let models = p::ModelProviderSettings { models: vec!["m1".into()], ..Default::default() };
    let answer = call!(f, &admin, update_model_provider, update(&["models"], models.clone())).unwrap();
    let changed = answer.model_provider.unwrap();
    assert_eq!((changed.models.as_slice(), changed.name.as_str()), (&["m1".to_owned()][..], "work"));
    assert!(changed.credential.as_ref().unwrap().has_key && changed.rev > work.rev);
    let get = p::GetModelProviderRequest { model_provider_id: work.model_provider_id.clone() };
    assert_eq!(call!(f, &f.member, get_model_provider, get).unwrap().model_provider, Some(changed));

    let home = p::ModelProviderSettings { name: "home".into(), ..Default::default() };
    let taken = call!(f, &admin, update_model_provider, update(&["name"], home)).unwrap_err();
    assert_eq!(taken.reason(), "ALREADY_EXISTS");
    for paths in [&[][..], &["kind"], &["model_provider_id"], &["models", "rubbish"]] {
        let refused = call!(f, &admin, update_model_provider, update(paths, models.clone())).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{paths:?}");
    }
    let stale = p::UpdateModelProviderRequest { expected_rev: work.rev, ..update(&["models"], models) };
    let refused = call!(f, &admin, update_model_provider, stale).unwrap_err();
    assert_eq!(refused.reason(), "REVISION_CHANGED");
}

#[tokio::test]
async fn a_used_provider_is_not_deleted_and_a_repeated_deletion_gets_its_answer() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    let id = f.model_provider("work", KEY).await.model_provider_id;
    let profile = f.profile(profile_settings("night", &id)).await;
    let delete = |request_id: &str| p::DeleteModelProviderRequest {
        request_id: request_id.to_owned(),
        model_provider_id: id.clone(),
    };
    let used = call!(f, &admin, delete_model_provider, delete("r1")).unwrap_err();
    assert_eq!(used.reason(), "MODEL_PROVIDER_IN_USE");
    assert!(used.message().contains("night"), "{used}");
    let gone = p::DeleteAgentProfileRequest { profile_id: profile.profile_id, ..Default::default() };
    call!(f, &admin, delete_agent_profile, gone).unwrap();
    let first = call!(f, &admin, delete_model_provider, delete("r1")).unwrap();
    assert_eq!(call!(f, &admin, delete_model_provider, delete("r1")).unwrap(), first);
    let absent = call!(f, &admin, delete_model_provider, delete("r2")).unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
}

#[tokio::test]
async fn lists_those_of_the_environment_first_and_the_rest_by_pages() {
    let f = Fixture::new().await;
    for name in ["b", "c", "a"] {
        f.model_provider(name, KEY).await;
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request = p::ListModelProvidersRequest {
            organization_id: f.organization.to_string(),
            page_size: 2,
            page_token: token,
        };
        let page = call!(f, &f.member, list_model_providers, request).unwrap();
        names.extend(page.model_providers.into_iter().map(|p| p.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["env-anthropic", "a", "b", "c"]);
}

#[tokio::test]
async fn one_of_the_environment_is_everybodys_read_only_and_not_in_the_database() {
    let f = Fixture::new().await;
    let list = p::ListModelProvidersRequest {
        organization_id: f.stranger.memberships()[0].organization_id.to_string(),
        ..Default::default()
    };
    let seen = call!(f, &f.stranger, list_model_providers, list).unwrap().model_providers.remove(0);
    assert_eq!(
        (seen.source(), seen.variables[0].as_str()),
        (p::ModelProviderSource::Environment, "ANTHROPIC_API_KEY")
    );
    assert_eq!((seen.organization_id.as_str(), seen.rev), ("", 0));
    let update = p::UpdateModelProviderRequest {
        model_provider_id: seen.model_provider_id.clone(),
        settings: Some(p::ModelProviderSettings::default()),
        update_mask: mask(&["models"]),
        ..Default::default()
    };
    let refused = call!(f, &f.stranger, update_model_provider, update).unwrap_err();
    assert_eq!(refused.reason(), "MODEL_PROVIDER_READ_ONLY");
    let delete = p::DeleteModelProviderRequest {
        model_provider_id: seen.model_provider_id.clone(),
        ..Default::default()
    };
    let refused = call!(f, &f.stranger, delete_model_provider, delete).unwrap_err();
    assert_eq!(refused.reason(), "MODEL_PROVIDER_READ_ONLY");
    let profile = f.profile(profile_settings("night", &seen.model_provider_id)).await;
    assert_eq!(profile.settings.unwrap().model_provider_id, seen.model_provider_id);
    assert!(f.shared.store.query("SELECT name FROM model_providers", &[]).await.unwrap().is_empty());
    let nobody = foundry_authn::Caller::service("task");
    let get = p::GetModelProviderRequest { model_provider_id: seen.model_provider_id };
    assert_eq!(call!(f, &nobody, get_model_provider, get).unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_test_says_what_is_wrong_without_the_secrets_that_the_other_side_repeats() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    let work = f.model_provider("work", KEY).await;
    let test = |id: &str, model: &str| p::TestModelProviderRequest {
        model_provider_id: id.to_owned(),
        model: model.to_owned(),
    };
    let id = &work.model_provider_id;
    let found = call!(f, &admin, test_model_provider, test(id, "m")).unwrap();
    assert_eq!((found.result(), found.model.as_str()), (p::ModelTestResult::Key, "m"));
    assert!(found.message.contains("bad key ***") && !found.next_action.is_empty(), "{found:?}");
    assert!(!format!("{found:?}").contains("canary"), "{found:?}");
    let seen = f.shared.profiles.environment.all().next().unwrap().model_provider_id.to_string();
    let found = call!(f, &admin, test_model_provider, test(&seen, "")).unwrap();
    assert!(!found.message.contains(ENVIRONMENT_KEY) && found.model == "small", "{found:?}");

    let (shared, request) = (std::sync::Arc::clone(&f.shared), test(id, "hang"));
    let hanging = async { call!(f, &admin, test_model_provider, request) };
    let clock = async {
        while shared.profiles.tests.available_permits() == crate::profiles::CONCURRENT_TESTS {
            tokio::task::yield_now().await;
        }
        f.env.clock.advance(std::time::Duration::from_secs(9));
    };
    let (silent, ()) = tokio::join!(hanging, clock);
    let silent = silent.unwrap();
    assert_eq!((silent.result(), silent.duration_millis), (p::ModelTestResult::Host, 9_000));
    assert_eq!(f.shared.profiles.tests.available_permits(), crate::profiles::CONCURRENT_TESTS);
}

#[tokio::test]
async fn a_missing_key_and_an_unlisted_model_are_seen_without_a_call() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    let keyless = p::ModelProviderSettings {
        name: "keyless".into(),
        kind: p::ModelProviderKind::Anthropic.into(),
        models: vec!["m1".into()],
        ..Default::default()
    };
    let made =
        call!(f, &admin, create_model_provider, create(&f, "", keyless)).unwrap().model_provider.unwrap();
    assert_eq!(made.base_url, "https://api.anthropic.com");
    for (model, expected) in [("", p::ModelTestResult::Key), ("m2", p::ModelTestResult::Model)] {
        let request = p::TestModelProviderRequest {
            model_provider_id: made.model_provider_id.clone(),
            model: model.to_owned(),
        };
        assert_eq!(call!(f, &admin, test_model_provider, request).unwrap().result(), expected);
    }
}

#[tokio::test]
async fn bedrock_and_vertex_are_refused_in_words_and_nothing_is_written() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    for kind in
        [p::ModelProviderKind::Bedrock, p::ModelProviderKind::Vertex, p::ModelProviderKind::Unspecified]
    {
        let wanted = p::ModelProviderSettings { kind: kind.into(), ..settings("x", KEY) };
        let refused = call!(f, &admin, create_model_provider, create(&f, "", wanted)).unwrap_err();
        assert_eq!(refused.violations()[0].field, "settings.kind");
    }
    assert!(f.shared.store.query("SELECT name FROM model_providers", &[]).await.unwrap().is_empty());
}
