//! CompleteSignIn: checks a proof and opens a session. The development sign-in creates user and organization at first use.

mod provider;

use foundry_authn::{Client, SessionCookie, role_key};
use foundry_core::{Code, CredentialId, Error, OrganizationId, Result, Timestamp, UserId};
use foundry_proto::auth::v1::{CompleteSignInRequest, CompleteSignInResponse, SessionDelivery};
use foundry_proto::common::v1::Role;
use foundry_service::audit_as;
use foundry_store::WriteSet;

use crate::auth::Auth;
use crate::domain::device;
use crate::domain::proof::{Proof, Subject};
use crate::domain::secret::{self, SecretKind};
use crate::domain::session::{Means, Origin, SessionKind};
use crate::store::organizations::{self, Organization};
use crate::store::sessions::Session;
use crate::store::users::{self, User};
use crate::store::{identities, memberships, revocations};

/// Returns the answer, and the session's secret if it is delivered as a cookie.
pub(crate) async fn complete_sign_in(
    auth: &Auth,
    client: Client,
    request: CompleteSignInRequest,
) -> Result<(CompleteSignInResponse, Option<SessionCookie>)> {
    let as_cookie = parse_delivery(request.session_delivery, &client)?;
    let device = device::named(&request.device)?;
    let proof = Proof::parse(request.proof)?;
    let origin = |means| Origin {
        kind: if as_cookie { SessionKind::Page } else { SessionKind::Bearer },
        means,
        provider: String::new(),
        device: if as_cookie || device.is_empty() {
            device::of_user_agent(&client.agent)
        } else {
            device.clone()
        },
        address: client.address.map(|ip| ip.to_string()).unwrap_or_default(),
    };
    // Other programs on this host may see a cookie; its content must be useless to them.
    let kind = if as_cookie { SecretKind::PageSession } else { SecretKind::Session };
    let session = secret::generate(kind, &auth.env);
    let (_, (mut response, expires_at)) = match proof {
        Proof::Development { secret, subject, organization_name } => {
            let enabled = auth.development.as_ref().ok_or_else(disabled)?;
            enabled.examine(&secret, client.peer, auth.env.clock.now())?;
            let origin = origin(Means::Development);
            let decide = || decide(auth, &subject, &organization_name, (&session, &origin));
            auth.store.retry_on_conflict(decide).await?
        }
        Proof::Provider { sign_in_id, claim, return_secret } => {
            let origin = origin(Means::Provider);
            let decide =
                || provider::decide(auth, &sign_in_id, (&claim, &return_secret), (&session, &origin));
            auth.store.retry_on_conflict(decide).await?
        }
    };
    if as_cookie {
        return Ok((response, Some(SessionCookie { token: session, expires_at })));
    }
    response.session_token = session;
    Ok((response, None))
}

/// Whether to deliver the session as a cookie, which only the gateway's own page may request.
fn parse_delivery(delivery: i32, client: &Client) -> Result<bool> {
    match SessionDelivery::try_from(delivery) {
        Ok(SessionDelivery::Unspecified) => Ok(false),
        Ok(SessionDelivery::Cookie) if client.is_own_page => Ok(true),
        Ok(SessionDelivery::Cookie) => Err(Error::new(
            Code::PermissionDenied,
            "PAGE_REFUSED",
            "a session cookie is only issued to the gateway's own page",
        )
        .next_action("open the gateway's address in the browser, or request a bearer token instead")),
        Err(_) => Err(Error::invalid_field("session_delivery", "must be unset or COOKIE")),
    }
}

async fn decide(
    auth: &Auth,
    subject: &Subject,
    organization_name: &str,
    session: (&str, &Origin),
) -> Result<(WriteSet, (CompleteSignInResponse, Timestamp))> {
    let mut set = WriteSet::new();
    // Read before the user: of two concurrent first sign-ins, the slower one then finds its user as the owner.
    let existing = organizations::by_name(&auth.store, organization_name).await?;
    let known = known_user(auth, subject).await?;
    let is_known = known.is_some();
    let user = known.unwrap_or_else(|| new_user(auth, subject));
    let organization = organization(auth, &mut set, &user, organization_name, existing).await?;
    open_in(&mut set, is_known, &user, subject, &organization.organization_id);
    Ok(open_session(auth, set, &user, &organization, session))
}

/// Adds the session to what is written, and makes the answer.
fn open_session(
    auth: &Auth,
    mut set: WriteSet,
    user: &User,
    organization: &Organization,
    (secret, origin): (&str, &Origin),
) -> (WriteSet, (CompleteSignInResponse, Timestamp)) {
    let now = auth.env.clock.now();
    let expires_at = now.plus(auth.config.session_lifetime);
    let credential_id = CredentialId::generate(&auth.env);
    let new = Session {
        credential_id,
        user_id: user.user_id.clone(),
        origin: origin.clone(),
        created_at: now,
        expires_at: Some(expires_at),
        revoked_at: None,
        last_used_at: None,
    };
    new.insert(&mut set, secret::hash(secret));
    let subject = new.credential_id.as_str();
    set.audit(audit_as(user.user_id.as_str(), &organization.organization_id, "session.open", subject, ""));
    let response = CompleteSignInResponse {
        session_token: String::new(),
        user: Some(user.message()),
        organization: Some(organization.message()),
        expire_time: Some(expires_at.to_proto()),
    };
    (set, (response, expires_at))
}

async fn known_user(auth: &Auth, subject: &Subject) -> Result<Option<User>> {
    // In this order, the second read finds a user who is created between the two.
    let taken = users::by_login(&auth.store, &subject.login).await?.is_some();
    match identities::user_of(&auth.store, subject).await? {
        Some(user) => Ok(Some(user)),
        None if taken => Err(Error::already_exists("user", &subject.login)),
        None => Ok(None),
    }
}

