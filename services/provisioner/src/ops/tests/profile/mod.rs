//! Model providers and agent profiles on a real database.

mod choices;
mod profiles;
mod providers;
mod secrecy;

use foundry_authn::Caller;
use foundry_core::{Code, Error};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1 as p;
use prost_types::FieldMask;

use crate::testing::Fixture;
use crate::testing::profiles::{profile_settings, user};

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() })
}

/// Calls an op by its name with a request.
macro_rules! call {
    ($f:expr, $caller:expr, $op:ident, $request:expr) => {
        crate::ops::$op::$op(&$f.shared, $caller, $request).await
    };
}
pub(super) use call;

/// Ids of what the tests read and change.
struct Things {
    organization_id: String,
    model_provider_id: String,
    profile_id: String,
}

fn code<T>(answer: Result<T, Error>) -> Option<Code> {
    answer.err().map(|e| e.code())
}

/// The code that a caller gets from each rpc that reads.
async fn read(f: &Fixture, caller: &Caller, t: &Things) -> [Option<Code>; 4] {
    let get = p::GetModelProviderRequest { model_provider_id: t.model_provider_id.clone() };
    let list =
        p::ListModelProvidersRequest { organization_id: t.organization_id.clone(), ..Default::default() };
    let get_profile = p::GetAgentProfileRequest { profile_id: t.profile_id.clone() };
    let profiles =
        p::ListAgentProfilesRequest { organization_id: t.organization_id.clone(), ..Default::default() };
    [
        code(call!(f, caller, get_model_provider, get)),
        code(call!(f, caller, list_model_providers, list)),
        code(call!(f, caller, get_agent_profile, get_profile)),
        code(call!(f, caller, list_agent_profiles, profiles)),
    ]
}

/// The code that a caller gets from each rpc that changes. Where the role suffices, the first four are refused for
/// their content.
async fn change(f: &Fixture, caller: &Caller, t: &Things) -> [Option<Code>; 7] {
    let (organization_id, model_provider_id, profile_id) =
        (t.organization_id.clone(), t.model_provider_id.clone(), t.profile_id.clone());
    let create =
        p::CreateModelProviderRequest { organization_id: organization_id.clone(), ..Default::default() };
    let update =
        p::UpdateModelProviderRequest { model_provider_id: model_provider_id.clone(), ..Default::default() };
    let create_profile = p::CreateAgentProfileRequest { organization_id, ..Default::default() };
    let update_profile =
        p::UpdateAgentProfileRequest { profile_id: profile_id.clone(), ..Default::default() };
    let test =
        p::TestModelProviderRequest { model_provider_id: model_provider_id.clone(), ..Default::default() };
    let delete = p::DeleteModelProviderRequest { model_provider_id, ..Default::default() };
    let delete_profile = p::DeleteAgentProfileRequest { profile_id, ..Default::default() };
    [
        code(call!(f, caller, create_model_provider, create)),
        code(call!(f, caller, update_model_provider, update)),
        code(call!(f, caller, create_agent_profile, create_profile)),
        code(call!(f, caller, update_agent_profile, update_profile)),
        code(call!(f, caller, test_model_provider, test)),
        code(call!(f, caller, delete_model_provider, delete)),
        code(call!(f, caller, delete_agent_profile, delete_profile)),
    ]
}

#[tokio::test]
async fn reading_needs_a_viewer_and_changing_an_admin_of_the_same_organization() {
    let f = Fixture::new().await;
    for role in [Role::Viewer, Role::Member, Role::Admin, Role::Owner] {
        let name = format!("for-{}", role.as_str_name().trim_start_matches("ROLE_").to_lowercase());
        let things = Things {
            organization_id: f.organization.to_string(),
            model_provider_id: f.model_provider(&name, "key-canary-0000000000").await.model_provider_id,
            profile_id: f.profile(profile_settings(&name, "")).await.profile_id,
        };
        assert_eq!(read(&f, &f.stranger, &things).await, [Some(Code::NotFound); 4]);
        assert_eq!(change(&f, &f.stranger, &things).await, [Some(Code::NotFound); 7]);
        let caller = user(&f, role);
        assert_eq!(read(&f, &caller, &things).await, [None; 4], "{role:?}");
        let expected = if role < Role::Admin {
            [Some(Code::PermissionDenied); 7]
        } else {
            let invalid = Some(Code::InvalidArgument);
            [invalid, invalid, invalid, invalid, None, None, None]
        };
        assert_eq!(change(&f, &caller, &things).await, expected, "{role:?}");
    }
}
