//! Registers a repository; the mirror follows in the background.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, OrganizationId, RepositoryId, Result, Timestamp};
use foundry_flow::NewFlow;
use foundry_git::RemoteUrl;
use foundry_proto::common::v1::{Condition, Role};
use foundry_proto::repo::v1::{CreateRepositoryRequest, CreateRepositoryResponse};
use foundry_server::RequestContext;
use foundry_service::{RequestKey, audit};
use foundry_store::{CommitError, Scope, WriteSet};

use crate::context::Context;
use crate::domain::name::RepositoryName;
use crate::domain::pull_request::PullFacts;
use crate::domain::repository::{OverviewFacts, Repository, State};
use crate::domain::sync::SyncFacts;
use crate::flow::sync;
use crate::store::repositories;

/// Validates, then writes the row and its first synchronization.
///
/// # Errors
/// `INVALID_ARGUMENT` for a URL that is malformed or not allowed, `ALREADY_EXISTS` for a name that is taken.
pub async fn create_repository(
    cx: &Context,
    caller: &Caller,
    request: CreateRepositoryRequest,
) -> Result<CreateRepositoryResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Member)?;
    let key =
        RequestKey::new(organization.as_str(), caller, "CreateRepository", &request.request_id, &request)?;
    if let Some((answer, rev)) = key.first_answer::<CreateRepositoryResponse>(&cx.store).await? {
        return Ok(CreateRepositoryResponse { rev, ..answer });
    }
    let url = RemoteUrl::parse(&request.url, &cx.urls).map_err(|e| {
        // The field is named before it.
        let text = e.to_string();
        let text = text.strip_prefix("the repository URL ").unwrap_or(&text);
        Error::invalid_field("url", text).with("url_reason", e.reason())
    })?;
    let name = RepositoryName::choose(&request.name, &url.short_name())?;
    let now = cx.env.clock.now();
    let repository = Repository {
        repository_id: RepositoryId::generate(&cx.env),
        organization_id: organization.clone(),
        rev: 0,
        name: name.as_str().to_owned(),
        url: request.url.clone(),
        state: State::Pending,
        condition: Condition {
            waiting_on: "mirroring".to_owned(),
            since_time: Some(now.to_proto()),
            ..Condition::default()
        },
        default_branch: String::new(),
        branch_count: 0,
        sync_time: None,
        branches_time: Timestamp::default(),
        create_time: now,
        refresh_wanted: false,
        listed_time: Timestamp::default(),
        listing: String::new(),
        empty_commit: String::new(),
        sync: SyncFacts::default(),
        overview: OverviewFacts::default(),
        pulls: PullFacts::default(),
    };
    let id = repository.repository_id.as_str();
    let mut ws = WriteSet::new();
    let scope = Scope::organization(&organization);
    let rev = ws.scope(scope.clone());
    repositories::insert(&mut ws, rev, &repository, &name);
    let flow = NewFlow::new(&sync::SYNC, FlowId::generate(&cx.env), id, id)
        .organization(&organization)
        .on_behalf_of(caller.actor())
        .traced(RequestContext::current_traceparent());
    foundry_flow::enqueue(&mut ws, flow);
    ws.audit(audit(&organization, caller, "", "repository.create", id, &request.request_id));
    let answer = CreateRepositoryResponse { repository: Some(repository.to_proto()), rev: 0 };
    key.remember_create(&mut ws, &answer);
    let committed = match cx.store.commit(ws).await {
        Err(CommitError::Conflict { .. }) => Err(CommitError::Refused(
            Error::already_exists("repository", name.as_str())
                .next_action("choose another name, or use the existing repository"),
        )),
        other => other.map(|committed| (committed, answer)),
    };
    let (answer, rev) = key.settle(&cx.store, Some(&scope), committed).await?;
    Ok(CreateRepositoryResponse { rev, ..answer })
}

#[cfg(test)]
mod tests {
    use foundry_proto::repo::v1::RepositoryState;

