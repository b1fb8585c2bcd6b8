//! The tables, one file each: descriptor, reads, and writes.

pub(crate) mod accounts;
pub(crate) mod credentials;
pub(crate) mod identities;
pub(crate) mod memberships;
pub(crate) mod organizations;
pub(crate) mod program_sign_ins;
pub(crate) mod revocations;
pub(crate) mod sessions;
pub(crate) mod shell;
pub(crate) mod sign_ins;
pub(crate) mod users;

use foundry_core::{Error, OrganizationId, Result};
use foundry_service::SecretColumn;
use foundry_store::{Encoded, Migrations, Reference, Row, Value, step};

/// The schema of the auth service.
pub(crate) const MIGRATIONS: Migrations = Migrations {
    owner: "auth",
    steps: &[
        step!("0001_base"),
        // Known limit of a rolling upgrade: rows that an old process writes beside this one (a new user, membership or
        // role) have revision 0 or keep their old one. `WatchAppShell` does not show them until they are written again.
        step!("0002_app_shell"),
        step!("0003_method_names"),
        step!("0004_sign_in"),
        // In a rolling upgrade a return that an old process received opens no session: the user signs in again.
        step!("0005_sign_in_return"),
        // Known limit of a rolling upgrade: a set-up that an old process completes beside this one is not marked. The
        // set-up secret makes its owner again.
        step!("0006_set_up"),
        // In a rolling upgrade a session that an old process opens has no device, and none of its page confirms programs.
        step!("0007_programs"),
    ],
};

/// The columns of encrypted secrets that stay.
pub(crate) static SECRETS: [SecretColumn; 1] = [accounts::SECRETS];

/// Values that `foundry verify` decodes.
pub static ENCODED: [Encoded; 0] = [];

/// Rows that others of this service name.
pub static REFERENCES: [Reference; 5] = [
    Reference {
        table: "users",
        sql: "SELECT DISTINCT user_id AS id, 'an account at a provider is theirs' AS why FROM accounts a \
              WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.user_id = a.user_id)",
    },
    Reference {
        table: "users",
        sql: "SELECT DISTINCT user_id AS id, 'it is a member' AS why FROM memberships m \
              WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.user_id = m.user_id)",
    },
    Reference {
        table: "users",
        sql: "SELECT DISTINCT user_id AS id, 'it can sign in' AS why FROM identities i \
              WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.user_id = i.user_id)",
    },
    Reference {
        table: "users",
        sql: "SELECT DISTINCT user_id AS id, 'it has sessions or tokens' AS why FROM credentials c \
              WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.user_id = c.user_id)",
    },
    Reference {
        table: "organizations",
        sql: "SELECT DISTINCT organization_id AS id, 'it has members' AS why FROM memberships m \
              WHERE NOT EXISTS (SELECT 1 FROM organizations o WHERE o.organization_id = m.organization_id)",
    },
];

/// Parses an id column; a malformed id means a damaged database.
fn id<T: std::str::FromStr<Err = Error>>(row: &Row, column: &str) -> Result<T> {
    row.text(column)?.parse().map_err(|e: Error| Error::internal(format!("column {column}: {e}")))
}

/// Which of a user's organizations a token covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every organization of the user, as with a sign-in session.
    All,
    /// Only this one, as with a personal access token.
    One(OrganizationId),
    /// None: the token's one membership is gone.
    Nothing,
}

impl Reach {
    pub(crate) fn includes(&self, organization: &OrganizationId) -> bool {
        match self {
            Self::All => true,
            Self::One(only) => only == organization,
            Self::Nothing => false,
        }
    }

    /// The organization of [`Reach::One`].
    pub(crate) fn one(&self) -> Option<&OrganizationId> {
        match self {
            Self::One(only) => Some(only),
            Self::All | Self::Nothing => None,
        }
    }