fn new_user(auth: &Auth, subject: &Subject) -> User {
    User {
        user_id: UserId::generate(&auth.env),
        login: subject.login.clone(),
        display_name: subject.login.clone(),
        created_at: auth.env.clock.now(),
        active: None,
    }
}

/// Makes the opened organization the active one, and creates the user if it is new.
fn open_in(
    set: &mut WriteSet,
    is_known: bool,
    user: &User,
    subject: &Subject,
    organization: &OrganizationId,
) {
    if !is_known {
        User { active: Some(organization.clone()), ..user.clone() }.insert(set);
        identities::insert(set, subject, &user.user_id);
    } else if user.active.as_ref() != Some(organization) {
        user.activate(set, Some(organization));
    }
}

async fn organization(
    auth: &Auth,
    set: &mut WriteSet,
    user: &User,
    name: &str,
    existing: Option<Organization>,
) -> Result<Organization> {
    if let Some(organization) = existing {
        let member = memberships::get(&auth.store, &organization.organization_id, &user.user_id).await?;
        let member = member.ok_or_else(|| no_member(&user.login, name))?;
        memberships::still(set, &organization.organization_id, &user.user_id, member.role);
        return Ok(organization);
    }
    let (organization_id, now) = (OrganizationId::generate(&auth.env), auth.env.clock.now());
    let organization = Organization { organization_id, name: name.to_owned(), created_at: now };
    organization.insert(set);
    let id = &organization.organization_id;
    memberships::insert(set, id, &user.user_id, Role::Owner, now);
    // Tokens of the user's other sessions lack this organization and must be renewed.
    revocations::add(set, &role_key(&user.user_id, id), now);
    set.audit(audit_as(user.user_id.as_str(), id, "organization.create", id.as_str(), ""));
    Ok(organization)
}

fn disabled() -> Error {
    Error::precondition("SIGN_IN_DISABLED", "development", "development sign-in is not enabled")
        .next_action("sign in with a provider that the page shows, and `foundry` with `foundry login`; without a provider, enable `auth.development_sign_in`")
}

fn no_member(login: &str, organization: &str) -> Error {
    Error::new(
        Code::PermissionDenied,
        "NOT_A_MEMBER",
        format!("{login} is not a member of the organization {organization}"),
    )
    .next_action("sign in to another organization, or ask an owner of this one to add you")
}

#[cfg(test)]
mod tests {
    use foundry_authn::ClientPeer;

    use super::*;
    use crate::testing::{Fixture, HERE, development, page};

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
        let refused = complete_sign_in(&f.auth, HERE, wrong).await.unwrap_err();
        assert_eq!(refused.reason(), "SIGN_IN_SECRET_WRONG");
        let elsewhere = Client { peer: ClientPeer::Remote, ..HERE };
        let remote =
            complete_sign_in(&f.auth, elsewhere, development(&f.secret, "alice", "")).await.unwrap_err();
        assert_eq!(remote.reason(), "SIGN_IN_NOT_LOCAL");
        let off = Fixture::without_development().await;
        let refused = off.sign_in("alice", "").await.unwrap_err();
        assert_eq!(refused.reason(), "SIGN_IN_DISABLED");
        assert!(!off.dir.path().join(crate::development::FILE).exists());
    }

    #[tokio::test]
    async fn a_cookie_takes_the_place_of_the_token_for_the_gateways_own_page_alone() {
        let f = Fixture::new().await;
        let cookie = |delivery| CompleteSignInRequest {
            session_delivery: delivery,
            ..development(&f.secret, "alice", "")
        };
        let (answer, cookie_set) = complete_sign_in(&f.auth, page(), cookie(1)).await.unwrap();
        let set = cookie_set.unwrap();
        assert_eq!(answer.session_token, "");
        assert_eq!(answer.expire_time, Some(set.expires_at.to_proto()));
        assert!(set.token.starts_with("fdc_"), "which is no bearer token");
        assert!(f.caller(&set.token).await.is_ok());
        assert_eq!(complete_sign_in(&f.auth, HERE, cookie(1)).await.unwrap_err().reason(), "PAGE_REFUSED");
        let unknown = complete_sign_in(&f.auth, page(), cookie(9)).await.unwrap_err();
        assert_eq!(unknown.violations()[0].field, "session_delivery");
        let (answer, none) = complete_sign_in(&f.auth, page(), cookie(0)).await.unwrap();
        assert!(answer.session_token.starts_with("fds_") && none.is_none());
    }

    #[tokio::test]
    async fn the_organization_that_is_opened_becomes_the_active_one() {
        let f = Fixture::new().await;
        let active = async |login: &str| users::by_login(&f.auth.store, login).await.unwrap().unwrap().active;
        let (_, home) = f.member("alice", "").await;
        assert_eq!(active("alice").await, Some(home.clone()));
        let (_, acme) = f.member("alice", "acme").await;
        assert_eq!(active("alice").await, Some(acme));
        f.member("alice", "").await;
        assert_eq!(active("alice").await, Some(home));
    }

    #[tokio::test]
    async fn refuses_hostile_names_and_no_proof_at_all() {
        let f = Fixture::new().await;
        for bad in ["", "../x", "a;b", "-rf", "A", "a\u{0}b", "' OR '1'='1"] {
            let refused = f.sign_in(bad, "").await.unwrap_err();
            assert_eq!(refused.violations()[0].field, "development.login", "{bad:?}");
        }
        assert!(f.sign_in("alice", "Bad Name").await.is_err());
        let none = complete_sign_in(&f.auth, HERE, CompleteSignInRequest::default()).await.unwrap_err();
        assert_eq!(none.violations()[0].field, "proof");
    }
}
