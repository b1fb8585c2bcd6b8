//! Stores a credential for a repository or for all of an organization at a host.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, RepositoryCredentialId, RepositoryId, Result};
use foundry_forge::ForgeKind;
use foundry_git::RemoteUrl;
use foundry_proto::common::v1::{Condition, Role};
use foundry_proto::repo::v1::create_repository_credential_request::Target;
use foundry_proto::repo::v1::{CreateRepositoryCredentialRequest, CreateRepositoryCredentialResponse};
use foundry_server::RequestContext;
use foundry_service::{RequestKey, audit};
use foundry_store::{Guard, Scope, WriteSet};

use crate::broker;
use crate::context::Context;
use crate::domain::credential::{self, Credential, Kind, State};
use crate::domain::repository::State as RepositoryState;
use crate::flow::check;
use crate::store::credentials;
use crate::store::repositories::REPOSITORIES;

/// Validates, then writes the row with the encrypted secret, and what brings it into use.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field, `ALREADY_EXISTS` without `replace`, `RESOURCE_EXHAUSTED`, `NOT_FOUND`.
pub async fn create_repository_credential(
    cx: &Context,
    caller: &Caller,
    request: CreateRepositoryCredentialRequest,
) -> Result<CreateRepositoryCredentialResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Admin)?;
    let method = "CreateRepositoryCredential";
    // What is kept of the request for ever must not be a way to guess the secret.
    let kept = CreateRepositoryCredentialRequest { secret: None, ..request.clone() };
    let key = RequestKey::new(organization.as_str(), caller, method, &request.request_id, &kept)?;
    if let Some((answer, rev)) = key.first_answer::<CreateRepositoryCredentialResponse>(&cx.store).await? {
        return Ok(revised(answer, rev));
    }
    let scope = Scope::organization(&organization);
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let (mut ws, answer) = decide(cx, caller, &organization, &request).await?;
            key.remember_create(&mut ws, &answer);
            Ok((ws, answer))
        })
        .await;
    let (answer, rev) = key.settle(&cx.store, Some(&scope), decided).await?;
    Ok(revised(answer, rev))
}

async fn decide(
    cx: &Context,
    caller: &Caller,
    organization: &OrganizationId,
    request: &CreateRepositoryCredentialRequest,
) -> Result<(WriteSet, CreateRepositoryCredentialResponse)> {
    let kind = Kind::of_request(request.kind)?;
    let (repository_id, origin) = target(cx, caller, organization, kind, request).await?;
    if kind == Kind::GitHubApp {
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        let place = cx.forge_hosts.place(host, "any/any");
        if place.is_none_or(|place| place.kind != ForgeKind::GitHub) {
            let why = format!(
                "is for GitHub, and {host} is not known as such: have the operator name it in `repo.forges`"
            );
            return Err(Error::invalid_field("github_app", why));
        }
    }
    let secret = request.secret.as_ref().map_or("", |secret| secret.value.as_str());
    let app = credential::accept_app(kind, request.github_app.as_ref())?;
    let accepted = credential::accept(kind, &request.username, secret)?;
    if kind != Kind::SshKey && !request.host_keys.trim().is_empty() {
        return Err(Error::invalid_field("host_keys", "are for deploy keys only"));
    }
    let now = cx.env.clock.now();
    let mut new = Credential {
        credential_id: RepositoryCredentialId::generate(&cx.env),
        organization_id: organization.clone(),
        rev: 0,
        repository_id,
        origin,
        kind,
        username: accepted.username,
        hint: accepted.hint,
        public_key: accepted.public_key,
        app,
        host_keys: credential::given_host_keys(&request.host_keys, now)?,
        state: State::Testing,
        condition: Condition { since_time: Some(now.to_proto()), ..Condition::default() },
        test_time: None,
        create_time: now,
        sealed: bytes::Bytes::new(),
    };
    new.sealed = broker::seal(cx, &new, &accepted.secret)?;
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(organization));
    if let Some(old) = credentials::find_for(&cx.store, organization, new.target()).await? {
        if !request.replace {
            return Err(Error::already_exists("repository credential", new.target())
                .next_action("replace it, or remove it first"));
        }
        // The host is the same one: a new key for it is no reason to trust another host.
        if new.host_keys.is_empty() && old.kind == new.kind && old.origin == new.origin {
            new.host_keys = old.host_keys.clone();
        }
        credentials::delete(&mut ws, &old);
    }
    if let Some(id) = &new.repository_id {
        // It would stay when the repository is deleted at the same moment.
        let id = ("repository_id", id.as_str().into());
        let deleting = ("state", RepositoryState::Deleting.as_str().into());
        ws.guard(Guard::exists(&REPOSITORIES, std::slice::from_ref(&id)));
        ws.guard(Guard::absent(&REPOSITORIES, &[id, deleting]));
    }
    credentials::insert(&mut ws, rev, &new)?;
    let id = new.credential_id.as_str();
    check::enqueue(cx, &mut ws, &new, (&caller.actor(), &RequestContext::current_traceparent()));
    ws.audit(audit(organization, caller, "", "repository_credential.create", id, &request.request_id));
    Ok((ws, CreateRepositoryCredentialResponse { repository_credential: Some(new.to_proto()), rev: 0 }))
}

