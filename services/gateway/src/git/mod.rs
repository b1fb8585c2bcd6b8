//! `git fetch` over HTTP: `/git/<organization>/<repository>`, git's smart protocol, for reading only.
//!
//! Every request becomes calls of the mesh with the caller's own token, through the same admission and limits as those of
//! any other client: first who the caller is and whether the organization is theirs, then the fetch itself. Cookies do not
//! count here.

mod request;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::any;
use foundry_git_http::{Endpoint, LargeBodies, Source, absent};
use foundry_proto::auth::v1::GetUserRequest;
use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_proto::repo::v1::repo_service_client::RepoServiceClient;
use foundry_proto::repo::v1::{ServeFetchRequest, ServeFetchResponse};
use foundry_server::Routed;
use tonic::{Status, Streaming};

use request::Asker;

/// What the routes share.
#[derive(Clone)]
struct Door {
    /// The gateway's own rpcs and those of the services, as a client reaches them.
    mesh: Routed,
    large_bodies: Arc<LargeBodies>,
}

/// The repository in an address.
#[derive(serde::Deserialize)]
struct Named {
    organization: String,
    repository: String,
}

/// The routes below `/git/`.
pub(crate) fn routes(mesh: Routed) -> Router {
    let door = Door { mesh, large_bodies: Arc::default() };
    let endpoints = [Endpoint::InfoRefs, Endpoint::UploadPack, Endpoint::ReceivePack];
    endpoints
        .into_iter()
        .fold(Router::new(), |router, endpoint| {
            let handler = move |State(door): State<Door>, Path(named): Path<Named>, request: Request| async move {
                door.answer(endpoint, named, request).await
            };
            router.route(&format!("/git/{{organization}}/{{repository}}/{}", endpoint.path()), any(handler))
        })
        .with_state(door)
}

impl Door {
    async fn answer(self, endpoint: Endpoint, named: Named, request: Request) -> Response {
        let source = Asked { mesh: self.mesh, asker: Asker::of(&request), named };
        foundry_git_http::answer(endpoint, request, &self.large_bodies, &source)
            .await
            .map(axum::body::Body::new)
    }
}

/// A request by a user's token.
struct Asked {
    mesh: Routed,
    asker: Result<Asker, Status>,
    named: Named,
}

#[async_trait]
impl Source for Asked {
    /// Finds out who asks, and for which repository.
    async fn find(&self) -> Result<ServeFetchRequest, Status> {
        let asker = self.asker.as_ref().map_err(Status::clone)?;
        let mut auth = AuthServiceClient::new(self.mesh.clone());
        let user = auth.get_user(asker.asking(GetUserRequest {})).await?.into_inner();
        let name = &self.named.organization;
        let theirs = |m: &&foundry_proto::auth::v1::Membership| {
            m.organization_id == *name || m.organization_name == *name
        };
        let membership = user.memberships.iter().find(theirs).ok_or_else(absent)?;
        let repository = &self.named.repository;
        Ok(ServeFetchRequest {
            organization_id: membership.organization_id.clone(),
            repository: repository.strip_suffix(".git").unwrap_or(repository).to_owned(),
            ..ServeFetchRequest::default()
        })
    }

    async fn serve(&self, request: ServeFetchRequest) -> Result<Streaming<ServeFetchResponse>, Status> {
        let asker = self.asker.as_ref().map_err(Status::clone)?;
        let mut repo = RepoServiceClient::new(self.mesh.clone());
        Ok(repo.serve_fetch(asker.asking(request)).await?.into_inner())
    }
}
