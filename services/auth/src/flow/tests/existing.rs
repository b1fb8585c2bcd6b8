//! Sign-ins in a mesh that was used before: with the development sign-in, or by owners who have gone.

use foundry_core::{OrganizationId, UserId};
use foundry_proto::auth::v1::{
    BeginProgramSignInRequest, CompleteProgramSignInRequest, CreateOrganizationRequest,
    ListSignInWaysResponse,
};
use foundry_store::WriteSet;

use super::*;
use crate::domain::account::Identified;
use crate::domain::program::ProgramState;
use crate::domain::secret::{self, SecretKind};
use crate::domain::session::{Means, Origin, SessionKind};
use crate::flow::admit::{allowed, enter};
use crate::store::accounts;
use crate::store::organizations::Organization;
use crate::store::sessions::Session;
use crate::store::users::User;
use crate::store::{memberships, program_sign_ins, sign_ins};

/// A user as the development sign-in leaves it: owner of an organization of the same name, with a session.
async fn developed(c: &Case, login: &str) -> (UserId, OrganizationId, String) {
    let (env, now) = (&c.f.auth.env, c.f.auth.env.clock.now());
    let (user_id, id) = (UserId::generate(env), OrganizationId::generate(env));
    let mut set = WriteSet::new();
    Organization { organization_id: id.clone(), name: login.into(), created_at: now }.insert(&mut set);
    let names = (login.to_owned(), login.to_owned());
    let active = Some(id.clone());
    User { user_id: user_id.clone(), login: names.0, display_name: names.1, created_at: now, active }
        .insert(&mut set);
    memberships::insert(&mut set, &id, &user_id, Role::Owner, now);
    let session = secret::generate(SecretKind::Session, env);
    let new = Session {
        credential_id: foundry_core::CredentialId::generate(env),
        user_id: user_id.clone(),
        origin: Origin {
            kind: SessionKind::Bearer,
            means: Means::Unknown,
            provider: String::new(),
            device: String::new(),
            address: String::new(),
        },
        created_at: now,
        expires_at: Some(now.plus(Duration::from_secs(86_400))),
        revoked_at: None,
        last_used_at: None,
    };
    new.insert(&mut set, secret::hash(&session));
    c.f.auth.store.commit(set).await.unwrap();
    c.f.clock.advance(Duration::from_secs(1));
    c.host.at(NOW + 1);
    (user_id, id, session)
}

async fn ways(c: &Case) -> ListSignInWaysResponse {
    ops::list_sign_in_ways::list_sign_in_ways(&c.f.auth).await.unwrap()
}

fn home_of(owner: &CompleteSignInResponse) -> OrganizationId {
    owner.organization.as_ref().unwrap().organization_id.parse().unwrap()
}

#[tokio::test]
async fn listed_people_wait_for_the_set_up_and_join_the_organization_that_was_set_up() {
    let c = Case::openid().await;
    let (_, of_alice, _) = developed(&c, "alice").await;
    assert_eq!(reason(c.go(person(2, "ada"), c.ask()).await), "SET_UP_REQUIRED");
    let owner = c.set_up().await;
    let ada = c.go(person(2, "ada"), c.ask()).await.unwrap();
    assert_eq!(ada.organization, owner.organization);
    let unverified = Person { is_verified: false, ..person(3, "eve") };
    assert_eq!(reason(c.go(unverified, c.ask()).await), "NOT_ADMITTED");
    let refused = async |at: &OrganizationId| {
        c.f.audit(at).await.iter().filter(|r| r.action == "sign_in.refuse").count()
    };
    assert_eq!((refused(&home_of(&owner)).await, refused(&of_alice).await), (1, 0));
}

#[tokio::test]
async fn an_organization_of_ones_own_is_no_set_up_and_the_secret_comes_back_when_it_is_needed() {
    let c = Case::openid().await;
    let owner = c.set_up().await;
    let ada = c.go(person(2, "ada"), c.ask()).await.unwrap();
    let caller = c.f.caller(&ada.session_token).await.unwrap();
    let own = CreateOrganizationRequest { request_id: String::new(), name: "own".into() };
    ops::create_organization::create_organization(&c.f.auth, &caller, own).await.unwrap();
    let file = c.f.dir.path().join(crate::SET_UP_SECRET_FILE);
    jobs::keep_set_up_secret::run(c.f.auth.clone()).await.unwrap();
    assert!(!ways(&c).await.set_up_required && !file.exists());

    // As if the one owner had gone by a way that leaves none.
    let mut set = WriteSet::new();
    let boss = owner.user.as_ref().unwrap().user_id.parse().unwrap();
    memberships::delete(&mut set, &home_of(&owner), &boss, Role::Owner);
    c.f.auth.store.commit(set).await.unwrap();
    assert!(ways(&c).await.set_up_required, "ada's organization is not the mesh's");
    jobs::keep_set_up_secret::run(c.f.auth.clone()).await.unwrap();
    let again = c.go(person(4, "next"), c.as_first_owner()).await.unwrap();
    assert_eq!(again.organization, owner.organization, "by its name");
    assert!(!ways(&c).await.set_up_required);
}