/// The repository if it is for one, and the origin that it is sent to.
async fn target(
    cx: &Context,
    caller: &Caller,
    organization: &OrganizationId,
    kind: Kind,
    request: &CreateRepositoryCredentialRequest,
) -> Result<(Option<RepositoryId>, String)> {
    match &request.target {
        None => Err(Error::invalid_field("target", "must be a repository or a host")),
        Some(Target::RepositoryId(id)) => {
            let repository = cx.repository(caller, id, Role::Admin).await?;
            if repository.organization_id != *organization {
                return Err(Error::not_found("repository", id));
            }
            if repository.state == RepositoryState::Deleting {
                return Err(Error::precondition(
                    "REPOSITORY_DELETING",
                    id,
                    "the repository is being deleted",
                ));
            }
            let url = RemoteUrl::parse(&repository.url, &cx.urls)?;
            let origin = url.origin().ok_or_else(|| {
                Error::invalid_field("repository_id", "is at a local path, which needs no credential")
            })?;
            kind.check_origin("repository_id", &origin)?;
            Ok((Some(repository.repository_id), origin))
        }
        Some(Target::Host(host)) => {
            let scheme = if kind == Kind::SshKey { "ssh://git@" } else { "https://" };
            let text = match host.split_once("://") {
                None => format!("{scheme}{host}/x"),
                Some(("ssh", host)) if !host.contains('@') => format!("ssh://git@{host}/x"),
                Some(_) => format!("{host}/x"),
            };
            if host.contains(['/', '@']) && !host.contains("://") {
                return Err(Error::invalid_field("host", "must be a host with an optional port"));
            }
            let url = RemoteUrl::parse(&text, &cx.urls)
                .map_err(|e| Error::invalid_field("host", e.to_string()).with("url_reason", e.reason()))?;
            let origin = url.origin().ok_or_else(|| Error::invalid_field("host", "must be a host"))?;
            kind.check_origin("host", &origin)?;
            Ok((None, origin))
        }
    }
}

fn revised(mut answer: CreateRepositoryCredentialResponse, rev: i64) -> CreateRepositoryCredentialResponse {
    answer.rev = rev;
    if let Some(credential) = &mut answer.repository_credential {
        credential.rev = rev;
    }
    answer
}

#[cfg(test)]
mod tests {
    use foundry_core::Code;
    use foundry_proto::common::v1::SecretText;
    use foundry_proto::repo::v1::{
        CreateRepositoryRequest, DeleteRepositoryCredentialRequest, DeleteRepositoryRequest,
        RepositoryCredentialKind,
    };
    use foundry_secrets::{KeySource, Keys};
    use foundry_store::DialectSql;

    use foundry_service::Reencrypted;

    use super::*;
    use crate::ops::create_repository::create_repository;
    use crate::ops::delete_repository::delete_repository;
    use crate::ops::delete_repository_credential::delete_repository_credential;
    use crate::testing::Fixture;

    const TOKEN: &str = "canary-token-0123456789-wxyz";

    fn request(f: &Fixture, target: Target) -> CreateRepositoryCredentialRequest {
        CreateRepositoryCredentialRequest {
            organization_id: f.organization.to_string(),
            target: Some(target),
            kind: RepositoryCredentialKind::Token.into(),
            secret: Some(SecretText { value: TOKEN.to_owned() }),
            ..Default::default()
        }
    }

    fn for_host(f: &Fixture, host: &str) -> CreateRepositoryCredentialRequest {
        request(f, Target::Host(host.to_owned()))
    }