    use super::*;
    use crate::testing::{Fixture, git};

    #[tokio::test]
    async fn answers_before_anything_is_mirrored_and_is_ready_afterwards() {
        let f = Fixture::new().await;
        let created = create_repository(&f.cx, &f.member, f.create()).await.unwrap();
        let repository = created.repository.unwrap();
        assert_eq!((repository.state(), repository.name.as_str()), (RepositoryState::Pending, "origin"));
        assert!(created.rev > 0);
        f.engine.run_until_idle().await.unwrap();
        let id = repository.repository_id;
        let ready = f.cx.repository(&f.member, &id, Role::Viewer).await.unwrap();
        assert_eq!(
            (ready.state, ready.default_branch.as_str(), ready.branch_count),
            (State::Ready, "main", 1)
        );
        assert!(ready.rev > created.rev);
    }

    #[tokio::test]
    async fn a_repeated_request_gets_its_first_answer_and_another_body_is_refused() {
        let f = Fixture::new().await;
        let first = create_repository(&f.cx, &f.member, f.create()).await.unwrap();
        assert_eq!(create_repository(&f.cx, &f.member, f.create()).await.unwrap(), first);
        let other = CreateRepositoryRequest { name: "other".to_owned(), ..f.create() };
        let refused = create_repository(&f.cx, &f.member, other).await.unwrap_err();
        assert_eq!(refused.reason(), "REQUEST_ID_REUSED");
    }

    #[tokio::test]
    async fn a_taken_name_and_a_foreign_organization_are_refused_without_effect() {
        let f = Fixture::new().await;
        create_repository(&f.cx, &f.member, f.create()).await.unwrap();
        let again =
            CreateRepositoryRequest { request_id: String::new(), name: "ORIGIN".to_owned(), ..f.create() };
        assert_eq!(create_repository(&f.cx, &f.member, again).await.unwrap_err().reason(), "ALREADY_EXISTS");
        let foreign = create_repository(&f.cx, &f.stranger, f.create()).await.unwrap_err();
        assert_eq!(foreign.code(), foundry_core::Code::NotFound);
        let rows = f.cx.store.query("SELECT name FROM repositories", &[]).await.unwrap();
        assert_eq!(rows.len(), 1);
    }

    #[tokio::test]
    async fn hostile_urls_are_refused_with_a_typed_reason() {
        let f = Fixture::new().await;
        let inside = f.cx.mirrors.display().to_string();
        for url in [
            "ext::sh -c id",
            "--upload-pack=id",
            "../x",
            "https://u:p@example.org/x",
            "ssh://h/x",
            inside.as_str(),
        ] {
            let request =
                CreateRepositoryRequest { request_id: String::new(), url: url.to_owned(), ..f.create() };
            let refused = create_repository(&f.cx, &f.member, request).await.unwrap_err();
            assert_eq!(refused.code(), foundry_core::Code::InvalidArgument, "{url}");
        }
    }

