//! Secrets are in no answer, no text, no audit row and no file in plain.

use std::fmt::Debug;

use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1 as p;

use super::{call, mask};
use crate::testing::Fixture;
use crate::testing::profiles::{profile_settings, secret, settings, user};

/// Part of each secret in the fixture's settings.
const CANARY: &str = "canary";

fn show(said: &mut Vec<String>, what: impl Debug) {
    said.push(format!("{what:?}"));
}

#[tokio::test]
async fn no_secret_is_in_any_answer_error_or_debug_text() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    let organization_id = f.organization.to_string();
    let mut said = Vec::new();
    let create = p::CreateModelProviderRequest {
        request_id: "r1".into(),
        organization_id: organization_id.clone(),
        settings: Some(settings("work", "key-canary-0123456789")),
    };
    show(&mut said, &create);
    let made = call!(f, &admin, create_model_provider, create.clone()).unwrap();
    let provider = made.model_provider.clone().unwrap();
    show(&mut said, &made);
    show(&mut said, call!(f, &admin, create_model_provider, create).unwrap());
    let profile = f.profile(profile_settings("night", &provider.model_provider_id)).await;
    show(&mut said, &profile);
    let list = p::ListAgentProfilesRequest { organization_id: organization_id.clone(), ..Default::default() };
    show(&mut said, call!(f, &f.member, list_agent_profiles, list).unwrap());
    let list = p::ListModelProvidersRequest { organization_id, ..Default::default() };
    show(&mut said, call!(f, &f.member, list_model_providers, list).unwrap());
    for bad in [secret("x y", "canary"), secret("x", "canary\n"), secret("host", "canary")] {
        let update = p::UpdateModelProviderRequest {
            model_provider_id: provider.model_provider_id.clone(),
            settings: Some(p::ModelProviderSettings { headers: vec![bad], ..Default::default() }),
            update_mask: mask(&["headers"]),
            ..Default::default()
        };
        show(&mut said, &update);
        let refused = call!(f, &admin, update_model_provider, update).unwrap_err();
        show(&mut said, &refused);
        show(&mut said, refused.into_status());
    }
    show(
        &mut said,
        crate::store::model_providers::list(&f.shared.store, &f.organization, "", 10).await.unwrap(),
    );
    for text in said {
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[tokio::test]
async fn no_secret_is_in_a_file_of_the_service_and_none_in_its_audit() {
    let f = Fixture::new().await;
    let admin = user(&f, Role::Admin);
    let provider = f.model_provider("work", "key-canary-0123456789").await;
    f.profile(profile_settings("night", &provider.model_provider_id)).await;
    let bearer = p::Credential {
        secret: Some(p::credential::Secret::Bearer(foundry_proto::common::v1::SecretText {
            value: "bearer-canary-0123456789".into(),
        })),
    };
    let update = p::UpdateModelProviderRequest {
        request_id: "r2".into(),
        model_provider_id: provider.model_provider_id.clone(),
        settings: Some(p::ModelProviderSettings { credential: Some(bearer), ..Default::default() }),
        update_mask: mask(&["credential"]),
        ..Default::default()
    };
    call!(f, &admin, update_model_provider, update).unwrap();
    let audited =
        f.shared.store.query("SELECT action, detail_json FROM store_audit ORDER BY rev", &[]).await.unwrap();
    let actions: Vec<_> = audited.iter().map(|r| r.text("action").unwrap().to_owned()).collect();
    assert_eq!(actions, ["model_provider.create", "agent_profile.create", "model_provider.update"]);
    assert!(audited[2].text("detail_json").unwrap().contains("credential"), "the audit says which fields");
    let mut searched = Vec::new();
    if foundry_testkit::on_postgres() {
        // Its files are those of a whole cluster: the rows as text, with bytes in hex.
        for sql in ["SELECT t::text FROM model_providers t", "SELECT t::text FROM agent_profiles t"] {
            let rows = f.shared.store.query(sql, &[]).await.unwrap();
            searched.extend(rows.iter().map(|row| row.text("t").unwrap().as_bytes().to_vec()));
        }
    }
    f.shared.store.close().await;
    for entry in std::fs::read_dir(f.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            searched.push(std::fs::read(&path).unwrap());
        }
    }
    for content in &searched {
        for canary in [CANARY.to_owned(), hex::encode(CANARY), base64(CANARY)] {
            assert!(!content.windows(canary.len()).any(|w| w == canary.as_bytes()), "{canary}");
        }
    }
    let holds = |text: &[u8]| searched.iter().any(|content| content.windows(text.len()).any(|w| w == text));
    assert!(holds(provider.model_provider_id.as_bytes()), "the database was searched");
}

/// The part of a text's base64 form that does not depend on what surrounds it.
fn base64(text: &str) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD_NO_PAD.encode(text)
}

#[tokio::test]
async fn the_sealed_secrets_of_one_row_are_of_no_use_in_another() {
    let f = Fixture::new().await;
    let one = f.model_provider("one", "key-canary-0123456789").await;
    let other = f.model_provider("other", "key-canary-9876543210").await;
    let all = crate::store::model_providers::list(&f.shared.store, &f.organization, "", 10).await.unwrap();
    let mut stolen = all.iter().find(|p| p.view.name == "other").unwrap().clone();
    stolen.sealed.clone_from(&all.iter().find(|p| p.view.name == "one").unwrap().sealed);
    let opened = crate::profiles::ModelAccess::of(&f.shared, &stolen);
    assert!(opened.is_err(), "{} opened in {}", one.model_provider_id, other.model_provider_id);
}