    async fn count(f: &Fixture) -> usize {
        f.cx.store.query("SELECT * FROM repository_credentials", &[]).await.unwrap().len()
    }

    /// A repository at a host that does not answer.
    async fn registered(f: &Fixture) -> String {
        let url = "http://127.0.0.1:1/x".to_owned();
        let request = CreateRepositoryRequest { request_id: String::new(), url, ..f.create() };
        let created = create_repository(&f.cx, &f.member, request).await.unwrap();
        created.repository.unwrap().repository_id
    }

    #[tokio::test]
    async fn the_secret_is_in_no_answer_and_in_no_column() {
        let f = Fixture::new().await;
        let request =
            CreateRepositoryCredentialRequest { request_id: "r".to_owned(), ..for_host(&f, "github.com") };
        let first = create_repository_credential(&f.cx, &f.member, request.clone()).await.unwrap();
        assert_eq!(create_repository_credential(&f.cx, &f.member, request.clone()).await.unwrap(), first);
        // The secret takes no part in what is remembered of the request.
        let other = SecretText { value: "canary-other-0123456789".to_owned() };
        let other = CreateRepositoryCredentialRequest { secret: Some(other), ..request.clone() };
        assert_eq!(create_repository_credential(&f.cx, &f.member, other).await.unwrap(), first);
        assert_eq!(count(&f).await, 1);
        let shown = first.repository_credential.clone().unwrap();
        assert_eq!((shown.origin.as_str(), shown.hint.as_str()), ("https://github.com", "wxyz"));
        assert!(shown.rev > 0 && !format!("{first:?}").contains("canary"));
        for sql in [
            "SELECT * FROM repository_credentials",
            "SELECT * FROM store_idempotency",
            "SELECT * FROM store_audit",
            "SELECT * FROM flows",
        ] {
            let rows = f.cx.store.query(sql, &[]).await.unwrap();
            assert!(!rows.is_empty() && !format!("{rows:?}").contains("canary"), "{sql}");
        }
        let other = CreateRepositoryCredentialRequest { username: "me".to_owned(), ..request };
        let reused = create_repository_credential(&f.cx, &f.member, other).await.unwrap_err();
        assert_eq!(reused.reason(), "REQUEST_ID_REUSED");
    }

    #[tokio::test]
    async fn one_is_stored_for_each_target_and_another_takes_its_place_on_request_only() {
        let f = Fixture::new().await;
        let store = async |replace| {
            let request =
                CreateRepositoryCredentialRequest { replace, ..for_host(&f, "https://GitHub.com:443") };
            create_repository_credential(&f.cx, &f.member, request).await
        };
        let first = store(false).await.unwrap().repository_credential.unwrap();
        assert_eq!(store(false).await.unwrap_err().reason(), "ALREADY_EXISTS");
        let second = store(true).await.unwrap().repository_credential.unwrap();
        assert_ne!(first.repository_credential_id, second.repository_credential_id);
        assert_eq!(count(&f).await, 1);
        let (one, other) = tokio::join!(store(true), store(true));
        assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
        assert_eq!(count(&f).await, 1);
    }