    #[tokio::test]
    async fn where_hosts_are_named_no_other_is_registered_and_one_that_was_is_not_asked_any_more() {
        let mut f = Fixture::new().await;
        let host = foundry_testkit::GitHttp::start(f.path());
        let registered = CreateRepositoryRequest { url: host.url("origin/.git"), ..f.create() };
        let created = create_repository(&f.cx, &f.member, registered).await.unwrap().repository.unwrap();
        f.engine.run_until_idle().await.unwrap();
        assert!(!host.requests().is_empty());
        f.restarted(|cx| cx.urls.allowed_hosts = vec!["git.example.org".parse().unwrap()]).await;
        for (url, is_allowed) in [
            ("https://github.com/a/b", false),
            ("git@github.com:a/b", false),
            ("https://git.example.org:8443/a", false),
            ("https://git.example.org/a", true),
        ] {
            let request =
                CreateRepositoryRequest { request_id: String::new(), url: url.to_owned(), ..f.create() };
            let answer = create_repository(&f.cx, &f.member, request).await;
            assert_eq!(answer.is_ok(), is_allowed, "{url}");
            if let Err(refused) = answer {
                assert!(refused.message().contains("not one of those that are allowed"), "{url}: {refused}");
            }
        }
        let asked = host.requests().len();
        let refresh = foundry_proto::repo::v1::RequestRepositoryRefreshRequest {
            repository_id: created.repository_id.clone(),
            ..Default::default()
        };
        crate::ops::request_repository_refresh::request_repository_refresh(&f.cx, &f.member, refresh)
            .await
            .unwrap();
        f.engine.run_until_idle().await.unwrap();
        let failed = f.cx.repository(&f.member, &created.repository_id, Role::Viewer).await.unwrap();
        assert_eq!((failed.state, failed.condition.reason.as_str()), (State::Error, "URL_HOST_NOT_ALLOWED"));
        assert!(failed.condition.next_action.contains("repo.allowed_hosts"), "{:?}", failed.condition);
        assert_eq!(host.requests().len(), asked, "the host was asked");
    }

    #[tokio::test]
    async fn a_check_that_is_allowed_for_one_repository_is_still_made_for_another() {
        let mut f = Fixture::new().await;
        let commit = git(&f.origin, &["cat-file", "commit", "HEAD"])
            .replace(" <t@example.invalid>", " t@example.invalid");
        std::fs::write(f.path().join("old-commit"), commit).unwrap();
        let made = ["hash-object", "--literally", "-t", "commit", "-w", "../old-commit"];
        let old = git(&f.origin, &made);
        git(&f.origin, &["update-ref", "refs/heads/old", &old]);
        let other = f.path().join("other");
        git(f.path(), &["clone", "-q", "--mirror", f.origin.to_str().unwrap(), other.to_str().unwrap()]);
        let entry = format!("{} missingEmail", f.origin.display());
        f.restarted(|cx| {
            cx.allow_findings =
                vec![crate::domain::finding::AllowedFinding::parse(&entry, &cx.urls).unwrap()];
        })
        .await;
        let mut states = Vec::new();
        for url in [f.origin.clone(), other] {
            let (url, request_id) = (url.display().to_string(), String::new());
            let request = CreateRepositoryRequest { request_id, url, ..f.create() };
            let created = create_repository(&f.cx, &f.member, request).await.unwrap().repository.unwrap();
            f.engine.run_until_idle().await.unwrap();
            let found = f.cx.repository(&f.member, &created.repository_id, Role::Viewer).await.unwrap();
            states.push((found.state, found.condition.reason));
        }
        let refused = (State::Error, "GIT_OBJECTS_REFUSED".to_owned());
        assert_eq!(states, [(State::Ready, String::new()), refused]);
    }

    #[tokio::test]
    async fn a_missing_origin_ends_in_an_error_that_a_refresh_mends() {
        let f = Fixture::new().await;
        let away = f.path().join("away");
        std::fs::rename(&f.origin, &away).unwrap();
        let created = create_repository(&f.cx, &f.member, f.create()).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let id = created.repository.unwrap().repository_id;
        let failed = f.cx.repository(&f.member, &id, Role::Viewer).await.unwrap();
        assert_eq!(failed.state, State::Error);
        assert!(!failed.condition.reason.is_empty() && failed.condition.retryable);
        std::fs::rename(&away, &f.origin).unwrap();
        git(&f.origin, &["branch", "extra"]);
        let refresh = foundry_proto::repo::v1::RequestRepositoryRefreshRequest {
            request_id: String::new(),
            repository_id: id.clone(),
        };
        crate::ops::request_repository_refresh::request_repository_refresh(&f.cx, &f.member, refresh)
            .await
            .unwrap();
        f.engine.run_until_idle().await.unwrap();
        let mended = f.cx.repository(&f.member, &id, Role::Viewer).await.unwrap();
        assert_eq!((mended.state, mended.branch_count), (State::Ready, 2));
    }
}
