//! Creates a webhook for a repository, or for all of an organization at a host.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, RepositoryId, RepositoryWebhookId, Result};
use foundry_git::RemoteUrl;
use foundry_proto::common::v1::{Condition, Role, SecretText};
use foundry_proto::repo::v1::create_repository_webhook_request::Target;
use foundry_proto::repo::v1::{CreateRepositoryWebhookRequest, CreateRepositoryWebhookResponse};
use foundry_service::{RequestKey, audit};
use foundry_store::{Guard, Scope, WriteSet};

use crate::context::Context;
use crate::domain::repository::State;
use crate::domain::webhook::{Forge, Webhook, host_name};
use crate::store::repositories::REPOSITORIES;
use crate::store::webhooks as rows;
use crate::webhooks;

/// Validates, then writes the row with the encrypted secret.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field, `RESOURCE_EXHAUSTED`, `NOT_FOUND`; `ALREADY_EXISTS` when the target has one; `FAILED_PRECONDITION` for a repository that is
/// being deleted.
pub async fn create_repository_webhook(
    cx: &Context,
    caller: &Caller,
    request: CreateRepositoryWebhookRequest,
) -> Result<CreateRepositoryWebhookResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Admin)?;
    let method = "CreateRepositoryWebhook";
    let key = RequestKey::new(organization.as_str(), caller, method, &request.request_id, &request)?;
    if let Some((answer, rev)) = key.first_answer::<CreateRepositoryWebhookResponse>(&cx.store).await? {
        return Ok(CreateRepositoryWebhookResponse { rev, ..answer });
    }
    let scope = Scope::organization(&organization);
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let (mut ws, answer) = decide(cx, caller, &organization, &request).await?;
            // The remembered answer is stored, so it must not contain the secret.
            let remembered = CreateRepositoryWebhookResponse { secret: None, ..answer.clone() };
            key.remember_create(&mut ws, &remembered);
            Ok((ws, answer))
        })
        .await;
    let (answer, rev) = key.settle(&cx.store, Some(&scope), decided).await?;
    Ok(CreateRepositoryWebhookResponse { rev, ..answer })
}

async fn decide(
    cx: &Context,
    caller: &Caller,
    organization: &OrganizationId,
    request: &CreateRepositoryWebhookRequest,
) -> Result<(WriteSet, CreateRepositoryWebhookResponse)> {
    let forge = Forge::of_request(request.forge)?;
    let (repository_id, host) = target(cx, caller, organization, request).await?;
    let secret = webhooks::new_secret(&cx.env);
    let mut new = Webhook {
        webhook_id: RepositoryWebhookId::generate(&cx.env),
        organization_id: organization.clone(),
        forge,
        repository_id,
        host,
        create_time: cx.env.clock.now(),
        last: None,
        notice: Condition::default(),
        refused: Default::default(),
        sealed: bytes::Bytes::new(),
    };
    if let Some(existing) = rows::of_target(&cx.store, &new).await? {
        let target = if new.host.is_empty() { "this repository" } else { &new.host };
        return Err(Error::already_exists("repository webhook", target)
            .with("repository_webhook_id", existing)
            .next_action(
                "use the webhook that there is; to change its secret, remove it and add another one",
            ));
    }
    new.sealed = webhooks::seal(cx, &new, &secret)?;
    let mut ws = WriteSet::new();
    ws.scope(Scope::organization(organization));
    if let Some(id) = &new.repository_id {
        // It would stay when the repository is deleted at the same moment.
        let id = ("repository_id", id.as_str().into());
        let deleting = ("state", State::Deleting.as_str().into());
        ws.guard(Guard::exists(&REPOSITORIES, std::slice::from_ref(&id)));
        ws.guard(Guard::absent(&REPOSITORIES, &[id, deleting]));
    }
    rows::insert(&mut ws, &new);
    let id = new.webhook_id.as_str();
    ws.audit(audit(organization, caller, "", "repository_webhook.create", id, &request.request_id));
    let secret = secret.expose_str().map(|value| SecretText { value: value.to_owned() });
    Ok((ws, CreateRepositoryWebhookResponse { repository_webhook: Some(new.to_proto()), secret, rev: 0 }))
}