    /// The parameter for `($n = '' OR organization_id = $n)`: empty for all, and a text that is no id for none.
    fn value(&self) -> Value {
        match self {
            Self::All => "".into(),
            Self::One(only) => only.into(),
            Self::Nothing => "nothing".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foundry_authn::Caller;
    use foundry_core::OrganizationId;
    use foundry_proto::auth::v1::{
        CreateOrganizationRequest, CreateOrganizationResponse, GetUserRequest, ListAccessTokensRequest,
        ListMembersRequest, ListOrganizationsRequest, RemoveMemberRequest, RevokeAccessTokenRequest,
    };
    use foundry_proto::common::v1::Role;
    use foundry_service::RequestKey;
    use foundry_store::{IdempotencyKey, Migrations, Store, StoreOptions, WriteSet};

    use crate::testing::Fixture;
    use crate::{jobs, ops};

    #[tokio::test]
    async fn a_request_of_before_the_upgrade_gets_its_first_answer_after_it() {
        let (dir, env) = (tempfile::tempdir().unwrap(), foundry_testkit::test_env().env);
        let url = foundry_testkit::database_url(dir.path(), "auth").await;
        let before =
            Migrations { owner: super::MIGRATIONS.owner, steps: super::MIGRATIONS.steps.split_at(2).0 };
        let (caller, request) = (Caller::service("task"), CreateOrganizationRequest::default());
        let answer = CreateOrganizationResponse {
            organization: Some(foundry_proto::auth::v1::Organization {
                organization_id: OrganizationId::generate(&env).to_string(),
                ..Default::default()
            }),
        };
        let old = Store::connect(&url, &[&before], &env, StoreOptions::default()).await.unwrap();
        let mut ws = WriteSet::new();
        ws.scope(foundry_store::Scope::other("test", "one"));
        let key = IdempotencyKey {
            organization: String::new(),
            caller: caller.actor(),
            method: "foundry.auth.v1.AuthService/CreateOrganization",
            request_id: "r1".into(),
        };
        let hash = foundry_store::BodyHash::of(&prost::Message::encode_to_vec(&request));
        ws.idempotency(key, hash, prost::Message::encode_to_vec(&answer), None);
        old.commit(ws).await.unwrap();
        old.close().await;
        let store = Store::connect(&url, &[&super::MIGRATIONS], &env, StoreOptions::default()).await.unwrap();
        let key = RequestKey::new("", &caller, "CreateOrganization", "r1", &request).unwrap();
        let first = key.first_answer::<CreateOrganizationResponse>(&store).await.unwrap();
        assert_eq!(first.map(|(first, _)| first), Some(answer));
        store.close().await;
    }

    /// Executes every statement of the service once.
    #[tokio::test]
    async fn a_day() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let bob = f.add(&alice, &acme, "bob", Role::Member).await;
        let made = f.access_token(&bob, &acme, Some(Duration::from_secs(3_600))).await;
        let second = f.access_token(&bob, &acme, None).await.access_token.unwrap();
        f.caller(&made.secret).await.unwrap();
        jobs::record_last_use::run(f.auth.clone()).await.unwrap();

        let organization_id = acme.to_string();
        let tokens =
            ops::list_access_tokens::list_access_tokens(&f.auth, &bob, ListAccessTokensRequest::default())
                .await;
        assert_eq!(tokens.unwrap().access_tokens.iter().filter(|t| t.last_use_time.is_some()).count(), 1);
        let mine =
            ops::list_organizations::list_organizations(&f.auth, &alice, ListOrganizationsRequest::default())
                .await;
        assert_eq!(mine.unwrap().organizations.len(), 1);
        let request = ListMembersRequest { organization_id: organization_id.clone(), ..Default::default() };
        assert_eq!(ops::list_members::list_members(&f.auth, &alice, request).await.unwrap().members.len(), 2);
        assert_eq!(
            ops::get_user::get_user(&f.auth, &bob, GetUserRequest {}).await.unwrap().memberships.len(),
            2
        );

        let revoke =
            RevokeAccessTokenRequest { request_id: "r".into(), access_token_id: second.access_token_id };
        let first =
            ops::revoke_access_token::revoke_access_token(&f.auth, &bob, revoke.clone()).await.unwrap();
        assert_eq!(
            ops::revoke_access_token::revoke_access_token(&f.auth, &bob, revoke).await.unwrap(),
            first
        );
        let user_id = bob.actor();
        let remove = RemoveMemberRequest { request_id: String::new(), organization_id, user_id };
        ops::remove_member::remove_member(&f.auth, &alice, remove).await.unwrap();
        f.follow().await;
        assert_eq!(f.auth.revocations.apply(bob).unwrap().role_in(&acme), None);
        assert!(f.caller(&made.secret).await.is_err());

        f.clock.advance(f.auth.config.session_lifetime);
        jobs::expire_credentials::run(f.auth.clone()).await.unwrap();
        f.clock.advance(Duration::from_secs(86_400));
        jobs::retire::run(f.auth.clone()).await.unwrap();
        assert_eq!(super::revocations::all(&f.auth.store).await.unwrap().0, []);
    }

    #[tokio::test]
    async fn has_the_same_tables_on_sqlite_and_on_postgresql() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = format!("sqlite:{}", dir.path().join("x.db").display());
        let postgres = foundry_testkit::PostgresDatabase::create().await.unwrap().url;
        foundry_service::proofs::has_the_same_tables_on_both_databases(
            &[&super::MIGRATIONS],
            &sqlite,
            &postgres,
        )
        .await;
    }
}
