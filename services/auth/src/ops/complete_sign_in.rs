//! CompleteSignIn: examines a proof, makes user and organization at first use, opens a session.

use foundry_authn::{ClientPeer, role_key};
use foundry_core::{Code, CredentialId, Error, OrganizationId, Result, UserId};
use foundry_proto::auth::v1::{CompleteSignInRequest, CompleteSignInResponse};
use foundry_proto::common::v1::Role;
use foundry_store::WriteSet;

use super::audit;
use crate::auth::Auth;
use crate::domain::proof::{Proof, Subject};
use crate::domain::secret::{self, SecretKind};
use crate::store::credentials::{NewSession, insert_session};
use crate::store::organizations::{self, Organization};
use crate::store::users::{self, User};
use crate::store::{identities, memberships, revocations};

pub(crate) async fn run(
    auth: &Auth,
    peer: ClientPeer,
    request: CompleteSignInRequest,
) -> Result<CompleteSignInResponse> {
    let (subject, organization_name) = examine(auth, peer, Proof::parse(request.proof)?)?;
    let session = secret::generate(SecretKind::Session, &auth.env);
    let decide = || async {
        let (subject, name) = (&subject, organization_name.as_str());
        decide(auth, subject, name, &session).await
    };
    let (_, response) = auth.store.retry_on_conflict(decide).await?;
    Ok(response)
}

/// Who signs in and which organization it opens, or why not.
fn examine(auth: &Auth, peer: ClientPeer, proof: Proof) -> Result<(Subject, String)> {
    match proof {
        Proof::Development { secret, subject, organization_name } => {
            let enabled = auth.development.as_ref().ok_or_else(disabled)?;
            enabled.examine(&secret, peer, auth.env.clock.now())?;
            Ok((subject, organization_name))
        }
    }
}

async fn decide(
    auth: &Auth,
    subject: &Subject,
    organization_name: &str,
    session: &str,
) -> Result<(WriteSet, CompleteSignInResponse)> {
    let mut set = WriteSet::new();
    let user = user(auth, &mut set, subject).await?;
    let organization = organization(auth, &mut set, &user, organization_name).await?;
    let now = auth.env.clock.now();
    let expires_at = now.plus(auth.config.session_lifetime);
    let credential_id = CredentialId::generate(&auth.env);
    let new = NewSession {
        credential_id: &credential_id,
        secret_hash: secret::hash(session),
        user_id: &user.user_id,
        created_at: now,
        expires_at,
    };
    insert_session(&mut set, &new);
    let subject = credential_id.as_str();
    set.audit(audit(&user.user_id, &organization.organization_id, "session.open", subject));
    let response = CompleteSignInResponse {
        session_token: session.to_owned(),
        user: Some(user.message()),
        organization: Some(organization.message()),
        expire_time: Some(expires_at.to_proto()),
    };
    Ok((set, response))
}

async fn user(auth: &Auth, set: &mut WriteSet, subject: &Subject) -> Result<User> {
    if let Some(user) = identities::user_of(&auth.store, subject).await? {
        return Ok(user);
    }
    if users::by_login(&auth.store, &subject.login).await?.is_some() {
        return Err(Error::already_exists("user", &subject.login));
    }
    let user = User {
        user_id: UserId::generate(&auth.env),
        login: subject.login.clone(),
        display_name: subject.login.clone(),
        created_at: auth.env.clock.now(),
    };
    user.insert(set);
    identities::insert(set, subject, &user.user_id);
    Ok(user)
}

async fn organization(auth: &Auth, set: &mut WriteSet, user: &User, name: &str) -> Result<Organization> {
    if let Some(organization) = organizations::by_name(&auth.store, name).await? {
        let member = memberships::get(&auth.store, &organization.organization_id, &user.user_id).await?;
        return match member {
            Some(_) => Ok(organization),
            None => Err(no_member(&user.login, name)),
        };
    }
    let (organization_id, now) = (OrganizationId::generate(&auth.env), auth.env.clock.now());
    let organization = Organization { organization_id, name: name.to_owned(), created_at: now };
    organization.insert(set);
    let id = &organization.organization_id;
    memberships::insert(set, id, &user.user_id, Role::Owner, now);
    // Tokens of the user's other sessions do not know this organization yet.
    revocations::add(set, &role_key(&user.user_id, id), now);
    set.audit(audit(&user.user_id, id, "organization.create", id.as_str()));
    Ok(organization)
}

fn disabled() -> Error {
    Error::precondition("SIGN_IN_DISABLED", "development", "the development sign-in is not enabled here")
        .next_action("enable `auth.development_sign_in`, or sign in another way")
}

fn no_member(login: &str, organization: &str) -> Error {
    Error::new(
        Code::PermissionDenied,
        "NOT_A_MEMBER",
        format!("the organization {organization} exists, and {login} is no member of it"),
    )
    .next_action("sign in to another organization, and ask an owner of this one to add you")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fixture, development};

    #[tokio::test]
    async fn the_first_sign_in_makes_user_and_organization_and_the_next_finds_them() {
        let f = Fixture::new().await;
        let first = f.sign_in("alice", "").await.unwrap();
        assert_eq!(first.organization.as_ref().unwrap().name, "alice");
        let second = f.sign_in("alice", "").await.unwrap();
        assert_eq!((first.user, first.organization), (second.user, second.organization));
        assert_ne!(first.session_token, second.session_token);
    }

    #[tokio::test]
    async fn sign_ins_at_the_same_time_make_one_user() {
        let f = Fixture::new().await;
        let both = tokio::join!(f.sign_in("alice", "acme"), f.sign_in("alice", "acme"));
        assert_eq!(both.0.unwrap().user, both.1.unwrap().user);
    }

    #[tokio::test]
    async fn opens_no_organization_of_others() {
        let f = Fixture::new().await;
        f.sign_in("alice", "acme").await.unwrap();
        assert_eq!(f.sign_in("mallory", "acme").await.unwrap_err().reason(), "NOT_A_MEMBER");
        let again = f.sign_in("mallory", "").await.unwrap();
        assert_eq!(again.organization.unwrap().name, "mallory");
    }

    #[tokio::test]
    async fn needs_the_secret_this_machine_and_the_switch() {
        let f = Fixture::new().await;
        let wrong = development("wrong", "alice", "");
        let refused = run(&f.auth, ClientPeer::Loopback, wrong).await.unwrap_err();
        assert_eq!(refused.reason(), "SIGN_IN_SECRET_WRONG");
        let remote = run(&f.auth, ClientPeer::Remote, development(&f.secret, "alice", "")).await.unwrap_err();
        assert_eq!(remote.reason(), "SIGN_IN_NOT_LOCAL");
        let off = Fixture::without_development().await;
        let refused = off.sign_in("alice", "").await.unwrap_err();
        assert_eq!(refused.reason(), "SIGN_IN_DISABLED");
        assert!(!off.dir.path().join(crate::development::FILE).exists());
    }

    #[tokio::test]
    async fn refuses_hostile_names_and_no_proof_at_all() {
        let f = Fixture::new().await;
        for bad in ["", "../x", "a;b", "-rf", "A", "a\u{0}b", "' OR '1'='1"] {
            let refused = f.sign_in(bad, "").await.unwrap_err();
            assert_eq!(refused.violations()[0].field, "development.login", "{bad:?}");
        }
        assert!(f.sign_in("alice", "Bad Name").await.is_err());
        let none = run(&f.auth, ClientPeer::Loopback, CompleteSignInRequest::default()).await.unwrap_err();
        assert_eq!(none.violations()[0].field, "proof");
    }
}