/// The repository if it is for one, and the host.
async fn target(
    cx: &Context,
    caller: &Caller,
    organization: &OrganizationId,
    request: &CreateRepositoryWebhookRequest,
) -> Result<(Option<RepositoryId>, String)> {
    match &request.target {
        None => Err(Error::invalid_field("target", "must be a repository or a host")),
        Some(Target::RepositoryId(id)) => {
            let repository = cx.repository(caller, id, Role::Admin).await?;
            if repository.organization_id != *organization {
                return Err(Error::not_found("repository", id));
            }
            if repository.state == State::Deleting {
                let text = "the repository is being deleted";
                return Err(Error::precondition("REPOSITORY_DELETING", id, text));
            }
            let host = host_name(&repository.url);
            Ok((Some(repository.repository_id), host))
        }
        Some(Target::Host(host)) => {
            let is_name = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
            let url = is_name.then(|| RemoteUrl::parse(&format!("https://{host}/x"), &cx.urls)).transpose();
            match url {
                Ok(Some(_)) => Ok((None, host_name(&format!("https://{host}/x")))),
                _ => Err(Error::invalid_field("host", "must be a host, such as github.com")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use foundry_core::Code;
    use foundry_proto::repo::v1::{
        CreateRepositoryRequest, DeleteRepositoryRequest, DeleteRepositoryWebhookRequest,
        ListRepositoryWebhooksRequest, RepositoryWebhook, RepositoryWebhookForge,
    };

    use super::*;
    use crate::ops::create_repository::create_repository;
    use crate::ops::delete_repository::delete_repository;
    use crate::ops::delete_repository_webhook::delete_repository_webhook;
    use crate::ops::list_repository_webhooks::list_repository_webhooks;
    use crate::testing::Fixture;

    fn request(f: &Fixture, target: Target) -> CreateRepositoryWebhookRequest {
        CreateRepositoryWebhookRequest {
            organization_id: f.organization.to_string(),
            target: Some(target),
            forge: RepositoryWebhookForge::Github.into(),
            ..Default::default()
        }
    }

    fn for_host(f: &Fixture, host: &str) -> CreateRepositoryWebhookRequest {
        request(f, Target::Host(host.to_owned()))
    }

    async fn listed(f: &Fixture) -> Vec<RepositoryWebhook> {
        let request = ListRepositoryWebhooksRequest {
            organization_id: f.organization.to_string(),
            ..Default::default()
        };
        list_repository_webhooks(&f.cx, &f.member, request).await.unwrap().repository_webhooks
    }

    #[tokio::test]
    async fn the_secret_is_returned_once_and_stored_in_no_column() {
        let f = Fixture::new().await;
        let request =
            CreateRepositoryWebhookRequest { request_id: "r".to_owned(), ..for_host(&f, "GitHub.com:443") };
        let first = create_repository_webhook(&f.cx, &f.member, request.clone()).await.unwrap();
        let secret = first.secret.clone().unwrap().value;
        let webhook = first.repository_webhook.clone().unwrap();
        assert_eq!((secret.len(), webhook.host.as_str()), (64, "github.com"));
        assert_eq!(webhook.path, format!("/webhooks/github/{}", webhook.repository_webhook_id));
        let again = create_repository_webhook(&f.cx, &f.member, request).await.unwrap();
        assert_eq!(
            (again.repository_webhook, again.secret, again.rev),
            (Some(webhook.clone()), None, first.rev)
        );
        assert_eq!(listed(&f).await, [webhook]);
        for sql in [
            "SELECT * FROM repository_webhooks",
            "SELECT * FROM store_idempotency",
            "SELECT * FROM store_audit",
        ] {
            let rows = f.cx.store.query(sql, &[]).await.unwrap();
            assert!(!rows.is_empty() && !format!("{rows:?}").contains(&secret), "{sql}");
        }
    }

    #[tokio::test]
    async fn members_and_strangers_are_refused_and_bad_input_has_no_effect() {
        let f = Fixture::new().await;
        let repository = f.mirrored().await.repository_id;
        let member = f.other_member(Role::Member);
        let refused = create_repository_webhook(&f.cx, &member, for_host(&f, "github.com")).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
        let refused = create_repository_webhook(&f.cx, &f.stranger, for_host(&f, "github.com")).await;
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
        // Their own organization, our repository.
        let theirs = CreateRepositoryWebhookRequest {
            organization_id: f.stranger.memberships()[0].organization_id.to_string(),
            ..request(&f, Target::RepositoryId(repository))
        };
        let refused = create_repository_webhook(&f.cx, &f.stranger, theirs).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        let none = CreateRepositoryWebhookRequest { target: None, ..for_host(&f, "x.org") };
        let no_forge = CreateRepositoryWebhookRequest { forge: 0, ..for_host(&f, "x.org") };
        let hosts =
            ["", "a/b", "https://x.org", "me@x.org", "x.org?y", "-x y"].map(|host| for_host(&f, host));
        for request in hosts.into_iter().chain([none, no_forge]) {
            let refused = create_repository_webhook(&f.cx, &f.member, request.clone()).await;
            assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument, "{:?}", request.target);
        }
        assert!(listed(&f).await.is_empty());
    }

    #[tokio::test]
    async fn a_target_has_one_webhook_and_may_have_another_after_that_is_gone() {
        let f = Fixture::new().await;
        let repository = Target::RepositoryId(f.mirrored().await.repository_id);
        let all = [for_host(&f, "x.org"), for_host(&f, "y.org"), request(&f, repository)];
        for one in &all {
            create_repository_webhook(&f.cx, &f.member, one.clone()).await.unwrap();
        }
        for (again, existing) in all.iter().zip(listed(&f).await) {
            let gitlab = CreateRepositoryWebhookRequest {
                forge: RepositoryWebhookForge::Gitlab.into(),
                ..again.clone()
            };
            for second in [again.clone(), gitlab] {
                let refused = create_repository_webhook(&f.cx, &f.member, second).await.unwrap_err();
                let status = refused.into_status();
                let details = tonic_types::StatusExt::get_error_details(&status);
                let info = details.error_info().unwrap();
                assert_eq!(info.reason, "ALREADY_EXISTS");
                assert_eq!(info.metadata["repository_webhook_id"], existing.repository_webhook_id);
            }
        }
        // Many at the same moment make one.
        let many = (0..8).map(|_| create_repository_webhook(&f.cx, &f.member, for_host(&f, "z.org")));
        let made = futures::future::join_all(many).await;
        assert_eq!(made.iter().filter(|answer| answer.is_ok()).count(), 1);
        let theirs = CreateRepositoryWebhookRequest {
            organization_id: f.stranger.memberships()[0].organization_id.to_string(),
            ..for_host(&f, "x.org")
        };
        create_repository_webhook(&f.cx, &f.stranger, theirs).await.unwrap();
        let gone = DeleteRepositoryWebhookRequest {
            repository_webhook_id: listed(&f).await[0].repository_webhook_id.clone(),
            ..Default::default()
        };
        delete_repository_webhook(&f.cx, &f.member, gone).await.unwrap();
        create_repository_webhook(&f.cx, &f.member, for_host(&f, "X.ORG")).await.unwrap();
    }

    #[tokio::test]
    async fn it_goes_with_its_repository_and_a_repeated_deletion_gets_its_first_answer() {
        let f = Fixture::new().await;
        let registered = CreateRepositoryRequest { request_id: String::new(), ..f.create() };
        let registered = create_repository(&f.cx, &f.member, registered).await.unwrap().repository.unwrap();
        let id = registered.repository_id;
        create_repository_webhook(&f.cx, &f.member, request(&f, Target::RepositoryId(id.clone())))
            .await
            .unwrap();
        let host = create_repository_webhook(&f.cx, &f.member, for_host(&f, "x.org")).await.unwrap();
        assert_eq!(listed(&f).await.len(), 2);
        let gone = DeleteRepositoryRequest { repository_id: id.clone(), force: true, ..Default::default() };
        delete_repository(&f.cx, &f.member, gone).await.unwrap();
        let late = create_repository_webhook(&f.cx, &f.member, request(&f, Target::RepositoryId(id))).await;
        assert_eq!(late.unwrap_err().reason(), "REPOSITORY_DELETING");
        f.engine.run_until_idle().await.unwrap();
        assert_eq!(listed(&f).await.len(), 1);
        let request = DeleteRepositoryWebhookRequest {
            request_id: "d".to_owned(),
            repository_webhook_id: host.repository_webhook.unwrap().repository_webhook_id,
        };
        let member = f.other_member(Role::Member);
        let refused = delete_repository_webhook(&f.cx, &member, request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        let refused = delete_repository_webhook(&f.cx, &f.stranger, request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        let first = delete_repository_webhook(&f.cx, &f.member, request.clone()).await.unwrap();
        assert_eq!(delete_repository_webhook(&f.cx, &f.member, request).await.unwrap(), first);
        assert!(listed(&f).await.is_empty());
    }
}