    #[tokio::test]
    async fn members_and_strangers_are_refused_and_bad_input_has_no_effect() {
        let f = Fixture::new().await;
        let repository = registered(&f).await;
        let member = f.other_member(Role::Member);
        let refused = create_repository_credential(&f.cx, &member, for_host(&f, "github.com")).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
        let refused = create_repository_credential(&f.cx, &f.stranger, for_host(&f, "github.com")).await;
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
        // Their own organization, our repository.
        let theirs = CreateRepositoryCredentialRequest {
            organization_id: f.stranger.memberships()[0].organization_id.to_string(),
            ..request(&f, Target::RepositoryId(repository.clone()))
        };
        let refused = create_repository_credential(&f.cx, &f.stranger, theirs).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        let none = CreateRepositoryCredentialRequest { target: None, ..for_host(&f, "x") };
        let no_kind = CreateRepositoryCredentialRequest { kind: 0, ..for_host(&f, "x.org") };
        let no_secret = CreateRepositoryCredentialRequest { secret: None, ..for_host(&f, "x.org") };
        let key_for_http = CreateRepositoryCredentialRequest {
            kind: RepositoryCredentialKind::SshKey.into(),
            ..request(&f, Target::RepositoryId(repository))
        };
        let hosts = [
            "",
            "-oProxyCommand=id",
            "a/b",
            "me@x.org",
            "https://me:pw@x.org",
            "ssh://x.org",
            "ftp://x",
            "/srv",
        ];
        let bad = hosts.map(|host| for_host(&f, host)).into_iter();
        for request in bad.chain([none, no_kind, no_secret, key_for_http]) {
            let refused = create_repository_credential(&f.cx, &f.member, request.clone()).await;
            assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument, "{:?}", request.target);
        }
        assert_eq!(count(&f).await, 0);
    }

    #[tokio::test]
    async fn it_goes_with_its_repository_and_a_repeated_deletion_gets_its_first_answer() {
        let f = Fixture::new().await;
        let repository_id = registered(&f).await;
        let target = Target::RepositoryId(repository_id.clone());
        create_repository_credential(&f.cx, &f.member, request(&f, target)).await.unwrap();
        let host = create_repository_credential(&f.cx, &f.member, for_host(&f, "x.org")).await.unwrap();
        let request = DeleteRepositoryRequest { repository_id, force: true, ..Default::default() };
        delete_repository(&f.cx, &f.member, request).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        assert_eq!(count(&f).await, 1);
        let request = DeleteRepositoryCredentialRequest {
            request_id: "d".to_owned(),
            repository_credential_id: host.repository_credential.unwrap().repository_credential_id,
        };
        let member = f.other_member(Role::Member);
        let refused = delete_repository_credential(&f.cx, &member, request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        let refused = delete_repository_credential(&f.cx, &f.stranger, request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        let first = delete_repository_credential(&f.cx, &f.member, request.clone()).await.unwrap();
        assert_eq!(delete_repository_credential(&f.cx, &f.member, request).await.unwrap(), first);
        assert_eq!(count(&f).await, 0);
    }

    #[tokio::test]
    async fn a_secret_is_of_no_use_in_a_row_for_another_host() {
        let f = Fixture::new().await;
        let id = registered(&f).await;
        create_repository_credential(&f.cx, &f.member, for_host(&f, "https://x.org")).await.unwrap();
        const SQL: &str =
            "UPDATE repository_credentials SET origin = 'http://127.0.0.1:1', target = 'http://127.0.0.1:1'";
        f.cx.store.write(DialectSql { sqlite: SQL, postgres: SQL }, &[]).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let repository = f.cx.repository(&f.member, &id, Role::Viewer).await.unwrap();
        assert_eq!(repository.condition.reason, "SECRET_UNREADABLE");
    }

    async fn reencrypted(cx: &Context) -> foundry_core::Result<Reencrypted> {
        foundry_service::reencrypt(&cx.store, &cx.broker.keys, &crate::store::SECRETS).await
    }

    #[tokio::test]
    async fn after_a_new_key_the_older_one_is_not_needed_any_more() {
        let f = Fixture::new().await;
        create_repository_credential(&f.cx, &f.member, for_host(&f, "x.org")).await.unwrap();
        let (old, new) = (f.path().join("data/secrets.key"), f.path().join("new.key"));
        foundry_secrets::replace_secret_file(&new, &"ab".repeat(32)).unwrap();
        let load = async |f: &Fixture, paths: &[&std::path::Path]| {
            let sources: Vec<_> = paths.iter().map(|p| KeySource::File((*p).to_owned())).collect();
            Keys::load(&sources, &old, &f.env.env).await.unwrap()
        };
        let mut later = f.beside().await;
        std::sync::Arc::get_mut(&mut later).unwrap().broker.keys = load(&f, &[&new, &old]).await;
        assert_eq!(reencrypted(&later).await.unwrap(), Reencrypted { rows: 1, unreadable: 0 });
        assert_eq!(reencrypted(&later).await.unwrap(), Reencrypted::default());
        // The process that has the old key alone.
        assert_eq!(reencrypted(&f.cx).await.unwrap(), Reencrypted { rows: 0, unreadable: 1 });
        std::sync::Arc::get_mut(&mut later).unwrap().broker.keys = load(&f, &[&new]).await;
        let stored =
            credentials::find_for(&later.store, &f.organization, "https://x.org").await.unwrap().unwrap();
        let url = RemoteUrl::parse("https://x.org/a", &later.urls).unwrap();
        assert!(broker::with(&later, url, stored).await.is_ok());
    }
}