#[tokio::test]
async fn a_provider_ends_sessions_and_tokens_of_the_development_sign_in_and_no_others() {
    let c = Case::openid().await;
    let (_, of_alice, session) = developed(&c, "alice").await;
    let alice = c.f.caller(&session).await.unwrap();
    let token = c.f.access_token(&alice, &of_alice, None).await.secret;
    let owner = c.set_up().await;
    jobs::end_development::run(c.f.auth.clone()).await.unwrap();
    c.f.follow().await;
    assert_eq!(c.f.auth.revocations.apply(alice).unwrap_err().reason(), "TOKEN_REVOKED");
    for ended in [&session, &token] {
        assert_eq!(c.f.caller(ended).await.unwrap_err().reason(), "TOKEN_REVOKED");
    }
    assert!(c.f.caller(&owner.session_token).await.is_ok());
    let actions: Vec<String> = c.f.audit(&of_alice).await.into_iter().map(|r| r.action).collect();
    for action in ["session.close", "access_token.revoke"] {
        assert_eq!(actions.iter().filter(|a| *a == action).count(), 1, "{actions:?}");
    }
}

#[tokio::test]
async fn a_program_confirmed_by_the_development_sign_in_gets_no_session_beside_a_provider() {
    let c = Case::openid().await;
    let (alice, _, _) = developed(&c, "alice").await;
    let owner: UserId = c.set_up().await.user.unwrap().user_id.parse().unwrap();
    let auth = &c.f.auth;
    let confirmed_by = async |user: &UserId| {
        let request =
            BeginProgramSignInRequest { program: "foundry".into(), device: "laptop".into(), loopback: None };
        let begun = ops::begin_program_sign_in::begin_program_sign_in(auth, &HERE, request).await.unwrap();
        let id = begun.program_sign_in_id.parse().unwrap();
        let row = program_sign_ins::find(&auth.store, &id).await.unwrap().unwrap();
        let mut set = WriteSet::new();
        program_sign_ins::advance(&mut set, &row, ProgramState::Confirmed, &[("user_id", user.into())]);
        auth.store.commit(set).await.unwrap();
        let request = CompleteProgramSignInRequest {
            program_sign_in_id: begun.program_sign_in_id,
            device_code: begun.device_code,
            ..Default::default()
        };
        ops::complete_program_sign_in::complete_program_sign_in(auth, &HERE, request).await
    };
    assert_eq!(reason(confirmed_by(&alice).await), "SIGN_IN_UNKNOWN");
    assert_eq!(reason(confirmed_by(&owner).await), "OK");
}

#[tokio::test]
async fn a_role_that_changes_during_a_sign_in_is_not_given_back() {
    let c = Case::github().await;
    let owner = c.set_up().await;
    let (auth, home) = (&c.f.auth, home_of(&owner));
    let known = accounts::of_subject(&auth.store, &c.host.origin(), "1").await.unwrap().unwrap();
    let user = known.user.user_id.clone();
    let begun = c.begin(c.ask()).await.unwrap();
    let row = sign_ins::find(&auth.store, &begun.sign_in_id.parse().unwrap()).await.unwrap().unwrap();
    let who = Identified { login: "boss".into(), ..Identified::default() };
    let changes: [fn(&mut WriteSet, &OrganizationId, &UserId); 2] = [
        |set, home, user| memberships::update(set, home, user, Role::Owner, Role::Viewer),
        |set, home, user| memberships::delete(set, home, user, Role::Viewer),
    ];
    for (change, left) in changes.into_iter().zip([Some(Role::Viewer), None]) {
        let way = allowed(auth, &row, &who, Some(&known)).await.unwrap();
        let (mut between, mut set) = (WriteSet::new(), WriteSet::new());
        change(&mut between, &home, &user);
        auth.store.commit(between).await.unwrap();
        enter(auth, &mut set, &who, Some(&known), &way).await.unwrap();
        assert!(auth.store.commit(set).await.is_err_and(|e| e.is_concurrent_change()), "{left:?}");
        let member = memberships::get(&auth.store, &home, &user).await.unwrap();
        assert_eq!(member.map(|member| member.role), left);
    }
}

#[tokio::test]
async fn the_audit_says_what_a_sign_in_made_and_gave() {
    let c = Case::openid().await;
    let owner = c.set_up().await;
    c.go(person(2, "ada"), c.ask()).await.unwrap();
    c.go(person(2, "ada"), c.ask()).await.unwrap();
    let records = c.f.audit(&home_of(&owner)).await;
    let made = records.iter().find(|r| r.action == "organization.create").unwrap();
    assert_eq!(made.actor, owner.user.unwrap().user_id);
    let mut given: Vec<Value> = records
        .iter()
        .filter(|r| r.action == "sign_in.admit")
        .map(|r| serde_json::from_str::<Value>(&r.detail_json).unwrap())
        .map(|d| json!([d["login"], d["role"], d["granted"], d["created"]]))
        .collect();
    given.sort_by_key(Value::to_string);
    let expected = [
        json!(["ada", "member", false, false]),
        json!(["ada", "member", true, false]),
        json!(["boss", "owner", true, true]),
    ];
    assert_eq!(given, expected);
}

#[tokio::test]
async fn a_crowded_login_lets_the_next_one_in_who_then_keeps_it() {
    let c = Case::openid().await;
    c.set_up().await;
    for batch in 0..12 {
        let mut set = WriteSet::new();
        for n in 1..=100 {
            let login = match batch * 100 + n {
                1 => "ada".to_owned(),
                number => format!("ada-{number}"),
            };
            let (user_id, now) = (UserId::generate(&c.f.auth.env), c.f.auth.env.clock.now());
            User { user_id, login: login.clone(), display_name: login, created_at: now, active: None }
                .insert(&mut set);
        }
        c.f.auth.store.commit(set).await.unwrap();
    }
    let first = c.go(person(2, "ada"), c.ask()).await.unwrap().user.unwrap();
    assert!(first.login.starts_with("ada-"), "{}", first.login);
    assert_eq!(c.go(person(2, "ada"), c.ask()).await.unwrap().user.unwrap().login, first.login);
}
